//! One request at work: its body coming in, its answer going out, and whoever waits for its end.
//!
//! The two directions are independent: an answer may begin, and even end, before the body is whole.
//!
//! ```text
//!   up:     Idle ──Receive──▶ Upload │ Pipe ──▶ Over          reply:  Owed ──▶ Stream │ Pipe │ File ──▶ Sent
//!             └──answered without it──▶ Draining ──┘
//! ```

use std::{fs::File, os::unix::fs::FileExt, time::Duration, time::SystemTime};

use log::{error, warn};

use super::{
    acked::Marks,
    body::Up,
    core::Core,
    dispatch,
    ready::Ready,
    slot::{Phase, Slot},
};
use crate::{
    api::{
        Access, Action, Flow, Head, PipeOut, Produce, Response, Switch, Tx, Waker,
        mail::Fallback,
        request::{Asks, End},
        response::Kind,
    },
    base::{Ended, RequestId, time::Tick},
    conn::BodyOut,
    h1::{Headers, Misbehaved},
};

pub(super) struct Job {
    pub(super) asks: Asks,
    /// For the access log.
    pub(super) head: Option<Head>,
    pub(super) began: SystemTime,
    pub(super) up: Up,
    pub(super) reply: Reply,
    pub(super) fallback: Option<(Tick, Fallback)>,
    /// The waker was called since the job was last looked at.
    pub(super) woken: bool,
    pub(super) status: u16,
    /// Bytes of the answer's body put into the output.
    pub(super) written: u64,
    marks: Marks,
    /// The application closes the connection with its answer, whatever is still coming.
    pub(super) closes: bool,
    /// [`Response::allow_half_close`], or said by the ticket.
    allow_half_close: bool,
    /// How it will have ended when the answer is out: complete, unless that answer is the 500 of a panic.
    pub(super) outcome: Ended,
    /// Wait for the peer's acknowledgement; when to look for it, and the pause after that.
    confirm: Option<(Tick, Duration)>,
    /// How long the body may pause, if the upload has a word in that.
    pub(super) patience: Option<Duration>,
}

/// The panic itself is on standard error, by the standard library, and in the log.
const PANICKED: &str = "the application panicked: standard error says where";

/// What becomes of the answer.
pub(super) enum Reply {
    Owed,
    Stream {
        produce: Box<dyn Produce>,
        waits: bool,
    },
    /// The producer is one end of a pipe. `announced`: bytes of the block that a chunk's size has promised.
    Pipe {
        produce: Box<dyn Produce>,
        waits: bool,
        announced: usize,
    },
    File {
        file: File,
        at: u64,
    },
    Sent,
}

/// Why a job can't just go on.
pub(super) enum Stop {
    End(Ended),
    Refuse(Misbehaved),
    Switch(Box<Switch>),
}

impl From<Ended> for Stop {
    fn from(why: Ended) -> Self {
        Self::End(why)
    }
}

impl From<Misbehaved> for Stop {
    fn from(rule: Misbehaved) -> Self {
        Self::Refuse(rule)
    }
}

impl From<dispatch::Panicked> for Stop {
    fn from(_: dispatch::Panicked) -> Self {
        Self::End(Ended::Panicked)
    }
}

impl Job {
    pub(super) fn new(asks: Option<Box<Asks>>, head: Option<Head>, began: SystemTime) -> Box<Self> {
        Box::new(Self {
            asks: asks.map_or_else(Asks::default, |asks| *asks),
            head,
            began,
            up: Up::Idle,
            reply: Reply::Owed,
            fallback: None,
            woken: false,
            status: 0,
            written: 0,
            marks: Marks::default(),
            closes: false,
            allow_half_close: false,
            outcome: Ended::Complete,
            confirm: None,
            patience: None,
        })
    }

    pub(super) fn due(&self) -> Tick {
        let fallback = self.fallback.as_ref().map_or(Tick::NEVER, |(due, _)| *due);
        let confirm = self.confirm.map_or(Tick::NEVER, |(due, _)| due);
        fallback.min(confirm).min(self.look_by())
    }

    /// There is output that does not lie in the slot's own.
    pub(super) fn has_output(&self) -> bool {
        matches!(self.reply, Reply::File { .. } | Reply::Pipe { waits: false, .. })
    }

    /// Whether only a ticket can bring it on.
    fn waits_for_ticket(&self) -> bool {
        matches!(self.reply, Reply::Owed) && matches!(self.up, Up::Idle | Up::Over)
    }

    /// Returns `true` if it waits for something that is not the peer's to do, and nothing is received or sent.
    pub(super) fn is_suspended(&self) -> bool {
        match self.reply {
            Reply::Owed => self.waits_for_ticket(),
            Reply::Stream { waits: true, .. } | Reply::Pipe { waits: true, .. } => {
                matches!(self.up, Up::Idle | Up::Over)
            }
            _ => false,
        }
    }

    /// Returns `true` if the response has begun, and has nothing to send until something else happens.
    fn pauses(&self, slot: &Slot) -> bool {
        matches!(self.reply, Reply::Stream { waits: true, .. } | Reply::Pipe { waits: true, .. })
            && slot.out.is_empty()
            && !slot.transport.has_pending()
    }

    /// Handles end-of-file from the client, which has half-closed or closed: on the wire they look alike. It ends the
    /// request if there is nothing to send, unless the application serves half-closed clients. Returns whether anything
    /// changed.
    ///
    /// That the socket says so ([`Ready::FIN`]) is enough: what lies unread in front of it, pipelined requests for
    /// example, is not read to find out (see [`hold`](Self::hold)).
    #[cold]
    fn note_eof(&mut self, slot: &mut Slot, core: &mut Core) -> Result<bool, Stop> {
        // A body that is still wanted is read up to that end first.
        if !matches!(self.up, Up::Idle | Up::Over) || self.allow_half_close {
            return Ok(false);
        }
        if matches!(self.reply, Reply::Owed) {
            let left = self.asks.ticket.as_ref().is_none_or(|ticket| ticket.ends_with_fin());
            return if left { Err(Ended::PeerLeft.into()) } else { Ok(false) };
        }
        if !self.pauses(slot) {
            return Ok(false);
        }
        // The wait may be over already and the wake-up still under way, for example from the client's own upload.
        if let Reply::Stream { waits, .. } | Reply::Pipe { waits, .. } = &mut self.reply {
            *waits = false;
        }
        let worked = self.drive_reply(slot, core)?;
        if self.pauses(slot) { Err(Ended::PeerLeft.into()) } else { Ok(worked) }
    }

    pub(super) fn waker(&mut self, slot: &Slot, core: &Core) -> Waker {
        self.asks.waker(slot.request_id(), &core.mailbox).clone()
    }

    /// Carries out what the application wants.
    pub(super) fn perform(&mut self, slot: &mut Slot, core: &mut Core, action: Action) -> Result<(), Stop> {
        let owed = matches!(self.reply, Reply::Owed);
        match action {
            Action::Abort => return Err(Ended::Aborted.into()),
            Action::Respond(response) if owed => self.answer(slot, core, response),
            Action::Switch(switch) if owed => {
                if !matches!(self.up, Up::Over) && slot.conn.is_receiving() {
                    warn!(target: "uncork::engine", "{}: an upgrade before the body was received; it is drained",
                        slot.request_id());
                }
                return Err(Stop::Switch(Box::new(switch)));
            }
            Action::Receive(upload) if matches!(self.up, Up::Idle) => self.receive(slot, core, upload)?,
            Action::Wait if owed && self.waits_for_ticket() => {
                match &self.asks.ticket {
                    Some(ticket) if ticket.is_hopeful() => {}
                    // Dropped already: it makes no difference when.
                    Some(_) => self.answer(slot, core, Response::new(503)),
                    None => {
                        error!(target: "uncork::engine", "{}: the handler waits without a ticket", slot.request_id());
                        self.answer(slot, core, Slot::mistake("the handler waits without a ticket"));
                    }
                }
            }
            Action::Wait => {}
            other => {
                // A ticket was faster, or the body has been received before.
                dispatch::discard(other);
            }
        }
        Ok(())
    }

    /// Begins the answer.
    pub(super) fn answer(&mut self, slot: &mut Slot, core: &mut Core, response: Response) {
        let mut response = slot.checked(response);
        let mut piped = false;
        if let Kind::Stream(produce) = &mut response.body.0 {
            match dispatch::outlet(produce.as_mut()) {
                Ok(None) => {}
                Ok(Some(outlet)) => {
                    PipeOut::on_data(outlet, self.waker(slot, core));
                    piped = true;
                }
                Err(_) => dispatch::discard(std::mem::replace(&mut response, Slot::mistake(PANICKED).close())),
            }
        }
        self.allow_half_close = response.allow_half_close;
        if let Some(ticket) = &self.asks.ticket {
            ticket.claim();
            self.allow_half_close |= ticket.outlives_fin();
        }
        self.fallback = None;
        self.status = response.status;
        if response.close {
            self.closes = true;
            slot.conn.forbid_keep_alive();
        }
        self.leave_body(slot, core);
        self.confirm = response.confirm.then_some((Tick::NEVER, Duration::from_millis(1)));
        let out = slot.write_head(core, &response, &[]);
        let body = std::mem::take(&mut response.body).0;
        if out == BodyOut::Nothing {
            dispatch::discard(body);
            self.reply = Reply::Sent;
            return;
        }
        self.reply = match body {
            Kind::Empty => Reply::Sent,
            Kind::Bytes(mut block) => {
                self.written += block.bytes().len() as u64;
                slot.conn.wrote(block.bytes().len() as u64);
                slot.out.push_block(&mut block);
                Reply::Sent
            }
            Kind::File(file, range) => Reply::File { file, at: range.start },
            Kind::Stream(mut produce) if piped => {
                // Between the bytes of a chunked body there would have to be framing.
                let splices = slot.transport.is_plain() && out != BodyOut::Chunked;
                // That it is a pipe no longer, or panics, is found out when it is drained.
                if let Ok(Some(outlet)) = dispatch::outlet(produce.as_mut()) {
                    outlet.set_splices(splices);
                }
                Reply::Pipe { produce, waits: false, announced: 0 }
            }
            Kind::Stream(produce) => Reply::Stream { produce, waits: false },
        };
    }

    /// Notes how much of the body is out, if all of it is that was put into the output. Not where the body is all there
    /// is on the wire: there it can be told at any time.
    pub(super) fn note_mark(&mut self, slot: &Slot) {
        if self.written == 0 || !slot.out.is_empty() || self.asks.on_end.is_empty() {
            return;
        }
        let bare = slot.transport.is_plain() && slot.conn.body_out() != BodyOut::Chunked;
        if !bare || !self.marks.is_empty() {
            self.marks.note(slot.transport.on_wire(slot.sent), self.written);
        }
    }

    /// Moves the answer on. Whether anything changed.
    fn drive_reply(&mut self, slot: &mut Slot, core: &mut Core) -> Result<bool, Stop> {
        self.note_mark(slot);
        match &mut self.reply {
            Reply::Owed | Reply::Sent => Ok(false),
            Reply::Stream { .. } => self.drive_stream(slot, core),
            Reply::Pipe { .. } => self.drain_pipe(slot, core),
            Reply::File { .. } => self.drive_file(slot, core),
        }
    }

    fn drive_stream(&mut self, slot: &mut Slot, core: &mut Core) -> Result<bool, Stop> {
        // The size of a chunk is patched in when it is known; five digits hold what one call may write.
        const SIZE: &[u8] = b"00000\r\n";
        let room = core.limits.output / 2;
        let mut worked = false;
        loop {
            let Reply::Stream { produce, waits } = &mut self.reply else { return Ok(worked) };
            if *waits || slot.out.len() > room {
                return Ok(worked);
            }
            slot.open_out(core);
            let framing = slot.conn.body_out();
            let at = slot.out.buf.len();
            if framing == BodyOut::Chunked {
                slot.out.push(SIZE);
            }
            let most = match framing {
                BodyOut::Chunked => 0xf_ffff,
                BodyOut::Length(left) => usize::try_from(left).unwrap_or(usize::MAX),
                BodyOut::UntilClose | BodyOut::Nothing => usize::MAX,
            };
            let before = slot.out.len();
            let mut finished = false;
            let mut tx = Tx {
                out: &mut slot.out,
                limit: before + most.min(room),
                most: before.saturating_add(most),
                own: before,
                finished: &mut finished,
            };
            let flow = dispatch::produce(produce.as_mut(), &mut tx)?;
            let n = slot.out.len() - before;
            if framing == BodyOut::Chunked {
                if n == 0 {
                    slot.out.buf.unfill(SIZE.len());
                } else {
                    slot.out.buf.patch(at, &five_digits(n));
                    slot.out.push(b"\r\n");
                }
            }
            slot.conn.wrote(n as u64);
            self.written += n as u64;
            worked |= n > 0;
            match flow {
                Flow::Abort => return Err(Ended::Aborted.into()),
                Flow::Wait => *waits = true,
                // Nothing was there although there was room for it: it must be woken, or it would be asked for ever.
                Flow::More if n == 0 => {
                    *waits = slot.out.is_empty();
                    return Ok(worked);
                }
                Flow::More => {}
                Flow::End | Flow::Trailers(_) => {
                    let trailers = if let Flow::Trailers(trailers) = &flow { Some(trailers) } else { None };
                    self.end_reply(slot, core, trailers)?;
                    return Ok(true);
                }
            }
        }
    }

    /// The answer's body is over.
    pub(super) fn end_reply(
        &mut self,
        slot: &mut Slot,
        core: &mut Core,
        trailers: Option<&Headers>,
    ) -> Result<(), Stop> {
        self.take_socket_back();
        dispatch::discard(std::mem::replace(&mut self.reply, Reply::Sent));
        slot.open_out(core);
        if !slot.conn.end_body(trailers, &mut slot.out) {
            error!(target: "uncork::engine", "{}: the body is shorter than its length said", slot.request_id());
            return Err(Ended::Aborted.into());
        }
        Ok(())
    }

    fn drive_file(&mut self, slot: &mut Slot, core: &mut Core) -> Result<bool, Stop> {
        let Reply::File { file, at } = &mut self.reply else { return Ok(false) };
        let mut worked = false;
        // One call's worth a round: others wait.
        if let BodyOut::Length(left) = slot.conn.body_out() {
            let n = if slot.transport.is_plain() {
                if !slot.out.is_empty() || !slot.ready.has(Ready::WRITE) {
                    return Ok(false);
                }
                let n = slot.transport.sendfile(file, *at, left).map_err(|error| slot.fault(core, error.into()))?;
                if n == 0 {
                    slot.ready.clear(Ready::WRITE);
                }
                slot.note_sent(core, usize::try_from(n).unwrap_or(0));
                n
            } else {
                if !slot.out.is_empty() && slot.sent > 0 && slot.is_blocked() {
                    return Ok(false);
                }
                slot.open_out(core);
                let spare = slot.out.buf.spare();
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(spare.len());
                let n = file.read_at(&mut spare[..most], *at).map_err(|error| slot.fault(core, error.into()))?;
                if n == 0 && most > 0 {
                    error!(target: "uncork::engine", "{}: the file has become shorter", slot.request_id());
                    return Err(Ended::Aborted.into());
                }
                slot.out.buf.commit(n);
                n as u64
            };
            *at += n;
            self.written += n;
            slot.conn.wrote(n);
            worked = n > 0;
        }
        if slot.conn.body_out() == BodyOut::Nothing {
            self.reply = Reply::Sent;
            return Ok(true);
        }
        Ok(worked)
    }

    /// Whether everything is done: the body in, the answer out, and acknowledged if that was asked for.
    pub(super) fn is_complete(&mut self, slot: &Slot, core: &Core) -> bool {
        let conn = &slot.conn;
        if !matches!(self.reply, Reply::Sent)
            || conn.owes_answer()
            || conn.is_answering()
            || (conn.is_receiving() && (!conn.must_close() || self.is_wanted()))
            || !slot.out.is_empty()
            || slot.transport.has_pending()
        {
            return false;
        }
        let Some((due, pause)) = &mut self.confirm else { return true };
        if slot.transport.unacknowledged().unwrap_or(0) == 0 {
            return true;
        }
        if *due == Tick::NEVER || *due <= core.tick {
            // 1, 2, … 64 ms.
            *due = core.tick.after(*pause);
            *pause = (*pause * 2).min(Duration::from_millis(64));
        }
        false
    }

    /// A fallback that has come due answers, unless a ticket has.
    fn drive_fallback(&mut self, slot: &mut Slot, core: &mut Core) -> Result<bool, Stop> {
        if !matches!(self.reply, Reply::Owed) {
            return Ok(false);
        }
        let Some((_, f)) = self.fallback.take_if(|(due, _)| *due <= core.tick) else { return Ok(false) };
        if self.asks.ticket.as_ref().is_some_and(|ticket| ticket.claim()) {
            let response = dispatch::fallback(f, core.now)?;
            self.answer(slot, core, response);
        }
        Ok(true)
    }

    fn drive(&mut self, slot: &mut Slot, core: &mut Core) -> Result<bool, Stop> {
        let mut worked = self.drive_fallback(slot, core)?;
        worked |= self.drive_up(slot, core)?;
        worked |= self.drive_reply(slot, core)?;
        if slot.eof.is_some() || slot.ready.has(Ready::FIN) {
            worked |= self.note_eof(slot, core)?;
        }
        Ok(worked)
    }
}

fn five_digits(n: usize) -> [u8; 5] {
    std::array::from_fn(|i| b"0123456789abcdef"[n >> (4 * (4 - i)) & 0xf])
}

impl Slot {
    pub(super) fn request_id(&self) -> RequestId {
        RequestId { conn: self.id, number: self.number }
    }

    /// Moves the request at work on. Whether anything changed.
    #[inline(never)]
    pub(super) fn drive_job(&mut self, core: &mut Core) -> Result<bool, Ended> {
        let mut complete = false;
        let worked = self.with_job(core, |job, slot, core| {
            let worked = job.drive(slot, core)?;
            complete = job.is_complete(slot, core);
            Ok(worked)
        })?;
        if !complete {
            return Ok(worked);
        }
        let Phase::Job(job) = std::mem::replace(&mut self.phase, Phase::Head) else { return Ok(worked) };
        let outcome = job.outcome;
        self.end_job(core, *job, outcome);
        self.stop_clock();
        if self.conn.must_close() {
            let linger = self.conn.is_receiving() || !self.rx.is_empty();
            self.close(Ended::Complete, linger);
        }
        Ok(true)
    }

    /// Lets `f` work on the job, and carries out what it stops with.
    pub(super) fn with_job(
        &mut self,
        core: &mut Core,
        f: impl FnOnce(&mut Job, &mut Self, &mut Core) -> Result<bool, Stop>,
    ) -> Result<bool, Ended> {
        let mut job = match std::mem::replace(&mut self.phase, Phase::Head) {
            Phase::Job(job) => job,
            other => {
                self.phase = other;
                return Ok(false);
            }
        };
        let result = f(&mut job, self, core);
        match result {
            Ok(worked) => {
                self.phase = Phase::Job(job);
                Ok(worked)
            }
            Err(Stop::End(Ended::Panicked)) if self.conn.owes_answer() => {
                // What has panicked is not called again.
                dispatch::discard(std::mem::replace(&mut job.up, Up::Idle));
                job.answer(self, core, Slot::mistake(PANICKED).close());
                job.outcome = Ended::Panicked;
                self.phase = Phase::Job(job);
                Ok(true)
            }
            Err(Stop::End(why)) => {
                self.phase = Phase::Job(job);
                Err(why)
            }
            Err(Stop::Refuse(rule)) => {
                // Whoever was receiving the body may have words of its own for that.
                dispatch::discard(std::mem::replace(&mut job.up, Up::Idle));
                let own = job.asks.ticket.as_ref().filter(|_| self.conn.owes_answer());
                if let Some(Action::Respond(response)) = own.and_then(|ticket| ticket.take_answer()) {
                    job.answer(self, core, response.close());
                    job.outcome = Ended::Refused { status: rule.status(), rule: rule.rule() };
                    self.phase = Phase::Job(job);
                    return Ok(true);
                }
                self.phase = Phase::Job(job);
                self.refuse(core, rule)?;
                Ok(true)
            }
            Err(Stop::Switch(switch)) => {
                self.switch(core, job, *switch)?;
                Ok(true)
            }
        }
    }

    /// The request is over: tells whoever wants to know, once.
    pub(super) fn end_job(&mut self, core: &mut Core, job: Job, why: Ended) {
        let Job { asks, head, began, up, reply, fallback, status, written, marks, .. } = job;
        if let Some(ticket) = asks.ticket {
            dispatch::discard(fallback);
            if !matches!(reply, Reply::Sent) || why != Ended::Complete {
                log::trace!(target: "uncork::engine", "{}: {why}", self.request_id());
            }
            ticket.close();
        }
        dispatch::discard((up, reply));
        let asked_for = asks.peer;
        if asks.on_end.is_empty() && core.access_log.is_none() {
            return;
        }
        // What still lies in the output was not handed over; framing in it counts against the body.
        let written = written.saturating_sub(self.out.len() as u64);
        let received = self.conn.received();
        if !asks.on_end.is_empty() {
            let acked = marks.acknowledged(&self.transport, self.sent, written);
            let end = End { why, received, written, acked, now: core.now };
            for f in asks.on_end {
                dispatch::on_end(f, &end);
            }
        }
        if let Some(log) = core.access_log.clone() {
            let (id, head) = (self.request_id(), head.as_ref());
            let peer = asked_for.as_ref().unwrap_or(&self.peer.addr);
            let ended = core.now.wall;
            dispatch::access(&*log, &Access { id, peer, head, status, written, received, why: &why, began, ended });
        }
    }
}
