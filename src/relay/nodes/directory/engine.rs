//! The connection to the engine, as the rest of the relay holds it.

use std::{
    collections::VecDeque,
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard},
    task,
    time::{Duration, Instant},
};

use uncork::LoopHandle;

use super::{
    command::{Command, Outcome, Pipeline, Then},
    config::Settings,
    queue::Queue,
    reply::Unavailable,
    route::Failures,
    url::Place,
};
use crate::relay::lock::lock;

/// Errors of several addresses and Sentinels.
const MAX_LOGGED: usize = 16;

/// The connection to the engine: a server of the Redis protocol (Redis 7, Valkey), or a cluster of them. Clones share
/// it.
#[derive(Clone)]
pub(in crate::relay) struct Engine(pub(super) Kind);

#[derive(Clone)]
pub(super) enum Kind {
    One(Arc<Shared>),
    /// With one engine for each node.
    Cluster(Arc<dyn Members>),
}

/// The engines of a cluster's nodes, as one.
pub(super) trait Members: Send + Sync {
    fn start(self: Arc<Self>, on: &LoopHandle, events: Arc<dyn EngineEvents>, channels: Vec<String>);
    fn send(self: Arc<Self>, commands: Vec<Command>, then: Then);
    fn engines(&self) -> Vec<Arc<Shared>>;
    fn loop_handle(&self) -> Option<LoopHandle>;
    fn connected_since(&self) -> Option<Instant>;
    fn stop(self: Arc<Self>);
    fn status(&self) -> EngineStatus;
}

/// The owner of the engine. All functions are called on the engine's loop and must not block.
pub(in crate::relay) trait EngineEvents: Send + Sync {
    /// Commands go through now: the connection is established, authenticated and subscribed, and the server is a
    /// master; in a cluster, there is one to each node that has slots. Called after every (re)connection. The owner
    /// registers everything again and calls `done` when it has.
    fn connected(&self, engine: &Engine, done: Box<dyn FnOnce() + Send>);

    /// A message of a channel, whose name is without the prefix. It can arrive before `connected`.
    fn message(&self, channel: &[u8], payload: &[u8]);

    /// The connection is lost. Called once after each `connected`.
    fn lost(&self);
}

/// The state of the connection to the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum EngineState {
    /// There is no connection: the directory is unavailable. In a cluster, it is for some keys at least.
    #[default]
    Disconnected,
    /// There is a connection, and this node is registering what it has.
    Connected,
    /// This node has registered what it has.
    Ready,
}

/// The connection to the engine, for operators.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct EngineStatus {
    /// The state.
    pub state: EngineState,
    /// The reason why the last attempt failed or the last connection ended. It stays after a reconnection.
    pub last_error: Option<String>,
    /// The address of the server, while there is a connection; in a cluster, those of all nodes, with commas.
    pub address: Option<String>,
    /// The time from the last PING to its reply; in a cluster, the longest. There is one every 5 s.
    pub round_trip: Option<Duration>,
    /// Commands that were accepted to be sent.
    pub commands: u64,
    /// Hints that were dropped.
    pub dropped_hints: u64,
    /// Connections after the first one.
    pub reconnections: u64,
}

pub(super) struct Shared {
    pub(super) settings: Arc<Settings>,
    pub(super) state: Mutex<State>,
}

pub(super) struct State {
    pub(super) phase: EngineState,
    pub(super) started: Option<Started>,
    /// No connection is made any more.
    pub(super) stopped: bool,
    /// The server of the loop stops.
    pub(super) stopping: bool,
    /// The latest attempt. What an earlier one reports changes nothing.
    pub(super) generation: u64,
    /// Attempts in a row that failed, or whose connections did not last.
    pub(super) failures: Failures,
    pub(super) connected_since: Option<Instant>,
    /// Connections that were established.
    pub(super) connections: u64,
    /// The connection for commands.
    pub(super) waker: Option<task::Waker>,
    /// The connection for messages in RESP2.
    pub(super) messages: MessagesState,
    pub(super) queue: Queue,
    /// Where the Sentinels have last found the master.
    pub(super) master: Option<Place>,
    /// The Sentinel is asked at once: its last answer may be too old.
    pub(super) ask_sentinel: bool,
    /// The connection to a Sentinel.
    pub(super) sentinel_waker: Option<task::Waker>,
    pub(super) last_error: Option<String>,
    /// The last errors that the log has, since there was a connection.
    pub(super) logged: VecDeque<String>,
    pub(super) address: Option<String>,
    pub(super) round_trip: Option<Duration>,
    commands: u64,
}

/// The connection for messages, in RESP2.
#[derive(Default)]
pub(super) enum MessagesState {
    #[default]
    None,
    /// It is being established.
    Opening,
    Open(task::Waker),
    Failed(String),
}

#[derive(Clone)]
pub(super) struct Started {
    pub(super) on: LoopHandle,
    pub(super) events: Arc<dyn EngineEvents>,
    /// With the prefix.
    pub(super) channels: Vec<Vec<u8>>,
}

impl Engine {
    /// Sends commands, from any thread. `then` gets one reply for each, in order, on the engine's loop, or the reason why
    /// there are none: then any of them may have been carried out. It is called exactly once, within `command_timeout`
    /// from the next turn of the loop; in a cluster, within as much again for each redirection.
    ///
    /// They are one pipeline. In a cluster that is true for those whose keys are in one slot.
    ///
    /// Without a connection, or if the queue is full, the caller's thread calls it at once.
    pub(in crate::relay) fn send(&self, commands: Vec<Command>, then: impl FnOnce(Outcome) + Send + 'static) {
        if commands.is_empty() {
            return then(Ok(Vec::new()));
        }
        match &self.0 {
            Kind::One(shared) => shared.send(commands.iter(), Then::new(then)),
            Kind::Cluster(cluster) => cluster.clone().send(commands, Then::new(then)),
        }
    }

    /// Calls `then` when the engine has everything that was sent before, or is unavailable: on its loop, or at once.
    pub(in crate::relay) fn flush(&self, then: impl FnOnce() + Send + 'static) {
        let ping = Command::new("PING");
        match &self.0 {
            Kind::One(shared) => shared.send([&ping], Then::new(|_| then())),
            Kind::Cluster(cluster) => {
                let last = Arc::new(Last(Mutex::new(Some(Box::new(then)))));
                for node in cluster.engines() {
                    let last = last.clone();
                    node.send([&ping], Then::new(move |_| drop(last)));
                }
            }
        }
    }

    /// Returns `true` if the keys are on several servers: see [`Command::key`].
    pub(in crate::relay) fn is_cluster(&self) -> bool {
        matches!(self.0, Kind::Cluster(_))
    }

    /// Returns the loop that it was started on.
    pub(in crate::relay) fn loop_handle(&self) -> Option<LoopHandle> {
        match &self.0 {
            Kind::One(shared) => shared.lock().started.as_ref().map(|started| started.on.clone()),
            Kind::Cluster(cluster) => cluster.loop_handle(),
        }
    }

    /// Returns when the present connection was made, in a cluster the last one of those that are needed; `None` without
    /// one.
    pub(in crate::relay) fn connected_since(&self) -> Option<Instant> {
        match &self.0 {
            Kind::One(shared) => shared.lock().connected_since,
            Kind::Cluster(cluster) => cluster.connected_since(),
        }
    }

    /// Returns `true` if commands go through now; in a cluster, those for some keys.
    pub(in crate::relay) fn is_connected(&self) -> bool {
        match &self.0 {
            Kind::One(shared) => shared.is_connected(),
            Kind::Cluster(cluster) => cluster.engines().iter().any(|node| node.is_connected()),
        }
    }

    /// Ends the connection, and makes no other. Calls that wait are told that the directory is unavailable.
    pub(in crate::relay) fn stop(&self) {
        match &self.0 {
            Kind::One(shared) => shared.stop(),
            Kind::Cluster(cluster) => cluster.clone().stop(),
        }
    }

    /// Returns the state, for operators.
    pub(in crate::relay) fn status(&self) -> EngineStatus {
        match &self.0 {
            Kind::One(shared) => shared.status(),
            Kind::Cluster(cluster) => cluster.status(),
        }
    }
}

/// Calls its function when it is dropped.
struct Last(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Drop for Last {
    fn drop(&mut self) {
        let then = lock(&self.0).take();
        then.into_iter().for_each(|then| then());
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("status", &self.status()).finish()
    }
}

impl Shared {
    pub(super) fn new(settings: Arc<Settings>) -> Arc<Self> {
        let state = State {
            phase: EngineState::Disconnected,
            started: None,
            stopped: false,
            stopping: false,
            generation: 0,
            failures: Failures::default(),
            connected_since: None,
            connections: 0,
            waker: None,
            messages: MessagesState::None,
            queue: Queue::new(settings.queue),
            master: None,
            ask_sentinel: false,
            sentinel_waker: None,
            last_error: None,
            logged: VecDeque::new(),
            address: None,
            round_trip: None,
            commands: 0,
        };
        Arc::new(Self { settings, state: Mutex::new(state) })
    }

    /// Sends commands as one pipeline.
    pub(super) fn send<'a>(&self, commands: impl IntoIterator<Item = &'a Command>, then: Then) {
        let (mut wire, mut count, mut is_hint) = (Vec::new(), 0, true);
        for command in commands {
            command.encode(&self.settings.prefix, &mut wire);
            count += 1;
            is_hint &= command.is_hint();
        }
        let pipeline = Pipeline { wire, commands: count, is_hint, then };
        let mut state = self.lock();
        let (rejected, reason) = if state.phase == EngineState::Disconnected {
            if is_hint {
                state.queue.count_dropped(count);
            }
            (Some(pipeline), state.reason())
        } else {
            match state.queue.push(pipeline) {
                Ok(()) => {
                    state.commands = state.commands.saturating_add(count as u64);
                    (None, String::new())
                }
                Err(pipeline) => (Some(pipeline), "too many commands wait for the engine".to_owned()),
            }
        };
        let waker = state.waker.clone();
        drop(state);
        match (rejected, waker) {
            (Some(pipeline), _) => pipeline.then.call(Err(Unavailable(reason))),
            (None, Some(waker)) => waker.wake(),
            (None, None) => {}
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.lock().phase != EngineState::Disconnected
    }

    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.stopped = true;
        let wakers = state.wakers();
        drop(state);
        wakers.into_iter().for_each(task::Waker::wake);
    }

    pub(super) fn status(&self) -> EngineStatus {
        let state = self.lock();
        EngineStatus {
            state: state.phase,
            last_error: state.last_error.clone(),
            address: state.address.clone(),
            round_trip: state.round_trip,
            commands: state.commands,
            dropped_hints: state.queue.dropped_hints(),
            reconnections: state.connections.saturating_sub(1),
        }
    }

    /// No function of a caller may be called while it is locked.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Records why an attempt or a connection has ended. The log has an error once, until there is a connection again:
    /// an engine that is down would fill it.
    pub(super) fn failed(&self, error: String) {
        let mut state = self.lock();
        let is_new = !state.logged.contains(&error);
        if is_new {
            if state.logged.len() == MAX_LOGGED {
                state.logged.pop_front();
            }
            state.logged.push_back(error.clone());
        }
        state.last_error = Some(error.clone());
        drop(state);
        if is_new {
            log::warn!(target: "uncork::relay", "directory: {error}");
        } else {
            log::debug!(target: "uncork::relay", "directory: {error}");
        }
    }
}

impl State {
    /// Returns why there is no connection.
    fn reason(&self) -> String {
        match &self.last_error {
            _ if self.stopped => "it was stopped".to_owned(),
            Some(error) => format!("not connected: {error}"),
            None => "not connected yet".to_owned(),
        }
    }

    /// Returns `true` if an attempt, or its connection, is the latest and may go on.
    pub(super) fn is_current(&self, generation: u64) -> bool {
        self.generation == generation && !self.stopped
    }

    /// Returns the wakers of all connections.
    pub(super) fn wakers(&mut self) -> Vec<task::Waker> {
        let messages = match &mut self.messages {
            MessagesState::Open(waker) => Some(waker.clone()),
            _ => None,
        };
        [self.waker.clone(), messages, self.sentinel_waker.clone()].into_iter().flatten().collect()
    }

    /// Ends the connection: nothing is accepted any more. Returns what waits, and the state so far.
    pub(super) fn disconnect(&mut self) -> (Vec<Then>, EngineState) {
        (self.waker, self.address, self.round_trip) = (None, None, None);
        (self.queue.drain(), mem::take(&mut self.phase))
    }
}
