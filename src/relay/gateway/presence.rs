//! `/presence`: which clients are connected, and to which node; without a key, how many keys there are.
//!
//! ```text
//!   keys ──▶ registry ──▶ here                         GET /presence ──▶ the number of keys of each node
//!               └─ not here, with a directory: `locate` ──▶ on a node │ absent │ not known
//! ```
//! A client is "not connected" only if that is certain. If it cannot be told for one of the keys, the response is 503,
//! and names these keys.

use std::{collections::HashMap, fmt::Write as _, sync::Arc};

use uncork::{Action, Request};

use super::{
    access::ParsedRequest,
    key::Key,
    shared::Shared,
    wire::{self, Problem, Quoted, SizedResponse},
};
#[cfg(feature = "directory")]
use super::{
    all_nodes::AllNodes,
    locate::{Located, locate},
};
#[cfg(feature = "directory")]
use crate::relay::nodes::Asker;

/// Where a client is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Here,
    #[cfg(feature = "directory")]
    On(String),
    Missing(Problem),
}

/// Handles a request for the presence of clients.
pub(super) fn request(shared: &Arc<Shared>, req: &mut Request<'_>) -> Action {
    let request = ParsedRequest::of(req);
    let keys: Vec<Key> = req.headers().get_all(&shared.config.session_header).map(Key::from).collect();
    if keys.len() > shared.config.limits.targets {
        return request.log(shared, wire::fault(431, "too many session headers")).into();
    }
    if keys.is_empty() {
        return numbers(shared, req, request);
    }
    let found = shared.registry.find(keys.iter().map(|key| &**key));
    let mut places = HashMap::new();
    let mut unknown = Vec::new();
    for (key, found) in keys.iter().zip(found) {
        if found.is_some() {
            places.insert(key.clone(), Place::Here);
        } else if places.insert(key.clone(), Place::Missing(Problem::NotFound)).is_none() {
            unknown.push(key.clone());
        }
    }
    #[cfg(feature = "directory")]
    if let Some(directory) = shared.directory.as_ref().filter(|_| !unknown.is_empty()) {
        let (ticket, its_shared, own) = (req.ticket(), shared.clone(), directory.nodes().id());
        // The questions to other nodes have a short timeout: they need not be cancelled.
        locate(
            shared,
            directory,
            &req.loop_handle(),
            unknown,
            |_| {},
            move |located| {
                add(&mut places, located);
                // An error means that the client has disconnected.
                let _ = ticket.respond(request.log(&its_shared, response(&keys, &places, Some(&own))));
            },
        );
        return Action::Suspend;
    }
    request.log(shared, response(&keys, &places, own(shared).as_deref())).into()
}

/// Returns the id of this node, if there are others.
fn own(shared: &Shared) -> Option<String> {
    #[cfg(feature = "directory")]
    return shared.directory.as_ref().map(|directory| directory.nodes().id());
    #[cfg(not(feature = "directory"))]
    {
        let _ = shared;
        None
    }
}

#[cfg(feature = "directory")]
fn add(places: &mut HashMap<Key, Place>, located: Located) {
    places.extend(located.here.iter().map(|session| (session.key().clone(), Place::Here)));
    places.extend(located.missing.into_iter().map(|(problem, key)| (key, Place::Missing(problem))));
    for (node, group) in located.elsewhere {
        places.extend(group.into_iter().map(|(key, _)| (key, Place::On(node.clone()))));
    }
}

/// Returns the response for these keys, in their order. `own`: the id of this node.
fn response(keys: &[Key], places: &HashMap<Key, Place>, own: Option<&str>) -> SizedResponse {
    let mut list = String::new();
    let mut unsure = Vec::new();
    for (key, place) in keys.iter().filter_map(|key| Some((key, places.get(key)?))) {
        let node = match place {
            Place::Here => own,
            #[cfg(feature = "directory")]
            Place::On(node) => Some(node.as_str()),
            Place::Missing(Problem::NotFound) => None,
            Place::Missing(problem) => {
                unsure.push((*problem, key.clone()));
                continue;
            }
        };
        let connected = !matches!(place, Place::Missing(_));
        let node = node.map_or_else(String::new, |node| format!(r#""node":"{node}","#));
        let comma = if list.is_empty() { "" } else { "," };
        let _ = write!(list, r#"{comma}{{"connected":{connected},{node}"session":{}}}"#, Quoted(key));
    }
    wire::presence(&unsure, &list)
}

/// Responds with the number of keys, and with that of each node.
fn numbers(shared: &Arc<Shared>, req: &mut Request<'_>, request: ParsedRequest) -> Action {
    #[cfg(feature = "directory")]
    if let Some(directory) = &shared.directory {
        let (ticket, its_shared) = (req.ticket(), shared.clone());
        AllNodes::ask(shared, directory, &req.loop_handle(), &Asker::of(req), move |all| {
            let sum = all.present().fold(0, |sum: u64, (_, numbers)| sum.saturating_add(numbers.keys));
            let nodes = all.object(|numbers| numbers.keys.to_string());
            let response = all.mark(wire::keys(sum, Some(&nodes)));
            let _ = ticket.respond(request.log(&its_shared, response));
        });
        return Action::Suspend;
    }
    #[cfg(not(feature = "directory"))]
    let _ = req;
    request.log(shared, wire::keys(shared.registry.len() as u64, None)).into()
}
