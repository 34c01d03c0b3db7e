//! From heads to actions: the fast path of a request that is answered at once, and the way into a job for all others.

use log::{debug, error};

use super::{
    core::Core,
    dispatch,
    job::{Job, Stop},
    slot::{Phase, Slot, secure},
};
use crate::{
    api::{Action, Handler, Head, Request, Response, request::Around, request::Asks, response::Kind},
    base::{Ended, RequestId, pool::LENT},
    conn::{BodyOut, server::Answer},
    h1::{Misbehaved, field_slots},
};

impl Slot {
    /// Dispatches the requests that are complete, one after the other. Whether anything changed.
    pub(super) fn drive_heads(&mut self, core: &mut Core, handler: &mut dyn Handler) -> Result<bool, Ended> {
        let mut worked = false;
        while matches!(self.phase, Phase::Head) && !self.rx.is_empty() && self.out.len() < core.limits.output {
            if !self.dispatch_one(core, handler)? {
                break;
            }
            worked = true;
        }
        if matches!(self.phase, Phase::Head) && self.eof.is_some() && self.out.len() < core.limits.output {
            // The peer has finished, and nothing of what it sent is left to do; answers may still be on their way.
            let partial = self.conn.has_partial_head(&self.rx);
            self.rx.consume(self.rx.len());
            self.conn.handle_end();
            self.close(if partial { Ended::PeerLeft } else { Ended::Complete }, false);
            return Ok(true);
        }
        Ok(worked)
    }

    /// Dispatches the next request, if its head is here, and carries out what the handler returned. Whether it was.
    #[inline]
    fn dispatch_one(&mut self, core: &mut Core, handler: &mut dyn Handler) -> Result<bool, Ended> {
        let mut slots = field_slots();
        let (end, head) = match self.conn.poll_head(&self.rx, &mut slots, &core.head_limits, &mut core.known_host) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(false),
            Err(rule) => return self.refuse(core, rule).map(|()| true),
        };
        self.number = self.number.wrapping_add(1);
        let last = core.stopping.is_some() || self.number >= core.limits.requests;
        let begun = self.conn.begin(&head, &core.limits, last);
        let copy = core.access_log.is_some().then(|| Head::copy(&head));
        let around = Around {
            id: RequestId { conn: self.id, number: self.number },
            peer: &self.peer.addr,
            listener: self.listener.into(),
            now: core.now,
            mailbox: &core.mailbox,
            secure: secure(&self.transport),
        };
        let mut asks = None;
        let mut request = Request { head: &head, around: &around, asks: &mut asks };
        let mut action = match begun {
            Ok(()) => dispatch::request(handler, &mut request),
            Err(rule) => {
                self.rx.consume(end);
                self.stop_clock();
                return self.start_job(core, Err(rule.into()), asks, copy).map(|()| true);
            }
        };
        self.rx.consume(end);
        self.stop_clock();
        match &mut action {
            Ok(Action::Respond(response)) if asks.is_none() && copy.is_none() && self.is_simple(response) => {
                self.answer_at_once(core, response);
                if response.owns_nothing() {
                    #[expect(
                        clippy::mem_forget,
                        reason = "there is nothing to destroy; finding that out takes four calls"
                    )]
                    std::mem::forget(action);
                }
            }
            _ => self.start_job(core, action.map_err(Stop::from), asks, copy)?,
        }
        Ok(true)
    }

    /// Nobody wants to know how it ends, the request is whole, and the body is at hand.
    fn is_simple(&self, response: &Response) -> bool {
        matches!(response.body.0, Kind::Bytes(_) | Kind::Empty)
            && !response.confirm
            && response.fault.is_none()
            && !self.conn.is_receiving()
    }

    #[inline]
    fn answer_at_once(&mut self, core: &mut Core, response: &mut Response) {
        let short = if let Kind::Bytes(block) = &response.body.0 { block.if_short() } else { &[] };
        let out = self.write_head(core, response, short);
        if let (Kind::Bytes(block), BodyOut::Length(n)) = (&mut response.body.0, out) {
            self.out.push_block(block);
            self.conn.wrote(n);
        }
        if self.conn.must_close() {
            let linger = !self.rx.is_empty();
            self.close(Ended::Complete, linger);
        }
    }

    fn start_job(
        &mut self,
        core: &mut Core,
        action: Result<Action, Stop>,
        asks: Option<Box<Asks>>,
        copy: Option<Head>,
    ) -> Result<(), Ended> {
        self.phase = Phase::Job(Job::new(asks, copy, core.now.wall));
        self.with_job(core, |job, slot, core| {
            let action = action?;
            job.perform(slot, core, action)?;
            Ok(true)
        })?;
        Ok(())
    }

    /// Writes the head of an answer, with `body` if that is not empty, and closes the connection behind it if it says so.
    #[inline]
    pub(super) fn write_head(&mut self, core: &mut Core, response: &Response, body: &[u8]) -> BodyOut {
        if response.close || core.stopping.is_some() {
            self.conn.forbid_keep_alive();
        }
        let length = match &response.body.0 {
            Kind::Empty if self.conn.is_head_only() => Some(response.length.unwrap_or(0)),
            Kind::Empty => Some(0),
            Kind::Bytes(block) => Some(block.bytes().len() as u64),
            Kind::File(_, range) => Some(range.end.saturating_sub(range.start)),
            Kind::Stream(_) => response.length,
        };
        self.open_out(core);
        let date = core.date.at(core.now.wall);
        let answer = Answer { status: response.status, fields: &response.headers, length, date };
        self.conn.respond_with(&answer, body, &mut self.out)
    }

    /// The response to a request that the application cannot answer by a mistake of its own. In debug builds its body says
    /// which, since a program without a logger would say it nowhere. In release builds that is not for clients to read.
    #[cold]
    pub(super) fn mistake(reason: impl std::fmt::Display) -> Response {
        if cfg!(debug_assertions) {
            Response::text(format!("{reason}\n")).status(500).header("X-Content-Type-Options", "nosniff")
        } else {
            Response::new(500)
        }
    }

    /// The response, or a 500 in its place if it can't be sent as it is.
    pub(super) fn checked(&self, response: Response) -> Response {
        match &response.fault {
            None => response,
            Some(fault) => {
                error!(target: "uncork::engine", "{}: a response can't be sent: {fault}", self.request_id());
                Self::mistake(fault)
            }
        }
    }

    /// The peer broke a rule: says which, if it can be said, and closes with a linger.
    pub(super) fn refuse(&mut self, core: &mut Core, rule: Misbehaved) -> Result<(), Ended> {
        let why = Ended::Refused { status: rule.status(), rule: rule.rule() };
        self.end_with_words(core, rule, why)
    }

    /// Ends the request with a refusal. If an answer is under way there is nothing honest left to say, and the
    /// connection is broken off.
    pub(super) fn end_with_words(&mut self, core: &mut Core, rule: Misbehaved, why: Ended) -> Result<(), Ended> {
        debug!(target: "uncork::conn", "{} {}: {}", self.id, self.peer.addr, rule.rule());
        self.open_out(core);
        if self.conn.is_answering() {
            return Err(why);
        }
        let said = self.conn.refuse(rule, core.date.at(core.now.wall), &mut self.out);
        let job = match std::mem::replace(&mut self.phase, Phase::Head) {
            Phase::Job(job) => Some(job),
            _ => core.access_log.is_some().then(|| Job::new(None, None, core.now.wall)),
        };
        let job = job.map(|mut job| {
            if said {
                job.status = rule.status();
                job.written = rule.rule().len() as u64 + 1;
            }
            job
        });
        self.close_with(why, true, job);
        Ok(())
    }

    /// How much of a head is held at the most.
    pub(super) fn head_room(core: &Core) -> usize {
        LENT.max(core.head_limits.head + 1)
    }
}
