//! Delivers a message to any number of sessions: `/send`, and `/close`, which ends them after it.
//!
//! The message is encoded once, and all sessions share its bytes. A session that has room queues it at once. The
//! delivery waits for all others in parallel, up to `send_timeout`, and while the application waits for the response.

use std::sync::{Arc, Mutex, MutexGuard};

use uncork::{Action, Consumed, LoopHandle, Request, Ticket, Upload, h1::Headers, ws::Frame};

use super::{
    access::ParsedRequest,
    key::Key,
    session::{Offered, Session, Waiter, Waiting},
    shared::Shared,
    wire::{self, Problem, SizedResponse},
};
use crate::relay::lock::lock;

/// The targets of a message.
pub(super) struct Targets {
    found: Vec<Arc<Session>>,
    missing: Vec<(Problem, Key)>,
    /// The sessions end after this message.
    last: bool,
    binary: bool,
}

/// A message that is being delivered.
pub(super) struct Delivery {
    shared: Arc<Shared>,
    request: ParsedRequest,
    state: Mutex<State>,
}

struct State {
    ticket: Option<Ticket>,
    problems: Vec<(Problem, Key)>,
    /// By target: the session whose queue has no room.
    waiting: Vec<Option<Arc<Session>>>,
    /// Number of those, plus one until the message was offered to all.
    left: usize,
}

/// Handles a request of the application to send a message to sessions.
pub(super) fn request(shared: &Arc<Shared>, req: &mut Request<'_>, last: bool) -> Action {
    let request = ParsedRequest::of(req);
    let respond = |response: SizedResponse| Action::from(request.log(shared, response));
    if req.method() != "POST" {
        return respond(wire::fault(405, "required POST method").header("Allow", "POST"));
    }
    let keys = || req.headers().get_all(&shared.config.session_header);
    if keys().next().is_none() {
        return respond(wire::fault(400, "session header is missing"));
    }
    let found = shared.registry.find(keys());
    let missing = keys().zip(&found).filter(|(_, found)| found.is_none());
    let missing: Vec<_> = missing.map(|(key, _)| (Problem::NotFound, Key::from(key))).collect();
    if shared.config.strict_broadcast && !missing.is_empty() {
        return respond(wire::problems(&missing, true));
    }
    let limit = shared.config.limits.send;
    if req.content_length().is_some_and(|length| length > limit as u64) {
        return respond(too_large());
    }
    let binary = is_binary(req.header("content-type"));
    let targets = Targets { found: found.into_iter().flatten().collect(), missing, last, binary };

    let state = State { ticket: Some(req.ticket()), problems: Vec::new(), waiting: Vec::new(), left: 1 };
    let delivery = Arc::new(Delivery { shared: shared.clone(), request, state: Mutex::new(state) });
    let leaving = delivery.clone();
    // The request is over: nothing needs to wait any more.
    req.on_end(move |_| leaving.give_up());
    let body = Body { delivery, targets: Some(targets), bytes: Vec::new(), limit, loop_handle: req.loop_handle() };
    match req.has_body() {
        true => Action::Receive(Box::new(body)),
        false => Box::new(body).end(&Headers::new()),
    }
}

/// Returns `true` if a body of this type is a binary message; every other is text.
pub(super) fn is_binary(content_type: Option<&[u8]>) -> bool {
    let essence = content_type.and_then(|value| value.split(|&b| b == b';').next()).unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/octet-stream")
}

/// Encodes a message for clients. Returns `None` for text that is not UTF-8: a client would close the connection.
pub(super) fn frame(binary: bool, bytes: &[u8]) -> Option<Frame> {
    match binary {
        true => Some(Frame::binary(bytes)),
        false => Frame::text_bytes(bytes).ok(),
    }
}

fn too_large() -> SizedResponse {
    wire::fault(413, "message is too large").close()
}

/// Collects the body of `/send`.
struct Body {
    delivery: Arc<Delivery>,
    targets: Option<Targets>,
    bytes: Vec<u8>,
    limit: usize,
    loop_handle: LoopHandle,
}

impl Upload for Body {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        if chunk.len() > self.limit - self.bytes.len() {
            self.targets = None;
            let Delivery { shared, request, .. } = &*self.delivery;
            return Consumed::Stop(request.log(shared, too_large()).into());
        }
        self.bytes.extend_from_slice(chunk);
        Consumed::All
    }

    fn end(mut self: Box<Self>, _trailers: &Headers) -> Action {
        if let Some(targets) = self.targets.take() {
            self.delivery.clone().start(targets, &self.bytes, &self.loop_handle);
        }
        Action::Suspend
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if self.targets.is_some() {
            // The body was truncated.
            self.delivery.respond(wire::unreadable().close());
        }
    }
}

impl Delivery {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Offers the message to all targets.
    fn start(self: Arc<Self>, targets: Targets, bytes: &[u8], loop_handle: &LoopHandle) {
        let Targets { found, missing, last, binary } = targets;
        let Some(frame) = frame(binary, bytes) else {
            return self.respond(wire::fault(400, "message is not valid UTF-8"));
        };
        self.state().problems = missing;
        self.shared.counters.messages(found.len());
        let mut waits = false;
        for (target, session) in found.iter().enumerate() {
            let waiting = || {
                let mut state = self.state();
                state.left += 1;
                // Usually no target waits, and nothing is allocated.
                state.waiting.resize(found.len(), None);
                state.waiting[target] = Some(session.clone());
                Waiting::new(self.clone(), target)
            };
            match session.offer(&frame, last, waiting) {
                Offered::Queued => {}
                Offered::Closed => self.state().problems.push((Problem::Closed, session.key().clone())),
                Offered::Waits => waits = true,
            }
        }
        if let Some(timeout) = self.shared.config.send_timeout.filter(|_| waits) {
            let delivery = self.clone();
            loop_handle.after(timeout, move |_| delivery.give_up());
        }
        self.one_less();
    }

    fn one_less(&self) {
        let problems = {
            let mut state = self.state();
            state.left -= 1;
            if state.left > 0 {
                return;
            }
            std::mem::take(&mut state.problems)
        };
        self.respond(match problems.is_empty() {
            true => wire::ok(),
            false => wire::problems(&problems, self.shared.config.strict_broadcast),
        });
    }

    /// Stops to wait for targets.
    fn give_up(self: &Arc<Self>) {
        let waiting: Vec<_> = {
            let state = self.state();
            state.waiting.iter().enumerate().filter_map(|(n, session)| Some((n, session.clone()?))).collect()
        };
        for (target, session) in waiting {
            let waiting = Waiting::new(self.clone(), target);
            if session.remove_waiting(&waiting) {
                waiting.queued(Err(Problem::TimedOut));
            }
        }
    }

    fn respond(&self, response: SizedResponse) {
        let ticket = self.state().ticket.take();
        if let Some(ticket) = ticket {
            // An error means that the application has disconnected.
            let _ = ticket.respond(self.request.log(&self.shared, response));
        }
    }
}

impl Waiter for Delivery {
    fn queued(&self, target: usize, result: Result<(), Problem>) {
        {
            let mut state = self.state();
            let Some(session) = state.waiting.get_mut(target).and_then(Option::take) else { return };
            if let Err(problem) = result {
                state.problems.push((problem, session.key().clone()));
            }
        }
        self.one_less();
    }
}

#[cfg(test)]
mod tests {
    use uncork::{Request, Response, Server};

    use super::*;
    use crate::relay::gateway::{Gateway, GatewayConfig};

    #[test]
    fn a_message_to_a_thousand_is_encoded_once() {
        let shared = Gateway::new(GatewayConfig::default()).expect("a good configuration").shared;
        let server = Server::new().threads(1, |_: &mut Request<'_>| Response::new(404)).expect("running");
        let loop_handle = &server.loops()[0];
        // They are not established: their messages are held, and the test can look at them.
        let sessions: Vec<_> = (0..1000).map(|n| Session::new(n.to_string().into_bytes().into(), 1, 1 << 20)).collect();
        let state = State { ticket: None, problems: Vec::new(), waiting: Vec::new(), left: 1 };
        let delivery = Delivery { shared: shared.clone(), request: ParsedRequest::nothing(), state: Mutex::new(state) };
        let targets = Targets { found: sessions.clone(), missing: Vec::new(), last: false, binary: false };
        Arc::new(delivery).start(targets, b"hello, all", loop_handle);

        let frames: Vec<Frame> = sessions.iter().flat_map(|session| session.held()).collect();
        assert_eq!(frames.len(), 1000);
        assert!(frames.iter().all(|frame| frame.payload() == b"hello, all"));
        let pointer = frames[0].payload().as_ptr();
        assert!(frames.iter().all(|frame| frame.payload().as_ptr() == pointer), "they are the same bytes");
        assert_eq!(shared.counters.read().total_messages, 1000);
        server.stop_now().expect("ended normally");
    }

    #[test]
    fn what_is_binary() {
        for (content_type, binary) in [
            (None, false),
            (Some("text/plain"), false),
            (Some("application/octet-stream"), true),
            (Some(" APPLICATION/Octet-Stream ;charset=x"), true),
            (Some("application/octet-stream2"), false),
            (Some("text/plain; application/octet-stream"), false),
            (Some(""), false),
        ] {
            assert_eq!(is_binary(content_type.map(str::as_bytes)), binary, "{content_type:?}");
        }
        assert!(frame(false, b"\xff").is_none() && frame(true, b"\xff").is_some());
    }
}
