//! What is passed on between a client and another server: bodies, the response, and the bytes of another protocol.

use std::time::Duration;

use uncork::{
    Action, Consumed, PipeIn, Response, Switch, Ticket, Upload, client,
    h1::{Headers, write::is_written_here},
    pipe,
};

use crate::relay::upgraded_stream::UpgradedStream;

/// Bytes of the pipe in each direction of another protocol.
const PIPE: usize = 64 * 1024;

/// Passes the response of another server on. `via`: what an intermediary adds.
pub(super) fn respond(ticket: Ticket, received: client::Response, via: Option<Vec<u8>>) {
    let kept = |fields: &Headers| -> Vec<(String, Vec<u8>)> {
        let is_kept = |name: &str| !(is_written_here(name) || via.is_some() && name.eq_ignore_ascii_case("via"));
        let kept = fields.end_to_end().filter(|(name, _)| is_kept(name));
        let kept = kept.map(|(name, value)| (name.to_owned(), value.to_owned()));
        kept.chain(via.iter().map(|via| ("Via".to_owned(), via.clone()))).collect()
    };
    let fields = kept(received.headers());
    // An error means that the client has disconnected: dropping the response closes the server's connection.
    drop(match received.is_switched() {
        true => ticket.respond(switched(received, &fields)),
        false => ticket.respond(carried(received, &fields)),
    });
}

fn carried(received: client::Response, fields: &[(String, Vec<u8>)]) -> Response {
    let (status, length) = (received.status(), received.content_length());
    let response = Response::stream(received.pipe()).with_status(status).length(length);
    fields.iter().fold(response, |response, (name, value)| response.append(name, value))
}

/// Connects the client to the other server, both in the new protocol.
fn switched(received: client::Response, fields: &[(String, Vec<u8>)]) -> Switch {
    let protocol = received.headers().get("upgrade").map(|value| String::from_utf8_lossy(value).into_owned());
    let (to_server, from_client) = pipe(PIPE);
    let (to_client, from_server) = pipe(PIPE);
    received.switch(UpgradedStream::new(to_client, from_client));
    let switch = Switch::to(&protocol.unwrap_or_default(), UpgradedStream::new(to_server, from_server));
    fields.iter().fold(switch, |switch, (name, value)| switch.append(name, value))
}

/// How the body of a request is passed on.
pub(in crate::relay) enum Passing {
    /// As it comes. It may pause for so long: the other server has its own timeout.
    #[cfg(feature = "nodes")]
    Whole(Duration),
    /// As an intermediary does: the client has the timeouts of the server here.
    #[cfg(feature = "gateway")]
    Limited(Limit),
}

/// The rules of an intermediary for a body.
#[cfg(feature = "gateway")]
pub(in crate::relay) struct Limit {
    /// Maximum size, in bytes.
    pub(in crate::relay) bytes: u64,
    /// The response to a larger body.
    pub(in crate::relay) too_large: Response,
    /// Returns `true` if a trailer field of this name is passed on.
    pub(in crate::relay) trailer: Box<dyn Fn(&str) -> bool + Send>,
}

/// The body of a request on its way to the other server.
pub(super) struct Carried {
    inlet: PipeIn,
    passing: Option<Passing>,
}

impl Carried {
    pub(super) fn new(inlet: PipeIn, passing: Passing) -> Self {
        let inlet = match &passing {
            #[cfg(feature = "nodes")]
            Passing::Whole(_) => inlet,
            #[cfg(feature = "gateway")]
            Passing::Limited(limit) => inlet.limit(limit.bytes),
        };
        Self { inlet, passing: Some(passing) }
    }
}

impl Upload for Carried {
    /// Called beyond the limit: the engine fills the pipe. It is dropped without an end, which truncates it.
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        match self.passing.take() {
            #[cfg(feature = "gateway")]
            Some(Passing::Limited(limit)) => Consumed::Stop(limit.too_large.into()),
            passing => {
                self.passing = passing;
                Consumed::Partial(self.inlet.write(chunk))
            }
        }
    }

    fn end(self: Box<Self>, trailers: &Headers) -> Action {
        let trailers = match &self.passing {
            #[cfg(feature = "gateway")]
            Some(Passing::Limited(limit)) => {
                let mut kept = Headers::new();
                for (name, value) in trailers.iter().filter(|(name, _)| (limit.trailer)(name)) {
                    // Cannot fail: it was valid in the request.
                    let _ = kept.append(name, value);
                }
                kept
            }
            _ => trailers.clone(),
        };
        self.inlet.finish(Some(trailers));
        Action::Suspend
    }

    fn body_timeout(&self) -> Option<Duration> {
        match self.passing {
            #[cfg(feature = "nodes")]
            Some(Passing::Whole(timeout)) => Some(timeout),
            _ => None,
        }
    }

    fn pipe(&mut self) -> Option<&mut PipeIn> {
        Some(&mut self.inlet)
    }
}
