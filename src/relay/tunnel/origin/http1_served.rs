//! The server side of HTTP/1.1 on any connection, for the fuzz target: without a dial, and accepted from the beginning.
//!
//! ```text
//!   Io ◀══ Http1Served ══▶ Http1 ──▶ adopt_pipes, on this loop
//! ```

use std::time::{Duration, Instant};

use uncork::{EventMask, Io, LoopHandle, PeerAddr, Upgrade};

use super::{
    http1::Http1,
    protocol::{Protocol, Timeouts},
    stream::Served,
};

/// The protocol as an [`Upgrade`].
pub(in crate::relay::tunnel) struct Http1Served(Http1);

impl Http1Served {
    /// Serves the requests on this loop, as connections of this listener.
    pub(in crate::relay::tunnel) fn new(
        loop_handle: LoopHandle,
        listener: usize,
        peer: PeerAddr,
        now: Instant,
    ) -> Self {
        let served = Served { loop_handle, listener, peer };
        let timeouts = Timeouts {
            ping_interval: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
        };
        Self(Http1::new(served, timeouts, None, now))
    }
}

impl Upgrade for Http1Served {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        self.0.ready(io)
    }
}
