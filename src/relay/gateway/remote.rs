//! Sessions on other nodes: a message for keys that this node does not have, and messages that other nodes pass on.
//!
//! ```text
//!   /send, unknown keys ──▶ directory: who has them? ──▶ (strict: POST /keys/check to each node) ──▶ POST /keys/send
//!                               └─ none: all other nodes are asked (`confirm`) ─────────────────────────▲
//!                                                                                                      │
//!   application ◀── one response: the errors of all ◀───────────────────────────── the errors of each node
//! ```
//! An entry of the directory is a hint: if its node does not have the key, the entry is removed, and the other nodes are
//! asked before the application is told that the session is not found.

use std::{sync::Arc, time::Duration};

use uncork::{Action, Consumed, LoopHandle, Request, Response, Upload, h1::Headers};

use super::{
    all_nodes::{self, Numbers},
    confirm::{Confirmed, confirm},
    delivery::{Delivery, Targets, frame},
    key::Key,
    locate::{Group, Groups, locate},
    node_message::{CHECK, MessageHead, SEND, failures, parse_failures},
    shared::Shared,
    wire::{self, Problem},
};
use crate::relay::nodes::{self, Directory};

/// Longest list of keys in a message, in bytes.
const LONGEST_HEAD: usize = 1 << 20;

/// Timeout of the question, and what a message may take beyond the timeout of its sessions.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A message for keys of which some are not on this node.
pub(super) struct Outgoing {
    pub(super) delivery: Arc<Delivery>,
    pub(super) targets: Targets,
    pub(super) message: Vec<u8>,
    pub(super) loop_handle: LoopHandle,
}

impl Outgoing {
    /// Looks the unknown keys up, and delivers the message.
    pub(super) fn begin(mut self, directory: &Directory) {
        if frame(self.targets.binary, &self.message).is_none() {
            return self.delivery.respond(wire::fault(400, "message is not valid UTF-8"));
        }
        let unknown = std::mem::take(&mut self.targets.unknown);
        let (shared, on, its_directory) = (self.delivery.shared().clone(), self.loop_handle.clone(), directory.clone());
        let cancel = self.delivery.clone();
        locate(
            &shared,
            directory,
            &on,
            unknown,
            move |call| cancel.cancels(call),
            move |located| {
                self.targets.found.extend(located.here);
                self.targets.missing.extend(located.missing);
                self.located(&its_directory, located.elsewhere);
            },
        );
    }

    /// The nodes of all keys are known, as far as they can be.
    fn located(self, directory: &Directory, groups: Groups) {
        let missing = &self.targets.missing;
        let has = |problem| missing.iter().any(|(own, _)| *own == problem);
        if has(Problem::NoDirectory) || (self.delivery.is_strict() && has(Problem::NoNode)) {
            return self.delivery.respond(wire::unavailable(missing));
        }
        match self.delivery.is_strict() {
            true if !missing.is_empty() => self.delivery.respond(wire::problems(missing, true)),
            true => self.check(directory.clone(), groups.into_iter().collect(), Groups::new()),
            false => self.deliver(directory, groups),
        }
    }

    /// Asks one node after the other whether it has its keys; then delivers, or reports all that are missing.
    fn check(mut self, directory: Directory, mut left: Vec<(String, Group)>, mut checked: Groups) {
        let Some((node, mut group)) = left.pop() else { return self.checked(&directory, checked) };
        let body = MessageHead { last: false, binary: false }.bytes(group.iter().map(|(key, _)| key), &[]);
        let (on, nodes, to) = (self.loop_handle.clone(), directory.nodes().clone(), node.clone());
        let cancel = self.delivery.clone();
        let call = nodes.post(&on, &to, CHECK, body, TIMEOUT, move |response| {
            let problems = problems_of(&directory, &group, response);
            group.retain(|(key, _)| problems.iter().all(|(_, missing)| missing != key));
            self.targets.missing.extend(problems);
            checked.insert(node, group);
            self.check(directory, left, checked);
        });
        cancel.cancels(call);
    }

    /// All nodes were asked. Keys that their nodes do not have may be on other ones.
    fn checked(mut self, directory: &Directory, mut groups: Groups) {
        let unsure = take_not_found(&mut self.targets.missing);
        let (on, directory_of_reply) = (self.loop_handle.clone(), directory.clone());
        let cancel = self.delivery.clone();
        let then = move |confirmed| {
            self.confirmed(confirmed, &mut groups);
            let missing = &self.targets.missing;
            match missing.iter().any(|(problem, _)| *problem != Problem::NotFound) {
                true => self.delivery.respond(wire::unavailable(missing)),
                false if !missing.is_empty() => self.delivery.respond(wire::problems(missing, true)),
                false => self.deliver(&directory_of_reply, groups),
            }
        };
        match unsure.is_empty() {
            true => then(Confirmed { found: Vec::new(), missing: Vec::new() }),
            false => confirm(directory, &on, unsure, None, |call| cancel.cancels(call), then),
        }
    }

    /// Adds what the other nodes have said.
    fn confirmed(&mut self, confirmed: Confirmed, groups: &mut Groups) {
        self.targets.missing.extend(confirmed.missing);
        for (node, key) in confirmed.found {
            groups.entry(node).or_default().push((key, None));
        }
    }

    fn deliver(self, directory: &Directory, groups: Groups) {
        let Self { delivery, targets, message, loop_handle } = self;
        delivery.expects(groups.len());
        let head = MessageHead { last: targets.last, binary: targets.binary };
        let passed = Arc::new(Passed { delivery, directory: directory.clone(), head, message, loop_handle });
        for (node, group) in groups {
            passed.clone().post(node, group, false);
        }
        passed.delivery.clone().start(targets, &passed.message, &passed.loop_handle);
    }
}

/// A message that is passed on to other nodes.
struct Passed {
    delivery: Arc<Delivery>,
    directory: Directory,
    head: MessageHead,
    message: Vec<u8>,
    loop_handle: LoopHandle,
}

impl Passed {
    /// Posts it to a node. Keys that the node does not have may be on other ones, unless that is `confirmed`.
    fn post(self: Arc<Self>, node: String, group: Group, confirmed: bool) {
        // A node gives up by itself after the timeout of its sessions.
        let timeout = self.delivery.send_timeout().map_or(Duration::from_secs(3600), |timeout| timeout + TIMEOUT);
        let body = self.head.bytes(group.iter().map(|(key, _)| key), &self.message);
        let (this, to) = (self.clone(), node.clone());
        let call = self.directory.nodes().post(&self.loop_handle, &to, SEND, body, timeout, move |response| {
            let mut problems = problems_of(&this.directory, &group, response);
            let unsure = if confirmed { Vec::new() } else { take_not_found(&mut problems) };
            match unsure.is_empty() {
                true => this.delivery.add(problems),
                false => this.look_elsewhere(&node, unsure, problems),
            }
        });
        self.delivery.cancels(call);
    }

    /// The node does not have these keys.
    fn look_elsewhere(self: Arc<Self>, node: &str, unsure: Vec<Key>, mut problems: Vec<(Problem, Key)>) {
        let this = self.clone();
        let then = move |confirmed: Confirmed| {
            let mut groups = Groups::new();
            for (node, key) in confirmed.found {
                groups.entry(node).or_default().push((key, None));
            }
            problems.extend(confirmed.missing);
            this.delivery.expects(groups.len());
            this.delivery.add(problems);
            for (node, group) in groups {
                this.clone().post(node, group, true);
            }
        };
        let cancels = |call| self.delivery.cancels(call);
        confirm(&self.directory, &self.loop_handle, unsure, Some(node), cancels, then);
    }
}

/// Takes the keys out that a node does not have.
fn take_not_found(problems: &mut Vec<(Problem, Key)>) -> Vec<Key> {
    let is = |(problem, _): &(Problem, Key)| *problem == Problem::NotFound;
    let (taken, rest) = std::mem::take(problems).into_iter().partition(is);
    *problems = rest;
    let taken: Vec<(Problem, Key)> = taken;
    taken.into_iter().map(|(_, key)| key).collect()
}

/// Returns the problems of a node's keys. Entries of sessions that it does not have are removed from the directory.
fn problems_of(directory: &Directory, group: &Group, response: Option<Vec<u8>>) -> Vec<(Problem, Key)> {
    let Some(failed) = response.and_then(|body| parse_failures(&body)) else {
        return group.iter().map(|(key, _)| (Problem::NoNode, key.clone())).collect();
    };
    for (key, _) in failed.iter().filter(|(_, problem)| *problem == Problem::NotFound) {
        if let Some((_, Some(holder))) = group.iter().find(|(own, _)| own == key) {
            directory.stale(key, holder);
        }
    }
    failed.into_iter().map(|(key, problem)| (problem, key)).collect()
}

/// Handles the messages of other nodes about keys; `None` for another path.
pub(super) fn request(shared: &Arc<Shared>, req: &mut Request<'_>) -> Option<Action> {
    let directory = shared.directory.clone()?;
    if req.method() == "GET" && req.path() == all_nodes::PATH {
        return Some(Response::json(Numbers::of(shared).json()).into());
    }
    let what = match req.path() {
        _ if req.method() != "POST" => return None,
        nodes::EPOCH => return Some(Response::text(directory.epoch().to_owned()).into()),
        nodes::REPLACED => What::Replaced(directory),
        CHECK => What::Check,
        SEND => What::Send(shared.receive_for_node(req)),
        _ => return None,
    };
    let limit = LONGEST_HEAD + shared.config.limits.send;
    let body =
        Body { shared: shared.clone(), what: Some(what), bytes: Vec::new(), limit, loop_handle: req.loop_handle() };
    Some(Action::Receive(Box::new(body)))
}

impl Shared {
    /// Returns the problem of a key without a session. A client that is connecting has the key in the directory already.
    fn why_missing(&self, key: &Key) -> Problem {
        match self.directory.as_ref().is_some_and(|directory| directory.holds(key)) {
            true => Problem::NoNode,
            false => Problem::NotFound,
        }
    }
}

enum What {
    Replaced(Directory),
    Check,
    Send(Arc<Delivery>),
}

/// Collects a message of another node.
struct Body {
    shared: Arc<Shared>,
    what: Option<What>,
    bytes: Vec<u8>,
    limit: usize,
    loop_handle: LoopHandle,
}

impl Upload for Body {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        if chunk.len() > self.limit - self.bytes.len() {
            return Consumed::Stop(Response::new(413).close().into());
        }
        self.bytes.extend_from_slice(chunk);
        Consumed::All
    }

    fn end(mut self: Box<Self>, _trailers: &Headers) -> Action {
        let malformed = || Response::text("malformed message of a node\n").with_status(400).into();
        let shared = &self.shared;
        match self.what.take() {
            Some(What::Replaced(directory)) => {
                let Some((key, number)) = nodes::parse_replaced(&self.bytes) else { return malformed() };
                directory.lose(&key, number);
                shared.replaced_elsewhere(&key, number);
                Response::new(200).into()
            }
            Some(What::Check) => {
                let Some((_, keys, _)) = MessageHead::parse(&self.bytes) else { return malformed() };
                let found = shared.registry.find(keys.iter().map(|key| &**key));
                let missing = keys.into_iter().zip(found).filter(|(_, found)| found.is_none());
                let missing: Vec<_> = missing.map(|(key, _)| (shared.why_missing(&key), key)).collect();
                failures(&missing).into()
            }
            Some(What::Send(delivery)) => {
                let Some((head, keys, message)) = MessageHead::parse(&self.bytes) else { return malformed() };
                let found = shared.registry.find(keys.iter().map(|key| &**key));
                let missing = keys.into_iter().zip(&found).filter(|(_, found)| found.is_none());
                let missing = missing.map(|(key, _)| (shared.why_missing(&key), key)).collect();
                let found = found.into_iter().flatten().collect();
                let targets = Targets { found, missing, unknown: Vec::new(), last: head.last, binary: head.binary };
                delivery.start(targets, message, &self.loop_handle);
                Action::Suspend
            }
            None => malformed(),
        }
    }
}
