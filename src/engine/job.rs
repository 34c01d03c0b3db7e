//! A request at work, as data: what its hooks, its two bodies and its end need. `exchange` moves it on.
//!
//! ```text
//!   request_body:   Idle ──Receive──▶ Upload │ Pipe ──▶ Over
//!                    └──answered without it──▶ Draining ─┘
//!   response_body:  Owed ──answer──▶ Stream │ Pipe │ File ──▶ Sent
//!                    └─────────────▶ Switch ──▶ Upgraded
//! ```

use std::{fs::File, time::Duration, time::SystemTime};

use super::{acked::Marks, coalescing::Coalescing, dispatch};
use crate::{
    api::{Head, Produce, Switch, Upload, loop_message::Fallback, request::RequestHooks},
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
    Reject(Misbehaved),
}

impl From<EndReason> for JobExit {
    fn from(why: EndReason) -> Self {
        Self::End(why)
    }
}

impl From<Misbehaved> for JobExit {
    fn from(rule: Misbehaved) -> Self {
        Self::Reject(rule)
    }
}

impl From<dispatch::Panicked> for JobExit {
    fn from(_: dispatch::Panicked) -> Self {
        Self::End(EndReason::Panicked)
    }
}

/// What becomes of the request's body.
pub(super) enum RequestBody {
    /// Nobody has asked for it yet.
    Idle,
    /// Nobody will: so many bytes of it may be thrown away.
    Draining(u64),
    Upload {
        upload: Box<dyn Upload>,
        pushed_back: bool,
    },
    /// The upload is one end of a pipe.
    Pipe {
        upload: Box<dyn Upload>,
        pace: PipeProgress,
        /// `pump` reads into it, past the input buffer, whatever the framing.
        reads: bool,
        coalescing: Coalescing,
    },
    Over,
}

/// How a body gets on that is put into a pipe.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PipeProgress {
    /// It is taken as it comes.
    Going,
    /// What was spliced goes out first, which is done soon: the sender's clock runs on.
    Yielding,
    /// There is no room. The sender can't help it: its clock stands.
    PushedBack,
}

/// What becomes of the answer.
pub(super) enum ResponseBody {
    Owed,
    /// The connection switches protocols when the request is driven next.
    Switch(Box<Switch>),
    Stream {
        produce: Box<dyn Produce>,
        waits: bool,
    },
    /// The producer is one end of a pipe. `announced`: bytes of the block that a chunk's size has promised.
    Pipe {
        produce: Box<dyn Produce>,
        waits: bool,
        announced: usize,
    },
    File {
        file: File,
        at: u64,
    },
    Sent,
}

impl Job {
    pub(super) fn new(hooks: Option<Box<RequestHooks>>, head: Option<Head>, began: SystemTime) -> Box<Self> {
        Box::new(Self {
            hooks: hooks.map_or_else(RequestHooks::default, |hooks| *hooks),
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
    pub(super) fn waits_for_ticket(&self) -> bool {
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

    /// Somebody takes the body, be there an answer already or not; unless that answer said [`Response::close`], which
    /// ends the connection with it.
    pub(super) fn is_wanted(&self) -> bool {
        !self.close_after && matches!(self.request_body, RequestBody::Upload { .. } | RequestBody::Pipe { .. })
    }

    /// The body is wanted now: the peer's clock runs.
    pub(super) fn wants_body(&self) -> bool {
        match &self.request_body {
            RequestBody::Draining(_) => true,
            RequestBody::Upload { pushed_back, .. } => !pushed_back,
            RequestBody::Pipe { pace, .. } => *pace != PipeProgress::PushedBack,
            RequestBody::Idle | RequestBody::Over => false,
        }
    }

    /// The body comes fast, and is better taken in large pieces.
    pub(super) fn coalesces(&self) -> bool {
        matches!(&self.request_body, RequestBody::Pipe { coalescing, .. } if coalescing.is_on())
    }

    /// When to look for more of the body, although the socket was not to wake us for little.
    pub(super) fn look_by(&self) -> Tick {
        match &self.request_body {
            RequestBody::Pipe { pace: PipeProgress::Going, coalescing, .. } => coalescing.due(),
            _ => Tick::NEVER,
        }
    }
}
