//! One request at work: its body coming in, its answer going out, and whoever waits for its end.
//!
//! The two directions are independent: an answer may begin, and even end, before the body is whole.
//!
//! ```text
//!   up:     Idle ──Receive──▶ Upload │ Pipe ──▶ Over          reply:  Owed ──▶ Stream │ Pipe │ File ──▶ Sent
//!             └──answered without it──▶ Draining ──┘
//! ```

use std::{mem, time::Duration, time::SystemTime};

use log::{error, warn};

use super::{
    acked::Marks,
    body::RequestBody,
    conn_io::ConnIo,
    core::Core,
    dispatch,
    ready::Ready,
    response_body::ResponseBody,
    slot::{Phase, Step},
};
use crate::{
    api::{
        AccessRecord, Action, Head, Response, Waker,
        loop_message::Fallback,
        request::{RequestEnd, RequestHooks},
    },
    base::{EndReason, time::Tick},
    h1::Misbehaved,
};

pub(super) struct Job {
    pub(super) hooks: RequestHooks,
    /// For the access log.
    pub(super) head: Option<Head>,
    pub(super) began: SystemTime,
    pub(super) request_body: RequestBody,
    pub(super) response_body: ResponseBody,
    pub(super) fallback: Option<(Tick, Fallback)>,
    /// The waker was called since the job was last looked at.
    pub(super) woken: bool,
    pub(super) status: u16,
    /// Bytes of the answer's body put into the output.
    pub(super) written: u64,
    pub(super) marks: Marks,
    /// The application closes the connection with its answer, whatever is still coming.
    pub(super) close_after: bool,
    /// [`Response::allow_half_close`], or said by the ticket.
    pub(super) allow_half_close: bool,
    /// How it will have ended when the answer is out: complete, unless that answer is the 500 of a panic.
    pub(super) outcome: EndReason,
    /// Wait for the peer's acknowledgement; when to look for it, and the pause after that.
    pub(super) confirm: Option<(Tick, Duration)>,
    /// Body and response are complete: it ends with the phase.
    pub(super) complete: bool,
    /// How long the body may pause, if the upload has a word in that.
    pub(super) body_timeout: Option<Duration>,
}

/// The panic itself is on standard error, by the standard library, and in the log.
pub(super) const PANICKED: &str = "the application panicked: standard error says where";

/// Why a job cannot go on.
pub(super) enum JobExit {
    End(EndReason),
    Refuse(Misbehaved),
}

impl From<EndReason> for JobExit {
    fn from(why: EndReason) -> Self {
        Self::End(why)
    }
}

impl From<Misbehaved> for JobExit {
    fn from(rule: Misbehaved) -> Self {
        Self::Refuse(rule)
    }
}

impl From<dispatch::Panicked> for JobExit {
    fn from(_: dispatch::Panicked) -> Self {
        Self::End(EndReason::Panicked)
    }
}

impl Job {
    pub(super) fn new(asks: Option<Box<RequestHooks>>, head: Option<Head>, began: SystemTime) -> Box<Self> {
        Box::new(Self {
            hooks: asks.map_or_else(RequestHooks::default, |asks| *asks),
            head,
            began,
            request_body: RequestBody::Idle,
            response_body: ResponseBody::Owed,
            fallback: None,
            woken: false,
            status: 0,
            written: 0,
            marks: Marks::default(),
            close_after: false,
            allow_half_close: false,
            outcome: EndReason::Complete,
            confirm: None,
            complete: false,
            body_timeout: None,
        })
    }

    pub(super) fn due(&self) -> Tick {
        let fallback = self.fallback.as_ref().map_or(Tick::NEVER, |(due, _)| *due);
        let confirm = self.confirm.map_or(Tick::NEVER, |(due, _)| due);
        fallback.min(confirm).min(self.look_by())
    }

    /// There is output that does not lie in the io's own.
    pub(super) fn has_output(&self) -> bool {
        matches!(self.response_body, ResponseBody::File { .. } | ResponseBody::Pipe { waits: false, .. })
    }

    /// Whether only a ticket can bring it on.
    fn waits_for_ticket(&self) -> bool {
        matches!(self.response_body, ResponseBody::Owed)
            && matches!(self.request_body, RequestBody::Idle | RequestBody::Over)
    }

    /// Returns `true` if it waits for something that is not the peer's to do, and nothing is received or sent.
    pub(super) fn is_suspended(&self) -> bool {
        match self.response_body {
            ResponseBody::Owed => self.waits_for_ticket(),
            ResponseBody::Stream { waits: true, .. } | ResponseBody::Pipe { waits: true, .. } => {
                matches!(self.request_body, RequestBody::Idle | RequestBody::Over)
            }
            _ => false,
        }
    }

    /// Returns `true` if the response has begun, and has nothing to send until something else happens.
    fn pauses(&self, io: &ConnIo) -> bool {
        matches!(self.response_body, ResponseBody::Stream { waits: true, .. } | ResponseBody::Pipe { waits: true, .. })
            && io.out.is_empty()
            && !io.transport.has_pending()
    }

    /// Handles end-of-file from the client, which has half-closed or closed: on the wire they look alike. It ends the
    /// request if there is nothing to send, unless the application serves half-closed clients. Returns whether anything
    /// changed.
    ///
    /// That the socket says so ([`Ready::FIN`]) is enough: what lies unread in front of it, pipelined requests for
    /// example, is not read to find out (see [`hold`](Self::hold)).
    #[cold]
    fn note_half_close(&mut self, io: &mut ConnIo, core: &mut Core) -> Result<bool, JobExit> {
        // A body that is still wanted is read up to that end first.
        if !matches!(self.request_body, RequestBody::Idle | RequestBody::Over) || self.allow_half_close {
            return Ok(false);
        }
        if matches!(self.response_body, ResponseBody::Owed) {
            let left = self.hooks.ticket.as_ref().is_none_or(|ticket| ticket.ends_on_half_close());
            return if left { Err(EndReason::PeerClosed.into()) } else { Ok(false) };
        }
        if !self.pauses(io) {
            return Ok(false);
        }
        // The wait may be over already and the wake-up still under way, for example from the client's own upload.
        if let ResponseBody::Stream { waits, .. } | ResponseBody::Pipe { waits, .. } = &mut self.response_body {
            *waits = false;
        }
        let worked = self.drive_reply(io, core)?;
        if self.pauses(io) { Err(EndReason::PeerClosed.into()) } else { Ok(worked) }
    }

    pub(super) fn waker(&mut self, io: &ConnIo, core: &Core) -> Waker {
        self.hooks.waker(io.request_id(), &core.mailbox).clone()
    }

    /// Carries out what the application wants.
    pub(super) fn perform(&mut self, io: &mut ConnIo, core: &mut Core, action: Action) -> Result<(), JobExit> {
        let owed = matches!(self.response_body, ResponseBody::Owed);
        match action {
            Action::Abort => return Err(EndReason::Aborted.into()),
            Action::Respond(response) if owed => self.answer(io, core, response),
            Action::Switch(switch) if owed => {
                if !matches!(self.request_body, RequestBody::Over) && io.conn.is_receiving() {
                    warn!(target: "uncork::engine", "{}: an upgrade before the body was received; it is drained",
                        io.request_id());
                }
                self.response_body = ResponseBody::Switch(Box::new(switch));
            }
            Action::Receive(upload)
                if matches!(self.request_body, RequestBody::Idle)
                    && !matches!(self.response_body, ResponseBody::Switch(_)) =>
            {
                self.receive(io, core, upload)?
            }
            Action::Suspend if owed && self.waits_for_ticket() => {
                match &self.hooks.ticket {
                    Some(ticket) if ticket.is_hopeful() => {}
                    // Dropped already: it makes no difference when.
                    Some(_) => self.answer(io, core, Response::new(503)),
                    None => {
                        error!(target: "uncork::engine", "{}: the handler waits without a ticket", io.request_id());
                        self.answer(io, core, ConnIo::mistake("the handler waits without a ticket"));
                    }
                }
            }
            Action::Suspend => {}
            other => {
                // A ticket was faster, or the body has been received before.
                dispatch::discard(other);
            }
        }
        Ok(())
    }

    /// Whether everything is done: the body in, the answer out, and acknowledged if that was asked for.
    pub(super) fn is_complete(&mut self, io: &ConnIo, core: &Core) -> bool {
        let conn = &io.conn;
        if !matches!(self.response_body, ResponseBody::Sent)
            || conn.owes_answer()
            || conn.is_answering()
            || (conn.is_receiving() && (!conn.must_close() || self.is_wanted()))
            || !io.out.is_empty()
            || io.transport.has_pending()
        {
            return false;
        }
        let Some((due, pause)) = &mut self.confirm else { return true };
        if io.transport.unacknowledged().unwrap_or(0) == 0 {
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
    fn drive_fallback(&mut self, io: &mut ConnIo, core: &mut Core) -> Result<bool, JobExit> {
        if !matches!(self.response_body, ResponseBody::Owed) {
            return Ok(false);
        }
        let Some((_, f)) = self.fallback.take_if(|(due, _)| *due <= core.tick) else { return Ok(false) };
        if self.hooks.ticket.as_ref().is_some_and(|ticket| ticket.claim()) {
            let response = dispatch::fallback(f, core.now)?;
            self.answer(io, core, response);
        }
        Ok(true)
    }

    /// Moves the request on.
    #[inline(never)]
    pub(super) fn drive(&mut self, io: &mut ConnIo, core: &mut Core) -> Result<Step, EndReason> {
        let worked = match self.work(io, core) {
            Ok(worked) => worked,
            Err(stop) => return self.stopped(io, core, stop),
        };
        if matches!(self.response_body, ResponseBody::Switch(_))
            && let ResponseBody::Switch(switch) = mem::replace(&mut self.response_body, ResponseBody::Owed)
        {
            return self.switch(io, core, *switch);
        }
        self.complete = self.is_complete(io, core);
        if !self.complete {
            return Ok(Step::progress(worked));
        }
        io.stop_clock();
        if io.conn.must_close() {
            let linger = io.conn.is_receiving() || !io.rx.is_empty();
            return Ok(io.closing(EndReason::Complete, linger));
        }
        Ok(Step::Become(Phase::Head))
    }

    fn work(&mut self, io: &mut ConnIo, core: &mut Core) -> Result<bool, JobExit> {
        let mut worked = self.drive_fallback(io, core)?;
        worked |= self.drive_up(io, core)?;
        worked |= self.drive_reply(io, core)?;
        if io.eof.is_some() || io.ready.has(Ready::FIN) {
            worked |= self.note_half_close(io, core)?;
        }
        Ok(worked)
    }

    /// Answers in place of what has stopped the job, if that is possible.
    pub(super) fn stopped(&mut self, io: &mut ConnIo, core: &mut Core, stop: JobExit) -> Result<Step, EndReason> {
        match stop {
            JobExit::End(EndReason::Panicked) if io.conn.owes_answer() => {
                // What has panicked is not called again.
                dispatch::discard(mem::replace(&mut self.request_body, RequestBody::Idle));
                self.answer(io, core, ConnIo::mistake(PANICKED).close());
                self.outcome = EndReason::Panicked;
                Ok(Step::Progress)
            }
            JobExit::End(why) => Err(why),
            JobExit::Refuse(rule) => {
                // The application may have a response of its own for that.
                dispatch::discard(mem::replace(&mut self.request_body, RequestBody::Idle));
                let own = self.hooks.ticket.as_ref().filter(|_| io.conn.owes_answer());
                if let Some(Action::Respond(response)) = own.and_then(|ticket| ticket.take_action()) {
                    self.answer(io, core, response.close());
                    self.outcome = EndReason::Rejected { status: rule.status(), rule: rule.rule() };
                    return Ok(Step::Progress);
                }
                io.refuse(core, rule, Some(self))
            }
        }
    }
}

impl ConnIo {
    /// Begins a job with what the handler returned.
    pub(super) fn start_job(
        &mut self,
        core: &mut Core,
        action: Result<Action, JobExit>,
        asks: Option<Box<RequestHooks>>,
        copy: Option<Head>,
    ) -> Result<Step, EndReason> {
        let mut job = Job::new(asks, copy, core.now.wall);
        let begun = action.and_then(|action| job.perform(self, core, action));
        let step = match begun {
            Ok(()) => Ok(Step::Progress),
            Err(stop) => job.stopped(self, core, stop),
        };
        match step {
            Ok(Step::Become(mut phase)) => {
                phase.take_job(job);
                Ok(Step::Become(phase))
            }
            Ok(_) => Ok(Step::Become(Phase::Job(job))),
            Err(why) => {
                self.end_job(core, *job, why);
                Err(why)
            }
        }
    }

    /// The request is over: tells whoever wants to know, once.
    pub(super) fn end_job(&mut self, core: &mut Core, job: Job, why: EndReason) {
        let Job {
            hooks: asks,
            head,
            began,
            request_body: up,
            response_body: reply,
            fallback,
            status,
            written,
            marks,
            ..
        } = job;
        if let Some(ticket) = asks.ticket {
            dispatch::discard(fallback);
            if !matches!(reply, ResponseBody::Sent) || why != EndReason::Complete {
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
            let end = RequestEnd { reason: why, received, written, acked, now: core.now };
            for f in asks.on_end {
                dispatch::on_end(f, &end);
            }
        }
        if let Some(log) = core.access_log.clone() {
            let (id, head) = (self.request_id(), head.as_ref());
            let peer = asked_for.as_ref().unwrap_or(&self.peer.addr);
            let ended = core.now.wall;
            dispatch::access(
                &*log,
                &AccessRecord { id, peer, head, status, written, received, reason: &why, began, ended },
            );
        }
    }
}
