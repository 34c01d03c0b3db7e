//! Identification on a connection that is HTTP/2 from its first byte by ALPN: the proxy's first request asks for
//! it.
//!
//! ```text
//!   Pending ──GET /.well-known/uncork/hello──▶ token, names ──▶ Sent ──a request, or half a second──▶ Open
//! ```
//! The question may name the other nodes (`uncork-nodes`). The response contains the token. It is sent once, to the
//! first request on the connection. Later requests are those of the proxy's clients, and go to the handler.

use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use http::{HeaderMap, Method};

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

type Request = (http::Request<RecvStream>, SendResponse<Bytes>);

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

    /// Handles the proxy's own requests, and returns those of its clients. An error: the proxy has rejected the
    /// connection.
    pub(super) fn filter(
        &mut self,
        request: http::Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        now: Instant,
    ) -> Result<Option<Request>, TunnelError> {
        let is = |path: &str| request.method() == Method::GET && request.uri().path() == path;
        match &mut self.state {
            State::Open => Ok(Some((request, respond))),
            State::Pending(hello, _) => {
                if is(HELLO) {
                    let hello = std::mem::take(hello);
                    self.nodes = request
                        .headers()
                        .get(NODES)
                        .map(|value| NamedNodes::parse(value.as_bytes()))
                        .unwrap_or_default();
                    send_hello(&mut respond, hello);
                    self.state = State::Sent(now + ACCEPTED_AFTER);
                } else {
                    respond.send_reset(Reason::REFUSED_STREAM);
                }
                Ok(None)
            }
            State::Sent(_) if is(REFUSED) => Err(rejection(request.headers())),
            State::Sent(_) => {
                self.state = State::Open;
                Ok(Some((request, respond)))
            }
        }
    }
}

fn send_hello(respond: &mut SendResponse<Bytes>, hello: Bytes) {
    let mut response = http::Response::new(());
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    // If this fails, the proxy rejects the connection.
    if let Ok(mut send) = respond.send_response(response, false) {
        let _ = send.send_data(hello, true);
    }
}

fn rejection(fields: &HeaderMap) -> TunnelError {
    let text = |name: &str| fields.get(name).map(|value| printable(value.as_bytes())).unwrap_or_default();
    TunnelError::Rejected { status: text("uncork-status").parse().unwrap_or(403), reason: text("uncork-reason") }
}
