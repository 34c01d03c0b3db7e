//! The directory, as the gateway and the program hold it.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, atomic::AtomicBool},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use uncork::LoopHandle;

use super::{
    super::{
        directory::{Command, DirectoryConfig, Engine, EngineStatus, Reply, Unavailable},
        handle::Nodes,
    },
    absent::Absent,
    holder::{Holder, Key},
    leases::{LEASE, Lease, Leases, Renewed},
    names::Names,
};
use crate::relay::{ConfigError, lock::lock};

/// The owner of the sessions that have the keys: the gateway.
pub(in crate::relay) trait KeyOwner: Send + Sync {
    /// Another node has the key now: the session with this lease ends, and the application is not told.
    fn replaced(&self, key: &Key, number: u64);
    /// A lost node had this client: the application is told that it is gone. Calls `done` after that.
    fn lost(&self, key: &Key, done: Box<dyn FnOnce() + Send>);
}

/// A key that this node has from now on.
pub(in crate::relay) struct Claimed {
    pub(in crate::relay) number: u64,
    /// The holder before, on another node. Its session goes on until the application agrees to the new one.
    pub(in crate::relay) before: Option<Holder>,
}

/// The directory of the gateway's clients, which all nodes share: it tells which node has a client.
///
/// Pass it to [`Gateway::with_directory`](crate::relay::Gateway::with_directory), and start it when a server runs. All
/// clones are the same.
#[derive(Clone)]
pub struct Directory(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) engine: Engine,
    pub(super) names: Names,
    pub(super) nodes: Nodes,
    /// Random: names this start of the node.
    pub(super) epoch: String,
    leases: Mutex<Leases>,
    owner: OnceLock<Arc<dyn KeyOwner>>,
    /// Keys that were claimed while the engine was connected, and of which it may have only a part: see `renewal`.
    pub(super) unregistered: Mutex<HashSet<Key>>,
    pub(super) absent: Mutex<Absent>,
    pub(super) stopped: AtomicBool,
}

impl Directory {
    /// Checks the configuration. Connects to nothing yet: see [`start`](Self::start).
    ///
    /// # Errors
    /// Returns an error if the configuration is invalid, or if the system gives no random bytes.
    pub fn new(config: DirectoryConfig, nodes: Nodes) -> Result<Self, ConfigError> {
        let mut epoch = [0; 8];
        let no_random = |error| ConfigError::of(None, format!("cannot read random bytes: {error}"));
        getrandom::fill(&mut epoch).map_err(no_random)?;
        let epoch = format!("{:016x}", u64::from_be_bytes(epoch));
        let engine = Engine::new(config)?;
        let names = Names::new(engine.is_cluster());
        Ok(Self(Arc::new(Inner {
            engine,
            names,
            leases: Mutex::new(Leases::new(nodes.id(), epoch.clone(), names)),
            nodes,
            epoch,
            owner: OnceLock::new(),
            unregistered: Mutex::default(),
            absent: Mutex::default(),
            stopped: AtomicBool::new(false),
        })))
    }

    /// Connects to the engine on this loop, and keeps connecting. Keys that are claimed before are registered then.
    ///
    /// The close callbacks of the gateway run on this loop, too. So when servers stop, the one of this loop stops last:
    /// when no callback is in progress ([`GatewayStats`](crate::relay::GatewayStats)), and after [`flush`](Self::flush).
    pub fn start(&self, on: &LoopHandle) {
        self.0.clone().run(on);
    }

    /// Ends the connection. Leases that are held expire within 30 s.
    pub fn stop(&self) {
        self.0.stopped.store(true, std::sync::atomic::Ordering::Relaxed);
        self.0.engine.stop();
    }

    /// Calls `then` when the engine has everything that it was told before, or is unavailable: on its loop, or at once.
    ///
    /// For a program that ends: after this, no other node reports clients whose close callbacks this one has called.
    pub fn flush(&self, then: impl FnOnce() + Send + 'static) {
        self.0.clone().report_ended();
        self.0.engine.flush(then);
    }

    /// Returns the state of the connection to the engine.
    pub fn status(&self) -> EngineStatus {
        self.0.engine.status()
    }

    /// Returns the number of keys that this node has.
    pub fn leases(&self) -> usize {
        self.0.leases().len()
    }

    pub(in crate::relay) fn loop_handle(&self) -> Option<LoopHandle> {
        self.0.engine.loop_handle()
    }

    pub(in crate::relay) fn nodes(&self) -> &Nodes {
        &self.0.nodes
    }

    /// Returns the name of this start of the node.
    pub(in crate::relay) fn epoch(&self) -> &str {
        &self.0.epoch
    }

    /// Sets the owner of the sessions. The first one stays.
    pub(in crate::relay) fn owned_by(&self, owner: Arc<dyn KeyOwner>) {
        let _ = self.0.owner.set(owner);
    }

    /// Claims a key for this node, and calls `then` when the engine has it. Without the engine, `then` is called as well:
    /// the key is registered later.
    pub(in crate::relay) fn claim(&self, key: &Key, now: SystemTime, then: impl FnOnce(Claimed) + Send + 'static) {
        let (number, commands) = {
            let mut leases = self.0.leases();
            let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
            let number = leases.claim(key, u64::try_from(now).unwrap_or(u64::MAX));
            (number, leases.register(key, false))
        };
        let (inner, key) = (self.0.clone(), key.clone());
        let commands = commands.map_or_else(Vec::new, Vec::from);
        self.0.engine.send(commands, move |result| {
            if result.is_err() && inner.engine.is_connected() {
                lock(&inner.unregistered).insert(key.clone());
            }
            let reply = result.ok().and_then(|replies| replies.into_iter().nth(1));
            let renewed = reply.map(|reply| inner.leases().registered(&key, number, false, &reply));
            let before = match renewed {
                Some(Renewed::TookOver(holder)) if !inner.leases().is_own(&holder) => Some(holder),
                _ => None,
            };
            then(Claimed { number, before });
        });
    }

    /// The session with this lease is over, and the application is not told yet. To be called before
    /// [`release`](Self::release).
    pub(in crate::relay) fn unreported(&self, key: &Key, number: u64) -> Option<Unreported> {
        let lease = self.0.leases().unreported(key, number)?;
        Some(Unreported { inner: self.0.clone(), key: key.clone(), lease })
    }

    /// The session with this lease is over. `before`: the holder whose session goes on, because the application has
    /// rejected this one.
    pub(in crate::relay) fn release(&self, key: &Key, number: u64, before: Option<Holder>) {
        self.0.leases().release(key, number, before);
        self.0.clone().report_ended();
    }

    /// Another node has the key. Returns `true` if this lease had it until now.
    pub(in crate::relay) fn lose(&self, key: &[u8], number: u64) -> bool {
        self.0.leases().lose(key, number)
    }

    /// Asks who has these keys. `then` gets the holders in the order of the keys; or the error if the directory is
    /// unavailable, within the engine's command timeout.
    pub(in crate::relay) fn lookup(
        &self,
        keys: &[Key],
        then: impl FnOnce(Result<Vec<Option<Holder>>, Unavailable>) + Send + 'static,
    ) {
        let inner = self.0.clone();
        self.0.engine.send(keys.iter().map(|key| self.0.names.lookup(key)).collect(), move |result| {
            then(result.map(|replies| {
                let holder = |reply| match reply {
                    // Its own entries of keys that it does not have are stale.
                    Reply::Bytes(value) => Holder::parse(&value).filter(|holder| !inner.leases().is_own(holder)),
                    _ => None,
                };
                replies.into_iter().map(holder).collect()
            }));
        });
    }

    /// Returns `true` if a client of this node has the key, or connects with it.
    pub(in crate::relay) fn holds(&self, key: &[u8]) -> bool {
        self.0.leases().number(key).is_some()
    }

    /// Asks whether these nodes, which do not respond, are lost: the application was told of all their clients. `then`
    /// gets `None` if the directory is unavailable, or has not been available for so long that each node which is not
    /// lost must be in it.
    pub(in crate::relay) fn are_lost(
        &self,
        ids: Vec<String>,
        on: &LoopHandle,
        then: impl FnOnce(Option<bool>) + Send + 'static,
    ) {
        let (inner, on) = (self.0.clone(), on.clone());
        self.0.engine.send(vec![Command::new("SMEMBERS").key("nodes")], move |result| {
            let Some(Reply::Array(members)) = result.ok().and_then(|replies| replies.into_iter().next()) else {
                return then(None);
            };
            let is_asked_for = |member: &Reply| match member {
                Reply::Bytes(member) => {
                    ids.iter().any(|id| member.strip_prefix(id.as_bytes()).is_some_and(|rest| rest.starts_with(b":")))
                }
                _ => false,
            };
            if members.iter().any(is_asked_for) {
                return then(Some(false));
            }
            on.after(Duration::ZERO, move |now| {
                let since = inner.engine.connected_since();
                let is_long_enough = since.is_some_and(|since| now.mono.saturating_duration_since(since) >= LEASE);
                then(is_long_enough.then_some(true));
            });
        });
    }

    /// The holder says that it does not have the key: its entry is removed, if it is still the same.
    pub(in crate::relay) fn stale(&self, key: &Key, holder: &Holder) {
        self.0.engine.send(vec![self.0.names.remove_stale(key, holder).hint()], |_| {});
    }
}

/// An end that the application was not told of. If this node is lost before this is dropped, another one tells it.
pub(in crate::relay) struct Unreported {
    inner: Arc<Inner>,
    key: Key,
    lease: Lease,
}

impl Drop for Unreported {
    fn drop(&mut self) {
        self.inner.leases().reported(&self.key, self.lease);
        self.inner.clone().report_ended();
    }
}

impl Inner {
    pub(super) fn leases(&self) -> MutexGuard<'_, Leases> {
        lock(&self.leases)
    }

    pub(super) fn owner(&self) -> Option<&Arc<dyn KeyOwner>> {
        self.owner.get()
    }

    /// Sends commands whose replies do not matter.
    pub(super) fn tell(&self, commands: Vec<Command>) {
        self.engine.send(commands, |_| {});
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").field("status", &self.status()).finish_non_exhaustive()
    }
}
