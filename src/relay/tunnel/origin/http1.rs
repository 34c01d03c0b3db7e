//! The carrier's protocol HTTP/1.1: a connection to the proxy, on which this side is the server, of one request at a
//! time.
//!
//! ```text
//!   Io ◀══ Pump ══▶ Input, Output ◀──▶ Exchange ──▶ adopt_pipes, on this loop
//!                   between two of them: OPTIONS * ──▶ 204, for the proxy to see that this side is there
//! ```
//! A request that the proxy gives up, a truncated response and an upgrade use the connection up, since HTTP/1.1 has no
//! streams. Then the carrier's owner opens another one, for an upgrade beside this one.

use std::{
    task,
    time::{Duration, Instant},
};

use bytes::Bytes;
use uncork::{
    EventMask, Io, PeerAddr, Rx, Tx,
    h1::{HeadScanner, HeadersRef, Misbehaved, field_slots, parse_request},
};

use super::{
    auth_alpn::{AuthAlpn, Verdict},
    error::TunnelError,
    http1_exchange::Exchange,
    protocol::{Liveness, Protocol, Timeouts},
    stream::{Served, client_of},
};
use crate::relay::tunnel::wakes::Wakes;
use crate::relay::tunnel::{
    address::NamedNodes,
    http1::{HEAD, Input, OWN_HOST, Output, Source},
    pump::{Codec, Pump, Step},
};

/// Shortest interval after which silence counts. The proxy asks whether this side is there, this side cannot ask.
const LEAST_INTERVAL: Duration = Duration::from_secs(30);

const PONG: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

pub(super) struct Http1 {
    pump: Pump,
    inner: Inner,
}

struct Inner {
    served: Served,
    wakes: Wakes,
    waker: task::Waker,
    input: Input,
    output: Output,
    scan: HeadScanner,
    exchange: Option<Exchange>,
    /// A request was served.
    has_served: bool,
    liveness: Liveness,
    auth: AuthAlpn,
    error: Option<TunnelError>,
}

impl Http1 {
    /// `hello`: the response to the proxy's question for the credential, if ALPN has selected the protocol.
    pub(super) fn new(served: Served, timeouts: Timeouts, hello: Option<Bytes>, now: Instant) -> Self {
        let wakes = Wakes::new();
        let timeouts = Timeouts { ping_interval: timeouts.ping_interval.max(LEAST_INTERVAL), ..timeouts };
        let inner = Inner {
            served,
            waker: wakes.waker(0),
            input: Input::new(),
            output: Output::default(),
            scan: HeadScanner::default(),
            exchange: None,
            has_served: false,
            liveness: Liveness::new(timeouts, now),
            auth: AuthAlpn::new(hello, now + timeouts.connect_timeout),
            error: None,
            wakes,
        };
        Self { pump: Pump::new(&inner.wakes), inner }
    }
}

impl Protocol for Http1 {
    fn waker(&self) -> task::Waker {
        self.inner.waker.clone()
    }

    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        let Self { pump, inner } = self;
        inner.liveness.now = io.now().mono;
        // While a request is in progress, the proxy may wait for its response.
        if !io.rx.bytes().is_empty() || inner.exchange.is_some() {
            inner.liveness.note_input();
        }
        let mask = pump.turn(io, inner);
        let due = inner.liveness.due();
        io.set_deadline(Some(inner.auth.due(inner.liveness.now).map_or(due, |at| due.min(at))));
        mask
    }

    fn is_accepted(&self) -> bool {
        self.inner.auth.is_open(self.inner.liveness.now)
    }

    fn nodes(&self) -> Option<&NamedNodes> {
        Some(self.inner.auth.nodes())
    }

    fn liveness(&self) -> &Liveness {
        &self.inner.liveness
    }

    fn drain(&mut self, now: Instant) {
        if self.inner.liveness.drain(now) {
            self.inner.waker.wake_by_ref();
        }
    }

    fn has_left_http(&self) -> bool {
        self.inner.exchange.as_ref().is_some_and(Exchange::has_switched)
    }

    fn has_served(&self) -> bool {
        self.inner.has_served
    }

    fn take_error(&mut self) -> Option<TunnelError> {
        self.inner.error.take()
    }
}

impl Inner {
    /// Begins the next request. Returns `false` if its head is not complete.
    ///
    /// # Errors
    /// Returns the rule that the head breaks.
    fn begin(&mut self) -> Result<bool, &'static str> {
        let bytes = self.input.bytes();
        let Some(end) = self.scan.find(bytes, &HEAD).map_err(Misbehaved::rule)? else { return Ok(false) };
        let head = &bytes[self.scan.skip()..end];
        let mut slots = field_slots();
        let parsed = parse_request(head, &mut slots, &HEAD).map_err(Misbehaved::rule)?;
        if parsed.method == "OPTIONS" && parsed.authority() == Some(OWN_HOST) && parsed.framing.is_empty() {
            self.output.put(PONG);
        } else {
            let path = (parsed.method == "GET" && parsed.framing.is_empty()).then(|| parsed.path());
            match self.auth.decide(path, |name| parsed.fields.get(name), self.liveness.now) {
                Verdict::OfClient => {
                    let client = client(parsed.fields).unwrap_or(self.served.peer);
                    let exchange = Exchange::begin(head, &parsed, client, &self.served, &self.waker);
                    self.exchange = Some(exchange.ok_or("the loop has ended")?);
                    self.has_served = true;
                }
                Verdict::Hello(hello) => {
                    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
                    self.output.put(format!("{head}Content-Length: {}\r\n\r\n", hello.len()).as_bytes());
                    self.output.put(&hello);
                }
                Verdict::TooEarly => return Err("the proxy has not asked for the credential"),
                Verdict::Rejected(error) => {
                    self.error = Some(error);
                    return Err("the proxy has rejected the connection");
                }
            }
        }
        self.input.consume(end);
        self.scan = HeadScanner::default();
        Ok(true)
    }

    fn broken(&mut self, reason: &'static str) -> Step {
        log::debug!(target: "uncork::relay", "connection of the tunnel aborted: {reason}");
        self.error.get_or_insert_with(|| TunnelError::Broken(reason.into()));
        self.exchange = None;
        Step::Abort
    }
}

impl Codec for Inner {
    fn read(&mut self, rx: &mut Rx<'_>) -> bool {
        self.input.fill(rx)
    }

    fn step(&mut self, woken: &mut Vec<usize>) -> Step {
        woken.clear();
        let step = self.advance();
        if self.input.must_fill() {
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
        self.input.has_room()
    }
}

impl Inner {
    /// Moves the request in progress, and begins the next one.
    fn advance(&mut self) -> Step {
        if self.liveness.is_dead() {
            self.error = Some(TunnelError::Silent);
            return Step::Abort;
        }
        if self.auth.is_late(self.liveness.now) {
            self.error = Some(TunnelError::TimedOut);
            return Step::Abort;
        }
        if self.liveness.is_drained() {
            return Step::Abort;
        }
        loop {
            if let Some(exchange) = &mut self.exchange {
                match exchange.drive(&mut self.input, &mut self.output) {
                    Err(reason) => return self.broken(reason),
                    Ok(false) => return Step::Pending,
                    Ok(true) if exchange.has_switched() => return Step::Over,
                    Ok(true) => self.exchange = None,
                }
            }
            if self.liveness.is_draining() || self.input.is_finished() {
                return Step::Over;
            }
            if self.input.is_truncated() {
                return self.broken("it was truncated");
            }
            if self.input.bytes().is_empty() || self.output.room() == 0 {
                return Step::Pending;
            }
            match self.begin() {
                Ok(true) => {}
                Ok(false) => return Step::Pending,
                Err(reason) => return self.broken(reason),
            }
        }
    }
}

/// Returns the client's address that the proxy has seen.
fn client(fields: HeadersRef<'_>) -> Option<PeerAddr> {
    client_of(fields.get_all("x-forwarded-for").last()?)
}
