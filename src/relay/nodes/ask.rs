//! A question to all other nodes, with a deadline.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use uncork::{Request, client};

use super::{handle::Nodes, proof::FIELD};
use crate::relay::lock::lock;

/// Deadline for the answers of all nodes.
const DEADLINE: Duration = Duration::from_secs(1);

/// Longest answer of one node, in bytes: 10,000 streams with some fields.
const LONGEST_ANSWER: usize = 16 << 20;

/// The answers so far.
struct Answers<F> {
    bodies: Vec<Vec<u8>>,
    missing: Vec<String>,
    left: usize,
    then: Option<F>,
}

impl Nodes {
    /// Sends a GET of this path to all other nodes. Calls `then` on this request's loop, with the bodies of those that
    /// have responded with 200 within the deadline, and the ids of all others, sorted.
    pub(in crate::relay) fn ask_all<F>(&self, req: &Request<'_>, path: &str, then: F)
    where
        F: FnOnce(Vec<Vec<u8>>, Vec<String>) + Send + 'static,
    {
        let left = self.0.others.len();
        if left == 0 {
            return then(Vec::new(), Vec::new());
        }
        let answers = Answers { bodies: Vec::new(), missing: Vec::new(), left, then: Some(then) };
        let answers = Arc::new(Mutex::new(answers));
        for (at, peer) in self.0.others.iter().enumerate() {
            let proof = self.proof(peer.tag, "GET", path, req);
            let call = client::Request::get(&format!("{}{path}", peer.url)).header(FIELD, proof).timeout(DEADLINE);
            self.0.counters.forwarded();
            peer.forwarded();
            let (nodes, answers) = (self.clone(), answers.clone());
            self.0.client.send(&req.loop_handle(), call, move |result| match nodes.judged(at, result) {
                Some(Ok(response)) if response.status() == 200 => response.collect(LONGEST_ANSWER, move |result| {
                    nodes.answered(at, &answers, result.ok().map(|full| full.body));
                }),
                _ => nodes.answered(at, &answers, None),
            });
        }
    }

    fn answered<F>(&self, at: usize, answers: &Mutex<Answers<F>>, body: Option<Vec<u8>>)
    where
        F: FnOnce(Vec<Vec<u8>>, Vec<String>),
    {
        let done = {
            let mut answers = lock(answers);
            match body {
                Some(body) => answers.bodies.push(body),
                None => answers.missing.extend(self.0.others.get(at).map(|peer| peer.tag.to_string())),
            }
            answers.left -= 1;
            match answers.left {
                0 => answers
                    .then
                    .take()
                    .map(|then| (then, std::mem::take(&mut answers.bodies), std::mem::take(&mut answers.missing))),
                _ => None,
            }
        };
        if let Some((then, bodies, mut missing)) = done {
            missing.sort();
            then(bodies, missing);
        }
    }
}
