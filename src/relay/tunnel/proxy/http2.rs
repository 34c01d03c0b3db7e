//! The carrier in HTTP/2: the connection of an origin server, on which this side is the client.
//!
//! ```text
//!   OriginConnection ── requests ──▶ start ──▶ [ Stream | Stream | … ] ◀── woken streams
//!                                                  ▲    ▼
//!   Io ◀═════════════ Pump ═══════════════▶ Link: h2::Connection       deadline: ping, silence, drain
//! ```
//! It takes requests from the origin server's first frame on, until the origin server sends GOAWAY, this server stops,
//! or the connection ends. Only streams that were woken are driven.

use std::{
    collections::BTreeMap,
    sync::Arc,
    task,
    time::{Duration, Instant},
};

use uncork::{EventMask, Io, Rx, Tx, Upgrade};

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
use crate::{
    h2::{client::MayBegin, frame::ErrorCode, settings::Side},
    relay::tunnel::{
        pump::{Codec, Pump, Step},
        wakes::Wakes,
        wire::{CONNECTION, HEAD, Link, options},
    },
};

/// The key with which new requests wake the connection.
const REQUESTS: usize = CONNECTION - 1;

/// A connection whose origin server is not registered yet.
pub(super) struct Parts {
    pub(super) pump: Pump,
    pub(super) link: Link,
    wakes: Wakes,
}

impl Parts {
    /// Returns a waker that has the connection called again.
    pub(super) fn waker(&self) -> task::Waker {
        self.wakes.waker(CONNECTION)
    }
}

pub(super) struct Http2 {
    pump: Pump,
    inner: Inner,
}

struct Inner {
    shared: Arc<Shared>,
    origin: Arc<OriginConnection>,
    wakes: Wakes,
    link: Link,
    streams: BTreeMap<u32, Stream>,
    /// Kept for its allocation.
    woken: Vec<u32>,
    /// Requests wait that are not begun.
    waiting: bool,
    /// No more requests are sent.
    closed: bool,
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
    pub(super) fn parts(config: &ProxyConfig) -> Parts {
        let wakes = Wakes::new();
        let options = options(Side::Client, 0, config.window, config.connection_window(), config.head as usize);
        Parts { pump: Pump::new(&wakes), link: Link::new(&options), wakes }
    }

    pub(super) fn new(shared: &Arc<Shared>, registration: Registration, now: Instant) -> Self {
        Self::of(Self::parts(&shared.common.config), shared, registration, now)
    }

    /// Registers the origin server of a connection that is in use already.
    pub(super) fn of(parts: Parts, shared: &Arc<Shared>, registration: Registration, now: Instant) -> Self {
        let Parts { pump, link, wakes } = parts;
        let origin = shared.open(registration, wakes.waker(REQUESTS));
        let inner = Inner {
            shared: shared.clone(),
            origin,
            wakes,
            link,
            streams: BTreeMap::new(),
            woken: Vec::new(),
            waiting: false,
            closed: false,
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

impl Upgrade for Http2 {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        let Self { pump, inner } = self;
        inner.now = io.now().mono;
        inner.link.connection.set_now(inner.now);
        if io.events().is_stopping() {
            inner.drain();
        }
        let mask = pump.turn(io, inner);
        inner.note_input();
        io.set_deadline(Some(inner.due()));
        mask
    }
}

impl Codec for Inner {
    fn read(&mut self, rx: &mut Rx<'_>) -> bool {
        // A client's side gets no requests.
        self.link.read(rx).0
    }

    /// Drives the woken streams, and begins new requests.
    fn step(&mut self, keys: &mut Vec<usize>) -> Step {
        if self.is_dead() {
            return Step::Abort;
        }
        if !self.slowed.is_empty() && self.left() > 0 {
            let streams = &self.streams;
            let slowed = self.slowed.take(|key| streams.get(&(key as u32)).and_then(Stream::address));
            slowed.into_iter().for_each(|key| self.link.connection.wake(key as u32));
        }
        self.waiting |= keys.contains(&REQUESTS);
        self.drive_woken(keys);
        if self.over {
            return self.drain_streams();
        }
        if self.waiting {
            self.start();
            self.drive_woken(keys);
        }
        #[cfg(feature = "nodes")]
        if self.origin.is_shed() {
            self.drain();
        }
        if let Some(end) = self.link.ended() {
            if let Err(error) = &end {
                log::debug!(target: "uncork::relay", "tunnel {}: {error}", self.origin.id);
            }
            self.end();
            return self.drain_streams();
        }
        self.note_pong();
        // The origin server may announce a lower limit at any time.
        let announced = usize::try_from(self.link.connection.stream_limit()).unwrap_or(usize::MAX);
        self.origin.permits.set_limit(announced.min(self.shared.common.config.streams_per_connection));
        // It may have sent GOAWAY: requests that it has not begun are retried elsewhere.
        if self.link.connection.may_begin() == MayBegin::Never {
            self.drain();
        }
        if self.closed && self.streams.is_empty() {
            self.link.connection.go_away(ErrorCode::NoError);
            self.over = true;
            return Step::Over;
        }
        Step::Pending
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
    /// Begins requests, as many as the origin server allows.
    fn start(&mut self) {
        while let Some(request) = self.origin.next() {
            if request.responder.cancellation.is_over() {
                continue;
            }
            match self.link.connection.may_begin() {
                _ if self.closed => return self.shared.retry(request, self.origin.id),
                MayBegin::Now => self.begin(request),
                MayBegin::Later => return self.origin.put_back(request),
                MayBegin::Never => {
                    self.shared.retry(request, self.origin.id);
                    return self.drain();
                }
            }
        }
        self.waiting = false;
    }

    fn begin(&mut self, request: Box<ProxiedRequest>) {
        let connection = &mut self.link.connection;
        if request.protocol.is_some() && !connection.accepts_connect() {
            return request.responder.fail(Failure::NoUpgrade);
        }
        if head_size(&request.head) >= HEAD as usize {
            return request.responder.fail(Failure::HeadTooLarge);
        }
        let max_body = self.shared.common.config.credentials.get(self.origin.owner).map_or(0, |one| one.body);
        let (number, stream) = Stream::begin(request, connection, &self.wakes, max_body);
        self.streams.insert(number, stream);
        connection.wake(number);
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
        let left = self.left();
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let mut turn = Turn::new(self.now, left);
        let next = stream.drive(&mut self.link.connection, &mut turn);
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
            Next::Slowed => self.slowed.add(number as usize, moved > 0),
            Next::Complete | Next::Over => drop(self.remove(number)),
            Next::Truncated => {
                self.shared.common.counters.add(Count::Truncated);
                drop(self.remove(number));
            }
            Next::RejectedUnread => {
                if let Some(request) = self.remove(number).and_then(Stream::into_request) {
                    self.shared.retry(request, self.origin.id);
                }
            }
        }
    }

    fn remove(&mut self, number: u32) -> Option<Stream> {
        self.link.connection.release(number);
        self.streams.remove(&number)
    }

    /// Takes no more requests. Those in progress go on; after the last one the connection ends.
    fn drain(&mut self) {
        if !std::mem::replace(&mut self.closed, true) {
            self.clocks.draining = Some(self.now);
            self.shared.close(&self.origin, self.now);
            self.wakes.waker(CONNECTION).wake();
        }
    }

    /// Handles the end of the connection: each stream gets the error.
    fn end(&mut self) {
        self.drain();
        self.over = true;
        self.link.connection.end();
        self.drive_woken(&mut Vec::new());
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

    fn note_pong(&mut self) {
        if let Some(at) = self.clocks.pinged.filter(|_| !self.link.connection.awaits_pong()) {
            self.clocks.pinged = None;
            self.origin.set_round_trip(self.now.saturating_duration_since(at));
        }
    }

    /// Notes the time of input. The connection joins with the origin server's first frame.
    fn note_input(&mut self) {
        let bytes = self.link.received();
        let began = *self.clocks.began.get_or_insert(self.now);
        if bytes > self.clocks.bytes {
            (self.clocks.bytes, self.clocks.last_input) = (bytes, Some(self.now));
            if !self.clocks.joined && !self.closed {
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
            self.link.rest();
            if self.link.connection.ping() {
                self.clocks.pinged = Some(self.now);
                // The output was sent before.
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
