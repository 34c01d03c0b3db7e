//! The data of a request at work: its hooks, its two bodies, its end. `exchange` advances it.
//!
//! ```text
//!   request_body:   NotRequested ──Receive──▶ Upload │ Pipe ──▶ Over
//!                         └────response without it──▶ Draining ─┘
//!   response_body:  Owed ──respond──▶ Stream │ Pipe │ File ──▶ Sent
//!                    └──────────────▶ Switch ──▶ Upgraded
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
    /// The waker was called since the job was last driven.
    pub(super) woken: bool,
    pub(super) status: u16,
    /// Bytes of the response's body put into the output.
    pub(super) written: u64,
    pub(super) marks: Marks,
    /// The response closes the connection, even if more of the request's body is coming.
    pub(super) close_after: bool,
    /// [`Response::allow_half_close`](crate::api::Response::allow_half_close), or set by the ticket.
    pub(super) allow_half_close: bool,
    /// The reason for the end once the response is sent: complete, unless that response is the 500 after a panic.
    pub(super) outcome: EndReason,
    /// Wait for the peer's acknowledgement: when to check it, and the pause after that.
    pub(super) ack_check: Option<(Tick, Duration)>,
    /// Body and response are complete: the job ends with the phase.
    pub(super) complete: bool,
    /// [`Upload::body_timeout`], if the upload sets one.
    pub(super) body_timeout: Option<Duration>,
}

/// The standard library writes the panic itself to standard error; the log has it too.
pub(super) const PANICKED: &str = "the application panicked: see standard error";

/// The reason why a job cannot continue.
pub(super) enum JobExit {
    End(EndReason),
    Reject(Misbehaved),
}

impl From<EndReason> for JobExit {
    fn from(reason: EndReason) -> Self {
        Self::End(reason)
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

/// The state of the request's body.
pub(super) enum RequestBody {
    /// The application has not requested it yet.
    NotRequested,
    /// The application does not receive it: up to this many bytes are discarded.
    Draining(u64),
    Upload {
        upload: Box<dyn Upload>,
        pushed_back: bool,
    },
    /// The upload is one end of a pipe.
    Pipe {
        upload: Box<dyn Upload>,
        progress: PipeProgress,
        /// `pump` reads into it, past the input buffer, whatever the framing.
        reads: bool,
        coalescing: Coalescing,
    },
    Over,
}

/// The progress of a body that goes into a pipe.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PipeProgress {
    /// It is moved as it arrives.
    Going,
    /// Spliced bytes must leave the kernel pipe first, which takes little time: the sender's timeout runs on.
    Yielding,
    /// The pipe is full. That is not the sender's fault: its timeout stops.
    PushedBack,
}

/// The state of the response's body.
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
            request_body: RequestBody::NotRequested,
            response_body: ResponseBody::Owed,
            fallback: None,
            woken: false,
            status: 0,
            written: 0,
            marks: Marks::default(),
            close_after: false,
            allow_half_close: false,
            outcome: EndReason::Complete,
            ack_check: None,
            complete: false,
            body_timeout: None,
        })
    }

    pub(super) fn due(&self) -> Tick {
        let fallback = self.fallback.as_ref().map_or(Tick::NEVER, |(due, _)| *due);
        let ack_check = self.ack_check.map_or(Tick::NEVER, |(due, _)| due);
        fallback.min(ack_check).min(self.look_by())
    }

    /// Returns `true` if there is output outside of the connection's output buffer.
    pub(super) fn has_output(&self) -> bool {
        matches!(self.response_body, ResponseBody::File { .. } | ResponseBody::Pipe { waits: false, .. })
    }

    /// Returns `true` if only a ticket can advance the request.
    pub(super) fn waits_for_ticket(&self) -> bool {
        matches!(self.response_body, ResponseBody::Owed)
            && matches!(self.request_body, RequestBody::NotRequested | RequestBody::Over)
    }

    /// Returns `true` if it waits for something other than the peer, and nothing is received or sent.
    pub(super) fn is_suspended(&self) -> bool {
        match self.response_body {
            ResponseBody::Owed => self.waits_for_ticket(),
            ResponseBody::Stream { waits: true, .. } | ResponseBody::Pipe { waits: true, .. } => {
                matches!(self.request_body, RequestBody::NotRequested | RequestBody::Over)
            }
            _ => false,
        }
    }

    /// Returns `true` if an upload receives the body, before or after the response has begun. `false` after
    /// [`Response::close`](crate::api::Response::close), which ends the connection with the response.
    pub(super) fn is_wanted(&self) -> bool {
        !self.close_after && matches!(self.request_body, RequestBody::Upload { .. } | RequestBody::Pipe { .. })
    }

    /// Returns `true` if the body is received now, so that the peer's timeout runs.
    pub(super) fn wants_body(&self) -> bool {
        match &self.request_body {
            RequestBody::Draining(_) => true,
            RequestBody::Upload { pushed_back, .. } => !pushed_back,
            RequestBody::Pipe { progress, .. } => *progress != PipeProgress::PushedBack,
            RequestBody::NotRequested | RequestBody::Over => false,
        }
    }

    /// Returns `true` if the body arrives so fast that large reads are better.
    pub(super) fn coalesces(&self) -> bool {
        matches!(&self.request_body, RequestBody::Pipe { coalescing, .. } if coalescing.is_on())
    }

    /// Returns when to read more of the body although the socket reports large amounts only.
    pub(super) fn look_by(&self) -> Tick {
        match &self.request_body {
            RequestBody::Pipe { progress: PipeProgress::Going, coalescing, .. } => coalescing.due(),
            _ => Tick::NEVER,
        }
    }
}
