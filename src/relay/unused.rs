//! Sessions and streams that no peer has connected to. When the table is full, one of them is evicted: the oldest of
//! the address that has the most. This happens only for an address that has fewer entries.
//!
//! So an address that fills a table without using it loses its entries to others. Finding the entry takes O(log n).

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    time::{Duration, Instant},
};

use uncork::{Limits, PeerAddr};

use super::repeated::Repeated;

/// Interval of the log lines about evicted entries.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Unused entries, by the address that they count for. `None` is for peers on Unix sockets.
pub(super) struct Unused<K> {
    networks: HashMap<Option<IpAddr>, BTreeSet<(Instant, K)>>,
    /// The count of each address, to find the one with the most entries; of several, the one with the oldest entry.
    ranks: BTreeSet<Rank>,
    evicted: u64,
    log: Repeated,
}

type Rank = (usize, Option<Reverse<Instant>>, Option<IpAddr>);

fn rank<K: Ord>(network: Option<IpAddr>, entries: &BTreeSet<(Instant, K)>) -> Rank {
    (entries.len(), entries.first().map(|(created, _)| Reverse(*created)), network)
}

/// A request for one more entry, and the state of the table.
pub(super) struct SlotRequest {
    pub(super) limit: usize,
    pub(super) taken: usize,
    /// Maximum number of entries of one address.
    pub(super) per_address: usize,
    /// The address that needs an entry; `None` for a Unix socket, which has no share.
    pub(super) owner: Option<IpAddr>,
    /// Number of entries that this address has.
    pub(super) owned: usize,
}

/// The reason why there is no free slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoFreeSlot {
    /// The table is full, and no entry can be evicted.
    Full,
    /// The table is so full that one address may have only this many entries.
    Share(usize),
}

impl<K: Copy + Ord> Unused<K> {
    pub(super) fn new() -> Self {
        Self { networks: HashMap::new(), ranks: BTreeSet::new(), evicted: 0, log: Repeated::new(LOG_INTERVAL) }
    }

    /// Adds an entry that counts for this address and was created at this time.
    pub(super) fn add(&mut self, owner: Option<IpAddr>, created: Instant, key: K) {
        let network = owner.map(PeerAddr::network_of);
        let entries = self.networks.entry(network).or_default();
        self.ranks.remove(&rank(network, entries));
        entries.insert((created, key));
        self.ranks.insert(rank(network, entries));
    }

    /// Removes an entry, because a peer has connected to it, or because it was evicted.
    pub(super) fn remove(&mut self, owner: Option<IpAddr>, created: Instant, key: K) {
        let network = owner.map(PeerAddr::network_of);
        let Some(entries) = self.networks.get_mut(&network) else { return };
        self.ranks.remove(&rank(network, entries));
        entries.remove(&(created, key));
        match entries.is_empty() {
            true => drop(self.networks.remove(&network)),
            false => _ = self.ranks.insert(rank(network, entries)),
        }
    }

    /// Returns the entry to evict for a new one, if one must be evicted. The caller checks the maximum number of
    /// entries of one address.
    pub(super) fn free_slot(&self, request: &SlotRequest) -> Result<Option<K>, NoFreeSlot> {
        let SlotRequest { limit, taken, per_address, owner, owned } = *request;
        if taken < limit {
            let share = Limits::address_share(limit, per_address, taken);
            let is_beyond = owner.is_some() && share < per_address && owned >= share;
            return if is_beyond { Err(NoFreeSlot::Share(share)) } else { Ok(None) };
        }
        let owned = match owner {
            Some(_) => owned,
            None => self.networks.get(&None).map_or(0, BTreeSet::len),
        };
        let largest = self.ranks.last().filter(|(count, ..)| *count > owned);
        match largest.and_then(|(.., network)| self.networks.get(network)?.first()) {
            Some((_, oldest)) => Ok(Some(*oldest)),
            None => Err(NoFreeSlot::Full),
        }
    }

    /// Counts an evicted entry, and logs it, but not each time. `what`: a noun for the entries.
    pub(super) fn evicted_one(&mut self, what: &str, now: Instant) {
        self.evicted += 1;
        if let Some(count) = self.log.happened(now) {
            log::warn!(target: "uncork::relay",
                "evicted {count} unused {what}: the table is full");
        }
    }

    /// Returns how many entries were evicted so far.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a starting point for a virtual clock")]
mod tests {
    use super::*;

    const LIMIT: usize = 100;

    fn ip(n: u8) -> Option<IpAddr> {
        Some([192, 0, 2, n].into())
    }

    fn full(owner: Option<IpAddr>, owned: usize) -> SlotRequest {
        SlotRequest { limit: LIMIT, taken: LIMIT, per_address: 10, owner, owned }
    }

    #[test]
    fn the_oldest_of_the_largest_is_removed_for_an_address_that_has_less() {
        let (mut unused, t0) = (Unused::new(), Instant::now());
        assert_eq!(unused.free_slot(&full(ip(9), 0)), Err(NoFreeSlot::Full));
        let at = |n: u64| t0 + Duration::from_secs(n);
        for (owner, created, key) in [(1, 5, 'a'), (2, 3, 'c'), (2, 2, 'b'), (2, 9, 'd'), (3, 1, 'e')] {
            unused.add(ip(owner), at(created), key);
        }
        assert_eq!(unused.free_slot(&full(ip(9), 0)), Ok(Some('b')));
        assert_eq!(unused.free_slot(&full(ip(9), 2)), Ok(Some('b')));
        assert_eq!(unused.free_slot(&full(ip(9), 3)), Err(NoFreeSlot::Full), "it has as many");
        assert_eq!(unused.free_slot(&full(ip(2), 3)), Err(NoFreeSlot::Full), "it is the largest itself");
        unused.remove(ip(2), at(2), 'b');
        unused.remove(ip(2), at(2), 'b');
        assert_eq!(unused.free_slot(&full(ip(9), 1)), Ok(Some('c')));
        for (created, key) in [(3, 'c'), (9, 'd')] {
            unused.remove(ip(2), at(created), key);
        }
        // Now two have one each.
        assert_eq!(unused.free_slot(&full(ip(9), 1)), Err(NoFreeSlot::Full));
        assert_eq!(unused.free_slot(&full(ip(9), 0)), Ok(Some('e')));
        unused.remove(ip(1), at(5), 'a');
        unused.remove(ip(3), at(1), 'e');
        assert!(unused.networks.is_empty() && unused.ranks.is_empty());
    }

    #[test]
    fn while_there_is_room_only_the_share_counts() {
        let (mut unused, now) = (Unused::new(), Instant::now());
        let request = |taken, owned| SlotRequest { taken, ..full(ip(1), owned) };
        assert_eq!(unused.free_slot(&request(50, 9)), Ok(None));
        assert_eq!(unused.free_slot(&request(75, 2)), Ok(None));
        assert_eq!(unused.free_slot(&request(75, 3)), Err(NoFreeSlot::Share(3)));
        assert_eq!(unused.free_slot(&request(99, 1)), Err(NoFreeSlot::Share(1)));
        assert_eq!(unused.free_slot(&SlotRequest { owner: None, ..request(99, 0) }), Ok(None), "it has no share");
        (0..6).for_each(|key| unused.add(ip(2), now, key));
        assert_eq!(unused.free_slot(&request(75, 5)), Err(NoFreeSlot::Share(3)), "and nothing is evicted");
    }

    #[test]
    fn a_v6_network_is_one_address_and_all_of_a_unix_socket_are() {
        let (mut unused, now) = (Unused::new(), Instant::now());
        let v6 = |text: &str| Some(text.parse().unwrap());
        unused.add(v6("2001:db8::1"), now, 1);
        unused.add(v6("2001:db8::2"), now, 2);
        unused.add(ip(1), now, 3);
        unused.add(None, now, 4);
        assert_eq!(unused.free_slot(&full(ip(9), 1)), Ok(Some(1)));
        assert_eq!(unused.free_slot(&full(None, 0)), Ok(Some(1)));
        unused.remove(v6("2001:db8::3"), now, 1);
        assert_eq!(unused.free_slot(&full(None, 0)), Err(NoFreeSlot::Full), "it has one, and so have the others");
    }
}
