//! The events of a tunnel's connections, for logs and for [`Tunnel::on_event`](super::Tunnel::on_event).

use std::{fmt, time::Duration};

use uncork::PeerAddr;

use super::TunnelError;

/// The application's callback for events.
pub(super) type Observer = dyn Fn(&TunnelEvent<'_>) + Send + Sync;

/// What becomes of a tunnel's connections. Its `Display` is a line for a log.
#[derive(Debug)]
#[non_exhaustive]
pub enum TunnelEvent<'a> {
    /// The proxy has let a connection in: requests may come on it.
    Up {
        /// Its number, from 0.
        connection: usize,
        /// The proxy.
        peer: PeerAddr,
    },
    /// A connection was not made, or is no more.
    Down {
        /// Its number, from 0.
        connection: usize,
        /// Why.
        error: &'a TunnelError,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// A connection has ended because the server stops.
    Left {
        /// Its number, from 0.
        connection: usize,
    },
}

impl fmt::Display for TunnelEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up { connection, peer } => write!(f, "tunnel {connection}: connected to {peer}"),
            Self::Down { connection, error, retry_in } => {
                write!(f, "tunnel {connection}: {error}; again in {:.1} s", retry_in.as_secs_f64())
            }
            Self::Left { connection } => write!(f, "tunnel {connection}: left"),
        }
    }
}
