//! The life of a client: its request to connect, its session, and its end.
//!
//! ```text
//!   client            gateway                                   application
//!   GET /connect ───▶ handshake, origin, limits: rejected ───▶ (is not called)
//!                     connect callback ───────────────────────▶ 200, a key, a greeting │ anything else
//!          ◀── 101 ── registered: messages for the key are held
//!                     establish callback ─────────────────────▶ 200 │ anything else: the stream ends
//!          ◀ greeting open: held messages, in both directions
//!          ── text ─▶ receive callback ───────────────────────▶ the next message is read after the response
//!          ── close ▶ closed
//!                     close callback ─────────────────────────▶
//! ```

use std::sync::{Arc, atomic::Ordering};

use uncork::{
    Action, Consumed, Request, Response, Ticket, Upload,
    client::{self, FullResponse},
    h1::Headers,
    ws::{self, Accept, CloseCause, Closed, Done, Frame, Handler, Message, MessageKind, Sender},
};

use super::{
    application::{Verdict, chosen},
    calls::Caller,
    config::OriginPolicy,
    delivery::{frame, is_binary},
    key::Key,
    lease::Unreported,
    limits::LimitReached,
    printable::Printable,
    session::{ClientMessage, LastPhase, Session},
    shared::Shared,
    wire,
};

/// Maximum size of the body of a request to connect. It is passed on; hardly any client sends one.
const BODY: usize = 64 * 1024;

/// Handles a request to connect.
pub(super) fn request(shared: &Arc<Shared>, req: &mut Request<'_>, stopping: bool) -> Action {
    let counted = shared.counters.connection();
    let reject = |status: u16, text: &str| {
        shared.counters.connect_error();
        wire::text(status, text).response
    };
    let Ok(accept) = ws::check(req) else {
        return reject(400, "Bad Request").header("Sec-Websocket-Version", "13").into();
    };
    if !admits(shared.config.origin_policy, req) {
        return wire::text(403, "Forbidden").response.into();
    }
    if stopping {
        return reject(503, "Service Unavailable").into();
    }
    let guard = match shared.session_limits.take(req.peer().ip()) {
        Ok(guard) => guard,
        Err(LimitReached::Full) => {
            shared.log_rejected(req.peer(), "too many sessions", req.now().mono);
            return reject(503, "Service Unavailable").into();
        }
        Err(LimitReached::PerAddress) => {
            shared.log_rejected(req.peer(), "too many sessions from its address", req.now().mono);
            return reject(429, "Too Many Requests").into();
        }
    };
    if shared.config.callback.connect.is_empty() {
        log::error!(target: "uncork::relay", "client rejected: callback.connect is not set");
        return reject(500, "Internal Server Error").into();
    }
    // Dropped when the request ends: rejected at once, or as a connection years later.
    req.on_end(move |_| drop((counted, guard)));
    let caller = Caller { loop_handle: req.loop_handle(), network: req.peer().network() };
    let client = PendingClient { shared: shared.clone(), accept, ticket: req.ticket(), caller };
    let call = shared.application.connect_call(&shared.config, req);
    match req.has_body() {
        true => Action::Receive(Box::new(Body { client, call, bytes: Vec::new() })),
        false => {
            client.call(call);
            Action::Suspend
        }
    }
}

/// Returns `true` if the page that sent the request may connect (RFC 6455 §10.2).
fn admits(policy: OriginPolicy, req: &Request<'_>) -> bool {
    match policy {
        OriginPolicy::None => true,
        OriginPolicy::SameOrigin => ws::same_origin(req),
        // A client without `Origin` may not, as in kuiperbelt.
        OriginPolicy::SameHostname => req.header("origin").is_some() && ws::same_hostname(req),
    }
}

/// Collects the body of a request to connect.
struct Body {
    client: PendingClient,
    call: client::Request,
    bytes: Vec<u8>,
}

impl Upload for Body {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        if chunk.len() > BODY - self.bytes.len() {
            self.client.shared.counters.connect_error();
            return Consumed::Stop(wire::text(413, "Request Entity Too Large").close().response.into());
        }
        self.bytes.extend_from_slice(chunk);
        Consumed::All
    }

    fn end(self: Box<Self>, _trailers: &Headers) -> Action {
        let Self { client, call, bytes } = *self;
        client.call(call.body(bytes));
        Action::Suspend
    }
}

/// A client whose request to connect the application has not decided on.
struct PendingClient {
    shared: Arc<Shared>,
    accept: Accept,
    ticket: Ticket,
    caller: Caller,
}

impl PendingClient {
    fn call(self, call: client::Request) {
        let (shared, caller) = (self.shared.clone(), self.caller.clone());
        shared.application.connect(&shared.config, &caller, call, move |verdict| self.decide(verdict));
    }

    fn decide(self, verdict: Verdict) {
        match verdict {
            Verdict::Accepted(key, whole) => self.accept(key, whole),
            Verdict::Rejected(whole) => {
                log::debug!(target: "uncork::relay", "connect callback: the application responded with {}", whole.status);
                if whole.status != 403 {
                    self.shared.counters.connect_error();
                }
                let FullResponse { status, headers, body, .. } = whole;
                self.respond(wire::passed_on(status, headers.get("content-type"), body).response);
            }
            Verdict::Busy => {
                log::warn!(target: "uncork::relay", "connect callback: too many calls for clients of this address are waiting");
                self.shared.counters.connect_error();
                let response = wire::text(503, "Service Unavailable").header("Retry-After", "1");
                self.respond(response.response);
            }
            Verdict::NoKey => {
                let header = &self.shared.config.session_header;
                log::warn!(target: "uncork::relay", "connect callback: the response has no {header} field");
                self.fail(400, "Bad Request");
            }
            Verdict::Unreachable(error) => {
                log::warn!(target: "uncork::relay", "connect callback: {}", Printable(error.to_string().as_bytes()));
                self.fail(502, "Bad Gateway");
            }
            Verdict::InvalidCall(error) => {
                log::error!(target: "uncork::relay", "connect callback: {}", Printable(error.to_string().as_bytes()));
                self.fail(500, "Internal Server Error");
            }
        }
    }

    fn fail(self, status: u16, text: &str) {
        self.shared.counters.connect_error();
        self.respond(wire::text(status, text).response);
    }

    fn respond(self, response: Response) {
        // An error means that the client has disconnected.
        let _ = self.ticket.respond(response);
    }

    fn accept(self, key: Key, whole: FullResponse) {
        let greeting = match &whole.body[..] {
            [] => None,
            body => match frame(is_binary(whole.headers.get("content-type")), body) {
                Some(frame) => Some(frame),
                None => {
                    log::warn!(target: "uncork::relay", "connect callback: the greeting is text and not valid UTF-8");
                    return self.fail(502, "Bad Gateway");
                }
            },
        };
        let protocol = match chosen(&whole.headers, &self.accept) {
            Ok(protocol) => protocol,
            Err(reason) => {
                log::warn!(target: "uncork::relay", "connect callback: {reason}");
                return self.fail(502, "Bad Gateway");
            }
        };
        let Self { shared, accept, ticket, caller } = self;
        let accept = protocol.into_iter().fold(accept, Accept::protocol);
        let (claiming, on) = (shared.clone(), caller.loop_handle.clone());
        claiming.claim(&key.clone(), &on, move |lease| {
            let config = &shared.config;
            let session = Session::new(key, lease, config.send_queue_size, config.limits.queue);
            let handler =
                ClientHandler { shared: shared.clone(), session: session.clone(), caller, greeting, opened: false };
            let (switch, sender) = accept.config(shared.websocket.clone()).switch(handler);
            session.set_sender(sender);
            shared.registry.add(session);
            // An error means that the client has disconnected. Dropping the switch calls `closed`.
            let _ = ticket.respond(switch);
        });
    }
}

/// The WebSocket handler of a client.
struct ClientHandler {
    shared: Arc<Shared>,
    session: Arc<Session>,
    caller: Caller,
    greeting: Option<Frame>,
    /// The connection is open, and the establish callback was called, if there is one.
    opened: bool,
}

impl Handler for ClientHandler {
    fn open(&mut self, _sender: &Sender) {
        self.opened = true;
        let Self { shared, session, caller, greeting, .. } = self;
        let greeting = greeting.take();
        if shared.config.callback.establish.is_empty() {
            return established(shared, session, caller, greeting);
        }
        let (its_shared, its_session, its_caller) = (shared.clone(), session.clone(), caller.clone());
        shared.application.establish(&shared.config, caller, session.key(), move |result| match result {
            Ok(()) => established(&its_shared, &its_session, &its_caller, greeting),
            Err(reason) => {
                // The application knows that there is no session.
                its_session.forget_unreported();
                log::warn!(target: "uncork::relay", "establish callback of {}: {reason}", Printable(its_session.key()));
                its_shared.counters.connect_error();
                its_session.reject();
                let free = its_shared.remove(&its_session).filter(|_| its_session.owes_a_close());
                if let Some(unreported) = free {
                    its_shared.notify_closed(its_session.key(), &its_caller, Some(unreported));
                }
            }
        });
    }

    fn message(&mut self, message: Message<'_>, done: Done) {
        let Self { shared, session, caller, .. } = self;
        if shared.config.callback.receive.is_empty() {
            if !shared.drop_logged.swap(true, Ordering::Relaxed) {
                let reason = "callback.receive is not set";
                log::warn!(target: "uncork::relay", "messages of clients are dropped: {reason} (logged once)");
            }
            return;
        }
        // An empty message counts as well.
        let guard = match shared.pending.take_some(caller.network, message.bytes().len().max(1)) {
            Ok(guard) => guard,
            Err(_) => {
                if session.overflow() {
                    shared.counters.rejected_client();
                    let name = Printable(session.key());
                    log::warn!(target: "uncork::relay", "session {name}: closed with 1013, too many messages are waiting for \
                        the application");
                }
                return;
            }
        };
        let message =
            ClientMessage { text: message.kind() == MessageKind::Text, message: message.bytes().to_vec(), guard, done };
        if let Some(message) = session.received(message) {
            pass_on(shared, session, caller, message);
        }
    }

    fn closed(&mut self, closed: &Closed) {
        let Self { shared, session, caller, .. } = self;
        let name = Printable(session.key());
        if matches!(closed.cause, CloseCause::Rejected { .. }) {
            shared.counters.rejected_client();
        }
        log::debug!(target: "uncork::relay", "session {name}: closed with {}: {}", closed.code, closed.cause);
        // Counts the message that was being written. The engine never began the others.
        shared.counters.message_errors(usize::from(closed.unsent > 0));
        let last = session.closed();
        let free = shared.remove(session);
        match last {
            // The establish callback is running: its response decides. Until then the node's set has the key.
            LastPhase::Establishing if self.opened => {
                if let Some(unreported) = free {
                    session.keep_unreported(unreported);
                }
            }
            LastPhase::Establishing => {
                shared.counters.connect_error();
                if free.is_some() {
                    shared.notify_closed(session.key(), caller, free);
                }
            }
            LastPhase::Open if free.is_some() => shared.notify_closed(session.key(), caller, free),
            LastPhase::Open | LastPhase::Quiet => {}
        }
    }
}

/// Opens a session, after the application has agreed.
fn established(shared: &Arc<Shared>, session: &Arc<Session>, caller: &Caller, greeting: Option<Frame>) {
    let messages = usize::from(greeting.is_some());
    match session.open(greeting) {
        Ok(early) => {
            shared.counters.messages(messages);
            shared.settled(session);
            for replaced in shared.registry.settle(session) {
                log::debug!(target: "uncork::relay", "session {}: replaced by a new connection", Printable(session.key()));
                replaced.replace();
            }
            if let Some(early) = early {
                pass_on(shared, session, caller, early);
            }
        }
        // The client has disconnected in the meantime, and the application does not know.
        Err(LastPhase::Open) if !shared.registry.has(session.key()) => {
            shared.notify_closed(session.key(), caller, session.take_unreported());
        }
        Err(_) => session.forget_unreported(),
    }
}

/// Passes a client's message to the application. The client's next message is read after the response.
fn pass_on(shared: &Arc<Shared>, session: &Arc<Session>, caller: &Caller, message: ClientMessage) {
    let ClientMessage { text, message, guard, done } = message;
    let (key, counters) = (session.key().clone(), shared.counters.clone());
    shared.application.receive(&shared.config, caller, session.key(), text, message, move |result| {
        drop(guard);
        if let Err(reason) = result {
            counters.lost_message();
            log::warn!(target: "uncork::relay", "receive callback of {}: {reason}; the message is lost", Printable(&key));
        }
        done.next();
    });
}

impl Shared {
    /// Removes a session that has ended. Returns `None` if another session has its key: that one calls the close
    /// callback when it ends.
    fn remove(&self, session: &Arc<Session>) -> Option<Unreported> {
        match self.registry.remove(session) {
            None => Some(self.release(session)),
            Some(successor) => {
                successor.owe_close();
                None
            }
        }
    }

    /// Calls the close callback for a client whose session has ended.
    fn notify_closed(self: &Arc<Self>, key: &Key, caller: &Caller, unreported: Option<Unreported>) {
        if self.config.callback.close.is_empty() {
            return;
        }
        let (counted, shared, its_key) = (self.counters.closing(), self.clone(), key.clone());
        self.if_gone(key, caller, move |caller| {
            shared.call_close(&its_key, &caller, || {
                let _told_now = unreported;
                drop(counted);
            });
        });
    }

    /// Calls the close callback, and then `done`, whatever the response is.
    pub(super) fn call_close(&self, key: &Key, caller: &Caller, done: impl FnOnce() + Send + 'static) {
        let (counters, its_key) = (self.counters.clone(), key.clone());
        self.application.close(&self.config, caller, key, move |result| {
            if let Err(reason) = result {
                counters.close_error();
                log::warn!(target: "uncork::relay", "close callback of {}: {reason}", Printable(&its_key));
            }
            done();
        });
    }
}
