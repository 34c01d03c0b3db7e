//! What a connection is doing, as data: its phase, and the step by which a phase ends. The behaviour of each phase lies
//! in a file of its own, which imports this one.

use super::{conn_io::ConnIo, core::Core, job::Job};
use crate::{
    api::{DialError, Upgrade, Waker, dial},
    base::{EndReason, EventMask, time::Tick},
    transport::Security,
};

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
    Closing(Box<Closing>),
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

/// A connection that is being made.
pub(super) struct Dialing {
    /// `None` once it was called.
    pub(super) then: Option<dial::Then>,
    /// Until when it must stand.
    pub(super) by: Tick,
    pub(super) connected: bool,
    /// What went wrong, in more words than an end has.
    pub(super) fault: Option<DialError>,
}

pub(super) struct Upgraded {
    pub(super) app: Box<dyn Upgrade>,
    pub(super) waker: Waker,
    /// The request it began with; none on a connection of our own making.
    pub(super) job: Option<Box<Job>>,
    pub(super) mask: EventMask,
    /// Input the application has seen and left.
    pub(super) seen: usize,
    /// Output that waited when the application was last called; less means that room grew.
    pub(super) queued: usize,
    /// The application wrote in its last call.
    pub(super) wrote: bool,
    /// The application holds bytes of its own.
    pub(super) holds: bool,
    /// The application's own deadline.
    pub(super) deadline: Tick,
    /// Until when a partial segment may be held back.
    pub(super) held: Tick,
    pub(super) woken: bool,
    pub(super) stopping: bool,
    pub(super) started: bool,
    pub(super) told: Told,
    /// Half-close: asked for, and done.
    pub(super) finished: bool,
    pub(super) fin_sent: bool,
    /// Why the transport can't go on.
    pub(super) fault: Option<EndReason>,
}

/// What is said once only.
#[derive(Default)]
pub(super) struct Told {
    pub(super) end: bool,
    pub(super) stopping: bool,
}

pub(super) struct Closing {
    pub(super) why: EndReason,
    pub(super) linger: bool,
    pub(super) stage: Stage,
    /// A request that is over when the last byte is out.
    pub(super) job: Option<Box<Job>>,
    /// What the peer's system had not acknowledged when that was last looked at.
    pub(super) unacknowledged: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Sending what is left, and the end of our side.
    Flush,
    /// Our side is closed; input is thrown away.
    Linger,
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
