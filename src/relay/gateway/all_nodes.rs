//! The numbers of all nodes, for one request: each node is asked, and those that do not respond in time are named.
//!
//! ```text
//!   GET /stats?nodes=all ──▶ node a ──GET /keys/numbers──▶ b: {"keys":7,"connections":7, …}
//!                              │    ──GET /keys/numbers──▶ c: no response within 1 s
//!   {"connections":12, …, "nodes":{"a":{…},"b":{…},"c":null}}     X-Missing-Nodes: c
//! ```

use uncork::LoopHandle;

use super::{counters::GatewayStats, shared::Shared, wire::SizedResponse};
use crate::relay::{
    json::JsonObject,
    nodes::{Asker, Directory},
};

/// The path of the question, on the listener for nodes.
pub(super) const PATH: &str = "/keys/numbers";

/// The field that names the nodes that did not respond.
const MISSING: &str = "X-Missing-Nodes";

/// The numbers of one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    /// Keys of its clients.
    pub(super) keys: u64,
    pub(super) stats: GatewayStats,
}

impl Numbers {
    pub(super) fn of(shared: &Shared) -> Self {
        Self { keys: shared.registry.len() as u64, stats: shared.counters.read() }
    }

    /// Returns the response to another node.
    pub(super) fn json(&self) -> String {
        self.stats.object().member("keys", self.keys).end()
    }

    /// Reads the response of another node. `None` if it is malformed.
    fn parse(body: &[u8]) -> Option<Self> {
        let object: serde_json::Value = serde_json::from_slice(body).ok()?;
        Some(Self { keys: object.get("keys")?.as_u64()?, stats: GatewayStats::parse(&object)? })
    }
}

/// The numbers of all nodes, by their ids, in alphabetical order. `None` for a node that did not respond.
pub(super) struct AllNodes(pub(super) Vec<(String, Option<Numbers>)>);

impl AllNodes {
    /// Asks all other nodes, on a loop. Calls `then` there, at the latest after 1 s.
    pub(super) fn ask(
        shared: &Shared,
        directory: &Directory,
        on: &LoopHandle,
        asker: &Asker,
        then: impl FnOnce(Self) + Send + 'static,
    ) {
        let (nodes, own) = (directory.nodes().clone(), Numbers::of(shared));
        directory.nodes().ask_all_for(on, asker, PATH, move |answers| {
            let others = nodes.others().into_iter().map(|node| node.id);
            let answers = answers.into_iter().map(|body| body.and_then(|body| Numbers::parse(&body)));
            let mut all: Vec<_> = others.zip(answers).collect();
            all.push((nodes.id(), Some(own)));
            all.sort_by(|(a, _), (b, _)| a.cmp(b));
            then(Self(all));
        });
    }

    /// Returns the nodes that have responded.
    pub(super) fn present(&self) -> impl Iterator<Item = (&str, &Numbers)> {
        self.0.iter().filter_map(|(id, numbers)| Some((id.as_str(), numbers.as_ref()?)))
    }

    /// Returns an object with a member for each node: what `json` returns, or `null` if it did not respond.
    pub(super) fn object(&self, json: impl Fn(&Numbers) -> String) -> String {
        let member = |numbers: &Option<Numbers>| numbers.as_ref().map_or_else(|| "null".to_owned(), &json);
        self.0.iter().fold(JsonObject::new(), |object, (id, numbers)| object.json(id, &member(numbers))).end()
    }

    /// Adds the field with the nodes that did not respond, if there are any.
    pub(super) fn mark(&self, response: SizedResponse) -> SizedResponse {
        let missing: Vec<&str> = self.0.iter().filter(|(_, numbers)| numbers.is_none()).map(|(id, _)| &**id).collect();
        match missing.is_empty() {
            true => response,
            false => response.header(MISSING, missing.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(keys: u64) -> Numbers {
        let stats = GatewayStats { connections: keys + 1, total_connections: 9, ..GatewayStats::default() };
        Numbers { keys, stats }
    }

    #[test]
    fn what_a_node_says_is_read_by_another() {
        assert_eq!(Numbers::parse(numbers(7).json().as_bytes()), Some(numbers(7)));
        for bad in ["", "null", "[]", "{}", r#"{"keys":1}"#, r#"{"keys":-1,"connections":1}"#] {
            assert_eq!(Numbers::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_node_that_is_missing_is_named() {
        let all = AllNodes(vec![("a".into(), Some(numbers(1))), ("b".into(), None), ("c".into(), Some(numbers(2)))]);
        assert_eq!(all.object(|numbers| numbers.keys.to_string()), r#"{"a":1,"b":null,"c":2}"#);
        assert_eq!(all.present().map(|(id, numbers)| (id, numbers.keys)).collect::<Vec<_>>(), [("a", 1), ("c", 2)]);
    }
}
