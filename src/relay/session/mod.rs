//! The session relay: two peers exchange HTTP bodies through a URL. After "cama", whose clients it serves.
//!
//! ```text
//!   PUT    <base>/session        201, Location, the host's cookie     (X-Type: secure, ?secure=true, ?timeout=N)
//!   GET    <base>/session/<id>   waits for the other side's message   (X-Timeout: N, ?timeout=N)
//!   POST   <base>/session/<id>   waits for the other side's receiver  (the same)
//!   PUT    <base>/session/<id>   the host names the guest's address   (X-Peer-Address)
//!   DELETE <base>/session/<id>   the host ends it: 410 to all that wait, then 404
//! ```
//!
//! HEAD is 405 everywhere: GET waits for a message and takes it, which HEAD must not do (RFC 9110 §9.2.1), and there is
//! nothing else to GET. A PUT with `Content-Range` is 400 (§14.5). With POST that field means nothing and is ignored
//! (§14.4): what is sent is the message.
//!
//! | file | knows |
//! |---|---|
//! | `config` | what can be set, and why it is what it is |
//! | `wire` | what is read from requests and written into answers |
//! | `state` | sessions and who waits on them; time to live |
//! | `transfer` | a message on its way |
//! | `info` | what operators may know |
//! | here | which request is answered how |
//!
//! **Locking.** One mutex around the state, held for a few map operations. Under it, tickets are only spoken to (that
//! leaves a message for a loop); closures run without it, and take it first thing. So whatever a request's end finds
//! under the lock is whole, on whichever loop it ends.
//!
//! **Time.** There is no timer for sessions. A session that is over answers as if it were not there, and is taken out
//! when room is needed. Whoever waits has a timeout of his own, which is never later than the session's end.
//!
//! **Fairness.** A session that no peer has connected to lives for a shorter time. When all places are taken, the oldest
//! such session of the address that has most of them yields. Once half of the places are taken, the share of each address
//! shrinks. So a few addresses cannot take all sessions, and a session that was used once is never taken away.

mod config;
mod info;
mod state;
mod transfer;
mod wire;

use std::{fmt, sync::Arc, time::Duration};

use uncork::{Action, Handler, Moment, Request, RequestEnd, RequestId, Response};

use super::{addresses::Refused, unused::NoRoom, wire::is_partial_put};

use self::{
    state::{CreateOptions, Full, Guests, Key, Message, MessageBody, Poll, Sender, Session, Side, State},
    wire::{CorsHeaders, busy, text},
};
use super::{
    config::ConfigError,
    service::{Service, ServiceConfig},
};
pub use config::SessionConfig;
pub use info::{SessionCounts, SessionInfo};

/// What can be done with the place where sessions are allocated, and with a session.
const ALLOW_ALLOCATE: &str = "PUT";
const ALLOW_SESSION: &str = "GET, POST, PUT, DELETE";

/// When to come back if there is no telling: sessions die by the minute, not by the second.
const LATER: Duration = Duration::from_secs(60);
/// When to come back after a restart.
const SOON: Duration = Duration::from_secs(1);

/// The session relay, a [`Handler`]. Clones are one relay: each loop has one, and host and guest may be on different
/// ones.
///
/// Served alone, it answers 404 to what is not under its base path. To mount it beside other things, ask
/// [`serves`](Self::serves) and [`handle`](Self::handle), and forward [`stopping`](Handler::stopping).
#[derive(Clone)]
pub struct SessionRelay {
    shared: Arc<Shared>,
    /// This clone's server stops. Another clone's may go on.
    stopping: bool,
}

type Shared = Service<SessionConfig>;

impl ServiceConfig for SessionConfig {
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

/// What a request does on a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Receive,
    Send,
}

/// Who waits where; what a closure needs to find him again.
#[derive(Clone, Copy)]
struct Waiter {
    key: Key,
    side: Side,
    role: Role,
    id: RequestId,
}

impl SessionRelay {
    /// A relay with no sessions.
    ///
    /// # Errors
    /// If the configuration cannot work.
    pub fn new(config: SessionConfig) -> Result<Self, ConfigError> {
        Ok(Self::of(config.checked()?))
    }

    fn of(config: SessionConfig) -> Self {
        Self { shared: Service::new(config), stopping: false }
    }

    /// How it was configured, with the base path in its one spelling.
    pub fn config(&self) -> Arc<SessionConfig> {
        self.shared.config()
    }

    /// From now on, and for all clones, it is configured like this. Nothing that is under way is broken off: sessions
    /// beyond a new limit stay, and what has a time already keeps it.
    ///
    /// # Errors
    /// If the configuration cannot work. Then it stays as it was.
    pub fn reconfigure(&self, config: SessionConfig) -> Result<(), ConfigError> {
        self.shared.reconfigure(config)
    }

    /// Whether a path is the relay's: its base path, and everything under it.
    pub fn serves(&self, path: &str) -> bool {
        self.shared.serves(path, &[""])
    }

    /// Answers a request, whether or not its path is the relay's: what is not gets a 404.
    pub fn handle(&self, req: &mut Request<'_>) -> Action {
        self.shared.handle(req, |req, cors| self.route(req, cors))
    }

    fn route(&self, req: &mut Request<'_>, cors: &CorsHeaders) -> Action {
        let nowhere = || Response::new(404).into();
        let Some(rest) = self.shared.below_base(req.path()).and_then(|rest| rest.strip_prefix("/session")) else {
            return nowhere();
        };
        let id = match rest.strip_prefix('/') {
            None if rest.is_empty() => "",
            Some(id) if !id.contains('/') => id,
            _ => return nowhere(),
        };
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
        let Some(key) = Key::parse(id) else { return not_found(req).into() };
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
                log::error!("cannot read random bytes: {error}");
                return text(500, "cannot read random bytes");
            }
        };
        let secure = wire::wants_secure(req);
        let path = format!("{}/session/{}", config.base_path, key.text());
        let options = CreateOptions {
            path: path.as_str().into(),
            cookie_more: match (req.scheme() == "https", cors.is_named_origin()) {
                (false, _) => "",
                (true, false) => "; Secure",
                // A page of another site: without this, its browser would not send the cookie.
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
            Err(Full::Room(NoRoom::Full)) => {
                busy(503, format!("there are too many sessions: at most {}", config.sessions), LATER)
            }
            Err(Full::Room(NoRoom::Share(share))) => {
                busy(429, format!("there are too many sessions for this address: at most {share}"), LATER)
            }
            Err(Full::Address(Refused::TooMany)) => {
                let most = config.sessions_per_address;
                busy(429, format!("there are too many sessions for this address: at most {most}"), LATER)
            }
            Err(Full::Address(Refused::TooFast(after))) => {
                let most = config.allocations_per_minute;
                busy(429, format!("sessions are allocated too fast: at most {most} a minute"), after)
            }
            Err(Full::Address(Refused::Crowded)) => busy(429, "too many addresses allocate sessions", SOON),
        }
    }

    /// `GET` and `POST <base>/session/<id>`
    fn wait(&self, req: &mut Request<'_>, key: Key, role: Role, cors: &CorsHeaders) -> Action {
        let config = &*self.shared.config();
        if self.stopping {
            return stopping().into();
        }
        // Another origin's script must not get between this origin and its pages.
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
        // One that was answered or has left does not wait any more, even if its loop has not told us yet.
        match role {
            _ if taken.is_none_or(|poll| poll.ticket.is_gone()) => {}
            Role::Receive => return text(409, "there can be only one receiver at a time").into(),
            Role::Send => return text(409, "there can be only one sender at a time").into(),
        }
        if role == Role::Send && req.content_length().is_some_and(|n| n > config.body) {
            return transfer::too_large(config).into();
        }

        let waiter = Waiter { key, side, role, id: req.id() };
        state.connect(key);
        let Some(session) = state.get(key) else { return not_found(req).into() };
        let shared = self.shared.clone();
        req.on_end(move |end| shared.ended(waiter, end));
        let ticket = req.ticket();
        let (asked, left) = (wire::request_timeout(req, config), session.left(now.mono));
        let (shared, its_cors) = (self.shared.clone(), cors.clone());
        if asked < left {
            ticket.fallback(asked, move |now| shared.timed_out(waiter, &its_cors, now));
        } else {
            ticket.fallback(left, move |_| shared.expired(waiter.key, &its_cors));
        }

        let poll = Poll { id: req.id(), ticket, peer: req.peer().ip(), cors: cors.clone() };
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
        // What a receiver that had left gives back: not dropped before the lock was.
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
            // Who waits already and would not be let in any more.
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
        let cookie = wire::cookie(&session.token, &session.path, req.now().wall, Duration::ZERO, session.cookie_more);
        self.shared.reject_waiters(session);
        Response::new(200).header("Set-Cookie", cookie)
    }
}

impl Default for SessionRelay {
    /// A relay with the defaults of [`SessionConfig`].
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

    /// Everybody who waits is told to come back later; what is on its way gets the server's grace time.
    fn stopping(&mut self) {
        self.stopping = true;
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

impl Session {
    /// Hands the message of that side over, if there is one and a receiver for it.
    fn hand_over_from(
        &mut self,
        from: Side,
        shared: &Arc<Shared>,
        key: Key,
        now: Moment,
    ) -> Option<uncork::RespondError> {
        let cors = self.senders[from].as_ref()?.poll().cors.clone();
        let again = shared.clone();
        self.hand_over(from, &shared.config(), now, move |_| again.expired(key, &cors).close())
    }
}

impl Shared {
    /// If the session is over, it goes, and whoever waits on it is told.
    fn remove_expired(&self, key: Key, now: Moment) {
        let expired = self.lock().remove_expired(key, now.mono);
        if let Some(session) = expired {
            self.reject_waiters(session);
        }
    }

    /// 410 to everybody who waits on a session that is no more.
    fn reject_waiters(&self, session: Session) {
        for (poll, on_its_way) in session.into_polls() {
            let response = poll.cors.apply(session_gone(), &self.config());
            let _ = poll.ticket.respond(if on_its_way { response.close() } else { response });
        }
    }

    /// Nobody came in time. Runs on the request's loop; its return value answers.
    fn timed_out(&self, waiter: Waiter, cors: &CorsHeaders, now: Moment) -> Response {
        let (response, left) = match self.lock().get(waiter.key) {
            Some(session) => {
                (session.renewing(waiter.side, text(504, "request timed out"), now), Some(session.leave(waiter)))
            }
            // Deleted in the same moment.
            None => (session_gone(), None),
        };
        drop(left);
        cors.apply(response, &self.config())
    }

    /// The session has come to its end while somebody was connected.
    fn expired(&self, key: Key, cors: &CorsHeaders) -> Response {
        let expired = self.lock().remove(key);
        if let Some(session) = expired {
            self.reject_waiters(session);
        }
        cors.apply(session_gone(), &self.config())
    }

    /// A request is over, however it ended.
    fn ended(&self, waiter: Waiter, end: &RequestEnd) {
        let mut cookie = None;
        let (left, sender) = {
            let mut state = self.lock();
            let Some(session) = state.get(waiter.key) else { return };
            session.disconnect(end.now.mono);
            let sender = match waiter.role {
                Role::Send => None,
                // This was the receiver of a message: its sender is waiting to hear how much of it arrived. His
                // place is free before he hears it, so that he can send the next one at once.
                Role::Receive => session.senders[waiter.side.other()]
                    .take_if(|sender| matches!(sender, Sender::Sending(_, transfer) if transfer.receiver == waiter.id)),
            };
            if sender.is_some() && waiter.side == Side::Guest {
                cookie = Some(session.cookie(end.now));
            }
            (session.leave(waiter), sender)
        };
        drop(left);
        if let Some(Sender::Sending(poll, transfer)) = sender {
            let mut response = transfer.report(end);
            if let Some(cookie) = cookie {
                response = response.header("Set-Cookie", cookie);
            }
            // Gone: the sender has left as well, and nobody is there to be told.
            let _ = poll.ticket.respond(poll.cors.apply(response, &self.config()));
        }
    }
}

impl Session {
    /// Frees the place of a request, if it is still that request's. What was there is for the caller to drop.
    fn leave(&mut self, waiter: Waiter) -> (Option<Poll>, Option<Sender>) {
        let Waiter { side, role, id, .. } = waiter;
        match role {
            Role::Receive => (self.receivers[side].take_if(|poll| poll.id == id), None),
            Role::Send => (None, self.senders[side].take_if(|sender| sender.poll().id == id)),
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

/// There is no such session; a cookie for it is of no use any more.
fn not_found(req: &Request<'_>) -> Response {
    let response = Response::new(404);
    // The path goes into the cookie: only if there is nothing in it that could be taken for an attribute.
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

fn session_gone() -> Response {
    text(410, "the session is gone")
}

fn stopping() -> Response {
    busy(503, "the server is stopping", SOON)
}
