//! Questions to all other nodes, with a deadline.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use uncork::{Request, client};

use super::{
    counts::NodeState,
    handle::Nodes,
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
        let (nodes, asked) = (self.clone(), req.now().wall);
        self.ask_all(req, report::PATH, move |answers| {
            let report = |body: Option<Vec<u8>>| NodeReport::parse(&body?, asked);
            let states = nodes.others().into_iter().zip(answers);
            then(states.map(|(state, body)| NodeState { report: report(body), ..state }).collect());
        });
    }

    /// Sends a GET of this path to all other nodes. Calls `then` on this request's loop, with the bodies of those that
    /// have responded with 200 within the deadline, in the order of the nodes.
    pub(in crate::relay) fn ask_all<F>(&self, req: &Request<'_>, path: &str, then: F)
    where
        F: FnOnce(Vec<Option<Vec<u8>>>) + Send + 'static,
    {
        let left = self.0.others.len();
        if left == 0 {
            return then(Vec::new());
        }
        let answers = Arc::new(Mutex::new(Answers { bodies: vec![None; left], left, then: Some(then) }));
        for (at, peer) in self.0.others.iter().enumerate() {
            let proof = self.proof(peer.tag, "GET", path, req);
            let call = client::Request::get(&format!("{}{path}", peer.url)).header(FIELD, proof).timeout(DEADLINE);
            self.0.counters.forwarded();
            peer.forwarded();
            let (nodes, answers) = (self.clone(), answers.clone());
            self.0.client.send(&req.loop_handle(), call, move |result| match nodes.judged(at, result) {
                Some(Ok(response)) if response.status() == 200 => response.collect(LONGEST_ANSWER, move |result| {
                    answered(at, &answers, result.ok().map(|full| full.body));
                }),
                _ => answered(at, &answers, None),
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
