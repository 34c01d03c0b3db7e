//! From heads to actions: the fast path of a request that gets its response at once, and the way into a job for all
//! others.

use log::{debug, error};

use super::{
    conn_io::{ConnIo, tls_info},
    core::Core,
    dispatch,
    job::{Job, JobExit},
    phase::Step,
};
use crate::{
    api::{Action, Handler, Head, Request, Response, request::RequestContext, response::Kind},
    base::{EndReason, RequestId, pool::LENT},
    conn::{BodyOut, message::ResponseSpec},
    h1::{Misbehaved, field_slots},
};

impl ConnIo {
    /// Dispatches the complete requests, one after the other.
    pub(super) fn drive_heads(&mut self, core: &mut Core, handler: &mut dyn Handler) -> Result<Step, EndReason> {
        let mut worked = false;
        if !core.versions.http1 && !self.rx.is_empty() {
            return self.require_http2(core);
        }
        while !self.rx.is_empty() && self.out.len() < core.limits.output {
            match self.dispatch_one(core, handler)? {
                Step::Idle => break,
                Step::Progress => worked = true,
                step => return Ok(step),
            }
        }
        if self.eof.is_some() && self.out.len() < core.limits.output {
            // The peer has half-closed, and all of its requests are done; responses may still be in flight.
            let partial = self.conn.has_partial_head(&self.rx);
            self.rx.consume(self.rx.len());
            self.conn.handle_end();
            return Ok(self.closing(if partial { EndReason::PeerClosed } else { EndReason::Complete }, false));
        }
        Ok(Step::progress(worked))
    }

    /// Begins HTTP/2, or rejects another version.
    #[cold]
    fn require_http2(&mut self, core: &mut Core) -> Result<Step, EndReason> {
        #[cfg(feature = "http2")]
        if self.has_preface() {
            return Ok(self.begin_http2(core));
        }
        self.reject(core, Misbehaved::Http2Required, None)
    }

    /// Dispatches the next request, if its head is complete, and carries out the handler's action.
    #[inline]
    fn dispatch_one(&mut self, core: &mut Core, handler: &mut dyn Handler) -> Result<Step, EndReason> {
        let mut slots = field_slots();
        let (end, head) = match self.conn.poll_head(&self.rx, &mut slots, &core.head_limits, &mut core.known_host) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(Step::Idle),
            #[cfg(feature = "http2")]
            Err(_) if core.versions.http2 && self.number == 0 && self.has_preface() => {
                return Ok(self.begin_http2(core));
            }
            Err(rule) => return self.reject(core, rule, None),
        };
        self.number = self.number.wrapping_add(1);
        let last = core.stopping.is_some() || self.number >= core.limits.requests;
        let begun = self.conn.begin(&head, &core.limits, last);
        let copy = core.access_log.is_some().then(|| Head::copy(&head));
        let context = RequestContext {
            id: RequestId { conn: self.id, number: self.number },
            peer: &self.peer.addr,
            listener: self.peer.listener.into(),
            now: core.now,
            mailbox: &core.mailbox,
            tls_info: tls_info(&self.transport),
            socket: self.transport.socket_ref(),
        };
        let mut hooks = None;
        let mut request = Request { head: &head, context: &context, hooks: &mut hooks };
        let mut action = match begun {
            Ok(()) => dispatch::request(handler, &mut request),
            Err(rule) => {
                self.rx.consume(end);
                self.stop_timeout();
                return self.start_job(core, Err(rule.into()), hooks, copy);
            }
        };
        // Moved out of the handler's reach, so that the compiler knows on the fast path that there are none to drop.
        let hooks = hooks;
        self.rx.consume(end);
        self.stop_timeout();
        if let Some(timeout) = hooks.as_ref().and_then(|hooks| hooks.timeout) {
            self.set_timeout(timeout);
        }
        match &mut action {
            Ok(Action::Respond(response)) if hooks.is_none() && copy.is_none() && self.is_simple(response) => {
                let closes = self.respond_at_once(core, response);
                if response.owns_nothing() {
                    #[expect(
                        clippy::mem_forget,
                        reason = "there is nothing to drop, and checking that takes four calls"
                    )]
                    std::mem::forget(action);
                }
                if closes {
                    let linger = !self.rx.is_empty();
                    return Ok(self.closing(EndReason::Complete, linger));
                }
                Ok(Step::Progress)
            }
            _ => self.start_job(core, action.map_err(JobExit::from), hooks, copy),
        }
    }

    /// Returns `true` if the request is complete, the body is at hand, and no hook waits for the end.
    fn is_simple(&self, response: &Response) -> bool {
        is_whole(response) && !self.conn.is_receiving()
    }

    /// Writes a whole response. Returns `true` if the connection closes after it.
    // Always: it has one caller.
    #[inline(always)]
    fn respond_at_once(&mut self, core: &mut Core, response: &mut Response) -> bool {
        let short = if let Kind::Bytes(block) = &response.body.0 { block.if_short() } else { &[] };
        let out = self.write_head(core, response, short);
        if let (Kind::Bytes(block), BodyOut::Length(n)) = (&mut response.body.0, out) {
            self.out.push_block(block);
            self.conn.wrote(n);
        }
        self.conn.must_close()
    }

    /// Writes the head of a response, and `body` after it. The connection closes afterwards if the response says so.
    #[inline]
    pub(super) fn write_head(&mut self, core: &mut Core, response: &Response, body: &[u8]) -> BodyOut {
        self.open_out(core);
        if response.close || core.stopping.is_some() {
            self.conn.forbid_keep_alive();
        }
        let length = announced(response, self.conn.is_head_only());
        let date = core.date.at(core.now.wall);
        let response = ResponseSpec { status: response.status, fields: &response.headers, length, date };
        self.conn.respond_with(&response, body, &mut self.out)
    }

    /// Returns the response to a request that the application mishandled. In debug builds its body states the mistake,
    /// for programs without a logger. In release builds it does not: clients must not read it.
    #[cold]
    pub(super) fn mistake(reason: impl std::fmt::Display) -> Response {
        if cfg!(debug_assertions) {
            Response::text(format!("{reason}\n")).with_status(500).header("X-Content-Type-Options", "nosniff")
        } else {
            Response::new(500)
        }
    }

    /// Returns the response, or a 500 if it cannot be sent as it is.
    pub(super) fn checked(&self, response: Response) -> Response {
        match &response.fault {
            None => response,
            Some(fault) => {
                error!(target: "uncork::engine", "{}: cannot send the response: {fault}", self.request_id());
                Self::mistake(fault)
            }
        }
    }

    /// Responds with the rule that the peer broke, if that is possible, and closes with a linger.
    pub(super) fn reject(
        &mut self,
        core: &mut Core,
        rule: Misbehaved,
        job: Option<&mut Job>,
    ) -> Result<Step, EndReason> {
        let reason = EndReason::Rejected { status: rule.status(), rule: rule.rule() };
        self.reject_with(core, rule, reason, job)
    }

    /// Ends the request with a rejection. If a response is in progress, none can be sent: the connection is aborted.
    pub(super) fn reject_with(
        &mut self,
        core: &mut Core,
        rule: Misbehaved,
        reason: EndReason,
        job: Option<&mut Job>,
    ) -> Result<Step, EndReason> {
        debug!(target: "uncork::conn", "{} {}: {}", self.id, self.peer.addr, rule.rule());
        self.open_out(core);
        if self.conn.is_responding() {
            return Err(reason);
        }
        let sent = self.conn.reject(rule, core.date.at(core.now.wall), &mut self.out);
        let note = |job: &mut Job| {
            if sent {
                job.status = rule.status();
                job.written = rule.rule().len() as u64 + 1;
            }
        };
        let mut step = self.closing(reason, true);
        match job {
            Some(job) => note(job),
            // A request without a complete head is logged, too.
            None if core.access_log.is_some() => {
                let mut job = Job::new(None, None, core.now.wall);
                note(&mut job);
                if let Step::Become(phase) = &mut step {
                    phase.take_job(job);
                }
            }
            None => {}
        }
        Ok(step)
    }

    /// Returns how many bytes of a head are held at most.
    pub(super) fn head_room(core: &Core) -> usize {
        LENT.max(core.head_limits.head + 1)
    }
}

/// Returns `true` if the body is at hand, and the end is not waited for.
pub(super) fn is_whole(response: &Response) -> bool {
    matches!(response.body.0, Kind::Bytes(_) | Kind::Empty) && !response.wait_for_ack && response.fault.is_none()
}

/// Returns the length of a response's body, if it is known. `head_only`: the request is HEAD.
#[inline]
pub(super) fn announced(response: &Response, head_only: bool) -> Option<u64> {
    match &response.body.0 {
        Kind::Empty if head_only => Some(response.length.unwrap_or(0)),
        Kind::Empty => Some(0),
        Kind::Bytes(block) => Some(block.bytes().len() as u64),
        Kind::File(_, range) => Some(range.end.saturating_sub(range.start)),
        Kind::Stream(_) => response.length,
    }
}
