//! What clients ask: for whom it is, whether it may pass, and how it is put on its way.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use uncork::{Action, EndReason, Moment, PeerAddr, Request, Response, h1::Version, pipe, ws};

use super::{
    Shared,
    config::ProxyConfig,
    counters::Count,
    link::Link,
    names::{Active, Name},
    pattern::host_of,
    proxied_request::{Call, Failure, Joined, PIPE, ProxiedRequest, Reply, Share},
    shares::{Full, Place, more},
};
use crate::relay::{
    addresses::{Addresses, Allowance, Refused},
    max_forwards,
    tunnel::head,
    wire::retry_after,
};

/// Addresses that may have requests under way at the same time.
const ADDRESSES: usize = 65_536;

/// How long the place of a request stays taken that ended before its response was whole. Such an end is a reset stream for
/// the origin server: so an address causes as many a second as it has places, and not as many as it can send.
const KEPT: Duration = Duration::from_secs(1);

/// How many requests each address has under way.
pub(super) struct ClientLimits {
    addresses: Addresses,
    /// Places that are free only then, in order of time.
    kept: VecDeque<(Instant, IpAddr)>,
}

impl ClientLimits {
    pub(super) fn new(config: &ProxyConfig) -> Self {
        let per_address = config.streams_per_address;
        let addresses = Addresses::new(Allowance { slots: ADDRESSES, per_address, per_minute: 0, burst: 1 });
        Self { addresses, kept: VecDeque::new() }
    }

    fn admit(&mut self, ip: IpAddr, now: Instant) -> Result<(), Refused> {
        while let Some(&(until, gone)) = self.kept.front()
            && until <= now
        {
            self.kept.pop_front();
            self.addresses.release(gone);
        }
        self.addresses.admit(ip, now)
    }
}

/// Returns the address that limits count the request for: the peer's, or that of the client a trusted proxy names. In IPv6
/// it is the network of the address.
fn asker(shared: &Shared, req: &Request<'_>, trusted: bool) -> Option<IpAddr> {
    let is_ours = |ip: IpAddr| shared.config.trusted.has(&PeerAddr::tcp(SocketAddr::new(ip, 0)));
    let named = || {
        // From the end: each proxy adds whom it has seen behind what it was told.
        let values: Vec<&[u8]> = req.headers().get_all("x-forwarded-for").collect();
        let entries = values.iter().rev().flat_map(|value| value.rsplit(|&b| b == b','));
        entries.map_while(address).find(|ip| !is_ours(*ip))
    };
    let ip = if trusted { named().or_else(|| req.peer().ip()) } else { req.peer().ip() };
    ip.map(PeerAddr::network_of)
}

/// Reads an address in `X-Forwarded-For`, perhaps with a port.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|addr| addr.ip());
    text.parse().ok().or_else(bare).or_else(with_port)
}

/// A request of one address, counted until this is dropped.
struct Counted {
    shared: Arc<Shared>,
    ip: IpAddr,
    /// Or until then.
    kept: Option<Instant>,
}

impl Counted {
    fn one_more(shared: &Arc<Shared>, ip: IpAddr, now: Instant) -> Result<Self, Refused> {
        shared.crowd().admit(ip, now)?;
        Ok(Self { shared: shared.clone(), ip, kept: None })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut crowd = self.shared.crowd();
        match self.kept {
            Some(until) => crowd.kept.push_back((until, self.ip)),
            None => crowd.addresses.release(self.ip),
        }
    }
}

pub(super) fn stopping() -> Response {
    Response::text("The server is about to stop.\n").with_status(503).header("Retry-After", "1").close()
}

pub(super) fn unknown() -> Response {
    Response::text("There is no such host here.\n").with_status(404)
}

/// Puts a request on its way, or answers it.
pub(super) fn handle(shared: &Arc<Shared>, req: &mut Request<'_>, trusted: bool) -> Action {
    shared.counters.add(Count::Requests);
    match begin(shared, req, trusted) {
        Ok(action) => action,
        Err(refusal) => {
            shared.counters.add(refusal.count);
            refusal.response.into()
        }
    }
}

/// An answer that needs no origin, and what it is counted as.
struct Refusal {
    count: Count,
    response: Response,
}

fn refuse(count: Count, status: u16, words: impl Into<String>) -> Refusal {
    Refusal { count, response: Response::text(words.into()).with_status(status) }
}

fn begin(shared: &Arc<Shared>, req: &mut Request<'_>, trusted: bool) -> Result<Action, Refusal> {
    if req.method() == "CONNECT" {
        return Err(refuse(Count::Unfit, 501, "This is no proxy for CONNECT.\n"));
    }
    if shared.via.is_loop(req.headers().get_all("via")) {
        return Err(refuse(Count::Unfit, 508, "The request was here before: it goes in a circle.\n"));
    }
    let forwards = max_forwards(req).map_err(|response| Refusal { count: Count::Unfit, response })?;
    let host = host_of(req.authority().unwrap_or_default());
    let asker = asker(shared, req, trusted);
    let (place, most) = route(shared, req, &host, asker)?;
    if req.content_length().is_some_and(|n| n > most) {
        return Err(Refusal { count: Count::Unfit, response: Failure::TooLarge.answer(shared) });
    }
    let mut counted = match asker.map(|ip| Counted::one_more(shared, ip, req.now().mono)) {
        None => None,
        Some(Ok(counted)) => Some(counted),
        Some(Err(_)) => {
            let words = "There are too many requests of your address under way.\n";
            let mut refusal = refuse(Count::Refused, 429, words);
            refusal.response = refusal.response.header("Retry-After", retry_after(Duration::from_secs(1)));
            return Err(refusal);
        }
    };
    let mut head = head::request(req, trusted, &shared.via, forwards)
        .map_err(|why| refuse(Count::Unfit, 400, format!("{why}\n")))?;
    let upgrade = upgrade(req, &mut head)?;

    let call = Arc::new(Call::default());
    let (its_call, its_shared) = (call.clone(), shared.clone());
    let under_way = Active::one_more(&shared.active);
    req.on_end(move |end| {
        if matches!(end.reason, EndReason::PeerClosed | EndReason::TimedOut(_)) {
            its_shared.counters.add(Count::Left);
        }
        its_call.end();
        if let (Some(counted), false) = (&mut counted, end.reason == EndReason::Complete) {
            counted.kept = Some(end.now.mono + KEPT);
        }
        drop((counted, under_way));
    });
    let mut reply = Reply::new(shared.clone(), call, req.ticket(), req.method() == "HEAD", req.now().mono);
    let (mut protocol, mut body, mut action) = (None, None, Action::Suspend);
    if let Some(Upgrade { name, accept }) = upgrade {
        let (up, outlet) = pipe(PIPE);
        protocol = Some(name.clone());
        reply = reply.joined(Joined { protocol: name, accept, up });
        body = Some(outlet);
    } else if req.has_body() {
        let (inlet, outlet) = pipe(PIPE);
        body = Some(outlet);
        // Whoever waits for `100 Continue` gets it now: there is somebody to receive the body.
        action = Action::Receive(Box::new(inlet));
    }
    // Only a body in chunks has trailers.
    let chunked = body.is_some() && req.content_length().is_none();
    let listed = if chunked { req.headers().connection_names() } else { Vec::new() };
    // Also while it waits for a connection.
    reply.set_clock(req.now().mono);
    let (share, refused_by) = (Share { address: asker, _name: place }, Vec::new());
    shared.send(Box::new(ProxiedRequest { head, protocol, body, listed, reply, share, refused_by, place: None }));
    Ok(action)
}

/// Whether somebody is there for this host, and how much of a body it takes; one request more of it.
fn route(shared: &Shared, req: &Request<'_>, host: &str, asker: Option<IpAddr>) -> Result<(Place, u64), Refusal> {
    let Moment { mono: now, .. } = req.now();
    let mut table = shared.table();
    let Some(name) = table.names.find(host, req.path(), now) else {
        drop(table);
        return Err(match shared.is_known(host, req.path()) {
            true => Refusal { count: Count::NoOrigin, response: Failure::NoOrigin.answer(shared) },
            false => Refusal { count: Count::Unknown, response: unknown() },
        });
    };
    if name.links.is_empty() {
        return Err(Refusal { count: Count::NoOrigin, response: Failure::NoOrigin.answer(shared) });
    }
    let most = shared.config.credentials.get(name.owner).map_or(0, |one| one.body);
    let refused = |failure: Failure| Refusal { count: Count::Refused, response: failure.answer(shared) };
    match name.places.take_of(room(name, shared.config.share_per_name), asker) {
        Ok(place) => Ok((place, most)),
        Err(Full::All) => Err(refused(Failure::Busy)),
        Err(Full::Share) => Err(refused(Failure::Share)),
    }
}

/// Returns how many more requests of this name its connections take. That is less if they are for other names too, which
/// keep their part.
fn room(name: &Name<Arc<Link>>, share: u32) -> usize {
    let free = name.links.iter().map(|link| link.places.free()).sum();
    let alone = name.links.iter().all(|link| link.patterns.len() == 1);
    if alone { free } else { more(name.places.taken(), share, free) }
}

/// The protocol a client wants to go on in.
struct Upgrade {
    name: Box<str>,
    /// The answer to a WebSocket's key.
    accept: Option<String>,
}

/// Makes an extended CONNECT (RFC 8441 §4) of a request that asks for an upgrade, if it does. A request with a body goes
/// on in HTTP: an upgrade is an offer, which may be ignored (RFC 9110 §7.8).
fn upgrade(req: &Request<'_>, head: &mut http::Request<()>) -> Result<Option<Upgrade>, Refusal> {
    let Some(asked) = req.header_str("upgrade").filter(|_| !req.has_body()) else { return Ok(None) };
    // The first that is asked for, as its sender prefers it.
    let name: Box<str> = asked.split(',').next().unwrap_or_default().trim_matches([' ', '\t']).into();
    if !req.wants_upgrade(&name) || name.is_empty() || req.version() < Version::Http11 {
        return Ok(None);
    }
    // Of HTTP itself: "h2c" is a leftover that RFC 9113 has dropped, and "HTTP/2.0" and the like nothing to pass on.
    if name.eq_ignore_ascii_case("h2c") || name.len() >= 4 && name[..4].eq_ignore_ascii_case("http") {
        return Ok(None);
    }
    let mut accept = None;
    let mut protocol = name.clone();
    if name.eq_ignore_ascii_case("websocket") {
        let checked = ws::check(req).map_err(|response| Refusal { count: Count::Unfit, response })?;
        accept = Some(checked.value().to_owned());
        protocol = "websocket".into();
        head.headers_mut().remove("sec-websocket-key");
    } else if req.method() != "GET" {
        return Ok(None);
    }
    *head.method_mut() = http::Method::CONNECT;
    Ok(Some(Upgrade { name: protocol, accept }))
}
