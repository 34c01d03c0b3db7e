//! Limits of handshakes: permits for connections without a verified credential, shared among networks; and networks
//! that have failed too often. (The permits are in `handshake_permit`.)
//!
//! ```text
//!   ALPN     ──▶ too many failures of its network? ──▶ closed
//!                 └─ a permit; at the limit, the oldest of the network with the most loses its own
//!                       └─ identified in time? ──no──▶ one more failure of its network
//! ```
//! So one address cannot take all permits, and neither can four: a new handshake always gets one, from the network that
//! has the most.

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

use super::config::ProxyConfig;
use crate::relay::{
    addresses::{Addresses, Allowance},
    repeated::Repeated,
};

/// Shortest time between two log lines about a repeated event.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// Handshakes in progress, and networks that have failed.
pub(super) struct HandshakeLimits {
    failures: Addresses,
    /// Handshakes that have a permit, the oldest first.
    pending: Vec<Arc<Pending>>,
    /// Largest number of `pending`.
    max: usize,
    pub(super) unanswered: Repeated,
    pub(super) throttled: Repeated,
    pub(super) rejected: Repeated,
}

impl HandshakeLimits {
    pub(super) fn new(config: &ProxyConfig) -> Self {
        let per_minute = config.failures_per_minute;
        let allowance = Allowance { slots: config.handshakes, per_address: usize::MAX, per_minute, burst: per_minute };
        Self {
            failures: Addresses::new(allowance),
            pending: Vec::new(),
            max: config.handshakes,
            unanswered: Repeated::new(LOG_EVERY),
            throttled: Repeated::new(LOG_EVERY),
            rejected: Repeated::new(LOG_EVERY),
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
    pub(super) fn enter(
        &mut self,
        network: Option<IpAddr>,
        waker: Waker,
    ) -> Option<(Arc<Pending>, Option<Arc<Pending>>)> {
        if self.max == 0 {
            return None;
        }
        let full = self.pending.len() >= self.max;
        let displaced = if full { self.displaced_by(network).map(|at| self.pending.remove(at)) } else { None };
        let new = Arc::new(Pending { network, waker, displaced: AtomicBool::new(false) });
        self.pending.push(new.clone());
        Some((new, displaced))
    }

    /// Returns the index of the handshake that gives way to a new one of this network: the oldest of the network with
    /// the most, counting the new one. Among equals it is the new one's own network.
    fn displaced_by(&self, network: Option<IpAddr>) -> Option<usize> {
        let mut counts: HashMap<Option<IpAddr>, usize> = HashMap::from([(network, 1)]);
        for pending in &self.pending {
            *counts.entry(pending.network).or_default() += 1;
        }
        let largest = counts.values().copied().max()?;
        let is_largest = |network: &Option<IpAddr>| counts.get(network) == Some(&largest);
        let own = self.pending.iter().position(|pending| pending.network == network);
        own.filter(|_| is_largest(&network)).or_else(|| self.pending.iter().position(|one| is_largest(&one.network)))
    }

    pub(super) fn leave(&mut self, ended: &Arc<Pending>) {
        self.pending.retain(|pending| !Arc::ptr_eq(pending, ended));
    }
}

/// A handshake in progress.
pub(super) struct Pending {
    /// `None`: the connection does not use IP.
    network: Option<IpAddr>,
    waker: Waker,
    displaced: AtomicBool,
}

impl Pending {
    /// Takes the permit away, and wakes the connection.
    pub(super) fn displace(&self) {
        self.displaced.store(true, Ordering::Relaxed);
        self.waker.wake_by_ref();
    }

    pub(super) fn is_displaced(&self) -> bool {
        self.displaced.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a starting point for a virtual clock")]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_fails_often_must_wait() {
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
    fn pending(max: usize, networks: &[u8]) -> Vec<(u8, usize)> {
        let mut handshakes = HandshakeLimits::new(&ProxyConfig { handshakes: max, ..ProxyConfig::default() });
        let mut all = Vec::new();
        for last in networks {
            let entered = handshakes.enter(Some(IpAddr::from([192, 0, 2, *last])), Waker::noop().clone());
            all.push((*last, entered.expect("a permit").0));
        }
        assert!(handshakes.pending.len() <= max);
        let number =
            |one: &Arc<Pending>| all.iter().position(|(_, other)| Arc::ptr_eq(one, other)).expect("one of them");
        handshakes.pending.iter().map(number).map(|at| (all[at].0, at)).collect()
    }

    #[test]
    fn the_oldest_of_the_network_with_the_most_is_displaced() {
        assert_eq!(pending(3, &[1, 1, 2]), [(1, 0), (1, 1), (2, 2)], "below the limit");
        assert_eq!(pending(3, &[1, 1, 1, 2]), [(1, 1), (1, 2), (2, 3)], "a new handshake is accepted");
        assert_eq!(pending(3, &[2, 1, 1, 1]), [(2, 0), (1, 2), (1, 3)], "and is not displaced");
        assert_eq!(pending(4, &[1, 2, 1, 2, 2]), [(1, 0), (1, 2), (2, 3), (2, 4)], "by its own, among equals");
        assert_eq!(pending(3, &[1, 2, 3, 4]), [(2, 1), (3, 2), (4, 3)], "the oldest of all, where all have one");
    }

    #[test]
    fn a_limit_of_zero_allows_no_handshake() {
        let mut handshakes = HandshakeLimits::new(&ProxyConfig { handshakes: 0, ..ProxyConfig::default() });
        assert!(handshakes.enter(None, Waker::noop().clone()).is_none());
    }
}
