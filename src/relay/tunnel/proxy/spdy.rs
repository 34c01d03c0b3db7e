//! One request and its response, on a stream of SPDY.
//!
//! ```text
//!   PipeOut ── bytes ──▶ window? ── DATA ──▶ origin ── DATA ──▶ held ── bytes ──▶ PipeIn
//!              backpressure in both directions: the client is read as fast as the origin server takes the body, and
//!              WINDOW_UPDATE is sent as bytes leave for the pipe. So `held` never exceeds a window.
//! ```

use std::task;

use http::{HeaderMap, HeaderName, HeaderValue};
use uncork::{PipeIn, PipeOut, h1::Headers};

use super::{
    proxied_request::{Begun, Failure, ProxiedRequest, Share},
    proxied_stream::{Next, Turn, Waiting},
    shares::Permit,
};
use crate::relay::tunnel::{
    head,
    spdy::{NotOpened, ReplyHead, RequestHead, Session},
};

pub(super) struct Stream {
    /// The stream number.
    pub(super) id: u32,
    waker: task::Waker,
    up: Option<Up>,
    down: Down,
    share: Share,
    _permit: Option<Permit>,
}

/// The request's body.
struct Up {
    outlet: PipeOut,
    sent: u64,
    /// The declared length.
    length: Option<u64>,
    most: u64,
}

/// The response.
enum Down {
    Head(Box<Waiting>),
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
    /// Sends the head. Returns the stream number and the stream. `most`: the size limit of the body.
    pub(super) fn begin(
        mut request: Box<ProxiedRequest>,
        session: &mut Session,
        waker: task::Waker,
        most: u64,
    ) -> Result<(u32, Self), (Box<ProxiedRequest>, NotOpened)> {
        let Some(head) = request_head(&request.head).filter(|_| request.protocol.is_none()) else {
            return Err((request, NotOpened::Unfit));
        };
        let id = match session.open(&head, request.body.is_none()) {
            Ok(id) => id,
            Err(reason) => return Err((request, reason)),
        };
        let length = head::length(request.head.headers());
        let up = request.body.take().map(|mut outlet| {
            outlet.on_data(waker.clone());
            Up { outlet, sent: 0, length, most }
        });
        let ProxiedRequest { head, responder, share, refused_by, permit, .. } = *request;
        responder.watch(&waker);
        let down = Down::Head(Box::new(Waiting { head, protocol: None, refused_by, responder }));
        Ok((id, Self { id, waker, up, down, share, _permit: permit }))
    }

    /// Returns a refused request, to be tried elsewhere.
    pub(super) fn into_request(self) -> Option<Box<ProxiedRequest>> {
        let Down::Head(waiting) = self.down else { return None };
        // SPDY has no trailers, so no names of trailers are listed.
        Some(waiting.into_request(self.up.map(|up| up.outlet), Vec::new(), self.share))
    }

    /// The response begins; `end`: it has no body.
    pub(super) fn replied(&mut self, head: &ReplyHead, end: bool) -> Next {
        let Some(fields) = map(&head.fields) else { return self.fail(Failure::Malformed) };
        let Down::Head(waiting) = std::mem::replace(&mut self.down, Down::Over) else { return Next::Waits };
        match waiting.responder.begin("1.1", head.status, &fields, end) {
            Begun::Body(mut inlet) => {
                inlet.on_room(self.waker.clone());
                self.down = Down::Body { held: Vec::new(), at: 0, end: false, inlet };
                Next::Waits
            }
            // A body of a response to HEAD, or of 204 and 304, is not forwarded; the session drops it.
            Begun::NoBody => self.whole(),
            Begun::Disconnected => Next::Over,
        }
    }

    /// Takes a part of the response's body. Returns how many bytes of it are dropped.
    pub(super) fn received(&mut self, bytes: Vec<u8>, last: bool) -> usize {
        let Down::Body { held, end, .. } = &mut self.down else { return bytes.len() };
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
        match &mut self.down {
            Down::Head(_) if unseen => Next::Refused,
            Down::Head(_) => self.fail(Failure::Lost),
            // The response is complete; the origin server may decline the rest of the request.
            Down::Body { end: true, .. } | Down::Over => {
                self.up = None;
                self.whole()
            }
            Down::Body { .. } => Next::Truncated,
        }
    }

    /// Moves what can be moved.
    pub(super) fn drive(&mut self, session: &mut Session, turn: &mut Turn) -> Next {
        if let Down::Head(waiting) = &self.down
            && waiting.responder.cancellation.is_over()
        {
            return Next::Over;
        }
        match self.drive_up(session, turn) {
            Next::Waits => self.drive_down(session, turn),
            Next::Slowed => match self.drive_down(session, turn) {
                Next::Waits => Next::Slowed,
                down => down,
            },
            up => up,
        }
    }

    fn whole(&self) -> Next {
        if self.up.is_none() && matches!(self.down, Down::Over) { Next::Complete } else { Next::Waits }
    }

    fn fail(&mut self, failure: Failure) -> Next {
        if let Down::Head(waiting) = std::mem::replace(&mut self.down, Down::Over) {
            waiting.fail(failure);
        }
        Next::Over
    }

    /// The request's body.
    fn drive_up(&mut self, session: &mut Session, turn: &mut Turn) -> Next {
        while let Some(up) = &mut self.up {
            let bytes = up.outlet.bytes();
            if bytes.is_empty() {
                if up.outlet.is_truncated() {
                    // The client has disconnected, or its body was malformed.
                    return Next::Over;
                }
                if !up.outlet.is_finished() || !session.data(self.id, &[], true).1 {
                    return Next::Waits;
                }
                self.up = None;
            } else {
                if turn.left == 0 {
                    return Next::Slowed;
                }
                let all = up.sent + bytes.len() as u64;
                if all > up.most {
                    return self.fail(Failure::TooLarge);
                }
                // A spdy-proxy ends with the last frame of the body, not with an empty one behind it.
                let (n, ended) = session.data(self.id, bytes, up.length == Some(all));
                if n == 0 {
                    return Next::Waits;
                }
                up.outlet.consume(n);
                up.sent += n as u64;
                turn.up += n;
                if ended {
                    self.up = None;
                }
            }
            if let Down::Head(waiting) = &mut self.down {
                waiting.responder.restart_timeout(turn.now);
            }
        }
        Next::Waits
    }

    /// The response's body.
    fn drive_down(&mut self, session: &mut Session, turn: &mut Turn) -> Next {
        if let Down::Body { held, at, end, inlet } = &mut self.down {
            if *at < held.len() {
                if turn.left == 0 {
                    // A client that has disconnected does not wait for the rate.
                    return if inlet.is_closed() { Next::Over } else { Next::Slowed };
                }
                let n = inlet.write(&held[*at..]);
                *at += n;
                turn.down += n;
                session.release(self.id, n);
                if *at < held.len() {
                    return if inlet.is_closed() { Next::Over } else { Next::Waits };
                }
                (*held, *at) = (Vec::new(), 0);
            }
            if !*end {
                return if inlet.is_closed() { Next::Over } else { Next::Waits };
            }
            if let Down::Body { inlet, .. } = std::mem::replace(&mut self.down, Down::Over) {
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

/// Returns a response's fields.
fn map(fields: &Headers) -> Option<HeaderMap> {
    let mut map = HeaderMap::new();
    for (name, value) in fields.iter() {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        map.try_append(name, HeaderValue::from_bytes(value).ok()?).ok()?;
    }
    Some(map)
}
