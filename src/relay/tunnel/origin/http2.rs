//! The carrier's protocol HTTP/2: a connection to the proxy, on which this side is the server.
//!
//! ```text
//!   Io ◀══ Pump ══▶ Link: h2::Connection ──Event::Request──▶ Stream::begin ──▶ adopt_pipes, on this loop
//!                     woken streams ──▶ only those are driven
//!   deadline: ping after silence, suspect, dead, the drain timeout
//! ```

use std::{collections::BTreeMap, io::IoSlice, time::Instant};

use bytes::{Buf, Bytes};
use uncork::{EventMask, Io, Rx, Tx, h1::Headers};

use super::{
    auth_alpn::{AuthAlpn, Verdict},
    error::TunnelError,
    parsed_request::Parts,
    protocol::{Liveness, Protocol, STREAMS, Timeouts},
    stream::{Served, Stream},
};
use crate::{
    h2::{connection::Event, fields::Fields, frame::ErrorCode, request::StreamRequest, settings::Side},
    relay::tunnel::{
        address::NamedNodes,
        pump::{Codec, Pump, Step},
        wakes::Wakes,
        wire::{CONNECTION, HEAD, Link, options},
    },
};

/// Bytes of one request's body that may be in flight: 2.5 MB/s over a path of 100 ms. The connection has this much for
/// each stream, or a few streams whose bodies are not read would stop all others.
const WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = STREAMS * WINDOW;

pub(super) struct Http2 {
    pump: Pump,
    inner: Inner,
}

struct Inner {
    served: Served,
    wakes: Wakes,
    link: Link,
    streams: BTreeMap<u32, Stream>,
    /// The stream of the proxy's question, and the part of the response that is not written.
    hello: Option<(u32, Bytes)>,
    /// Kept for its allocation.
    woken: Vec<u32>,
    liveness: Liveness,
    auth: AuthAlpn,
    error: Option<TunnelError>,
    /// The proxy has rejected the connection.
    is_rejected: bool,
}

impl Http2 {
    /// `hello`: the response to the proxy's question for the credential, if ALPN has selected HTTP/2.
    pub(super) fn new(served: Served, timeouts: Timeouts, hello: Option<Bytes>, now: Instant) -> Self {
        let wakes = Wakes::new();
        let inner = Inner {
            served,
            link: Link::new(&options(Side::Server, STREAMS, WINDOW, CONNECTION_WINDOW, HEAD as usize)),
            streams: BTreeMap::new(),
            hello: None,
            woken: Vec::new(),
            liveness: Liveness::new(timeouts, now),
            auth: AuthAlpn::new(hello, now + timeouts.connect_timeout),
            error: None,
            is_rejected: false,
            wakes,
        };
        Self { pump: Pump::new(&inner.wakes), inner }
    }
}

impl Protocol for Http2 {
    fn waker(&self) -> std::task::Waker {
        self.inner.wakes.waker(CONNECTION)
    }

    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        let Self { pump, inner } = self;
        inner.liveness.now = io.now().mono;
        inner.link.connection.set_now(inner.liveness.now);
        if !io.rx.bytes().is_empty() {
            inner.liveness.note_input();
        }
        if inner.liveness.begin_ping() {
            inner.link.rest();
            inner.link.connection.ping();
        }
        let mask = pump.turn(io, inner);
        io.set_deadline(Some(inner.due()));
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
        let inner = &mut self.inner;
        if inner.liveness.drain(now) {
            inner.link.connection.shut_down();
            inner.wakes.waker(CONNECTION).wake();
        }
    }

    fn take_error(&mut self) -> Option<TunnelError> {
        self.inner.error.take()
    }
}

impl Codec for Inner {
    /// Takes frames, and begins requests.
    fn read(&mut self, rx: &mut Rx<'_>) -> bool {
        let mut moved = false;
        while !self.is_rejected {
            let (news, event) = self.link.read(rx);
            moved |= news;
            let Event::Request { stream, ended } = event else { break };
            let fields = self.link.connection.take_fields();
            self.begin(stream, ended, &fields);
            self.link.connection.return_fields(fields);
        }
        moved
    }

    fn step(&mut self, keys: &mut Vec<usize>) -> Step {
        if self.liveness.is_dead() {
            self.error = Some(TunnelError::Silent);
            return Step::Abort;
        }
        if self.liveness.is_drained() {
            return Step::Abort;
        }
        if self.auth.is_late(self.liveness.now) {
            self.error = Some(TunnelError::TimedOut);
            return Step::Abort;
        }
        self.drive_woken(keys);
        if let Some(end) = self.link.ended() {
            self.error = self.error.take().or(end.err().map(TunnelError::Broken));
            return self.end();
        }
        // The proxy may also have announced that it sends no more requests.
        let connection = &self.link.connection;
        let is_over = self.streams.is_empty() && self.hello.is_none() && connection.peer_error().is_some();
        if self.is_rejected || is_over || connection.is_complete() { self.end() } else { Step::Pending }
    }

    fn write(&mut self, tx: &mut Tx<'_>) -> bool {
        self.link.write(tx)
    }

    fn has_output(&self) -> bool {
        self.link.connection.has_output()
    }

    fn wants_input(&self, _: &Rx<'_>) -> bool {
        self.link.wants_input()
    }
}

impl Inner {
    /// Begins a request: the proxy's own, or one of its clients.
    fn begin(&mut self, stream: u32, ended: bool, fields: &Fields) {
        let request = StreamRequest::new(fields, ended);
        let words = match request.words() {
            Ok(words) => words,
            Err(rule) => return self.reject(stream, rule.status(), rule.rule()),
        };
        let path = (words.method() == "GET" && !words.is_upgrade()).then(|| words.target());
        let field = |name: &str| words.fields().find(|(own, _)| *own == name).map(|(_, value)| value);
        match self.auth.decide(path, field, self.liveness.now) {
            Verdict::OfClient => self.serve(stream, ended, &Parts::of_stream(&words)),
            Verdict::Hello(hello) => self.send_hello(stream, ended, hello),
            Verdict::TooEarly => self.link.connection.reset_stream(stream, ErrorCode::RefusedStream),
            Verdict::Rejected(error) => {
                self.error = Some(error);
                self.is_rejected = true;
            }
        }
    }

    fn serve(&mut self, stream: u32, ended: bool, parts: &Parts<'_>) {
        let connection = &mut self.link.connection;
        match Stream::begin(stream, parts, ended, &self.served, &self.wakes) {
            Ok((begun, length)) => {
                connection.open(stream, 0, ended, length);
                connection.wake(stream);
                self.streams.insert(stream, begun);
            }
            Err(Some(reason)) => self.reject(stream, 400, reason),
            // The loop has ended.
            Err(None) => connection.reset_stream(stream, ErrorCode::RefusedStream),
        }
    }

    /// A malformed request ends its stream (RFC 9113 §8.1.1). One that exceeds a limit gets a response.
    fn reject(&mut self, stream: u32, status: u16, reason: &str) {
        log::debug!(target: "uncork::relay", "request of the tunnel rejected: {reason}");
        let connection = &mut self.link.connection;
        if status == 400 {
            return connection.reset_stream(stream, ErrorCode::Protocol);
        }
        connection.encode_head(status, &Headers::new(), false);
        connection.send_whole(stream, &[]);
    }

    /// Responds to the proxy's question.
    fn send_hello(&mut self, stream: u32, ended: bool, hello: Bytes) {
        let mut fields = Headers::new();
        // It is valid.
        let _ = fields.append("content-type", "application/json");
        let connection = &mut self.link.connection;
        connection.open(stream, 0, ended, None);
        connection.encode_head(200, &fields, false);
        connection.send_head(stream, false, Some(hello.len() as u64));
        connection.wake(stream);
        self.hello = Some((stream, hello));
    }

    /// Drives the streams that were woken, until there are no more.
    fn drive_woken(&mut self, keys: &mut Vec<usize>) {
        let mut woken = std::mem::take(&mut self.woken);
        loop {
            self.link.take_woken(keys, &mut woken);
            if woken.is_empty() {
                break;
            }
            woken.drain(..).for_each(|stream| self.drive(stream));
        }
        self.woken = woken;
    }

    fn drive(&mut self, number: u32) {
        let connection = &mut self.link.connection;
        let is_over = match (self.streams.get_mut(&number), &mut self.hello) {
            (Some(stream), _) => stream.drive(connection),
            (None, Some((stream, rest))) if *stream == number => {
                // If this fails, the proxy rejects the connection.
                let n = connection.write(number, &[IoSlice::new(rest)]).unwrap_or(0);
                rest.advance(n);
                rest.is_empty() || connection.fault(number).is_some()
            }
            (None, _) => false,
        };
        if is_over {
            self.hello.take_if(|(stream, _)| *stream == number);
            self.streams.remove(&number);
            connection.release(number);
        }
    }

    /// The connection is over, and its streams with it.
    fn end(&mut self) -> Step {
        self.streams.clear();
        Step::Over
    }

    /// Returns when the next clock runs out.
    fn due(&self) -> Instant {
        let due = self.liveness.due();
        self.auth.due(self.liveness.now).map_or(due, |at| due.min(at))
    }
}
