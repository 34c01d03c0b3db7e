//! One request and its response, on a stream of HTTP/2.
//!
//! ```text
//!   PipeOut ── bytes ──▶ capacity? ── DATA ──▶ origin ── DATA ──▶ space? ── bytes ──▶ PipeIn
//!              backpressure in both directions: the client is read as fast as the origin server takes the body, and
//!              WINDOW_UPDATE is sent as bytes leave for the pipe.
//! ```
//! Dropping it ends the exchange in both directions: RST_STREAM, if it was not over, and truncated pipes.

use std::{
    io::{ErrorKind, IoSlice},
    net::IpAddr,
    task,
};

use http::{Method, uri};
use uncork::{PipeIn, PipeOut};

use super::{
    proxied_request::{Begun, Failure, ProxiedRequest, Share},
    proxied_stream::{Next, PendingResponse, Turn},
    shares::Permit,
};
use crate::{
    h2::{connection::Connection, frame::ErrorCode, state::Fault},
    relay::tunnel::{head, wakes::Wakes},
};

pub(super) struct Stream {
    number: u32,
    waker: task::Waker,
    request: Option<RequestBody>,
    response: ResponseState,
    share: Share,
    permit: Option<Permit>,
}

/// The request's body.
struct RequestBody {
    outlet: PipeOut,
    sent: u64,
    max: u64,
    listed: Vec<Box<str>>,
}

/// The response.
enum ResponseState {
    Head(Box<PendingResponse>),
    Body(PipeIn),
    Over,
}

impl Stream {
    /// Sends the head. `max_body`: the size limit of the body. Returns the stream's number, too.
    pub(super) fn begin(
        request: Box<ProxiedRequest>,
        connection: &mut Connection,
        wakes: &Wakes,
        max_body: u64,
    ) -> (u32, Self) {
        let ProxiedRequest { head, protocol, body, listed, responder, share, rejected_by, permit } = *request;
        let line = request_line(&head, protocol.as_deref());
        let fields = head.headers().iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        let line = line.into_iter().flatten().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let number = connection.begin(line.chain(fields), body.is_none(), head.method() == Method::HEAD);
        let waker = wakes.waker(number as usize);
        let request = body.map(|mut outlet| {
            outlet.on_data(waker.clone());
            RequestBody { outlet, sent: 0, max: max_body, listed }
        });
        responder.watch(&waker);
        let response = ResponseState::Head(Box::new(PendingResponse { head, protocol, rejected_by, responder }));
        (number, Self { number, waker, request, response, share, permit })
    }

    /// Moves what can be moved.
    pub(super) fn drive(&mut self, connection: &mut Connection, turn: &mut Turn) -> Next {
        if let ResponseState::Head(pending) = &mut self.response {
            if pending.responder.cancellation.is_over() {
                return Next::Over;
            }
            if let Some(next) = self.take_head(connection) {
                return next;
            }
        }
        let request = self.drive_request(connection, turn);
        if matches!(request, Next::Over | Next::RejectedUnread) {
            return request;
        }
        match self.drive_response(connection, turn) {
            Next::Pending => request,
            response => response,
        }
    }

    /// Returns the client's address, for limits.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.share.address
    }

    /// Returns a rejected request, to be retried elsewhere.
    pub(super) fn into_request(self) -> Option<Box<ProxiedRequest>> {
        let ResponseState::Head(pending) = self.response else { return None };
        let (body, listed) = self.request.map(|body| (body.outlet, body.listed)).unzip();
        Some(pending.into_request(body, listed.unwrap_or_default(), self.share))
    }

    /// Takes the head of the response, after its 1xx. Returns how the stream goes on, if that is decided now.
    fn take_head(&mut self, connection: &mut Connection) -> Option<Next> {
        let fault = connection.fault(self.number);
        while let ResponseState::Head(pending) = &mut self.response {
            let Some(received) = connection.take_head(self.number) else { break };
            if received.status < 200 {
                if !pending.responder.send_informational(received.status, &received.fields) {
                    return Some(self.fail(Failure::Malformed));
                }
                continue;
            }
            if let Some(fault) = fault {
                // 502 tells the client more than a response that is truncated at once.
                return Some(self.fail_by(fault));
            }
            let ResponseState::Head(pending) = std::mem::replace(&mut self.response, ResponseState::Over) else {
                break;
            };
            let whole = received.ended;
            if whole && self.request.is_none() {
                self.share.release();
                self.permit = None;
            }
            match pending.responder.begin("2.0", received.status, &received.fields, whole) {
                Begun::Body(mut inlet) => {
                    inlet.on_room(self.waker.clone());
                    self.response = ResponseState::Body(inlet);
                    return None;
                }
                Begun::WithoutBody if whole => return None,
                // A body that the client must not get: of HEAD, 204 or 304.
                Begun::WithoutBody | Begun::Disconnected => return Some(Next::Over),
            }
        }
        Some(match fault? {
            // RFC 9113 §8.7: another origin server may get the request.
            Fault::Unseen => Next::RejectedUnread,
            Fault::Reset(code) if code == ErrorCode::RefusedStream as u32 => Next::RejectedUnread,
            fault => self.fail_by(fault),
        })
    }

    /// Responds with an error, since the stream has ended before its response was complete.
    fn fail_by(&mut self, fault: Fault) -> Next {
        log::debug!(target: "uncork::relay", "no response of an origin server: {fault:?}");
        let is_malformed = matches!(fault, Fault::Own(_));
        self.fail(if is_malformed { Failure::Malformed } else { Failure::Lost })
    }

    fn fail(&mut self, failure: Failure) -> Next {
        if let ResponseState::Head(pending) = std::mem::replace(&mut self.response, ResponseState::Over) {
            pending.fail(failure);
        }
        Next::Over
    }

    /// Sends the request's body.
    fn drive_request(&mut self, connection: &mut Connection, turn: &mut Turn) -> Next {
        while let Some(body) = &mut self.request {
            let bytes = body.outlet.bytes();
            if bytes.is_empty() {
                if body.outlet.is_finished() {
                    let trailers = body.outlet.trailers();
                    let trailers = trailers.map(|trailers| head::request_trailers(&trailers, &body.listed));
                    connection.finish(self.number, trailers.as_ref());
                    self.request = None;
                    if let ResponseState::Head(pending) = &mut self.response {
                        pending.responder.restart_timeout(turn.now);
                    }
                    break;
                }
                if body.outlet.is_truncated() {
                    // The client has disconnected, or its body was malformed.
                    return Next::Over;
                }
                // The origin server may decline the rest of the body while it responds.
                if !connection.may_write(self.number) {
                    self.request = None;
                }
                return Next::Pending;
            }
            if turn.left == 0 {
                return Next::Slowed;
            }
            let bytes = &bytes[..bytes.len().min(turn.left)];
            if body.sent + bytes.len() as u64 > body.max {
                return self.fail(Failure::TooLarge);
            }
            let n = match connection.write(self.number, &[IoSlice::new(bytes)]) {
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Next::Pending,
                Err(_) => {
                    self.request = None;
                    break;
                }
            };
            body.outlet.consume(n);
            body.sent += n as u64;
            turn.request_bytes += n;
            turn.left -= n;
            if let ResponseState::Head(pending) = &mut self.response {
                pending.responder.restart_timeout(turn.now);
            }
        }
        Next::Pending
    }

    /// Forwards the response's body. What the pipe does not take, the origin server may not send anew.
    fn drive_response(&mut self, connection: &mut Connection, turn: &mut Turn) -> Next {
        while let ResponseState::Body(inlet) = &mut self.response {
            if connection.held(self.number) > 0 {
                let n = connection.take_with(self.number, turn.left, |bytes| inlet.write(bytes));
                turn.response_bytes += n;
                turn.left -= n;
                if n > 0 {
                    continue;
                }
                return match turn.left {
                    // A client that has disconnected does not wait for the rate.
                    _ if inlet.is_closed() => Next::Over,
                    0 => Next::Slowed,
                    _ => Next::Pending,
                };
            }
            if let Some(trailers) = connection.take_end(self.number) {
                if let ResponseState::Body(inlet) = std::mem::replace(&mut self.response, ResponseState::Over) {
                    inlet.finish(trailers.map(|trailers| head::trailers(&trailers)));
                }
                break;
            }
            if let Some(fault) = connection.fault(self.number) {
                log::debug!(target: "uncork::relay", "response truncated: {fault:?}");
                return Next::Truncated;
            }
            return if inlet.is_closed() { Next::Over } else { Next::Pending };
        }
        match (&self.response, &self.request) {
            (ResponseState::Over, None) => Next::Over,
            _ => Next::Pending,
        }
    }
}

/// Returns the fields of the request line (RFC 9113 §8.3.1, RFC 8441 §4).
fn request_line<'a>(head: &'a http::Request<()>, protocol: Option<&'a str>) -> [Option<(&'static str, &'a str)>; 5] {
    let uri = head.uri();
    let path = match uri.path_and_query().map_or("", uri::PathAndQuery::as_str) {
        "" if head.method() == Method::OPTIONS => "*",
        "" => "/",
        path => path,
    };
    [
        Some((":method", head.method().as_str())),
        uri.scheme_str().map(|scheme| (":scheme", scheme)),
        uri.authority().map(|authority| (":authority", authority.as_str())),
        Some((":path", path)),
        protocol.map(|protocol| (":protocol", protocol)),
    ]
}
