//! What is passed on between a client and the node that has its session, stream or host: bodies, the response, and the
//! bytes of another protocol.

use std::time::Duration;

use uncork::{
    Action, Consumed, PipeIn, Response, Switch, Ticket, Upload, client,
    h1::{Headers, write::is_written_here},
    pipe,
};

use super::handle::LONGEST;
use crate::relay::upgraded_stream::UpgradedStream;

/// Bytes of the pipe in each direction of another protocol.
const PIPE: usize = 64 * 1024;

/// Passes the response of a node on.
pub(super) fn respond(ticket: Ticket, received: client::Response) {
    // An error means that the client has disconnected: dropping the response closes the node's connection.
    drop(if received.is_switched() { ticket.respond(switched(received)) } else { ticket.respond(carried(received)) });
}

fn carried(received: client::Response) -> Response {
    let (status, length, fields) = (received.status(), received.content_length(), received.headers().clone());
    let response = Response::stream(received.pipe()).with_status(status).length(length);
    let kept = fields.end_to_end().filter(|(name, _)| !is_written_here(name));
    kept.fold(response, |response, (name, value)| response.append(name, value))
}

/// Connects the client to the node, both in the new protocol.
fn switched(received: client::Response) -> Switch {
    let fields = received.headers().clone();
    let protocol = fields.get("upgrade").map(String::from_utf8_lossy).unwrap_or_default();
    let (to_node, from_client) = pipe(PIPE);
    let (to_client, from_node) = pipe(PIPE);
    received.switch(UpgradedStream::new(to_client, from_client));
    let switch = Switch::to(&protocol, UpgradedStream::new(to_node, from_node));
    let kept = fields.end_to_end().filter(|(name, _)| !is_written_here(name));
    kept.fold(switch, |switch, (name, value)| switch.append(name, value))
}

/// The body of a request on its way to the owner. It may pause as long as the owner allows.
pub(super) struct Carried(pub(super) PipeIn);

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
