//! The connection for commands: made, used, lost, and made again.
//!
//! ```text
//!   attempt ─▶ resolve ─▶ dial each address in turn ─▶ Link: handshake ─┬─────────────────────▶ connected ─▶ ready
//!      ▲          │               │                        │            └ RESP2: a second Link ─▶┘   │        │
//!      │          └───────────────┴────── failed ──────────┘                                         │        │
//!      └── after a random part of 0.1 s, 0.2 s … ◀──────────────────────────────── lost ◀────────────┴────────┘
//! ```
//! Each attempt has a generation: what an earlier one reports changes nothing.

use std::{
    collections::VecDeque,
    mem,
    sync::Arc,
    task,
    time::{Duration, Instant},
};

use uncork::{DialError, Upgrade};

use super::{
    connection::Connection,
    engine::{Engine, EngineEvents, EngineState, Kind, MessagesState, Shared, Started, State},
    handshake::{Purpose, Setup},
    link::{End, Link, Role, Turn},
    reply::Unavailable,
    route::{Address, Failure, Failures, MAX_BACKOFF, dial, resolve},
    url::Place,
};

/// The time from one PING to the next.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(5);

/// Makes a connection. Runs on the loop.
pub(super) fn attempt(shared: Arc<Shared>, started: Started, generation: u64) {
    let state = shared.lock();
    if !state.is_current(generation) {
        return;
    }
    let place = match &shared.settings.server.place {
        Place::Unknown => state.master.clone().unwrap_or(Place::Unknown),
        place => place.clone(),
    };
    drop(state);
    let on = started.on.clone();
    let mut attempt = Attempt { shared, started, generation, place: place.clone(), addresses: VecDeque::new() };
    resolve(&place, &on, move |resolved| match resolved {
        Ok(addresses) => {
            attempt.addresses = addresses;
            attempt.next();
        }
        Err(reason) => attempt.over(reason, Failure::Away, None),
    });
}

/// One attempt: the addresses that are left to try.
struct Attempt {
    shared: Arc<Shared>,
    started: Started,
    generation: u64,
    place: Place,
    addresses: VecDeque<Address>,
}

impl Attempt {
    /// Connects to the next address.
    fn next(mut self) {
        if !self.shared.lock().is_current(self.generation) {
            return;
        }
        let Some(address) = self.addresses.pop_front() else {
            let reason = format!("{} has no address", self.place);
            return self.over(reason, Failure::Away, None);
        };
        let settings = self.shared.settings.clone();
        let to = dial(&address, &self.place, &settings.server, settings.connect_timeout);
        let on = self.started.on.clone();
        on.dial(to, move |result| match result {
            Ok(dialed) => {
                let mut state = self.shared.lock();
                if !state.is_current(self.generation) {
                    return None;
                }
                state.waker = Some(dialed.waker().into());
                drop(state);
                let connection = Connection::new(Arc::new(self.setup(settings.purpose())), dialed.now().mono);
                let role = Commands { address, stage: Stage::Handshake, unused_since: None, attempt: Some(self) };
                Some(Box::new(Link::new(connection, role)) as Box<dyn Upgrade>)
            }
            Err(DialError::LoopEnded) => {
                self.shared.lock().stopped = true;
                None
            }
            Err(error) => {
                self.failed(&address, &error.to_string(), Failure::Away);
                None
            }
        });
    }

    /// This address cannot be used.
    fn failed(self, address: &Address, reason: &str, failure: Failure) {
        let reason = format!("{address}: {reason}");
        if self.addresses.is_empty() || self.is_outdated(&self.shared.lock()) {
            return self.over(reason, failure, None);
        }
        log::debug!(target: "uncork::relay", "directory: {reason}");
        self.next();
    }

    /// The attempt has failed, or its connection has ended, which has lasted for this long.
    fn over(self, reason: String, failure: Failure, lasted: Option<Duration>) {
        let shared = self.shared.clone();
        let mut state = shared.lock();
        let is_outdated = self.is_outdated(&state);
        let Self { shared: _, started, generation, .. } = self;
        state.stopped |= state.stopping;
        if !state.is_current(generation) {
            return;
        }
        if is_outdated || lasted.is_some_and(|lasted| lasted >= MAX_BACKOFF) {
            state.failures = Failures::default();
        }
        let delay = state.failures.add(failure);
        let delay = if is_outdated { Duration::ZERO } else { delay };
        state.generation += 1;
        let next = state.generation;
        // It may know of another master already.
        state.ask_sentinel = true;
        let sentinel = state.sentinel_waker.clone();
        drop(state);
        if let Some(sentinel) = sentinel {
            sentinel.wake();
        }
        shared.failed(reason);
        let on = started.on.clone();
        on.after(delay, move |_| attempt(shared, started, next));
    }

    /// Returns `true` if the Sentinels have named another master since.
    fn is_outdated(&self, state: &State) -> bool {
        self.shared.settings.server.place == Place::Unknown && state.master.as_ref() != Some(&self.place)
    }

    fn setup(&self, purpose: Purpose) -> Setup {
        let settings = &self.shared.settings;
        Setup {
            purpose,
            name: settings.client_name.clone(),
            user: settings.server.user.clone(),
            password: settings.server.password.clone(),
            database: settings.database,
            channels: self.started.channels.clone(),
            handshake_timeout: settings.connect_timeout,
            command_timeout: settings.command_timeout,
            ping_interval: PING_INTERVAL,
        }
    }
}

/// The link for commands, and for messages in RESP3.
struct Commands {
    address: Address,
    stage: Stage,
    /// The server stops, and no command is in flight since then.
    unused_since: Option<Instant>,
    /// `None` after the end.
    attempt: Option<Attempt>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Handshake,
    /// For the second link, which gets the messages.
    WaitsForMessages {
        deadline: Instant,
    },
    Connected,
}

impl Commands {
    /// Connects the second link, which gets the messages in RESP2.
    fn open_messages(&self, attempt: &Attempt) {
        attempt.shared.lock().messages = MessagesState::Opening;
        let (shared, generation) = (attempt.shared.clone(), attempt.generation);
        let role = Messages { shared, generation, events: attempt.started.events.clone() };
        let setup = Arc::new(attempt.setup(Purpose::Messages));
        let settings = &attempt.shared.settings;
        let to = dial(&self.address, &attempt.place, &settings.server, settings.connect_timeout);
        attempt.started.on.dial(to, move |result| match result {
            Ok(dialed) => {
                let connection = Connection::new(setup, dialed.now().mono);
                Some(Box::new(Link::new(connection, role)) as Box<dyn Upgrade>)
            }
            Err(error) => {
                role.report(MessagesState::Failed(error.to_string()));
                None
            }
        });
    }

    /// Commands go through now.
    fn connected(&mut self, now: Instant) {
        self.stage = Stage::Connected;
        let Some(attempt) = &self.attempt else { return };
        let (shared, generation) = (attempt.shared.clone(), attempt.generation);
        let mut state = shared.lock();
        state.phase = EngineState::Connected;
        state.address = Some(self.address.to_string());
        state.connected_since = Some(now);
        state.connections += 1;
        state.logged.clear();
        drop(state);
        log::info!(target: "uncork::relay", "directory: connected to {}", self.address);
        let engine = Engine(Kind::One(shared.clone()));
        let done = move || {
            let mut state = shared.lock();
            if state.generation == generation && state.phase == EngineState::Connected {
                state.phase = EngineState::Ready;
            }
        };
        attempt.started.events.connected(&engine, Box::new(done));
    }
}

impl Role for Commands {
    fn turn(&mut self, connection: &mut Connection, now: Instant) -> Turn {
        let Some(attempt) = &self.attempt else { return Turn::default() };
        let timeout = attempt.shared.settings.command_timeout;
        let mut state = attempt.shared.lock();
        if state.stopped {
            connection.fail("it was stopped");
        } else if attempt.is_outdated(&state) {
            connection.fail("the Sentinels have named another master");
        }
        let mut turn = Turn::default();
        match self.stage {
            Stage::Handshake => {}
            Stage::WaitsForMessages { deadline } => {
                turn.deadline = Some(deadline);
                match &state.messages {
                    MessagesState::Failed(reason) => connection.fail(format!("the connection for messages: {reason}")),
                    MessagesState::Open(_) => {
                        drop(state);
                        self.connected(now);
                    }
                    _ if now >= deadline => connection.fail("the connection for messages: timed out"),
                    _ => {}
                }
            }
            Stage::Connected => {
                if let MessagesState::Failed(reason) = &state.messages {
                    connection.fail(format!("the connection for messages: {reason}"));
                }
                state.queue.set_deadlines(now + timeout);
                let unavailable = |reason: String| move |then| (then, Err(Unavailable(reason.clone())));
                let expired = state.queue.expired(now).into_iter();
                turn.done.extend(expired.map(unavailable(format!("the engine takes no commands within {timeout:?}"))));
                let dropped = state.queue.dropped().into_iter();
                turn.done.extend(dropped.map(unavailable("too many commands wait for the engine".into())));
                connection.take(&mut state.queue);
                turn.deadline = state.queue.deadline();
                if !state.stopping || !connection.is_idle() || !state.queue.is_empty() {
                    self.unused_since = None;
                } else {
                    let end = *self.unused_since.get_or_insert(now) + timeout;
                    turn.deadline = Some(end);
                    if now >= end {
                        state.stopped = true;
                        state.wakers().into_iter().for_each(task::Waker::wake);
                        connection.fail("the server has stopped");
                    }
                }
            }
        }
        turn
    }

    fn opened(&mut self, _: &mut Connection, resp3: bool, _: task::Waker, now: Instant) {
        let Some(attempt) = &self.attempt else { return };
        if resp3 || attempt.started.channels.is_empty() {
            return self.connected(now);
        }
        self.stage = Stage::WaitsForMessages { deadline: now + attempt.shared.settings.connect_timeout };
        self.open_messages(attempt);
    }

    fn message(&mut self, channel: &[u8], payload: &[u8]) {
        if let Some(attempt) = &self.attempt {
            message(&attempt.shared, &*attempt.started.events, channel, payload);
        }
    }

    fn round_trip(&mut self, time: Duration) {
        if let Some(attempt) = &self.attempt {
            attempt.shared.lock().round_trip = Some(time);
        }
    }

    fn stopping(&mut self, connection: &mut Connection, _: Instant) {
        if let Some(attempt) = &self.attempt {
            attempt.shared.lock().stopping = true;
        }
        if self.stage != Stage::Connected {
            connection.fail("the server stops");
        }
    }

    fn ended(&mut self, End { reason, is_rejected, now }: End) {
        let Some(attempt) = self.attempt.take() else { return };
        let mut state = attempt.shared.lock();
        let messages = mem::take(&mut state.messages);
        let since = state.connected_since.take();
        let (waiting, phase) = state.disconnect();
        drop(state);
        if let MessagesState::Open(waker) = messages {
            waker.wake();
        }
        waiting.into_iter().for_each(|then| then.call(Err(Unavailable(reason.clone()))));
        if phase != EngineState::Disconnected {
            attempt.started.events.lost();
        }
        let failure = match phase {
            EngineState::Connected => Failure::Lost,
            _ if is_rejected => Failure::Rejected,
            _ => Failure::Away,
        };
        match self.stage {
            Stage::Handshake => {
                attempt.failed(&self.address, &reason, failure);
            }
            _ => {
                let lasted = since.zip(now).map(|(since, now)| now.saturating_duration_since(since));
                attempt.over(format!("{}: {reason}", self.address), failure, lasted);
            }
        }
    }
}

/// The link for messages in RESP2. It ends with the link for commands.
struct Messages {
    shared: Arc<Shared>,
    generation: u64,
    events: Arc<dyn EngineEvents>,
}

impl Messages {
    /// Tells the link for commands.
    fn report(&self, messages: MessagesState) {
        let mut state = self.shared.lock();
        if state.generation != self.generation || matches!(state.messages, MessagesState::None) {
            return;
        }
        state.messages = messages;
        let waker = state.waker.clone();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Role for Messages {
    fn turn(&mut self, connection: &mut Connection, _: Instant) -> Turn {
        let state = self.shared.lock();
        if !state.is_current(self.generation) || matches!(state.messages, MessagesState::None) {
            connection.fail("the connection for commands has ended");
        }
        Turn::default()
    }

    fn opened(&mut self, _: &mut Connection, _: bool, waker: task::Waker, _: Instant) {
        self.report(MessagesState::Open(waker));
    }

    fn message(&mut self, channel: &[u8], payload: &[u8]) {
        message(&self.shared, &*self.events, channel, payload);
    }

    fn stopping(&mut self, _: &mut Connection, _: Instant) {}

    fn ended(&mut self, end: End) {
        self.report(MessagesState::Failed(end.reason));
    }
}

fn message(shared: &Shared, events: &dyn EngineEvents, channel: &[u8], payload: &[u8]) {
    let prefix = shared.settings.prefix.as_bytes();
    if let Some(name) = channel.strip_prefix(prefix) {
        events.message(name, payload);
    }
}
