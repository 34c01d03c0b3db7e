//! Requests that are not the gateway's own: they are passed on to the application, as by any reverse proxy.
//!
//! ```text
//!   GET /page ──▶ limits, loops ──▶ Exchange ──head, Via, X-Forwarded-*──▶ application
//!     ◀──────────────────────────── response, 1xx, 101, trailers ────────────┘
//! ```
//! A client must not be mistaken for the gateway: the fields that the gateway sets in its callbacks are dropped from
//! these requests, in every spelling.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use uncork::{
    Action, Moment, Request, Response,
    client::{Client, Error},
    h1::{Headers, Version, is_hop_by_hop, write::is_written_here},
};

use super::{
    application::is_set_by_the_gateway,
    config::GatewayConfig,
    counters::Counters,
    limits::{AddressLimits, LimitReached},
    printable::Printable,
};
use crate::relay::{
    Via,
    forward::{
        Asking, Exchange, Limit, Passing,
        about_client::{ends_here, forwarded},
        target,
    },
    lock::lock,
    max_forwards,
    repeated::{Repeated, others},
};

/// How long the body is held for the application's `100 Continue`, if the client waits for one.
const CONTINUE: Duration = Duration::from_secs(1);

/// How long an idle connection is kept. Some applications close theirs after 2 s, and a request on a connection that is
/// being closed cannot be repeated if it has a body.
const IDLE: Duration = Duration::from_secs(1);

/// Longest time for a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// Shortest time between two log lines about requests that failed.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// The application behind the gateway, for requests that are not the gateway's own.
pub(super) struct Upstream {
    config: GatewayConfig,
    client: Client,
    via: Via,
    limits: Arc<AddressLimits>,
    counters: Arc<Counters>,
    /// Limits the log lines about requests that failed, and about clients beyond a limit.
    logged: Mutex<Repeated>,
}

impl Upstream {
    /// Returns `None` if the configuration has none.
    pub(super) fn new(config: &GatewayConfig, counters: &Arc<Counters>) -> Option<Arc<Self>> {
        let requests = config.limits.upstream_requests.max(1);
        let builder = Client::builder().max_connections(requests).max_queued(0).pool_idle_timeout(IDLE);
        let upstream = (!config.upstream.url.is_empty()).then(|| Self {
            config: config.clone(),
            client: builder.build(),
            via: Via::random(),
            limits: AddressLimits::of(requests, requests.div_ceil(4)),
            counters: counters.clone(),
            logged: Mutex::new(Repeated::new(LOG_EVERY)),
        });
        upstream.map(Arc::new)
    }

    /// Returns the fields that the application gets, or the reason why the request cannot be passed on.
    fn fields(&self, req: &Request<'_>, forwards: Option<u64>) -> Result<Headers, &'static str> {
        let host = req.authority().ok_or("missing host")?;
        let mut fields = Headers::new();
        let mut add = |name: &str, value: &[u8]| fields.append(name, value).map_err(|_| "cannot forward a field");
        let is_kept = |name: &str| {
            let is_rewritten = forwards.is_some() && name.eq_ignore_ascii_case("max-forwards");
            !ends_here(name) && !is_rewritten && !name.eq_ignore_ascii_case("content-length")
        };
        for (name, value) in req.headers().end_to_end().filter(|(name, _)| is_kept(name)) {
            if !is_set_by_the_gateway(&self.config, name) {
                add(name, value)?;
            }
        }
        for (name, value) in forwarded(req, host, false) {
            add(name, &value)?;
        }
        if let Some(left) = forwards {
            add("max-forwards", left.to_string().as_bytes())?;
        }
        add("via", &self.via.after(target::version(req), req.headers().get_all("via")))?;
        Ok(fields)
    }

    fn log(&self, what: &str, now: Moment) {
        if let Some(count) = lock(&self.logged).happened(now.mono) {
            let (what, others) = (Printable(what.as_bytes()), others(count));
            log::warn!(target: "uncork::relay", "upstream: {what}{others}");
        }
    }

    /// Passes a request on, or rejects it.
    pub(super) fn request(self: &Arc<Self>, req: &mut Request<'_>) -> Action {
        begin(self, req).unwrap_or_else(Action::from)
    }
}

fn begin(upstream: &Arc<Upstream>, req: &mut Request<'_>) -> Result<Action, Response> {
    let target = target::path_and_query(req).into_owned();
    if req.method() == "CONNECT" || !target.starts_with('/') {
        return Err(text(501, "the gateway forwards no requests of this kind\n"));
    }
    if upstream.via.is_loop(req.headers().get_all("via")) {
        return Err(text(508, "request loop: the gateway has forwarded the request before\n"));
    }
    let forwards = max_forwards(req)?;
    let guard = upstream.limits.take(req.peer().ip()).map_err(|reached| {
        let (status, limit) = match reached {
            LimitReached::Full => (503, "too many requests"),
            LimitReached::PerAddress => (429, "too many requests from its address"),
        };
        upstream.log(&format!("client {} rejected: {limit}", req.peer()), req.now());
        text(status, "too many requests\n").header("Retry-After", "1").close()
    })?;
    let bytes = upstream.config.limits.upstream_body;
    if req.content_length().is_some_and(|length| length > bytes) {
        return Err(too_large());
    }
    let fields = upstream.fields(req, forwards).map_err(|reason| text(400, &format!("{reason}\n")))?;
    let asking = if req.header("expect").is_some() { Asking::AtTheLatest(CONTINUE) } else { Asking::AtOnce };
    let (listed, setting) = (req.headers().connection_names(), upstream.clone());
    let trailer = Box::new(move |name: &str| {
        let is_framing = is_hop_by_hop(name) || is_written_here(name) || name.eq_ignore_ascii_case("trailer");
        let is_listed = listed.iter().any(|own| own.eq_ignore_ascii_case(name));
        !is_framing && !is_listed && !ends_here(name) && !is_set_by_the_gateway(&setting.config, name)
    });
    let exchange = Exchange::of(req, fields, target::offered_protocol(req));
    // Held until the response has ended, or the connection in another protocol.
    req.on_end(move |_| drop(guard));
    let timeout = upstream.config.upstream.timeout;
    let url = format!("{}{target}", upstream.config.upstream.url.trim_end_matches('/'));
    let call = exchange.call(&url, asking, Passing::Limited(Limit { bytes, too_large: too_large(), trailer }));
    let call = call.connect_timeout(timeout.min(CONNECT)).head_timeout(timeout).idle_timeout(timeout);
    upstream.counters.upstream_request();
    let (its_upstream, now) = (upstream.clone(), req.now());
    exchange.send(&upstream.client, call, move |exchange, result| {
        match result {
            Ok(response) => {
                let version = match response.version() {
                    Version::Http10 => "1.0",
                    _ => "1.1",
                };
                let via = its_upstream.via.after(version, response.headers().get_all("via"));
                exchange.pass_on(response, Some(via));
            }
            // The client has disconnected, or has got another response.
            Err(Error::Cancelled | Error::UploadFailed | Error::LoopEnded) => {}
            Err(error) => {
                its_upstream.counters.upstream_error();
                its_upstream.log(&error.to_string(), now);
                exchange.respond(failed(&error));
            }
        }
    });
    Ok(Action::Suspend)
}

fn text(status: u16, text: &str) -> Response {
    Response::text(text.to_owned()).with_status(status)
}

fn too_large() -> Response {
    text(413, "the body is too large\n").close()
}

/// Returns the response to a request that has none of the application.
fn failed(error: &Error) -> Response {
    match error {
        Error::InvalidUrl(_) | Error::InvalidRequest(_) => text(400, "the URL must be percent-encoded\n"),
        Error::TimedOut(_) => text(504, "the application does not respond\n"),
        Error::QueueFull => text(503, "too many requests\n").header("Retry-After", "1"),
        Error::Resolve { .. } | Error::Connect { .. } | Error::Tls { .. } => {
            text(502, "the application cannot be reached\n").header("Retry-After", "1")
        }
        Error::Protocol(_) | Error::TooLarge(_) => text(502, "malformed response of the application\n"),
        _ => text(502, "the application disconnected before its response\n").header("Retry-After", "1"),
    }
}
