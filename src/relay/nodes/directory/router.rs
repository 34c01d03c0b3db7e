//! The nodes of a cluster: to which of them there is a connection, which are asked for the table of slots, and when.
//! Without I/O.
//!
//! ```text
//!   seeds ──▶ Connect … connected ──▶ Ask (CLUSTER SLOTS) ──▶ answer ──▶ Table ──▶ Connect, Leave ──▶ Connected
//!                                      ▲ every 30 s; after MOVED, CLUSTERDOWN or a loss; every second until
//!                                      └ there is a connection to each node that has slots
//! ```
//! The nodes that are connected are asked in turn: one that is cut off from the others has an old table.

use std::{
    collections::BTreeMap,
    mem,
    time::{Duration, Instant},
};

use super::{slots::Table, url::Place};

/// The time from one question to the next, if all is well.
const INTERVAL: Duration = Duration::from_secs(30);
/// The same, while a node that has slots is away. Its replica has its slots soon.
const INTERVAL_AWAY: Duration = Duration::from_secs(1);
/// The least time between two questions.
const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// How long a node that `ASK` has named is kept without slots of its own: they are on their way to it.
const EXPECTED: Duration = Duration::from_secs(60);
/// The most nodes that `ASK` may name.
const MAX_EXPECTED: usize = 100;

/// A task for the caller. Tasks are done in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Connect to this node, and keep connecting.
    Connect(Place),
    /// This node has no slots any more.
    Leave(Place),
    /// Ask this node for the table.
    Ask(Place),
    /// There is a connection to each node that has slots.
    Connected,
    /// There is not any more.
    Lost,
}

pub(super) struct Router {
    seeds: Vec<Place>,
    table: Option<Table>,
    /// Nodes to connect to, and whether there is a connection.
    nodes: BTreeMap<Place, bool>,
    /// Nodes that `ASK` has named, and until when they are kept.
    expected: BTreeMap<Place, Instant>,
    /// A question has no answer yet.
    is_asking: bool,
    /// The node that was asked last.
    asked: Option<Place>,
    asked_at: Option<Instant>,
    next_question: Instant,
    is_connected: bool,
    actions: Vec<Action>,
}

impl Router {
    pub(super) fn new(seeds: Vec<Place>, now: Instant) -> Self {
        let mut router = Self {
            seeds,
            table: None,
            nodes: BTreeMap::new(),
            expected: BTreeMap::new(),
            is_asking: false,
            asked: None,
            asked_at: None,
            next_question: now,
            is_connected: false,
            actions: Vec::new(),
        };
        router.connect_to_seeds();
        router
    }

    /// Returns the tasks that were added since the last call.
    pub(super) fn actions(&mut self) -> Vec<Action> {
        mem::take(&mut self.actions)
    }

    /// Returns the node that has a slot, as far as is known.
    pub(super) fn node(&self, slot: u16) -> Option<&Place> {
        self.table.as_ref()?.node(slot)
    }

    /// There is a connection to a node.
    pub(super) fn connected(&mut self, place: &Place, now: Instant) {
        if let Some(is_connected) = self.nodes.get_mut(place) {
            *is_connected = true;
        }
        self.check();
        self.tick(now);
    }

    /// The connection to a node is lost.
    pub(super) fn lost(&mut self, place: &Place, now: Instant) {
        if let Some(is_connected) = self.nodes.get_mut(place) {
            *is_connected = false;
        }
        self.check();
        self.refresh(now);
    }

    /// The table may be outdated.
    pub(super) fn refresh(&mut self, now: Instant) {
        let earliest = self.asked_at.map_or(now, |asked| asked + MIN_INTERVAL);
        self.next_question = self.next_question.min(earliest.max(now));
        self.tick(now);
    }

    /// A node says that this one has a slot.
    pub(super) fn moved(&mut self, slot: u16, place: &Place, now: Instant) {
        if let Some(table) = &mut self.table {
            table.set(slot, place);
            if table.node(slot) == Some(place) {
                self.connect(place.clone());
            }
        }
        self.check();
        self.refresh(now);
    }

    /// A node says that this one gets a slot, which is on its way.
    pub(super) fn expect(&mut self, place: &Place, now: Instant) {
        if self.expected.contains_key(place) || self.expected.len() < MAX_EXPECTED {
            self.expected.insert(place.clone(), now + EXPECTED);
            self.connect(place.clone());
        }
    }

    /// The answer to the last question; `None` if there is none.
    pub(super) fn answer(&mut self, table: Option<Table>, now: Instant) {
        self.is_asking = false;
        if let Some(table) = table {
            self.expected.retain(|_, until| *until > now);
            let needed: Vec<Place> = table.nodes().chain(self.expected.keys()).cloned().collect();
            self.table = Some(table);
            let left: Vec<Place> = self.nodes.keys().filter(|place| !needed.contains(place)).cloned().collect();
            for place in left {
                self.nodes.remove(&place);
                self.actions.push(Action::Leave(place));
            }
            needed.into_iter().for_each(|place| self.connect(place));
            self.check();
        }
        // A question that was wanted meanwhile stays.
        if self.next_question > now || !self.is_connected {
            self.next_question = now + if self.is_connected { INTERVAL } else { INTERVAL_AWAY };
        }
        self.tick(now);
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Instant) {
        if now < self.next_question || self.is_asking {
            return;
        }
        let connected = || self.nodes.iter().filter(|(_, is_connected)| **is_connected).map(|(place, _)| place);
        let after = connected().find(|place| self.asked.as_ref().is_none_or(|asked| *place > asked));
        let Some(place) = after.or_else(|| connected().next()).cloned() else {
            // All of its nodes may have other addresses by now.
            return self.connect_to_seeds();
        };
        self.is_asking = true;
        self.asked = Some(place.clone());
        self.asked_at = Some(now);
        self.next_question = now + INTERVAL;
        self.actions.push(Action::Ask(place));
    }

    fn connect_to_seeds(&mut self) {
        self.seeds.clone().into_iter().for_each(|seed| self.connect(seed));
    }

    fn connect(&mut self, place: Place) {
        if !self.nodes.contains_key(&place) {
            self.nodes.insert(place.clone(), false);
            self.actions.push(Action::Connect(place));
        }
    }

    fn check(&mut self) {
        let has = |place: &Place| self.nodes.get(place) == Some(&true);
        let is_connected = self.table.as_ref().is_some_and(|table| table.nodes().all(has));
        if mem::replace(&mut self.is_connected, is_connected) != is_connected {
            self.actions.push(if is_connected { Action::Connected } else { Action::Lost });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::nodes::directory::reply::Reply;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(name: &str) -> Place {
        Place::Tcp(name.into(), 6379)
    }

    /// A table in which the first node has the first 100 slots, the second one the next, …
    fn table(names: &[&str]) -> Option<Table> {
        let range = |(n, name): (i64, &&str)| {
            let master = Reply::Array(vec![Reply::Bytes(name.as_bytes().to_vec()), Reply::Int(6379)]);
            Reply::Array(vec![Reply::Int(n * 100), Reply::Int(n * 100 + 99), master])
        };
        Table::parse(&Reply::Array((0..).zip(names).map(range).collect()), &at("x")).ok()
    }

    struct Trace {
        router: Router,
        now: Instant,
    }

    impl Trace {
        #[expect(clippy::disallowed_methods, reason = "the time does not matter")]
        fn new() -> Self {
            let now = Instant::now();
            Self { router: Router::new(vec![at("s"), at("t")], now), now }
        }

        /// A cluster of two nodes, with a connection to each.
        fn open() -> Self {
            let mut trace = Self::new();
            trace.does("+s +t");
            trace.router.connected(&at("t"), trace.now);
            trace.does("?t");
            trace.router.answer(table(&["a", "b"]), trace.now);
            trace.does("-s -t +a +b");
            trace.router.connected(&at("a"), trace.now);
            trace.does("");
            trace.router.connected(&at("b"), trace.now);
            trace.does("up");
            trace
        }

        /// Checks the tasks.
        #[track_caller]
        fn does(&mut self, want: &str) {
            let name = |place: &Place| match place {
                Place::Tcp(host, _) => host.clone(),
                place => place.to_string(),
            };
            let text = |action: Action| match action {
                Action::Connect(place) => format!("+{}", name(&place)),
                Action::Leave(place) => format!("-{}", name(&place)),
                Action::Ask(place) => format!("?{}", name(&place)),
                Action::Connected => "up".to_owned(),
                Action::Lost => "down".to_owned(),
            };
            assert_eq!(self.router.actions().into_iter().map(text).collect::<Vec<_>>().join(" "), want);
        }

        fn pass(&mut self, time: Duration) {
            self.now += time;
            self.router.tick(self.now);
        }
    }

    #[test]
    fn the_seeds_tell_of_the_others_and_the_table_is_asked_for_again() {
        let mut trace = Trace::open();
        assert_eq!(trace.router.node(150), Some(&at("b")));
        assert_eq!(trace.router.node(200), None);
        // Soon after the first answer, since there was no connection to all; then every 30 s, another node each time.
        trace.pass(SECOND);
        trace.does("?a");
        trace.router.answer(table(&["a", "b"]), trace.now);
        trace.pass(29 * SECOND);
        trace.does("");
        trace.pass(SECOND);
        trace.does("?b");
        trace.pass(100 * SECOND);
        trace.does("");
        trace.router.answer(None, trace.now);
        trace.pass(INTERVAL);
        trace.does("?a");
    }

    #[test]
    fn a_node_that_is_lost_is_replaced_by_its_replica() {
        let mut trace = Trace::open();
        trace.pass(SECOND);
        trace.router.answer(table(&["a", "b"]), trace.now);
        trace.does("?a");
        trace.pass(SECOND);
        trace.router.lost(&at("a"), trace.now);
        trace.does("down ?b");
        assert_eq!(trace.router.node(150), Some(&at("b")), "its keys go on");
        trace.router.answer(table(&["a", "b"]), trace.now);
        trace.does("");
        trace.pass(SECOND);
        trace.does("?b");
        trace.router.answer(table(&["c", "b"]), trace.now);
        trace.does("-a +c");
        trace.router.connected(&at("c"), trace.now);
        trace.does("up");
        assert_eq!(trace.router.node(0), Some(&at("c")));
    }

    #[test]
    fn a_slot_that_has_moved_is_noted_and_the_table_asked_for() {
        let mut trace = Trace::open();
        trace.pass(SECOND);
        trace.router.answer(table(&["a", "b"]), trace.now);
        trace.does("?a");
        trace.router.moved(0, &at("b"), trace.now);
        trace.does("");
        assert_eq!(trace.router.node(0), Some(&at("b")));
        // At once, but not for each of many such replies.
        trace.pass(MIN_INTERVAL);
        trace.does("?b");
        for slot in 0..50 {
            trace.router.moved(slot, &at("b"), trace.now);
        }
        trace.does("");
        trace.router.answer(table(&["a", "b"]), trace.now);
        trace.does("");
        // A node that has had no slots.
        trace.router.moved(7, &at("c"), trace.now);
        trace.does("+c down");
        trace.router.connected(&at("c"), trace.now);
        trace.does("up");
    }

    #[test]
    fn a_node_that_gets_its_first_slot_is_kept() {
        let mut trace = Trace::open();
        trace.router.expect(&at("c"), trace.now);
        trace.router.expect(&at("c"), trace.now);
        trace.does("+c");
        trace.pass(SECOND);
        trace.does("?a");
        trace.router.answer(table(&["a", "b"]), trace.now);
        trace.does("");
        trace.pass(EXPECTED);
        trace.does("?b");
        trace.router.answer(table(&["a", "b"]), trace.now);
        trace.does("-c");
    }

    #[test]
    fn without_any_node_the_seeds_are_tried_again() {
        let mut trace = Trace::open();
        trace.router.lost(&at("a"), trace.now);
        trace.router.lost(&at("b"), trace.now);
        trace.does("down");
        trace.pass(SECOND);
        trace.does("+s +t");
        trace.router.connected(&at("s"), trace.now);
        trace.does("?s");
        // What it says is no table: the next one is asked.
        trace.router.answer(None, trace.now);
        trace.router.connected(&at("t"), trace.now);
        trace.pass(SECOND);
        trace.does("?t");
        trace.router.answer(table(&["d"]), trace.now);
        trace.does("-a -b -s -t +d");
        // Events of nodes that were left change nothing.
        trace.router.connected(&at("a"), trace.now);
        trace.router.lost(&at("b"), trace.now);
        trace.router.connected(&at("d"), trace.now);
        trace.does("up");
    }
}
