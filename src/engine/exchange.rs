//! The course of one request: its body comes in, its response goes out, and its end is reported. `job` has its data.
//!
//! The two directions are independent: a response may begin, and even end, before the body is complete.

use std::{mem, time::Duration};

use log::{error, warn};

use super::{
    conn_io::ConnIo,
    core::Core,
    dispatch,
    job::{Job, JobExit, PANICKED, RequestBody, ResponseBody},
    phase::{Phase, Step},
    ready::Ready,
};
use crate::{
    api::{
        AccessRecord, Action, Head, Response, Waker,
        request::{RequestEnd, RequestHooks},
    },
    base::{EndReason, time::Tick},
};

impl Job {
    /// Returns `true` if the response has begun, and has nothing to send until another event.
    fn pauses(&self, io: &ConnIo) -> bool {
        matches!(self.response_body, ResponseBody::Stream { waits: true, .. } | ResponseBody::Pipe { waits: true, .. })
            && io.out.is_empty()
            && !io.transport.has_pending()
    }

    /// Handles end-of-file from the client, which has half-closed or closed: on the wire they look alike. It ends the
    /// request if there is nothing to send, unless the application serves half-closed clients. Returns `true` if
    /// anything changed.
    ///
    /// The socket's report ([`Ready::READ_CLOSED`]) is enough. Unread bytes in front of it, pipelined requests for
    /// example, are not read to find out (see [`hold`](Self::hold)).
    #[cold]
    fn note_half_close(&mut self, io: &mut ConnIo, core: &mut Core) -> Result<bool, JobExit> {
        // A body that is still received is read up to that end first.
        if !matches!(self.request_body, RequestBody::NotRequested | RequestBody::Over) || self.allow_half_close {
            return Ok(false);
        }
        if matches!(self.response_body, ResponseBody::Owed) {
            let disconnected = self.hooks.ticket.as_ref().is_none_or(|ticket| ticket.ends_on_half_close());
            return if disconnected { Err(EndReason::PeerClosed.into()) } else { Ok(false) };
        }
        if !self.pauses(io) {
            return Ok(false);
        }
        // The wait may be over already and the wake-up still in transit, for example from the client's own upload.
        if let ResponseBody::Stream { waits, .. } | ResponseBody::Pipe { waits, .. } = &mut self.response_body {
            *waits = false;
        }
        let worked = self.drive_response_body(io, core)?;
        if self.pauses(io) { Err(EndReason::PeerClosed.into()) } else { Ok(worked) }
    }

    pub(super) fn waker(&mut self, io: &ConnIo, core: &Core) -> Waker {
        self.hooks.waker(io.request_id(), &core.mailbox).clone()
    }

    /// Carries out an action of the application.
    pub(super) fn perform(&mut self, io: &mut ConnIo, core: &mut Core, action: Action) -> Result<(), JobExit> {
        let owed = matches!(self.response_body, ResponseBody::Owed);
        match action {
            Action::Abort => return Err(EndReason::Aborted.into()),
            Action::Respond(response) if owed => self.respond(io, core, response),
            Action::Switch(switch) if owed => {
                if !matches!(self.request_body, RequestBody::Over) && io.conn.is_receiving() {
                    warn!(target: "uncork::engine", "{}: the handler switches protocols before it has received the \
                        body", io.request_id());
                }
                self.response_body = ResponseBody::Switch(Box::new(switch));
            }
            Action::Receive(upload)
                if matches!(self.request_body, RequestBody::NotRequested)
                    && !matches!(self.response_body, ResponseBody::Switch(_)) =>
            {
                self.receive(io, core, upload)?;
            }
            Action::Suspend if owed && self.waits_for_ticket() => {
                match &self.hooks.ticket {
                    Some(ticket) if ticket.can_respond() => {}
                    // Every ticket was dropped before the action was returned.
                    Some(_) => self.respond(io, core, Response::new(503)),
                    None => {
                        error!(target: "uncork::engine", "{}: the handler suspended the request without a ticket",
                            io.request_id());
                        self.respond(io, core, ConnIo::mistake("the handler suspended the request without a ticket"));
                    }
                }
            }
            Action::Suspend => {}
            other => {
                // A ticket was faster, or the body was received before.
                dispatch::discard(other);
            }
        }
        Ok(())
    }

    /// Returns `true` if the body is in, the response is out, and it is acknowledged if that was requested.
    pub(super) fn is_complete(&mut self, io: &ConnIo, core: &Core) -> bool {
        let conn = &io.conn;
        if !matches!(self.response_body, ResponseBody::Sent)
            || conn.owes_response()
            || conn.is_responding()
            || (conn.is_receiving() && (!conn.must_close() || self.is_wanted()))
            || !io.out.is_empty()
            || io.transport.has_pending()
        {
            return false;
        }
        let Some((due, pause)) = &mut self.ack_check else { return true };
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

    /// Sends a fallback that has come due, unless a ticket has responded.
    fn drive_fallback(&mut self, io: &mut ConnIo, core: &mut Core) -> Result<bool, JobExit> {
        if !matches!(self.response_body, ResponseBody::Owed) {
            return Ok(false);
        }
        let Some((_, f)) = self.fallback.take_if(|(due, _)| *due <= core.tick) else { return Ok(false) };
        if self.hooks.ticket.as_ref().is_some_and(|ticket| ticket.claim()) {
            let response = dispatch::fallback(f, core.now)?;
            self.respond(io, core, response);
        }
        Ok(true)
    }

    /// Advances the request.
    #[inline(never)]
    pub(super) fn drive(&mut self, io: &mut ConnIo, core: &mut Core) -> Result<Step, EndReason> {
        let worked = match self.work(io, core) {
            Ok(worked) => worked,
            Err(exit) => return self.stopped(io, core, exit),
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
        io.stop_timeout();
        if io.conn.must_close() {
            let linger = io.conn.is_receiving() || !io.rx.is_empty();
            return Ok(io.closing(EndReason::Complete, linger));
        }
        Ok(Step::Become(Phase::Head))
    }

    fn work(&mut self, io: &mut ConnIo, core: &mut Core) -> Result<bool, JobExit> {
        let mut worked = self.drive_fallback(io, core)?;
        worked |= self.drive_request_body(io, core)?;
        worked |= self.drive_response_body(io, core)?;
        if io.eof.is_some() || io.ready.contains(Ready::READ_CLOSED) {
            worked |= self.note_half_close(io, core)?;
        }
        Ok(worked)
    }

    /// Responds with the reason that stopped the job, if that is possible.
    pub(super) fn stopped(&mut self, io: &mut ConnIo, core: &mut Core, exit: JobExit) -> Result<Step, EndReason> {
        match exit {
            JobExit::End(EndReason::Panicked) if io.conn.owes_response() => {
                // After a panic the upload is not called again.
                dispatch::discard(mem::replace(&mut self.request_body, RequestBody::NotRequested));
                self.respond(io, core, ConnIo::mistake(PANICKED).close());
                self.outcome = EndReason::Panicked;
                Ok(Step::Progress)
            }
            JobExit::End(reason) => Err(reason),
            JobExit::Reject(rule) => {
                // The application may have its own response for that.
                dispatch::discard(mem::replace(&mut self.request_body, RequestBody::NotRequested));
                let own = self.hooks.ticket.as_ref().filter(|_| io.conn.owes_response());
                if let Some(Action::Respond(response)) = own.and_then(|ticket| ticket.take_action()) {
                    self.respond(io, core, response.close());
                    self.outcome = EndReason::Rejected { status: rule.status(), rule: rule.rule() };
                    return Ok(Step::Progress);
                }
                io.reject(core, rule, Some(self))
            }
        }
    }
}

impl ConnIo {
    /// Begins a job with the result of the handler.
    pub(super) fn start_job(
        &mut self,
        core: &mut Core,
        action: Result<Action, JobExit>,
        hooks: Option<Box<RequestHooks>>,
        copy: Option<Head>,
    ) -> Result<Step, EndReason> {
        let mut job = Job::new(hooks, copy, core.now.wall);
        let begun = action.and_then(|action| job.perform(self, core, action));
        let step = match begun {
            Ok(()) => Ok(Step::Progress),
            Err(exit) => job.stopped(self, core, exit),
        };
        match step {
            Ok(Step::Become(mut phase)) => {
                phase.take_job(job);
                Ok(Step::Become(phase))
            }
            Ok(_) => Ok(Step::Become(Phase::Job(job))),
            Err(reason) => {
                self.end_job(core, *job, reason);
                Err(reason)
            }
        }
    }

    /// Ends the request, and reports the end once.
    pub(super) fn end_job(&mut self, core: &mut Core, job: Job, reason: EndReason) {
        let Job { hooks, head, began, request_body, response_body, fallback, status, written, marks, .. } = job;
        if let Some(ticket) = hooks.ticket {
            dispatch::discard(fallback);
            if !matches!(response_body, ResponseBody::Sent) || reason != EndReason::Complete {
                log::trace!(target: "uncork::engine", "{}: {reason}", self.request_id());
            }
            ticket.close();
        }
        dispatch::discard((request_body, response_body));
        let hook_peer = hooks.peer;
        if hooks.on_end.is_empty() && core.access_log.is_none() {
            return;
        }
        // Bytes still in the output were not handed over; framing among them counts against the body.
        let written = written.saturating_sub(self.out.len() as u64);
        let received = self.conn.received();
        if !hooks.on_end.is_empty() {
            let acked = marks.acknowledged(&self.transport, self.sent, written);
            let end = RequestEnd { reason, received, written, acked, now: core.now };
            for f in hooks.on_end {
                dispatch::on_end(f, &end);
            }
        }
        if let Some(log) = core.access_log.clone() {
            let (id, head) = (self.request_id(), head.as_ref());
            let peer = hook_peer.as_ref().unwrap_or(&self.peer.addr);
            let ended = core.now.wall;
            dispatch::access(
                &*log,
                &AccessRecord { id, peer, head, status, written, received, reason: &reason, began, ended },
            );
        }
    }
}
