//! The session relay: two peers exchange HTTP bodies through a URL. It is compatible with the clients of cama.
//!
//! ```text
//!   PUT    <base>/session        201, Location, the host's cookie     (X-Type: secure, ?secure=true, ?timeout=N)
//!   GET    <base>/session/<id>   waits for the other side's message   (X-Timeout: N, ?timeout=N)
//!   POST   <base>/session/<id>   waits for the other side's receiver  (X-Timeout: N, ?timeout=N)
//!   PUT    <base>/session/<id>   the host names the guest's address   (X-Peer-Address)
//!   DELETE <base>/session/<id>   the host ends it: 410 to all requests that wait, then 404
//! ```
//!
//! HEAD gets 405 everywhere: GET waits for a message and takes it, which HEAD must not do (RFC 9110 §9.2.1). A PUT with
//! `Content-Range` gets 400 (§14.5). In a POST that field has no meaning and is ignored (§14.4): the content is the
//! message.
//!
//! | file | content |
//! |---|---|
//! | `config` | the configuration, its defaults and their reasons |
//! | `wire` | parsing of requests, parts of responses |
//! | `key` | the ids of sessions |
//! | `requests` | the requests of a session |
//! | `state` | all sessions, and the lifetime of each |
//! | `meet` | requests that wait for each other |
//! | `transfer` | the transfer of a message |
//! | `info` | information for operators |
//! | here | how each request is handled |
//!
//! **Locking.** One mutex protects the state, for a few map operations. Under it, tickets are only used to post a
//! message to a loop. Closures run without it, and lock it first. So the end of a request sees a consistent state, on
//! whichever loop it runs.
//!
//! **Time.** Sessions have no timers. A session that has ended is treated as missing, and is removed when a slot is
//! needed. Each suspended request has a timeout of its own, which is never later than the end of the session.
//!
//! **Fairness.** A session that no peer has connected to has a shorter lifetime. When the table is full, the oldest
//! such session of the address that has most of them is removed. Once half of the table is taken, the share of each
//! address shrinks. So a few addresses cannot take all sessions, and a session that was used once is never removed for
//! another.

mod config;
mod info;
mod key;
mod meet;
mod requests;
mod state;
mod transfer;
mod wire;

use std::{fmt, sync::Arc, time::Duration};

use uncork::{Action, Handler, Moment, Request, Response};

use self::{
    key::Key,
    meet::{Role, Shared, Waiter},
    requests::{Message, MessageBody, Poll, Sender, Side},
    state::{CreateError, CreateOptions, Guests, Session},
    wire::{busy, text},
};
use super::{
    addresses::Rejected,
    config::ConfigError,
    service::{Place, Service, ServiceConfig as _},
    unused::NoFreeSlot,
    wire::{CorsHeaders, is_partial_put},
};
pub use config::SessionConfig;
pub use info::{SessionCounts, SessionInfo};

/// Methods of the URL that allocates sessions, and of a session.
const ALLOW_ALLOCATE: &str = "PUT";
const ALLOW_SESSION: &str = "GET, POST, PUT, DELETE";

/// `Retry-After` if the time is unknown: sessions end by the minute, not by the second.
const LATER: Duration = Duration::from_secs(60);
/// `Retry-After` while the server restarts.
const SOON: Duration = Duration::from_secs(1);

/// The session relay, a [`Handler`].
///
/// All clones are one relay. Each loop has a clone, and host and guest may be on different loops.
///
/// Served alone, it responds with 404 to paths outside its base path. To mount it in another handler, call
/// [`serves`](Self::serves) and [`handle`](Self::handle), and forward [`stopping`](Handler::stopping).
#[derive(Clone)]
pub struct SessionRelay {
    shared: Arc<Shared>,
    /// The server of this clone is stopping. The server of another clone may continue.
    stopping: bool,
    /// This clone handles what other nodes have forwarded.
    #[cfg(feature = "nodes")]
    for_nodes: bool,
}

impl SessionRelay {
    /// Creates a relay without sessions.
    ///
    /// # Errors
    /// Returns an error if the configuration is invalid.
    pub fn new(config: SessionConfig) -> Result<Self, ConfigError> {
        Ok(Self::of(config.checked()?))
    }

    fn of(config: SessionConfig) -> Self {
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

    /// Creates a relay whose sessions can be used on all of these nodes. Its ids name this node.
    ///
    /// The other nodes need a [`NodeListener`](super::nodes::NodeListener) with this relay.
    ///
    /// # Errors
    /// Returns an error if the configuration is invalid.
    #[cfg(feature = "nodes")]
    pub fn with_nodes(config: SessionConfig, nodes: super::nodes::Nodes) -> Result<Self, ConfigError> {
        Ok(Self::sharing(Service::with_nodes(config.checked()?, nodes)))
    }

    /// Returns a clone that handles what other nodes have forwarded.
    #[cfg(feature = "nodes")]
    pub(super) fn for_nodes(&self) -> Self {
        Self { for_nodes: true, ..self.clone() }
    }

    /// Returns the configuration, with the base path in its one spelling.
    pub fn config(&self) -> Arc<SessionConfig> {
        self.shared.config()
    }

    /// Replaces the configuration, for all clones. Nothing that runs is aborted: sessions beyond a new limit stay, and
    /// existing sessions and requests keep their timeouts.
    ///
    /// # Errors
    /// Returns an error if the configuration is invalid. Then the current one stays.
    pub fn reconfigure(&self, config: SessionConfig) -> Result<(), ConfigError> {
        self.shared.reconfigure(config)
    }

    /// Returns `true` if `path` is the base path or below it.
    pub fn serves(&self, path: &str) -> bool {
        self.shared.serves(path, &[""])
    }

    /// Handles a request. The response is 404 if the path is not one of the relay's.
    pub fn handle(&self, req: &mut Request<'_>) -> Action {
        self.shared.handle(req, |req, cors| self.route(req, cors))
    }

    /// Returns the numbers of sessions, and of those that limits have affected.
    pub fn counts(&self, now: Moment) -> SessionCounts {
        self.shared.lock().counts(now)
    }

    /// Returns information about all sessions. It has addresses of clients: show it to operators only.
    pub fn sessions(&self, now: Moment) -> Vec<SessionInfo> {
        self.shared.lock().infos(now)
    }

    fn route(&self, req: &mut Request<'_>, cors: &CorsHeaders) -> Action {
        let unknown_path = || Response::new(404).into();
        let Some(rest) = self.shared.below_base(req.path()).and_then(|rest| rest.strip_prefix("/session")) else {
            return unknown_path();
        };
        let id = match rest.strip_prefix('/') {
            None if rest.is_empty() => "",
            Some(id) if !id.contains('/') => id,
            _ => return unknown_path(),
        };
        #[cfg(feature = "nodes")]
        if self.for_nodes && id.is_empty() {
            return self.shared.not_here();
        }
        let allow = if id.is_empty() { ALLOW_ALLOCATE } else { ALLOW_SESSION };
        let role = match (req.method(), id) {
            ("PUT", "") if is_partial_put(req) => return partial().into(),
            ("PUT", "") => return self.allocate(req, cors).into(),
            ("OPTIONS", _) if let Some(response) = cors.preflight(req, &self.shared.config(), allow) => {
                return response.into();
            }
            ("PUT" | "DELETE", id) if !id.is_empty() => None,
            ("GET", id) if !id.is_empty() => Some(Role::Receive),
            ("POST", id) if !id.is_empty() => Some(Role::Send),
            _ => return Response::new(405).header("Allow", allow).into(),
        };
        if is_partial_put(req) {
            return partial().into();
        }
        let key = match self.shared.find(id) {
            Place::Here(key) => key,
            Place::Nowhere => return not_found(req).into(),
            #[cfg(feature = "nodes")]
            Place::Elsewhere(_) if self.stopping => return stopping().into(),
            #[cfg(feature = "nodes")]
            Place::Elsewhere(to) => return self.shared.elsewhere(req, to, self.for_nodes, cors),
        };
        match (role, req.method()) {
            (Some(role), _) => self.wait(req, key, role, cors),
            (None, "DELETE") => self.delete(req, key).into(),
            (None, _) => self.permit(req, key).into(),
        }
    }

    /// `PUT <base>/session`
    fn allocate(&self, req: &Request<'_>, cors: &CorsHeaders) -> Response {
        let config = &*self.shared.config();
        if self.stopping {
            return stopping();
        }
        let (key, token) = match Key::generate() {
            Ok(pair) => pair,
            Err(error) => {
                log::error!(target: "uncork::relay", "cannot read random bytes: {error}");
                return text(500, "cannot read random bytes");
            }
        };
        let secure = wire::wants_secure(req);
        let path = format!("{}/session/{}", config.base_path, self.shared.text(key));
        let options = CreateOptions {
            path: path.as_str().into(),
            cookie_attributes: match (req.scheme() == "https", cors.is_named_origin()) {
                (false, _) => "",
                (true, false) => "; Secure",
                // A page of another site: without this, the browser would not send the cookie.
                (true, true) => "; Secure; SameSite=None",
            },
            guests: if secure { Guests::None } else { Guests::Any },
            ttl: wire::session_ttl(req, config),
            owner: req.peer().ip(),
        };
        let (cookie, expired) = {
            let mut state = self.shared.lock();
            let (result, expired) = state.allocate(key, token, options, config, req.now());
            (result.map(|session| session.cookie(req.now())), expired)
        };
        expired.into_iter().for_each(|session| self.shared.reject_waiters(session));
        match cookie {
            Ok(cookie) => Response::new(201)
                .header("Location", path)
                .header("X-Type", if secure { "secure" } else { "basic" })
                .header("Set-Cookie", cookie)
                .header("Cache-Control", "no-store"),
            Err(CreateError::NoFreeSlot(NoFreeSlot::Full)) => {
                busy(503, format!("there are too many sessions: at most {}", config.sessions), LATER)
            }
            Err(CreateError::NoFreeSlot(NoFreeSlot::Share(share))) => {
                busy(429, format!("there are too many sessions for this address: at most {share}"), LATER)
            }
            Err(CreateError::Address(Rejected::TooMany)) => {
                let limit = config.sessions_per_address;
                busy(429, format!("there are too many sessions for this address: at most {limit}"), LATER)
            }
            Err(CreateError::Address(Rejected::TooFast(after))) => {
                let limit = config.allocations_per_minute;
                busy(429, format!("sessions are allocated too fast: at most {limit} a minute"), after)
            }
            Err(CreateError::Address(Rejected::AddressTableFull)) => {
                busy(429, "too many addresses allocate sessions", SOON)
            }
        }
    }

    /// `GET` and `POST <base>/session/<id>`
    fn wait(&self, req: &mut Request<'_>, key: Key, role: Role, cors: &CorsHeaders) -> Action {
        let config = &*self.shared.config();
        if self.stopping {
            return stopping().into();
        }
        // A sender's script must not become a service worker of this origin.
        if req.header("service-worker").is_some() {
            return text(400, "invalid request: a session cannot be a service worker").into();
        }
        let now = req.now();
        self.shared.remove_expired(key, now);
        let mut state = self.shared.lock();
        let Some(session) = state.get(key) else { return not_found(req).into() };
        let side = side(req, session);
        if side == Side::Guest && !session.guests.admit(req.peer().ip()) {
            return forbidden().into();
        }
        let taken = match role {
            Role::Receive => session.receivers[side].as_ref(),
            Role::Send => session.senders[side].as_ref().map(Sender::poll),
        };
        // A request that has a response, or whose client has disconnected, does not count, even if its end is not yet
        // known here.
        match role {
            _ if taken.is_none_or(|poll| poll.ticket.is_closed()) => {}
            Role::Receive => return text(409, "there can be only one receiver at a time").into(),
            Role::Send => return text(409, "there can be only one sender at a time").into(),
        }
        if role == Role::Send && req.content_length().is_some_and(|n| n > config.body) {
            return transfer::too_large(config).into();
        }

        state.connect(key);
        let Some(session) = state.get(key) else { return not_found(req).into() };
        let waiter = Waiter { key, side, role, id: req.id() };
        let poll = self.shared.suspend(req, waiter, session.remaining(now.mono), cors);
        let from = match role {
            Role::Receive => {
                session.receivers[side] = Some(poll);
                side.other()
            }
            Role::Send => {
                session.senders[side] = Some(Sender::Waiting(poll, message(req)));
                side
            }
        };
        let unsent = session.hand_over_from(from, &self.shared, key, now);
        drop(state);
        // The response that a receiver could not take, because it had disconnected. It is dropped after unlocking.
        drop(unsent);
        Action::Suspend
    }

    /// `PUT <base>/session/<id>`
    fn permit(&self, req: &Request<'_>, key: Key) -> Response {
        self.shared.remove_expired(key, req.now());
        let excluded: Vec<Poll> = {
            let mut state = self.shared.lock();
            let Some(session) = state.get(key) else { return not_found(req) };
            if side(req, session) == Side::Guest {
                return forbidden();
            }
            let Some(ip) = wire::peer_address(req) else {
                return text(400, "X-Peer-Address must be an IP address");
            };
            session.guests = Guests::Only(ip);
            // Requests that wait already, and would be rejected now.
            session.take_waiting(Side::Guest, |poll| poll.peer != Some(ip)).collect()
        };
        for poll in excluded {
            let _ = poll.ticket.respond(poll.cors.apply(forbidden(), &self.shared.config()));
        }
        Response::new(200)
    }

    /// `DELETE <base>/session/<id>`
    fn delete(&self, req: &Request<'_>, key: Key) -> Response {
        self.shared.remove_expired(key, req.now());
        let session = {
            let mut state = self.shared.lock();
            let Some(session) = state.get(key) else { return not_found(req) };
            if side(req, session) == Side::Guest {
                return forbidden();
            }
            state.remove(key)
        };
        let Some(session) = session else { return not_found(req) };
        let cookie =
            wire::cookie(&session.token, &session.path, req.now().wall, Duration::ZERO, session.cookie_attributes);
        self.shared.reject_waiters(session);
        Response::new(200).header("Set-Cookie", cookie)
    }
}

impl Default for SessionRelay {
    /// Creates a relay with the defaults of [`SessionConfig`].
    fn default() -> Self {
        Self::of(SessionConfig::default())
    }
}

impl fmt::Debug for SessionRelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionRelay").field("config", &self.config()).finish_non_exhaustive()
    }
}

impl Handler for SessionRelay {
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        self.handle(req)
    }

    /// Responds to all requests that wait with 503 and `Retry-After`. Transfers continue for the server's grace period.
    fn stopping(&mut self) {
        self.stopping = true;
        #[cfg(feature = "nodes")]
        self.shared.stop_forwarding();
        let waiting: Vec<Poll> = {
            let mut state = self.shared.lock();
            let sides =
                |session: &mut Session| [Side::Host, Side::Guest].map(|side| session.take_waiting(side, |_| true));
            state.all().flat_map(sides).flatten().collect()
        };
        for poll in waiting {
            let _ = poll.ticket.respond(poll.cors.apply(stopping(), &self.shared.config()));
        }
    }
}

fn side(req: &Request<'_>, session: &Session) -> Side {
    if wire::has_token(req.headers(), &session.token) { Side::Host } else { Side::Guest }
}

fn message(req: &Request<'_>) -> Message {
    Message {
        content_type: req.header("content-type").map(Into::into),
        body: match req.content_length() {
            Some(0) => MessageBody::None,
            Some(n) => MessageBody::Length(n),
            None if req.has_body() => MessageBody::Chunked,
            None => MessageBody::None,
        },
    }
}

/// Returns a 404 for a session that does not exist, which also deletes a cookie for it.
fn not_found(req: &Request<'_>) -> Response {
    let response = Response::new(404);
    // The path goes into the cookie, so it must not have characters that end an attribute.
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%=+".contains(&b);
    match req.path() {
        path if path.len() <= 256 && path.bytes().all(plain) => {
            response.header("Set-Cookie", wire::cookie("", path, req.now().wall, Duration::ZERO, ""))
        }
        _ => response,
    }
}

fn partial() -> Response {
    text(400, "Content-Range is not supported")
}

fn forbidden() -> Response {
    text(403, "only the session's host may do this")
}

fn stopping() -> Response {
    busy(503, "the server is stopping", SOON)
}
