//! One request and its response, on a stream of SPDY.
//!
//! ```text
//!   PipeOut ── bytes ──▶ window? ── DATA ──▶ origin ── DATA ──▶ held ── bytes ──▶ PipeIn
//!              backpressure in both directions: the client is read as fast as the origin server takes the body, and
//!              WINDOW_UPDATE is sent as bytes leave for the pipe. So `held` never exceeds a window.
//! ```

use std::task;

use uncork::{PipeIn, PipeOut, h1::Headers};

use super::{
    proxied_request::{Begun, Failure, ProxiedRequest, Share},
    proxied_stream::{Next, PendingResponse, Turn},
    shares::Permit,
};
use crate::relay::tunnel::{
    head,
    spdy::{OpenError, ReplyHead, RequestHead, Session},
};

pub(super) struct Stream {
    /// The stream number.
    pub(super) id: u32,
    waker: task::Waker,
    request: Option<RequestBody>,
    response: ResponseState,
    share: Share,
    _permit: Option<Permit>,
}

/// The request's body.
struct RequestBody {
    outlet: PipeOut,
    sent: u64,
    /// The declared length.
    length: Option<u64>,
    max: u64,
}

/// The response.
enum ResponseState {
    Head(Box<PendingResponse>),
    Body {
        /// Received, and not in the pipe yet, from `at` on.
        held: Vec<u8>,
        at: usize,
        /// The body ends behind `held`.
        end: bool,
        inlet: PipeIn,
    },
    Over,
}

impl Stream {
    /// Sends the head. Returns the stream number and the stream. `max_body`: the size limit of the body.
    pub(super) fn begin(
        mut request: Box<ProxiedRequest>,
        session: &mut Session,
        waker: task::Waker,
        max_body: u64,
    ) -> Result<(u32, Self), (Box<ProxiedRequest>, OpenError)> {
        let Some(head) = request_head(&request.head).filter(|_| request.protocol.is_none()) else {
            return Err((request, OpenError::InvalidHead));
        };
        let id = match session.open(&head, request.body.is_none()) {
            Ok(id) => id,
            Err(reason) => return Err((request, reason)),
        };
        let length = head::length(request.head.headers().get("content-length"));
        let body = request.body.take().map(|mut outlet| {
            outlet.on_data(waker.clone());
            RequestBody { outlet, sent: 0, length, max: max_body }
        });
        let ProxiedRequest { head, responder, share, rejected_by, permit, .. } = *request;
        responder.watch(&waker);
        let response = ResponseState::Head(Box::new(PendingResponse { head, protocol: None, rejected_by, responder }));
        Ok((id, Self { id, waker, request: body, response, share, _permit: permit }))
    }

    /// Returns a rejected request, to be retried elsewhere.
    pub(super) fn into_request(self) -> Option<Box<ProxiedRequest>> {
        let ResponseState::Head(pending) = self.response else { return None };
        // SPDY has no trailers, so no names of trailers are listed.
        Some(pending.into_request(self.request.map(|body| body.outlet), Vec::new(), self.share))
    }

    /// Handles SYN_REPLY; `end`: the response has no body.
    pub(super) fn replied(&mut self, head: &ReplyHead, end: bool) -> Next {
        let ResponseState::Head(pending) = std::mem::replace(&mut self.response, ResponseState::Over) else {
            return Next::Pending;
        };
        match pending.responder.begin("1.1", head.status, &head.fields, end) {
            Begun::Body(mut inlet) => {
                inlet.on_room(self.waker.clone());
                self.response = ResponseState::Body { held: Vec::new(), at: 0, end: false, inlet };
                Next::Pending
            }
            // A body of a response to HEAD, or of 204 and 304, is not forwarded; the session drops it.
            Begun::WithoutBody => self.whole(),
            Begun::Disconnected => Next::Over,
        }
    }

    /// Takes a part of the response's body. Returns how many bytes of it are dropped.
    pub(super) fn received(&mut self, bytes: Vec<u8>, last: bool) -> usize {
        let ResponseState::Body { held, end, .. } = &mut self.response else { return bytes.len() };
        if held.is_empty() {
            *held = bytes;
        } else {
            held.extend_from_slice(&bytes);
        }
        *end |= last;
        0
    }

    /// Handles RST_STREAM. `unseen`: the origin server has not begun with the request.
    pub(super) fn was_reset(&mut self, unseen: bool) -> Next {
        match &mut self.response {
            ResponseState::Head(_) if unseen => Next::RejectedUnread,
            ResponseState::Head(_) => self.fail(Failure::Lost),
            // The response is complete; the origin server may decline the rest of the request.
            ResponseState::Body { end: true, .. } | ResponseState::Over => {
                self.request = None;
                self.whole()
            }
            ResponseState::Body { .. } => Next::Truncated,
        }
    }

    /// Moves what can be moved.
    pub(super) fn drive(&mut self, session: &mut Session, turn: &mut Turn) -> Next {
        if let ResponseState::Head(pending) = &self.response
            && pending.responder.cancellation.is_over()
        {
            return Next::Over;
        }
        match self.drive_request(session, turn) {
            Next::Pending => self.drive_response(session, turn),
            Next::Slowed => match self.drive_response(session, turn) {
                Next::Pending => Next::Slowed,
                response => response,
            },
            request => request,
        }
    }

    fn whole(&self) -> Next {
        if self.request.is_none() && matches!(self.response, ResponseState::Over) {
            Next::Complete
        } else {
            Next::Pending
        }
    }

    fn fail(&mut self, failure: Failure) -> Next {
        if let ResponseState::Head(pending) = std::mem::replace(&mut self.response, ResponseState::Over) {
            pending.fail(failure);
        }
        Next::Over
    }

    /// Sends the request's body.
    fn drive_request(&mut self, session: &mut Session, turn: &mut Turn) -> Next {
        while let Some(body) = &mut self.request {
            let bytes = body.outlet.bytes();
            if bytes.is_empty() {
                if body.outlet.is_truncated() {
                    // The client has disconnected, or its body was malformed.
                    return Next::Over;
                }
                if !body.outlet.is_finished() || !session.data(self.id, &[], true).1 {
                    return Next::Pending;
                }
                self.request = None;
            } else {
                if turn.left == 0 {
                    return Next::Slowed;
                }
                let all = body.sent + bytes.len() as u64;
                if all > body.max {
                    return self.fail(Failure::TooLarge);
                }
                // A spdy-proxy ends with the last frame of the body, not with an empty one behind it.
                let (n, ended) = session.data(self.id, bytes, body.length == Some(all));
                if n == 0 {
                    return Next::Pending;
                }
                body.outlet.consume(n);
                body.sent += n as u64;
                turn.request_bytes += n;
                if ended {
                    self.request = None;
                }
            }
            if let ResponseState::Head(pending) = &mut self.response {
                pending.responder.restart_timeout(turn.now);
            }
        }
        Next::Pending
    }

    /// Forwards the response's body.
    fn drive_response(&mut self, session: &mut Session, turn: &mut Turn) -> Next {
        if let ResponseState::Body { held, at, end, inlet } = &mut self.response {
            if *at < held.len() {
                if turn.left == 0 {
                    // A client that has disconnected does not wait for the rate.
                    return if inlet.is_closed() { Next::Over } else { Next::Slowed };
                }
                let n = inlet.write(&held[*at..]);
                *at += n;
                turn.response_bytes += n;
                session.release(self.id, n);
                if *at < held.len() {
                    return if inlet.is_closed() { Next::Over } else { Next::Pending };
                }
                (*held, *at) = (Vec::new(), 0);
            }
            if !*end {
                return if inlet.is_closed() { Next::Over } else { Next::Pending };
            }
            if let ResponseState::Body { inlet, .. } = std::mem::replace(&mut self.response, ResponseState::Over) {
                inlet.finish(None);
            }
        }
        self.whole()
    }
}

/// Returns a request's head in SPDY.
fn request_head(head: &http::Request<()>) -> Option<RequestHead> {
    let uri = head.uri();
    let mut fields = Headers::new();
    for (name, value) in head.headers() {
        fields.append(name.as_str(), value.as_bytes()).ok()?;
    }
    Some(RequestHead {
        method: head.method().as_str().to_owned(),
        path: uri.path_and_query()?.as_str().to_owned(),
        host: uri.authority()?.as_str().to_owned(),
        scheme: uri.scheme_str()?.to_owned(),
        fields,
    })
}
