//! Calls to the application.
//!
//! | callback | request | what waits for the response |
//! |---|---|---|
//! | connect | the client's own, without the fields of its connection | the client's handshake |
//! | establish | `POST`, empty | the session: nothing is sent or passed on before it |
//! | receive | `POST`, a message, with its `Content-Length` | the client's next message |
//! | close | `POST`, empty | nothing |
//!
//! Each call waits in the [queue](Calls) of its client's network until it may run.

use std::{sync::Arc, time::Duration};

use uncork::{
    Request,
    client::{self, Client, Error, FullResponse, Response},
    h1::Headers,
    ws::Accept,
};

use super::{
    calls::{Caller, Calls},
    config::GatewayConfig,
    key::Key,
};
use crate::relay::fields::{same_field, starts_as};

/// Field with the authority at which the application reaches the gateway that calls it.
const ENDPOINT: &str = "X-Kuiperbelt-Endpoint";

/// Timeout of a call that has none in the configuration, so that no call lasts forever.
const FOREVER: Duration = Duration::from_secs(3600);

/// Shortest timeout of a close callback: that of kuiperbelt has no limit.
const CLOSE: Duration = Duration::from_secs(60);

/// Number of idle connections that are kept, and for how long; as in kuiperbelt.
const IDLE: (usize, Duration) = (32, Duration::from_secs(10));
/// Once per interval, a call closes its connection, so that load balancers can distribute connections.
const ROTATE: Duration = Duration::from_secs(10);
/// Number of redirects that are followed; as in kuiperbelt.
const REDIRECTS: u8 = 10;

/// Field with the sub-protocols that a client offers, and the one that the application chooses.
const PROTOCOL: &str = "Sec-WebSocket-Protocol";

/// Fields of a client's request that belong to its own connection, or that the call has its own of.
const NOT_PASSED_ON: &[&str] = &[
    "connection",
    "keep-alive",
    "upgrade",
    "host",
    "content-length",
    "transfer-encoding",
    "expect",
    "te",
    "trailer",
    "proxy-connection",
];

pub(super) struct Application {
    client: Client,
    calls: Arc<Calls>,
}

/// The result of a connect callback.
pub(super) enum Verdict {
    /// The client may connect, with this key; the body is the greeting.
    Accepted(Key, FullResponse),
    /// The application was not called: too many calls for clients of this address are waiting.
    Busy,
    /// The client may not connect; the response is passed on.
    Rejected(FullResponse),
    /// The client may connect, but the response has no key.
    NoKey,
    /// The call failed.
    Unreachable(Error),
    /// The call cannot be made: the URL is invalid.
    InvalidCall(Error),
}

impl Application {
    pub(super) fn new(config: &GatewayConfig) -> Self {
        let waiting = config.limits.sessions.saturating_mul(2).max(1024);
        // Calls wait in `calls`, in turn, and not in the client: each running call has a connection.
        let client = Client::builder()
            .max_connections(config.limits.calls.max(1))
            .max_queued(waiting)
            .max_idle(IDLE.0)
            .pool_idle_timeout(IDLE.1)
            .rotate(ROTATE)
            .max_redirects(REDIRECTS)
            .build();
        Self { client, calls: Calls::new(config.limits.calls, waiting) }
    }

    /// Returns the connect callback for a client's request.
    pub(super) fn connect_call(&self, config: &GatewayConfig, req: &Request<'_>) -> client::Request {
        let base = config.callback.connect.split(['?', '#']).next().unwrap_or_default();
        let url = match req.query() {
            Some(query) if !query.is_empty() => format!("{base}?{query}"),
            _ => base.to_owned(),
        };
        let mut headers = Headers::new();
        for (name, value) in req.headers().iter() {
            if is_passed_on(config, name) && !req.headers().contains_token("connection", name) {
                // Cannot fail: the field was valid in the request.
                let _ = headers.append(name, value);
            }
        }
        set(&mut headers, config);
        let _ = headers.insert(ENDPOINT, &config.endpoint);
        timed(client::Request::new(req.method(), &url).headers(&headers), config.callback.timeout)
    }

    /// Makes a connect callback; `then` is called on the caller's loop.
    pub(super) fn connect(
        &self,
        config: &GatewayConfig,
        caller: &Caller,
        call: client::Request,
        then: impl FnOnce(Verdict) + Send + 'static,
    ) {
        let (limit, header) = (config.limits.response, config.session_header.clone());
        let (client, loop_handle) = (self.client.clone(), caller.loop_handle.clone());
        self.calls.run(caller.network, move |running| {
            let Some(running) = running else { return then(Verdict::Busy) };
            client.send_collect(&loop_handle, call, limit, move |whole| {
                drop(running);
                then(verdict(whole, &header));
            });
        });
    }

    /// Makes a call of which only the status matters, when it is its turn.
    fn send(&self, caller: &Caller, call: client::Request, then: impl FnOnce(Result<(), String>) + Send + 'static) {
        let (client, loop_handle) = (self.client.clone(), caller.loop_handle.clone());
        self.calls.run(caller.network, move |running| {
            let Some(running) = running else {
                return then(Err("too many calls for clients of this address are waiting".into()));
            };
            client.send(&loop_handle, call, move |response| {
                drop(running);
                then(agreed(response));
            });
        });
    }

    /// Reports that a client is connected; `then` gets whether the application agrees.
    pub(super) fn establish(
        &self,
        config: &GatewayConfig,
        caller: &Caller,
        key: &Key,
        then: impl FnOnce(Result<(), String>) + Send + 'static,
    ) {
        let mut headers = about(key, config);
        let _ = headers.insert(ENDPOINT, &config.endpoint);
        let call = notification(&config.callback.establish, &headers, config.callback.timeout);
        self.send(caller, call, then);
    }

    /// Passes a message on; `then` gets whether the application has accepted it.
    pub(super) fn receive(
        &self,
        config: &GatewayConfig,
        caller: &Caller,
        key: &Key,
        text: bool,
        message: Vec<u8>,
        then: impl FnOnce(Result<(), String>) + Send + 'static,
    ) {
        let call = client::Request::post(&config.callback.receive, message)
            .header("Content-Type", if text { "text/plain" } else { "application/octet-stream" })
            .header(&config.session_header, key)
            .header(ENDPOINT, &config.endpoint);
        self.send(caller, timed(call, config.callback.timeout), then);
    }

    /// Reports that a client's session has ended.
    pub(super) fn close(
        &self,
        config: &GatewayConfig,
        caller: &Caller,
        key: &Key,
        then: impl FnOnce(Result<(), String>) + Send + 'static,
    ) {
        let timeout = config.callback.timeout.map(|timeout| timeout.max(CLOSE));
        self.send(caller, notification(&config.callback.close, &about(key, config), timeout), then);
    }
}

/// A call without a body.
fn notification(url: &str, headers: &Headers, timeout: Option<Duration>) -> client::Request {
    // Repeating it does no harm.
    timed(client::Request::post(url, "").headers(headers).repeatable(true), timeout)
}

/// Returns `true` for a field that the gateway sets in callbacks, in every spelling: a client's request to the
/// application that does not come from a callback must not have it.
pub(super) fn is_set_by_the_gateway(config: &GatewayConfig, name: &str) -> bool {
    let is = |own: &str| same_field(name, own);
    let set = config.proxy_set_header.iter().any(|(own, value)| !value.is_empty() && is(own));
    set || is(ENDPOINT) || is(&config.session_header)
}

/// Returns `true` if a field of a client's request is passed on. The names that the gateway sets are not, in any
/// spelling: an application that takes `_` for `-` would see both as one.
fn is_passed_on(config: &GatewayConfig, name: &str) -> bool {
    let is = |own: &str| same_field(name, own);
    let written = NOT_PASSED_ON.iter().any(|own| is(own)) || is(ENDPOINT) || is(&config.session_header);
    let set = config.proxy_set_header.iter().any(|(own, _)| is(own));
    let websocket = starts_as(name, "sec-websocket") && !name.eq_ignore_ascii_case(PROTOCOL);
    !written && !set && !websocket
}

/// Returns the sub-protocol that the application has chosen, which must be one that the client offered.
pub(super) fn chosen<'h>(headers: &'h Headers, accept: &Accept) -> Result<Option<&'h str>, &'static str> {
    let mut values = headers.get_all(PROTOCOL);
    let name = match (values.next().map(std::str::from_utf8), values.next()) {
        (None | Some(Ok("")), None) => return Ok(None),
        (Some(Ok(name)), None) => name,
        _ => return Err("invalid sub-protocol: expected one name"),
    };
    match accept.protocols().any(|offered| offered == name) {
        true => Ok(Some(name)),
        false => Err("invalid sub-protocol: the client did not offer it"),
    }
}

/// Returns the fields of a call about the session of this key.
fn about(key: &Key, config: &GatewayConfig) -> Headers {
    let mut headers = Headers::new();
    let _ = headers.append(&config.session_header, key);
    set(&mut headers, config);
    headers
}

/// Sets and removes the fields of `proxy_set_header`.
fn set(headers: &mut Headers, config: &GatewayConfig) {
    for (name, value) in &config.proxy_set_header {
        // Only the gateway sets the endpoint.
        if same_field(name, ENDPOINT) {
            continue;
        }
        match value.is_empty() {
            true => headers.remove(name),
            // Cannot fail: it was checked when the gateway was created.
            false => drop(headers.insert(name, value)),
        }
    }
}

/// Sets one timeout for the whole call, and none for its parts.
fn timed(call: client::Request, timeout: Option<Duration>) -> client::Request {
    let timeout = timeout.unwrap_or(FOREVER);
    call.timeout(timeout).connect_timeout(timeout).head_timeout(timeout).idle_timeout(timeout)
}

/// Returns `Ok` if the status is 200. The body is read and dropped, so that the connection can be reused.
fn agreed(response: Result<Response, Error>) -> Result<(), String> {
    match response {
        Ok(response) => {
            let status = response.status();
            response.discard();
            if status == 200 { Ok(()) } else { Err(format!("the application responded with {status}")) }
        }
        Err(error) => Err(error.to_string()),
    }
}

fn verdict(whole: Result<FullResponse, Error>, header: &str) -> Verdict {
    match whole {
        Ok(whole) if whole.status != 200 => Verdict::Rejected(whole),
        Ok(whole) => match whole.headers.get(header).filter(|key| !key.is_empty()).map(Key::from) {
            Some(key) => Verdict::Accepted(key, whole),
            None => Verdict::NoKey,
        },
        Err(error @ (Error::InvalidUrl(_) | Error::InvalidRequest(_))) => Verdict::InvalidCall(error),
        Err(error) => Verdict::Unreachable(error),
    }
}
