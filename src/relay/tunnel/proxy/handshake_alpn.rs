//! The handshake by ALPN: HTTP with the roles reversed, from the first byte after the TLS handshake.
//!
//! ```text
//!   TLS, ALPN     ──▶ this side is the client at once, and asks:
//!   GET /.well-known/uncork/hello ──▶ {"token": "…", "hosts": ["app.example"]} ──┬─ valid ──▶ it takes requests
//!                                                                               └─ else ──▶ rejected, and closed
//! ```
//! The question also names the other nodes, if there are any (`uncork-nodes`).
//!
//! Until then the connection counts against a limit that is shared among networks (`handshake_limits`), and carries
//! no client's request. A rejected origin server gets one more request, so that it can log the reason: `GET
//! /.well-known/uncork/refused`, with `uncork-status` and `uncork-reason`. No client certificate is looked at,
//! so a token is required.

use std::{sync::Arc, task, time::Instant};

use serde_json::Value;
use uncork::{EventMask, Io, PeerAddr, Upgrade};

use super::{
    connection::Registration,
    handshake::{self, Rejection},
    handshake_permit::{self, HandshakePermit},
    shared::Shared,
};
use crate::relay::tunnel::labels::Inner;

/// The paths of the question, and of the reason of a rejection.
pub(super) const HELLO: &str = "/.well-known/uncork/hello";
pub(super) const REFUSED: &str = "/.well-known/uncork/refused";

/// Limit of the response in bytes.
pub(super) const MAX_RESPONSE: usize = 16 * 1024;

/// The question for the credential, in one of the protocols.
pub(super) trait Question: Send {
    /// Returns a waker that has the connection called again.
    fn waker(&self) -> task::Waker;

    /// Sends the question. `nodes`: what it says about the nodes.
    fn ask(&mut self, nodes: Option<&str>);

    /// Does one call of [`Upgrade::ready`](uncork::Upgrade::ready). Returns also the content of the response, once it
    /// is complete, or an error if it is not usable.
    fn turn(&mut self, io: &mut Io<'_>) -> (EventMask, Option<Result<Vec<u8>, Rejection>>);

    /// Sends the reason of a rejection, as far as that is possible at once.
    fn refuse(&mut self, io: &mut Io<'_>, rejection: &Rejection);

    /// Returns the carrier of the accepted connection.
    fn accept(self, shared: &Arc<Shared>, registration: Registration, now: Instant) -> Box<dyn Upgrade>;

    /// The protocol.
    fn inner(&self) -> Inner;
}

/// Returns the rejection of a response that is not usable.
pub(super) fn malformed() -> Rejection {
    Rejection::new(400, "missing response to the hello")
}

/// A connection whose origin server has not identified itself yet; later, its carrier.
pub(super) struct AlpnHandshake<Q> {
    shared: Arc<Shared>,
    peer: PeerAddr,
    /// Until the connection is accepted.
    question: Option<Q>,
    began: Option<Instant>,
    /// The time of the last call.
    now: Option<Instant>,
    permit: Option<HandshakePermit>,
    /// It has identified itself, or must not be counted as a connection that did not.
    settled: bool,
    accepted: Option<Box<dyn Upgrade>>,
}

impl<Q: Question> AlpnHandshake<Q> {
    pub(super) fn new(shared: &Arc<Shared>, peer: PeerAddr, question: Q) -> Self {
        Self {
            shared: shared.clone(),
            peer,
            question: Some(question),
            began: None,
            now: None,
            permit: None,
            settled: false,
            accepted: None,
        }
    }

    /// Takes a permit and sends the question. Returns `false` if there is no permit, or if the network has failed too
    /// often.
    fn begin(&mut self, now: Instant) -> bool {
        if self.shared.handshakes().too_fast(&self.peer, now).is_some() {
            handshake_permit::throttled(&self.shared, &self.peer, now);
            return false;
        }
        let Some(question) = &mut self.question else { return false };
        self.permit = HandshakePermit::take(&self.shared, &self.peer, question.waker());
        question.ask(self.shared.common.nodes.as_deref());
        self.permit.is_some()
    }

    fn verify(&self, content: &[u8], inner: Inner, io: &Io<'_>) -> Result<Registration, Rejection> {
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
        Ok(Registration { owner, patterns, peer: self.peer, since: io.now().wall, inner, spreads })
    }

    /// Sends the reason of a rejection, and ends.
    fn reject(&mut self, io: &mut Io<'_>, rejection: &Rejection) -> EventMask {
        handshake::rejected(&self.shared, &self.peer, rejection, io.now().mono);
        if rejection.status() == 400 {
            // A malformed response counts as none.
            self.shared.handshakes().failed(&self.peer, io.now().mono);
        }
        if let Some(question) = &mut self.question {
            question.refuse(io, rejection);
        }
        EventMask::TERMINATE
    }
}

impl<Q: Question> Upgrade for AlpnHandshake<Q> {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        if let Some(carrier) = &mut self.accepted {
            return carrier.ready(io);
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
        let Some(question) = self.question.as_mut().filter(|_| !self.settled && !displaced && now < until) else {
            io.abort();
            return EventMask::TERMINATE;
        };
        io.set_deadline(Some(until));
        let inner = question.inner();
        let (mask, hello) = question.turn(io);
        let Some(hello) = hello else { return mask };
        self.settled = true;
        match hello.and_then(|content| self.verify(&content, inner, io)) {
            Err(rejection) => self.reject(io, &rejection),
            Ok(registration) => {
                let Some(question) = self.question.take() else { return EventMask::TERMINATE };
                self.permit = None;
                self.accepted.insert(question.accept(&self.shared, registration, now)).ready(io)
            }
        }
    }
}

impl<Q> Drop for AlpnHandshake<Q> {
    fn drop(&mut self) {
        if let Some(now) = self.now.filter(|_| !self.settled) {
            handshake_permit::unanswered(&self.shared, &self.peer, now);
        }
    }
}
