//! Delivers a message to any number of sessions.
//!
//! The message is encoded once, and all sessions share its bytes. A session that has room queues it at once. The
//! delivery waits for all others in parallel, up to `send_timeout`, and while the application waits for the response.

use std::sync::{Arc, Mutex, MutexGuard};

#[cfg(feature = "directory")]
use std::time::Duration;

use uncork::{LoopHandle, Request, Response, Ticket, ws::Frame};

#[cfg(feature = "directory")]
use super::node_message::failures;
use super::{
    access::ParsedRequest,
    key::Key,
    session::{Offered, Session, Waiter, Waiting},
    shared::Shared,
    wire::{self, Problem, SizedResponse},
};
use crate::relay::lock::lock;
#[cfg(feature = "directory")]
use crate::relay::nodes::Directory;

/// The targets of a message.
pub(super) struct Targets {
    pub(super) found: Vec<Arc<Session>>,
    pub(super) missing: Vec<(Problem, Key)>,
    /// Keys that may be on another node. Empty without a directory.
    #[cfg_attr(not(feature = "directory"), expect(dead_code, reason = "there is no directory"))]
    pub(super) unknown: Vec<Key>,
    /// The sessions end after this message.
    pub(super) last: bool,
    pub(super) binary: bool,
}

/// A message that is being delivered.
pub(super) struct Delivery {
    shared: Arc<Shared>,
    /// The request of the application; `None` if another node has sent the message.
    request: Option<ParsedRequest>,
    state: Mutex<State>,
}

struct State {
    ticket: Option<Ticket>,
    problems: Vec<(Problem, Key)>,
    /// By target: the session whose queue has no room.
    waiting: Vec<Option<Arc<Session>>>,
    /// Number of those and of the nodes that have not responded, plus one until the message was offered to all.
    left: usize,
    /// The messages to other nodes.
    #[cfg(feature = "directory")]
    calls: Vec<uncork::client::CancelHandle>,
}

impl State {
    fn new(ticket: Option<Ticket>) -> Self {
        Self {
            ticket,
            problems: Vec::new(),
            waiting: Vec::new(),
            left: 1,
            #[cfg(feature = "directory")]
            calls: Vec::new(),
        }
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

impl Delivery {
    /// Creates a delivery for a request of the application, or of another node.
    pub(super) fn of(shared: &Arc<Shared>, request: Option<ParsedRequest>, req: &mut Request<'_>) -> Arc<Self> {
        let state = Mutex::new(State::new(Some(req.ticket())));
        let delivery = Arc::new(Self { shared: shared.clone(), request, state });
        let leaving = delivery.clone();
        // The request is over: nothing needs to wait any more.
        req.on_end(move |_| leaving.abandon());
        delivery
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Offers the message to all targets.
    pub(super) fn start(self: Arc<Self>, targets: Targets, bytes: &[u8], loop_handle: &LoopHandle) {
        let Targets { found, missing, last, binary, .. } = targets;
        let Some(frame) = frame(binary, bytes) else {
            return self.respond(wire::fault(400, "message is not valid UTF-8"));
        };
        self.state().problems.extend(missing);
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
        #[cfg(feature = "directory")]
        if self.request.is_none() {
            return self.respond_with(failures(&problems));
        }
        self.respond(match problems.is_empty() {
            true => wire::ok(),
            false => wire::problems(&problems, self.is_strict()),
        });
    }

    /// The request is over.
    fn abandon(self: &Arc<Self>) {
        #[cfg(feature = "directory")]
        {
            let calls = std::mem::take(&mut self.state().calls);
            calls.iter().for_each(uncork::client::CancelHandle::cancel);
        }
        self.give_up();
    }

    pub(super) fn is_strict(&self) -> bool {
        self.shared.config.strict_broadcast
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

    pub(super) fn respond(&self, response: SizedResponse) {
        self.respond_with(self.response(response));
    }

    fn respond_with(&self, response: Response) {
        let ticket = self.state().ticket.take();
        if let Some(ticket) = ticket {
            // An error means that the application has disconnected.
            let _ = ticket.respond(response);
        }
    }

    /// Logs a response to the application.
    pub(super) fn response(&self, response: SizedResponse) -> Response {
        match &self.request {
            Some(request) => request.log(&self.shared, response),
            None => response.response,
        }
    }
}

/// What a message to other nodes needs.
#[cfg(feature = "directory")]
impl Delivery {
    pub(super) fn directory(&self) -> Option<Directory> {
        self.shared.directory.clone()
    }

    pub(super) fn send_timeout(&self) -> Option<Duration> {
        self.shared.config.send_timeout
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The response waits for so many nodes.
    pub(super) fn expects(&self, nodes: usize) {
        self.state().left += nodes;
    }

    /// A node has responded.
    pub(super) fn add(&self, problems: Vec<(Problem, Key)>) {
        self.state().problems.extend(problems);
        self.one_less();
    }

    /// Has a message to another node cancelled if the request ends.
    pub(super) fn cancels(&self, call: Option<uncork::client::CancelHandle>) {
        self.state().calls.extend(call);
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
    use crate::relay::gateway::{Gateway, GatewayConfig, lease::Lease};

    #[test]
    fn a_message_to_a_thousand_is_encoded_once() {
        let shared = Gateway::new(GatewayConfig::default()).expect("a good configuration").shared;
        let server = Server::new().threads(1, |_: &mut Request<'_>| Response::new(404)).expect("running");
        let loop_handle = &server.loops()[0];
        // They are not established: their messages are held, and the test can look at them.
        let sessions: Vec<_> =
            (0..1000).map(|n| Session::new(n.to_string().into_bytes().into(), Lease::default(), 1, 1 << 20)).collect();
        let (request, state) = (Some(ParsedRequest::nothing()), Mutex::new(State::new(None)));
        let delivery = Delivery { shared: shared.clone(), request, state };
        let (missing, unknown) = (Vec::new(), Vec::new());
        let targets = Targets { found: sessions.clone(), missing, unknown, last: false, binary: false };
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
