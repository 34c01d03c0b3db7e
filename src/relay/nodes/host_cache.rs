//! What this node knows about the hosts of other nodes, without I/O.
//!
//! ```text
//!   lookup ──▶ unknown: Ask ──▶ asking, others wait ── the first node that has it ──▶ they continue
//!                                     └─ all have answered ──▶ known for 1 s ──▶ forgotten
//! ```
//! Questions, waiting requests and hosts are limited: clients choose the hosts.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

/// How long an answer is used, also a negative one.
const KEPT: Duration = Duration::from_secs(1);

/// What other nodes have said about a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::relay) struct Found {
    /// The numbers of the nodes that have an origin server for it.
    pub(in crate::relay) nodes: Vec<usize>,
    /// A node knows the host, with or without an origin server.
    pub(in crate::relay) is_known: bool,
    /// A node has not responded. It may have the host.
    pub(in crate::relay) is_incomplete: bool,
}

/// What one node says about a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::relay) enum HostState {
    /// An origin server is connected for it.
    Connected,
    /// It is registered, or may be by its exact name, but no origin server is connected.
    Known,
    Unknown,
}

/// The next step of a lookup. `W` is what waits for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lookup<W> {
    Found(Found, W),
    /// The caller asks all nodes. What waits is kept here.
    Ask,
    /// They are being asked.
    Wait,
    /// Too many questions, or too many that wait.
    Full(W),
}

/// The limits of a cache.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) hosts: usize,
    /// Questions at the same time.
    pub(super) questions: usize,
    /// Lookups that wait for an answer.
    pub(super) waiting: usize,
}

pub(super) struct HostCache<W> {
    hosts: HashMap<Box<str>, Entry<W>>,
    /// The known hosts, in the order in which they expire.
    expiries: VecDeque<(Instant, Box<str>)>,
    sizes: Sizes,
    asking: usize,
    waiting: usize,
}

struct Entry<W> {
    found: Found,
    /// `None`: the nodes are being asked.
    until: Option<Instant>,
    waiting: Vec<W>,
    /// Which node is first the next time.
    turn: usize,
}

impl<W> Entry<W> {
    /// Returns the answer, whose nodes take turns.
    fn found(&mut self) -> Found {
        let mut found = self.found.clone();
        if !found.nodes.is_empty() {
            let first = self.turn % found.nodes.len();
            found.nodes.rotate_left(first);
            self.turn = self.turn.wrapping_add(1);
        }
        found
    }
}

impl<W> HostCache<W> {
    pub(super) fn new(sizes: Sizes) -> Self {
        Self { hosts: HashMap::new(), expiries: VecDeque::new(), sizes, asking: 0, waiting: 0 }
    }

    pub(super) fn lookup(&mut self, host: &str, now: Instant, waits: W) -> Lookup<W> {
        self.forget(now);
        if let Some(entry) = self.hosts.get_mut(host) {
            if entry.until.is_some() || !entry.found.nodes.is_empty() {
                return Lookup::Found(entry.found(), waits);
            }
            if self.waiting >= self.sizes.waiting {
                return Lookup::Full(waits);
            }
            self.waiting += 1;
            entry.waiting.push(waits);
            return Lookup::Wait;
        }
        if self.asking >= self.sizes.questions || self.waiting >= self.sizes.waiting {
            return Lookup::Full(waits);
        }
        self.asking += 1;
        self.waiting += 1;
        let entry = Entry { found: Found::default(), until: None, waiting: vec![waits], turn: 0 };
        self.hosts.insert(host.into(), entry);
        Lookup::Ask
    }

    /// Returns what is known about a host, without a question.
    pub(super) fn peek(&self, host: &str, now: Instant) -> Option<&Found> {
        let entry = self.hosts.get(host)?;
        entry.until.is_none_or(|until| now < until).then_some(&entry.found)
    }

    /// Notes the answer of one node; `None` if it did not respond. Returns those that can continue.
    pub(super) fn answered(&mut self, host: &str, at: usize, state: Option<HostState>) -> Vec<(W, Found)> {
        let Some(entry) = self.hosts.get_mut(host).filter(|entry| entry.until.is_none()) else { return Vec::new() };
        match state {
            Some(HostState::Connected) => entry.found.nodes.push(at),
            Some(HostState::Known) => entry.found.is_known = true,
            Some(HostState::Unknown) => {}
            None => entry.found.is_incomplete = true,
        }
        if entry.found.nodes.is_empty() { Vec::new() } else { self.continued(host) }
    }

    /// All nodes have answered, or their time is over. Returns those that still wait.
    pub(super) fn complete(&mut self, host: &str, now: Instant) -> Vec<(W, Found)> {
        let all = self.continued(host);
        if let Some(entry) = self.hosts.get_mut(host).filter(|entry| entry.until.is_none()) {
            self.asking = self.asking.saturating_sub(1);
            let known = self.expiries.len();
            if known < self.sizes.hosts {
                entry.until = Some(now + KEPT);
                self.expiries.push_back((now + KEPT, host.into()));
            } else {
                self.hosts.remove(host);
            }
        }
        all
    }

    /// The question cannot be answered: its loop has ended. Returns those that wait.
    pub(super) fn abandon(&mut self, host: &str) -> Vec<(W, Found)> {
        if let Some(entry) = self.hosts.get_mut(host).filter(|entry| entry.until.is_none()) {
            entry.found.is_incomplete = true;
            let all = self.continued(host);
            self.asking = self.asking.saturating_sub(1);
            self.hosts.remove(host);
            return all;
        }
        Vec::new()
    }

    /// The nodes that have this host, or pattern, have changed: what is known about it is forgotten.
    #[cfg(feature = "directory")]
    pub(super) fn changed(&mut self, name: &str) {
        // The hosts below a domain; all for "*".
        let domain = name.strip_prefix('*');
        let concerns = |host: &str| domain.map_or(host == name, |domain| host.ends_with(domain));
        self.hosts.retain(|host, entry| entry.until.is_none() || !concerns(host));
        self.expiries.retain(|(_, host)| !concerns(host));
    }

    fn continued(&mut self, host: &str) -> Vec<(W, Found)> {
        let Some(entry) = self.hosts.get_mut(host) else { return Vec::new() };
        let waiting = std::mem::take(&mut entry.waiting);
        self.waiting = self.waiting.saturating_sub(waiting.len());
        waiting.into_iter().map(|waits| (waits, entry.found())).collect()
    }

    /// Removes the answers that are too old.
    fn forget(&mut self, now: Instant) {
        while let Some((until, _)) = self.expiries.front()
            && *until <= now
        {
            if let Some((_, host)) = self.expiries.pop_front() {
                self.hosts.remove(&host);
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a starting point for a virtual clock")]
mod tests {
    use super::*;

    fn cache() -> (HostCache<u32>, Instant) {
        (HostCache::new(Sizes { hosts: 2, questions: 2, waiting: 3 }), Instant::now())
    }

    fn found(nodes: &[usize]) -> Found {
        Found { nodes: nodes.to_vec(), ..Found::default() }
    }

    #[test]
    fn one_question_for_all_that_wait() {
        let (mut cache, now) = cache();
        assert_eq!(cache.lookup("a", now, 1), Lookup::Ask);
        assert_eq!(cache.lookup("a", now, 2), Lookup::Wait);
        assert_eq!(cache.answered("a", 0, Some(HostState::Unknown)), vec![]);
        // The first node that has it is enough; a later one is used as well.
        assert_eq!(cache.answered("a", 1, Some(HostState::Connected)), vec![(1, found(&[1])), (2, found(&[1]))]);
        assert_eq!(cache.lookup("a", now, 3), Lookup::Found(found(&[1]), 3));
        assert_eq!(cache.answered("a", 2, Some(HostState::Connected)), vec![]);
        assert_eq!(cache.complete("a", now), vec![]);
        let mut next = || match cache.lookup("a", now, 4) {
            Lookup::Found(found, 4) => found.nodes,
            other => panic!("{other:?}"),
        };
        let turns = [next(), next(), next()];
        assert_eq!(turns[0], turns[2], "they take turns");
        assert_eq!([turns[0][0], turns[1][0]].iter().sum::<usize>(), 3);
    }

    #[test]
    fn answers_are_used_for_a_second() {
        let (mut cache, now) = cache();
        assert_eq!(cache.lookup("a", now, 1), Lookup::Ask);
        cache.answered("a", 0, Some(HostState::Known));
        cache.answered("a", 1, None);
        let late = now + Duration::from_millis(900);
        let nowhere = Found { is_known: true, is_incomplete: true, nodes: vec![] };
        assert_eq!(cache.complete("a", late), vec![(1, nowhere.clone())]);
        let last = late + Duration::from_millis(999);
        assert_eq!(cache.lookup("a", last, 2), Lookup::Found(nowhere.clone(), 2), "a negative one, too");
        assert_eq!(cache.peek("a", last), Some(&nowhere));
        assert_eq!(cache.peek("a", late + KEPT), None);
        assert_eq!(cache.lookup("a", late + KEPT, 3), Lookup::Ask);
    }

    #[cfg(feature = "directory")]
    #[test]
    fn a_change_is_known_at_once() {
        let now = Instant::now();
        let mut cache = HostCache::new(Sizes { hosts: 9, questions: 9, waiting: 9 });
        let hosts = ["a.example", "b.dev.example", "dev.example"];
        let known = |cache: &mut HostCache<u32>| {
            hosts.map(|host| {
                let is_known = cache.lookup(host, now, 1) != Lookup::Ask;
                cache.complete(host, now);
                is_known
            })
        };
        assert_eq!(known(&mut cache), [false; 3]);
        assert_eq!(known(&mut cache), [true; 3]);
        cache.changed("a.example");
        assert_eq!(known(&mut cache), [false, true, true]);
        cache.changed("*.dev.example");
        assert_eq!(known(&mut cache), [true, false, true]);
        cache.changed("*");
        assert_eq!(known(&mut cache), [false; 3]);
        assert_eq!(cache.expiries.len(), 3);
    }

    #[test]
    fn all_is_limited() {
        let (mut cache, now) = cache();
        assert_eq!(cache.lookup("a", now, 1), Lookup::Ask);
        assert_eq!(cache.lookup("b", now, 2), Lookup::Ask);
        assert_eq!(cache.lookup("c", now, 3), Lookup::Full(3), "questions");
        assert_eq!(cache.lookup("b", now, 3), Lookup::Wait);
        assert_eq!(cache.lookup("b", now, 4), Lookup::Full(4), "waiting");
        cache.complete("a", now);
        cache.complete("b", now);
        for host in ["c", "d", "e"] {
            assert_eq!(cache.lookup(host, now, 5), Lookup::Ask, "{host}");
            assert_eq!(cache.complete(host, now), vec![(5, found(&[]))], "answered, but not kept");
        }
        assert_eq!(cache.hosts.len(), 2);
        assert_eq!(cache.lookup("c", now + KEPT, 6), Lookup::Ask);
        assert_eq!(cache.hosts.len(), 1, "what is too old is removed");
    }

    #[test]
    fn a_question_that_is_lost_blocks_none() {
        let (mut cache, now) = cache();
        assert_eq!(cache.lookup("a", now, 1), Lookup::Ask);
        let lost = Found { is_incomplete: true, ..Found::default() };
        assert_eq!(cache.abandon("a"), vec![(1, lost)]);
        assert_eq!(cache.abandon("a"), vec![]);
        assert_eq!(cache.lookup("a", now, 2), Lookup::Ask);
        cache.complete("a", now);
        assert_eq!(cache.abandon("a"), vec![], "it was answered");
        assert_eq!((cache.asking, cache.waiting), (0, 0));
    }
}
