//! A pipeline for a cluster: divided among the nodes, sent on where a slot has moved, and put together again.
//!
//! ```text
//!   commands ──▶ by the slots of their keys ──▶ node 1 ──▶ replies ──────────────────────┐
//!                             ▲             ──▶ node 2 ──▶ MOVED ──▶ noted, sent on ──┐  ├─▶ all replies, in order
//!                             └───────────────────────────  ASK  ──▶ ASKING, sent on ─┴──┘   or Unavailable
//! ```
//! The pipeline is unavailable if one of its commands is. Commands for one slot stay in order, unless a redirection
//! overtakes a later pipeline: an entry that is wrong by that is a hint like any other, and expires.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use super::{
    command::{Command, Outcome, Then},
    engine::Shared,
    reply::{Reply, Unavailable},
    slots::Redirection,
    url::Place,
};
use crate::relay::lock::lock;

/// How often a command is sent on.
const MAX_REDIRECTIONS: u32 = 3;

/// What a cluster knows of its nodes.
pub(super) trait Route: Send + Sync {
    /// The start of the names of all keys.
    fn prefix(&self) -> &str;
    /// Returns the node that has a slot; without a slot, any.
    fn node_of(&self, slot: Option<u16>) -> Option<Place>;
    fn engine(&self, place: &Place) -> Option<Arc<Shared>>;
    /// A node has said that another one has a slot.
    fn moved(self: Arc<Self>, slot: u16, place: Place);
    /// A node has said that another one gets a slot.
    fn expect(self: Arc<Self>, place: Place);
    /// The table may be outdated.
    fn refresh(self: Arc<Self>);
    /// Returns why there is no connection to the node of a key.
    fn reason(&self) -> String;
}

/// Sends commands to the nodes that have their keys.
pub(super) fn scatter(cluster: Arc<dyn Route>, commands: Vec<Command>, then: Then) {
    let places = commands.iter().map(|command| cluster.node_of(command.slot(cluster.prefix())));
    let (mut parts, mut is_unknown) = (BTreeMap::<_, Vec<usize>>::new(), false);
    for (number, place) in places.enumerate() {
        match place {
            Some(place) => parts.entry((place, false)).or_default().push(number),
            None => is_unknown = true,
        }
    }
    if is_unknown {
        cluster.clone().refresh();
        return then.call(Err(Unavailable(cluster.reason())));
    }
    let replies = vec![None; commands.len()];
    let state = Mutex::new(State { replies, parts: parts.len(), failure: None, then: Some(then) });
    Arc::new(Gather { cluster, commands, state }).send(parts, 0);
}

/// The numbers of the commands for a node, and whether it has to be told that it is asked (`ASKING`).
type Parts = BTreeMap<(Place, bool), Vec<usize>>;

struct Gather {
    cluster: Arc<dyn Route>,
    commands: Vec<Command>,
    state: Mutex<State>,
}

struct State {
    replies: Vec<Option<Reply>>,
    /// Those that have no outcome yet.
    parts: usize,
    failure: Option<Unavailable>,
    /// `None` after the end.
    then: Option<Then>,
}

impl Gather {
    fn send(self: Arc<Self>, parts: Parts, redirections: u32) {
        for ((place, is_asking), numbers) in parts {
            let asking = Command::new("ASKING");
            let asking = if is_asking && self.commands[numbers[0]].is_hint() { asking.hint() } else { asking };
            let mut commands = Vec::with_capacity(numbers.len());
            for number in &numbers {
                commands.extend(is_asking.then_some(&asking));
                commands.push(&self.commands[*number]);
            }
            let engine = self.cluster.engine(&place);
            let this = self.clone();
            let then = Then::new(move |outcome| this.part(&place, is_asking, &numbers, outcome, redirections));
            match engine {
                Some(engine) => engine.send(commands, then),
                None => then.call(Err(Unavailable("the node of a key is not known yet".into()))),
            }
        }
    }

    /// Handles the outcome of a part.
    fn part(self: Arc<Self>, place: &Place, is_asking: bool, numbers: &[usize], outcome: Outcome, redirections: u32) {
        let (mut parts, mut moved) = (Parts::new(), BTreeMap::new());
        let mut state = lock(&self.state);
        match outcome {
            Err(unavailable) => {
                state.failure.get_or_insert(unavailable);
                // A node that says "not now", or does not respond, may have lost its slots.
                self.cluster.clone().refresh();
            }
            Ok(replies) => {
                let step = if is_asking { 2 } else { 1 };
                for (number, reply) in numbers.iter().zip(replies.into_iter().skip(step - 1).step_by(step)) {
                    match Redirection::parse(&reply, place) {
                        None if reply.is_redirection() => {
                            state.failure.get_or_insert_with(|| Unavailable("a redirection is malformed".into()));
                        }
                        None => state.replies[*number] = Some(reply),
                        Some(_) if redirections == MAX_REDIRECTIONS => {
                            state.failure.get_or_insert_with(|| Unavailable("a key is redirected too often".into()));
                        }
                        Some(to) => {
                            parts.entry((to.place.clone(), to.is_once)).or_default().push(*number);
                            moved.insert(to.slot, to);
                        }
                    }
                }
            }
        }
        state.parts = state.parts + parts.len() - 1;
        let end = if state.parts == 0 { state.then.take().map(|then| (then, state.outcome())) } else { None };
        drop(state);
        for (slot, to) in moved {
            match to.is_once {
                true => self.cluster.clone().expect(to.place),
                false => self.cluster.clone().moved(slot, to.place),
            }
        }
        if let Some((then, outcome)) = end {
            then.call(outcome);
        }
        self.send(parts, redirections + 1);
    }
}

impl State {
    fn outcome(&mut self) -> Outcome {
        let replies: Option<Vec<Reply>> = self.replies.drain(..).collect();
        match (self.failure.take(), replies) {
            (Some(unavailable), _) => Err(unavailable),
            (None, Some(replies)) => Ok(replies),
            (None, None) => Err(Unavailable("a reply is missing".into())),
        }
    }
}
