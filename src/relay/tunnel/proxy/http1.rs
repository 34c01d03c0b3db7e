//! The carrier in HTTP/1.1: the connection of an origin server, on which this side is the client, of one request at a
//! time.
//!
//! ```text
//!   OriginConnection ── requests, one after the other ──▶ Exchange ──▶ Output ══▶ Io
//!   other connections like it ── what waits there ──▶        ▲─────── ResponseReader ◀══ Input ◀══ Io
//!                                    between two of them: OPTIONS *, to find out whether the origin server is there
//! ```
//! HTTP/1.1 has no way to give up a request, or to say that one was not begun. So a client that disconnects early, an
//! error in the middle of a message, and an upgrade use the connection up; the origin server opens another one.

use std::{
    sync::Arc,
    task,
    time::{Duration, Instant},
};

use uncork::{EventMask, Io, Rx, Tx, Upgrade};

use super::{
    connection::{OriginConnection, Registration},
    counters::Count,
    http1_exchange::Exchange,
    proxied_request::ProxiedRequest,
    proxied_stream::{Next, Turn},
    shared::Shared,
};
use crate::relay::tunnel::wakes::Wakes;
use crate::relay::tunnel::{
    http1::{Input, OWN_HOST, Output, Source},
    pump::{Codec, Pump, Step},
    response::{Piece, ResponseReader},
};

/// Requests that wait for one connection, with the one in progress.
const WAITING: usize = 32;

/// A connection whose origin server is not registered yet.
pub(super) struct Parts {
    pub(super) pump: Pump,
    /// Has the connection called again.
    pub(super) waker: task::Waker,
    pub(super) reader: ResponseReader<Input>,
    pub(super) output: Output,
}

impl Parts {
    pub(super) fn new() -> Self {
        let wakes = Wakes::new();
        let reader = ResponseReader::new(Input::new(), "".into());
        Self { pump: Pump::new(&wakes), waker: wakes.waker(0), reader, output: Output::default() }
    }
}

pub(super) struct Http1 {
    pump: Pump,
    inner: Inner,
}

struct Inner {
    shared: Arc<Shared>,
    origin: Arc<OriginConnection>,
    waker: task::Waker,
    reader: ResponseReader<Input>,
    output: Output,
    exchange: Option<Exchange>,
    /// The exchange waits for its credential's rate.
    slowed: bool,
    clocks: Clocks,
    now: Instant,
}

/// The clocks of a connection.
struct Clocks {
    /// When the last request, or the last ping, was complete.
    idle_since: Instant,
    /// When the ping was sent whose response is missing.
    pinged: Option<Instant>,
    /// When the drain began.
    draining: Option<Instant>,
    /// The connection takes requests.
    joined: bool,
}

impl Http1 {
    pub(super) fn new(shared: &Arc<Shared>, registration: Registration, now: Instant) -> Self {
        Self::of(Parts::new(), shared, registration, now)
    }

    /// Registers the origin server of a connection that is in use already.
    pub(super) fn of(parts: Parts, shared: &Arc<Shared>, registration: Registration, now: Instant) -> Self {
        let Parts { pump, waker, reader, output } = parts;
        let origin = shared.open(registration, waker.clone());
        origin.permits.set_limit(WAITING.min(shared.common.config.streams_per_connection));
        let inner = Inner {
            shared: shared.clone(),
            origin,
            waker,
            reader,
            output,
            exchange: None,
            slowed: false,
            clocks: Clocks { idle_since: now, pinged: None, draining: None, joined: false },
            now,
        };
        Self { pump, inner }
    }
}

impl Upgrade for Http1 {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        let Self { pump, inner } = self;
        inner.now = io.now().mono;
        if !std::mem::replace(&mut inner.clocks.joined, true) {
            inner.clocks.idle_since = inner.now;
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

impl Codec for Inner {
    fn read(&mut self, rx: &mut Rx<'_>) -> bool {
        self.reader.source().fill(rx)
    }

    fn step(&mut self, woken: &mut Vec<usize>) -> Step {
        woken.clear();
        let step = self.advance();
        if self.reader.source().must_fill() {
            self.waker.wake_by_ref();
        }
        step
    }

    fn write(&mut self, tx: &mut Tx<'_>) -> bool {
        self.output.drain(tx)
    }

    fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    fn wants_input(&self, _: &Rx<'_>) -> bool {
        self.reader.source_ref().has_room()
    }
}

impl Inner {
    /// Moves the request in progress, and begins the next one.
    fn advance(&mut self) -> Step {
        if self.is_dead() {
            return Step::Abort;
        }
        #[cfg(feature = "nodes")]
        if self.origin.is_shed() {
            self.drain();
        }
        loop {
            match self.drive() {
                Some(Next::Pending | Next::Slowed) => return Step::Pending,
                Some(Next::Complete) => {}
                Some(next @ (Next::Over | Next::Truncated | Next::RejectedUnread)) => {
                    if next == Next::Truncated {
                        self.shared.common.counters.add(Count::Truncated);
                    }
                    self.drain();
                    return Step::Abort;
                }
                None if self.clocks.pinged.is_some() && !self.poll_pong() => return Step::Pending,
                None => {}
            }
            let source = self.reader.source();
            if !source.bytes().is_empty() || source.is_finished() || source.is_truncated() {
                // It has closed the connection, or has sent what nothing asked for.
                self.drain();
            }
            if self.clocks.draining.is_some() {
                return Step::Over;
            }
            match self.next_request() {
                Some(request) => self.begin(request),
                None => {
                    self.ping_if_due();
                    return Step::Pending;
                }
            }
        }
    }

    /// Returns the next request that waits here, or at a connection like this one.
    fn next_request(&self) -> Option<Box<ProxiedRequest>> {
        loop {
            let request = self.origin.next().or_else(|| self.shared.take_over(&self.origin))?;
            if !request.responder.cancellation.is_over() {
                return Some(request);
            }
        }
    }

    fn begin(&mut self, request: Box<ProxiedRequest>) {
        let max_body = self.shared.common.config.credentials.get(self.origin.owner).map_or(0, |one| one.body);
        self.exchange = Exchange::begin(request, &mut self.reader, &mut self.output, &self.waker, max_body);
    }

    /// Moves what can be moved. Returns `None` if no request is in progress.
    fn drive(&mut self) -> Option<Next> {
        let exchange = self.exchange.as_mut()?;
        let rate = &self.shared.rates[self.origin.owner];
        let mut turn = Turn::new(self.now, rate.left(self.now, self.origin.id));
        let next = exchange.drive(&mut self.reader, &mut self.output, &mut turn);
        let moved = turn.request_bytes + turn.response_bytes;
        if moved > 0 {
            self.shared.count_bytes(&self.origin, &turn);
            rate.moved(moved, self.now, self.origin.id);
        }
        let ends = exchange.ends_connection();
        self.slowed = next == Next::Slowed;
        if !matches!(next, Next::Pending | Next::Slowed) {
            self.exchange = None;
            self.clocks.idle_since = self.now;
        }
        if ends {
            // Requests that wait go elsewhere.
            self.drain();
        }
        Some(next)
    }

    /// Takes no more requests. The one in progress goes on.
    fn drain(&mut self) {
        if self.clocks.draining.is_none() {
            self.clocks.draining = Some(self.now);
            self.shared.close(&self.origin, self.now);
            self.waker.wake_by_ref();
        }
    }

    fn ping_if_due(&mut self) {
        if self.now < self.clocks.idle_since + self.shared.common.config.ping_interval {
            return;
        }
        self.output.put(format!("OPTIONS * HTTP/1.1\r\nHost: {OWN_HOST}\r\n\r\n").as_bytes());
        self.reader.begin("OPTIONS".into());
        self.clocks.pinged = Some(self.now);
    }

    /// Reads the response to a ping. Returns `false` if it is not complete. Drains if no request may follow it.
    fn poll_pong(&mut self) -> bool {
        loop {
            let is_over = match self.reader.next() {
                Piece::Pending => return false,
                Piece::Broken(_) => {
                    self.drain();
                    return true;
                }
                Piece::Informational(..) => false,
                Piece::Head(head) => {
                    if !head.keep_alive {
                        self.drain();
                    }
                    head.whole
                }
                Piece::Data { bytes, last } => {
                    let n = bytes.len();
                    self.reader.consume(n);
                    last
                }
                Piece::End(_) => true,
            };
            if is_over {
                let at = self.clocks.pinged.take().unwrap_or(self.now);
                self.origin.set_round_trip(self.now.saturating_duration_since(at));
                self.clocks.idle_since = self.now;
                return true;
            }
        }
    }

    /// Returns `true` if the silence or the drain has lasted too long.
    fn is_dead(&self) -> bool {
        let config = &self.shared.common.config;
        let since = |at: Option<Instant>, timeout: Duration| at.is_some_and(|at| self.now >= at + timeout);
        let silent = since(self.clocks.pinged, config.ping_interval);
        if silent {
            self.shared.common.counters.add(Count::Silent);
            log::debug!(target: "uncork::relay", "tunnel {}: the origin server is silent and counts as dead", self.origin.id);
        }
        silent || (since(self.clocks.draining, config.drain_timeout) && !self.has_left_http())
    }

    /// An upgrade lasts as long as its two sides want, unless this server stops.
    fn has_left_http(&self) -> bool {
        self.exchange.as_ref().is_some_and(Exchange::has_switched)
    }

    /// Returns when the next clock runs out.
    fn due(&self) -> Instant {
        let config = &self.shared.common.config;
        let silence = match self.clocks.pinged {
            Some(at) => at + config.ping_interval,
            None if self.exchange.is_some() => self.now + config.ping_interval,
            None => self.clocks.idle_since + config.ping_interval,
        };
        let drained = self.clocks.draining.filter(|_| !self.has_left_http());
        let drained = drained.map_or(silence, |at| at + config.drain_timeout);
        let rate = self.slowed.then(|| self.shared.rates[self.origin.owner].wait(self.now, self.origin.id)).flatten();
        silence.min(drained).min(rate.unwrap_or(silence))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // This covers every end, also that of a loop that stops.
        self.drain();
        self.shared.remove(&self.origin);
    }
}
