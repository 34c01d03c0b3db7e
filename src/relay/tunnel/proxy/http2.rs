//! The carrier in HTTP/2: the connection of an origin server, on which this side is the client.
//!
//! ```text
//!   OriginConnection ── requests ──▶ start ──▶ [ Stream | Stream | … ] ◀── woken keys
//!                                                  ▲ h2 ▼
//!   Io ◀═════════════ Pump ═══════════════▶ h2::client::Connection     deadline: ping, silence, drain
//! ```
//! It takes requests from the origin server's first frame on, until the origin server sends GOAWAY, this server stops,
//! or the connection ends. Only streams that were woken are driven.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{self, Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::{Ping, PingPong, client};
use slab::Slab;
use uncork::{EventMask, Io, Upgrade};

use super::{
    config::ProxyConfig,
    connection::{OriginConnection, Registration},
    counters::Count,
    proxied_request::{Failure, ProxiedRequest},
    proxied_stream::{Next, Turn},
    rate::Rate,
    shared::Shared,
    slowed::Slowed,
    stream::Stream,
};
use crate::h2::wakes::Wakes;
use crate::relay::tunnel::{
    printable::h2_error,
    pump::Step,
    wire::{CONNECTION, HEAD, REMEMBERED, RESETS, SMALL_FRAMES, Wire, WirePump, wire},
};

/// The key with which new requests wake the connection.
const REQUESTS: usize = CONNECTION - 1;

/// Requests that may be sent before the origin server has announced its limit.
const BEFORE_SETTINGS: usize = 100;

/// Bytes that h2 buffers of each request's body.
const SEND_BUFFER: usize = 64 * 1024;

/// Stream errors of the origin server, over the life of a connection, after which h2 ends it. Malformed responses are
/// among them, and clients can cause those, so the limit is high. What h2 holds for them, if the origin server does not
/// read, takes less memory than the connection's window.
const STREAM_ERRORS: usize = 65_536;

/// A connection whose origin server is not registered yet.
pub(super) struct Parts {
    pub(super) pump: WirePump,
    wakes: Wakes,
    pub(super) send: client::SendRequest<Bytes>,
    pub(super) connection: client::Connection<Wire, Bytes>,
}

impl Parts {
    /// Returns a waker that has the connection called again.
    pub(super) fn waker(&self) -> task::Waker {
        self.wakes.waker(CONNECTION)
    }
}

pub(super) struct Http2 {
    pump: WirePump,
    inner: Inner,
}

struct Inner {
    shared: Arc<Shared>,
    origin: Arc<OriginConnection>,
    wakes: Wakes,
    connection: client::Connection<Wire, Bytes>,
    /// `None`: no more requests are sent.
    send: Option<client::SendRequest<Bytes>>,
    pings: Option<PingPong>,
    streams: Slab<Stream>,
    /// Requests wait that are not begun.
    waiting: bool,
    slowed: Slowed,
    clocks: Clocks,
    /// The connection has ended. Responses that were received completely are still delivered to their clients.
    over: bool,
    now: Instant,
}

/// The clocks of a connection.
#[derive(Default)]
struct Clocks {
    began: Option<Instant>,
    /// When the origin server last sent something, and how many bytes it had sent by then.
    last_input: Option<Instant>,
    bytes: u64,
    /// When the last ping was sent, if its response is missing.
    pinged: Option<Instant>,
    /// When the drain began.
    draining: Option<Instant>,
    /// The connection takes requests.
    joined: bool,
}

impl Http2 {
    /// Creates a connection with its preface written, and nothing sent.
    pub(super) fn parts(config: &ProxyConfig) -> Option<Parts> {
        let wakes = Wakes::new();
        let (pump, wire) = wire(&wakes);
        let handshake = pin!(builder(config).handshake::<_, Bytes>(wire));
        // Ready at once: the buffer has space for the preface.
        match handshake.poll(&mut Context::from_waker(task::Waker::noop())) {
            Poll::Ready(Ok((send, connection))) => Some(Parts { pump, wakes, send, connection }),
            _ => None,
        }
    }

    pub(super) fn new(shared: &Arc<Shared>, registration: Registration, now: Instant) -> Option<Self> {
        Some(Self::of(Self::parts(&shared.common.config)?, shared, registration, now))
    }

    /// Registers the origin server of a connection that is in use already.
    pub(super) fn of(parts: Parts, shared: &Arc<Shared>, registration: Registration, now: Instant) -> Self {
        let Parts { pump, wakes, send, mut connection } = parts;
        let origin = shared.open(registration, wakes.waker(REQUESTS));
        let inner = Inner {
            shared: shared.clone(),
            origin,
            wakes,
            pings: connection.ping_pong(),
            connection,
            send: Some(send),
            streams: Slab::new(),
            waiting: false,
            slowed: Slowed::default(),
            clocks: Clocks::default(),
            over: false,
            now,
        };
        Self { pump, inner }
    }
}

/// Returns the size of a head in bytes, as HTTP/2 counts it, with an allowance for the pseudo-header fields.
fn head_size(head: &http::Request<()>) -> usize {
    let fields: usize = head.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    let uri = head.uri();
    let host = uri.authority().map_or(0, |authority| authority.as_str().len());
    fields + host + uri.path().len() + uri.query().map_or(0, str::len) + 512
}

fn builder(config: &ProxyConfig) -> client::Builder {
    let mut builder = client::Builder::new();
    builder
        .initial_max_send_streams(BEFORE_SETTINGS)
        .initial_window_size(config.window)
        .initial_connection_window_size(config.connection_window())
        .max_header_list_size(config.head)
        .max_concurrent_streams(0)
        .max_concurrent_reset_streams(RESETS)
        .reset_stream_duration(REMEMBERED)
        .max_local_error_reset_streams(Some(STREAM_ERRORS))
        .data_frame_budget(SMALL_FRAMES)
        .max_send_buffer_size(SEND_BUFFER)
        .enable_push(false);
    builder
}

impl Upgrade for Http2 {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        let Self { pump, inner } = self;
        inner.now = io.now().mono;
        if io.events().is_stopping() {
            inner.drain();
        }
        let mask = pump.turn(io, |cx, keys| inner.step(cx, keys));
        inner.note_input(pump);
        io.set_deadline(Some(inner.due()));
        mask
    }
}

impl Inner {
    /// Drives the woken streams, begins new requests, and has h2 read and write.
    fn step(&mut self, cx: &mut Context<'_>, keys: &mut Vec<usize>) -> Step {
        if self.is_dead() {
            return Step::Abort;
        }
        if !self.slowed.is_empty() && self.left() > 0 {
            let streams = &self.streams;
            let slowed = self.slowed.take(|key| streams.get(key).and_then(Stream::address));
            slowed.into_iter().for_each(|key| self.drive(key));
        }
        for key in keys.drain(..) {
            match key {
                CONNECTION => {}
                REQUESTS => self.waiting = true,
                key => self.drive(key),
            }
        }
        if self.over {
            return self.drain_streams();
        }
        if self.waiting {
            self.start(cx);
        }
        #[cfg(feature = "nodes")]
        if self.origin.is_shed() {
            self.drain();
        }
        let polled = Pin::new(&mut self.connection).poll(cx);
        if let Poll::Ready(result) = polled {
            if let Err(error) = &result {
                log::debug!(target: "uncork::relay", "tunnel {}: {}", self.origin.id, h2_error(error));
            }
            self.end();
            return self.drain_streams();
        }
        self.poll_pong(cx);
        // The origin server may announce a lower limit at any time.
        let announced = self.connection.max_concurrent_send_streams();
        self.origin.permits.set_limit(announced.min(self.shared.common.config.streams_per_connection));
        // It has sent GOAWAY: requests that it has not begun are retried elsewhere.
        if let Some(send) = &mut self.send
            && let Poll::Ready(Err(_)) = send.poll_ready(cx)
        {
            self.drain();
        }
        Step::Pending
    }

    /// Begins requests, as many as h2 takes.
    fn start(&mut self, cx: &mut Context<'_>) {
        while let Some(request) = self.origin.next() {
            if request.responder.cancellation.is_over() {
                continue;
            }
            let Some(send) = &mut self.send else { return self.shared.retry(request, self.origin.id) };
            match send.poll_ready(cx) {
                Poll::Ready(Ok(())) => self.begin(request),
                Poll::Pending => return self.origin.put_back(request),
                Poll::Ready(Err(_)) => {
                    self.shared.retry(request, self.origin.id);
                    return self.drain();
                }
            }
        }
        self.waiting = false;
    }

    fn begin(&mut self, request: Box<ProxiedRequest>) {
        let Some(send) = &mut self.send else { return };
        if request.protocol.is_some() && !send.is_extended_connect_protocol_enabled() {
            return request.responder.fail(Failure::NoUpgrade);
        }
        if head_size(&request.head) >= HEAD as usize {
            return request.responder.fail(Failure::HeadTooLarge);
        }
        let entry = self.streams.vacant_entry();
        let key = entry.key();
        let max_body = self.shared.common.config.credentials.get(self.origin.owner).map_or(0, |one| one.body);
        if let Some(stream) = Stream::begin(request, send, self.wakes.waker(key), max_body) {
            entry.insert(stream);
            self.drive(key);
        }
    }

    fn drive(&mut self, key: usize) {
        let left = self.left();
        let Some(stream) = self.streams.get_mut(key) else { return };
        let mut turn = Turn::new(self.now, left);
        let next = stream.drive(&mut turn);
        let address = stream.address();
        let moved = turn.request_bytes + turn.response_bytes;
        if moved > 0 {
            self.shared.count_bytes(&self.origin, &turn);
            if self.rate().is_limited() {
                self.slowed.note_turn(address);
                self.rate().moved(moved, self.now, self.origin.id);
            }
        }
        match next {
            Next::Pending => {}
            Next::Slowed => self.slowed.add(key, moved > 0),
            Next::Complete | Next::Over => drop(self.streams.remove(key)),
            Next::Truncated => {
                self.shared.common.counters.add(Count::Truncated);
                drop(self.streams.remove(key));
            }
            Next::RejectedUnread => {
                if let Some(request) = self.streams.remove(key).into_request() {
                    self.shared.retry(request, self.origin.id);
                }
            }
        }
    }

    /// Takes no more requests. Those in progress go on; after the last one h2 sends GOAWAY and ends.
    fn drain(&mut self) {
        if self.send.take().is_some() {
            self.clocks.draining = Some(self.now);
            self.shared.close(&self.origin, self.now);
            self.wakes.waker(CONNECTION).wake();
        }
    }

    /// Handles the end of the connection: each stream gets the error.
    fn end(&mut self) {
        self.drain();
        self.over = true;
        let keys: Vec<usize> = self.streams.iter().map(|(key, _)| key).collect();
        keys.into_iter().for_each(|key| self.drive(key));
    }

    /// Returns the step of a connection that has ended: it is over when the last client has its response.
    fn drain_streams(&self) -> Step {
        if self.streams.is_empty() { Step::Over } else { Step::Pending }
    }

    fn rate(&self) -> &Rate {
        &self.shared.rates[self.origin.owner]
    }

    /// Returns the number of bytes that may be moved now.
    fn left(&self) -> usize {
        self.rate().left(self.now, self.origin.id)
    }

    fn poll_pong(&mut self, cx: &mut Context<'_>) {
        if let (Some(pings), Some(at)) = (&mut self.pings, self.clocks.pinged)
            && pings.poll_pong(cx).is_ready()
        {
            self.clocks.pinged = None;
            self.origin.set_round_trip(self.now.saturating_duration_since(at));
        }
    }

    /// Notes the time of input. The connection joins with the origin server's first frame.
    fn note_input(&mut self, pump: &mut WirePump) {
        let bytes = pump.received();
        let began = *self.clocks.began.get_or_insert(self.now);
        if bytes > self.clocks.bytes {
            (self.clocks.bytes, self.clocks.last_input) = (bytes, Some(self.now));
            if !self.clocks.joined && self.send.is_some() {
                self.clocks.joined = true;
                self.shared.join(&self.origin);
            }
        }
        let silent = self.now.saturating_duration_since(self.clocks.last_input.unwrap_or(began));
        if self.clocks.joined
            && !self.over
            && self.clocks.pinged.is_none()
            && silent >= self.shared.common.config.ping_interval
        {
            pump.shrink();
            if let Some(pings) = &mut self.pings
                && pings.send_ping(Ping::opaque()).is_ok()
            {
                self.clocks.pinged = Some(self.now);
                // h2 was polled before this call.
                self.wakes.waker(CONNECTION).wake();
            }
        }
    }

    /// Returns `true` if the silence or the drain has lasted too long.
    fn is_dead(&self) -> bool {
        let config = &self.shared.common.config;
        let since = |at: Option<Instant>, timeout: Duration| at.is_some_and(|at| self.now >= at + timeout);
        let silent = match self.clocks.joined {
            _ if self.over => false,
            true => since(self.clocks.last_input, config.ping_interval * 2),
            false => since(self.clocks.began, config.handshake_timeout),
        };
        if silent {
            self.shared.common.counters.add(Count::Silent);
            log::debug!(target: "uncork::relay", "tunnel {}: the origin server is silent and counts as dead", self.origin.id);
        }
        silent || since(self.clocks.draining, config.drain_timeout)
    }

    /// Returns when the next clock runs out.
    fn due(&self) -> Instant {
        let config = &self.shared.common.config;
        let began = self.clocks.began.unwrap_or(self.now);
        let silence = match (self.clocks.joined, self.clocks.last_input) {
            _ if self.over => self.now + config.drain_timeout,
            (true, Some(last)) if self.clocks.pinged.is_some() => last + config.ping_interval * 2,
            (true, Some(last)) => last + config.ping_interval,
            _ => began + config.handshake_timeout,
        };
        let drained = self.clocks.draining.map_or(silence, |at| at + config.drain_timeout);
        let rate = if self.slowed.is_empty() { None } else { self.rate().wait(self.now, self.origin.id) };
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
