//! Questions to all other nodes, with a deadline.
//!
//! ```text
//!   ask, watch ──GET /node──▶ every other node     the time until the response's head is recorded
//!   ask_all    ──GET path──▶  every other node     a client's request: counted, like those that are forwarded
//! ```

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use uncork::{LoopHandle, Moment, Request, client};

use super::{
    counts::NodeState,
    handle::{Asker, Nodes},
    proof::FIELD,
    report::{self, NodeReport},
};
use crate::relay::lock::lock;

/// Deadline for the answers of all nodes.
const DEADLINE: Duration = Duration::from_secs(1);

/// Longest answer of one node, in bytes: 10,000 streams with some fields.
const LONGEST_ANSWER: usize = 16 << 20;

/// The answers so far.
struct Answers<F> {
    /// In the order of the nodes.
    bodies: Vec<Option<Vec<u8>>>,
    left: usize,
    then: Option<F>,
}

impl Nodes {
    /// Asks all other nodes about themselves. Calls `then` on this request's loop, with all of them in the order of the
    /// configuration, at the latest after 1 s. Nodes that have not responded have no [`report`](NodeState::report).
    pub fn ask(&self, req: &Request<'_>, then: impl FnOnce(Vec<NodeState>) + Send + 'static) {
        let (nodes, asked) = (self.clone(), req.now());
        self.question(&req.loop_handle(), asked, move |answers| {
            let states = nodes.others().into_iter().zip(answers);
            let reported = states.map(|(state, body)| {
                // Its clock was read about halfway.
                let halfway = asked.wall + state.times.last.unwrap_or_default() / 2;
                NodeState { report: body.and_then(|body| NodeReport::parse(&body, halfway)), ..state }
            });
            then(reported.collect());
        });
    }

    /// Asks all other nodes about themselves after 1 s, and then every `interval` (at least 1 s), until the loop ends. So
    /// [`NodeState::times`] has the time of a hop to each node, and [`NodeState::error`] is known also while no request
    /// is forwarded. An interval below 10 s keeps a connection to each node open. Call it once.
    ///
    /// ```
    /// use std::time::Duration;
    /// use uncork::{Server, relay::nodes::{NodeListener, Nodes, NodesConfig}};
    /// let nodes = Nodes::new(NodesConfig { id: "a".into(), key: vec![7; 32], ..NodesConfig::default() })?;
    /// let running = Server::bind("127.0.0.1:0")?.threads(1, NodeListener::new(nodes.clone()))?;
    /// nodes.watch(&running.loops()[0], Duration::from_secs(5));
    /// # running.stop_now()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn watch(&self, on: &LoopHandle, interval: Duration) {
        // Nodes that are started together listen by then.
        self.watch_after(DEADLINE, on, interval.max(DEADLINE));
    }

    fn watch_after(&self, delay: Duration, on: &LoopHandle, interval: Duration) {
        // Weak, so that neither the loop nor the nodes keep the other alive.
        let (nodes, next) = (Arc::downgrade(&self.0), on.clone());
        on.after(delay, move |now| {
            let Some(nodes) = nodes.upgrade().map(Nodes) else { return };
            nodes.question(&next, now, drop);
            nodes.watch_after(interval, &next, interval);
        });
    }

    /// Asks all other nodes about themselves, and records their times. Calls `then` on the loop.
    fn question<F>(&self, on: &LoopHandle, asked: Moment, then: F)
    where
        F: FnOnce(Vec<Option<Vec<u8>>>) + Send + 'static,
    {
        let Some(answers) = self.answers(then) else { return };
        for (at, peer) in self.0.others.iter().enumerate() {
            let proof = self.proof(peer.tag, "GET", report::PATH, &Asker::own(asked));
            let call = client::Request::get(&format!("{}{}", peer.url, report::PATH)).header(FIELD, proof);
            let (nodes, answers, then_on) = (self.clone(), answers.clone(), on.clone());
            self.0.client.send(on, call.timeout(DEADLINE), move |result| match nodes.outcome(at, result) {
                // For the time: the call has none.
                Some(Ok(response)) if response.status() == 200 => then_on.after(Duration::ZERO, move |now| {
                    if let Some(peer) = nodes.0.others.get(at) {
                        peer.times.responded(now.mono.saturating_duration_since(asked.mono));
                    }
                    response.collect(LONGEST_ANSWER, move |result| {
                        answered(at, &answers, result.ok().map(|full| full.body));
                    });
                }),
                _ => {
                    if let Some(peer) = nodes.0.others.get(at) {
                        peer.times.failed();
                    }
                    answered(at, &answers, None);
                }
            });
        }
    }

    /// Returns a place for the answers of all other nodes. If there are none, calls `then` and returns `None`.
    fn answers<F>(&self, then: F) -> Option<Arc<Mutex<Answers<F>>>>
    where
        F: FnOnce(Vec<Option<Vec<u8>>>) + Send + 'static,
    {
        let left = self.0.others.len();
        if left == 0 {
            then(Vec::new());
            return None;
        }
        Some(Arc::new(Mutex::new(Answers { bodies: vec![None; left], left, then: Some(then) })))
    }

    /// Asks all other nodes how many connections of origin servers they have, on this loop. Those that do not respond,
    /// or have no tunnel, are left out. If the loop ends, `then` is dropped.
    #[cfg(feature = "tunnel")]
    pub(in crate::relay) fn ask_origin_connections<F>(&self, on: &LoopHandle, now: Moment, then: F)
    where
        F: FnOnce(Vec<u64>) + Send + 'static,
    {
        let then = move |answers: Vec<Option<Vec<u8>>>| {
            let reports = answers.into_iter().flatten().filter_map(|body| NodeReport::parse(&body, now.wall));
            then(reports.filter_map(|report| report.origin_connections).collect());
        };
        self.question(on, now, then);
    }

    /// Sends a GET of this path to all other nodes. Calls `then` on this request's loop, with the bodies of those that
    /// have responded with 200 within the deadline, in the order of the nodes.
    pub(in crate::relay) fn ask_all<F>(&self, req: &Request<'_>, path: &str, then: F)
    where
        F: FnOnce(Vec<Option<Vec<u8>>>) + Send + 'static,
    {
        self.ask_all_for(&req.loop_handle(), &Asker::of(req), path, then);
    }

    /// Like [`ask_all`](Self::ask_all), but for a request that is not at hand.
    pub(in crate::relay) fn ask_all_for<F>(&self, on: &LoopHandle, asker: &Asker, path: &str, then: F)
    where
        F: FnOnce(Vec<Option<Vec<u8>>>) + Send + 'static,
    {
        let Some(answers) = self.answers(then) else { return };
        self.ask_each(on, asker, path, move |at, body| answered(at, &answers, body));
    }

    /// Sends a GET of this path to all other nodes. Calls `each` on this loop for each of them, by its number, with the
    /// body if it has responded with 200 within the deadline. If the loop ends, some calls are missing.
    pub(super) fn ask_each<F>(&self, on: &LoopHandle, asker: &Asker, path: &str, each: F)
    where
        F: Fn(usize, Option<Vec<u8>>) + Clone + Send + 'static,
    {
        for (at, peer) in self.0.others.iter().enumerate() {
            let proof = self.proof(peer.tag, "GET", path, asker);
            let call = client::Request::get(&format!("{}{path}", peer.url)).header(FIELD, proof).timeout(DEADLINE);
            self.0.counters.forwarded();
            peer.forwarded();
            let (nodes, each) = (self.clone(), each.clone());
            self.0.client.send(on, call, move |result| match nodes.judged(at, result) {
                Some(Ok(response)) if response.status() == 200 => response.collect(LONGEST_ANSWER, move |result| {
                    each(at, result.ok().map(|full| full.body));
                }),
                _ => each(at, None),
            });
        }
    }

    /// Returns the ids of the nodes that have not answered.
    pub(in crate::relay) fn missing(&self, answers: &[Option<Vec<u8>>]) -> Vec<String> {
        let silent = self.0.others.iter().zip(answers).filter(|(_, answer)| answer.is_none());
        silent.map(|(peer, _)| peer.tag.to_string()).collect()
    }
}

/// Records the answer of one node, and hands all over after the last one.
fn answered<F: FnOnce(Vec<Option<Vec<u8>>>)>(at: usize, answers: &Mutex<Answers<F>>, body: Option<Vec<u8>>) {
    let done = {
        let mut answers = lock(answers);
        if let Some(slot) = answers.bodies.get_mut(at) {
            *slot = body;
        }
        answers.left = answers.left.saturating_sub(1);
        let then = if answers.left == 0 { answers.then.take() } else { None };
        then.map(|then| (then, std::mem::take(&mut answers.bodies)))
    };
    // Not under the lock: it calls the service.
    if let Some((then, bodies)) = done {
        then(bodies);
    }
}
