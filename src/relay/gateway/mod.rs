//! The gateway between WebSocket and HTTP: an application that speaks nothing but HTTP has clients that stay connected.
//! After "kuiperbelt", whose applications it serves.
//!
//! ```text
//!   browser ══WebSocket══▶ ┌─────────┐ ──POST connect, establish, receive, close──▶ ┌─────────────┐
//!   browser ══WebSocket══▶ │ Gateway │                                              │ application │
//!   browser ══WebSocket══▶ └─────────┘ ◀──POST /send, /close; GET /stats, /ping──── └─────────────┘
//! ```
//!
//! The application gives each client a key when it connects, and names clients by their keys ever after. What a client
//! says is posted to it; what it wants to say to clients it posts to `/send`, naming as many as it likes.
//!
//! `/stats` and `/ping` answer HEAD as they answer GET. `/send` and `/close` take POST only, with which `Content-Range`
//! means nothing and is ignored (RFC 9110 §14.4).
//!
//! | file | knows |
//! |---|---|
//! | `config` | what can be set, and the file it stands in |
//! | `connect` | how a client becomes a session, and how it ends |
//! | `session` | what waits to be said to one client |
//! | `delivery` | a message on its way to many |
//! | `registry` | who is there |
//! | `application` | the calls to the application |
//! | `calls` | how many of them run at once, and for which clients |
//! | `wire` | the answers, byte for byte |
//! | `counters`, `access` | statistics, and the log of requests |
//! | here | which request is answered by whom |
//!
//! **Locking.** One lock around the registry, held for a look at a map, and one for each session, held for a few
//! operations on its queue. Application code and calls happen without them.
//!
//! **Where it is better than the original**, on purpose: handshake and origin are checked before the application is
//! asked; a session is registered before it is established, so that the application can send to it while it is told of
//! it, and taken back if it does not agree; a key that is used again closes the older connection (with 4000), and never
//! loses the newer; the close callback is for the key, not for each connection that had it; time limits hold for whole
//! answers; messages and everything else have limits, of which one address has a share only; `/close` ends a connection
//! with a Close (1000); sub-protocols are the application's choice; a message of a client comes with its length; fields
//! that the gateway sets are its own in every spelling; text is UTF-8 in both directions; a server that stops says 1001 and
//! tells the application of every client it had.

mod access;
mod application;
mod calls;
mod config;
mod connect;
mod counters;
mod delivery;
mod key;
mod limits;
mod registry;
mod session;
mod wire;

use std::{
    fmt,
    sync::{Arc, atomic::AtomicBool},
};

use uncork::{Action, Consumed, Handler, Request, Upload, h1::Headers, ws};

use super::config::ConfigError;

use self::{
    access::ParsedRequest, application::Application, counters::Counters, limits::AddressLimits, registry::Registry,
};
pub use self::{
    config::{GatewayCallbacks, GatewayConfig, GatewayFile, GatewayLimits, GatewayPaths, OriginPolicy},
    counters::GatewayStats,
};

/// The gateway between WebSocket and HTTP, a [`Handler`]. Clones are one gateway: each loop has one, and a message that
/// comes in on one loop reaches clients on all.
///
/// Served alone, it answers 404 to what is not one of its [paths](GatewayPaths). To mount it beside other things, ask
/// [`serves`](Self::serves) and [`handle`](Self::handle), and forward [`stopping`](Handler::stopping).
///
/// A server that stops gracefully closes its clients' connections with 1001, and the application is told of each within
/// the grace. The server's limits should be [`GatewayConfig::server_limits`].
#[derive(Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
    /// This clone's server stops. Another clone's may go on.
    stopping: bool,
}

struct Shared {
    config: GatewayConfig,
    websocket: ws::Config,
    application: Application,
    registry: Registry,
    places: Arc<AddressLimits>,
    /// Bytes of messages that the application has not answered for.
    pending: Arc<AddressLimits>,
    /// It was said that messages of clients go nowhere.
    drop_logged: AtomicBool,
    counters: Arc<Counters>,
}

impl Gateway {
    /// A gateway without clients.
    ///
    /// # Errors
    /// If the configuration cannot work. Whether the application can be called is found out by calling it.
    pub fn new(config: GatewayConfig) -> Result<Self, ConfigError> {
        let config = config.checked()?;
        let websocket = ws::Config::new()
            .message(config.limits.message as u64)
            .queue(config.limits.queue)
            .queue_messages(config.send_queue_size)
            .message_timeout(config.message_timeout)
            .ping_interval(config.ping_interval)
            .idle_timeout(config.idle_timeout);
        if let (Some(ping), Some(idle)) = (config.ping_interval, config.idle_timeout)
            && ping >= idle
        {
            log::warn!(target: "uncork::relay", "clients that are alive will be dropped: they are pinged each {ping:?}, and \
                may be silent for {idle:?}");
        }
        let websocket = match config.ping_interval {
            Some(interval) => websocket.pong_timeout(interval),
            None => websocket,
        };
        let shared = Shared {
            websocket,
            application: Application::new(&config),
            registry: Registry::default(),
            places: AddressLimits::new(&config.limits),
            pending: AddressLimits::of(config.limits.pending, config.limits.pending.div_ceil(4)),
            drop_logged: AtomicBool::new(false),
            counters: Arc::default(),
            config,
        };
        Ok(Self { shared: Arc::new(shared), stopping: false })
    }

    /// How it was configured.
    pub fn config(&self) -> &GatewayConfig {
        &self.shared.config
    }

    /// What was counted so far.
    pub fn stats(&self) -> GatewayStats {
        self.shared.counters.read()
    }

    /// Whether a path is one of the gateway's.
    pub fn serves(&self, path: &str) -> bool {
        let GatewayPaths { connect, close, stats, send, ping } = &self.shared.config.path;
        [connect, close, stats, send, ping].iter().any(|own| *own == path)
    }

    /// Answers a request, whether or not its path is the gateway's: what is not gets a 404.
    pub fn handle(&self, req: &mut Request<'_>) -> Action {
        let Self { shared, stopping } = self;
        let path = &shared.config.path;
        let reply = |reply| Action::from(ParsedRequest::of(req).log(shared, reply));
        match req.path() {
            asked if asked == path.send => delivery::request(shared, req, false),
            asked if asked == path.connect => connect::request(shared, req, *stopping),
            asked if asked == path.close => delivery::request(shared, req, true),
            asked if asked == path.stats => self.stats_response(req),
            asked if asked == path.ping => reply(wire::ok()),
            _ => reply(wire::not_found()),
        }
    }

    /// `/stats`, as JSON or, if a parameter or a form's field asks for it, as text.
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
        let reply = match format {
            Some(Format::Text) => wire::stats("text/plain", stats.lines(now)),
            Some(Format::Other) | None => wire::stats("application/json", format!("{stats}\n")),
        };
        reply.response.into()
    }
}

#[derive(Clone, Copy)]
enum Format {
    Text,
    Other,
}

/// The first `format` among parameters, if there is one.
fn format_of(parameters: &str) -> Option<Format> {
    let value = parameters.split('&').find_map(|pair| pair.strip_prefix("format")?.strip_prefix('='))?;
    Some(if matches!(value, "tsv" | "txt" | "text") { Format::Text } else { Format::Other })
}

/// A form that asks for statistics, until it is whole. What it says goes before the query.
struct Form {
    gateway: Gateway,
    now: std::time::SystemTime,
    query: Option<Format>,
    bytes: Vec<u8>,
}

impl Upload for Form {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        const MOST: usize = 4096;
        if self.bytes.len() + chunk.len() > MOST {
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
