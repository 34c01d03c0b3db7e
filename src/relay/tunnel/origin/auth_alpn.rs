//! Identification on a connection on which the roles are reversed from its first byte, by ALPN: the proxy's first
//! request asks for it.
//!
//! ```text
//!   Pending ──GET /.well-known/uncork/hello──▶ token, names ──▶ Sent ──a request, or half a second──▶ Open
//! ```
//! The question may name the other nodes (`uncork-nodes`). The response contains the token. It is sent once, to the
//! first request on the connection. Later requests are those of the proxy's clients, and go to the handler.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{error::TunnelError, upgrade_request::Proof};
use crate::relay::tunnel::{
    address::{NODES, NamedNodes},
    printable::printable,
};

const HELLO: &str = "/.well-known/uncork/hello";
const REFUSED: &str = "/.well-known/uncork/refused";
/// The proxy rejects a connection at once. Without a rejection within this time the connection is accepted.
const ACCEPTED_AFTER: Duration = Duration::from_millis(500);

/// Returns the response to the proxy's question.
pub(super) fn hello_response(proof: &Proof, hosts: &[String], uses_nodes: bool) -> Bytes {
    let mut hello = serde_json::json!({ "token": proof.token, "version": 1, "nodes": uses_nodes });
    if let Some(user) = &proof.user {
        hello["user"] = user.as_str().into();
    }
    // Without names, all those of the credential are registered.
    if !hosts.is_empty() {
        hello["hosts"] = hosts.into();
    }
    Bytes::from(hello.to_string())
}

pub(super) struct AuthAlpn {
    state: State,
    /// What the proxy's question has said about other nodes.
    nodes: NamedNodes,
}

enum State {
    /// The proxy has not asked yet; it must do so before this time.
    Pending(Bytes, Instant),
    /// The response is sent. The proxy rejects it before this time, if at all.
    Sent(Instant),
    Open,
}

impl AuthAlpn {
    pub(super) fn new(hello: Option<Bytes>, deadline: Instant) -> Self {
        let state = hello.map_or(State::Open, |hello| State::Pending(hello, deadline));
        Self { state, nodes: NamedNodes::default() }
    }

    pub(super) fn nodes(&self) -> &NamedNodes {
        &self.nodes
    }

    pub(super) fn is_open(&self, now: Instant) -> bool {
        match &self.state {
            State::Open => true,
            State::Sent(until) => now >= *until,
            State::Pending(..) => false,
        }
    }

    /// Returns `true` if the proxy has not asked in time.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        matches!(self.state, State::Pending(_, deadline) if now >= deadline)
    }

    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        match &self.state {
            State::Pending(_, at) | State::Sent(at) => Some(*at).filter(|at| *at > now),
            State::Open => None,
        }
    }

    /// Decides about a request. `path`: that of a GET, otherwise `None`. `field`: returns a field's value.
    pub(super) fn decide<'a>(
        &mut self,
        path: Option<&str>,
        field: impl Fn(&str) -> Option<&'a [u8]>,
        now: Instant,
    ) -> Verdict {
        match &mut self.state {
            State::Open => Verdict::OfClient,
            State::Pending(hello, _) if path == Some(HELLO) => {
                let hello = std::mem::take(hello);
                self.nodes = field(NODES).map(NamedNodes::parse).unwrap_or_default();
                self.state = State::Sent(now + ACCEPTED_AFTER);
                Verdict::Hello(hello)
            }
            State::Pending(..) => Verdict::TooEarly,
            State::Sent(_) if path == Some(REFUSED) => Verdict::Rejected(rejection(field)),
            State::Sent(_) => {
                self.state = State::Open;
                Verdict::OfClient
            }
        }
    }
}

/// What is done with a request.
pub(super) enum Verdict {
    /// It is for the handler.
    OfClient,
    /// It is the proxy's question, and this is the response.
    Hello(Bytes),
    /// The proxy has not asked for the credential yet.
    TooEarly,
    /// The proxy has rejected the connection.
    Rejected(TunnelError),
}

fn rejection<'a>(field: impl Fn(&str) -> Option<&'a [u8]>) -> TunnelError {
    let text = |name: &str| field(name).map(printable).unwrap_or_default();
    TunnelError::Rejected { status: text("uncork-status").parse().unwrap_or(403), reason: text("uncork-reason") }
}
