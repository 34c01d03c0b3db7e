//! The handshake of spdy-proxy's origin servers.
//!
//! ```text
//!   PUT / HTTP/1.1                                 HTTP/1.1 200 Connection Established
//!   Host: localhost:1444        over TLS, from     Content-Length: 12
//!   Content-Length: 12          an address that
//!                               is listed          Hello from P
//!   Hello from C              ────────────────▶    and SPDY/3.1, with this side as the client
//! ```
//! They have no credential: every peer with one of the allowed addresses is accepted. So there is at most one
//! [`Credential::allow_legacy_unauthenticated`](super::Credential::allow_legacy_unauthenticated), which is off by
//! default, and it lists its names. One such origin server is connected at a time: a new one replaces the last.

use std::{sync::Arc, time::Instant};

use uncork::{Action, Consumed, Request, Response, Switch, Upload, h1::Headers};

use super::{
    connection::Registration,
    handshake::{self, Rejection},
    legacy::Legacy,
    shared::Shared,
};
use crate::relay::tunnel::labels::Inner;

/// Limit of a handshake's body in bytes. The body is `Hello from C`, and is ignored.
const MAX_BODY: usize = 1024;

/// Accepts an origin server of spdy-proxy, or rejects it. Returns `None` if the request is not from one.
pub(super) fn accept(shared: &Arc<Shared>, req: &mut Request<'_>) -> Option<Action> {
    let owner = shared.common.config.legacy()?;
    let is_handshake = req.method() == "PUT" && req.path() == "/" && req.query().is_none();
    let is_newer = req.header("upgrade").is_some() || req.header("authorization").is_some();
    if !is_handshake || is_newer {
        return None;
    }
    let rejected = if req.tls_info().is_none() && !shared.common.config.trusted.has(req.peer()) {
        Some((403, "a tunnel needs TLS"))
    } else if !shared.common.config.is_legacy_source(req.peer()) {
        Some((403, "this address must not open a tunnel without a credential"))
    } else if req.content_length().is_some_and(|n| n > MAX_BODY as u64) {
        Some((413, "the body of the handshake is too large"))
    } else {
        None
    };
    if let Some((status, reason)) = rejected {
        let rejection = Rejection::new(status, reason);
        handshake::rejected(shared, req.peer(), &rejection, req.now().mono);
        return Some(rejection.response().into());
    }
    let patterns = shared.common.config.credentials.get(owner)?.hosts.clone();
    let registration =
        Registration { owner, patterns, peer: *req.peer(), since: req.now().wall, inner: Inner::Http2, spreads: false };
    Some(Action::Receive(Box::new(HandshakeBody {
        shared: shared.clone(),
        registration,
        now: req.now().mono,
        left: MAX_BODY,
    })))
}

/// Receives and ignores the handshake's body.
struct HandshakeBody {
    shared: Arc<Shared>,
    registration: Registration,
    now: Instant,
    left: usize,
}

impl Upload for HandshakeBody {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        match self.left.checked_sub(chunk.len()) {
            Some(left) => {
                self.left = left;
                Consumed::All
            }
            None => Consumed::Stop(Response::new(413).into()),
        }
    }

    fn end(self: Box<Self>, _: &Headers) -> Action {
        let Self { shared, registration, now, .. } = *self;
        match Legacy::new(&shared, registration, now) {
            Ok(legacy) => Switch::without_response(legacy).into(),
            Err(response) => response.into(),
        }
    }
}
