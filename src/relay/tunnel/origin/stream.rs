//! One request on a stream of HTTP/2, served as a connection of HTTP/1.1 that consists of two pipes.
//!
//! ```text
//!   HEADERS, DATA ─▶ RequestWriter ─▶ PipeIn ══▶ the engine ══▶ PipeOut ─▶ ResponseReader ─▶ HEADERS, DATA
//!        ◀─ WINDOW_UPDATE, as bytes leave for the pipe       written as fast as h2 has capacity ─┘
//! ```
//! Pipes and buffers are bounded: a receiver that does not read stops its sender, from end to end. Dropping a stream
//! ends it in both directions: RST_STREAM if it was not over, and truncated pipes.
//!
//! Bytes behind a request are never parsed as another request. A body is never longer than its declared length, and the
//! bytes of a raw stream are held back until the handler has switched protocols.

use std::task::{self, Context, Poll};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, StatusCode, header};
use uncork::{
    LoopHandle, PeerAddr, PipeIn, PipeOut,
    h1::{
        Headers, is_hop_by_hop,
        write::{CHUNK_END, LAST_CHUNK, Sink, chunk_head, trailers},
    },
    pipe,
};

use super::parsed_request::{Framing, parse};
use crate::relay::tunnel::{
    gathered::Gathered,
    head,
    response::{Piece, ResponseHead, ResponseReader},
};

/// Size of a pipe in bytes. A request without a body needs only the size of its head.
pub(super) const PIPE: usize = 64 * 1024;

pub(super) struct Stream {
    waker: task::Waker,
    request: RequestWriter,
    reader: ResponseReader<PipeOut>,
    response: ResponseState,
    upgrade: bool,
}

/// Writes the request, in HTTP/1.1.
struct RequestWriter {
    /// `None`: the request is complete.
    recv: Option<RecvStream>,
    inlet: Option<PipeIn>,
    framing: Framing,
    /// The head, or the framing of a chunk, that is not in the pipe yet.
    own: Vec<u8>,
    /// The part of the body that is not in the pipe yet.
    held: Gathered,
    /// Number of bytes of `held` that go into the pipe behind `own`, before the framing of the next chunk.
    piece: usize,
    /// The part of `Content-Length` that is left.
    left: u64,
}

/// The progress of the response.
enum ResponseState {
    Head(SendResponse<Bytes>),
    Body(SendStream<Bytes>),
    Over,
}

/// The loop that serves a tunnel's requests, their listener, and their default peer.
#[derive(Clone)]
pub(super) struct Served {
    pub(super) loop_handle: LoopHandle,
    pub(super) listener: usize,
    pub(super) peer: PeerAddr,
}

impl Stream {
    /// Begins to serve a request. Returns `None` if it was rejected, or if the loop has ended.
    pub(super) fn begin(
        request: http::Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        served: &Served,
        waker: task::Waker,
    ) -> Option<Self> {
        let (parts, recv) = request.into_parts();
        let ended = recv.is_end_stream();
        let parsed = match parse(&parts, ended) {
            Ok(parsed) => parsed,
            Err(reason) => {
                log::debug!(target: "uncork::relay", "request of the tunnel rejected: {reason}");
                respond.send_reset(Reason::PROTOCOL_ERROR);
                return None;
            }
        };
        let capacity = if ended { parsed.head.len() } else { PIPE };
        let ((mut inlet, input), (output, mut outlet)) = (pipe(capacity), pipe(PIPE));
        inlet.on_room(waker.clone());
        outlet.on_data(waker.clone());
        let peer = client(&parts.headers).unwrap_or(served.peer);
        if served.loop_handle.adopt_pipes(peer, input, output, served.listener).is_err() {
            respond.send_reset(Reason::REFUSED_STREAM);
            return None;
        }
        let request = RequestWriter {
            recv: (!ended).then_some(recv),
            inlet: Some(inlet),
            framing: parsed.framing,
            own: parsed.head,
            held: Gathered::default(),
            piece: 0,
            left: parsed.length,
        };
        let reader = ResponseReader::new(outlet, parsed.method);
        Some(Self { waker, request, reader, response: ResponseState::Head(respond), upgrade: parsed.upgrade })
    }

    /// Moves what can be moved. Returns `true` if the stream is over.
    pub(super) fn drive(&mut self) -> bool {
        let waker = self.waker.clone();
        let cx = &mut Context::from_waker(&waker);
        let reset = match &mut self.response {
            ResponseState::Head(respond) => respond.poll_reset(cx).is_ready(),
            ResponseState::Body(send) => send.poll_reset(cx).is_ready(),
            ResponseState::Over => false,
        };
        // The proxy or its client has cancelled the request.
        if reset || self.request.drive(cx).is_err() {
            return true;
        }
        if let Err(reason) = self.drive_response(cx) {
            log::debug!(target: "uncork::relay", "response aborted: {reason}");
            match &mut self.response {
                ResponseState::Head(respond) => respond.send_reset(Reason::INTERNAL_ERROR),
                ResponseState::Body(send) => send.send_reset(Reason::INTERNAL_ERROR),
                ResponseState::Over => {}
            }
            return true;
        }
        // The response may be complete before the request is, and the handler may still receive that.
        if !matches!(self.response, ResponseState::Over) || !self.request.is_over() {
            return false;
        }
        self.request.finish();
        true
    }

    fn drive_response(&mut self, cx: &mut Context<'_>) -> Result<(), &'static str> {
        loop {
            match self.reader.next() {
                Piece::Pending => return Ok(()),
                Piece::Broken(reason) => return Err(reason),
                Piece::Informational(status, fields) => {
                    if let (ResponseState::Head(respond), Ok(status)) =
                        (&mut self.response, StatusCode::from_u16(status))
                    {
                        let mut informational = http::Response::new(());
                        *informational.status_mut() = status;
                        *informational.headers_mut() = head::to_map(&fields);
                        // An informational response (1xx) that HTTP/2 rejects is dropped; the final one is sent.
                        let _ = respond.send_informational(informational);
                    }
                }
                Piece::Head(head) => self.begin_response(&head)?,
                Piece::Data { bytes, last } => {
                    let ResponseState::Body(send) = &mut self.response else { return Err("a body without a head") };
                    let n = bytes.len().min(send.capacity());
                    if n == 0 {
                        send.reserve_capacity(bytes.len());
                        match send.poll_capacity(cx) {
                            Poll::Ready(Some(Ok(_))) => continue,
                            Poll::Ready(_) => return Err("the stream is closed"),
                            Poll::Pending => return Ok(()),
                        }
                    }
                    let end = last && n == bytes.len();
                    let data = Bytes::copy_from_slice(&bytes[..n]);
                    send.send_data(data, end).map_err(|_| "the stream is closed")?;
                    self.reader.consume(n);
                    if end {
                        self.response = ResponseState::Over;
                    }
                }
                Piece::End(trailers) => {
                    let ResponseState::Body(send) = &mut self.response else { return Err("an end without a head") };
                    let sent = match trailers {
                        Some(trailers) => send.send_trailers(head::to_map(&trailers)),
                        None => send.send_data(Bytes::new(), true),
                    };
                    sent.map_err(|_| "the stream is closed")?;
                    self.response = ResponseState::Over;
                }
            }
        }
    }

    fn begin_response(&mut self, head: &ResponseHead) -> Result<(), &'static str> {
        let ResponseState::Head(respond) = &mut self.response else { return Err("two responses") };
        let status = match head.status {
            _ if head.switched => 200,
            // It would mean that the protocol has changed (RFC 8441 §5).
            200..300 if self.upgrade => 502,
            status => status,
        };
        let mut response = http::Response::new(());
        *response.status_mut() = StatusCode::from_u16(status).map_err(|_| "invalid status")?;
        let mut map = head::to_map(&head.fields);
        if head.switched {
            // HTTP/2 has no proof of an upgrade (RFC 8441 §5).
            map.remove(header::SEC_WEBSOCKET_ACCEPT);
            map.remove(header::CONTENT_LENGTH);
        }
        *response.headers_mut() = map;
        let send = respond.send_response(response, head.whole).map_err(|_| "the stream is closed")?;
        self.response = if head.whole { ResponseState::Over } else { ResponseState::Body(send) };
        if self.request.framing == Framing::Raw {
            self.request.switched(head.switched);
            self.waker.wake_by_ref();
        }
        Ok(())
    }
}

impl RequestWriter {
    /// Passes on what follows, in the new protocol. If the handler has not accepted that, it is dropped.
    fn switched(&mut self, accepted: bool) {
        self.framing = Framing::None;
        if !accepted {
            self.recv = None;
            self.held = Gathered::default();
        }
    }

    fn is_over(&self) -> bool {
        let closed = self.inlet.as_ref().is_none_or(PipeIn::is_closed);
        closed || (self.recv.is_none() && self.own.is_empty() && self.held.is_empty())
    }

    fn finish(&mut self) {
        if let Some(inlet) = self.inlet.take() {
            inlet.finish(None);
        }
    }

    /// Moves the request on. An error: the request is truncated.
    fn drive(&mut self, cx: &mut Context<'_>) -> Result<(), ()> {
        let Some(inlet) = &mut self.inlet else { return Ok(()) };
        loop {
            if !self.own.is_empty() {
                let n = inlet.write(&self.own);
                self.own.drain(..n);
            }
            if self.own.is_empty() && self.piece > 0 {
                let n = inlet.write(&self.held.front()[..self.piece]);
                self.held.advance(n);
                self.piece -= n;
                if let Some(recv) = &mut self.recv {
                    let _ = recv.flow_control().release_capacity(n);
                }
                if self.piece == 0 && self.framing == Framing::Chunked {
                    self.own.extend_from_slice(CHUNK_END);
                    continue;
                }
            }
            if !self.own.is_empty() || self.piece > 0 || self.framing == Framing::Raw {
                if let Some(recv) = &mut self.recv {
                    self.held.gather(recv, cx);
                }
                return Ok(());
            }
            if !self.held.is_empty() {
                self.piece = self.held.front().len();
                match self.framing {
                    Framing::Chunked => {
                        let mut size = [0; 18];
                        let n = chunk_head(self.piece, &mut size);
                        self.own.extend_from_slice(&size[..n]);
                    }
                    // h2 has checked this. It is checked again, because other bytes would be parsed as another request.
                    Framing::Length => self.left = self.left.checked_sub(self.piece as u64).ok_or(())?,
                    Framing::None | Framing::Raw => {}
                }
                continue;
            }
            let Some(recv) = &mut self.recv else { return Ok(()) };
            match recv.poll_data(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Some(Err(_))) => return Err(()),
                Poll::Ready(Some(Ok(data))) => self.held.push(data),
                Poll::Ready(None) => match recv.poll_trailers(cx) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(Err(_)) => return Err(()),
                    Poll::Ready(Ok(map)) => {
                        self.recv = None;
                        match self.framing {
                            Framing::Chunked => end_chunks(map.as_ref(), &mut self.own),
                            Framing::Length if self.left > 0 => return Err(()),
                            Framing::Length | Framing::Raw => {}
                            // These end the new protocol's stream.
                            Framing::None => {
                                self.finish();
                                return Ok(());
                            }
                        }
                    }
                },
            }
        }
    }
}

/// Writes the last chunk, with the trailers that HTTP/1.1 allows.
fn end_chunks(map: Option<&HeaderMap>, to: &mut Vec<u8>) {
    let mut fields = Headers::new();
    for (name, value) in map.into_iter().flatten() {
        if !is_hop_by_hop(name.as_str()) && !["content-length", "host", "trailer"].contains(&name.as_str()) {
            let _ = fields.append(name.as_str(), value.as_bytes());
        }
    }
    if fields.is_empty() { to.put(LAST_CHUNK) } else { trailers(&fields, to) }
}

/// Returns the client's address that the proxy has seen: the last entry of `X-Forwarded-For`, which the proxy has
/// added.
fn client(map: &HeaderMap) -> Option<PeerAddr> {
    client_of(map.get_all("x-forwarded-for").iter().next_back()?.as_bytes())
}

/// Returns the address in the last entry of a field `X-Forwarded-For`.
pub(super) fn client_of(value: &[u8]) -> Option<PeerAddr> {
    let ip = std::str::from_utf8(value).ok()?.rsplit(',').next()?.trim().parse().ok()?;
    Some(PeerAddr::tcp(std::net::SocketAddr::new(ip, 0)))
}
