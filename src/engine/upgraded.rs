//! After the switch: when the application is called, and what becomes of what it returns.
//!
//! ```text
//!   events, wakes, deadlines ──▶ why? ──▶ Upgrade::ready(Io) ──▶ mask ──▶ wait │ push │ terminate
//!                                 └─ nothing the last mask asks for: no call
//! ```
//! The rules are those of the event mask's documentation; each has its test in `tests/matrix`.

use std::time::Duration;

use log::{debug, error};

use super::{
    body::Up,
    core::Core,
    dispatch,
    job::Job,
    ready::Ready,
    slot::{Phase, Slot},
};
use crate::{
    api::{Io, Response, Rx, RxEnd, Switch, Tx, Upgrade, Waker, Why, upgrade::Orders},
    base::{Ended, EventMask, time::Tick},
    conn::{BodyEvent, server::Answer},
    transport::sys::give_back_memory,
};

/// What is held back while more output is coming is a segment at the most: Ethernet's.
const SEGMENT: usize = 1400;
/// How long at the most (as Linux's TCP_CORK).
const HELD: Duration = Duration::from_millis(200);
/// Calls in one round before others have their turn.
const CALLS: usize = 32;

pub(super) struct Upgraded {
    app: Option<Box<dyn Upgrade>>,
    waker: Waker,
    /// The request it began with; none on a connection of our own making.
    job: Option<Box<Job>>,
    mask: EventMask,
    /// Input the application has seen and left.
    seen: usize,
    /// Output that waited when the application was last called; less means that room grew.
    queued: usize,
    /// The application wrote in its last call.
    wrote: bool,
    /// The application holds bytes of its own.
    holds: bool,
    /// The application's own deadline.
    deadline: Tick,
    /// Until when a partial segment may be held back.
    held: Tick,
    pub(super) woken: bool,
    pub(super) stopping: bool,
    started: bool,
    told: Told,
    /// Half-close: asked for, and done.
    finished: bool,
    fin_sent: bool,
    /// Why the transport can't go on.
    fault: Option<Ended>,
}

/// What is said once only.
#[derive(Default)]
struct Told {
    end: bool,
    stopping: bool,
}

impl Upgraded {
    /// On a connection where it is the first to speak.
    pub(super) fn new(upgrade: Box<dyn Upgrade>, waker: Waker, core: &Core) -> Self {
        Self {
            app: Some(upgrade),
            waker,
            woken: false,
            job: None,
            mask: EventMask::READ,
            seen: 0,
            queued: 0,
            wrote: false,
            holds: false,
            deadline: Tick::NEVER,
            held: Tick::NEVER,
            stopping: core.stopping.is_some(),
            started: false,
            told: Told::default(),
            finished: false,
            fin_sent: false,
            fault: None,
        }
    }

    pub(super) fn due(&self) -> Tick {
        self.deadline.min(self.held)
    }

    fn into_job(self) -> Option<Box<Job>> {
        dispatch::discard(self.app);
        self.job
    }
}

impl Slot {
    /// Answers with the switch; from here on the stream is the application's.
    pub(super) fn switch(&mut self, core: &mut Core, mut job: Box<Job>, switch: Switch) -> Result<(), Ended> {
        let Switch { response, bare, upgrade } = switch;
        let possible = bare || self.conn.can_switch(response.status);
        if !possible || response.fault.is_some() {
            dispatch::discard(upgrade);
            let response = if possible {
                self.checked(response)
            } else {
                debug!(target: "uncork::engine", "{}: no switch is open to this request", self.request_id());
                Response::new(426).header("Upgrade", response.headers.get("upgrade").unwrap_or(b"none"))
            };
            job.answer(self, core, response);
            self.phase = Phase::Job(job);
            return Ok(());
        }
        // Bytes behind the request belong to the new protocol, so the body has to be whole first. It was not asked for:
        // what is here is thrown away, and a body that is still to come would have to be waited for.
        while self.conn.is_receiving() {
            match self.conn.poll_body(&mut self.rx, &core.limits) {
                Ok(BodyEvent::Data(n)) => self.conn.took(&mut self.rx, n),
                Ok(BodyEvent::End(_)) => break,
                Ok(BodyEvent::NeedMore) => {
                    debug!(target: "uncork::engine", "{}: a switch before the body was received", self.request_id());
                    dispatch::discard(upgrade);
                    job.up = Up::Idle;
                    job.answer(self, core, Response::new(413).close());
                    self.phase = Phase::Job(job);
                    return Ok(());
                }
                Err(rule) => {
                    dispatch::discard(upgrade);
                    self.phase = Phase::Job(job);
                    return self.refuse(core, rule);
                }
            }
        }
        self.open_out(core);
        let date = core.date.at(core.now.wall);
        let answer = Answer { status: response.status, fields: &response.headers, length: None, date };
        self.conn.switch((!bare).then_some(&answer), &mut self.out);
        debug_assert!(self.conn.is_switched());
        self.transport.socket().keep_alive();
        job.status = response.status;
        if let Some(ticket) = &job.asks.ticket {
            ticket.claim();
        }
        let waker = job.waker(self, core);
        let woken = job.woken;
        let upgraded = Upgraded { woken, job: Some(job), ..Upgraded::new(upgrade, waker, core) };
        self.phase = Phase::Upgraded(Box::new(upgraded));
        Ok(())
    }

    /// Reads what the application asked for; over TLS also a little that it did not, since rustls must read its own
    /// messages (a key update, a close) whatever the application waits for.
    #[inline(never)]
    pub(super) fn fill_upgraded(&mut self, core: &mut Core) -> Result<bool, Ended> {
        let Phase::Upgraded(upgraded) = &self.phase else { return Ok(false) };
        let wants = upgraded.started && upgraded.mask.contains(EventMask::READ);
        let most = core.limits.upgrade_input;
        let result = if wants {
            self.fill(core, most.saturating_sub(self.rx.len()), most)
        } else if !self.transport.is_plain() {
            self.fill(core, 1, 1)
        } else {
            return Ok(false);
        };
        match result {
            // It is told, not an end of the connection behind the application's back.
            Err(why) => {
                self.has_failed(why);
                Ok(true)
            }
            other => other,
        }
    }

    /// Calls the application as long as there is a reason to. Whether anything changed.
    #[inline(never)]
    pub(super) fn drive_upgraded(&mut self, core: &mut Core) -> Result<bool, Ended> {
        let mut worked = false;
        for _ in 0..CALLS {
            let Some(why) = self.why_call(core) else {
                if self.waits_in_vain() {
                    debug!(target: "uncork::engine", "{}: the upgrade waits for input behind its end: terminated",
                        self.request_id());
                    self.terminate(core)?;
                    return Ok(true);
                }
                return Ok(worked);
            };
            worked = true;
            self.call(core, why)?;
            match &self.phase {
                // What was pushed goes out before anything is added to it.
                Phase::Upgraded(up) if up.mask.contains(EventMask::CORK) && !self.out.is_empty() => return Ok(true),
                Phase::Upgraded(_) => {}
                _ => return Ok(true),
            }
        }
        Ok(worked)
    }

    /// Whether the application has been told of the end of the input, has nothing under way, and asks for input all the
    /// same: it would never be called again, and no clock would end that.
    fn waits_in_vain(&self) -> bool {
        let Phase::Upgraded(up) = &self.phase else { return false };
        let read_alone = up.mask == EventMask::READ || up.mask == EventMask::READ | EventMask::CORK;
        let all_out = self.out.is_empty() && !self.transport.has_pending();
        up.told.end && read_alone && up.deadline == Tick::NEVER && all_out
    }

    /// The reasons there are for a call, if there is one.
    fn why_call(&mut self, core: &Core) -> Option<Why> {
        let Phase::Upgraded(up) = &mut self.phase else { return None };
        let mut why = 0;
        let dead = self.ready.has(Ready::DEAD);
        if up.mask.contains(EventMask::READ) {
            if self.rx.len() > up.seen {
                why |= Why::READ;
            }
            if self.eof.is_some() && !up.told.end {
                why |= Why::END;
            }
        }
        if up.started && up.mask.contains(EventMask::WRITE) && !up.finished {
            let limit = core.limits.output;
            let free = limit.saturating_sub(self.out.len());
            let grew = self.out.len() < up.queued || up.wrote;
            if grew && free >= limit / 2 {
                why |= Why::WRITE;
            }
        }
        if up.woken && up.mask.contains(EventMask::EXTERNAL) {
            why |= Why::EXTERNAL;
        }
        if up.deadline <= core.tick {
            why |= Why::DEADLINE;
        }
        if up.stopping && !up.told.stopping {
            why |= Why::STOPPING;
        }
        if dead {
            why |= Why::RESET;
        }
        if up.holds && core.held.is_asked(self.id) {
            why |= Why::SHED;
        }
        (why != 0 || !up.started).then_some(Why(why))
    }

    /// One call.
    fn call(&mut self, core: &mut Core, why: Why) -> Result<(), Ended> {
        core.pool.lend(&mut self.out.buf);
        let Phase::Upgraded(up) = &mut self.phase else { return Ok(()) };
        let Some(app) = &mut up.app else { return Err(Ended::Aborted) };
        if !up.started && why.reset() {
            // The 101 can't arrive: the handler is not called at all.
            return Err(up.fault.unwrap_or(Ended::PeerLeft));
        }
        up.started = true;
        up.told.end |= why.end();
        up.told.stopping |= why.stopping();
        if why.external() {
            up.woken = false;
        }
        if why.deadline() {
            up.deadline = Tick::NEVER;
        }
        if why.shed() {
            core.held.take_asked(self.id);
        }
        let end = match self.eof {
            _ if why.reset() => RxEnd::CutOff,
            None => RxEnd::NotYet,
            Some(true) => RxEnd::Clean,
            Some(false) => RxEnd::CutOff,
        };
        let (offered, queued) = (self.rx.len(), self.out.len());
        let mut orders = Orders::default();
        let mut io = Io {
            rx: Rx { buf: &mut self.rx, end },
            tx: Tx {
                out: &mut self.out,
                limit: core.limits.output,
                most: usize::MAX,
                own: 0,
                finished: &mut up.finished,
            },
            why,
            now: core.now,
            waker: &up.waker,
            orders: &mut orders,
        };
        let mask = dispatch::ready(app.as_mut(), &mut io).map_err(|_| Ended::Panicked)?;
        if let Some(at) = orders.deadline {
            up.deadline = at.map_or(Tick::NEVER, |at| Tick::ceil(core.start, at));
        }
        if orders.abort {
            return Err(Ended::Aborted);
        }
        if why.reset() {
            return Err(up.fault.unwrap_or(Ended::PeerLeft));
        }
        up.mask = mask;
        up.seen = self.rx.len();
        up.queued = self.out.len();
        up.wrote = self.out.len() > queued;
        if mask.is_terminate() {
            return self.terminate(core);
        }
        if let Some(bytes) = orders.held {
            up.holds = bytes > 0;
            self.holds(core, bytes);
        }
        if mask.contains(EventMask::READ) && self.rx.len() >= core.limits.upgrade_input && self.rx.len() == offered {
            error!(target: "uncork::engine", "{}: the upgrade asks for READ with a full input of {offered} bytes and \
                consumes nothing: aborted (Limits::upgrade_input)", self.request_id());
            return Err(Ended::Aborted);
        }
        Ok(())
    }

    /// The application holds so many bytes of its own. If that is too much together with the others', one of them has
    /// to let go in this turn.
    #[cold]
    fn holds(&mut self, core: &mut Core, bytes: usize) {
        core.held.change(self.id, self.peer.addr.network(), bytes);
        while let Some(asked) = core.held.ask() {
            debug!(target: "uncork::engine", "{asked}: too much is held in messages that are arriving: asked to let go");
            core.run.push_back(asked);
        }
        note_held(core);
    }

    /// Ends the application: what it held is free, and counts no longer.
    pub(super) fn end_upgraded(&self, core: &mut Core, upgraded: Upgraded) -> Option<Box<Job>> {
        let holds = upgraded.holds;
        let job = upgraded.into_job();
        if holds {
            core.held.forget(self.id);
            note_held(core);
        }
        job
    }

    /// The application is done: what is in the output goes out, then the connection closes in order.
    fn terminate(&mut self, core: &mut Core) -> Result<(), Ended> {
        let Phase::Upgraded(up) = std::mem::replace(&mut self.phase, Phase::Head) else { return Ok(()) };
        let fin_sent = up.fin_sent;
        // The request is reported when the last byte is out: by the closing, which takes the job along.
        let job = self.end_upgraded(core, *up);
        self.rx.consume(self.rx.len());
        if fin_sent && self.eof.is_some() {
            if let Some(job) = job {
                self.end_job(core, *job, Ended::Complete);
            }
            return Err(Ended::Complete);
        }
        self.close_with(Ended::Complete, true, job);
        Ok(())
    }

    /// Whether the output is to be sent now, or more of it is coming that may share its segment.
    pub(super) fn holds_back(&mut self, core: &Core) -> bool {
        let out = self.out.len();
        let Phase::Upgraded(up) = &mut self.phase else { return false };
        let hold = up.started
            && up.mask.contains(EventMask::WRITE)
            && !up.mask.contains(EventMask::CORK)
            && !up.finished
            && out > 0
            && out < SEGMENT
            && up.held > core.tick;
        if !hold {
            up.held = Tick::NEVER;
        } else if up.held == Tick::NEVER {
            up.held = core.tick.after(HELD);
        }
        hold
    }

    /// Sends what is not held back; then half-closes, if that was asked for. Whether anything went out.
    #[inline(never)]
    pub(super) fn flush_upgraded(&mut self, core: &mut Core) -> Result<bool, Ended> {
        if self.holds_back(core) {
            return Ok(false);
        }
        let result = self.flush(core).and_then(|sent| self.finish_upgraded(core).map(|()| sent));
        match result {
            Err(why) if !self.ready.has(Ready::DEAD) => {
                self.has_failed(why);
                self.out.clear();
                Ok(true)
            }
            result => result,
        }
    }

    /// The transport can't go on: the next call says so, and is the last.
    fn has_failed(&mut self, why: Ended) {
        self.ready.set(Ready::DEAD);
        if let Phase::Upgraded(up) = &mut self.phase {
            up.fault.get_or_insert(why);
        }
    }

    fn finish_upgraded(&mut self, core: &mut Core) -> Result<(), Ended> {
        let Phase::Upgraded(up) = &mut self.phase else { return Ok(()) };
        if up.finished && !up.fin_sent && self.out.is_empty() && self.ready.has(Ready::WRITE) {
            match self.transport.finish(&mut core.pool) {
                Ok(true) => up.fin_sent = true,
                Ok(false) => self.ready.clear(Ready::WRITE),
                Err(fault) => return Err(self.fault(core, fault)),
            }
        }
        Ok(())
    }
}

/// Passes on to the pool that what is held has changed, and gives memory back if much of it is free.
fn note_held(core: &mut Core) {
    core.pool.set_held(core.held.all());
    if core.held.gives_back() {
        // Large messages that grew side by side leave an allocator with pages that are free and stay resident.
        give_back_memory();
    }
}
