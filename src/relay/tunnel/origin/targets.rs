//! Which node each connection of a tunnel goes to, without I/O.
//!
//! ```text
//!   nothing known ──▶ all connections to the configured address
//!   handshake: Uncork-Nodes ──▶ candidates ──▶ the least used one, without those that have just failed
//!                                   └─ two connections to one node, and another is free: one of them moves
//! ```
//! What a proxy has named is used until the same connection's next handshake. So an address that no proxy names any
//! more is forgotten, and the configured one never is.

use std::time::{Duration, Instant};

use crate::relay::tunnel::address::{Address, NamedNodes};

/// Maximum number of addresses that are used.
const CANDIDATES: usize = 32;

pub(super) struct Targets {
    configured: Address,
    /// What the node behind the configured address calls itself.
    configured_is: Option<Address>,
    /// How long an address is avoided after a failure.
    avoid: Duration,
    connections: Vec<Slot>,
    /// Addresses that have failed, and until when they are avoided.
    failed: Vec<(Address, Instant)>,
}

/// One connection of the tunnel.
#[derive(Clone, Default)]
struct Slot {
    /// The node that it is connected to.
    node: Option<Address>,
    /// The address that is being dialled.
    attempt: Option<Address>,
    /// The nodes that its latest handshake has named, with its own.
    named: Vec<Address>,
}

impl Targets {
    pub(super) fn new(configured: Address, connections: usize, avoid: Duration) -> Self {
        let connections = vec![Slot::default(); connections];
        Self { configured, configured_is: None, avoid, connections, failed: Vec::new() }
    }

    /// Returns the address for the next attempt of a connection. `random` decides between equals.
    pub(super) fn next(&mut self, number: usize, now: Instant, random: u32) -> Address {
        let candidates = self.candidates();
        let free: Vec<&Address> = candidates.iter().filter(|one| !self.is_avoided(one, now)).collect();
        let usable = if free.is_empty() { candidates.iter().collect() } else { free };
        let from = random as usize % usable.len().max(1);
        let in_turn = usable[from..].iter().chain(&usable[..from]);
        let best = in_turn.min_by_key(|one| (self.uses(one, number), **one != &self.configured));
        let best = best.map_or_else(|| self.configured.clone(), |best| (*best).clone());
        self.attempts(number, best.clone());
        best
    }

    /// Returns an address that no connection uses, if this one shares its node with another one. It counts as an
    /// attempt.
    pub(super) fn better(&mut self, number: usize, now: Instant, random: u32) -> Option<Address> {
        let node = self.connections.get(number)?.node.clone()?;
        // One that is being dialled decides itself when it is established, and one that is moving leaves the node.
        let stays =
            |slot: &Slot| slot.attempt.is_none() && slot.node.as_ref().is_some_and(|one| self.is_same(one, &node));
        let mut others = self.connections.iter().enumerate().filter(|(other, _)| *other != number);
        if !others.any(|(_, slot)| stays(slot)) {
            return None;
        }
        let candidates = self.candidates();
        let is_free =
            |one: &&Address| self.uses(one, number) == 0 && !self.is_avoided(one, now) && !self.is_same(one, &node);
        let free: Vec<&Address> = candidates.iter().filter(is_free).collect();
        let better = (*free.get(random as usize % free.len().max(1))?).clone();
        self.attempts(number, better.clone());
        Some(better)
    }

    /// A connection is established.
    pub(super) fn established(&mut self, number: usize, target: &Address, named: NamedNodes) {
        self.failed.retain(|(address, _)| address != target);
        if *target == self.configured {
            self.configured_is.clone_from(&named.own);
        }
        if let Some(slot) = self.connections.get_mut(number) {
            slot.attempt = None;
            slot.node = Some(named.own.clone().unwrap_or_else(|| target.clone()));
            slot.named = named.own.into_iter().chain(named.others).collect();
        }
    }

    /// The connection that was established has ended.
    pub(super) fn ended(&mut self, number: usize) {
        if let Some(slot) = self.connections.get_mut(number) {
            slot.node = None;
        }
    }

    /// An attempt has failed, or a connection to this address was lost or closed: others are tried first for a while.
    pub(super) fn failed(&mut self, number: usize, target: &Address, now: Instant) {
        self.failed.retain(|(address, until)| address != target && *until > now);
        self.failed.truncate(CANDIDATES);
        self.failed.push((target.clone(), now + self.avoid));
        if let Some(slot) = self.connections.get_mut(number)
            && slot.attempt.as_ref() == Some(target)
        {
            slot.attempt = None;
        }
    }

    /// Returns `true` if there is more than one address.
    pub(super) fn is_spread(&self) -> bool {
        self.candidates().len() > 1
    }

    fn attempts(&mut self, number: usize, target: Address) {
        if let Some(slot) = self.connections.get_mut(number) {
            slot.attempt = Some(target);
        }
    }

    /// Returns all addresses once: the configured one, and those that were named.
    fn candidates(&self) -> Vec<Address> {
        let mut all: Vec<Address> = Vec::new();
        for named in self.connections.iter().flat_map(|slot| &slot.named) {
            if !all.contains(named) && all.len() < CANDIDATES {
                all.push(named.clone());
            }
        }
        // It may be the same node under another name.
        if !all.contains(&self.configured) && !self.configured_is.as_ref().is_some_and(|node| all.contains(node)) {
            all.insert(0, self.configured.clone());
        }
        all
    }

    /// Returns how many other connections use this address.
    fn uses(&self, address: &Address, number: usize) -> usize {
        let uses = |slot: &Slot| slot.node.iter().chain(&slot.attempt).any(|node| self.is_same(node, address));
        self.connections.iter().enumerate().filter(|(other, slot)| *other != number && uses(slot)).count()
    }

    /// Returns `true` if both addresses are known to be of one node.
    fn is_same(&self, one: &Address, other: &Address) -> bool {
        let node = |address: &Address| match &self.configured_is {
            Some(node) if *address == self.configured => node.clone(),
            _ => address.clone(),
        };
        one == other || node(one) == node(other)
    }

    fn is_avoided(&self, address: &Address, now: Instant) -> bool {
        self.failed.iter().any(|(failed, until)| now < *until && self.is_same(failed, address))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a starting point for a virtual clock")]
mod tests {
    use super::*;

    const AVOID: Duration = Duration::from_secs(15);

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    fn named(own: Option<&str>, others: &[&str]) -> NamedNodes {
        NamedNodes { own: own.map(address), others: others.iter().map(|one| address(one)).collect() }
    }

    fn targets() -> (Targets, Instant) {
        (Targets::new(address("a"), 2, AVOID), Instant::now())
    }

    #[test]
    fn a_proxy_that_names_none_changes_nothing() {
        let (mut targets, now) = targets();
        for round in 0..5 {
            for number in 0..2 {
                assert_eq!(targets.next(number, now, round), address("a"));
                targets.failed(number, &address("a"), now);
                assert_eq!(targets.next(number, now, round), address("a"), "there is no other");
                targets.established(number, &address("a"), named(None, &[]));
                assert_eq!(targets.better(number, now, round), None);
                targets.ended(number);
            }
        }
        assert!(!targets.is_spread());
    }

    #[test]
    fn two_connections_to_one_node_are_spread() {
        // With and without the node's own address.
        for own in [None, Some("a"), Some("node1")] {
            let (mut targets, now) = targets();
            assert_eq!((targets.next(0, now, 0), targets.next(1, now, 0)), (address("a"), address("a")));
            targets.established(0, &address("a"), named(own, &["b", "c"]));
            assert_eq!(targets.better(0, now, 0), None, "the other one is still being dialled");
            targets.established(1, &address("a"), named(own, &["b", "c"]));
            let moved = targets.better(1, now, 0).expect("another node");
            assert!(moved == address("b") || moved == address("c"), "{moved}");
            assert_eq!(targets.better(0, now, 0), None, "the other one is leaving");
            targets.established(1, &moved, named(None, &["a"]));
            assert_eq!((targets.better(0, now, 0), targets.better(1, now, 0)), (None, None));
        }
    }

    #[test]
    fn a_node_that_fails_is_avoided_for_a_while() {
        let (mut targets, now) = targets();
        targets.established(0, &address("a"), named(Some("a"), &["b"]));
        targets.established(1, &address("b"), named(Some("b"), &["a"]));
        targets.ended(1);
        targets.failed(1, &address("b"), now);
        assert_eq!(targets.next(1, now, 7), address("a"), "the only one that is left");
        targets.established(1, &address("a"), named(Some("a"), &["b"]));
        assert_eq!(targets.better(1, now + AVOID / 2, 0), None, "not yet");
        assert_eq!(targets.better(1, now + AVOID, 0), Some(address("b")));
        // It fails again, and later it is back.
        targets.failed(1, &address("b"), now + AVOID);
        assert_eq!(targets.better(1, now + AVOID * 3 / 2, 0), None);
        assert_eq!(targets.better(1, now + AVOID * 2, 0), Some(address("b")));
        targets.established(1, &address("b"), named(Some("b"), &["a"]));
        assert_eq!(targets.better(1, now + AVOID * 2, 0), None);
    }

    #[test]
    fn if_all_have_failed_they_are_tried_again() {
        let (mut targets, now) = targets();
        targets.established(0, &address("a"), named(Some("a"), &["b"]));
        targets.established(1, &address("b"), named(Some("b"), &["a"]));
        for number in [0, 1] {
            targets.ended(number);
            targets.failed(number, &address(["a", "b"][number]), now);
        }
        assert_eq!(targets.next(0, now, 1), address("a"), "the configured one first");
        assert_eq!(targets.next(1, now, 0), address("b"));
        targets.established(0, &address("a"), named(Some("a"), &["b"]));
        targets.failed(1, &address("b"), now);
        assert_eq!(targets.next(1, now, 0), address("a"));
    }

    #[test]
    fn what_is_named_no_more_is_forgotten() {
        let (mut targets, now) = targets();
        targets.established(0, &address("a"), named(Some("a"), &["b", "c"]));
        assert!(targets.is_spread());
        targets.ended(0);
        assert!(targets.is_spread(), "until the next handshake");
        targets.established(0, &address("a"), named(Some("a"), &[]));
        targets.established(1, &address("a"), named(Some("a"), &[]));
        assert!(!targets.is_spread());
        assert_eq!(targets.better(1, now, 0), None);
        let many: Vec<String> = (1..100).map(|port| format!("x:{port}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        targets.established(1, &address("a"), named(None, &many));
        assert_eq!(targets.candidates().len(), CANDIDATES, "with the configured one");
    }

    #[test]
    fn a_common_name_of_all_nodes_is_known_by_what_they_call_themselves() {
        let (mut targets, now) = targets();
        targets.established(0, &address("a"), named(Some("n1"), &["n2"]));
        // The name leads to the other node this time.
        targets.established(1, &address("a"), named(Some("n2"), &["n1"]));
        assert_eq!((targets.better(0, now, 0), targets.better(1, now, 0)), (None, None));
        assert_eq!(targets.candidates(), [address("n1"), address("n2")]);
    }
}
