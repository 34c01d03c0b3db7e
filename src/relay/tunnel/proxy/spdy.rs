//! One request and its answer, on a stream of SPDY.
//!
//! ```text
//!   PipeOut ── bytes ──▶ window? ── DATA ──▶ origin ── DATA ──▶ held ── bytes ──▶ PipeIn
//!              the client is read as fast as the origin takes it, and the other way round: WINDOW_UPDATE goes out as
//!              bytes leave for the pipe, and `held` is never more than a window
//! ```

use std::task;

use http::{HeaderMap, HeaderName, HeaderValue};
use uncork::{PipeIn, PipeOut, h1::Headers};

use super::{
    proxied_request::{Begun, Failure, ProxiedRequest, Share},
    proxied_stream::{Next, Turn, Waiting},
    shares::Place,
};
use crate::relay::tunnel::{
    head,
    spdy::{NotOpened, ReplyHead, RequestHead, Session},
};

pub(super) struct Stream {
    /// Its number.
    pub(super) id: u32,
    waker: task::Waker,
    up: Option<Up>,
    down: Down,
    share: Share,
    _place: Option<Place>,
}

/// The request's body.
struct Up {
    outlet: PipeOut,
    sent: u64,
    /// What it was said to be.
    length: Option<u64>,
    most: u64,
}

/// The answer.
enum Down {
    Head(Box<Waiting>),
    Body {
        /// Received, and not in the pipe yet, from `at` on.
        held: Vec<u8>,
        at: usize,
        /// Nothing comes behind it.
        end: bool,
        inlet: PipeIn,
    },
    Over,
}

impl Stream {
    /// Sends the head: the stream and its number. `most`: bytes the body may have.
    pub(super) fn begin(
        mut order: Box<ProxiedRequest>,
        session: &mut Session,
        waker: task::Waker,
        most: u64,
    ) -> Result<(u32, Self), (Box<ProxiedRequest>, NotOpened)> {
        let Some(asked) = request(&order.head).filter(|_| order.protocol.is_none()) else {
            return Err((order, NotOpened::Unfit));
        };
        let id = match session.open(&asked, order.body.is_none()) {
            Ok(id) => id,
            Err(why) => return Err((order, why)),
        };
        let length = head::length(order.head.headers());
        let up = order.body.take().map(|mut outlet| {
            outlet.on_data(waker.clone());
            Up { outlet, sent: 0, length, most }
        });
        let ProxiedRequest { head, reply, share, refused_by, place, .. } = *order;
        reply.watch(&waker);
        let down = Down::Head(Box::new(Waiting { head, protocol: None, refused_by, reply }));
        Ok((id, Self { id, waker, up, down, share, _place: place }))
    }

    /// What was refused, to be tried elsewhere.
    pub(super) fn into_request(self) -> Option<Box<ProxiedRequest>> {
        let Down::Head(waiting) = self.down else { return None };
        // SPDY has no trailers, so no names of trailers are listed.
        Some(waiting.into_request(self.up.map(|up| up.outlet), Vec::new(), self.share))
    }

    /// The answer has begun; `end`: it has no body.
    pub(super) fn replied(&mut self, head: &ReplyHead, end: bool) -> Next {
        let Some(fields) = map(&head.fields) else { return self.fail(Failure::Senseless) };
        let Down::Head(waiting) = std::mem::replace(&mut self.down, Down::Over) else { return Next::Waits };
        match waiting.reply.begin("1.1", head.status, &fields, end) {
            Begun::Body(mut inlet) => {
                inlet.on_room(self.waker.clone());
                self.down = Down::Body { held: Vec::new(), at: 0, end: false, inlet };
                Next::Waits
            }
            // Of what follows on HEAD, 204 and 304, nothing is told; the session drops it.
            Begun::Whole => self.whole(),
            Begun::Gone => Next::Over,
        }
    }

    /// Some of the answer's body came; how much of it nobody wants.
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

    /// It is over, whatever was still to come. `unseen`: the origin has not looked at it.
    pub(super) fn was_reset(&mut self, unseen: bool) -> Next {
        match &mut self.down {
            Down::Head(_) if unseen => Next::Refused,
            Down::Head(_) => self.fail(Failure::Lost),
            // All of the answer is here: that the origin takes no more of the request is its right.
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
            && waiting.reply.call.is_over()
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
                    // The client has left, or what it sent was no body.
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
                // The originals end with the last of the body, not behind it.
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
                waiting.reply.set_clock(turn.now);
            }
        }
        Next::Waits
    }

    /// The answer's body.
    fn drive_down(&mut self, session: &mut Session, turn: &mut Turn) -> Next {
        if let Down::Body { held, at, end, inlet } = &mut self.down {
            if *at < held.len() {
                if turn.left == 0 {
                    // A client that left does not wait for the rate.
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

/// A request's head in SPDY.
fn request(head: &http::Request<()>) -> Option<RequestHead> {
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

/// An answer's fields, as the client's side reads them.
fn map(fields: &Headers) -> Option<HeaderMap> {
    let mut map = HeaderMap::new();
    for (name, value) in fields.iter() {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        map.try_append(name, HeaderValue::from_bytes(value).ok()?).ok()?;
    }
    Some(map)
}
