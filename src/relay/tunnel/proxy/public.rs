//! Requests of clients: whether they may pass, and to which name they go.

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
    proxied_request::{Cancellation, Failure, PIPE, ProxiedRequest, Responder, Share, UpgradeParts},
    shares::{Full, Permit, more},
};
use crate::relay::{
    addresses::{Addresses, Allowance, Rejected},
    max_forwards,
    tunnel::head,
    wire::retry_after,
};

/// Addresses that may have requests under way at the same time.
const ADDRESSES: usize = 65_536;

/// Time for which a request that ended before its complete response still counts. Such an end is a reset stream for the
/// origin server. So an address causes as many resets a second as it may have requests, and not as many as it can send.
const KEPT: Duration = Duration::from_secs(1);

/// Counts the requests that each address has under way.
pub(super) struct ClientLimits {
    addresses: Addresses,
    /// Requests that count until the given time, in order of time.
    kept: VecDeque<(Instant, IpAddr)>,
}

impl ClientLimits {
    pub(super) fn new(config: &ProxyConfig) -> Self {
        let per_address = config.streams_per_address;
        let addresses = Addresses::new(Allowance { slots: ADDRESSES, per_address, per_minute: 0, burst: 1 });
        Self { addresses, kept: VecDeque::new() }
    }

    fn admit(&mut self, ip: IpAddr, now: Instant) -> Result<(), Rejected> {
        while let Some(&(until, gone)) = self.kept.front()
            && until <= now
        {
            self.kept.pop_front();
            self.addresses.release(gone);
        }
        self.addresses.admit(ip, now)
    }
}

/// Returns the address that limits count the request for: the peer's, or that of the client which a trusted proxy
/// names. In IPv6 it is the address of the network.
fn client_address(shared: &Shared, req: &Request<'_>, trusted: bool) -> Option<IpAddr> {
    let is_ours = |ip: IpAddr| shared.config.trusted.has(&PeerAddr::tcp(SocketAddr::new(ip, 0)));
    let named = || {
        // From the end: each proxy appends the peer that it has seen.
        let values: Vec<&[u8]> = req.headers().get_all("x-forwarded-for").collect();
        let entries = values.iter().rev().flat_map(|value| value.rsplit(|&b| b == b','));
        entries.map_while(address).find(|ip| !is_ours(*ip))
    };
    let ip = if trusted { named().or_else(|| req.peer().ip()) } else { req.peer().ip() };
    ip.map(PeerAddr::network_of)
}

/// Parses an address in `X-Forwarded-For`, with or without a port.
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
    /// Counted until this time instead.
    kept: Option<Instant>,
}

impl Counted {
    fn one_more(shared: &Arc<Shared>, ip: IpAddr, now: Instant) -> Result<Self, Rejected> {
        shared.clients().admit(ip, now)?;
        Ok(Self { shared: shared.clone(), ip, kept: None })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut clients = self.shared.clients();
        match self.kept {
            Some(until) => clients.kept.push_back((until, self.ip)),
            None => clients.addresses.release(self.ip),
        }
    }
}

pub(super) fn stopping() -> Response {
    Response::text("the server is stopping\n").with_status(503).header("Retry-After", "1").close()
}

pub(super) fn unknown() -> Response {
    Response::text("unknown host\n").with_status(404)
}

/// Forwards a request, or rejects it.
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

/// A response without an origin server, and its counter.
struct Refusal {
    count: Count,
    response: Response,
}

fn refuse(count: Count, status: u16, body: impl Into<String>) -> Refusal {
    Refusal { count, response: Response::text(body.into()).with_status(status) }
}

fn begin(shared: &Arc<Shared>, req: &mut Request<'_>, trusted: bool) -> Result<Action, Refusal> {
    if req.method() == "CONNECT" {
        return Err(refuse(Count::Unfit, 501, "CONNECT is not supported\n"));
    }
    if shared.via.is_loop(req.headers().get_all("via")) {
        return Err(refuse(Count::Unfit, 508, "request loop: this proxy has forwarded the request before\n"));
    }
    let forwards = max_forwards(req).map_err(|response| Refusal { count: Count::Unfit, response })?;
    let host = host_of(req.authority().unwrap_or_default());
    let client_address = client_address(shared, req, trusted);
    let (permit, most) = route(shared, req, &host, client_address)?;
    if req.content_length().is_some_and(|n| n > most) {
        return Err(Refusal { count: Count::Unfit, response: Failure::TooLarge.response(shared) });
    }
    let mut counted = match client_address.map(|ip| Counted::one_more(shared, ip, req.now().mono)) {
        None => None,
        Some(Ok(counted)) => Some(counted),
        Some(Err(_)) => {
            let body = "too many concurrent requests from your address\n";
            let mut refusal = refuse(Count::Refused, 429, body);
            refusal.response = refusal.response.header("Retry-After", retry_after(Duration::from_secs(1)));
            return Err(refusal);
        }
    };
    let mut head = head::request(req, trusted, &shared.via, forwards)
        .map_err(|reason| refuse(Count::Unfit, 400, format!("{reason}\n")))?;
    let upgrade = upgrade(req, &mut head)?;

    let cancellation = Arc::new(Cancellation::default());
    let (its_cancellation, its_shared) = (cancellation.clone(), shared.clone());
    let under_way = Active::one_more(&shared.active);
    req.on_end(move |end| {
        if matches!(end.reason, EndReason::PeerClosed | EndReason::TimedOut(_)) {
            its_shared.counters.add(Count::Disconnected);
        }
        its_cancellation.end();
        if let (Some(counted), false) = (&mut counted, end.reason == EndReason::Complete) {
            counted.kept = Some(end.now.mono + KEPT);
        }
        drop((counted, under_way));
    });
    let mut responder =
        Responder::new(shared.clone(), cancellation, req.ticket(), req.method() == "HEAD", req.now().mono);
    let (mut protocol, mut body, mut action) = (None, None, Action::Suspend);
    if let Some(Upgrade { name, accept }) = upgrade {
        let (up, outlet) = pipe(PIPE);
        protocol = Some(name.clone());
        responder = responder.with_upgrade(UpgradeParts { protocol: name, accept, up });
        body = Some(outlet);
    } else if req.has_body() {
        let (inlet, outlet) = pipe(PIPE);
        body = Some(outlet);
        // A client that waits for `100 Continue` gets it now: there is a receiver for the body.
        action = Action::Receive(Box::new(inlet));
    }
    // Only a chunked body has trailers.
    let chunked = body.is_some() && req.content_length().is_none();
    let listed = if chunked { req.headers().connection_names() } else { Vec::new() };
    // The timeout includes the time in a link's queue.
    responder.restart_timeout(req.now().mono);
    let (share, refused_by) = (Share { address: client_address, _name: permit }, Vec::new());
    shared.send(Box::new(ProxiedRequest { head, protocol, body, listed, responder, share, refused_by, permit: None }));
    Ok(action)
}

/// Finds the name for this host. Returns a permit for one more request of it, and the size limit of its body.
fn route(
    shared: &Shared,
    req: &Request<'_>,
    host: &str,
    client_address: Option<IpAddr>,
) -> Result<(Permit, u64), Refusal> {
    let Moment { mono: now, .. } = req.now();
    let mut table = shared.table();
    let Some(name) = table.names.find(host, req.path(), now) else {
        drop(table);
        return Err(match shared.is_known(host, req.path()) {
            true => Refusal { count: Count::NoOrigin, response: Failure::NoOrigin.response(shared) },
            false => Refusal { count: Count::Unknown, response: unknown() },
        });
    };
    if name.links.is_empty() {
        return Err(Refusal { count: Count::NoOrigin, response: Failure::NoOrigin.response(shared) });
    }
    let most = shared.config.credentials.get(name.owner).map_or(0, |one| one.body);
    let refused = |failure: Failure| Refusal { count: Count::Refused, response: failure.response(shared) };
    match name.permits.take_of(room(name, shared.config.share_per_name), client_address) {
        Ok(permit) => Ok((permit, most)),
        Err(Full::All) => Err(refused(Failure::Busy)),
        Err(Full::Share) => Err(refused(Failure::Share)),
    }
}

/// Returns how many more requests of this name its connections take. If they serve other names too, those keep their
/// part.
fn room(name: &Name<Arc<Link>>, share: u32) -> usize {
    let free = name.links.iter().map(|link| link.permits.free()).sum();
    let alone = name.links.iter().all(|link| link.patterns.len() == 1);
    if alone { free } else { more(name.permits.taken(), share, free) }
}

/// The protocol that a client upgrades to.
struct Upgrade {
    name: Box<str>,
    /// The response to a WebSocket's key.
    accept: Option<String>,
}

/// Turns a request for an upgrade into an extended CONNECT (RFC 8441 §4). A request with a body stays HTTP: an upgrade
/// is an offer, which a server may ignore (RFC 9110 §7.8).
fn upgrade(req: &Request<'_>, head: &mut http::Request<()>) -> Result<Option<Upgrade>, Refusal> {
    let Some(offered) = req.header_str("upgrade").filter(|_| !req.has_body()) else { return Ok(None) };
    // The first protocol is the one that the client prefers.
    let name: Box<str> = offered.split(',').next().unwrap_or_default().trim_matches([' ', '\t']).into();
    if !req.wants_upgrade(&name) || name.is_empty() || req.version() < Version::Http11 {
        return Ok(None);
    }
    // Versions of HTTP are not forwarded: RFC 9113 has dropped "h2c", and "HTTP/2.0" and the like concern one hop.
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
