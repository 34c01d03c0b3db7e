//! The permit that a handshake by ALPN holds, and how failed handshakes are counted and logged.

use std::{sync::Arc, task::Waker, time::Instant};

use uncork::PeerAddr;

use super::{counters::Count, handshake_limits::Pending, shared::Shared};

/// A permit for a handshake, held until this is dropped.
pub(super) struct HandshakePermit {
    shared: Arc<Shared>,
    pending: Arc<Pending>,
}

impl HandshakePermit {
    /// Takes a permit; `waker` is called if a newer handshake takes it. At the limit, another handshake loses its
    /// own. Returns `None` if no handshakes are allowed.
    pub(super) fn take(shared: &Arc<Shared>, peer: &PeerAddr, waker: Waker) -> Option<Self> {
        let (pending, displaced) = shared.handshakes().enter(peer.network(), waker)?;
        if let Some(displaced) = displaced {
            displaced.displace();
            shared.common.counters.add(Count::Displaced);
        }
        Some(Self { shared: shared.clone(), pending })
    }

    /// Returns `true` if a newer handshake has taken it.
    pub(super) fn is_displaced(&self) -> bool {
        self.pending.is_displaced()
    }
}

impl Drop for HandshakePermit {
    fn drop(&mut self) {
        self.shared.handshakes().leave(&self.pending);
    }
}

/// Counts and logs a connection that did not identify itself, as a failure of its network.
pub(super) fn unanswered(shared: &Shared, peer: &PeerAddr, now: Instant) {
    shared.common.counters.add(Count::Unanswered);
    let count = {
        let mut handshakes = shared.handshakes();
        handshakes.failed(peer, now);
        handshakes.unanswered.happened(now)
    };
    if let Some(count) = count {
        log::warn!(target: "uncork::relay", "tunnel: {count} connections by ALPN did not identify themselves; the last \
            from {peer}");
    }
}

/// Counts and logs a handshake that is rejected unread, because its network has failed too often.
pub(super) fn throttled(shared: &Shared, peer: &PeerAddr, now: Instant) {
    shared.common.counters.add(Count::Throttled);
    let count = shared.handshakes().throttled.happened(now);
    if let Some(count) = count {
        log::warn!(target: "uncork::relay", "tunnel: {count} handshakes rejected unread, after too many failures of their \
            network; the last from {peer}");
    }
}
