//! One request on a stream of HTTP/2, served as a connection of HTTP/1.1 that is two pipes.
//!
//! ```text
//!   HEADERS, DATA ──▶ RequestBody: head, framing ──▶ PipeIn ══▶ the engine, a handler ══▶ PipeOut ──▶ Answer ──▶ HEADERS, DATA
//!        ◀─ WINDOW_UPDATE, as bytes leave for the pipe            written as fast as h2 has capacity ─┘
//! ```
//! The pipes are bounded, and so is everything here: who does not read is not written for, from end to end. To drop a
//! stream breaks it off in both directions: RST_STREAM if it was not over, and cut pipes.
//!
//! What comes behind a request can never be taken for another: a body is never longer than it said, and what is to be
//! raw is held back until the handler has switched.

use std::task::{self, Context, Poll};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use uncork::{
    LoopHandle, PeerAddr, PipeIn,
    h1::{
        Headers, is_hop_by_hop,
        write::{CHUNK_END, LAST_CHUNK, Sink, chunk_head, trailers},
    },
    pipe,
};

use super::{
    parsed_request::{Framing, asked},
    response::{Answer, AnswerHead, Piece},
};
use crate::relay::tunnel::gathered::Gathered;

/// Bytes of a pipe. A request without a body needs only as many as its head has.
const ROOM: usize = 64 * 1024;

pub(super) struct Stream {
    waker: task::Waker,
    up: Up,
    answer: Answer,
    down: Down,
    upgrade: bool,
}

/// The request.
struct Up {
    /// `None`: it is whole.
    recv: Option<RecvStream>,
    inlet: Option<PipeIn>,
    framing: Framing,
    /// The head, or what frames a chunk: not in the pipe yet.
    own: Vec<u8>,
    /// Of the body: not in the pipe yet.
    held: Gathered,
    /// How much of it goes into the pipe behind `own`, before the next chunk's frame.
    piece: usize,
    /// What `Content-Length` leaves.
    left: u64,
}

/// The answer.
enum Down {
    Head(SendResponse<Bytes>),
    Body(SendStream<Bytes>),
    Over,
}

/// Where the connections of a tunnel are served, and for whom by default.
pub(super) struct Served<'a> {
    pub(super) here: &'a LoopHandle,
    pub(super) listener: usize,
    pub(super) peer: PeerAddr,
}

impl Stream {
    /// Begins to serve a request. `None`: it was refused, or there is nobody left to serve it.
    pub(super) fn begin(
        request: http::Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        served: &Served<'_>,
        waker: task::Waker,
    ) -> Option<Self> {
        let (parts, recv) = request.into_parts();
        let ended = recv.is_end_stream();
        let asked = match asked(&parts, ended) {
            Ok(asked) => asked,
            Err(why) => {
                log::debug!(target: "uncork::relay", "a request of the tunnel is refused: {why}");
                respond.send_reset(Reason::PROTOCOL_ERROR);
                return None;
            }
        };
        let room = if ended { asked.head.len() } else { ROOM };
        let ((mut inlet, input), (output, mut outlet)) = (pipe(room), pipe(ROOM));
        inlet.on_room(waker.clone());
        outlet.on_data(waker.clone());
        let peer = client(&parts.headers).unwrap_or(served.peer);
        if served.here.adopt_pipes(peer, input, output, served.listener).is_err() {
            respond.send_reset(Reason::REFUSED_STREAM);
            return None;
        }
        let up = Up {
            recv: (!ended).then_some(recv),
            inlet: Some(inlet),
            framing: asked.framing,
            own: asked.head,
            held: Gathered::default(),
            piece: 0,
            left: asked.length,
        };
        let answer = Answer::new(outlet, asked.method);
        Some(Self { waker, up, answer, down: Down::Head(respond), upgrade: asked.upgrade })
    }

    /// Moves what can be moved. Whether it is over.
    pub(super) fn drive(&mut self) -> bool {
        let waker = self.waker.clone();
        let cx = &mut Context::from_waker(&waker);
        let reset = match &mut self.down {
            Down::Head(respond) => respond.poll_reset(cx).is_ready(),
            Down::Body(send) => send.poll_reset(cx).is_ready(),
            Down::Over => false,
        };
        // Who has asked is gone.
        if reset || self.up.drive(cx).is_err() {
            return true;
        }
        if let Err(why) = self.drive_down(cx) {
            log::debug!(target: "uncork::relay", "an answer is broken off: {why}");
            match &mut self.down {
                Down::Head(respond) => respond.send_reset(Reason::INTERNAL_ERROR),
                Down::Body(send) => send.send_reset(Reason::INTERNAL_ERROR),
                Down::Over => {}
            }
            return true;
        }
        // The answer may be there before the request is whole, and somebody still receive that.
        if !matches!(self.down, Down::Over) || !self.up.is_over() {
            return false;
        }
        self.up.finish();
        true
    }

    fn drive_down(&mut self, cx: &mut Context<'_>) -> Result<(), &'static str> {
        loop {
            match self.answer.next() {
                Piece::Waits => return Ok(()),
                Piece::Broken(why) => return Err(why),
                Piece::Interim(status, fields) => {
                    if let (Down::Head(respond), Ok(status)) = (&mut self.down, StatusCode::from_u16(status)) {
                        let mut interim = http::Response::new(());
                        *interim.status_mut() = status;
                        *interim.headers_mut() = to_http2(&fields, false);
                        // One that HTTP/2 won't have is no reason to lose the answer.
                        let _ = respond.send_informational(interim);
                    }
                }
                Piece::Head(head) => self.begin_answer(&head)?,
                Piece::Data { bytes, last } => {
                    let Down::Body(send) = &mut self.down else { return Err("a body without a head") };
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
                    self.answer.took(n);
                    if end {
                        self.down = Down::Over;
                    }
                }
                Piece::End(trailers) => {
                    let Down::Body(send) = &mut self.down else { return Err("an end without a head") };
                    let sent = match trailers {
                        Some(trailers) => send.send_trailers(to_http2(&trailers, false)),
                        None => send.send_data(Bytes::new(), true),
                    };
                    sent.map_err(|_| "the stream is closed")?;
                    self.down = Down::Over;
                }
            }
        }
    }

    fn begin_answer(&mut self, head: &AnswerHead) -> Result<(), &'static str> {
        let Down::Head(respond) = &mut self.down else { return Err("two answers") };
        let status = match head.status {
            _ if head.switched => 200,
            // It would mean that the protocol has changed (RFC 8441 §5).
            200..300 if self.upgrade => 502,
            status => status,
        };
        let mut answer = http::Response::new(());
        *answer.status_mut() = StatusCode::from_u16(status).map_err(|_| "no status")?;
        *answer.headers_mut() = to_http2(&head.fields, head.switched);
        let send = respond.send_response(answer, head.whole).map_err(|_| "the stream is closed")?;
        self.down = if head.whole { Down::Over } else { Down::Body(send) };
        if self.up.framing == Framing::Raw {
            self.up.switched(head.switched);
            self.waker.wake_by_ref();
        }
        Ok(())
    }
}

impl Up {
    /// What comes is the new protocol's; or nobody's, and then it goes nowhere.
    fn switched(&mut self, yes: bool) {
        self.framing = Framing::None;
        if !yes {
            self.recv = None;
            self.held = Gathered::default();
        }
    }

    fn is_over(&self) -> bool {
        let gone = self.inlet.as_ref().is_none_or(PipeIn::is_closed);
        gone || (self.recv.is_none() && self.own.is_empty() && self.held.is_empty())
    }

    fn finish(&mut self) {
        if let Some(inlet) = self.inlet.take() {
            inlet.finish(None);
        }
    }

    /// Moves the request on. An error: there will be no more of it.
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
                    // h2 has seen to it; what would be taken for another request depends on it.
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
                            // Of the new protocol.
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

/// The last chunk, with the trailers that HTTP/1.1 knows.
fn end_chunks(map: Option<&HeaderMap>, to: &mut Vec<u8>) {
    let mut fields = Headers::new();
    for (name, value) in map.into_iter().flatten() {
        if !is_hop_by_hop(name.as_str()) && !["content-length", "host", "trailer"].contains(&name.as_str()) {
            let _ = fields.append(name.as_str(), value.as_bytes());
        }
    }
    if fields.is_empty() { to.put(LAST_CHUNK) } else { trailers(&fields, to) }
}

/// The fields of an answer, as HTTP/2 has them.
fn to_http2(fields: &Headers, switched: bool) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(fields.len());
    for (name, value) in fields.end_to_end() {
        let of_1_1 = name.eq_ignore_ascii_case("sec-websocket-accept") || name.eq_ignore_ascii_case("content-length");
        if switched && of_1_1 {
            continue;
        }
        // Both were checked: by the rules of HTTP/1.1, which are no laxer.
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value)) {
            let _ = map.try_append(name, value);
        }
    }
    map
}

/// The client that the proxy has seen: the last in `X-Forwarded-For`, which is the one it has put there itself.
fn client(map: &HeaderMap) -> Option<PeerAddr> {
    let last = map.get_all("x-forwarded-for").iter().next_back()?;
    let ip = last.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()?;
    Some(PeerAddr::tcp(std::net::SocketAddr::new(ip, 0)))
}
