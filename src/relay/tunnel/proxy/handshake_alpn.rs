//! The handshake by ALPN: HTTP/2 with the roles reversed, from the first byte after the TLS handshake.
//!
//! ```text
//!   TLS, ALPN     ──▶ this side is the HTTP/2 client at once, and asks:
//!   GET /.well-known/uncork/hello ──▶ {"token": "…", "hosts": ["app.example"]} ──┬─ valid ──▶ Http2: it takes requests
//!                                                                               └─ else ──▶ rejected, and closed
//! ```
//! The question also names the other nodes, if there are any (`uncork-nodes`).
//!
//! Until then the connection counts against a limit that is shared among networks (`handshake_limits`), and carries
//! no client's request. A rejected origin server gets one more request, so that it can log the reason: `GET
//! /.well-known/uncork/refused`, with `uncork-status` and `uncork-reason`. HTTP/2 alone carries no client certificate,
//! so a token is required.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use h2::{RecvStream, client::ResponseFuture};
use serde_json::Value;
use uncork::{EventMask, Io, PeerAddr, Upgrade};

use super::{
    connection::Registration,
    handshake::{self, Rejection},
    handshake_permit::{self, HandshakePermit},
    http2::{Http2, Parts},
    shared::Shared,
};
use crate::relay::tunnel::{address::NODES, pump::Step};

const HELLO_URI: &str = "https://origin.invalid/.well-known/uncork/hello";
const REFUSED_URI: &str = "https://origin.invalid/.well-known/uncork/refused";

/// Limit of the response in bytes.
const MAX_RESPONSE: usize = 16 * 1024;

/// A connection whose origin server has not identified itself yet; later, the carrier in HTTP/2.
pub(super) struct AlpnHandshake {
    shared: Arc<Shared>,
    peer: PeerAddr,
    /// Until the connection is accepted.
    parts: Option<Parts>,
    /// The question for the credential, until its response is complete.
    question: Option<Question>,
    began: Option<Instant>,
    /// The time of the last call.
    now: Option<Instant>,
    permit: Option<HandshakePermit>,
    /// It has identified itself, or must not be counted as a connection that did not.
    settled: bool,
    accepted: Option<Http2>,
}

/// The part of the response that is being received.
enum Question {
    Head(ResponseFuture),
    Body(RecvStream, Vec<u8>),
}

impl AlpnHandshake {
    pub(super) fn new(shared: &Arc<Shared>, peer: PeerAddr) -> Option<Self> {
        let parts = Http2::parts(&shared.common.config)?;
        Some(Self {
            shared: shared.clone(),
            peer,
            parts: Some(parts),
            question: None,
            began: None,
            now: None,
            permit: None,
            settled: false,
            accepted: None,
        })
    }

    /// Takes a permit and sends the question. Returns `false` if there is no permit, or if the network has failed too
    /// often.
    fn begin(&mut self, now: Instant) -> bool {
        if self.shared.handshakes().too_fast(&self.peer, now).is_some() {
            handshake_permit::throttled(&self.shared, &self.peer, now);
            return false;
        }
        let Some(parts) = &mut self.parts else { return false };
        self.permit = HandshakePermit::take(&self.shared, &self.peer, parts.waker());
        let head = http::Request::get(HELLO_URI);
        let head = match &self.shared.common.nodes {
            Some(nodes) => head.header(NODES, nodes),
            None => head,
        };
        if let Ok(head) = head.body(()) {
            self.question = parts.send.send_request(head, true).ok().map(|(response, _)| Question::Head(response));
        }
        self.permit.is_some()
    }

    fn verify(&self, content: &[u8], io: &Io<'_>) -> Result<Registration, Rejection> {
        let hello: Value =
            serde_json::from_slice(content).map_err(|_| Rejection::new(400, "the hello is not valid JSON"))?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let token = hello.get("token").and_then(text).unwrap_or_default();
        let user = hello.get("user").and_then(text);
        let owner = handshake::by_token(&self.shared, user.as_deref().map(str::as_bytes), token.as_bytes())?;
        let hosts = hello.get("hosts").and_then(Value::as_array);
        let hosts: Option<Vec<String>> = hosts.map(|hosts| hosts.iter().filter_map(text).collect());
        let hosts = hosts.as_ref().map(|hosts| hosts.iter().map(String::as_bytes));
        let patterns = handshake::names(&self.shared, hosts, owner)?;
        handshake::claim(&self.shared, &patterns, owner, io.now().mono)?;
        let spreads = hello.get("nodes").and_then(Value::as_bool).unwrap_or(false);
        Ok(Registration { owner, patterns, peer: self.peer, since: io.now().wall, spreads })
    }

    /// Sends the reason of a rejection, and ends.
    fn reject(&mut self, io: &mut Io<'_>, rejection: &Rejection) -> EventMask {
        handshake::rejected(&self.shared, &self.peer, rejection, io.now().mono);
        if rejection.status() == 400 {
            // A malformed response counts as none.
            self.shared.handshakes().failed(&self.peer, io.now().mono);
        }
        if let Some(parts) = &mut self.parts {
            let head = http::Request::get(REFUSED_URI)
                .header("uncork-status", rejection.status())
                .header("uncork-reason", rejection.reason())
                .body(());
            // Best effort: this side's log has the reason as well.
            let sent = head.is_ok_and(|head| parts.send.send_request(head, true).is_ok());
            let connection = &mut parts.connection;
            let _ = parts.pump.turn(io, |cx, _| {
                let polled = Pin::new(&mut *connection).poll(cx);
                if polled.is_ready() || !sent { Step::Over } else { Step::Pending }
            });
        }
        EventMask::TERMINATE
    }
}

/// Sends the question and reads the response. Returns its content, or an error if it is not usable.
fn poll_hello(question: &mut Option<Question>, cx: &mut Context<'_>) -> Option<Result<Vec<u8>, Rejection>> {
    let malformed = || Some(Err(Rejection::new(400, "missing response to the hello")));
    loop {
        match question.as_mut()? {
            Question::Head(response) => match Pin::new(response).poll(cx) {
                Poll::Pending => return None,
                Poll::Ready(Ok(response)) if response.status() == 200 => {
                    *question = Some(Question::Body(response.into_body(), Vec::new()));
                }
                Poll::Ready(_) => return malformed(),
            },
            Question::Body(body, content) => match body.poll_data(cx) {
                Poll::Pending => return None,
                Poll::Ready(Some(Ok(data))) if content.len() + data.len() <= MAX_RESPONSE => {
                    content.extend_from_slice(&data);
                    let _ = body.flow_control().release_capacity(data.len());
                }
                Poll::Ready(None) => return Some(Ok(std::mem::take(content))),
                Poll::Ready(Some(_)) => return malformed(),
            },
        }
    }
}

impl Upgrade for AlpnHandshake {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        if let Some(http2) = &mut self.accepted {
            return http2.ready(io);
        }
        let now = io.now().mono;
        self.now = Some(now);
        let until = match self.began {
            Some(began) => began + self.shared.common.config.handshake_timeout,
            None => {
                self.began = Some(now);
                self.settled = io.events().is_stopping() || !self.begin(now);
                now + self.shared.common.config.handshake_timeout
            }
        };
        self.settled |= io.events().is_stopping();
        let displaced = self.permit.as_ref().is_some_and(HandshakePermit::is_displaced);
        let Some(parts) = self.parts.as_mut().filter(|_| !self.settled && !displaced && now < until) else {
            io.abort();
            return EventMask::TERMINATE;
        };
        io.set_deadline(Some(until));
        let (question, connection) = (&mut self.question, &mut parts.connection);
        let mut hello = None;
        let mask = parts.pump.turn(io, |cx, _| {
            if hello.is_none() {
                hello = poll_hello(question, cx);
            }
            match Pin::new(&mut *connection).poll(cx) {
                Poll::Ready(_) => Step::Over,
                Poll::Pending => Step::Pending,
            }
        });
        let Some(hello) = hello else { return mask };
        self.question = None;
        self.settled = true;
        match hello.and_then(|content| self.verify(&content, io)) {
            Err(rejection) => self.reject(io, &rejection),
            Ok(registration) => {
                let Some(parts) = self.parts.take() else { return EventMask::TERMINATE };
                self.permit = None;
                self.accepted.insert(Http2::of(parts, &self.shared, registration, now)).ready(io)
            }
        }
    }
}

impl Drop for AlpnHandshake {
    fn drop(&mut self) {
        if let Some(now) = self.now.filter(|_| !self.settled) {
            handshake_permit::unanswered(&self.shared, &self.peer, now);
        }
    }
}
