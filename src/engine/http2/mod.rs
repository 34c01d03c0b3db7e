//! A connection of HTTP/2: its streams are slots, as connections are, within its own.
//!
//! ```text
//!   socket ─▶ fill ─▶ h2::Connection ──request──▶ Handler::request ─▶ (response at once)
//!                             │ ▲                    └─▶ Slot { io: a stream as its socket, phase: Job │ Upgraded │ … }
//!   socket ◀─ flush ◀─ Out ◀──┘ └──── heads, DATA ────────┘
//! ```
//! A stream does what a connection of HTTP/1.1 with a single request does, with the same code: bodies, tickets,
//! upgrades, timeouts. Only its socket is another one ([`h2::stream`](crate::h2::stream)), and its heads are no bytes. A
//! request that gets its response at once has no slot.
//!
//! A stream is driven when a frame or the application has woken it. A [`RequestId`](crate::base::RequestId) names it by
//! the connection and the number of the request, which stands for that of the stream: request 1 is stream 1, request 2
//! is stream 3.

mod begin;
mod clocks;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard};

use log::debug;

use super::{
    conn_io::ConnIo,
    core::Core,
    phase::{Phase, Slot, Step, Streams, Upgraded},
    slot::Turn,
};
use crate::{
    api::{Handler, Response},
    base::{EndReason, Timeout, lock, pool::LENT, time::Tick},
    h1::Misbehaved,
    h2::{
        PREFACE,
        connection::{Connection, Event},
        frame::ErrorCode,
        settings::Options,
        stream::Shared,
    },
};

/// Rounds of the connection before other connections have their turn.
const ROUNDS: usize = 8;
/// Streams that an idle connection has space for: what it has freed, it would need again at once.
const FEW: usize = 8;
/// Bytes of bodies in one turn from which on a round trip is measured.
const MUCH: u64 = 16 * 1024;

pub(super) struct Http2 {
    connection: Shared,
    /// The streams that have a slot, in the order of their numbers.
    streams: Vec<(u32, Box<Stream>)>,
    /// Streams to be driven in the next turn: a message has changed them, or they wait for a buffer.
    marked: Vec<u32>,
    /// Kept for its allocation.
    woken: Vec<u32>,
    /// The number of requests so far.
    requests: u32,
    /// The rule that a request breaks whatever it says. The connection ends with the first one.
    rejects: Option<Misbehaved>,
    /// The earliest deadline of a stream.
    due: Tick,
    /// The time of the last input, and whether a ping was sent because that is long ago.
    heard: Tick,
    is_pinged: bool,
    /// The end of that ping in the output, and when it was last seen there.
    ping_end: u64,
    ping_left: Tick,
    /// Bytes of output that the client had taken when the turn began.
    taken: u64,
    /// When a request began or ended last.
    rests: Tick,
    /// When the server began to stop.
    stops: Option<Tick>,
    /// The last turn has left nothing to be done.
    is_settled: bool,
    /// The last turn has left so much output that no frames are taken.
    is_full: bool,
    /// The connection ends when the output is out, for this reason.
    over: Option<EndReason>,
}

/// A stream with a slot.
struct Stream {
    slot: Slot,
    due: Tick,
    /// The end of what it has put into the connection's output, and how much of the output the client had taken when the
    /// stream last went on, or was given more time.
    output_end: u64,
    taken_before: u64,
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

/// Returns the number of a stream's request.
fn request_number(stream: u32) -> u32 {
    stream / 2 + 1
}

/// Returns the stream of a request.
fn stream_of(number: u32) -> u32 {
    number.saturating_mul(2).saturating_sub(1)
}

impl Http2 {
    fn new(core: &Core) -> Self {
        Self {
            connection: Arc::new(Mutex::new(Connection::new(&Options::server(&core.limits)))),
            streams: Vec::new(),
            marked: Vec::new(),
            woken: Vec::new(),
            requests: 0,
            rejects: None,
            due: Tick::NEVER,
            heard: core.tick,
            is_pinged: false,
            ping_end: 0,
            ping_left: core.tick,
            taken: 0,
            rests: core.tick,
            stops: None,
            is_settled: false,
            is_full: false,
            over: None,
        }
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        lock(&self.connection)
    }

    fn place(&self, stream: u32) -> Option<usize> {
        self.streams.binary_search_by_key(&stream, |(own, _)| *own).ok()
    }

    /// Drives the woken streams, takes frames, and begins requests, until nothing is left to be done. Returns `true` if
    /// anything changed.
    fn turn(&mut self, io: &mut ConnIo, core: &mut Core, handler: &mut dyn Handler) -> bool {
        let mut worked = false;
        let mut woken = std::mem::take(&mut self.woken);
        woken.append(&mut self.marked);
        self.is_settled = false;
        for _ in 0..ROUNDS {
            self.connection().take_woken(&mut woken);
            for stream in woken.drain(..) {
                worked |= self.drive_stream(stream, core, handler);
            }
            worked |= self.receive(io, core, handler);
            let mut connection = self.connection();
            if connection.has_woken() || connection.wake_waiting() {
                continue;
            }
            // What waits for space in the output goes on when that was sent.
            let is_settled = !connection.waits_for_space() && (io.rx.is_empty() || connection.takes_input());
            drop(connection);
            self.is_settled = is_settled;
            break;
        }
        self.woken = woken;
        worked
    }

    /// Takes the frames that have arrived, and begins their requests. Returns `true` if there were any.
    fn receive(&mut self, io: &mut ConnIo, core: &mut Core, handler: &mut dyn Handler) -> bool {
        let mut worked = false;
        while self.over.is_none() {
            let mut connection = self.connection();
            if !connection.takes_input() {
                return worked;
            }
            let (n, event) = connection.receive(io.rx.filled());
            let frame_ended = connection.has_frame_ended();
            let (error, is_last) = (connection.error(), connection.is_lost());
            drop(connection);
            io.rx.consume(n);
            if n > 0 {
                (self.heard, self.is_pinged, worked) = (core.tick, false, true);
            }
            // The next frame has a timeout of its own.
            if frame_ended && io.running_timeout == Some(Timeout::Head) {
                io.stop_timeout();
            }
            match event {
                Event::Request { stream, ended } => {
                    self.begin(io, core, handler, stream, ended);
                    if is_last {
                        self.drive_stream(stream, core, handler);
                    }
                }
                Event::Pending => {
                    self.over = match (error, io.eof) {
                        (Some(code), _) => {
                            debug!(target: "uncork::conn", "{} {}: HTTP/2: {code:?}", io.id, io.peer.addr);
                            Some(EndReason::Rejected { status: 0, rule: "HTTP/2" })
                        }
                        (None, Some(true)) if io.rx.is_empty() => self.handle_half_close(),
                        (None, Some(_)) => Some(EndReason::PeerClosed),
                        (None, None) => None,
                    };
                    return worked;
                }
            }
        }
        worked
    }

    /// The client has half-closed: the end of the connection is that of its last request. Returns its reason then.
    #[cold]
    fn handle_half_close(&mut self) -> Option<EndReason> {
        self.connection().handle_half_close();
        self.streams.is_empty().then_some(EndReason::Complete)
    }

    /// Ends the connection, whatever is in progress.
    #[cold]
    fn leave(&mut self, code: ErrorCode, reason: EndReason) {
        self.connection().go_away(code);
        self.over = Some(reason);
    }

    /// Drives a stream. Returns `false` if it waits for a buffer: to drive it again in this turn would not help.
    fn drive_stream(&mut self, stream: u32, core: &mut Core, handler: &mut dyn Handler) -> bool {
        let Some(place) = self.place(stream) else { return true };
        let Stream { slot, due, output_end, taken_before } = &mut *self.streams[place].1;
        let sent = slot.io.sent;
        if let Some(side) = slot.io.transport.peer_side() {
            slot.io.ready.note_within(side);
        }
        let starved = core.starved.len();
        let again = match slot.drive(core, handler) {
            Turn::Waits => false,
            Turn::Again => true,
            Turn::Over(reason) => {
                self.end_stream(stream, core, reason);
                return true;
            }
        };
        if slot.io.sent > sent {
            (*output_end, *taken_before) = (self.taken + lock(&self.connection).output() as u64, self.taken);
        }
        let (again_at_once, by) = slot.settle_within(core);
        *due = by;
        self.due = self.due.min(by);
        if again || again_at_once {
            self.connection().wake(stream);
        }
        if core.starved.len() > starved {
            // The connection waits once for all of them. In a turn, nothing else marks a stream.
            core.starved.truncate(starved + usize::from(self.marked.is_empty()));
            self.marked.push(stream);
            return false;
        }
        true
    }

    /// Frees what an idle connection does not need.
    fn rest(&mut self) {
        if self.streams.is_empty() {
            self.streams.shrink_to(FEW);
            self.woken.shrink_to(FEW);
            self.marked.shrink_to(FEW);
        }
    }

    fn end_stream(&mut self, stream: u32, core: &mut Core, reason: EndReason) {
        self.rests = core.tick;
        if let Some(place) = self.place(stream) {
            self.streams.remove(place).1.end(core, reason);
        }
    }

    fn upgrades(&mut self, change: impl Fn(&mut Upgraded)) {
        for (number, stream) in &mut self.streams {
            if let Phase::Upgraded(upgraded) = &mut stream.slot.phase {
                change(upgraded);
                self.marked.push(*number);
            }
        }
    }
}

impl Streams for Http2 {
    fn fill(&mut self, io: &mut ConnIo, core: &mut Core) -> Result<bool, EndReason> {
        if self.over.is_none() && self.connection().takes_input() { io.fill(core, LENT, LENT) } else { Ok(false) }
    }

    /// Moves bytes between the connection and its streams, begins requests, and drives the streams that were woken.
    #[inline(never)]
    fn drive(&mut self, io: &mut ConnIo, core: &mut Core, handler: &mut dyn Handler) -> Result<Step, EndReason> {
        self.taken = io.sent;
        if self.taken < self.ping_end {
            self.ping_left = core.tick;
        }
        io.open_out(core);
        let mut connection = self.connection();
        connection.swap_out(&mut io.out);
        connection.set_now(core.now.mono);
        let before = connection.received();
        drop(connection);
        if core.stopping.is_some() {
            let stops = *self.stops.get_or_insert(core.tick);
            let mut connection = self.connection();
            connection.shut_down();
            // A client that ignores the GOAWAY could begin requests for ever.
            if stops.after(core.limits.linger_timeout) <= core.tick {
                connection.conclude();
            }
        }
        self.expire(core);
        self.notice_silence(core);
        let asked = core.held.asked_of(io.id).map(|id| stream_of(id.number));
        self.marked.extend(asked);
        let worked = self.turn(io, core, handler);
        if let Some(reason) = self.over {
            // The upgrades learn that their streams are truncated.
            self.connection().end();
            for number in self.streams.iter().map(|(number, _)| *number).collect::<Vec<_>>() {
                self.drive_stream(number, core, handler);
            }
            self.end_all(core, reason);
        }
        let mut connection = self.connection();
        let most = if self.rejects.is_some() { 1 } else { core.limits.requests };
        if self.requests >= most {
            connection.shut_down();
            // So many may be on their way.
            if self.requests - most >= core.limits.streams.saturating_mul(2) {
                connection.conclude();
            }
        }
        let received = connection.received();
        if received - before >= MUCH {
            connection.measure(before);
        }
        let is_complete = connection.is_complete() && self.streams.is_empty();
        let is_full = !connection.takes_input();
        connection.return_out(&mut io.out);
        if self.streams.is_empty() {
            connection.rest();
        }
        drop(connection);
        self.is_full = is_full;
        self.rest();
        match self.over.or(is_complete.then_some(EndReason::Complete)) {
            Some(reason) => Ok(io.closing(reason, io.eof.is_none())),
            None => Ok(Step::progress(worked)),
        }
    }

    fn is_settled(&self) -> bool {
        self.is_settled
    }

    fn slot(&mut self, number: u32) -> Option<&mut Slot> {
        let place = self.place(stream_of(number))?;
        self.marked.push(stream_of(number));
        Some(&mut self.streams[place].1.slot)
    }

    fn end(&mut self, number: u32, core: &mut Core, reason: EndReason) {
        self.end_stream(stream_of(number), core, reason);
    }

    fn end_all(&mut self, core: &mut Core, reason: EndReason) {
        for (_, stream) in std::mem::take(&mut self.streams) {
            stream.end(core, reason);
        }
    }

    fn waits_for(&self) -> Option<Timeout> {
        // If no frames are taken, the rest of one may have arrived.
        match self.connection().is_within() && !self.is_full {
            // The end waits for nothing but the client to take the output.
            _ if self.over.is_some() => None,
            true => Some(Timeout::Head),
            false => self.streams.is_empty().then_some(Timeout::Idle),
        }
    }

    fn go_away(&mut self, reason: EndReason) {
        let is_idle = reason == EndReason::TimedOut(Timeout::Idle);
        self.leave(if is_idle { ErrorCode::NoError } else { ErrorCode::EnhanceYourCalm }, reason);
    }

    fn due(&self, core: &Core) -> Tick {
        self.due.min(self.silent_until(core))
    }

    fn wake_all(&mut self) {
        self.upgrades(|upgraded| upgraded.woken = true);
    }

    fn stop(&mut self) {
        self.upgrades(|upgraded| upgraded.stopping = true);
        self.connection().shut_down();
    }

    fn force(&mut self, io: &mut ConnIo, core: &mut Core) {
        self.connection().swap_out(&mut io.out);
        for (_, stream) in &mut self.streams {
            let slot = &mut stream.slot;
            if let Phase::Job(job) = &mut slot.phase
                && slot.io.conn.owes_response()
            {
                job.respond(&mut slot.io, core, Response::new(503).close());
                let _ = slot.io.flush(core);
            }
        }
        // What is incomplete is reset.
        self.end_all(core, EndReason::Stopped);
        self.connection().return_out(&mut io.out);
        let _ = io.flush(core);
    }

    fn each(&self, f: &mut dyn FnMut(&Slot)) {
        self.streams.iter().for_each(|(_, stream)| f(&stream.slot));
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

    /// Like [`begin_http2`](Self::begin_http2), but each request is rejected by `rule`, before the handler sees it.
    #[cold]
    pub(super) fn begin_rejecting_http2(&mut self, core: &Core, rule: Misbehaved) -> Step {
        self.stop_timeout();
        let http2 = Http2 { rejects: Some(rule), ..Http2::new(core) };
        Step::Become(Phase::Streams(Box::new(Box::new(http2))))
    }
}
