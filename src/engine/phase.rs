//! Data: the phase of a connection, and the step by which a phase ends. The behaviour of each phase is in a file of its
//! own, which imports this one.

use super::{conn_io::ConnIo, core::Core, job::Job};
use crate::{
    api::{DialError, Handler, Upgrade, Waker, dial},
    base::{EndReason, EventMask, Timeout, time::Tick},
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
    /// Serving many requests at the same time, over HTTP/2. The second `Box` keeps the pointer at one word: two would
    /// make every connection larger.
    #[cfg_attr(not(feature = "http2"), expect(dead_code, reason = "only HTTP/2 has streams"))]
    Streams(Box<Box<dyn Streams>>),
    /// Speaking another protocol.
    Upgraded(Box<Upgraded>),
    /// Flushing the output, then lingering.
    Closing(Box<Closing>),
}

/// A connection: its resources, and what it is doing.
pub(super) struct Slot {
    pub(super) io: ConnIo,
    pub(super) phase: Phase,
}

/// The streams of a connection that serves many requests at the same time. Each that is in progress has a slot of its
/// own, within that of the connection.
pub(super) trait Streams: Send {
    /// Reads if there is space for more.
    fn fill(&mut self, io: &mut ConnIo, core: &mut Core) -> Result<bool, EndReason>;

    /// Moves bytes, begins requests, and advances those that have something to do.
    fn drive(&mut self, io: &mut ConnIo, core: &mut Core, handler: &mut dyn Handler) -> Result<Step, EndReason>;

    /// Returns `true` if there is nothing to do until the next event.
    fn is_settled(&self) -> bool;

    /// Returns the slot of a request, which is advanced in the connection's next turn.
    fn slot(&mut self, number: u32) -> Option<&mut Slot>;

    /// Ends a request.
    fn end(&mut self, number: u32, core: &mut Core, reason: EndReason);

    /// Ends all requests.
    fn end_all(&mut self, core: &mut Core, reason: EndReason);

    /// Returns the timeout that applies while the connection itself waits for its client.
    fn waits_for(&self) -> Option<Timeout>;

    /// Ends the connection, whose client has not sent what was awaited.
    fn go_away(&mut self, reason: EndReason);

    /// Returns the earliest timeout of a request, or of a silent client.
    fn due(&self, core: &Core) -> Tick;

    /// Has every upgrade called again.
    fn wake_all(&mut self);

    /// Begins to stop: no new requests, and upgrades learn of it.
    fn stop(&mut self);

    /// Responds to the requests that still wait, as far as the socket takes it at once.
    fn force(&mut self, io: &mut ConnIo, core: &mut Core);

    /// Calls `f` with the slot of each request.
    fn each(&self, f: &mut dyn FnMut(&Slot));
}

/// The result of a phase's work.
pub(super) enum Step {
    /// Nothing changed: it waits for an event.
    Idle,
    /// Something changed: another round is worthwhile.
    Progress,
    /// Its work is done, and this phase follows.
    Become(Phase),
    /// The connection has ended normally. (A failure is an `Err` of the function that returns the step.)
    Closed(EndReason),
}

impl Step {
    /// Returns `Progress` if something changed, `Idle` otherwise.
    pub(super) fn progress(changed: bool) -> Self {
        if changed { Self::Progress } else { Self::Idle }
    }
}

/// An outbound connection before it is established.
pub(super) struct Dialing {
    /// `None` after the call.
    pub(super) then: Option<dial::Then>,
    /// The time by which it must be established.
    pub(super) by: Tick,
    pub(super) connected: bool,
    /// The cause of a failure, in more detail than an [`EndReason`].
    pub(super) fault: Option<DialError>,
}

pub(super) struct Upgraded {
    pub(super) app: Box<dyn Upgrade>,
    pub(super) waker: Waker,
    /// The request it began with; `None` on an outbound connection.
    pub(super) job: Option<Box<Job>>,
    pub(super) mask: EventMask,
    /// Bytes of input that the application has seen and left.
    pub(super) seen: usize,
    /// Output that waited when the application was last called. Less output means that the free space grew.
    pub(super) queued: usize,
    /// The application wrote in its last call.
    pub(super) wrote: bool,
    /// The application splices from the socket, or to it, see [`IoCommands`](crate::api::upgrade::IoCommands).
    pub(super) splices_in: bool,
    pub(super) splices_out: bool,
    /// The application holds bytes of its own.
    pub(super) holds: bool,
    /// The peer may leave its output unread as long as it likes.
    pub(super) patient: bool,
    /// The application's own deadline.
    pub(super) deadline: Tick,
    /// The time until which a partial segment may be held back.
    pub(super) held: Tick,
    pub(super) woken: bool,
    pub(super) stopping: bool,
    pub(super) started: bool,
    pub(super) reported: Reported,
    /// The application has half-closed; and that was sent.
    pub(super) finished: bool,
    pub(super) half_close_sent: bool,
    /// The failure of the transport.
    pub(super) fault: Option<EndReason>,
}

/// Events that are reported once.
#[derive(Default)]
pub(super) struct Reported {
    pub(super) read_closed: bool,
    pub(super) stopping: bool,
}

pub(super) struct Closing {
    pub(super) reason: EndReason,
    pub(super) linger: bool,
    pub(super) stage: Stage,
    /// A request that ends when the last byte is sent.
    pub(super) job: Option<Box<Job>>,
    /// The number of bytes that the peer had not acknowledged at the last check.
    pub(super) unacknowledged: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Sending the output, then half-closing.
    Flush,
    /// Half-closed; input is discarded.
    Linger,
}

impl Phase {
    /// Returns the first phase of an inbound connection whose client is known.
    pub(super) fn first(security: &Security) -> Self {
        if security.is_some() { Self::Securing } else { Self::Head }
    }

    /// Returns the request in progress, if there is one. The rest of the phase is dropped.
    pub(super) fn into_job(self, io: &ConnIo, core: &mut Core) -> Option<Box<Job>> {
        match self {
            Self::Job(job) => Some(job),
            Self::Upgraded(upgraded) => io.end_upgraded(core, *upgraded),
            Self::Closing(closing) => closing.into_job(),
            Self::Dialing(_) | Self::Proxy | Self::Securing | Self::Head | Self::Streams(_) => None,
        }
    }

    /// Hands the request of the previous phase to this one. Returns it if it ends with the previous phase.
    pub(super) fn take_job(&mut self, job: Box<Job>) -> Option<Box<Job>> {
        match self {
            Self::Upgraded(upgraded) => upgraded.job = Some(job),
            Self::Closing(closing) => closing.job = Some(job),
            Self::Dialing(_) | Self::Proxy | Self::Securing | Self::Head | Self::Streams(_) | Self::Job(_) => {
                return Some(job);
            }
        }
        None
    }
}
