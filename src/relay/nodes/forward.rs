//! Forwards a request to the node that its id names.
//!
//! ```text
//!   client ─head─▶ forward ────────────head, Uncork-Node────────────▶ owner
//!     ◀─100─ ticket.receive ◀─on_continue───────────────────────100─┘ │
//!     ─body, trailers─▶ pipe ─────────────────────────────────────────▶
//!     ◀─────────────────────── pipe ◀────────────── response, trailers┘
//! ```
//! Nothing of the body is read before the owner asks for it. Both pipes are bounded, and large enough to splice: a body
//! of known length between plain connections does not enter the process. An abort goes through in both
//! directions: a pipe that is dropped truncates the other connection, and a client that disconnects before the response
//! cancels the call.

use std::sync::Arc;

use uncork::{Request, Response, client, client::Error};

use super::{
    error::NodeError,
    handle::Nodes,
    held::Forwarding,
    id::Tag,
    pending::Pending,
    proof::{FIELD, NO_HOST, REJECTED, Rejection},
};

impl Nodes {
    /// Forwards a request to the node with this number. `errors` makes the responses of this node itself.
    ///
    /// # Errors
    /// Returns the error of a request that cannot be forwarded at all. Its response is left to the caller.
    pub(in crate::relay) fn forward<F>(
        &self,
        req: &mut Request<'_>,
        to: Option<usize>,
        pending: &Arc<Pending>,
        errors: F,
    ) -> Result<(), NodeError>
    where
        F: Fn(NodeError) -> Response + Clone + Send + 'static,
    {
        let how = Forwarding { keep: &|_| true, service: None, upgrade: false, pending: Some(pending) };
        let Some(to) = to.filter(|at| *at < self.0.others.len()) else {
            // The one that comes back is a loop all the same.
            self.reject_loop(req)?;
            self.0.counters.failed();
            return Err(NodeError::Unreachable);
        };
        self.hold(req, &how, errors)?.send([to]);
        Ok(())
    }

    /// Counts a request that a node should not have sent.
    pub(in crate::relay) fn rejected(&self, error: NodeError) -> NodeError {
        if let Some(reason) = error.rejection() {
            self.0.counters.rejected(reason);
        }
        error
    }

    pub(super) fn reject_loop(&self, req: &Request<'_>) -> Result<(), NodeError> {
        if req.header(FIELD).is_some() { Err(self.rejected(NodeError::Loop)) } else { Ok(()) }
    }

    /// Marks a response as this node's own: it has no origin server for the host. The other node asks elsewhere.
    #[cfg(feature = "tunnel")]
    pub(in crate::relay) fn without_host(response: Response) -> Response {
        response.header(REJECTED, NO_HOST)
    }

    /// Marks a response as this node's own, so that the other node does not pass it on.
    pub(in crate::relay) fn marked(&self, response: Response) -> Response {
        response.header(REJECTED, Rejection::NotHere.name())
    }

    /// Returns the response of a node, or the error to report; `None` if the client has disconnected. Counts a request
    /// that has no response of the node.
    pub(super) fn judged(
        &self,
        at: usize,
        result: Result<client::Response, Error>,
    ) -> Option<Result<client::Response, NodeError>> {
        let outcome = self.outcome(at, result);
        if let (Some(Err(NodeError::Unreachable)), Some(peer)) = (&outcome, self.0.others.get(at)) {
            self.0.counters.failed();
            peer.failed();
        }
        outcome
    }

    /// Like [`judged`](Self::judged), but for a question of this node, which is not counted as a request.
    pub(super) fn outcome(
        &self,
        at: usize,
        result: Result<client::Response, Error>,
    ) -> Option<Result<client::Response, NodeError>> {
        let peer = self.0.others.get(at)?;
        let error = match result {
            Ok(response) => match response.headers().get(REJECTED) {
                None => {
                    peer.responded();
                    return Some(Ok(response));
                }
                // It had the host a moment ago.
                Some(reason) if reason == NO_HOST.as_bytes() => {
                    peer.responded();
                    return Some(Err(NodeError::NotHere));
                }
                Some(reason) => rejected_as(peer.tag, &String::from_utf8_lossy(reason)),
            },
            Err(Error::Cancelled | Error::UploadFailed) => return None,
            Err(Error::InvalidUrl(_) | Error::InvalidRequest(_)) => return Some(Err(NodeError::Invalid)),
            Err(error) => error.to_string(),
        };
        peer.silent(&error);
        Some(Err(NodeError::Unreachable))
    }
}

/// Returns why the node `to` has rejected a request of this node, for the log.
fn rejected_as(to: Tag, reason: &str) -> String {
    // A node of an earlier version does not say which one it is.
    match reason.split_once(' ') {
        Some((name, other)) if name == Rejection::Recipient.name() => format!(
            "it rejects this node: {name}: the request was signed for node {to}, but reached node {other}; check id \
             and nodes of both"
        ),
        _ => format!("it rejects this node: {reason}"),
    }
}
