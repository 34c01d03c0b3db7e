//! The carrier to an origin server of spdy-proxy, on which this side is the SPDY client.
//!
//! Faults of spdy-proxy's own proxy are not repeated. The client's host is forwarded, bodies are forwarded as they
//! come, and a client that disconnects resets its stream. A silent origin server is a 504, a disconnected one a 502.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use slab::Slab;
use uncork::{EventMask, Io, Response, Upgrade};

use super::{
    connection::{OriginConnection, Registration},
    counters::Count,
    proxied_request::Failure,
    proxied_stream::{Next, Turn},
    shared::Shared,
    spdy::Stream,
};
use crate::relay::tunnel::wakes::Wakes;
use crate::relay::tunnel::{
    pump::Step,
    spdy::{Code, Event, Fault, OpenError, Role, Session, SessionPump, User},
};

/// The response of spdy-proxy, byte for byte.
const GREETING: &[u8] = b"HTTP/1.1 200 Connection Established\r\nContent-Length: 12\r\n\r\nHello from P";

/// The key with which new requests wake the connection.
const REQUESTS: usize = usize::MAX;

/// The carrier.
pub(super) struct Legacy {
    pump: SessionPump,
    inner: Inner,
}

struct Inner {
    shared: Arc<Shared>,
    origin: Arc<OriginConnection>,
    wakes: Wakes,
    session: Session,
    streams: Slab<Stream>,
    /// The stream of each stream number.
    keys: HashMap<u32, usize>,
    /// Streams that wait for their credential's rate.
    slowed: Vec<usize>,
    clocks: Clocks,
    now: Instant,
}

/// The clocks of a connection.
struct Clocks {
    /// When the origin server last sent something.
    last_input: Instant,
    /// When the last ping was sent, if its response is missing.
    pinged: Option<Instant>,
    /// When the drain began.
    draining: Option<Instant>,
    joined: bool,
}

impl Legacy {
    /// Registers the origin server, which replaces the last one. An error is the response of a rejection.
    pub(super) fn new(shared: &Arc<Shared>, registration: Registration, now: Instant) -> Result<Self, Response> {
        let inner = Inner::new(shared, registration, now)?;
        Ok(Self { pump: SessionPump::new(&inner.wakes, GREETING), inner })
    }
}

impl Inner {
    fn new(shared: &Arc<Shared>, registration: Registration, now: Instant) -> Result<Self, Response> {
        let before: Vec<Arc<OriginConnection>> = {
            let mut table = shared.table();
            if table.connections.len() >= shared.common.config.connections {
                return Err(Response::text("too many tunnels\n").with_status(503).header("Retry-After", "60"));
            }
            if table.names.claim(&registration.patterns, registration.owner, now).is_err() {
                // Only this credential can claim its names, unless they were given to another one too.
                return Err(Response::text("another credential has these names\n").with_status(409));
            }
            table.connections.values().filter(|other| other.owner == registration.owner).cloned().collect()
        };
        before.iter().for_each(|other| other.replace());
        let wakes = Wakes::new();
        let origin = shared.open(registration, wakes.waker(REQUESTS));
        Ok(Self {
            shared: shared.clone(),
            origin,
            wakes,
            session: Session::new(Role::Client, shared.common.config.streams_per_connection),
            streams: Slab::new(),
            keys: HashMap::new(),
            slowed: Vec::new(),
            clocks: Clocks { last_input: now, pinged: None, draining: None, joined: false },
            now,
        })
    }

    /// Begins requests, as many as may be in progress.
    fn start(&mut self, left: usize) {
        while let Some(request) = self.origin.next() {
            if request.responder.cancellation.is_over() {
                continue;
            }
            let max_body = self.shared.common.config.credentials.get(self.origin.owner).map_or(0, |one| one.body);
            let entry = self.streams.vacant_entry();
            let key = entry.key();
            match Stream::begin(request, &mut self.session, self.wakes.waker(key), max_body) {
                Ok((id, stream)) => {
                    entry.insert(stream);
                    self.keys.insert(id, key);
                    self.drive(key, left);
                }
                Err((request, OpenError::Busy)) => return self.origin.put_back(request),
                Err((request, OpenError::Closed)) => self.shared.retry(request, self.origin.id),
                Err((request, OpenError::InvalidHead)) => {
                    let upgrade = request.protocol.is_some();
                    request.responder.fail(if upgrade { Failure::NoUpgrade } else { Failure::Lost });
                }
            }
        }
    }

    fn drive(&mut self, key: usize, left: usize) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let mut turn = Turn::new(self.now, left);
        let next = stream.drive(&mut self.session, &mut turn);
        let moved = turn.request_bytes + turn.response_bytes;
        if moved > 0 {
            self.shared.count_bytes(&self.origin, &turn);
            self.shared.rates[self.origin.owner].moved(moved, self.now, self.origin.id);
        }
        self.goes_on(key, next);
    }

    fn goes_on(&mut self, key: usize, next: Next) {
        match next {
            Next::Pending => {}
            Next::Slowed if self.slowed.contains(&key) => {}
            Next::Slowed => self.slowed.push(key),
            Next::Complete => drop(self.remove(key)),
            Next::Over | Next::Truncated => {
                if next == Next::Truncated {
                    self.shared.common.counters.add(Count::Truncated);
                }
                if let Some(stream) = self.remove(key) {
                    self.session.reset(stream.id, Code::CANCEL);
                }
            }
            Next::RejectedUnread => {
                if let Some(request) = self.remove(key).and_then(Stream::into_request) {
                    self.shared.retry(request, self.origin.id);
                }
            }
        }
    }

    fn remove(&mut self, key: usize) -> Option<Stream> {
        let stream = self.streams.try_remove(key)?;
        self.keys.remove(&stream.id);
        Some(stream)
    }

    /// Returns how many bytes may be moved now. A call counts as a claim: a connection that had bytes before lets this
    /// one go first.
    fn left(&self) -> usize {
        self.shared.rates[self.origin.owner].left(self.now, self.origin.id)
    }

    /// Takes no more requests. Those in progress go on.
    fn drain(&mut self) {
        if self.clocks.draining.is_none() {
            self.clocks.draining = Some(self.now);
            self.session.close();
            self.shared.close(&self.origin, self.now);
        }
    }

    /// Handles the end of the connection: each stream gets the error.
    fn end(&mut self) {
        self.drain();
        self.keys.clear();
        for mut stream in self.streams.drain() {
            if stream.was_reset(false) == Next::Truncated {
                self.shared.common.counters.add(Count::Truncated);
            }
        }
    }

    fn is_dead(&mut self) -> bool {
        let config = &self.shared.common.config;
        let since = |at: Option<Instant>, timeout: Duration| at.is_some_and(|at| self.now >= at + timeout);
        let silent = since(Some(self.clocks.last_input), config.ping_interval * 2);
        if silent {
            self.shared.common.counters.add(Count::Silent);
            log::debug!(target: "uncork::relay", "tunnel {}: the origin server is silent and counts as dead", self.origin.id);
        }
        silent || since(self.clocks.draining, config.drain_timeout)
    }

    /// Pings a silent origin server. Returns when the next clock runs out.
    fn due(&mut self) -> Instant {
        let every = self.shared.common.config.ping_interval;
        if self.clocks.pinged.is_none() && self.now >= self.clocks.last_input + every {
            self.session.ping();
            self.clocks.pinged = Some(self.now);
            self.wakes.waker(REQUESTS).wake();
        }
        let silence = self.clocks.last_input + if self.clocks.pinged.is_some() { every * 2 } else { every };
        let drained = self.clocks.draining.map_or(silence, |at| at + self.shared.common.config.drain_timeout);
        let rate = if self.slowed.is_empty() {
            None
        } else {
            self.shared.rates[self.origin.owner].wait(self.now, self.origin.id)
        };
        silence.min(drained).min(rate.unwrap_or(silence))
    }
}

impl User for Inner {
    fn session(&self) -> &Session {
        &self.session
    }

    fn session_mut(&mut self) -> &mut Session {
        &mut self.session
    }

    fn on_input(&mut self) {
        self.clocks.last_input = self.now;
    }

    fn on_event(&mut self, event: Event) {
        let found = |keys: &HashMap<u32, usize>, id: u32| keys.get(&id).copied();
        match event {
            Event::Replied { stream, head, end } => {
                let key = found(&self.keys, stream);
                let Some((key, it)) = key.and_then(|key| Some((key, self.streams.get_mut(key)?))) else { return };
                let next = it.replied(&head, end);
                self.goes_on(key, next);
            }
            Event::Data { stream, bytes, end } => {
                let key = found(&self.keys, stream);
                match key.and_then(|key| Some((key, self.streams.get_mut(key)?))) {
                    Some((key, it)) => {
                        let unwanted = it.received(bytes, end);
                        self.session.release(stream, unwanted);
                        let left = self.left();
                        self.drive(key, left);
                    }
                    None => self.session.release(stream, bytes.len()),
                }
            }
            Event::Writable { stream } => {
                if let Some(key) = found(&self.keys, stream) {
                    let left = self.left();
                    self.drive(key, left);
                }
            }
            Event::Reset { stream, code } => {
                let key = found(&self.keys, stream);
                let Some((key, it)) = key.and_then(|key| Some((key, self.streams.get_mut(key)?))) else { return };
                let next = it.was_reset(code == Code::REFUSED_STREAM);
                self.goes_on(key, next);
            }
            Event::GoAway => self.drain(),
            Event::Pong => {
                if let Some(at) = self.clocks.pinged.take() {
                    self.origin.set_round_trip(self.now.saturating_duration_since(at));
                }
            }
            // A client's session has no such event.
            Event::Opened { .. } => {}
        }
    }

    fn step(&mut self, keys: &mut Vec<usize>) -> Step {
        if self.is_dead() {
            return Step::Abort;
        }
        if self.origin.is_replaced() {
            self.end();
            return Step::Over;
        }
        let left = self.left();
        if left > 0 {
            keys.append(&mut self.slowed);
        }
        for key in keys.drain(..).filter(|key| *key != REQUESTS) {
            self.drive(key, left);
        }
        self.start(left);
        // All requests in progress are done.
        if self.clocks.draining.is_some() && self.streams.is_empty() { Step::Over } else { Step::Pending }
    }

    fn ended(&mut self, fault: Option<Fault>) {
        if let Some(Fault { rule }) = fault {
            log::debug!(target: "uncork::relay", "tunnel {}: {rule}", self.origin.id);
        }
        self.end();
    }
}

impl Upgrade for Legacy {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        let Self { pump, inner } = self;
        inner.now = io.now().mono;
        if !std::mem::replace(&mut inner.clocks.joined, true) {
            inner.clocks.last_input = inner.now;
            inner.shared.join(&inner.origin);
        }
        if io.events().is_stopping() {
            inner.drain();
        }
        let mask = pump.turn(io, inner);
        io.set_deadline(Some(inner.due()));
        mask
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // This covers every end, also that of a loop that stops.
        self.drain();
        self.shared.remove(&self.origin);
    }
}
