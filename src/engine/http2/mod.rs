//! A connection of HTTP/2: its streams are slots, as connections are, within its own.
//!
//! ```text
//!   socket ─▶ fill ─▶ wire ─▶ h2 ──request──▶ Handler::request ─▶ (response at once)
//!                             │ ▲                    └─▶ Slot { io: a stream as its socket, phase: Job │ Upgraded │ … }
//!   socket ◀─ flush ◀ wire ◀─ h2 ◀──── heads, DATA ──────┘
//! ```
//! A stream does what a connection of HTTP/1.1 with a single request does, with the same code: bodies, tickets,
//! upgrades, timeouts. Only its socket is another one ([`Stream`]), and its heads are no bytes. A request that gets its
//! response at once has no slot.
//!
//! A stream is driven when h2 or the application has woken it. A [`RequestId`] names it by the connection and the
//! number of the request.

mod begin;
mod session;

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    task::{self, Context},
    time::Duration,
};

use h2::Reason;
use http::HeaderValue;
use slab::Slab;

use self::session::Session;
use super::{
    conn_io::ConnIo,
    core::Core,
    phase::{Phase, Slot, Step, Streams, Upgraded},
    slot::Turn,
};
use crate::{
    api::{Handler, ReadState, Response, Waker},
    base::{EndReason, RequestId, Timeout, pool::LENT, time::Tick},
    h2::{
        PREFACE,
        frames::FrameWatch,
        stream::Shared,
        wakes::Wakes,
        wire::{WireEnd, wire},
    },
};

/// The key with which the connection itself is woken.
const CONNECTION: usize = usize::MAX;
/// Rounds of the connection before other connections have their turn.
const ROUNDS: usize = 8;
/// Bytes of bodies in one turn from which on a round trip is measured.
const MUCH: u64 = 16 * 1024;
/// Time for the response to a ping.
const PONG: Duration = Duration::from_secs(20);

pub(super) struct Http2 {
    wire: WireEnd,
    watch: FrameWatch,
    session: Session,
    wakes: Wakes,
    /// Wakes [`CONNECTION`].
    waker: task::Waker,
    streams: Slab<Stream>,
    /// The streams by the number of their request.
    numbers: HashMap<u32, usize>,
    /// Wakers by the key of the stream: the next stream with that key has the same.
    wakers: Vec<task::Waker>,
    /// Streams to be driven in the next turn: a message has changed them, or they wait for a buffer.
    marked: Vec<usize>,
    /// Kept for its allocation.
    woken: Vec<usize>,
    /// The number of the latest request, and its urgency.
    number: u32,
    urgency: u8,
    /// The earliest deadline of a stream.
    due: Tick,
    date: ([u8; 29], HeaderValue),
    shared: Arc<Shared>,
    /// The time of the last input, and whether a ping was sent because that is long ago.
    heard: Tick,
    is_pinged: bool,
    /// When the server began to stop.
    stops: Option<Tick>,
    /// The last turn has left nothing to be done.
    is_settled: bool,
    /// The connection ends when the output is out, for this reason.
    over: Option<EndReason>,
}

/// A stream with a slot.
struct Stream {
    slot: Slot,
    due: Tick,
    /// 0 is the most urgent.
    urgency: u8,
}

impl Stream {
    fn end(mut self, core: &mut Core, reason: EndReason) {
        if matches!(self.slot.phase, Phase::Upgraded(_)) && reason != EndReason::Complete {
            // Another protocol must not see a half-close that its application did not send.
            self.slot.io.transport.socket().reset_on_close();
        }
        self.slot.end(core, reason);
    }
}

impl Http2 {
    fn new(core: &Core) -> Self {
        let (end, other) = wire();
        let wakes = Wakes::new();
        Self {
            wire: end,
            watch: FrameWatch::new(core.limits.head),
            session: Session::new(other, &core.limits),
            waker: wakes.waker(CONNECTION),
            wakes,
            streams: Slab::new(),
            numbers: HashMap::new(),
            wakers: Vec::new(),
            marked: Vec::new(),
            woken: Vec::new(),
            number: 0,
            urgency: 0,
            due: Tick::NEVER,
            date: ([0; 29], HeaderValue::from_static("")),
            shared: Arc::default(),
            heard: core.tick,
            is_pinged: false,
            stops: None,
            is_settled: false,
            over: None,
        }
    }

    /// Drives the woken streams, has h2 read and write, and begins requests. `news`: there are bytes for h2, or space
    /// for its own.
    fn step(&mut self, news: bool, io: &mut ConnIo, core: &mut Core, handler: &mut dyn Handler) {
        let waker = self.waker.clone();
        let cx = &mut Context::from_waker(&waker);
        let mut keys = std::mem::take(&mut self.woken);
        keys.append(&mut self.marked);
        let mut polls = news | self.session.take_changed();
        let before = self.shared.received.load(Ordering::Relaxed);
        while self.over.is_none() {
            // Before h2 is polled: what wakes the connection until then is done by that.
            self.wakes.take(&mut keys);
            if keys.len() > 1 {
                // What is driven first gets the windows, and the space in the output, first (RFC 9218).
                keys.sort_by_key(|key| self.streams.get(*key).map_or(0, |stream| stream.urgency));
            }
            for key in keys.drain(..) {
                match key {
                    CONNECTION => polls = true,
                    key => self.drive_stream(key, core, handler),
                }
            }
            if !polls {
                break;
            }
            match self.poll(io, core, cx) {
                session::Event::Pending => match self.watch.fault() {
                    Some(code) if !self.session.is_ending() => {
                        self.leave(code, EndReason::Rejected { status: 0, rule: "HTTP/2" });
                    }
                    _ => break,
                },
                session::Event::Request(request, respond) => {
                    let last = self.number + 1 >= core.limits.requests;
                    self.begin(io, core, handler, request, respond);
                    if last {
                        self.session.shut_down();
                    }
                }
                session::Event::Over(reason) => {
                    let reason = if self.streams.is_empty() { reason } else { EndReason::PeerClosed };
                    self.over = Some(reason);
                    // The upgrades learn that their streams are truncated.
                    for key in self.streams.iter().map(|(key, _)| key).collect::<Vec<_>>() {
                        self.drive_stream(key, core, handler);
                    }
                }
            }
        }
        self.woken = keys;
        let received = self.shared.received.load(Ordering::Relaxed);
        if self.shared.closes.load(Ordering::Relaxed) {
            self.session.shut_down();
        }
        self.session.measure(received, cx);
        if received - before >= MUCH {
            self.session.begin_measure(before);
        }
    }

    /// Sends a ping if a request is in progress, and the client has been silent for long; ends the connection if there
    /// is no response. Without a request, it does not wait long for a client that has not noticed the GOAWAY. Returns
    /// `true` if h2 has something to send.
    fn notice_silence(&mut self, core: &Core) -> bool {
        if self.silent_until(core) > core.tick || self.over.is_some() {
            return false;
        }
        if self.streams.is_empty() {
            self.leave(Reason::NO_ERROR, EndReason::Stopped);
            return false;
        }
        if self.is_pinged {
            self.over = Some(EndReason::TimedOut(Timeout::Idle));
            return false;
        }
        self.is_pinged = true;
        self.session.ping()
    }

    /// Returns when the client has been silent for too long.
    fn silent_until(&self, core: &Core) -> Tick {
        if self.streams.is_empty() {
            let stops = self.stops.filter(|_| !self.session.is_ending());
            return stops.map_or(Tick::NEVER, |stops| stops.after(core.limits.linger_timeout));
        }
        let longest = core.limits.idle_timeout.saturating_add(if self.is_pinged { PONG } else { Duration::ZERO });
        self.heard.after(longest)
    }

    /// Moves input to h2. Returns the number of bytes, and whether h2 learns anything new.
    fn receive(&mut self, io: &mut ConnIo, state: ReadState) -> (usize, bool) {
        let bytes = io.rx.filled();
        let most = bytes.len().min(self.wire.room());
        let passed = self.watch.pass(&bytes[..most]);
        let state = if passed == bytes.len() { state } else { ReadState::Open };
        let (n, news) = self.wire.fill(&bytes[..passed], state);
        debug_assert_eq!(n, passed);
        io.rx.consume(n);
        // The next frame has a timeout of its own.
        if self.watch.has_ended() && io.running_timeout == Some(Timeout::Head) {
            io.stop_timeout();
        }
        (n, news)
    }

    /// Ends the connection, whatever is in progress.
    #[cold]
    fn leave(&mut self, code: Reason, reason: EndReason) {
        match self.session.go_away(code, reason) {
            true => self.waker.wake_by_ref(),
            false => self.over = Some(reason),
        }
    }

    /// Has h2 read and write. Returns the next request.
    fn poll(&mut self, io: &mut ConnIo, core: &mut Core, cx: &mut Context<'_>) -> session::Event {
        io.open_out(core);
        let Self { wire, session, .. } = self;
        wire.write_to(&mut io.out, core.limits.output, || session.poll(cx))
    }

    fn drive_stream(&mut self, key: usize, core: &mut Core, handler: &mut dyn Handler) {
        let Some(Stream { slot, due, .. }) = self.streams.get_mut(key) else { return };
        if let Some(side) = slot.io.transport.peer_side() {
            slot.io.ready.note_within(side);
        }
        let starved = core.starved.len();
        let again = match slot.drive(core, handler) {
            Turn::Waits => false,
            Turn::Again => true,
            Turn::Over(reason) => return self.end_stream(key, core, reason),
        };
        let (again_at_once, by) = slot.settle_within(core);
        *due = by;
        self.due = self.due.min(by);
        if again || again_at_once {
            self.wakers[key].wake_by_ref();
        }
        if core.starved.len() > starved {
            self.marked.push(key);
        }
    }

    /// Handles the deadlines that have passed.
    fn expire(&mut self, core: &mut Core) {
        if self.due > core.tick {
            return;
        }
        let late = self.streams.iter().filter(|(_, stream)| stream.due <= core.tick).map(|(key, _)| key);
        for key in late.collect::<Vec<_>>() {
            let Some(stream) = self.streams.get_mut(key) else { continue };
            stream.due = Tick::NEVER;
            match stream.slot.expire(core) {
                Ok(()) => self.marked.push(key),
                Err(reason) => self.end_stream(key, core, reason),
            }
        }
        self.due = self.streams.iter().map(|(_, stream)| stream.due).min().unwrap_or(Tick::NEVER);
    }

    /// Frees what an idle connection does not need.
    fn rest(&mut self) {
        if self.streams.is_empty() {
            self.wire.shrink();
            self.wakers.clear();
            self.wakers.shrink_to(8);
        }
    }

    fn end_stream(&mut self, key: usize, core: &mut Core, reason: EndReason) {
        if let Some(stream) = self.streams.try_remove(key) {
            self.numbers.remove(&stream.slot.io.number);
            stream.end(core, reason);
        }
    }

    fn upgrades(&mut self, change: impl Fn(&mut Upgraded)) {
        for (key, stream) in &mut self.streams {
            if let Phase::Upgraded(upgraded) = &mut stream.slot.phase {
                change(upgraded);
                self.marked.push(key);
            }
        }
    }
}

impl Streams for Http2 {
    fn fill(&mut self, io: &mut ConnIo, core: &mut Core) -> Result<bool, EndReason> {
        if self.wire.wants_input() && self.watch.fault().is_none() { io.fill(core, LENT, LENT) } else { Ok(false) }
    }

    /// Moves bytes between the connection and h2, begins requests, and drives the streams that were woken.
    #[inline(never)]
    fn drive(&mut self, io: &mut ConnIo, core: &mut Core, handler: &mut dyn Handler) -> Result<Step, EndReason> {
        let (id, mailbox) = (RequestId { conn: io.id, number: 0 }, &core.mailbox);
        self.wakes.begin(|| Waker::new(id, mailbox.clone()));
        if core.stopping.is_some() {
            self.stops.get_or_insert(core.tick);
            self.session.shut_down();
        }
        self.expire(core);
        let pings = self.notice_silence(core);
        self.marked.extend(core.held.asked_of(io.id).filter_map(|id| self.numbers.get(&id.number)));
        let mut worked = false;
        for _ in 0..ROUNDS {
            let state = match io.eof {
                None => ReadState::Open,
                Some(true) => ReadState::Eof,
                Some(false) => ReadState::Truncated,
            };
            let (n, news) = self.receive(io, state);
            if self.over.is_none() {
                (self.heard, self.is_pinged) = if n > 0 { (core.tick, false) } else { (self.heard, self.is_pinged) };
                let is_unblocked = io.out.len() < core.limits.output && self.wire.was_blocked();
                // The frame that breaks a rule does not pass, so it is no news.
                let is_broken = self.watch.fault().is_some() && !self.session.is_ending();
                self.step(news || pings || is_unblocked || is_broken, io, core, handler);
            }
            worked |= news;
            if let Some(reason) = self.over {
                self.end_all(core, reason);
                return Ok(io.closing(reason, io.eof.is_none()));
            }
            let more = news && !io.rx.is_empty();
            if !more && self.wakes.end() {
                self.rest();
                self.is_settled = !self.wire.is_blocked();
                return Ok(Step::progress(worked));
            }
        }
        self.wakes.pause();
        self.is_settled = false;
        Ok(Step::progress(worked))
    }

    fn is_settled(&self) -> bool {
        self.is_settled
    }

    fn slot(&mut self, number: u32) -> Option<&mut Slot> {
        let key = *self.numbers.get(&number)?;
        self.marked.push(key);
        self.streams.get_mut(key).map(|stream| &mut stream.slot)
    }

    fn end(&mut self, number: u32, core: &mut Core, reason: EndReason) {
        if let Some(key) = self.numbers.get(&number) {
            self.end_stream(*key, core, reason);
        }
    }

    fn end_all(&mut self, core: &mut Core, reason: EndReason) {
        for stream in self.streams.drain() {
            stream.end(core, reason);
        }
        self.numbers.clear();
    }

    fn waits_for(&self) -> Option<Timeout> {
        match self.watch.is_within() {
            // The end waits for nothing but the client to take the output.
            _ if self.over.is_some() || self.session.is_ending() => None,
            true => Some(Timeout::Head),
            false => self.streams.is_empty().then_some(Timeout::Idle),
        }
    }

    fn go_away(&mut self, reason: EndReason) {
        let code =
            if reason == EndReason::TimedOut(Timeout::Idle) { Reason::NO_ERROR } else { Reason::ENHANCE_YOUR_CALM };
        self.leave(code, reason);
    }

    fn due(&self, core: &Core) -> Tick {
        self.due.min(self.silent_until(core))
    }

    fn wake_all(&mut self) {
        self.upgrades(|upgraded| upgraded.woken = true);
    }

    fn stop(&mut self) {
        self.upgrades(|upgraded| upgraded.stopping = true);
        self.session.shut_down();
    }

    fn force(&mut self, io: &mut ConnIo, core: &mut Core) {
        for (_, Stream { slot, .. }) in &mut self.streams {
            if let Phase::Job(job) = &mut slot.phase
                && slot.io.conn.owes_response()
            {
                job.respond(&mut slot.io, core, Response::new(503).close());
                let _ = slot.io.flush(core);
            }
        }
        // What is incomplete is reset.
        self.end_all(core, EndReason::Stopped);
        io.open_out(core);
        let Self { wire, session, waker, .. } = self;
        wire.write_to(&mut io.out, usize::MAX, || session.flush(&mut Context::from_waker(waker)));
        let _ = io.flush(core);
    }

    fn lent(&self) -> usize {
        self.streams.iter().map(|(_, stream)| stream.slot.lent()).sum()
    }
}

impl ConnIo {
    /// Returns `true` if the input begins as a connection of HTTP/2 does, as far as it has arrived.
    #[cold]
    pub(super) fn has_preface(&self) -> bool {
        let n = self.rx.len().min(PREFACE.len());
        self.rx.filled()[..n] == PREFACE[..n]
    }

    /// Returns the step to the first phase of HTTP/2.
    #[cold]
    pub(super) fn begin_http2(&mut self, core: &Core) -> Step {
        // A client may be silent for a long time, with requests in progress.
        self.transport.socket().keep_alive();
        self.stop_timeout();
        Step::Become(Phase::Streams(Box::new(Box::new(Http2::new(core)))))
    }
}
