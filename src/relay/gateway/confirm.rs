//! Keys that the directory does not have, or whose node does not have them: all other nodes are asked.
//!
//! An application forgets a session that is not found, so that is told only if it is certain. The directory may lack a
//! client that is connected: the engine has lost its data and not all nodes have registered again, the client's node is
//! cut from the engine, or the client moves.
//!
//! | the other nodes | result |
//! |---|---|
//! | one has the session | that node |
//! | one is about to have it | node unavailable |
//! | all respond, and none has it | not found |
//! | some do not respond, and are lost: the application was told of their clients | not found |
//! | some do not respond | node unavailable; directory unavailable, if it cannot tell whether they are lost |

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use uncork::{LoopHandle, client::CancelHandle};

use super::{
    key::Key,
    node_message::{CHECK, MessageHead, parse_failures},
    wire::Problem,
};
use crate::relay::{lock::lock, nodes::Directory};

/// Timeout of the question.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What is known of the keys.
pub(super) struct Confirmed {
    /// The nodes that have them.
    pub(super) found: Vec<(String, Key)>,
    pub(super) missing: Vec<(Problem, Key)>,
}

struct Asked {
    /// Each key, and what is known of it.
    keys: Vec<(Key, Known)>,
    /// Nodes that did not respond.
    silent: Vec<String>,
    /// Nodes that may respond.
    left: usize,
    then: Option<Box<dyn FnOnce(Confirmed) + Send>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Known {
    Nothing,
    /// A client with this key is connecting to a node.
    Claimed,
    On(String),
}

/// Asks all nodes but `except` for these keys. `cancels` gets the calls, and `then` the result.
pub(super) fn confirm(
    directory: &Directory,
    on: &LoopHandle,
    keys: Vec<Key>,
    except: Option<&str>,
    cancels: impl Fn(Option<CancelHandle>),
    then: impl FnOnce(Confirmed) + Send + 'static,
) {
    let nodes: Vec<String> = directory.nodes().others().into_iter().map(|node| node.id).collect();
    let nodes: Vec<String> = nodes.into_iter().filter(|node| Some(node.as_str()) != except).collect();
    let body = MessageHead { last: false, binary: false }.bytes(keys.iter(), &[]);
    let keys = keys.into_iter().map(|key| (key, Known::Nothing)).collect();
    // One more, until all are asked.
    let asked = Asked { keys, silent: Vec::new(), left: nodes.len() + 1, then: Some(Box::new(then)) };
    let asked = Arc::new(Mutex::new(asked));
    for node in nodes {
        let (asked, directory, its_loop, to) = (asked.clone(), directory.clone(), on.clone(), node.clone());
        cancels(directory.clone().nodes().post(on, &to, CHECK, body.clone(), TIMEOUT, move |response| {
            lock(&asked).record(node, response.and_then(|body| parse_failures(&body)));
            one_less(&asked, &directory, &its_loop);
        }));
    }
    one_less(&asked, directory, on);
}

fn one_less(asked: &Mutex<Asked>, directory: &Directory, on: &LoopHandle) {
    let (mut confirmed, unknown, silent, then) = {
        let mut asked = lock(asked);
        asked.left -= 1;
        if asked.left > 0 {
            return;
        }
        let Some(then) = asked.then.take() else { return };
        let (confirmed, unknown) = asked.result();
        (confirmed, unknown, std::mem::take(&mut asked.silent), then)
    };
    let missing = |problem, unknown: Vec<Key>| unknown.into_iter().map(move |key| (problem, key));
    if unknown.is_empty() || silent.is_empty() {
        confirmed.missing.extend(missing(Problem::NotFound, unknown));
        return then(confirmed);
    }
    directory.are_lost(silent, on, move |are_lost| {
        let problem = match are_lost {
            Some(true) => Problem::NotFound,
            Some(false) => Problem::NoNode,
            None => Problem::NoDirectory,
        };
        confirmed.missing.extend(missing(problem, unknown));
        then(confirmed);
    });
}

impl Asked {
    /// Records the response of a node: the keys that it does not have, and why.
    fn record(&mut self, node: String, failed: Option<Vec<(Key, Problem)>>) {
        let Some(failed) = failed else { return self.silent.push(node) };
        for (key, known) in &mut self.keys {
            match failed.iter().find(|(own, _)| own == key).map(|(_, problem)| *problem) {
                None => *known = Known::On(node.clone()),
                Some(Problem::NoNode) if *known == Known::Nothing => *known = Known::Claimed,
                Some(_) => {}
            }
        }
    }

    /// Returns the result, and the keys that no node has that responded.
    fn result(&mut self) -> (Confirmed, Vec<Key>) {
        let (mut confirmed, mut unknown) = (Confirmed { found: Vec::new(), missing: Vec::new() }, Vec::new());
        for (key, known) in std::mem::take(&mut self.keys) {
            match known {
                Known::Nothing => unknown.push(key),
                Known::Claimed => confirmed.missing.push((Problem::NoNode, key)),
                Known::On(node) => confirmed.found.push((node, key)),
            }
        }
        (confirmed, unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_each_key() {
        let [bob, eve, dan] = ["bob", "eve", "dan"].map(|key| Key::from(key.as_bytes()));
        let keys = [&bob, &eve, &dan].map(|key| (key.clone(), Known::Nothing)).into();
        let mut asked = Asked { keys, silent: Vec::new(), left: 0, then: None };
        let missing = |key: &Key| (key.clone(), Problem::NotFound);
        asked.record("a".into(), Some(vec![(bob.clone(), Problem::NoNode), missing(&eve), missing(&dan)]));
        asked.record("b".into(), None);
        asked.record("c".into(), Some(vec![(bob.clone(), Problem::NotFound), missing(&dan)]));
        assert_eq!(asked.silent, ["b"]);
        let (confirmed, unknown) = asked.result();
        assert_eq!(confirmed.found, [("c".to_owned(), eve)]);
        assert_eq!(confirmed.missing, [(Problem::NoNode, bob)]);
        assert_eq!(unknown, [dan]);
    }
}
