//! One request and its response, on a stream of HTTP/2.
//!
//! ```text
//!   PipeOut ── bytes ──▶ capacity? ── DATA ──▶ origin ── DATA ──▶ space? ── bytes ──▶ PipeIn
//!              backpressure in both directions: the client is read as fast as the origin server takes the body, and
//!              WINDOW_UPDATE is sent as bytes leave for the pipe.
//! ```
//! Dropping it ends the exchange in both directions: RST_STREAM, if it was not over, and truncated pipes.

use std::{
    future::Future,
    net::IpAddr,
    pin::Pin,
    task::{self, Context, Poll},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, client};
use uncork::{PipeIn, PipeOut};

use super::{
    proxied_request::{Begun, Failure, ProxiedRequest, Share},
    proxied_stream::{Next, PendingResponse, Turn},
    shares::Permit,
};
use crate::relay::tunnel::{gathered::Gathered, head, printable::h2_error};

pub(super) struct Stream {
    waker: task::Waker,
    request: Option<RequestBody>,
    response: ResponseState,
    share: Share,
    permit: Option<Permit>,
}

/// The request's body.
struct RequestBody {
    outlet: PipeOut,
    send: SendStream<Bytes>,
    sent: u64,
    max: u64,
    listed: Vec<Box<str>>,
}

/// The response.
enum ResponseState {
    Head(client::ResponseFuture, Box<PendingResponse>),
    Body {
        recv: RecvStream,
        /// Received, and not in the pipe yet.
        held: Gathered,
        inlet: PipeIn,
    },
    Over,
}

impl Stream {
    /// Sends the head. `max_body`: the size limit of the body. Returns `None` if that failed; the client has got an
    /// error then.
    pub(super) fn begin(
        request: Box<ProxiedRequest>,
        send: &mut client::SendRequest<Bytes>,
        waker: task::Waker,
        max_body: u64,
    ) -> Option<Self> {
        let ProxiedRequest { head, protocol, body, listed, responder, share, rejected_by, permit } = *request;
        let mut request = head.clone();
        if let Some(protocol) = &protocol {
            request.extensions_mut().insert(h2::ext::Protocol::from(&**protocol));
        }
        match send.send_request(request, body.is_none()) {
            Ok((response, send)) => {
                let request = body.map(|mut outlet| {
                    outlet.on_data(waker.clone());
                    RequestBody { outlet, send, sent: 0, max: max_body, listed }
                });
                responder.watch(&waker);
                let pending = Box::new(PendingResponse { head, protocol, rejected_by, responder });
                Some(Self { waker, request, response: ResponseState::Head(response, pending), share, permit })
            }
            Err(error) => {
                log::debug!(target: "uncork::relay", "cannot send a request: {}", h2_error(&error));
                responder.fail(Failure::Lost);
                None
            }
        }
    }

    /// Moves what can be moved.
    pub(super) fn drive(&mut self, turn: &mut Turn) -> Next {
        let waker = self.waker.clone();
        let cx = &mut Context::from_waker(&waker);
        if let ResponseState::Head(_, pending) = &mut self.response {
            if pending.responder.cancellation.is_over() {
                return Next::Over;
            }
            if let Some(next) = self.poll_head(cx) {
                return next;
            }
        }
        let request = self.drive_request(cx, turn);
        if matches!(request, Next::Over | Next::RejectedUnread) {
            return request;
        }
        match self.drive_response(cx, turn) {
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
        let ResponseState::Head(_, pending) = self.response else { return None };
        let (body, listed) = self.request.map(|body| (body.outlet, body.listed)).unzip();
        Some(pending.into_request(body, listed.unwrap_or_default(), self.share))
    }

    /// Polls the head of the response, after its 1xx. Returns how the stream goes on, if that is decided now.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Option<Next> {
        let ResponseState::Head(response, pending) = &mut self.response else { return None };
        while let Poll::Ready(Some(Ok(head))) = response.poll_informational(cx) {
            if !pending.responder.send_informational(head.status().as_u16(), head.headers()) {
                return Some(self.fail(Failure::Malformed));
            }
        }
        match Pin::new(response).poll(cx) {
            Poll::Pending => None,
            Poll::Ready(Ok(response)) => {
                let ResponseState::Head(_, pending) = std::mem::replace(&mut self.response, ResponseState::Over) else {
                    return None;
                };
                let (parts, recv) = response.into_parts();
                let whole = recv.is_end_stream();
                if whole && self.request.is_none() {
                    self.share.release();
                    self.permit = None;
                }
                match pending.responder.begin("2.0", parts.status.as_u16(), &parts.headers, whole) {
                    Begun::Body(mut inlet) => {
                        inlet.on_room(self.waker.clone());
                        self.response = ResponseState::Body { recv, held: Gathered::default(), inlet };
                        None
                    }
                    Begun::WithoutBody if whole => None,
                    // A body that the client must not get: of HEAD, 204 or 304.
                    Begun::WithoutBody | Begun::Disconnected => Some(Next::Over),
                }
            }
            Poll::Ready(Err(error)) if is_unseen(&error) => Some(Next::RejectedUnread),
            Poll::Ready(Err(error)) => {
                let malformed = error.reason() == Some(Reason::PROTOCOL_ERROR) && error.is_library();
                log::debug!(target: "uncork::relay", "no response of an origin server: {}", h2_error(&error));
                Some(self.fail(if malformed { Failure::Malformed } else { Failure::Lost }))
            }
        }
    }

    fn fail(&mut self, failure: Failure) -> Next {
        if let ResponseState::Head(_, pending) = std::mem::replace(&mut self.response, ResponseState::Over) {
            pending.fail(failure);
        }
        Next::Over
    }

    /// Sends the request's body.
    fn drive_request(&mut self, cx: &mut Context<'_>, turn: &mut Turn) -> Next {
        while let Some(body) = &mut self.request {
            let bytes = body.outlet.bytes();
            if bytes.is_empty() {
                if body.outlet.is_finished() {
                    let sent = match body.outlet.trailers() {
                        Some(trailers) => body.send.send_trailers(head::trailers_to_http2(&trailers, &body.listed)),
                        None => body.send.send_data(Bytes::new(), true),
                    };
                    // If this fails, the response reports it.
                    drop(sent);
                    self.request = None;
                    if let ResponseState::Head(_, pending) = &mut self.response {
                        pending.responder.restart_timeout(turn.now);
                    }
                    break;
                }
                if body.outlet.is_truncated() {
                    // The client has disconnected, or its body was malformed.
                    return Next::Over;
                }
                // The origin server may decline the rest of the body while it responds.
                if body.send.poll_reset(cx).is_ready() {
                    self.request = None;
                }
                return Next::Pending;
            }
            if turn.left == 0 {
                return Next::Slowed;
            }
            let n = bytes.len().min(body.send.capacity()).min(turn.left);
            if n == 0 {
                let want = bytes.len();
                body.send.reserve_capacity(want);
                match body.send.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(_))) => continue,
                    Poll::Ready(_) => self.request = None,
                    Poll::Pending => {}
                }
                return Next::Pending;
            }
            body.sent += n as u64;
            if body.sent > body.max {
                return self.fail(Failure::TooLarge);
            }
            let data = Bytes::copy_from_slice(&bytes[..n]);
            body.outlet.consume(n);
            if body.send.send_data(data, false).is_err() {
                self.request = None;
                break;
            }
            turn.request_bytes += n;
            turn.left -= n;
            if let ResponseState::Head(_, pending) = &mut self.response {
                pending.responder.restart_timeout(turn.now);
            }
        }
        Next::Pending
    }

    /// Forwards the response's body.
    fn drive_response(&mut self, cx: &mut Context<'_>, turn: &mut Turn) -> Next {
        while let ResponseState::Body { recv, held, inlet } = &mut self.response {
            let front = held.front();
            if !front.is_empty() {
                let all = front.len();
                let n = inlet.write(&front[..all.min(turn.left)]);
                held.advance(n);
                turn.response_bytes += n;
                turn.left -= n;
                let _ = recv.flow_control().release_capacity(n);
                if n == all {
                    continue;
                }
            }
            if !held.is_empty() || turn.left == 0 {
                held.gather(recv, cx);
                return match turn.left {
                    // A client that has disconnected does not wait for the rate.
                    _ if inlet.is_closed() => Next::Over,
                    0 => Next::Slowed,
                    _ => Next::Pending,
                };
            }
            match recv.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => held.push(data),
                Poll::Ready(Some(Err(error))) => {
                    log::debug!(target: "uncork::relay", "response truncated: {}", h2_error(&error));
                    return Next::Truncated;
                }
                Poll::Pending => return if inlet.is_closed() { Next::Over } else { Next::Pending },
                Poll::Ready(None) => match recv.poll_trailers(cx) {
                    Poll::Ready(Ok(trailers)) => {
                        if let ResponseState::Body { inlet, .. } =
                            std::mem::replace(&mut self.response, ResponseState::Over)
                        {
                            inlet.finish(trailers.as_ref().map(head::trailers));
                        }
                    }
                    Poll::Ready(Err(_)) => return Next::Truncated,
                    Poll::Pending => return Next::Pending,
                },
            }
        }
        match (&self.response, &self.request) {
            (ResponseState::Over, None) => Next::Over,
            _ => Next::Pending,
        }
    }
}

/// Returns `true` if the origin server has not begun with the request, so that another one may get it (RFC 9113 §8.7).
/// It has rejected the request then, or has sent GOAWAY with a lower number.
fn is_unseen(error: &h2::Error) -> bool {
    error.is_remote() && (error.is_go_away() || (error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM)))
}
