//! The part of a request's stream that HTTP/2 and SPDY have in common.

use std::time::Instant;

use uncork::PipeOut;

use super::proxied_request::{Failure, ProxiedRequest, Responder, Share};

/// The parts of a request that are kept until the response begins: for the response, and to retry the request.
pub(super) struct PendingResponse {
    pub(super) head: http::Request<()>,
    pub(super) protocol: Option<Box<str>>,
    pub(super) rejected_by: Vec<u64>,
    pub(super) responder: Responder,
}

impl PendingResponse {
    /// Returns the request, to be tried on another connection.
    pub(super) fn into_request(
        self,
        body: Option<PipeOut>,
        listed: Vec<Box<str>>,
        share: Share,
    ) -> Box<ProxiedRequest> {
        let Self { head, protocol, rejected_by, responder } = self;
        Box::new(ProxiedRequest { head, protocol, body, listed, responder, share, rejected_by, permit: None })
    }

    pub(super) fn fail(self, failure: Failure) {
        self.responder.fail(failure);
    }
}

/// One look at a stream.
pub(super) struct Turn {
    pub(super) now: Instant,
    /// Bytes that may be moved now.
    pub(super) left: usize,
    /// Bytes moved to the origin server.
    pub(super) request_bytes: usize,
    /// Bytes moved to the client.
    pub(super) response_bytes: usize,
}

impl Turn {
    pub(super) fn new(now: Instant, left: usize) -> Self {
        Self { now, left, request_bytes: 0, response_bytes: 0 }
    }
}

/// The state of a stream after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It waits to be woken.
    Pending,
    /// It has bytes to move, and the rate does not allow that now.
    Slowed,
    /// Request and response are complete. (HTTP/2 reports [`Over`](Self::Over): its connection knows what is complete.)
    Complete,
    /// It is over before its end: the client has disconnected, or has got another response.
    Over,
    /// The origin server has ended it in the middle of the response.
    Truncated,
    /// The origin server has not begun with the request.
    RejectedUnread,
}
