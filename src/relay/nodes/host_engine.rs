//! The hosts of all nodes at the engine: this node's are registered there, and others' are looked up.
//!
//! ```text
//!   announce, withdraw ──▶ OwnHosts ──HSET, HDEL, PUBLISH──▶ engine ──message──▶ caches of all nodes
//!                             └─ every 10 s, and after a reconnection: all of them
//!   find(host) ──HGETALL──▶ engine ──▶ the nodes that have it; or no answer: the nodes are asked
//! ```
//! Its entries are hints. A host that is not there may be on a node that has not registered it yet. So the engine never
//! decides that a host is unknown.

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use uncork::LoopHandle;

use super::{
    directory::{Command, DirectoryConfig, Engine, EngineEvents, EngineState, EngineStatus},
    host_entries::{self, CHANGES, OwnHosts},
};
use crate::relay::{ConfigError, lock::lock};

/// Hosts are renewed at this interval: two renewals may fail before one expires.
const RENEW: Duration = Duration::from_secs(10);

/// Number of hosts in one pipeline.
const BATCH: usize = 500;

/// Called with a host, or a pattern, whose entry has changed.
pub(super) type OnChange = Box<dyn Fn(&str) + Send + Sync>;

/// Clones share one connection to the engine.
#[derive(Clone)]
pub(super) struct HostEngine(Arc<Inner>);

struct Inner {
    engine: Engine,
    /// The id of this node.
    node: String,
    own: Mutex<OwnHosts>,
    on_change: OnceLock<OnChange>,
    is_started: AtomicBool,
    is_stopped: AtomicBool,
}

impl HostEngine {
    pub(super) fn new(config: DirectoryConfig, node: String) -> Result<Self, ConfigError> {
        Ok(Self(Arc::new(Inner {
            engine: Engine::new(config)?,
            node,
            own: Mutex::default(),
            on_change: OnceLock::new(),
            is_started: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
        })))
    }

    /// Connects to the engine on this loop, and keeps connecting. Only the first call counts.
    pub(super) fn start(&self, on: &LoopHandle, on_change: OnChange) {
        if self.0.is_started.swap(true, Relaxed) {
            return;
        }
        let _ = self.0.on_change.set(on_change);
        self.0.engine.start(on, Arc::new(Events(self.clone())), vec![CHANGES.to_owned()]);
        self.clone().renew_after(on.clone());
    }

    pub(super) fn stop(&self) {
        self.0.is_stopped.store(true, Relaxed);
        self.0.engine.stop();
    }

    pub(super) fn status(&self) -> EngineStatus {
        self.0.engine.status()
    }

    /// A connection of this node serves a host, or a pattern, from now on.
    pub(super) fn announce(&self, host: &str) {
        if lock(&self.0.own).add(host) {
            self.tell_of(host);
        }
    }

    /// It does not any more.
    pub(super) fn withdraw(&self, host: &str) {
        if lock(&self.0.own).remove(host) {
            self.tell_of(host);
        }
    }

    /// Tells the engine whether this node has the host, as it is when the engine's loop does it.
    fn tell_of(&self, host: &str) {
        // Before the start, there is nothing to tell: all are registered after connecting.
        let Some(on) = self.0.engine.loop_handle() else { return };
        let (this, host) = (self.clone(), host.to_owned());
        on.after(Duration::ZERO, move |now| {
            let mut commands: Vec<Command> = match lock(&this.0.own).has(&host) {
                true => host_entries::register(&host, &this.0.node, now.wall).into(),
                false => vec![host_entries::withdraw(&host, &this.0.node)],
            };
            commands.push(host_entries::changed(&host));
            this.0.engine.send(commands, |_| {});
        });
    }

    /// Finds the ids of the nodes that have a host. `then` gets none if the engine does not know, or is not available.
    pub(super) fn find(&self, host: &str, on: &LoopHandle, then: impl FnOnce(Vec<String>) + Send + 'static) {
        if self.status().state != EngineState::Ready {
            return then(Vec::new());
        }
        let on = on.clone();
        self.0.engine.send(host_entries::lookups(host), move |result| {
            let Ok(replies) = result else { return then(Vec::new()) };
            // For the time.
            on.after(Duration::ZERO, move |now| then(host_entries::holders(&replies, now.wall)));
        });
    }

    fn renew_after(self, on: LoopHandle) {
        on.clone().after(RENEW, move |_| {
            if !self.0.is_stopped.load(Relaxed) {
                self.register_all(&on, None);
                self.renew_after(on);
            }
        });
    }

    /// Registers all hosts of this node, batch by batch.
    fn register_all(&self, on: &LoopHandle, done: Option<Box<dyn FnOnce() + Send>>) {
        let this = self.clone();
        on.after(Duration::ZERO, move |now| {
            let hosts = lock(&this.0.own).all();
            for batch in hosts.chunks(BATCH) {
                let commands = batch.iter().flat_map(|host| host_entries::register(host, &this.0.node, now.wall));
                this.0.engine.send(commands.collect(), |_| {});
            }
            // Pipelines are sent in order.
            done.into_iter().for_each(|done| done());
        });
    }
}

struct Events(HostEngine);

impl EngineEvents for Events {
    fn connected(&self, engine: &Engine, done: Box<dyn FnOnce() + Send>) {
        if let Some(on) = engine.loop_handle() {
            self.0.register_all(&on, Some(done));
        }
    }

    fn message(&self, _: &[u8], payload: &[u8]) {
        if let (Some(on_change), Ok(host)) = (self.0.0.on_change.get(), std::str::from_utf8(payload)) {
            on_change(host);
        }
    }

    fn lost(&self) {}
}
