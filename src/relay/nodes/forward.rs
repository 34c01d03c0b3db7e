//! Forwards a request to the node that its id names.
//!
//! ```text
//!   client ─head─▶ forward ────────────head, Uncork-Node────────────▶ owner
//!     ◀─100─ ticket.receive ◀─on_continue───────────────────────100─┘ │
//!     ─body, trailers─▶ pipe ─────────────────────────────────────────▶
//!     ◀─────────────────────── pipe ◀────────────── response, trailers┘
//! ```
//! Nothing of the body is read before the owner asks for it. Both pipes are bounded. An abort goes through in both
//! directions: a pipe that is dropped truncates the other connection, and a client that disconnects before the response
//! cancels the call.

use std::{sync::Arc, time::Duration};

use uncork::{
    Action, Consumed, PipeIn, Request, Response, Upload, client,
    client::Error,
    h1::{Headers, HeadersRef, write::is_written_here},
    pipe,
};

use super::{
    error::NodeError,
    handle::{LONGEST, Nodes},
    pending::Pending,
    proof::{FIELD, REJECTED, Rejection},
};
use crate::relay::fields::same_field;

/// Bytes of the pipe for the request's body.
const PIPE: usize = 64 * 1024;

/// Fields of one connection, and those that each node writes itself.
const OWN: [&str; 4] = ["host", "content-length", "expect", FIELD];

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
        if req.header(FIELD).is_some() {
            return Err(self.rejected(NodeError::Loop));
        }
        let Some((at, peer)) = to.and_then(|at| self.0.others.get(at).map(|peer| (at, peer))) else {
            self.0.counters.failed();
            return Err(NodeError::Unreachable);
        };
        // The target may be in absolute form.
        let target = req.query().map_or_else(|| req.path().to_owned(), |query| format!("{}?{query}", req.path()));
        let proof = self.proof(peer.tag, req.method(), &target, req);
        let mut call = client::Request::new(req.method(), &format!("{}{target}", peer.url)).header(FIELD, proof);
        call = fields(req.headers()).fold(call, |call, (name, value)| call.append(name, value));
        if let Some(authority) = req.authority() {
            call = call.authority(authority);
        }
        // One ticket for the response, one for the body, one for the stop of the server.
        let (id, ticket, receiving, stopping) = (req.id(), req.ticket(), req.ticket(), req.ticket());
        let has_body = req.has_body() && req.content_length() != Some(0);
        if has_body {
            let (inlet, outlet) = pipe(PIPE);
            call = call.stream(outlet, req.content_length()).on_continue(move || {
                // If the request has ended, the body is dropped, which truncates it for the owner.
                let _ = receiving.receive(Carried(inlet));
            });
        }
        let cancel = call.cancel_handle();
        let (nodes, waiting) = (self.clone(), pending.clone());
        req.on_end(move |end| {
            cancel.cancel();
            waiting.remove(id);
            nodes.0.counters.bytes(end.received.saturating_add(end.written));
        });
        let stop = errors.clone();
        pending.add(id, Box::new(move || drop(stopping.respond(stop(NodeError::Stopping)))));
        self.0.counters.forwarded();
        peer.forwarded();
        let (nodes, waiting) = (self.clone(), pending.clone());
        self.0.client.send(&req.loop_handle(), call, move |result| {
            waiting.remove(id);
            let response = match nodes.judged(at, result) {
                Some(Ok(response)) => carried(response),
                // The rest of the body has no receiver: the client need not send it.
                Some(Err(error)) if has_body => errors(error).close(),
                Some(Err(error)) => errors(error),
                // The client has disconnected.
                None => return,
            };
            // An error means that the client has disconnected: dropping the response closes the owner's connection.
            drop(ticket.respond(response));
        });
        Ok(())
    }

    /// Counts a request that a node should not have sent.
    pub(in crate::relay) fn rejected(&self, error: NodeError) -> NodeError {
        if let Some(reason) = error.rejection() {
            self.0.counters.rejected(reason);
        }
        error
    }

    /// Marks a response as this node's own, so that the other node does not pass it on.
    pub(in crate::relay) fn marked(&self, response: Response) -> Response {
        response.header(REJECTED, Rejection::NotHere.name())
    }

    /// Returns the response of a node, or the error to report; `None` if the client has disconnected.
    pub(super) fn judged(
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
                Some(reason) => format!("it rejects this node: {}", String::from_utf8_lossy(reason)),
            },
            Err(Error::Cancelled | Error::UploadFailed) => return None,
            Err(Error::InvalidUrl(_) | Error::InvalidRequest(_)) => return Some(Err(NodeError::Invalid)),
            Err(error) => error.to_string(),
        };
        self.0.counters.failed();
        peer.failed(&error);
        Some(Err(NodeError::Unreachable))
    }
}

/// Returns the fields of a client that are forwarded. Those that only nodes may send are dropped in every spelling.
fn fields<'a>(headers: HeadersRef<'a>) -> impl Iterator<Item = (&'a str, &'a [u8])> {
    headers.end_to_end().filter(|(name, _)| !OWN.iter().any(|own| same_field(own, name)))
}

/// Passes the response of the owner on.
fn carried(received: client::Response) -> Response {
    let (status, length, fields) = (received.status(), received.content_length(), received.headers().clone());
    let response = Response::stream(received.pipe()).with_status(status).length(length);
    let kept = fields.end_to_end().filter(|(name, _)| !is_written_here(name));
    kept.fold(response, |response, (name, value)| response.append(name, value))
}

/// The body of a request on its way to the owner. It may pause as long as the owner allows.
struct Carried(PipeIn);

impl Upload for Carried {
    /// Not called: the engine fills the pipe, which has no limit of its own.
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        Consumed::Partial(self.0.write(chunk))
    }

    fn end(self: Box<Self>, trailers: &Headers) -> Action {
        self.0.finish(Some(trailers.clone()));
        Action::Suspend
    }

    fn body_timeout(&self) -> Option<Duration> {
        Some(LONGEST)
    }

    fn pipe(&mut self) -> Option<&mut PipeIn> {
        Some(&mut self.0)
    }
}
