//! A cluster: an engine for each of its nodes, and what the [`Router`] decides, carried out.
//!
//! ```text
//!   Engine::send ──▶ scatter ──▶ the engine of each node ──▶ its own connection, queue, time between attempts
//!                                   │ connected, lost, messages
//!                                   ▼
//!   EngineEvents ◀── Cluster ◀── Router: which nodes, which one is asked for the table of slots, and when
//! ```
//! All that changes the router runs on the loop. Each node has its own connection, so a node that is away is noticed
//! only by the keys in its slots.
//!
//! **Messages.** A message is sent to all nodes by the cluster itself. The channels are subscribed on each node, so the
//! owner gets a message once for each connection, and no loss of a connection loses one.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use uncork::LoopHandle;

use super::{
    command::{Command, Then},
    config::{Server, Settings},
    engine::{Engine, EngineEvents, EngineState, EngineStatus, Kind, Members, Shared, Started},
    reply::Unavailable,
    router::{Action, Router},
    scatter::{Route, scatter},
    slots::Table,
    url::Place,
};
use crate::relay::lock::lock;

/// How often the router is asked whether something is due.
const TICK: Duration = Duration::from_secs(1);

pub(super) struct Cluster {
    pub(super) settings: Arc<Settings>,
    state: Mutex<State>,
    /// The router is about to be told that the table may be outdated.
    is_refreshing: AtomicBool,
}

struct State {
    started: Option<Started>,
    /// `None` before the start.
    router: Option<Router>,
    engines: BTreeMap<Place, Node>,
    next: u64,
    stopped: bool,
    phase: EngineState,
    /// Times that the phase has changed.
    changes: u64,
    since: Option<Instant>,
    /// Why the last answer to a question was none.
    last_error: Option<String>,
    /// Numbers of the nodes that were left.
    past: Numbers,
}

/// A node to which there is a connection, or should be.
#[derive(Clone)]
struct Node {
    /// A node that is left, and comes back, has another number: events of the former one change nothing.
    number: u64,
    engine: Arc<Shared>,
}

#[derive(Clone, Copy, Default)]
struct Numbers {
    commands: u64,
    dropped_hints: u64,
    reconnections: u64,
}

impl Numbers {
    fn add(&mut self, status: &EngineStatus) {
        self.commands += status.commands;
        self.dropped_hints += status.dropped_hints;
        self.reconnections += status.reconnections;
    }
}

impl Cluster {
    pub(super) fn new(settings: Arc<Settings>) -> Arc<Self> {
        let state = State {
            started: None,
            router: None,
            engines: BTreeMap::new(),
            next: 0,
            stopped: false,
            phase: EngineState::Disconnected,
            changes: 0,
            since: None,
            last_error: None,
            past: Numbers::default(),
        };
        Arc::new(Self { settings, state: Mutex::new(state), is_refreshing: AtomicBool::new(false) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn tick_after(self: Arc<Self>, on: LoopHandle) {
        let next = on.clone();
        on.after(TICK, move |now| {
            if !self.lock().stopped {
                self.change(now.mono, Router::tick);
                self.tick_after(next);
            }
        });
    }

    /// Tells the router something, on the loop.
    fn tell(self: &Arc<Self>, what: impl FnOnce(&mut Router, Instant) + Send + 'static) {
        let Some(on) = self.handle() else { return };
        let this = self.clone();
        on.after(Duration::ZERO, move |now| this.change(now.mono, what));
    }

    fn change(self: &Arc<Self>, now: Instant, what: impl FnOnce(&mut Router, Instant)) {
        if let Some(router) = &mut self.lock().router {
            what(router, now);
        }
        self.act(now);
    }

    /// Does what the router wants.
    fn act(self: &Arc<Self>, now: Instant) {
        let mut state = self.lock();
        if state.stopped {
            return;
        }
        let actions = state.router.as_mut().map(Router::actions).unwrap_or_default();
        drop(state);
        for action in actions {
            match action {
                Action::Connect(place) => self.connect(place),
                Action::Leave(place) => self.leave(&place),
                Action::Ask(place) => self.ask(place),
                Action::Connected => self.connected(now),
                Action::Lost => self.lost(),
            }
        }
    }

    fn connect(self: &Arc<Self>, place: Place) {
        let mut settings = Settings::clone(&self.settings);
        settings.server = Server { place: place.clone(), ..settings.server };
        let engine = Shared::new(Arc::new(settings));
        let mut state = self.lock();
        let Some(Started { on, channels, .. }) = state.started.clone() else { return };
        state.next += 1;
        let number = state.next;
        state.engines.insert(place.clone(), Node { number, engine: engine.clone() });
        drop(state);
        engine.start(Started { on, events: Arc::new(NodeEvents { cluster: self.clone(), place, number }), channels });
    }

    /// What is in flight may get its replies.
    fn leave(&self, place: &Place) {
        let mut state = self.lock();
        let Some(node) = state.engines.remove(place) else { return };
        let status = node.engine.status();
        state.past.add(&status);
        let on = state.started.as_ref().map(|started| started.on.clone());
        drop(state);
        log::info!(target: "uncork::relay", "directory: {place} has no slots any more");
        if let Some(on) = on {
            on.after(self.settings.command_timeout, move |_| node.engine.stop());
        }
    }

    fn ask(self: &Arc<Self>, place: Place) {
        let (this, node) = (self.clone(), self.engine(&place));
        let then = Then::new(move |outcome| {
            let table = outcome.map_err(|unavailable| unavailable.to_string()).and_then(|replies| {
                let reply = replies.first().ok_or("it has sent no reply")?;
                Table::parse(reply, &place)
            });
            if let Err(error) = &table {
                this.lock().last_error = Some(format!("{place}: {error}"));
                log::debug!(target: "uncork::relay", "directory: {place}: {error}");
            }
            this.tell(move |router, now| router.answer(table.ok(), now));
        });
        match node {
            Some(node) => node.send([&Command::new("CLUSTER").arg("SLOTS")], then),
            None => then.call(Err(Unavailable("it was left".into()))),
        }
    }

    fn connected(self: &Arc<Self>, now: Instant) {
        let mut state = self.lock();
        let Some(started) = state.started.clone() else { return };
        state.phase = EngineState::Connected;
        state.changes += 1;
        state.since = Some(now);
        let (this, change) = (self.clone(), state.changes);
        drop(state);
        let done = move || {
            let mut state = this.lock();
            if state.changes == change && state.phase == EngineState::Connected {
                state.phase = EngineState::Ready;
            }
        };
        started.events.connected(&Engine(Kind::Cluster(self.clone())), Box::new(done));
    }

    fn lost(&self) {
        let mut state = self.lock();
        if state.phase == EngineState::Disconnected {
            return;
        }
        (state.phase, state.since) = (EngineState::Disconnected, None);
        state.changes += 1;
        let started = state.started.clone();
        drop(state);
        if let Some(started) = started {
            started.events.lost();
        }
    }

    fn handle(&self) -> Option<LoopHandle> {
        self.lock().started.as_ref().map(|started| started.on.clone())
    }
}

impl Members for Cluster {
    /// Begins to connect. A second call has no effect.
    fn start(self: Arc<Self>, on: &LoopHandle, events: Arc<dyn EngineEvents>, channels: Vec<String>) {
        let prefix = &self.settings.prefix;
        let channels = channels.iter().map(|name| format!("{prefix}{name}").into_bytes()).collect();
        let mut state = self.lock();
        if state.started.is_some() || state.stopped {
            return;
        }
        state.started = Some(Started { on: on.clone(), events, channels });
        drop(state);
        let (this, next) = (self.clone(), on.clone());
        on.after(Duration::ZERO, move |now| {
            let seeds = this.settings.cluster.clone();
            this.lock().router = Some(Router::new(seeds, now.mono));
            this.act(now.mono);
            this.tick_after(next);
        });
    }

    fn send(self: Arc<Self>, commands: Vec<Command>, then: Then) {
        scatter(self, commands, then);
    }

    fn engines(&self) -> Vec<Arc<Shared>> {
        self.lock().engines.values().map(|node| node.engine.clone()).collect()
    }

    fn loop_handle(&self) -> Option<LoopHandle> {
        self.lock().started.as_ref().map(|started| started.on.clone())
    }

    fn connected_since(&self) -> Option<Instant> {
        self.lock().since
    }

    fn stop(self: Arc<Self>) {
        let was_connected = {
            let mut state = self.lock();
            state.stopped = true;
            state.phase != EngineState::Disconnected
        };
        self.engines().iter().for_each(|node| node.stop());
        if let Some(on) = self.handle().filter(|_| was_connected) {
            let this = self.clone();
            on.after(Duration::ZERO, move |_| this.lost());
        }
    }

    fn status(&self) -> EngineStatus {
        let state = self.lock();
        let (mut numbers, mut status) = (state.past, EngineStatus::default());
        status.last_error.clone_from(&state.last_error);
        let mut addresses = Vec::new();
        for node in state.engines.values() {
            let own = node.engine.status();
            numbers.add(&own);
            status.round_trip = status.round_trip.max(own.round_trip);
            addresses.extend(own.address);
            // That of a node that is away says more.
            if own.last_error.is_some() && (status.last_error.is_none() || own.state == EngineState::Disconnected) {
                status.last_error = own.last_error;
            }
        }
        // With the loop, all connections have ended.
        if !addresses.is_empty() {
            status.state = state.phase;
            status.address = Some(addresses.join(", "));
        }
        (status.commands, status.dropped_hints) = (numbers.commands, numbers.dropped_hints);
        status.reconnections = numbers.reconnections;
        status
    }
}

impl Route for Cluster {
    fn prefix(&self) -> &str {
        &self.settings.prefix
    }

    /// Returns the node that has a slot; without a slot, any.
    fn node_of(&self, slot: Option<u16>) -> Option<Place> {
        let state = self.lock();
        match slot {
            Some(slot) => state.router.as_ref()?.node(slot).cloned(),
            None => state.engines.iter().find(|(_, node)| node.engine.is_connected()).map(|(place, _)| place.clone()),
        }
    }

    fn engine(&self, place: &Place) -> Option<Arc<Shared>> {
        self.lock().engines.get(place).map(|node| node.engine.clone())
    }

    /// A node has said that another one has a slot.
    fn moved(self: Arc<Self>, slot: u16, place: Place) {
        self.tell(move |router, now| router.moved(slot, &place, now));
    }

    /// A node has said that another one gets a slot.
    fn expect(self: Arc<Self>, place: Place) {
        self.tell(move |router, now| router.expect(&place, now));
    }

    /// The table may be outdated.
    fn refresh(self: Arc<Self>) {
        // Many callers may say so in one turn.
        if self.is_refreshing.swap(true, Relaxed) {
            return;
        }
        let this = self.clone();
        self.tell(move |router, now| {
            router.refresh(now);
            this.is_refreshing.store(false, Relaxed);
        });
    }

    /// Returns why there is no connection to the node of a key.
    fn reason(&self) -> String {
        match self.status().last_error {
            _ if self.lock().stopped => "it was stopped".to_owned(),
            Some(error) => format!("not connected: {error}"),
            None => "no node has the slot of the key".to_owned(),
        }
    }
}

/// The owner of a node's engine.
struct NodeEvents {
    cluster: Arc<Cluster>,
    place: Place,
    number: u64,
}

impl NodeEvents {
    /// Tells the router, unless the node was left.
    fn tell(&self, what: fn(&mut Router, &Place, Instant)) {
        let Some(on) = self.cluster.handle() else { return };
        let (place, number, cluster) = (self.place.clone(), self.number, self.cluster.clone());
        on.after(Duration::ZERO, move |now| {
            let is_current = cluster.lock().engines.get(&place).is_some_and(|node| node.number == number);
            if is_current {
                cluster.change(now.mono, |router, now| what(router, &place, now));
            }
        });
    }
}

impl EngineEvents for NodeEvents {
    fn connected(&self, _: &Engine, done: Box<dyn FnOnce() + Send>) {
        // What is registered again is the cluster's matter.
        done();
        self.tell(Router::connected);
    }

    fn message(&self, channel: &[u8], payload: &[u8]) {
        let started = self.cluster.lock().started.clone();
        if let Some(started) = started {
            started.events.message(channel, payload);
        }
    }

    fn lost(&self) {
        self.tell(Router::lost);
    }
}
