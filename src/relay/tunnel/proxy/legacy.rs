//! Origins of 2014: their handshake, and the carrier on which this side is SPDY's client.
//!
//! ```text
//!   PUT / HTTP/1.1                                 HTTP/1.1 200 Connection Established
//!   Host: localhost:1444        over TLS, from     Content-Length: 12
//!   Content-Length: 12          an address that
//!                               is listed          Hello from P
//!   Hello from C              ────────────────▶    and SPDY/3.1, whose client is who has answered
//! ```
//! They have no credential: who may come from one of the addresses is believed. So there is one
//! [`Credential::allow_legacy_unauthenticated`](super::Credential::allow_legacy_unauthenticated) at the most, which has to
//! be asked for by that name, and its names are those it was given there. One such origin is connected at a time: a new
//! one takes the place of the last.
//!
//! What theirs gets wrong is not done here: the client's host is passed on, bodies go on as they come, silence is told
//! to the client as 504, an origin that is lost as 502, and a client that leaves resets its stream.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use slab::Slab;
use uncork::{Action, Consumed, EventMask, Io, Request, Response, Switch, Upgrade, Upload, h1::Headers};

use super::{
    Shared,
    counters::Count,
    link::{Link, Opening},
    proxied_request::Failure,
    proxied_stream::{Next, Turn},
    spdy::Stream,
};
use crate::relay::tunnel::{
    pump::Step,
    spdy::{Code, Event, Fault, NotOpened, Role, Session, SessionPump, User},
    wakes::Wakes,
};

/// What the original answers, to the letter.
const GREETING: &[u8] = b"HTTP/1.1 200 Connection Established\r\nContent-Length: 12\r\n\r\nHello from P";

/// Bytes of a handshake's body. It says `Hello from C`, and is not looked at.
const HELLO: usize = 1024;

/// The key under which new orders wake the connection.
const ORDERS: usize = usize::MAX;

/// Lets an origin of 2014 in, or says why not. `None`: it is none.
pub(super) fn welcome(shared: &Arc<Shared>, req: &mut Request<'_>) -> Option<Action> {
    let owner = shared.config.legacy()?;
    let speaks = req.method() == "PUT" && req.path() == "/" && req.query().is_none();
    let asks = req.header("upgrade").is_some() || req.header("authorization").is_some();
    if !speaks || asks {
        return None;
    }
    let denied = if req.tls_info().is_none() && !shared.config.trusted.has(req.peer()) {
        Some((403, "a tunnel is open to TLS only\n"))
    } else if !shared.config.is_legacy_source(req.peer()) {
        Some((403, "a tunnel without a credential is not open to this address\n"))
    } else if req.content_length().is_some_and(|n| n > HELLO as u64) {
        Some((413, "a handshake is shorter than that\n"))
    } else {
        None
    };
    if let Some((status, words)) = denied {
        shared.counters.add(Count::Denied);
        log::info!(target: "uncork::relay", "{}: no tunnel for SPDY: {status}", req.peer());
        return Some(Response::text(words).with_status(status).into());
    }
    let patterns = shared.config.credentials.get(owner)?.hosts.clone();
    let opening = Opening { owner, patterns, peer: *req.peer(), since: req.now().wall };
    Some(Action::Receive(Box::new(Hello { shared: shared.clone(), opening, now: req.now().mono, left: HELLO })))
}

/// Takes the handshake's body, and lets it be.
struct Hello {
    shared: Arc<Shared>,
    opening: Opening,
    now: Instant,
    left: usize,
}

impl Upload for Hello {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        match self.left.checked_sub(chunk.len()) {
            Some(left) => {
                self.left = left;
                Consumed::All
            }
            None => Consumed::Stop(Response::new(413).into()),
        }
    }

    fn end(self: Box<Self>, _: &Headers) -> Action {
        let Self { shared, opening, now, .. } = *self;
        match Inner::new(&shared, opening, now) {
            Ok(inner) => {
                Switch::without_response(Legacy { pump: SessionPump::new(&inner.wakes, GREETING), inner }).into()
            }
            Err(response) => response.into(),
        }
    }
}

/// The carrier.
struct Legacy {
    pump: SessionPump,
    inner: Inner,
}

struct Inner {
    shared: Arc<Shared>,
    link: Arc<Link>,
    wakes: Wakes,
    session: Session,
    streams: Slab<Stream>,
    /// Where the streams of these numbers are.
    keys: HashMap<u32, usize>,
    /// Streams that wait for their credential's rate.
    slowed: Vec<usize>,
    life: Life,
    now: Instant,
}

/// The clocks.
struct Life {
    /// When the origin was last heard of.
    heard: Instant,
    /// When it was pinged, if the answer is still out.
    pinged: Option<Instant>,
    /// Since when nothing new is begun.
    leaving: Option<Instant>,
    joined: bool,
}

impl Inner {
    fn new(shared: &Arc<Shared>, opening: Opening, now: Instant) -> Result<Self, Response> {
        let before: Vec<Arc<Link>> = {
            let mut table = shared.table();
            if table.links.len() >= shared.config.connections {
                return Err(Response::text("there are too many tunnels\n")
                    .with_status(503)
                    .header("Retry-After", "60"));
            }
            if table.names.claim(&opening.patterns, opening.owner, now).is_err() {
                // Its names are nobody else's to claim, unless somebody else was given them too.
                return Err(Response::text("these names are somebody else's\n").with_status(409));
            }
            table.links.values().filter(|link| link.owner == opening.owner).cloned().collect()
        };
        before.iter().for_each(|link| link.oust());
        let wakes = Wakes::new();
        let link = shared.open(opening, wakes.waker(ORDERS));
        Ok(Self {
            shared: shared.clone(),
            link,
            wakes,
            session: Session::new(Role::Client, shared.config.streams_per_connection),
            streams: Slab::new(),
            keys: HashMap::new(),
            slowed: Vec::new(),
            life: Life { heard: now, pinged: None, leaving: None, joined: false },
            now,
        })
    }

    /// Begins orders, as many as there may be.
    fn start(&mut self, left: usize) {
        while let Some(order) = self.link.next() {
            if order.reply.call.is_over() {
                continue;
            }
            let most = self.shared.config.credentials.get(self.link.owner).map_or(0, |one| one.body);
            let entry = self.streams.vacant_entry();
            let key = entry.key();
            match Stream::begin(order, &mut self.session, self.wakes.waker(key), most) {
                Ok((id, stream)) => {
                    entry.insert(stream);
                    self.keys.insert(id, key);
                    self.drive(key, left);
                }
                Err((order, NotOpened::Busy)) => return self.link.put_back(order),
                Err((order, NotOpened::Gone)) => order.again(self.link.id),
                Err((order, NotOpened::Unfit)) => {
                    let upgrade = order.protocol.is_some();
                    order.reply.fail(if upgrade { Failure::NoUpgrade } else { Failure::Lost });
                }
            }
        }
    }

    fn drive(&mut self, key: usize, left: usize) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let mut turn = Turn::new(self.now, left);
        let next = stream.drive(&mut self.session, &mut turn);
        let Turn { up, down, .. } = turn;
        if up + down > 0 {
            self.link.moved_up(up);
            self.link.moved_down(down);
            self.shared.counters.add_many(Count::Up, up as u64);
            self.shared.counters.add_many(Count::Down, down as u64);
            self.shared.rates[self.link.owner].moved(up + down, self.now, self.link.id);
        }
        self.goes_on(key, next);
    }

    fn goes_on(&mut self, key: usize, next: Next) {
        match next {
            Next::Waits => {}
            Next::Slowed if self.slowed.contains(&key) => {}
            Next::Slowed => self.slowed.push(key),
            Next::Complete => drop(self.remove(key)),
            Next::Over | Next::Truncated => {
                if next == Next::Truncated {
                    self.shared.counters.add(Count::Truncated);
                }
                if let Some(stream) = self.remove(key) {
                    self.session.reset(stream.id, Code::CANCEL);
                }
            }
            Next::Refused => {
                if let Some(order) = self.remove(key).and_then(Stream::into_request) {
                    order.again(self.link.id);
                }
            }
        }
    }

    fn remove(&mut self, key: usize) -> Option<Stream> {
        let stream = self.streams.try_remove(key)?;
        self.keys.remove(&stream.id);
        Some(stream)
    }

    /// Returns how many bytes may be moved now. A call counts as a claim: a link that had bytes before lets this one go first.
    fn left(&self) -> usize {
        self.shared.rates[self.link.owner].left(self.now, self.link.id)
    }

    /// Takes no more requests. Those under way go on.
    fn leave(&mut self) {
        if self.life.leaving.is_none() {
            self.life.leaving = Some(self.now);
            self.session.close();
            self.shared.close(&self.link, self.now);
        }
    }

    /// The connection is over: each stream is told so.
    fn end(&mut self) {
        self.leave();
        self.keys.clear();
        for mut stream in self.streams.drain() {
            if stream.was_reset(false) == Next::Truncated {
                self.shared.counters.add(Count::Truncated);
            }
        }
    }

    // Time.

    fn is_dead(&mut self) -> bool {
        let config = &self.shared.config;
        let since = |at: Option<Instant>, most: Duration| at.is_some_and(|at| self.now >= at + most);
        let silent = since(Some(self.life.heard), config.ping_interval * 2);
        if silent {
            self.shared.counters.add(Count::Silent);
            log::debug!(target: "uncork::relay", "tunnel {}: silent, and taken for dead", self.link.id);
        }
        silent || since(self.life.leaving, config.drain_timeout)
    }

    /// Pings it if it is silent; when to look again.
    fn due(&mut self) -> Instant {
        let every = self.shared.config.ping_interval;
        if self.life.pinged.is_none() && self.now >= self.life.heard + every {
            self.session.ping();
            self.life.pinged = Some(self.now);
            self.wakes.waker(ORDERS).wake();
        }
        let silence = self.life.heard + if self.life.pinged.is_some() { every * 2 } else { every };
        let drained = self.life.leaving.map_or(silence, |at| at + self.shared.config.drain_timeout);
        let rate =
            if self.slowed.is_empty() { None } else { self.shared.rates[self.link.owner].wait(self.now, self.link.id) };
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
        self.life.heard = self.now;
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
            Event::Room { stream } => {
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
            Event::GoAway => self.leave(),
            Event::Pong => {
                if let Some(at) = self.life.pinged.take() {
                    self.link.set_round_trip(self.now.saturating_duration_since(at));
                }
            }
            // A client's session hears of none.
            Event::Opened { .. } => {}
        }
    }

    fn step(&mut self, keys: &mut Vec<usize>) -> Step {
        if self.is_dead() {
            return Step::Abort;
        }
        if self.link.is_ousted() {
            self.end();
            return Step::Over;
        }
        let left = self.left();
        if left > 0 {
            keys.append(&mut self.slowed);
        }
        for key in keys.drain(..).filter(|key| *key != ORDERS) {
            self.drive(key, left);
        }
        self.start(left);
        // Everything under way is done.
        if self.life.leaving.is_some() && self.streams.is_empty() { Step::Over } else { Step::Waits }
    }

    fn ended(&mut self, fault: Option<Fault>) {
        if let Some(Fault { rule }) = fault {
            log::debug!(target: "uncork::relay", "tunnel {}: {rule}", self.link.id);
        }
        self.end();
    }
}

impl Upgrade for Legacy {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        let Self { pump, inner } = self;
        inner.now = io.now().mono;
        if !std::mem::replace(&mut inner.life.joined, true) {
            inner.life.heard = inner.now;
            inner.shared.join(&inner.link);
        }
        if io.events().is_stopping() {
            inner.leave();
        }
        let mask = pump.turn(io, inner);
        io.set_deadline(Some(inner.due()));
        mask
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // However it came to its end.
        self.leave();
        self.shared.gone(&self.link);
    }
}
