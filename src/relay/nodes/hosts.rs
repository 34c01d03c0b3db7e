//! The directory of hosts: which other nodes have an origin server for a host.
//!
//! ```text
//!   lookup(host) ──▶ cache ──▶ the engine, if there is one ──▶ the nodes that have it
//!                                   └─ no answer, or none has it
//!                      └──────▶ GET /node/hosts?name=app.example ──▶ every other node ──▶ connected, known, unknown
//! ```
//! Each node answers for its own origin servers, and no answer is older than the second for which it is kept. The
//! engine saves the questions about hosts that are registered there, and its messages correct the caches at once.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{AcqRel, Acquire, Release},
        },
    },
    time::Duration,
};

use uncork::{LoopHandle, Request};

#[cfg(feature = "directory")]
use super::{
    directory::{DirectoryConfig, EngineStatus},
    host_engine::HostEngine,
};
use super::{
    handle::{Asker, Nodes},
    host_cache::{Found, HostCache, HostState, Lookup, Sizes},
    peer::Peer,
};
#[cfg(feature = "directory")]
use crate::relay::ConfigError;
use crate::relay::{json::JsonObject, lock::lock};

/// The path of the question, on the listener for nodes.
pub(super) const PATH: &str = "/node/hosts";

const SIZES: Sizes = Sizes { hosts: 10_000, questions: 256, waiting: 1024 };

/// What continues with the answer; `None` if there were too many questions.
type Then = Box<dyn FnOnce(Option<Found>) + Send>;

/// Clones share one cache.
#[derive(Clone)]
pub(in crate::relay) struct HostDirectory {
    nodes: Nodes,
    cache: Arc<Mutex<HostCache<Then>>>,
    #[cfg(feature = "directory")]
    engine: Option<HostEngine>,
}

impl HostDirectory {
    pub(in crate::relay) fn new(nodes: Nodes) -> Self {
        Self {
            nodes,
            cache: Arc::new(Mutex::new(HostCache::new(SIZES))),
            #[cfg(feature = "directory")]
            engine: None,
        }
    }

    /// Uses an engine, after [`start`](Self::start).
    #[cfg(feature = "directory")]
    pub(in crate::relay) fn with_engine(nodes: Nodes, engine: DirectoryConfig) -> Result<Self, ConfigError> {
        let engine = HostEngine::new(engine, nodes.id())?;
        Ok(Self { engine: Some(engine), ..Self::new(nodes) })
    }

    /// Connects to the engine on this loop.
    #[cfg(feature = "directory")]
    pub(in crate::relay) fn start(&self, on: &LoopHandle) {
        let cache = self.cache.clone();
        let changed = move |host: &str| lock(&cache).changed(host);
        self.engine.iter().for_each(|engine| engine.start(on, Box::new(changed.clone())));
    }

    /// Ends the connection to the engine.
    #[cfg(feature = "directory")]
    pub(in crate::relay) fn stop(&self) {
        self.engine.iter().for_each(HostEngine::stop);
    }

    #[cfg(feature = "directory")]
    pub(in crate::relay) fn status(&self) -> Option<EngineStatus> {
        self.engine.as_ref().map(HostEngine::status)
    }

    /// A connection of this node serves this host, or pattern, from now on.
    pub(in crate::relay) fn announce(&self, host: &str) {
        #[cfg(feature = "directory")]
        self.engine.iter().for_each(|engine| engine.announce(host));
        #[cfg(not(feature = "directory"))]
        let _ = host;
    }

    /// It does not any more.
    pub(in crate::relay) fn withdraw(&self, host: &str) {
        #[cfg(feature = "directory")]
        self.engine.iter().for_each(|engine| engine.withdraw(host));
        #[cfg(not(feature = "directory"))]
        let _ = host;
    }

    pub(in crate::relay) fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    /// Returns `true` if another node is known to have the host now. Asks none.
    pub(in crate::relay) fn has(&self, host: &str, req: &Request<'_>) -> bool {
        lock(&self.cache).peek(host, req.now().mono).is_some_and(|found| !found.nodes.is_empty())
    }

    /// Finds the nodes that have a host (in lower case). Calls `then` exactly once, at once or on any loop: with the
    /// answer, or with `None` if too many hosts are being looked up.
    pub(in crate::relay) fn lookup(
        &self,
        host: &str,
        on: &LoopHandle,
        asker: &Asker,
        then: impl FnOnce(Option<Found>) + Send + 'static,
    ) {
        if self.nodes.others().is_empty() {
            return then(Some(Found::default()));
        }
        // Not in the condition: the lock must be free when `then` is called.
        let lookup = lock(&self.cache).lookup(host, asker.asked.mono, Box::new(then));
        match lookup {
            Lookup::Found(found, then) => then(Some(self.ordered(found))),
            Lookup::Full(then) => then(None),
            Lookup::Wait => {}
            Lookup::Ask => self.ask(host, on, asker),
        }
    }

    #[cfg(not(feature = "directory"))]
    fn ask(&self, host: &str, on: &LoopHandle, asker: &Asker) {
        Question::new(self, host).ask_nodes(on, asker);
    }

    /// Asks the engine, if there is one, and then the nodes.
    #[cfg(feature = "directory")]
    fn ask(&self, host: &str, on: &LoopHandle, asker: &Asker) {
        let question = Question::new(self, host);
        let Some(engine) = &self.engine else { return question.ask_nodes(on, asker) };
        let (on, asker) = (on.clone(), *asker);
        engine.find(host, &on.clone(), move |ids| {
            let others = question.directory.nodes.0.others.iter().enumerate();
            let has = |(at, peer): (usize, &Peer)| ids.contains(&peer.tag.to_string()).then_some(at);
            let found: Vec<usize> = others.filter_map(has).collect();
            if found.is_empty() {
                return question.ask_nodes(&on, &asker);
            }
            for at in found {
                question.answered(at, Some(HostState::Connected));
            }
            question.complete(&on);
        });
    }

    fn continue_with(&self, all: Vec<(Then, Found)>) {
        for (then, found) in all {
            then(Some(self.ordered(found)));
        }
    }

    /// Puts the nodes behind the others that have not responded the last time.
    fn ordered(&self, mut found: Found) -> Found {
        let fails = |at: &usize| self.nodes.0.others.get(*at).is_none_or(Peer::is_failing);
        found.nodes.sort_by_key(fails);
        found
    }
}

impl fmt::Debug for HostDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostDirectory").field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

/// A question about a host.
struct Question {
    directory: HostDirectory,
    host: Box<str>,
    done: AtomicBool,
}

impl Question {
    fn new(directory: &HostDirectory, host: &str) -> Arc<Self> {
        Arc::new(Self { directory: directory.clone(), host: host.into(), done: AtomicBool::new(false) })
    }

    fn ask_nodes(self: Arc<Self>, on: &LoopHandle, asker: &Asker) {
        let path = format!("{PATH}?name={}", encoded(&self.host));
        let (nodes, clock) = (self.directory.nodes.clone(), on.clone());
        let left = Arc::new(AtomicUsize::new(nodes.0.others.len()));
        nodes.ask_each(on, asker, &path, move |at, body| {
            self.answered(at, body.and_then(|body| HostState::parse(&body)));
            if left.fetch_sub(1, AcqRel) == 1 {
                self.complete(&clock);
            }
        });
    }

    fn answered(&self, at: usize, state: Option<HostState>) {
        let continued = lock(&self.directory.cache).answered(&self.host, at, state);
        self.directory.continue_with(continued);
    }

    /// All have answered.
    fn complete(self: &Arc<Self>, clock: &LoopHandle) {
        let this = self.clone();
        // A callback has no clock; the loop has one.
        clock.after(Duration::ZERO, move |now| {
            this.done.store(true, Release);
            let continued = lock(&this.directory.cache).complete(&this.host, now.mono);
            this.directory.continue_with(continued);
        });
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if self.done.load(Acquire) {
            return;
        }
        // The loop has ended before all have answered.
        let continued = lock(&self.directory.cache).abandon(&self.host);
        self.directory.continue_with(continued);
    }
}

impl HostState {
    /// Returns the JSON of this node's answer.
    pub(super) fn json(self) -> String {
        let state = match self {
            Self::Connected => "connected",
            Self::Known => "known",
            Self::Unknown => "unknown",
        };
        JsonObject::new().member("state", state).end()
    }

    fn parse(json: &[u8]) -> Option<Self> {
        let json: serde_json::Value = serde_json::from_slice(json).ok()?;
        match json.get("state")?.as_str()? {
            "connected" => Some(Self::Connected),
            "known" => Some(Self::Known),
            "unknown" => Some(Self::Unknown),
            _ => None,
        }
    }
}

/// Returns a host for a query: what is no letter, digit, dot, `-` or `_` is percent-encoded.
fn encoded(host: &str) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(host.len());
    for byte in host.bytes() {
        if byte.is_ascii_alphanumeric() || b".-_".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// Returns the host of a question.
pub(super) fn asked(req: &Request<'_>) -> Option<String> {
    req.query_pairs().find(|(name, _)| name == "name").map(|(_, host)| host.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for state in [HostState::Connected, HostState::Known, HostState::Unknown] {
            assert_eq!(HostState::parse(state.json().as_bytes()), Some(state));
        }
        for bad in ["", "[]", "{}", r#"{"state":1}"#, r#"{"state":"more"}"#] {
            assert_eq!(HostState::parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(encoded("a-b.example"), "a-b.example");
        assert_eq!(encoded("[::1]&x=*%"), "%5B%3A%3A1%5D%26x%3D%2A%25");
    }
}
