//! The calls of the application that send messages: `/send`, and `/close`, which ends the sessions after the message.

use std::sync::Arc;

use uncork::{Action, Consumed, LoopHandle, Request, Upload, h1::Headers};

#[cfg(feature = "directory")]
use super::remote::Outgoing;
use super::{
    access::ParsedRequest,
    delivery::{Delivery, Targets, is_binary},
    key::Key,
    shared::Shared,
    wire::{self, Problem, SizedResponse},
};

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
    let missing: Vec<_> = missing.map(|(key, _)| Key::from(key)).collect();
    // With a directory, another node may have them.
    let (missing, unknown) = match shared.has_directory() {
        true => (Vec::new(), missing),
        false => (missing.into_iter().map(|key| (Problem::NotFound, key)).collect(), Vec::new()),
    };
    if shared.config.strict_broadcast && !missing.is_empty() {
        return respond(wire::problems(&missing, true));
    }
    let limit = shared.config.limits.send;
    if req.content_length().is_some_and(|length| length > limit as u64) {
        return respond(too_large());
    }
    let binary = is_binary(req.header("content-type"));
    let targets = Targets { found: found.into_iter().flatten().collect(), missing, unknown, last, binary };
    let delivery = Delivery::of(shared, Some(request), req);
    let body = Body { delivery, targets: Some(targets), bytes: Vec::new(), limit, loop_handle: req.loop_handle() };
    match req.has_body() {
        true => Action::Receive(Box::new(body)),
        false => Box::new(body).end(&Headers::new()),
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
            return Consumed::Stop(self.delivery.response(too_large()).into());
        }
        self.bytes.extend_from_slice(chunk);
        Consumed::All
    }

    fn end(mut self: Box<Self>, _trailers: &Headers) -> Action {
        let Some(targets) = self.targets.take() else { return Action::Suspend };
        #[cfg(feature = "directory")]
        if let Some(directory) = self.delivery.directory().filter(|_| !targets.unknown.is_empty()) {
            let (delivery, loop_handle) = (self.delivery.clone(), self.loop_handle.clone());
            let outgoing = Outgoing { delivery, targets, message: std::mem::take(&mut self.bytes), loop_handle };
            outgoing.begin(&directory);
            return Action::Suspend;
        }
        self.delivery.clone().start(targets, &self.bytes, &self.loop_handle);
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
