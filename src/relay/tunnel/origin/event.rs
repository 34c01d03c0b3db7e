//! The events of a tunnel's connections, for logs and for [`Tunnel::on_event`](super::Tunnel::on_event).

use std::{fmt, time::Duration};

use uncork::PeerAddr;

use super::error::TunnelError;

/// The application's callback for events.
pub(super) type Observer = dyn Fn(&TunnelEvent<'_>) + Send + Sync;

/// An event of one of a tunnel's connections. Its `Display` is a log line.
#[derive(Debug)]
#[non_exhaustive]
pub enum TunnelEvent<'a> {
    /// The proxy has accepted a connection, which now receives requests.
    Up {
        /// The connection's index, from 0.
        connection: usize,
        /// The proxy's address.
        peer: PeerAddr,
    },
    /// A connection could not be opened, or has ended.
    Down {
        /// The connection's index, from 0.
        connection: usize,
        /// The reason.
        error: &'a TunnelError,
        /// The delay before the next attempt.
        retry_in: Duration,
    },
    /// A connection has ended because the server stops.
    Stopped {
        /// The connection's index, from 0.
        connection: usize,
    },
}

impl fmt::Display for TunnelEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up { connection, peer } => write!(f, "tunnel {connection}: connected to {peer}"),
            Self::Down { connection, error, retry_in } => {
                write!(f, "tunnel {connection}: {error}; next attempt in {:.1} s", retry_in.as_secs_f64())
            }
            Self::Stopped { connection } => write!(f, "tunnel {connection}: closed, because the server stops"),
        }
    }
}
