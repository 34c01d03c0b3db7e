//! One connection: its resources (`ConnIo`) and what it is doing (`Phase`).
//!
//! ```text
//!   Head ──a request──▶ (answered at once) ──▶ Head
//!     │                        └─▶ Job ──complete──▶ Head
//!     │                             └─▶ Upgraded
//!     └─────────────┬───────────────┘   ▲  │
//!                   └──▶ Closing ◀──────│──┘   flush, finish, linger
//!                           ▲───────────┤
//!   Dialing ────────────────┴───────────┘      outbound
//! ```
//! A connection behind the PROXY protocol begins with `Proxy`; the application hears of it only after that. One over TLS
//! begins with `Securing`, and may go on in a protocol chosen by ALPN.
//!
//! A phase works on the resources and returns a [`Step`]. [`Slot::drive`] carries the step out: `enter` is the only
//! function that assigns the phase. A job is allocated only for a request that cannot be answered at once.

use super::{
    closing::Closing, coalescing::WATER, conn_io::ConnIo, core::Core, job::Job, outgoing::Dialing, ready::Ready,
    upgraded::Upgraded,
};
use crate::{
    api::Handler,
    base::{EndReason, Timeout, pool::LENT, time::Tick},
    h1::Misbehaved,
    transport::Security,
};

/// Rounds of reading, working and writing for one connection before others have their turn.
const ROUNDS: usize = 8;
/// The most that is read at once of a head and what is behind it. A suspended request keeps it for as long.
const AHEAD: usize = 16 * 1024;

pub(super) struct Slot {
    pub(super) io: ConnIo,
    pub(super) phase: Phase,
}

pub(super) enum Phase {
    /// Outbound: connecting, or in the TLS handshake.
    Dialing(Box<Dialing>),
    /// Waiting for the header of the PROXY protocol.
    Proxy,
    /// In the TLS handshake.
    Securing,
    /// Between two requests, or receiving a head.
    Head,
    /// Working on a request.
    Job(Box<Job>),
    /// Speaking another protocol.
    Upgraded(Box<Upgraded>),
    /// Flushing the output, then lingering.
    Closing(Closing),
}

/// What a phase has done.
pub(super) enum Step {
    /// Nothing: it waits for an event.
    Idle,
    /// Something changed: it is worth another round.
    Progress,
    /// Its work is over, and this phase follows.
    Become(Phase),
    /// The connection has ended in order. (A failure is an `Err` of the function that returns the step.)
    Closed(EndReason),
}

impl Step {
    /// `Progress` if something changed, `Idle` otherwise.
    pub(super) fn progress(changed: bool) -> Self {
        if changed { Self::Progress } else { Self::Idle }
    }
}

/// How a connection's turn ended.
pub(super) enum Turn {
    /// It waits for an event, a message or a deadline.
    Waits,
    /// There is more to do, after other connections had their turn.
    Again,
    /// The connection is over.
    Over(EndReason),
}

impl Phase {
    /// The first phase of an inbound connection, once the client's address is known.
    pub(super) fn first(security: &Security) -> Self {
        if security.is_some() { Self::Securing } else { Self::Head }
    }

    /// The request in progress, if there is one. The rest of the phase is dropped.
    pub(super) fn into_job(self, io: &ConnIo, core: &mut Core) -> Option<Box<Job>> {
        match self {
            Self::Job(job) => Some(job),
            Self::Upgraded(upgraded) => io.end_upgraded(core, *upgraded),
            Self::Closing(closing) => closing.into_job(),
            Self::Dialing(_) | Self::Proxy | Self::Securing | Self::Head => None,
        }
    }

    /// Hands the request of the phase before to this one; gives it back if it ends with that phase.
    pub(super) fn take_job(&mut self, job: Box<Job>) -> Option<Box<Job>> {
        match self {
            Self::Upgraded(upgraded) => upgraded.job = Some(job),
            Self::Closing(closing) => closing.job = Some(job),
            Self::Dialing(_) | Self::Proxy | Self::Securing | Self::Head | Self::Job(_) => return Some(job),
        }
        None
    }
}

impl Slot {
    /// Reads, works and writes until nothing more can be done, or others should have their turn.
    ///
    /// What drives the rarer phases is marked `inline(never)`: each turn begins in caches that the system has just used,
    /// and the code of the common phase is to lie together.
    pub(super) fn drive(&mut self, core: &mut Core, handler: &mut dyn Handler) -> Turn {
        match self.rounds(core, handler) {
            Ok(turn) => turn,
            Err(why) => Turn::Over(why),
        }
    }

    fn rounds(&mut self, core: &mut Core, handler: &mut dyn Handler) -> Result<Turn, EndReason> {
        for _ in 0..ROUNDS {
            let io = &mut self.io;
            if io.ready.has(Ready::DEAD) && !matches!(self.phase, Phase::Upgraded(_) | Phase::Dialing(_) | Phase::Proxy)
            {
                return Err(EndReason::PeerClosed);
            }
            let read = match &mut self.phase {
                Phase::Head | Phase::Securing => io.fill(core, AHEAD, ConnIo::head_room(core))?,
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
                Step::Closed(why) => return Ok(Turn::Over(why)),
            }
            let io = &mut self.io;
            let sent = match &mut self.phase {
                Phase::Upgraded(upgraded) => upgraded.flush(io, core)?,
                Phase::Dialing(_) | Phase::Proxy => false,
                _ => io.flush(core)?,
            };
            let idle = matches!(self.phase, Phase::Head) && !io.ready.has(Ready::READ) && io.rx.is_empty();
            if !(read || worked || sent) || (idle && io.out.is_empty() && io.eof.is_none()) {
                return Ok(Turn::Waits);
            }
        }
        Ok(Turn::Again)
    }

    /// Carries out a step that was taken outside of the connection's turn.
    pub(super) fn carry_out(&mut self, core: &mut Core, step: Step) -> Option<EndReason> {
        match step {
            Step::Idle | Step::Progress => None,
            Step::Become(phase) => {
                self.enter(core, phase);
                None
            }
            Step::Closed(why) => Some(why),
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

    /// The server stops: a connection that has nothing under way closes. Whether it does.
    pub(super) fn quit_if_idle(&mut self, core: &mut Core) -> bool {
        let idle = match self.phase {
            Phase::Head => self.io.rx.is_empty() && self.io.out.is_empty(),
            Phase::Proxy => true,
            _ => false,
        } && !self.io.ready.has(Ready::READ);
        if idle {
            let step = self.io.closing(EndReason::Stopped, false);
            self.carry_out(core, step);
        }
        idle
    }

    /// A deadline has come: which, and what follows.
    pub(super) fn expire(&mut self, core: &mut Core) -> Result<(), EndReason> {
        if self.io.send_by <= core.tick {
            // The system tells of room only when a third of its buffer is free: behind several MiB, a slow reader would
            // be taken for one that does not read.
            if self.io.ready.has(Ready::LATE) {
                return Err(EndReason::TimedOut(Timeout::Send));
            }
            self.io.ready.set(Ready::LATE | Ready::WRITE);
        }
        if self.io.recv_by > core.tick {
            return Ok(());
        }
        let Some(timer) = self.io.clock else { return Ok(()) };
        if timer == Timeout::Body
            && let Phase::Job(job) = &mut self.phase
            && job.has_yielded()
        {
            return Ok(());
        }
        let why = EndReason::TimedOut(timer);
        let rule = match timer {
            Timeout::Idle => {
                let step = self.io.closing(why, false);
                self.carry_out(core, step);
                return Ok(());
            }
            Timeout::Head => Misbehaved::HeadTimeout,
            Timeout::Body => Misbehaved::BodyTimeout,
            Timeout::Linger => {
                if let Phase::Closing(closing) = &mut self.phase
                    && closing.lingers_on(&mut self.io)
                {
                    self.io.clock = None;
                    return Ok(());
                }
                return Err(why);
            }
            Timeout::Handshake | Timeout::Send | Timeout::Connect | Timeout::Total => return Err(why),
        };
        let job = if let Phase::Job(job) = &mut self.phase { Some(&mut **job) } else { None };
        let step = self.io.end_with_words(core, rule, why, job)?;
        self.carry_out(core, step);
        Ok(())
    }

    /// What the connection waits for, as far as it is the peer's turn.
    fn waits_for(&self) -> Option<Timeout> {
        match &self.phase {
            Phase::Proxy | Phase::Securing => Some(Timeout::Handshake),
            Phase::Head if self.io.conn.has_partial_head(&self.io.rx) => Some(Timeout::Head),
            Phase::Head => Some(Timeout::Idle),
            Phase::Job(job) if self.io.conn.is_receiving() && job.wants_body() => Some(Timeout::Body),
            Phase::Job(_) | Phase::Upgraded(_) | Phase::Dialing(_) => None,
            Phase::Closing(closing) => closing.is_lingering().then_some(Timeout::Linger),
        }
    }

    /// From here on the socket wakes us for large pieces only, or for everything again. Whether to look at once, because
    /// what came meanwhile has woken nobody.
    #[cold]
    fn set_coalescing(&mut self, yes: bool) -> bool {
        self.io.transport.set_low_water(if yes { WATER } else { 1 });
        self.io.coalesces = yes;
        if !yes {
            self.io.ready.set(Ready::READ);
        }
        !yes
    }

    /// At the end of a turn: gives back what was lent and is not needed, sets the clocks, and has the connection
    /// looked at when the first of them runs out. Whether to look at it at once.
    #[inline]
    pub(super) fn settle(&mut self, core: &mut Core) -> bool {
        let coalesces = matches!(&self.phase, Phase::Job(job) if job.coalesces()) && self.io.conn.direct() >= WATER;
        let again = coalesces != self.io.coalesces && self.set_coalescing(coalesces);
        core.pool.settle(&mut self.io.rx);
        self.io.out.settle(&mut core.pool);
        self.io.transport.settle(&mut core.pool);
        let clock = self.waits_for();
        match clock {
            // Whatever ran before is over: a clock that nobody waits for would run out again and again.
            None => self.io.recv_by = Tick::NEVER,
            Some(timer) if clock != self.io.clock => {
                let own = if let Phase::Job(job) = &self.phase { job.body_timeout } else { None };
                let time = own.filter(|_| timer == Timeout::Body).unwrap_or(core.limits.time(timer));
                self.io.recv_by = core.tick.after(time);
            }
            Some(_) => {}
        }
        self.io.clock = clock;
        let more = matches!(&self.phase, Phase::Job(job) if job.has_output());
        if !self.io.is_blocked(more) {
            self.io.send_by = Tick::NEVER;
            self.io.ready.clear(Ready::LATE);
        } else if self.io.send_by == Tick::NEVER {
            self.io.send_by = core.tick.after(core.limits.send_timeout);
        }
        let own = match &self.phase {
            Phase::Job(job) => job.due(),
            Phase::Upgraded(upgraded) => upgraded.due(),
            Phase::Dialing(dialing) => dialing.by,
            _ => Tick::NEVER,
        };
        let due = self.io.recv_by.min(self.io.send_by).min(own);
        core.deadlines.schedule(self.io.id, due, &mut self.io.entry);
        again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<Slot>() <= 344, "{} bytes", size_of::<Slot>());
    }
}
