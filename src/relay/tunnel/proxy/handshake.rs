//! The handshake by upgrade: it verifies the credential of a connection and its names, and registers it.
//!
//! ```text
//!   GET /tunnel HTTP/1.1                                  101 Switching Protocols
//!   Connection: upgrade        TLS? known credential?      Upgrade: ptth
//!   Upgrade: ptth              names allowed and free?     ALPN: h2
//!   ALPN: h2                   ────────────────────────▶   and HTTP/2, with this side as the client
//!   Authorization: Bearer …
//!   Uncork-Hosts: app.example, *.dev.example               else 400, 401, 403, 405, 409, 426, 429, 503
//! ```
//! Over HTTP/2 the request is an extended CONNECT (RFC 8441), which the engine presents in the same words; `PUT` is
//! that of earlier versions. The credential is a token, by Bearer (RFC 6750) or as the password of Basic (RFC 7617), or
//! a client certificate. Without `Uncork-Hosts`, all names of the credential are registered. The labels are in
//! [`labels`](crate::relay::tunnel::labels).
//!
//! An origin server that uses other nodes says so (`Uncork-Nodes: ?1`). A proxy that is one of several nodes adds
//! `Uncork-Nodes` to the 101: where origin servers reach the others ([`address`](crate::relay::tunnel::address)). The
//! same checks apply to the [handshake by ALPN](super::handshake_alpn).

use std::{sync::Arc, time::Instant};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use uncork::{Action, PeerAddr, Request, Response, Switch};

use super::{
    connection::Registration, counters::Count, handshake_permit, http1::Http1, http2::Http2, names::ClaimError,
    shared::Shared,
};
use crate::relay::{
    repeated::others,
    tunnel::{
        address::NODES,
        labels::{FIELD, Inner, UPGRADE},
        pattern::Pattern,
    },
    wire::retry_after,
};

/// The reason why a connection is rejected.
#[derive(Debug)]
pub(super) struct Rejection {
    status: u16,
    reason: String,
    field: Option<(&'static str, &'static str)>,
}

impl Rejection {
    pub(super) fn new(status: u16, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into(), field: None }
    }

    fn with(self, name: &'static str, value: &'static str) -> Self {
        Self { field: Some((name, value)), ..self }
    }

    pub(super) fn status(&self) -> u16 {
        self.status
    }

    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    pub(super) fn response(&self) -> Response {
        let response = Response::text(format!("{}\n", self.reason)).with_status(self.status);
        match self.field {
            Some((name, value)) => response.header(name, value),
            None => response,
        }
    }
}

fn rejection(status: u16, reason: impl Into<String>) -> Rejection {
    Rejection::new(status, reason)
}

/// Counts and logs a rejection. A wrong credential counts as a failure of the network.
pub(super) fn rejected(shared: &Shared, peer: &PeerAddr, rejection: &Rejection, now: Instant) {
    let Rejection { status, reason, .. } = rejection;
    shared.common.counters.add(match status {
        401 => Count::HandshakeUnauthorized,
        403 | 409 => Count::HandshakeForbidden,
        429 | 503 => Count::HandshakeOverLimit,
        _ => Count::HandshakeInvalid,
    });
    // Lines about peers that have proved nothing are limited.
    let count = {
        let mut handshakes = shared.handshakes();
        if *status == 401 {
            handshakes.failed(peer, now);
        }
        handshakes.rejected.happened(now)
    };
    if let Some(count) = count {
        let others = others(count);
        log::info!(target: "uncork::relay", "tunnel: origin server {peer} rejected with {status}: {reason}{others}");
    }
}

pub(super) fn handle(shared: &Arc<Shared>, req: &mut Request<'_>) -> Action {
    let now = req.now().mono;
    let too_fast = shared.handshakes().too_fast(req.peer(), now);
    if let Some(after) = too_fast {
        handshake_permit::throttled(shared, req.peer(), now);
        let response = rejection(429, "too many handshakes without a valid credential").response();
        return response.header("Retry-After", retry_after(after)).into();
    }
    match check_request(shared, req).and_then(|inner| admit(shared, req, inner)) {
        Ok(switch) => match &shared.common.nodes {
            Some(nodes) => switch.header(NODES, nodes).into(),
            None => switch.into(),
        },
        Err(rejection) => {
            rejected(shared, req.peer(), &rejection, now);
            rejection.response().into()
        }
    }
}

/// Checks that the request is a handshake. Returns the protocol to be used.
fn check_request(shared: &Shared, req: &Request<'_>) -> Result<Inner, Rejection> {
    if !matches!(req.method(), "PUT" | "GET") {
        return Err(rejection(405, "the method of a tunnel request is PUT or GET").with("Allow", "GET, PUT"));
    }
    // Checked before the credential: a token that was sent in the clear must not seem to work.
    if req.scheme() != "https" && !shared.common.config.trusted.has(req.peer()) {
        return Err(rejection(403, "a tunnel needs TLS"));
    }
    if !req.wants_upgrade(UPGRADE) {
        return Err(rejection(426, "a tunnel needs Upgrade: ptth").with("Upgrade", UPGRADE));
    }
    let inner = Inner::listed(|token| req.headers().contains_token(FIELD, token));
    inner.ok_or_else(|| rejection(400, "invalid ALPN field: expected h2 or http%2F1.1"))
}

fn admit(shared: &Arc<Shared>, req: &Request<'_>, inner: Inner) -> Result<Switch, Rejection> {
    let owner = credential(shared, req)?;
    let hosts = req.headers().get_all("uncork-hosts").flat_map(|value| value.split(|&b| b == b','));
    let hosts = req.header("uncork-hosts").map(|_| hosts);
    let patterns = names(shared, hosts, owner)?;
    let (now, since) = (req.now().mono, req.now().wall);
    claim(shared, &patterns, owner, now)?;
    let spreads = req.header(NODES).is_some();
    let registration = Registration { owner, patterns, peer: *req.peer(), since, inner, spreads };
    let switch = match inner {
        Inner::Http2 => Switch::to(UPGRADE, Http2::new(shared, registration, now)),
        Inner::Http1 => Switch::to(UPGRADE, Http1::new(shared, registration, now)),
    };
    Ok(switch.header(FIELD, inner.token()))
}

/// Claims these names for the owner, if it may have one more connection.
pub(super) fn claim(shared: &Shared, patterns: &[Pattern], owner: usize, now: Instant) -> Result<(), Rejection> {
    let mut table = shared.table();
    if table.connections.len() >= shared.common.config.connections {
        return Err(rejection(503, "too many tunnels").with("Retry-After", "60"));
    }
    if table.connections.values().filter(|connection| connection.owner == owner).count()
        >= shared.common.config.connections_per_credential
    {
        return Err(rejection(429, "too many tunnels with this credential").with("Retry-After", "60"));
    }
    table.names.claim(patterns, owner, now).map_err(|error| match error {
        ClaimError::Taken(pattern) => rejection(409, format!("another credential has {pattern}")),
        ClaimError::TooMany => rejection(403, "too many names for this credential"),
    })
}

fn unknown(reason: &str) -> Rejection {
    rejection(401, reason).with("WWW-Authenticate", "Bearer, Basic realm=\"tunnel\"")
}

/// Returns the credential of a token. `user`: the name that was given with it, which must be that of the credential.
pub(super) fn by_token(shared: &Shared, user: Option<&[u8]>, token: &[u8]) -> Result<usize, Rejection> {
    let config = &shared.common.config;
    let is_named = |owner: &usize| match user {
        // A client may send a password without a name.
        None | Some(b"") => true,
        Some(user) => config.credentials.get(*owner).is_some_and(|one| one.name.as_bytes() == user),
    };
    let reason = if user.is_some() { "unknown user or password" } else { "unknown token" };
    config.by_token(token).filter(is_named).ok_or_else(|| unknown(reason))
}

/// Returns the name, if there is one, and the token of an `Authorization` field.
fn token_of(value: &[u8]) -> Option<(Option<Vec<u8>>, Vec<u8>)> {
    let (scheme, rest) = value.split_at(value.iter().position(|&b| b == b' ')?);
    let rest = rest.trim_ascii();
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Some((None, rest.to_vec()));
    }
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    let mut user = BASE64_STANDARD.decode(rest).ok()?;
    // RFC 7617 §2: a name has no colon.
    let colon = user.iter().position(|&b| b == b':')?;
    let token = user.split_off(colon + 1);
    user.truncate(colon);
    Some((Some(user), token))
}

/// Returns the credential of a request: by its token, or by its client certificate.
fn credential(shared: &Shared, req: &Request<'_>) -> Result<usize, Rejection> {
    let mut values = req.headers().get_all("authorization");
    if let Some(value) = values.next() {
        let (user, token) = token_of(value)
            .filter(|_| values.next().is_none())
            .ok_or_else(|| unknown("invalid Authorization: expected one token, by Bearer or Basic"))?;
        return by_token(shared, user.as_deref(), &token);
    }
    let certificate = req.tls_info().and_then(|secure| secure.peer_certificate);
    match certificate.map(|certificate| shared.common.config.by_certificate(certificate)) {
        Some(Some(owner)) => Ok(owner),
        Some(None) => Err(unknown("unknown client certificate")),
        None => Err(unknown("a tunnel needs a token or a client certificate")),
    }
}

/// Returns the requested names, if the credential allows all of them; those of the credential if none were asked for.
pub(super) fn names<'a>(
    shared: &Shared,
    hosts: Option<impl Iterator<Item = &'a [u8]>>,
    owner: usize,
) -> Result<Vec<Pattern>, Rejection> {
    let too_many = || rejection(403, "too many names for one tunnel");
    let Some(hosts) = hosts else {
        let own = shared.common.config.credentials.get(owner).map(|one| one.hosts.clone()).unwrap_or_default();
        return if own.len() <= shared.common.config.names_per_connection { Ok(own) } else { Err(too_many()) };
    };
    let mut patterns: Vec<Pattern> = Vec::new();
    for name in hosts {
        let name = String::from_utf8_lossy(name.trim_ascii());
        if name.is_empty() {
            continue;
        }
        let pattern = Pattern::parse(&name)
            .map_err(|expected| rejection(400, format!("invalid host name {name:?}: {expected}")))?;
        if !shared.common.config.credentials.get(owner).is_some_and(|one| one.allows(&pattern)) {
            return Err(rejection(403, format!("this credential must not use {pattern}")));
        }
        if !patterns.contains(&pattern) {
            patterns.push(pattern);
        }
        if patterns.len() > shared.common.config.names_per_connection {
            return Err(too_many());
        }
    }
    if patterns.is_empty() {
        return Err(rejection(400, "invalid Uncork-Hosts: expected at least one host"));
    }
    Ok(patterns)
}
