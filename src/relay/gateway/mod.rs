//! The gateway between WebSocket and HTTP. A `Gateway` keeps WebSocket clients connected for an application that speaks
//! only HTTP. It is compatible with the applications of kuiperbelt.
//!
//! ```text
//!   browser ══WebSocket══▶ ┌─────────┐ ──POST connect, establish, receive, close──▶ ┌─────────────┐
//!   browser ══WebSocket══▶ │ Gateway │                                              │ application │
//!   browser ══WebSocket══▶ └─────────┘ ◀──POST /send, /close; GET /stats, /ping──── └─────────────┘
//! ```
//!
//! The application gives each client a key when it connects, and names clients by their keys from then on. The gateway
//! posts each message of a client to the application. The application posts messages for clients to `/send`, and names
//! any number of them.
//!
//! `/stats` and `/ping` accept HEAD and GET. `/send` and `/close` accept POST only, in which `Content-Range` has no
//! meaning and is ignored (RFC 9110 §14.4).
//!
//! | file | content |
//! |---|---|
//! | `config` | the configuration, and its file |
//! | `connect` | the life of a client: from its request to connect to its end |
//! | `session` | one client's session, and its queue of messages |
//! | `key` | the key of a session |
//! | `delivery` | one message to many sessions |
//! | `registry` | all sessions, by their keys |
//! | `limits` | how many sessions and bytes each address has |
//! | `application` | the calls to the application |
//! | `calls` | how many of them run at once, and for which clients |
//! | `wire` | the responses, byte for byte |
//! | `counters`, `access` | statistics, and the log of requests |
//! | `printable` | text of a peer, for the log |
//! | `shared` | the part that all clones share |
//! | here | which module handles which request |
//!
//! **Locking.** The registry has a lock, held for one access to a map. Each session has one, held for a few operations
//! on its queue. No lock is held while application code or a call runs.
//!
//! **Differences from kuiperbelt**, on purpose:
//! - Handshake and origin are checked before the application is called.
//! - A session is registered before it is established, so that the application can send to it during the callback. It
//!   is removed if the application does not agree.
//! - A key that is used again closes the older connection (with 4000), and never the newer one.
//! - The close callback is for the key, not for each connection that had it.
//! - Timeouts include the whole response.
//! - Messages and everything else have limits, of which one address has only a share.
//! - `/close` ends a connection with a Close frame (1000).
//! - The application chooses the sub-protocol.
//! - A message of a client has a `Content-Length`.
//! - A client cannot send the fields that the gateway sets, in any spelling.
//! - Text is UTF-8 in both directions.
//! - A server that stops closes with 1001, and calls the close callback for every client.

mod access;
mod application;
mod calls;
mod config;
mod connect;
mod counters;
mod delivery;
mod key;
mod limits;
mod printable;
mod registry;
mod session;
mod shared;
mod wire;

use std::{fmt, sync::Arc};

use uncork::{Action, Consumed, Handler, Request, Upload, h1::Headers};

use super::config::ConfigError;

use self::{access::ParsedRequest, shared::Shared};
pub use self::{
    config::{GatewayCallbacks, GatewayConfig, GatewayFile, GatewayLimits, GatewayPaths, OriginPolicy},
    counters::GatewayStats,
};

/// The gateway between WebSocket and HTTP, a [`Handler`].
///
/// All clones are one gateway. Each loop has a clone, and a message that arrives on one loop reaches clients on all.
///
/// Served alone, it responds with 404 to paths other than its [own](GatewayPaths). To mount it in another handler, call
/// [`serves`](Self::serves) and [`handle`](Self::handle), and forward [`stopping`](Handler::stopping).
///
/// A server that stops gracefully closes its clients' connections with 1001, and calls the close callback for each
/// within the grace period. Give the server the limits of [`GatewayConfig::server_limits`].
#[derive(Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
    /// The server of this clone is stopping. The server of another clone may continue.
    stopping: bool,
}

impl Gateway {
    /// Creates a gateway without clients.
    ///
    /// # Errors
    /// Returns an error if the configuration is invalid. The application is not called.
    pub fn new(config: GatewayConfig) -> Result<Self, ConfigError> {
        let config = config.checked()?;
        Ok(Self { shared: Arc::new(Shared::new(config)), stopping: false })
    }

    /// Returns the configuration.
    pub fn config(&self) -> &GatewayConfig {
        &self.shared.config
    }

    /// Returns the counters.
    pub fn stats(&self) -> GatewayStats {
        self.shared.counters.read()
    }

    /// Returns `true` if `path` is one of the gateway's paths.
    pub fn serves(&self, path: &str) -> bool {
        let GatewayPaths { connect, close, stats, send, ping } = &self.shared.config.path;
        [connect, close, stats, send, ping].iter().any(|own| *own == path)
    }

    /// Handles a request. The response is 404 if the path is not one of the gateway's.
    pub fn handle(&self, req: &mut Request<'_>) -> Action {
        let Self { shared, stopping } = self;
        let path = &shared.config.path;
        let respond = |response| Action::from(ParsedRequest::of(req).log(shared, response));
        match req.path() {
            own if own == path.send => delivery::request(shared, req, false),
            own if own == path.connect => connect::request(shared, req, *stopping),
            own if own == path.close => delivery::request(shared, req, true),
            own if own == path.stats => self.stats_response(req),
            own if own == path.ping => respond(wire::ok()),
            _ => respond(wire::not_found()),
        }
    }

    /// Handles `/stats`: responds with JSON, or with text if a query parameter or a field of a form asks for it.
    fn stats_response(&self, req: &mut Request<'_>) -> Action {
        let form = req.header("content-type").and_then(|value| value.split(|&b| b == b';').next());
        let is_form = form.is_some_and(|kind| kind.eq_ignore_ascii_case(b"application/x-www-form-urlencoded"));
        let format = req.query().and_then(format_of);
        if is_form && matches!(req.method(), "POST" | "PUT" | "PATCH") && req.has_body() {
            let form = Form { gateway: self.clone(), now: req.now().wall, query: format, bytes: Vec::new() };
            return Action::Receive(Box::new(form));
        }
        self.stats_as(format, req.now().wall)
    }

    fn stats_as(&self, format: Option<Format>, now: std::time::SystemTime) -> Action {
        let stats = self.stats();
        let response = match format {
            Some(Format::Text) => wire::stats("text/plain", stats.lines(now)),
            Some(Format::Other) | None => wire::stats("application/json", format!("{stats}\n")),
        };
        response.response.into()
    }
}

#[derive(Clone, Copy)]
enum Format {
    Text,
    Other,
}

/// Returns the first `format` parameter, if there is one.
fn format_of(parameters: &str) -> Option<Format> {
    let value = parameters.split('&').find_map(|pair| pair.strip_prefix("format")?.strip_prefix('='))?;
    Some(if matches!(value, "tsv" | "txt" | "text") { Format::Text } else { Format::Other })
}

/// Collects a form that asks for statistics. Its `format` takes precedence over that of the query.
struct Form {
    gateway: Gateway,
    now: std::time::SystemTime,
    query: Option<Format>,
    bytes: Vec<u8>,
}

impl Upload for Form {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        const LIMIT: usize = 4096;
        if self.bytes.len() + chunk.len() > LIMIT {
            return Consumed::Stop(wire::text(413, "Request Entity Too Large").close().response.into());
        }
        self.bytes.extend_from_slice(chunk);
        Consumed::All
    }

    fn end(self: Box<Self>, _trailers: &Headers) -> Action {
        let format = std::str::from_utf8(&self.bytes).ok().and_then(format_of).or(self.query);
        self.gateway.stats_as(format, self.now)
    }
}

impl Handler for Gateway {
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        self.handle(req)
    }

    fn stopping(&mut self) {
        self.stopping = true;
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
