//! An upgraded connection: when the engine calls the application, and how it handles the result.
//!
//! ```text
//!   events, wakes, deadlines ──▶ Events ──▶ Upgrade::ready(Io) ──▶ mask ──▶ wait │ push │ terminate
//!                                 └─ nothing in the last mask: no call
//! ```
//! The rules are those of the event mask's documentation; each has its test in `tests/interop/matrix`.

use std::time::Duration;

use log::{debug, error};

use super::{
    conn_io::ConnIo,
    core::Core,
    dispatch,
    job::{Job, RequestBody},
    phase::{Phase, Reported, Step, Upgraded},
    ready::Ready,
    splicing::Socket,
};
use crate::{
    api::{Events, Io, ReadState, Response, Rx, Switch, Tx, Upgrade, Waker, splicer::Splicer, upgrade::IoCommands},
    base::{EndReason, EventMask, time::Tick},
    conn::{BodyEvent, message::ResponseSpec},
    transport::sys::give_back_memory,
};

/// While more output is coming, at most one segment is held back: Ethernet's.
const SEGMENT: usize = 1400;
/// The longest time it is held back (as Linux's TCP_CORK).
const HELD: Duration = Duration::from_millis(200);
/// Calls in one round before other connections have their turn.
const CALLS: usize = 32;

impl Upgraded {
    /// Returns an upgrade whose protocol begins with this connection.
    pub(super) fn new(upgrade: Box<dyn Upgrade>, waker: Waker, core: &Core) -> Self {
        Self {
            app: upgrade,
            waker,
            woken: false,
            job: None,
            mask: EventMask::READ,
            seen: 0,
            queued: 0,
            wrote: false,
            splices_in: false,
            splices_out: false,
            holds: false,
            patient: false,
            deadline: Tick::NEVER,
            held: Tick::NEVER,
            stopping: core.stopping.is_some(),
            started: false,
            reported: Reported::default(),
            finished: false,
            half_close_sent: false,
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

    /// Reads what the application requested. Over TLS it also reads a little unrequested input: rustls must read its
    /// own messages (a key update, a close).
    #[inline(never)]
    pub(super) fn fill(&mut self, io: &mut ConnIo, core: &mut Core) -> Result<bool, EndReason> {
        let wants = self.started && self.mask.contains(EventMask::READ);
        if self.splices_in && io.rx.is_empty() {
            return Ok(false);
        }
        let most = core.limits.upgrade_input;
        let result = if wants {
            io.fill(core, most.saturating_sub(io.rx.len()), most)
        } else if !io.transport.is_plain() {
            io.fill(core, 1, 1)
        } else {
            return Ok(false);
        };
        match result {
            // The application must learn of it: the connection must not end without a call.
            Err(reason) => {
                self.has_failed(io, reason);
                Ok(true)
            }
            other => other,
        }
    }

    /// Calls the application as long as there is an event for it.
    #[inline(never)]
    pub(super) fn drive(&mut self, io: &mut ConnIo, core: &mut Core) -> Result<Step, EndReason> {
        let mut worked = false;
        for _ in 0..CALLS {
            let Some(events) = self.events_for_call(io, core) else {
                if self.waits_for_nothing(io) {
                    debug!(target: "uncork::engine", "{}: the upgrade waits for input after its end: terminated",
                        io.request_id());
                    return Ok(self.terminate(io));
                }
                return Ok(Step::progress(worked));
            };
            worked = true;
            if self.call(io, core, events)?.is_terminate() {
                return Ok(self.terminate(io));
            }
            // Pushed output must be sent before more is added.
            if self.mask.contains(EventMask::CORK) && !io.out.is_empty() {
                break;
            }
        }
        Ok(Step::progress(worked))
    }

    /// Returns `true` if the application has learned of the end of the input, has nothing in progress, and still
    /// requests input. It would never be called again, and no timeout would end that.
    fn waits_for_nothing(&self, io: &ConnIo) -> bool {
        let read_alone = self.mask == EventMask::READ || self.mask == EventMask::READ | EventMask::CORK;
        let all_out = io.out.is_empty() && !io.transport.has_pending();
        self.reported.read_closed && read_alone && self.deadline == Tick::NEVER && all_out
    }

    /// Returns the events for a call, if there are any.
    fn events_for_call(&self, io: &ConnIo, core: &Core) -> Option<Events> {
        let mut events = Events::NONE;
        let is_reset = io.ready.contains(Ready::RESET);
        if self.mask.contains(EventMask::READ) {
            let may_splice = self.splices_in && io.eof.is_none() && io.ready.contains(Ready::READ);
            if io.rx.len() > self.seen || may_splice {
                events.add(Events::READ);
            }
            if io.eof.is_some() && !self.reported.read_closed {
                events.add(Events::READ_CLOSED);
            }
        }
        if self.started && self.mask.contains(EventMask::WRITE) && !self.finished {
            let limit = core.limits.output;
            let free = limit.saturating_sub(io.out.len());
            let grew = io.out.len() < self.queued || self.wrote;
            let may_splice = self.splices_out && io.out.is_empty() && io.ready.contains(Ready::WRITE);
            if grew && free >= limit / 2 || may_splice {
                events.add(Events::WRITE);
            }
        }
        if self.woken && self.mask.contains(EventMask::EXTERNAL) {
            events.add(Events::EXTERNAL);
        }
        if self.deadline <= core.tick {
            events.add(Events::DEADLINE);
        }
        if self.stopping && !self.reported.stopping {
            events.add(Events::STOPPING);
        }
        if is_reset {
            events.add(Events::RESET);
        }
        if self.holds && core.held.is_asked(io.request_id()) {
            events.add(Events::SHED);
        }
        (events.any() || !self.started).then_some(events)
    }

    /// Calls the application once. Returns the mask that it returned.
    fn call(&mut self, io: &mut ConnIo, core: &mut Core, events: Events) -> Result<EventMask, EndReason> {
        io.open_out(core);
        if !self.started && events.is_error() {
            // The 101 cannot arrive: the application is not called at all.
            return Err(self.fault.unwrap_or(EndReason::PeerClosed));
        }
        self.started = true;
        self.reported.read_closed |= events.is_read_closed();
        self.reported.stopping |= events.is_stopping();
        if events.is_woken() {
            self.woken = false;
        }
        if events.deadline_passed() {
            self.deadline = Tick::NEVER;
        }
        if events.shed() {
            core.held.take_asked(io.request_id());
        }
        let state = match io.eof {
            _ if events.is_error() => ReadState::Truncated,
            None => ReadState::Open,
            Some(true) => ReadState::Eof,
            Some(false) => ReadState::Truncated,
        };
        let (offered, queued) = (io.rx.len(), io.out.len());
        let (mut commands, mut fault) = (IoCommands::default(), None);
        let mut socket = io.transport.is_plain().then_some(Socket {
            transport: &mut io.transport,
            ready: &mut io.ready,
            eof: &mut io.eof,
            sent: &mut io.sent,
            kernel_pipes: &core.kernel_pipes,
            fault: &mut fault,
        });
        let mut view = Io {
            rx: Rx { buf: &mut io.rx, state },
            tx: Tx {
                out: &mut io.out,
                limit: core.limits.output,
                shared_limit: usize::MAX,
                own: 0,
                finished: &mut self.finished,
            },
            events,
            now: core.now,
            waker: &self.waker,
            splicer: socket.as_mut().map(|socket| socket as &mut dyn Splicer),
            commands: &mut commands,
        };
        let mask = dispatch::ready(self.app.as_mut(), &mut view).map_err(|_| EndReason::Panicked)?;
        if let Some(at) = commands.deadline {
            self.deadline = at.map_or(Tick::NEVER, |at| Tick::ceil(core.start, at));
        }
        self.patient |= commands.patient;
        (self.splices_in, self.splices_out) = (commands.splices_in, commands.splices_out);
        if let Some(fault) = fault {
            let reason = io.fault(core, fault);
            self.has_failed(io, reason);
        }
        if commands.abort {
            return Err(EndReason::Aborted);
        }
        if events.is_error() {
            return Err(self.fault.unwrap_or(EndReason::PeerClosed));
        }
        self.mask = mask;
        self.seen = io.rx.len();
        self.queued = io.out.len();
        self.wrote = io.out.len() > queued;
        if let Some(bytes) = commands.held.filter(|_| !mask.is_terminate()) {
            self.holds = bytes > 0;
            io.holds(core, bytes);
        }
        if mask.contains(EventMask::READ) && io.rx.len() >= core.limits.upgrade_input && io.rx.len() == offered {
            error!(target: "uncork::engine", "{}: the upgrade asks for READ with a full input of {offered} bytes and \
                consumes nothing: aborted (Limits::upgrade_input)", io.request_id());
            return Err(EndReason::Aborted);
        }
        Ok(mask)
    }

    /// Ends the upgrade: the output is sent, then the connection closes normally.
    fn terminate(&self, io: &mut ConnIo) -> Step {
        io.rx.consume(io.rx.len());
        if self.half_close_sent && io.eof.is_some() {
            return Step::Closed(EndReason::Complete);
        }
        // The request is reported when the last byte is out: the closing takes the job along.
        io.closing(EndReason::Complete, true)
    }

    /// Returns `true` if the output waits for more output that may share its segment.
    fn holds_back(&mut self, io: &ConnIo, core: &Core) -> bool {
        let out = io.out.len();
        let hold = self.started
            && self.mask.contains(EventMask::WRITE)
            && !self.mask.contains(EventMask::CORK)
            && !self.finished
            && out > 0
            && out < SEGMENT
            && self.held > core.tick;
        if !hold {
            self.held = Tick::NEVER;
        } else if self.held == Tick::NEVER {
            self.held = core.tick.after(HELD);
        }
        hold
    }

    /// Sends what is not held back; then half-closes, if the application asked for that. Returns `true` if any bytes
    /// were sent.
    #[inline(never)]
    pub(super) fn flush(&mut self, io: &mut ConnIo, core: &mut Core) -> Result<bool, EndReason> {
        if self.holds_back(io, core) {
            return Ok(false);
        }
        let result = io.flush(core).and_then(|sent| self.finish(io, core).map(|()| sent));
        match result {
            Err(reason) if !io.ready.contains(Ready::RESET) => {
                self.has_failed(io, reason);
                io.out.clear();
                Ok(true)
            }
            result => result,
        }
    }

    /// Records that the transport cannot continue: the next call reports it, and is the last.
    fn has_failed(&mut self, io: &mut ConnIo, reason: EndReason) {
        io.ready.insert(Ready::RESET);
        self.fault.get_or_insert(reason);
    }

    fn finish(&mut self, io: &mut ConnIo, core: &mut Core) -> Result<(), EndReason> {
        if self.finished && !self.half_close_sent && io.out.is_empty() && io.ready.contains(Ready::WRITE) {
            match io.transport.finish(&mut core.pool) {
                Ok(true) => self.half_close_sent = true,
                Ok(false) => io.ready.remove(Ready::WRITE),
                Err(fault) => return Err(io.fault(core, fault)),
            }
        }
        Ok(())
    }
}

/// Returns the response to a request that does not allow a switch to `protocol`, with a text that says which one does.
#[cold]
fn impossible(bare: bool, is_stream: bool, protocol: Option<&[u8]>) -> Response {
    let name = String::from_utf8_lossy(protocol.unwrap_or(b"none"));
    let text = match (bare, protocol, is_stream) {
        (true, ..) => "this needs HTTP/1.1\n".to_owned(),
        (_, None, _) => "this needs a CONNECT request\n".to_owned(),
        (_, _, false) => format!("this needs an upgrade: send Connection: Upgrade and Upgrade: {name} in HTTP/1.1\n"),
        (_, _, true) => format!("this needs an upgrade: send an extended CONNECT (RFC 8441) with :protocol {name}\n"),
    };
    Response::text(text).with_status(426).header("Upgrade", protocol.unwrap_or(b"none"))
}

impl Job {
    /// Sends the response of a switch. From then on the stream belongs to the application.
    pub(super) fn switch(&mut self, io: &mut ConnIo, core: &mut Core, switch: Switch) -> Result<Step, EndReason> {
        let Switch { response, bare, upgrade } = switch;
        let possible = if bare { !io.conn.is_stream() } else { io.conn.can_switch(response.status) };
        if !possible || response.fault.is_some() {
            dispatch::discard(upgrade);
            let response = if possible {
                io.checked(response)
            } else {
                debug!(target: "uncork::engine", "{}: this request does not allow a switch", io.request_id());
                impossible(bare, io.conn.is_stream(), response.headers.get("upgrade"))
            };
            self.respond(io, core, response);
            return Ok(Step::Progress);
        }
        // Bytes after the request belong to the new protocol, so the body must be complete first. The application does
        // not receive it: bytes that have arrived are discarded, and the engine does not wait for more.
        while io.conn.is_receiving() {
            match io.conn.poll_body(&mut io.rx, &core.limits) {
                Ok(BodyEvent::Data(n)) => io.conn.took(&mut io.rx, n),
                Ok(BodyEvent::End(_)) => break,
                Ok(BodyEvent::NeedMore) => {
                    dispatch::discard(upgrade);
                    self.request_body = RequestBody::NotRequested;
                    self.respond(io, core, Response::new(413).close());
                    return Ok(Step::Progress);
                }
                Err(rule) => {
                    dispatch::discard(upgrade);
                    return io.reject(core, rule, Some(self));
                }
            }
        }
        io.open_out(core);
        let date = core.date.at(core.now.wall);
        let response = ResponseSpec { status: response.status, fields: &response.headers, length: None, date };
        io.conn.switch((!bare).then_some(&response), &mut io.out);
        debug_assert!(io.conn.is_switched());
        io.transport.socket().keep_alive();
        self.status = response.status;
        if let Some(ticket) = &self.hooks.ticket {
            ticket.claim();
        }
        let waker = self.waker(io, core);
        let upgraded = Upgraded { woken: self.woken, ..Upgraded::new(upgrade, waker, core) };
        Ok(Step::Become(Phase::Upgraded(Box::new(upgraded))))
    }
}

impl ConnIo {
    /// Records how many bytes the application itself holds. If all connections together hold too much, one of them must
    /// free its bytes in this turn.
    #[cold]
    fn holds(&mut self, core: &mut Core, bytes: usize) {
        core.held.change(self.request_id(), self.peer.addr.network(), bytes);
        while let Some(asked) = core.held.ask() {
            debug!(target: "uncork::engine", "{asked}: too many bytes are held in incomplete messages: it must \
                free its own");
            core.run.push_back(asked.conn);
        }
        note_held(core);
    }

    /// Ends the application: what it held no longer counts.
    pub(super) fn end_upgraded(&self, core: &mut Core, upgraded: Upgraded) -> Option<Box<Job>> {
        let holds = upgraded.holds;
        let job = upgraded.into_job();
        if holds {
            core.held.forget(self.request_id());
            note_held(core);
        }
        job
    }
}

/// Reports to the pool how much is held, and returns memory to the system if much of it is free.
fn note_held(core: &mut Core) {
    core.pool.set_held(core.held.all());
    if core.held.gives_back() {
        // Large messages that grew side by side leave an allocator with free pages that stay resident.
        give_back_memory();
    }
}
