//! One connection: its resources (`ConnIo`) and what it is doing (`Phase`).
//!
//! ```text
//!   Head ──a request──▶ (response at once) ──▶ Head
//!     │                        └─▶ Job ──complete──▶ Head
//!     │                             └─▶ Upgraded
//!     └─────────────┬───────────────┘   ▲  │
//!                   └──▶ Closing ◀──────│──┘   flush, finish, linger
//!                           ▲───────────┤
//!   Dialing ────────────────┴───────────┘      outbound
//! ```
//! A connection behind the PROXY protocol begins with `Proxy`; the application learns of it only after that. A
//! connection over TLS begins with `Securing`, and may continue in a protocol that ALPN selected.
//!
//! A phase works on the resources and returns a [`Step`]. [`Slot::drive`] carries the step out: `enter` is the only
//! function that assigns the phase. A job is allocated only for a request that cannot get its response at once.

use super::{
    coalescing::WATER,
    conn_io::ConnIo,
    core::Core,
    phase::{Phase, Slot, Step},
    ready::Ready,
};
use crate::{
    api::{DialError, Handler, dial},
    base::{EndReason, PeerAddr, Timeout, pool::LENT, time::Tick},
    h1::Misbehaved,
};

/// Rounds of reading, working and writing for one connection before others have their turn.
const ROUNDS: usize = 8;
/// The most bytes read at once of a head and what follows it. A suspended request keeps the buffer.
pub(super) const AHEAD: usize = 16 * 1024;

/// What is left of a connection that has ended.
pub(super) struct Ended {
    pub(super) io: ConnIo,
    /// The client, or the proxy, of a connection that was not accepted.
    pub(super) rejected: Option<PeerAddr>,
    /// The function that learns that a connection was not established, and why.
    pub(super) not_dialed: Option<(dial::Then, DialError)>,
}

/// The result of a connection's turn.
pub(super) enum Turn {
    /// It waits for an event, a message or a deadline.
    Waits,
    /// There is more to do, after other connections had their turn.
    Again,
    /// The connection has ended.
    Over(EndReason),
}

impl Slot {
    /// Reads, works and writes until nothing more can be done, or other connections must have their turn.
    ///
    /// Functions for the rarer phases are marked `inline(never)`. A turn begins with caches that the system has just
    /// used, so the code of the common phase must be contiguous.
    pub(super) fn drive(&mut self, core: &mut Core, handler: &mut dyn Handler) -> Turn {
        match self.rounds(core, handler) {
            Ok(turn) => turn,
            Err(reason) => Turn::Over(reason),
        }
    }

    fn rounds(&mut self, core: &mut Core, handler: &mut dyn Handler) -> Result<Turn, EndReason> {
        for _ in 0..ROUNDS {
            let io = &mut self.io;
            if io.ready.contains(Ready::RESET)
                && !matches!(self.phase, Phase::Upgraded(_) | Phase::Dialing(_) | Phase::Proxy)
            {
                return Err(EndReason::PeerClosed);
            }
            let read = match &mut self.phase {
                Phase::Head => io.fill(core, AHEAD, ConnIo::head_room(core))?,
                Phase::Securing => io.fill_securing(core)?,
                Phase::Streams(streams) => streams.fill(io, core)?,
                Phase::Job(job) => {
                    let hold = job.hold(io);
                    io.fill(core, hold.min(LENT), hold)?
                }
                Phase::Upgraded(upgraded) => upgraded.fill(io, core)?,
                Phase::Closing(_) | Phase::Dialing(_) | Phase::Proxy => false,
            };
            let step = match &mut self.phase {
                Phase::Head => io.drive_heads(core, handler)?,
                Phase::Securing => io.drive_securing(core, handler)?,
                Phase::Streams(streams) => streams.drive(io, core, handler)?,
                Phase::Job(job) => job.drive(io, core)?,
                Phase::Upgraded(upgraded) => upgraded.drive(io, core)?,
                Phase::Closing(closing) => closing.drive(io, core)?,
                Phase::Dialing(dialing) => dialing.drive(io, core)?,
                Phase::Proxy => io.drive_proxy(handler)?,
            };
            let worked = !matches!(step, Step::Idle);
            match step {
                Step::Idle | Step::Progress => {}
                Step::Become(phase) => self.enter(core, phase),
                Step::Closed(reason) => return Ok(Turn::Over(reason)),
            }
            let io = &mut self.io;
            let sent = match &mut self.phase {
                Phase::Upgraded(upgraded) => upgraded.flush(io, core)?,
                Phase::Dialing(_) | Phase::Proxy => false,
                _ => io.flush(core)?,
            };
            let idle = match &self.phase {
                Phase::Head => true,
                Phase::Streams(streams) => streams.is_settled(),
                _ => false,
            } && !io.ready.contains(Ready::READ)
                && io.rx.is_empty();
            if !(read || worked || sent) || (idle && io.out.is_empty() && io.eof.is_none()) {
                return Ok(Turn::Waits);
            }
        }
        Ok(Turn::Again)
    }

    /// Ends the connection: its request, if there is one, and the loan of its buffers.
    pub(super) fn end(self, core: &mut Core, reason: EndReason) -> Ended {
        let Self { mut io, mut phase } = self;
        let mut job_ended = reason;
        if let Phase::Job(job) = &mut phase
            // After a panic the application is not called again.
            && reason != EndReason::Panicked
            && job.is_out_by_now(&mut io, core)
        {
            job_ended = job.outcome;
        }
        if let Phase::Streams(streams) = &mut phase {
            streams.end_all(core, reason);
        }
        let unfinished = io.conn.is_responding() || !io.out.is_empty();
        // So that a truncated body never looks complete, and the peer does not wait for bytes that will not come.
        if (unfinished && reason != EndReason::Complete) || matches!(reason, EndReason::Aborted | EndReason::Panicked) {
            io.transport.socket().reset_on_close();
        }
        // Not accepted yet: the proxy has named no client, or one that is rejected.
        let rejected = matches!(phase, Phase::Proxy).then_some(io.peer.addr);
        let mut not_dialed = None;
        let job = match phase {
            Phase::Dialing(dialing) => {
                not_dialed = dialing.failed(reason);
                None
            }
            phase => phase.into_job(&io, core),
        };
        if let Some(job) = job {
            io.end_job(core, *job, job_ended);
        }
        io.rx.consume(io.rx.len());
        io.out.clear();
        core.pool.settle(&mut io.rx);
        io.out.settle(&mut core.pool);
        io.transport.release(&mut core.pool);
        Ended { io, rejected, not_dialed }
    }

    /// Returns the slot of a request: this one, or that of its stream.
    pub(super) fn of_request(&mut self, number: u32) -> Option<&mut Self> {
        if matches!(self.phase, Phase::Streams(_)) {
            let Phase::Streams(streams) = &mut self.phase else { return None };
            return streams.slot(number);
        }
        (self.io.number == number).then_some(self)
    }

    /// Carries out a step that was taken outside of the connection's turn.
    pub(super) fn carry_out(&mut self, core: &mut Core, step: Step) -> Option<EndReason> {
        match step {
            Step::Idle | Step::Progress => None,
            Step::Become(phase) => {
                self.enter(core, phase);
                None
            }
            Step::Closed(reason) => Some(reason),
        }
    }

    /// Enters a phase. A request in progress goes along, or ends here.
    fn enter(&mut self, core: &mut Core, phase: Phase) {
        let before = std::mem::replace(&mut self.phase, phase);
        let Some(job) = before.into_job(&self.io, core) else { return };
        if let Some(job) = if job.complete { Some(job) } else { self.phase.take_job(job) } {
            let outcome = job.outcome;
            self.io.end_job(core, *job, outcome);
        }
    }

    /// Closes a connection that has nothing in progress, when the server stops. Returns `true` if it does.
    pub(super) fn quit_if_idle(&mut self, core: &mut Core) -> bool {
        let idle = match self.phase {
            Phase::Head => self.io.rx.is_empty() && self.io.out.is_empty(),
            Phase::Proxy => true,
            _ => false,
        } && !self.io.ready.contains(Ready::READ);
        if idle {
            let step = self.io.closing(EndReason::Stopped, false);
            self.carry_out(core, step);
        }
        idle
    }

    /// Handles a deadline that has passed.
    pub(super) fn expire(&mut self, core: &mut Core) -> Result<(), EndReason> {
        if self.io.send_by <= core.tick {
            // The system reports space only when a third of its buffer is free, so a slow reader behind several MiB of
            // output would look stalled.
            if self.io.ready.contains(Ready::LATE) {
                return Err(EndReason::TimedOut(Timeout::Send));
            }
            self.io.ready.insert(Ready::LATE | Ready::WRITE);
        }
        if self.io.recv_by > core.tick {
            return Ok(());
        }
        let Some(timeout) = self.io.running_timeout else { return Ok(()) };
        if timeout == Timeout::Body
            && let Phase::Job(job) = &mut self.phase
            && job.has_yielded()
        {
            return Ok(());
        }
        let reason = EndReason::TimedOut(timeout);
        let rule = match timeout {
            Timeout::Idle | Timeout::Head if matches!(self.phase, Phase::Streams(_)) => {
                let Phase::Streams(streams) = &mut self.phase else { return Ok(()) };
                streams.go_away(reason);
                return Ok(());
            }
            Timeout::Idle => {
                let step = self.io.closing(reason, false);
                self.carry_out(core, step);
                return Ok(());
            }
            Timeout::Head => Misbehaved::HeadTimeout,
            Timeout::Body => Misbehaved::BodyTimeout,
            Timeout::Linger => {
                if let Phase::Closing(closing) = &mut self.phase
                    && closing.lingers_on(&mut self.io)
                {
                    self.io.running_timeout = None;
                    return Ok(());
                }
                return Err(reason);
            }
            Timeout::Handshake | Timeout::Send | Timeout::Connect | Timeout::Total => return Err(reason),
        };
        let job = if let Phase::Job(job) = &mut self.phase { Some(&mut **job) } else { None };
        let step = self.io.reject_with(core, rule, reason, job)?;
        self.carry_out(core, step);
        Ok(())
    }

    /// Returns `true` if a timeout of input or output runs.
    #[cfg_attr(not(feature = "http2"), allow(dead_code, reason = "only HTTP/2 asks"))]
    pub(super) fn is_timed(&self) -> bool {
        self.io.recv_by != Tick::NEVER || self.io.send_by != Tick::NEVER
    }

    /// Returns the timeout that applies while the connection waits for its peer.
    fn waits_for(&self) -> Option<Timeout> {
        match &self.phase {
            Phase::Proxy | Phase::Securing => Some(Timeout::Handshake),
            Phase::Head if self.io.conn.has_partial_head(&self.io.rx) => Some(Timeout::Head),
            Phase::Head => Some(Timeout::Idle),
            Phase::Streams(streams) => streams.waits_for(),
            Phase::Job(job) if self.io.conn.is_receiving() && job.wants_body() => Some(Timeout::Body),
            Phase::Job(_) | Phase::Upgraded(_) | Phase::Dialing(_) => None,
            Phase::Closing(closing) => closing.is_lingering().then_some(Timeout::Linger),
        }
    }

    /// Makes the socket report large amounts of data only, or everything again. Returns `true` if the connection must
    /// look at once: what arrived meanwhile made no event.
    #[cold]
    fn set_coalescing(&mut self, yes: bool) -> bool {
        self.io.transport.set_low_water(if yes { WATER } else { 1 });
        self.io.ready.set(Ready::COALESCES, yes);
        if !yes {
            self.io.ready.insert(Ready::READ);
        }
        !yes
    }

    /// Ends a turn: returns lent buffers that are not needed, sets the timeouts, and schedules the earliest. Returns
    /// `true` if the connection must be driven again at once.
    #[inline]
    pub(super) fn settle(&mut self, core: &mut Core) -> bool {
        let (again, due) = self.settle_within(core);
        core.deadlines.schedule(self.io.id, due, &mut self.io.entry);
        again
    }

    /// Like [`settle`](Self::settle), but returns the earliest timeout instead.
    #[inline]
    pub(super) fn settle_within(&mut self, core: &mut Core) -> (bool, Tick) {
        let coalesces = matches!(&self.phase, Phase::Job(job) if job.coalesces()) && self.io.conn.direct() >= WATER;
        let again = coalesces != self.io.ready.contains(Ready::COALESCES) && self.set_coalescing(coalesces);
        core.pool.settle(&mut self.io.rx);
        self.io.out.settle(&mut core.pool);
        self.io.transport.settle(&mut core.pool);
        let awaited = self.waits_for();
        match awaited {
            // The previous timeout no longer applies: left running, it would expire again and again.
            None => self.io.recv_by = Tick::NEVER,
            Some(timeout) if awaited != self.io.running_timeout => {
                let own = if let Phase::Job(job) = &self.phase { job.body_timeout } else { None };
                let duration = own.filter(|_| timeout == Timeout::Body).unwrap_or(self.io.duration(timeout, core));
                self.io.recv_by = core.tick.after(duration);
            }
            Some(_) => {}
        }
        self.io.running_timeout = awaited;
        let more = matches!(&self.phase, Phase::Job(job) if job.has_output());
        let patient = matches!(&self.phase, Phase::Upgraded(upgraded) if upgraded.patient);
        if patient || !self.io.is_blocked(more) {
            self.io.send_by = Tick::NEVER;
            self.io.ready.remove(Ready::LATE);
        } else if self.io.send_by == Tick::NEVER {
            self.io.send_by = core.tick.after(self.io.duration(Timeout::Send, core));
        }
        let own = match &self.phase {
            Phase::Job(job) => job.due(),
            Phase::Upgraded(upgraded) => upgraded.due(),
            Phase::Dialing(dialing) => dialing.by,
            Phase::Streams(streams) => streams.due(core),
            _ => Tick::NEVER,
        };
        (again, self.io.recv_by.min(self.io.send_by).min(own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        // mio adds a word to a socket in debug builds.
        let most = if cfg!(debug_assertions) { 264 } else { 256 };
        assert!(size_of::<Slot>() <= most, "{} bytes", size_of::<Slot>());
    }
}
