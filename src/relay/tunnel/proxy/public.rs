//! Checks requests of clients against all limits, and finds the names that they go to.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use uncork::{Action, EndReason, Moment, PeerAddr, Request, pipe, ws};

#[cfg(feature = "nodes")]
use super::elsewhere;
use super::{
    admission::{Counted, RejectedRequest, Sender, reject, unknown},
    connection::OriginConnection,
    counters::Count,
    names::{Active, Name},
    proxied_request::{Cancellation, Failure, PIPE, ProxiedRequest, Responder, Share, UpgradeParts},
    shared::Shared,
    shares::{Permit, PermitError, more},
};
use crate::relay::{
    forward::target,
    max_forwards,
    tunnel::{head, pattern::host_of},
};

/// Returns the address that limits count the request for: the peer's, or that of the client which a trusted proxy
/// names. In IPv6 it is the address of the network.
fn client_address(shared: &Shared, req: &Request<'_>, trusted: bool) -> Option<IpAddr> {
    let is_ours = |ip: IpAddr| shared.common.config.trusted.has(&PeerAddr::tcp(SocketAddr::new(ip, 0)));
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

/// Forwards a request, or rejects it.
pub(super) fn handle(shared: &Arc<Shared>, req: &mut Request<'_>, sender: Sender) -> Action {
    shared.common.counters.add(Count::Requests);
    match begin(shared, req, sender) {
        Ok(action) => action,
        Err(rejected) => {
            shared.common.counters.add(rejected.count);
            rejected.response.into()
        }
    }
}

fn begin(shared: &Arc<Shared>, req: &mut Request<'_>, sender: Sender) -> Result<Action, RejectedRequest> {
    let trusted = match sender {
        Sender::Client { trusted } => trusted,
        #[cfg(feature = "nodes")]
        Sender::Node => true,
    };
    if req.method() == "CONNECT" {
        return Err(reject(Count::Unfit, 501, "CONNECT is not supported\n"));
    }
    if shared.common.via.is_loop(req.headers().get_all("via")) {
        return Err(reject(Count::Unfit, 508, "request loop: this proxy has forwarded the request before\n"));
    }
    let forwards = max_forwards(req).map_err(|response| RejectedRequest { count: Count::Unfit, response })?;
    let host = host_of(req.authority().unwrap_or_default());
    let client_address = client_address(shared, req, trusted);
    #[cfg(feature = "nodes")]
    if let Some(action) = elsewhere::handle(shared, req, sender, &host, client_address)? {
        return Ok(action);
    }
    let (permit, max_body) = route(shared, req, &host, client_address)?;
    if req.content_length().is_some_and(|n| n > max_body) {
        return Err(RejectedRequest {
            count: Count::Unfit,
            response: Failure::TooLarge.response(&shared.common.config),
        });
    }
    let mut counted = Counted::of(shared, req, client_address)?;
    let mut head = head::request(req, trusted, &shared.common.via, forwards)
        .map_err(|reason| reject(Count::Unfit, 400, format!("{reason}\n")))?;
    #[cfg(feature = "nodes")]
    if sender == Sender::Node {
        elsewhere::remove_fields(head.headers_mut());
    }
    let upgrade = upgrade(req, &mut head)?;

    let cancellation = Arc::new(Cancellation::default());
    let (its_cancellation, common) = (cancellation.clone(), shared.common.clone());
    let under_way = Active::one_more(&shared.active);
    req.on_end(move |end| {
        if matches!(end.reason, EndReason::PeerClosed | EndReason::TimedOut(_)) {
            common.counters.add(Count::Disconnected);
        }
        its_cancellation.end();
        counted.iter_mut().for_each(|counted| counted.ended(end));
        drop((counted, under_way));
    });
    let mut responder =
        Responder::new(shared.common.clone(), cancellation, req.ticket(), req.method() == "HEAD", req.now().mono);
    let (mut protocol, mut body, mut action) = (None, None, Action::Suspend);
    if let Some(Upgrade { name, accept }) = upgrade {
        let (to_origin, outlet) = pipe(PIPE);
        protocol = Some(name.clone());
        responder = responder.with_upgrade(UpgradeParts { protocol: name, accept, to_origin });
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
    // The timeout includes the time in a connection's queue.
    responder.restart_timeout(req.now().mono);
    let (share, rejected_by) = (Share::new(client_address, permit), Vec::new());
    shared.send(Box::new(ProxiedRequest { head, protocol, body, listed, responder, share, rejected_by, permit: None }));
    Ok(action)
}

/// Finds the name for this host. Returns a permit for one more request of it, and the size limit of its body.
fn route(
    shared: &Shared,
    req: &Request<'_>,
    host: &str,
    client_address: Option<IpAddr>,
) -> Result<(Permit, u64), RejectedRequest> {
    let Moment { mono: now, .. } = req.now();
    let mut table = shared.table();
    let Some(name) = table.names.find(host, req.path(), now) else {
        drop(table);
        return Err(match shared.is_known(host, req.path()) {
            true => RejectedRequest {
                count: Count::NoOriginServer,
                response: Failure::NoOriginServer.response(&shared.common.config),
            },
            false => RejectedRequest { count: Count::Unknown, response: unknown() },
        });
    };
    if name.connections.is_empty() {
        return Err(RejectedRequest {
            count: Count::NoOriginServer,
            response: Failure::NoOriginServer.response(&shared.common.config),
        });
    }
    let max_body = shared.common.config.credentials.get(name.owner).map_or(0, |one| one.body);
    let rejected = |failure: Failure| RejectedRequest {
        count: Count::Rejected,
        response: failure.response(&shared.common.config),
    };
    match name.permits.take_of(available(name, shared.common.config.share_per_name), client_address) {
        Ok(permit) => Ok((permit, max_body)),
        Err(PermitError::AllTaken) => Err(rejected(Failure::Busy)),
        Err(PermitError::ShareUsed) => Err(rejected(Failure::Share)),
    }
}

/// Returns how many more requests of this name its connections accept. If they serve other names too, those keep their
/// part.
fn available(name: &Name<Arc<OriginConnection>>, share: u32) -> usize {
    let free = name.connections.iter().map(|connection| connection.permits.free()).sum();
    let alone = name.connections.iter().all(|connection| connection.patterns.len() == 1);
    if alone { free } else { more(name.permits.taken(), share, free) }
}

/// The protocol that a client upgrades to.
struct Upgrade {
    name: Box<str>,
    /// The response to a WebSocket's key.
    accept: Option<String>,
}

/// Turns a request for an upgrade into an extended CONNECT (RFC 8441 §4).
fn upgrade(req: &Request<'_>, head: &mut http::Request<()>) -> Result<Option<Upgrade>, RejectedRequest> {
    let Some(name) = target::offered_protocol(req) else { return Ok(None) };
    let name: Box<str> = name.into();
    let mut accept = None;
    let mut protocol = name.clone();
    if name.eq_ignore_ascii_case("websocket") {
        let checked = ws::check(req).map_err(|response| RejectedRequest { count: Count::Unfit, response })?;
        accept = Some(checked.value().to_owned());
        protocol = "websocket".into();
        head.headers_mut().remove("sec-websocket-key");
    }
    *head.method_mut() = http::Method::CONNECT;
    Ok(Some(Upgrade { name: protocol, accept }))
}
