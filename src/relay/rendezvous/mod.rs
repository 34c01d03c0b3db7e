//! The rendezvous: one client PUTs a body to a URL, and others GET it from there. It is compatible with the clients of
//! http-rendezvous.
//!
//! ```text
//!   POST <base>/stream              201 {"stream":"<id>"}     (?n=K receivers, ?ttl=SECONDS, ?strict=0; header fields)
//!   PUT  <base>/stream/<id>         waits for the receivers, then its body goes to them
//!   GET  <base>/stream/<id>         waits for the source                                   (?strict=0)
//!   POST <base>/stream/<id>/error   reports an error to the other side, at once or when it connects
//!   GET  <base>/stream/<id>/status  the state of the stream
//!   GET  <base>/stream              a list of all streams, if the configuration allows it
//!   GET  <base>/ping                pong
//! ```
//!
//! HEAD is accepted wherever GET is, except for a stream: its GET makes the client a receiver and takes the body, which
//! exists once. There HEAD gets 404, like every other method without a meaning. A PUT with `Content-Range` gets 400
//! (RFC 9110 §14.5), because a part would look complete.
//!
//! | file | content |
//! |---|---|
//! | `config` | the configuration, its defaults and their reasons |
//! | `faults` | every error, word for word |
//! | `json`, `body` | the JSON that clients send; header fields are checked here |
//! | `neutral` | the fields that creators must not set in this origin |
//! | `id` | the ids of streams |
//! | `stream` | one stream: every transition, and the responses to both sides |
//! | `route` | the routes of paths |
//! | `meet` | requests that wait for each other |
//! | `state` | all streams, and the deadline of each |
//! | `transfer` | the transfer of a body |
//! | here | how each request is handled |
//!
//! Bodies are never stored. A source that waits is not read; the systems' buffers hold what arrives. `100 Continue` is
//! sent at once all the same, as in http-rendezvous. Then one bounded pipe per receiver connects them, and a receiver
//! that stalls stops the source.
//!
//! **A source that disconnects.** A download of known length that stays short is truncated, which every receiver sees.
//! One of unknown length is aborted as well: its last chunk is not sent, and the connection ends. In http-rendezvous
//! such a download ends normally, so that a truncated body looks complete. `?strict=0` asks for that, `?strict=1` for
//! the abort. The receiver's parameter takes precedence over the creator's, and that over [`RendezvousConfig::strict`].
//!
//! **Locking.** One mutex protects the state, as in the session relay. Under it, tickets are only used to post a
//! message to a loop. Closures run without it, and lock it first. It is locked a few times per stream, never while
//! bytes move.
//!
//! **Time.** Streams have no timers. A suspended request has the deadline of its stream as its own. A stream without
//! requests is checked when a client asks for it, or when a slot is needed.
//!
//! **Fairness.** A stream to which no peer is connected has a shorter lifetime. When the table is full, records are
//! removed, and then the oldest such stream of the address that has most of them is evicted. Once half of the table is
//! taken, the share of each address shrinks, both of the streams and of the bytes of their fields.

mod body;
mod config;
mod faults;
mod id;
mod json;
mod meet;
mod neutral;
mod route;
mod state;
mod stream;
mod transfer;

use std::{fmt, sync::Arc, time::Duration};

use uncork::{Action, Handler, Moment, Request, Response};

use self::{
    body::{Collect, CreateOptions},
    faults::Fault,
    id::Id,
    meet::{Shared, Side},
    route::Route,
    state::CreateRequest,
    stream::{Receiver, Source},
};
pub use self::{config::RendezvousConfig, state::RendezvousCounts};
use super::{
    config::ConfigError,
    service::{Place, Service, ServiceConfig as _},
    wire::{CorsHeaders, is_partial_put, parameter},
};

/// The rendezvous, a [`Handler`].
///
/// All clones are one rendezvous. Each loop has a clone, and the sides of a stream may be on different loops.
///
/// Served alone, it responds with 404 to unknown paths. To mount it in another handler, call [`serves`](Self::serves)
/// and [`handle`](Self::handle), and forward [`stopping`](Handler::stopping).
#[derive(Clone)]
pub struct Rendezvous {
    shared: Arc<Shared>,
    /// The server of this clone is stopping. The server of another clone may continue.
    stopping: bool,
    /// This clone handles what other nodes have forwarded.
    #[cfg(feature = "nodes")]
    for_nodes: bool,
}

impl Rendezvous {
    /// Creates a rendezvous without streams.
    ///
    /// # Errors
    /// Returns an error if the configuration is invalid.
    pub fn new(config: RendezvousConfig) -> Result<Self, ConfigError> {
        Ok(Self::of(config.checked()?))
    }

    fn of(config: RendezvousConfig) -> Self {
        Self::sharing(Service::new(config))
    }

    fn sharing(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            stopping: false,
            #[cfg(feature = "nodes")]
            for_nodes: false,
        }
    }

    /// Creates a rendezvous whose streams can be used on all of these nodes. Its ids name this node, and are not UUIDs.
    /// `GET /stream` lists the streams of all nodes. Nodes that do not respond within a second, or whose configuration
    /// does not allow the list, are named in the field `X-Missing-Nodes`.
    ///
    /// The other nodes need a [`NodeListener`](super::nodes::NodeListener) with this rendezvous.
    ///
    /// # Errors
    /// Returns an error if the configuration is invalid.
    #[cfg(feature = "nodes")]
    pub fn with_nodes(config: RendezvousConfig, nodes: super::nodes::Nodes) -> Result<Self, ConfigError> {
        Ok(Self::sharing(Service::with_nodes(config.checked()?, nodes)))
    }

    /// Returns a clone that handles what other nodes have forwarded.
    #[cfg(feature = "nodes")]
    pub(super) fn for_nodes(&self) -> Self {
        Self { for_nodes: true, ..self.clone() }
    }

    /// Returns the configuration, with the base path in its one spelling.
    pub fn config(&self) -> Arc<RendezvousConfig> {
        self.shared.config()
    }

    /// Replaces the configuration, for all clones. Nothing that runs is aborted: streams beyond a new limit stay, and
    /// existing streams and requests keep their deadlines.
    ///
    /// # Errors
    /// Returns an error if the configuration is invalid. Then the current one stays.
    pub fn reconfigure(&self, config: RendezvousConfig) -> Result<(), ConfigError> {
        self.shared.reconfigure(config)
    }

    /// Returns `true` if `path` is `/stream` or `/ping`, or below one of them, relative to the base path.
    pub fn serves(&self, path: &str) -> bool {
        self.shared.serves(path, &["/stream", "/ping"])
    }

    /// Handles a request. The response is 404 if the path is not one of the rendezvous.
    pub fn handle(&self, req: &mut Request<'_>) -> Action {
        self.shared.handle(req, |req, cors| self.route(req, cors))
    }

    /// Returns a response with all streams of this node, including those that have ended, as a JSON array of their
    /// `/status` objects. It has their ids, which are the only secret: show it in trusted networks only.
    pub fn list(&self, now: Moment) -> Response {
        faults::json(200, self.list_text(now))
    }

    fn list_text(&self, now: Moment) -> String {
        let mut list = String::from("[");
        let config = self.shared.config();
        for (id, stream) in self.shared.lock().all(&config, now) {
            if list.len() > 1 {
                list.push(',');
            }
            list.push_str(&stream.status(&self.shared.text(*id)));
        }
        list.push(']');
        list
    }

    /// Returns the numbers of streams.
    pub fn counts(&self, now: Moment) -> RendezvousCounts {
        self.shared.lock().counts(&self.shared.config(), now)
    }

    fn route(&self, req: &mut Request<'_>, cors: &CorsHeaders) -> Action {
        let bad_route = || faults::BAD_ROUTE.response().into();
        let Some(route) = self.shared.below_base(req.path()).and_then(Route::of) else { return bad_route() };
        match (req.method(), route) {
            ("GET" | "HEAD", Route::Ping) => Response::new(200).body("pong").into(),
            #[cfg(feature = "nodes")]
            ("POST", Route::Streams) if self.for_nodes => self.shared.not_here(),
            ("POST", Route::Streams) => self.create(req, cors),
            ("GET" | "HEAD", Route::Streams) if self.shared.config().list => self.list_all(req, cors),
            ("PUT", Route::Stream(id)) => self.connect(req, id, Side::Source, cors),
            ("GET", Route::Stream(id)) => self.connect(req, id, Side::Destination, cors),
            ("POST", Route::Error(id)) => self.report(req, id, cors),
            ("GET" | "HEAD", Route::Status(id)) => self.status(req, id, cors),
            ("OPTIONS", route) => {
                cors.preflight(req, &self.shared.config(), route.allow()).map_or_else(bad_route, Into::into)
            }
            _ => bad_route(),
        }
    }

    /// `GET <base>/stream`
    #[cfg(not(feature = "nodes"))]
    fn list_all(&self, req: &mut Request<'_>, _: &CorsHeaders) -> Action {
        self.list(req.now()).into()
    }

    /// `GET <base>/stream`, which asks the other nodes, too.
    #[cfg(feature = "nodes")]
    fn list_all(&self, req: &mut Request<'_>, cors: &CorsHeaders) -> Action {
        let Some(nodes) = self.shared.nodes().filter(|_| !self.for_nodes) else { return self.list(req.now()).into() };
        let (ticket, cors, shared, own) = (req.ticket(), cors.clone(), self.shared.clone(), self.list_text(req.now()));
        let path = format!("{}/stream", shared.config().base_path);
        let asked = nodes.clone();
        nodes.ask_all(req, &path, move |others| {
            let missing = asked.missing(&others);
            let response = faults::json(200, json::joined(own, others.iter().flatten()));
            let response = match missing.is_empty() {
                true => response,
                false => response.header("X-Missing-Nodes", missing.join(", ")),
            };
            // An error means that the client has disconnected.
            let _ = ticket.respond(cors.apply(response, &shared.config()));
        });
        Action::Suspend
    }

    /// Returns the place of a stream's id, or the action for a request whose stream is not here.
    fn find(&self, req: &mut Request<'_>, id: &str, cors: &CorsHeaders) -> Result<Id, Action> {
        #[cfg(not(feature = "nodes"))]
        let _ = (req, cors);
        match self.shared.find(id) {
            Place::Here(id) => Ok(id),
            Place::Nowhere => Err(faults::NOT_FOUND.response().into()),
            #[cfg(feature = "nodes")]
            Place::Elsewhere(_) if self.stopping => Err(faults::stopping().into()),
            #[cfg(feature = "nodes")]
            Place::Elsewhere(to) => Err(self.shared.elsewhere(req, to, self.for_nodes, cors)),
        }
    }

    /// `POST <base>/stream`
    fn create(&self, req: &Request<'_>, cors: &CorsHeaders) -> Action {
        if self.stopping {
            return faults::stopping().into();
        }
        let max = self.shared.config().receivers;
        let receivers = match parameter(req, "n").map(str::parse) {
            None => 1,
            Some(Ok(n)) if (1..=max).contains(&n) => n,
            Some(_) => return Fault::invalid_query(format!("n must be a number from 1 to {max}")).response().into(),
        };
        let ttl = match parameter(req, "ttl").map(str::parse) {
            None => self.shared.config().ttl,
            Some(Ok(seconds @ 1..)) => Duration::from_secs(seconds).min(self.shared.config().longest()),
            Some(_) => return Fault::invalid_query("ttl must be a number of seconds").response().into(),
        };
        let (strict, owner, now) = (strict(req), req.peer().ip(), req.now());
        let shared = self.shared.clone();
        self.collect(req, cors, move |body| match CreateOptions::parse(body) {
            Ok(options) => shared.create(CreateRequest { options, receivers, strict, owner, ttl }, now),
            Err(fault) => fault.response(),
        })
    }

    /// `PUT` and `GET <base>/stream/<id>`
    fn connect(&self, req: &mut Request<'_>, id: &str, side: Side, cors: &CorsHeaders) -> Action {
        if self.stopping {
            return faults::stopping().into();
        }
        // A source's script must not become a service worker of this origin.
        if req.header("service-worker").is_some() {
            return faults::SERVICE_WORKER.response().into();
        }
        if is_partial_put(req) {
            return faults::PARTIAL.response().into();
        }
        let id = match self.find(req, id, cors) {
            Ok(id) => id,
            Err(action) => return action,
        };
        let (config, now) = (self.shared.config(), req.now());
        let mut state = self.shared.lock();
        let connected = state.with(id, &config, now, |stream| {
            let length = if req.has_body() { req.content_length() } else { Some(0) };
            let fault = match side {
                Side::Source => stream
                    .reject_source()
                    .or_else(|| length.is_some_and(|n| n > config.body).then(|| faults::stream_too_large(config.body))),
                Side::Destination => stream.reject_receiver(),
            };
            if let Some(fault) = fault {
                return Err(fault);
            }
            let waiter = self.shared.suspend(req, id, side, cors, stream.remaining(now));
            match side {
                Side::Source => stream.connect_source(Source { waiter, length }),
                Side::Destination => stream.connect_receiver(Receiver { waiter, strict: strict(req) }),
            }
            self.shared.start(id, stream, now);
            Ok(())
        });
        match connected {
            Some(Ok(())) => Action::Suspend,
            Some(Err(fault)) => fault.response().into(),
            None => faults::NOT_FOUND.response().into(),
        }
    }

    /// `POST <base>/stream/<id>/error`
    fn report(&self, req: &mut Request<'_>, id: &str, cors: &CorsHeaders) -> Action {
        let (config, now) = (self.shared.config(), req.now());
        let id = match self.find(req, id, cors) {
            Ok(id) => id,
            Err(action) => return action,
        };
        // Checked before the body is read, and again after it.
        match self.shared.lock().with(id, &config, now, |stream| stream.is_waiting()) {
            None => return faults::NOT_FOUND.response().into(),
            Some(false) => return faults::STARTED.response().into(),
            Some(true) => {}
        }
        let shared = self.shared.clone();
        self.collect(req, cors, move |body| match body::client_error(body) {
            Ok(fault) => shared.post(id, fault, now),
            Err(fault) => fault.response(),
        })
    }

    /// `GET <base>/stream/<id>/status`
    fn status(&self, req: &mut Request<'_>, text: &str, cors: &CorsHeaders) -> Action {
        let id = match self.find(req, text, cors) {
            Ok(id) => id,
            Err(action) => return action,
        };
        let status = self.shared.lock().with(id, &self.shared.config(), req.now(), |stream| stream.status(text));
        status.map_or_else(|| faults::NOT_FOUND.response(), |status| faults::json(200, status)).into()
    }

    /// Responds when the body, which must be small, is complete.
    fn collect(
        &self,
        req: &Request<'_>,
        cors: &CorsHeaders,
        then: impl FnOnce(&[u8]) -> Response + Send + 'static,
    ) -> Action {
        let limit = self.shared.config().json;
        if !req.has_body() {
            return then(&[]).into();
        }
        if req.content_length().is_some_and(|n| n > limit as u64) {
            return faults::json_too_large(limit).response().into();
        }
        let (shared, cors) = (self.shared.clone(), cors.clone());
        Action::Receive(Box::new(Collect {
            bytes: Vec::new(),
            limit,
            finish: move |response| cors.apply(response, &shared.config()),
            then,
        }))
    }
}

impl Default for Rendezvous {
    /// Creates a rendezvous with the defaults of [`RendezvousConfig`].
    fn default() -> Self {
        Self::of(RendezvousConfig::default())
    }
}

impl fmt::Debug for Rendezvous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rendezvous").field("config", &self.config()).finish_non_exhaustive()
    }
}

impl Handler for Rendezvous {
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        self.handle(req)
    }

    /// Responds to all requests that wait with 503 and `Retry-After`. Transfers continue for the server's grace period.
    fn stopping(&mut self) {
        self.stopping = true;
        #[cfg(feature = "nodes")]
        self.shared.stop_forwarding();
        let config = self.shared.config();
        self.shared.lock().each(|stream| stream.stop(&config));
    }
}

/// Returns the value of `?strict=`; `None` if it is neither 0 nor 1.
fn strict(req: &Request<'_>) -> Option<bool> {
    match parameter(req, "strict")? {
        "1" => Some(true),
        "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_serves_what_is_under_its_base() {
        let at_root = Rendezvous::default();
        let config = RendezvousConfig { base_path: "/x/".into(), ..RendezvousConfig::default() };
        let below = Rendezvous::new(config).unwrap();
        for (path, root, base) in [
            ("/stream", true, false),
            ("/ping/", true, false),
            ("/stream/x/y/z", true, false),
            ("/streams", false, false),
            ("/", false, false),
            ("/x/stream", false, true),
            ("/x", false, false),
        ] {
            assert_eq!((at_root.serves(path), below.serves(path)), (root, base), "{path}");
        }
    }
}
