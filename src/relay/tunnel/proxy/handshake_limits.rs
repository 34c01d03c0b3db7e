//! Limits of handshakes: permits for connections without a verified credential, shared among networks; and networks
//! that have failed too often.
//!
//! ```text
//!   ALPN rh2 ──▶ too many failures of its network? ──▶ closed
//!                 └─ a permit; at the limit, the oldest of the network with the most loses its own
//!                       └─ identified in time? ──no──▶ one more failure of its network
//! ```
//! So one address cannot take all permits, and neither can four: a newcomer always gets one, from the network that has
//! the most.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
    time::{Duration, Instant},
};

use uncork::PeerAddr;

use super::{Shared, config::ProxyConfig, counters::Count};
use crate::relay::{
    addresses::{Addresses, Allowance},
    repeated::Repeated,
};

/// Shortest time between two log lines about a repeated event.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// Handshakes under way, and networks that have failed.
pub(super) struct HandshakeLimits {
    failures: Addresses,
    /// Handshakes that have a permit, the oldest first.
    pending: Vec<Arc<Pending>>,
    most: usize,
    unanswered: Repeated,
    throttled: Repeated,
}

impl HandshakeLimits {
    pub(super) fn new(config: &ProxyConfig) -> Self {
        let per_minute = config.failures_per_minute;
        let allowance = Allowance { slots: config.handshakes, per_address: usize::MAX, per_minute, burst: per_minute };
        Self {
            failures: Addresses::new(allowance),
            pending: Vec::new(),
            most: config.handshakes,
            unanswered: Repeated::new(LOG_EVERY),
            throttled: Repeated::new(LOG_EVERY),
        }
    }

    /// Returns how long this address must wait, if it has failed too often.
    pub(super) fn too_fast(&self, peer: &PeerAddr, now: Instant) -> Option<Duration> {
        self.failures.too_fast(peer.ip()?, now)
    }

    pub(super) fn failed(&mut self, peer: &PeerAddr, now: Instant) {
        if let Some(ip) = peer.ip()
            && self.failures.admit(ip, now).is_ok()
        {
            self.failures.release(ip);
        }
    }

    /// Adds a handshake. Returns it, with the one that loses its permit for it; `None` if no handshakes are allowed.
    fn enter(&mut self, network: Option<IpAddr>, waker: Waker) -> Option<(Arc<Pending>, Option<Arc<Pending>>)> {
        if self.most == 0 {
            return None;
        }
        let full = self.pending.len() >= self.most;
        let displaced = if full { self.displaced_by(network).map(|at| self.pending.remove(at)) } else { None };
        let new = Arc::new(Pending { network, waker, displaced: AtomicBool::new(false) });
        self.pending.push(new.clone());
        Some((new, displaced))
    }

    /// Returns the index of the handshake that gives way to a newcomer of this network: the oldest of the network with
    /// the most, counting the newcomer. Among equals it is the newcomer's own network.
    fn displaced_by(&self, network: Option<IpAddr>) -> Option<usize> {
        let mut counts: HashMap<Option<IpAddr>, usize> = HashMap::from([(network, 1)]);
        for pending in &self.pending {
            *counts.entry(pending.network).or_default() += 1;
        }
        let most = counts.values().copied().max()?;
        let has_most = |network: &Option<IpAddr>| counts.get(network) == Some(&most);
        let own = self.pending.iter().position(|pending| pending.network == network);
        own.filter(|_| has_most(&network)).or_else(|| self.pending.iter().position(|one| has_most(&one.network)))
    }

    fn leave(&mut self, gone: &Arc<Pending>) {
        self.pending.retain(|pending| !Arc::ptr_eq(pending, gone));
    }
}

/// A handshake under way.
struct Pending {
    /// `None`: the connection does not use IP.
    network: Option<IpAddr>,
    waker: Waker,
    displaced: AtomicBool,
}

/// A permit for a handshake, held until this is dropped.
pub(super) struct HandshakePermit {
    shared: Arc<Shared>,
    pending: Arc<Pending>,
}

impl HandshakePermit {
    /// Takes a permit; `waker` is called if it is lost to a newer handshake. At the limit, another handshake loses its
    /// own. Returns `None` if no handshakes are allowed.
    pub(super) fn take(shared: &Arc<Shared>, peer: &PeerAddr, waker: Waker) -> Option<Self> {
        let (pending, displaced) = shared.handshakes().enter(peer.network(), waker)?;
        if let Some(displaced) = displaced {
            displaced.displaced.store(true, Ordering::Relaxed);
            displaced.waker.wake_by_ref();
            shared.counters.add(Count::Displaced);
        }
        Some(Self { shared: shared.clone(), pending })
    }

    /// Returns `true` if it was lost to a newer handshake.
    pub(super) fn is_lost(&self) -> bool {
        self.pending.displaced.load(Ordering::Relaxed)
    }
}

impl Drop for HandshakePermit {
    fn drop(&mut self) {
        self.shared.handshakes().leave(&self.pending);
    }
}

/// Counts and logs a connection that did not identify itself, as a failure of its network.
pub(super) fn unanswered(shared: &Shared, peer: &PeerAddr, now: Instant) {
    shared.counters.add(Count::Unanswered);
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
    shared.counters.add(Count::Throttled);
    let count = shared.handshakes().throttled.happened(now);
    if let Some(count) = count {
        log::warn!(target: "uncork::relay", "tunnel: {count} handshakes refused unread, after too many failures of their \
            network; the last from {peer}");
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a starting point for a virtual clock")]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_fails_often_is_not_asked_again() {
        let config = ProxyConfig { failures_per_minute: 3, ..ProxyConfig::default() };
        let (mut handshakes, now) = (HandshakeLimits::new(&config), Instant::now());
        let [one, other] = [1, 2].map(|last| PeerAddr::tcp(([192, 0, 2, last], 5).into()));
        for _ in 0..3 {
            assert_eq!(handshakes.too_fast(&one, now), None);
            handshakes.failed(&one, now);
        }
        let wait = handshakes.too_fast(&one, now).expect("too fast");
        assert!(wait <= Duration::from_secs(20), "{wait:?}");
        assert_eq!(handshakes.too_fast(&other, now), None);
        assert_eq!(handshakes.too_fast(&one, now + wait), None);
    }

    /// Returns the handshakes that have a permit, after these networks have asked for one in this order.
    fn pending(most: usize, networks: &[u8]) -> Vec<(u8, usize)> {
        let mut handshakes = HandshakeLimits::new(&ProxyConfig { handshakes: most, ..ProxyConfig::default() });
        let mut all = Vec::new();
        for last in networks {
            let entered = handshakes.enter(Some(IpAddr::from([192, 0, 2, *last])), Waker::noop().clone());
            all.push((*last, entered.expect("a permit").0));
        }
        assert!(handshakes.pending.len() <= most);
        let number =
            |one: &Arc<Pending>| all.iter().position(|(_, other)| Arc::ptr_eq(one, other)).expect("one of them");
        handshakes.pending.iter().map(number).map(|at| (all[at].0, at)).collect()
    }

    #[test]
    fn the_oldest_of_the_network_with_the_most_makes_room() {
        assert_eq!(pending(3, &[1, 1, 2]), [(1, 0), (1, 1), (2, 2)], "there is room");
        assert_eq!(pending(3, &[1, 1, 1, 2]), [(1, 1), (1, 2), (2, 3)], "a newcomer gets in");
        assert_eq!(pending(3, &[2, 1, 1, 1]), [(2, 0), (1, 2), (1, 3)], "and is not driven out");
        assert_eq!(pending(4, &[1, 2, 1, 2, 2]), [(1, 0), (1, 2), (2, 3), (2, 4)], "by its own, among equals");
        assert_eq!(pending(3, &[1, 2, 3, 4]), [(2, 1), (3, 2), (4, 3)], "the oldest of all, where all have one");
    }

    #[test]
    fn without_places_there_is_none() {
        let mut handshakes = HandshakeLimits::new(&ProxyConfig { handshakes: 0, ..ProxyConfig::default() });
        assert!(handshakes.enter(None, Waker::noop().clone()).is_none());
    }
}
