//! The rendezvous: what one PUTs at a URL, another GETs from it. After "http-rendezvous", whose clients it serves.
//!
//! ```text
//!   POST <base>/stream              201 {"stream":"<id>"}     (?n=K receivers, ?ttl=SECONDS, ?strict=0; download and upload headers)
//!   PUT  <base>/stream/<id>         waits for the receivers, then its body goes to them
//!   GET  <base>/stream/<id>         waits for the source                                   (?strict=0)
//!   POST <base>/stream/<id>/error   tells the other side, now or when it comes
//!   GET  <base>/stream/<id>/status  what became of it
//!   GET  <base>/stream              all of them, if the configuration allows it
//!   GET  <base>/ping                pong
//! ```
//!
//! HEAD is answered wherever GET is, except for a stream: its GET takes a receiver's place and the body, which is there
//! once. There HEAD is 404, like every other method without a meaning. A PUT with `Content-Range` is 400 (RFC 9110
//! §14.5): a part would be taken for the whole.
//!
//! | file | knows |
//! |---|---|
//! | `config` | what can be set, and why it is what it is |
//! | `faults` | every error, word for word |
//! | `json`, `body` | what clients send; header fields are checked here |
//! | `neutral` | what creators may not say in this origin's name |
//! | `stream` | one stream: every transition, and who is told what |
//! | `place` | which path names what |
//! | `meet` | requests that wait for each other |
//! | `state` | all streams; when something is to be done about each |
//! | `transfer` | a body on its way |
//! | here | which request is answered how |
//!
//! Bodies are never stored. While a source waits it is not read at all (`100 Continue` goes out at once all the same,
//! as the original does it: the systems' buffers hold what comes). Then one bounded pipe to each receiver lies between,
//! and a receiver that stalls stops the source.
//!
//! **A lost source.** A download of known length that stays short is truncated, which every receiver sees. One of unknown
//! length breaks as well: its last chunk does not come, and the connection is aborted. http-rendezvous ends such a
//! download in order, so that a part looks like the whole. `?strict=0` asks for that, `?strict=1` for the break. The
//! receiver's parameter goes before the creator's, and that before [`RendezvousConfig::strict`].
//!
//! **Locking.** One mutex around the state, as in the session relay. Under it, tickets are only spoken to (that leaves
//! a message for a loop); closures run without it, and take it first thing. It is taken a handful of times a stream,
//! never while bytes move.
//!
//! **Time.** There is no timer for streams: whoever waits has the stream's time as its own, and one that nobody waits
//! for is looked at when somebody asks, or room is needed.
//!
//! **Fairness.** A stream to which no peer is connected lives for a shorter time. When all places are taken, records make
//! room, and then the oldest such stream of the address that has most of them. Once half of the places are taken, the
//! share of each address shrinks, of the streams and of the bytes of their fields.

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

pub use self::config::RendezvousConfig;
use self::{
    body::{Collect, CreateOptions},
    faults::Fault,
    id::Id,
    route::Route,
    state::{CreateRequest, State},
    stream::{Receiver, Source},
};
use super::{
    config::ConfigError,
    service::{Service, ServiceConfig},
    wire::{CorsHeaders, is_partial_put, parameter, retry_after},
};

/// When to come back if there is no telling.
const SOON: Duration = Duration::from_secs(1);

/// The rendezvous, a [`Handler`]. Clones are one rendezvous: each loop has one, and the sides of a stream may be on
/// different ones.
///
/// Served alone, it answers 404 to what it does not know. To mount it beside other things, ask
/// [`serves`](Self::serves) and [`handle`](Self::handle), and forward [`stopping`](Handler::stopping).
#[derive(Clone)]
pub struct Rendezvous {
    shared: Arc<Shared>,
    /// This clone's server stops. Another clone's may go on.
    stopping: bool,
}

type Shared = Service<RendezvousConfig>;

impl ServiceConfig for RendezvousConfig {
    type State = State;

    fn checked(self) -> Result<Self, ConfigError> {
        self.checked()
    }

    fn base_path(&self) -> &str {
        &self.base_path
    }

    fn state(&self) -> State {
        State::new(self)
    }

    fn update(&self, state: &mut State) {
        state.allow(self);
    }
}

/// Which side of a stream a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Source,
    Destination,
}

/// How many streams there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RendezvousCounts {
    /// Those whose sides have not all come.
    pub waiting: usize,
    /// Those that run.
    pub running: usize,
    /// Records of those that are over.
    pub over: usize,
    /// Those among the waiting to which no peer is connected.
    pub unused: usize,
    /// How many of those had to make room for others so far.
    pub evicted: u64,
    /// How many creations a limit has refused so far.
    pub refused: u64,
}

impl Rendezvous {
    /// A rendezvous without streams.
    ///
    /// # Errors
    /// If the configuration cannot work.
    pub fn new(config: RendezvousConfig) -> Result<Self, ConfigError> {
        Ok(Self::of(config.checked()?))
    }

    fn of(config: RendezvousConfig) -> Self {
        Self { shared: Service::new(config), stopping: false }
    }

    /// How it was configured, with the base path in its one spelling.
    pub fn config(&self) -> Arc<RendezvousConfig> {
        self.shared.config()
    }

    /// From now on, and for all clones, it is configured like this. Nothing that is under way is broken off: streams
    /// beyond a new limit stay, and what has a time already keeps it.
    ///
    /// # Errors
    /// If the configuration cannot work. Then it stays as it was.
    pub fn reconfigure(&self, config: RendezvousConfig) -> Result<(), ConfigError> {
        self.shared.reconfigure(config)
    }

    /// Whether a path is the rendezvous': `/stream`, `/ping` and what is under them, below its base path.
    pub fn serves(&self, path: &str) -> bool {
        self.shared.serves(path, &["/stream", "/ping"])
    }

    /// Answers a request, whether or not its path is the rendezvous': what is not gets a 404.
    pub fn handle(&self, req: &mut Request<'_>) -> Action {
        self.shared.handle(req, |req, cors| self.route(req, cors))
    }

    /// All streams, also those that are over, as a JSON array of what `/status` says of each. Their ids are the only
    /// secret there is: for trusted networks only.
    pub fn list(&self, now: Moment) -> Response {
        let mut list = String::from("[");
        let config = self.shared.config();
        for (id, stream) in self.shared.lock().all(&config, now) {
            if list.len() > 1 {
                list.push(',');
            }
            list.push_str(&stream.status(&id.to_string()));
        }
        list.push(']');
        faults::json(200, list)
    }

    /// How many streams there are.
    pub fn counts(&self, now: Moment) -> RendezvousCounts {
        self.shared.lock().counts(&self.shared.config(), now)
    }

    fn route(&self, req: &mut Request<'_>, cors: &CorsHeaders) -> Action {
        let bad_route = || faults::BAD_ROUTE.response().into();
        let Some(place) = self.shared.below_base(req.path()).and_then(Route::of) else { return bad_route() };
        match (req.method(), place) {
            ("GET" | "HEAD", Route::Ping) => Response::new(200).body("pong").into(),
            ("POST", Route::Streams) => self.create(req, cors),
            ("GET" | "HEAD", Route::Streams) if self.shared.config().list => self.list(req.now()).into(),
            ("PUT", Route::Stream(id)) => self.connect(req, id, Side::Source, cors),
            ("GET", Route::Stream(id)) => self.connect(req, id, Side::Destination, cors),
            ("POST", Route::Error(id)) => self.report(req, id, cors),
            ("GET" | "HEAD", Route::Status(id)) => self.status(id, req.now()).into(),
            ("OPTIONS", place) => {
                cors.preflight(req, &self.shared.config(), place.allow()).map_or_else(bad_route, Into::into)
            }
            _ => bad_route(),
        }
    }

    /// `POST <base>/stream`
    fn create(&self, req: &Request<'_>, cors: &CorsHeaders) -> Action {
        if self.stopping {
            return stopping().into();
        }
        let most = self.shared.config().receivers;
        let receivers = match parameter(req, "n").map(str::parse) {
            None => 1,
            Some(Ok(n)) if (1..=most).contains(&n) => n,
            Some(_) => return Fault::invalid_query(format!("n must be a number from 1 to {most}")).response().into(),
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
            return stopping().into();
        }
        // Another origin's script must not get between this origin and its pages.
        if req.header("service-worker").is_some() {
            return faults::SERVICE_WORKER.response().into();
        }
        if is_partial_put(req) {
            return faults::PARTIAL.response().into();
        }
        let Some(id) = Id::parse(id) else { return faults::NOT_FOUND.response().into() };
        let (config, now) = (self.shared.config(), req.now());
        let mut state = self.shared.lock();
        let connected = state.with(id, &config, now, |stream| {
            let length = if req.has_body() { req.content_length() } else { Some(0) };
            let refused = match side {
                Side::Source => stream
                    .refuses_source()
                    .or_else(|| length.is_some_and(|n| n > config.body).then(|| faults::stream_too_large(config.body))),
                Side::Destination => stream.refuses_receiver(),
            };
            if let Some(fault) = refused {
                return Err(fault);
            }
            let waiter = self.shared.await_partners(req, id, side, cors, stream.left(now));
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
    fn report(&self, req: &Request<'_>, id: &str, cors: &CorsHeaders) -> Action {
        let (config, now) = (self.shared.config(), req.now());
        let Some(id) = Id::parse(id) else { return faults::NOT_FOUND.response().into() };
        // Before anything is read; and again when it was.
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
    fn status(&self, text: &str, now: Moment) -> Response {
        let Some(id) = Id::parse(text) else { return faults::NOT_FOUND.response() };
        let status = self.shared.lock().with(id, &self.shared.config(), now, |stream| stream.status(text));
        status.map_or_else(|| faults::NOT_FOUND.response(), |status| faults::json(200, status))
    }

    /// Answers when the body, which is to be a small one, is there.
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
    /// A rendezvous with the defaults of [`RendezvousConfig`].
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

    /// Everybody who waits is told to come back later; what is on its way gets the server's grace time.
    fn stopping(&mut self) {
        self.stopping = true;
        let config = self.shared.config();
        self.shared.lock().each(|stream| stream.stop(&config));
    }
}

/// Returns what the request asks for with `?strict=`, if it asks for either.
fn strict(req: &Request<'_>) -> Option<bool> {
    match parameter(req, "strict")? {
        "1" => Some(true),
        "0" => Some(false),
        _ => None,
    }
}

fn stopping() -> Response {
    faults::STOPPING.response().header("Retry-After", retry_after(SOON))
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
