//! How a connection becomes a link: who it is, and which names it asks for.
//!
//! ```text
//!   PUT /tunnel HTTP/1.1                                  101 Switching Protocols
//!   Connection: upgrade        is it TLS? is it known?     Upgrade: ptth
//!   Upgrade: ptth              may it have these names?    ALPN: h2
//!   ALPN: h2                   ────────────────────────▶   and HTTP/2, whose client is who has answered
//!   Authorization: Bearer …
//!   Uncork-Hosts: app.example, *.dev.example               else 400, 401, 403, 405, 409, 426, 429, 503
//! ```

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use uncork::{Action, ConnId, PeerAddr, Request, Response, Switch};

use super::{
    Shared, config::ProxyConfig, counters::Count, http2::Http2, link::Opening, names::Denied, pattern::Pattern,
};
use crate::relay::{
    addresses::{Addresses, Allowance},
    wire::retry_after,
};

/// Who is at the door, and who has knocked too often.
pub(super) struct Doors {
    failures: Addresses,
    /// Connections that have not shown a credential.
    strangers: usize,
    most: usize,
    known: HashSet<ConnId>,
}

impl Doors {
    pub(super) fn new(config: &ProxyConfig) -> Self {
        let per_minute = config.failures_per_minute;
        let allowance = Allowance { places: config.handshakes, per_address: usize::MAX, per_minute, burst: per_minute };
        Self { failures: Addresses::new(allowance), strangers: 0, most: config.handshakes, known: HashSet::new() }
    }

    /// One more stranger.
    pub(super) fn accept(&mut self, _: &PeerAddr) -> bool {
        let room = self.strangers < self.most;
        self.strangers += usize::from(room);
        room
    }

    /// A stranger no more.
    pub(super) fn know(&mut self, conn: ConnId) {
        // Where nobody counts who comes in, nobody would take this out again.
        if self.strangers > 0 && self.known.insert(conn) {
            self.strangers -= 1;
        }
    }

    pub(super) fn closed(&mut self, conn: ConnId) {
        if !self.known.remove(&conn) {
            self.strangers = self.strangers.saturating_sub(1);
        }
    }

    /// When this address may try again, if it has failed too often.
    fn too_fast(&self, peer: &PeerAddr, now: Instant) -> Option<Duration> {
        self.failures.too_fast(peer.ip()?, now)
    }

    fn failed(&mut self, peer: &PeerAddr, now: Instant) {
        if let Some(ip) = peer.ip()
            && self.failures.admit(ip, now).is_ok()
        {
            self.failures.release(ip);
        }
    }
}

fn text(status: u16, words: impl Into<String>) -> Response {
    Response::text(format!("{}\n", words.into())).status(status)
}

pub(super) fn handle(shared: &Arc<Shared>, req: &mut Request<'_>) -> Action {
    let now = req.now().mono;
    if let Some(after) = shared.doors().too_fast(req.peer(), now) {
        return text(429, "too many handshakes without a valid credential")
            .header("Retry-After", retry_after(after))
            .into();
    }
    let admitted = asks_rightly(shared, req).and_then(|()| admit(shared, req));
    match admitted {
        Ok(http2) => {
            shared.doors().know(req.conn());
            Switch::to("ptth", http2).header("ALPN", "h2").into()
        }
        Err(response) => {
            shared.counters.add(Count::Denied);
            log::info!(target: "uncork::relay", "{}: no tunnel: {}", req.peer(), response.status_code());
            if response.status_code() == 401 {
                shared.doors().failed(req.peer(), now);
            }
            response.into()
        }
    }
}

/// Whether it is a handshake at all.
fn asks_rightly(shared: &Shared, req: &Request<'_>) -> Result<(), Response> {
    if !matches!(req.method(), "PUT" | "GET") {
        return Err(text(405, "a tunnel is asked for by PUT or GET").header("Allow", "GET, PUT"));
    }
    // Before the credential is looked at: one that was sent in the clear should not seem to work.
    if req.scheme() != "https" && !shared.config.trusted.has(req.peer()) {
        return Err(text(403, "a tunnel is open to TLS only"));
    }
    if !req.wants_upgrade("ptth") {
        return Err(text(426, "a tunnel needs Upgrade: ptth").header("Upgrade", "ptth"));
    }
    if !req.headers().contains_token("alpn", "h2") {
        return Err(text(400, "ALPN does not name h2"));
    }
    Ok(())
}

fn admit(shared: &Arc<Shared>, req: &Request<'_>) -> Result<Http2, Response> {
    let owner = credential(shared, req)?;
    let patterns = names(shared, req, owner)?;
    let (now, since) = (req.now().mono, req.now().wall);
    {
        let mut table = shared.table();
        if table.links.len() >= shared.config.links {
            return Err(text(503, "there are too many tunnels").header("Retry-After", "60"));
        }
        if table.links.values().filter(|link| link.owner == owner).count() >= shared.config.links_per_credential {
            return Err(text(429, "there are too many tunnels of this credential").header("Retry-After", "60"));
        }
        table.names.claim(&patterns, owner, now).map_err(|denied| match denied {
            Denied::Taken(pattern) => text(409, format!("{pattern} is somebody else's")),
            Denied::TooMany => text(403, "there are too many names of this credential"),
        })?;
    }
    let opening = Opening { owner, patterns, peer: *req.peer(), since };
    Http2::new(shared, opening, now).ok_or_else(|| text(500, "HTTP/2 can't be begun"))
}

/// Whose connection it is: by its token, or by its certificate.
fn credential(shared: &Shared, req: &Request<'_>) -> Result<usize, Response> {
    let unknown = |words| text(401, words).header("WWW-Authenticate", "Bearer");
    let mut tokens = req.headers().get_all("authorization");
    if let Some(said) = tokens.next() {
        let token = match said.split_at_checked(7) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") && tokens.next().is_none() => token,
            _ => return Err(unknown("Authorization is not one Bearer token")),
        };
        return shared.config.by_token(token.trim_ascii()).ok_or_else(|| unknown("no such token is known"));
    }
    let certificate = req.secure().and_then(|secure| secure.peer_certificate);
    match certificate.map(|certificate| shared.config.by_certificate(certificate)) {
        Some(Some(owner)) => Ok(owner),
        Some(None) => Err(unknown("no such certificate is known")),
        None => Err(unknown("a tunnel needs a token, or a client certificate")),
    }
}

/// The names it asks for, all of which it may have.
fn names(shared: &Shared, req: &Request<'_>, owner: usize) -> Result<Vec<Pattern>, Response> {
    let mut patterns: Vec<Pattern> = Vec::new();
    for name in req.headers().get_all("uncork-hosts").flat_map(|value| value.split(|&b| b == b',')) {
        let name = String::from_utf8_lossy(name.trim_ascii());
        if name.is_empty() {
            continue;
        }
        let pattern = Pattern::parse(&name).ok_or_else(|| text(400, format!("{name:?} is no name of a host")))?;
        if !shared.config.credentials.get(owner).is_some_and(|one| one.allows(&pattern)) {
            return Err(text(403, format!("{pattern} is not open to this credential")));
        }
        if !patterns.contains(&pattern) {
            patterns.push(pattern);
        }
        if patterns.len() > shared.config.names_per_link {
            return Err(text(403, "these are too many names for one tunnel"));
        }
    }
    if patterns.is_empty() {
        return Err(text(400, "Uncork-Hosts names no host"));
    }
    Ok(patterns)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a starting point for a virtual clock")]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_fails_often_is_not_asked_again() {
        let config = ProxyConfig { failures_per_minute: 3, ..ProxyConfig::default() };
        let (mut doors, now) = (Doors::new(&config), Instant::now());
        let [one, other] = [1, 2].map(|last| PeerAddr::tcp(([192, 0, 2, last], 5).into()));
        for _ in 0..3 {
            assert_eq!(doors.too_fast(&one, now), None);
            doors.failed(&one, now);
        }
        let wait = doors.too_fast(&one, now).expect("too fast");
        assert!(wait <= Duration::from_secs(20), "{wait:?}");
        assert_eq!(doors.too_fast(&other, now), None);
        assert_eq!(doors.too_fast(&one, now + wait), None);
    }

    #[test]
    fn strangers_are_counted_until_they_are_known_or_gone() {
        let mut doors = Doors::new(&ProxyConfig { handshakes: 1, ..ProxyConfig::default() });
        let (peer, [one, other]) = (PeerAddr::Unix, [1, 2].map(|n| ConnId::new(0, n, 1)));
        assert!(doors.accept(&peer) && !doors.accept(&peer));
        doors.know(one);
        assert!(doors.accept(&peer) && !doors.accept(&peer), "the first is none any more");
        doors.closed(one);
        assert!(!doors.accept(&peer), "nor is it one that has gone");
        doors.closed(other);
        assert!(doors.accept(&peer) && doors.known.is_empty());
    }

    /// A program that mounts the two sides itself need not say who comes in, nor who has gone.
    #[test]
    fn who_was_never_counted_is_not_kept() {
        let mut doors = Doors::new(&ProxyConfig::default());
        (0..1000).for_each(|n| doors.know(ConnId::new(0, n, 1)));
        assert!(doors.known.is_empty());
    }
}
