//! Where the sessions of keys are that this node does not have.
//!
//! ```text
//!   keys ──▶ directory: who has them? ──▶ on a node
//!                │         └─ none: all other nodes are asked (`confirm`) ──▶ on a node, not found, unavailable
//!                └─ unavailable: so are the keys; "not found" would be wrong, since applications forget such a session
//! ```

use std::{collections::HashMap, sync::Arc};

use uncork::{LoopHandle, client::CancelHandle};

use super::{
    confirm::{Confirmed, confirm},
    key::Key,
    session::Session,
    shared::Shared,
    wire::Problem,
};
use crate::relay::nodes::{Directory, Holder};

/// Keys of one node, with their entries in the directory, if there are any.
pub(super) type Group = Vec<(Key, Option<Holder>)>;

/// Keys, by their nodes.
pub(super) type Groups = HashMap<String, Group>;

/// Where the sessions of some keys are.
#[derive(Default)]
pub(super) struct Located {
    /// They have connected to this node in the meantime.
    pub(super) here: Vec<Arc<Session>>,
    pub(super) elsewhere: Groups,
    pub(super) missing: Vec<(Problem, Key)>,
}

impl Located {
    /// Adds what the other nodes have said.
    fn add(&mut self, confirmed: Confirmed) {
        self.missing.extend(confirmed.missing);
        for (node, key) in confirmed.found {
            self.elsewhere.entry(node).or_default().push((key, None));
        }
    }
}

/// Finds the nodes of keys that this node does not have. `cancels` gets the calls of other nodes, and `then` the result.
pub(super) fn locate(
    shared: &Arc<Shared>,
    directory: &Directory,
    on: &LoopHandle,
    keys: Vec<Key>,
    cancels: impl Fn(Option<CancelHandle>) + Send + 'static,
    then: impl FnOnce(Located) + Send + 'static,
) {
    let (shared, its_directory, on, asked) = (shared.clone(), directory.clone(), on.clone(), keys.clone());
    directory.lookup(&asked, move |result| {
        let mut located = Located::default();
        let Ok(holders) = result else {
            located.missing = keys.into_iter().map(|key| (Problem::NoDirectory, key)).collect();
            return then(located);
        };
        let mut unsure = Vec::new();
        for (key, holder) in keys.into_iter().zip(holders) {
            match holder {
                Some(holder) => located.elsewhere.entry(holder.node.clone()).or_default().push((key, Some(holder))),
                None => match shared.registry.session(&key) {
                    Some(session) => located.here.push(session),
                    None => unsure.push(key),
                },
            }
        }
        if unsure.is_empty() {
            return then(located);
        }
        confirm(&its_directory, &on, unsure, None, cancels, move |confirmed| {
            located.add(confirmed);
            then(located);
        });
    });
}
