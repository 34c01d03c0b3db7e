//! Who is at the door: connections that have not shown a credential, and addresses that have shown too many wrong ones.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use uncork::{ConnId, PeerAddr};

use super::{Shared, config::ProxyConfig};
use crate::relay::addresses::{Addresses, Allowance};

/// Who is at the door, and who has knocked too often.
pub(super) struct Doors {
    failures: Addresses,
    /// Connections that have not shown a credential, among those that were [accepted](Self::accept). Below 0 only until
    /// it is told of the end of one that was known.
    strangers: isize,
    /// Connections by ALPN that have not.
    hellos: usize,
    most: usize,
    known: HashSet<ConnId>,
}

impl Doors {
    pub(super) fn new(config: &ProxyConfig) -> Self {
        let per_minute = config.failures_per_minute;
        let allowance = Allowance { places: config.handshakes, per_address: usize::MAX, per_minute, burst: per_minute };
        Self {
            failures: Addresses::new(allowance),
            strangers: 0,
            hellos: 0,
            most: config.handshakes,
            known: HashSet::new(),
        }
    }

    /// One more stranger.
    pub(super) fn accept(&mut self, _: &PeerAddr) -> bool {
        let room = self.strangers < isize::try_from(self.most).unwrap_or(isize::MAX);
        self.strangers += isize::from(room);
        room
    }

    /// A stranger no more.
    pub(super) fn know(&mut self, conn: ConnId) {
        // Where nobody is accepted here, nobody's end will be told either.
        if self.strangers > 0 && self.known.insert(conn) {
            self.strangers -= 1;
        }
    }

    pub(super) fn closed(&mut self, conn: ConnId) {
        self.strangers -= isize::from(!self.known.remove(&conn));
    }

    /// When this address may try again, if it has failed too often.
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
}

/// A connection by ALPN, whose number nobody tells: a stranger until it is known, and as long as it is here.
pub(super) struct Stranger {
    shared: Arc<Shared>,
    known: Known,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    No,
    /// And it was counted as a stranger before.
    Counted,
    Yes,
}

impl Stranger {
    /// One more, if there may be one more.
    pub(super) fn new(shared: &Arc<Shared>) -> Option<Self> {
        let mut doors = shared.doors();
        if doors.hellos >= doors.most {
            return None;
        }
        doors.hellos += 1;
        drop(doors);
        Some(Self { shared: shared.clone(), known: Known::No })
    }

    /// It is none any more.
    pub(super) fn is_known(&mut self) {
        let mut doors = self.shared.doors();
        doors.hellos = doors.hellos.saturating_sub(1);
        let counted = doors.strangers > 0;
        doors.strangers -= isize::from(counted);
        self.known = if counted { Known::Counted } else { Known::Yes };
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut doors = self.shared.doors();
        match self.known {
            Known::No => doors.hellos = doors.hellos.saturating_sub(1),
            // Its end is told as a stranger's.
            Known::Counted => doors.strangers += 1,
            Known::Yes => {}
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a starting point for a virtual clock")]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_fails_often_is_not_asked_again() {
        let config = ProxyConfig { failures_per_minute: 3, ..ProxyConfig::default() };
        let (mut doors, now) = (Doors::new(&config), Instant::now());
        let [one, other] = [1, 2].map(|last| PeerAddr::tcp(([192, 0, 2, last], 5).into()));
        for _ in 0..3 {
            assert_eq!(doors.too_fast(&one, now), None);
            doors.failed(&one, now);
        }
        let wait = doors.too_fast(&one, now).expect("too fast");
        assert!(wait <= Duration::from_secs(20), "{wait:?}");
        assert_eq!(doors.too_fast(&other, now), None);
        assert_eq!(doors.too_fast(&one, now + wait), None);
    }

    #[test]
    fn strangers_are_counted_until_they_are_known_or_gone() {
        let mut doors = Doors::new(&ProxyConfig { handshakes: 1, ..ProxyConfig::default() });
        let (peer, [one, other]) = (PeerAddr::Unix, [1, 2].map(|n| ConnId::new(0, n, 1)));
        assert!(doors.accept(&peer) && !doors.accept(&peer));
        doors.know(one);
        assert!(doors.accept(&peer) && !doors.accept(&peer), "the first is none any more");
        doors.closed(one);
        assert!(!doors.accept(&peer), "nor is it one that has gone");
        doors.closed(other);
        assert!(doors.accept(&peer) && doors.known.is_empty());
    }

    /// A program that mounts the two sides itself need not say who comes in, nor who has gone.
    #[test]
    fn who_was_never_counted_is_not_kept() {
        let mut doors = Doors::new(&ProxyConfig::default());
        (0..1000).for_each(|n| doors.know(ConnId::new(0, n, 1)));
        assert!(doors.known.is_empty());
    }
}
