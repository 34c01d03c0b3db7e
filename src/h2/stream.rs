//! A stream of HTTP/2, as the engine's connection of one request: a socket for the bytes of its bodies, and a
//! [`Message`] for its heads and ends.
//!
//! ```text
//!   RecvStream ──DATA──▶ Duplex::read  ──▶ input of the exchange     (what is not read, the client may not send)
//!   SendStream ◀──DATA── Duplex::write ◀── output of the exchange    (as much as the client's window allows)
//!              ◀─HEADERS, trailers, END_STREAM── Message
//! ```
//! Both are handles to one [`State`]; the loop that serves the connection uses both. A stream that is dropped before
//! it is complete is reset (RFC 9113 §8.1), so that a part never looks like the whole.

use std::{
    fmt,
    io::{self, IoSlice},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{self, Context, Poll},
};

use bytes::{Buf, Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderValue};

use super::fields;
use crate::{
    base::{
        duplex::{Duplex, PeerSide},
        lock,
    },
    conn::{
        message::Message,
        server::{BodyOut, ResponseSpec},
    },
    h1::Headers,
};

/// Bytes of a request's body that a client may send behind the response, besides a window. With more, it waits for
/// the reset.
const UNWANTED: usize = 64 * 1024;

/// A handle to a stream.
#[derive(Clone)]
pub(crate) struct Stream(Arc<Mutex<State>>);

/// What the streams of a connection report to it.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Bytes of bodies that the application has received.
    pub(crate) received: AtomicU64,
    /// A response closes the connection.
    pub(crate) closes: AtomicBool,
}

struct State {
    waker: task::Waker,
    /// `None`: the request is complete, or no longer wanted.
    recv: Option<RecvStream>,
    /// The rest of the last DATA frame.
    held: Bytes,
    /// The request has ended, with these trailers. Taken when that is reported.
    ended: Option<Option<Box<Headers>>>,
    send: Send,
    /// Bytes of the response's body that are left, if its length was announced.
    left: Option<u64>,
    /// The end of the response, behind the bytes that were written.
    end: Option<HeaderMap>,
    /// The bytes in both directions belong to another protocol.
    switched: bool,
    /// This side has ended, with a complete message or not.
    finished: bool,
    /// Bytes of the request's body that came behind that.
    unwanted: usize,
    /// The client has reset the stream, or its connection is over.
    failed: bool,
    shared: Arc<Shared>,
    date: HeaderValue,
}

/// The state of the response.
enum Send {
    Owed(SendResponse<Bytes>),
    Body(SendStream<Bytes>),
    Over,
}

impl Stream {
    /// Returns the stream of a request. `recv`: `None` if it has no body. `waker` is called when bytes have arrived, when
    /// there is space for more, and when the client resets the stream. `date`: the value of `Date`.
    pub(crate) fn new(
        recv: Option<RecvStream>,
        respond: SendResponse<Bytes>,
        waker: task::Waker,
        date: HeaderValue,
        shared: Arc<Shared>,
    ) -> Self {
        Self(Arc::new(Mutex::new(State {
            waker,
            recv,
            held: Bytes::new(),
            ended: None,
            send: Send::Owed(respond),
            left: None,
            end: None,
            switched: false,
            finished: false,
            unwanted: 0,
            failed: false,
            shared,
            date,
        })))
    }
}

impl Stream {
    /// Returns the stream of a response whose head was sent, and whose body of `left` bytes follows.
    pub(crate) fn responding(send: SendStream<Bytes>, left: u64, waker: task::Waker, shared: Arc<Shared>) -> Self {
        Self(Arc::new(Mutex::new(State {
            waker,
            recv: None,
            held: Bytes::new(),
            ended: None,
            send: Send::Body(send),
            left: Some(left),
            end: None,
            switched: false,
            finished: false,
            unwanted: 0,
            failed: false,
            shared,
            date: HeaderValue::from_static(""),
        })))
    }
}

impl Stream {
    /// Ends the stream in both directions at once.
    pub(crate) fn reset(&self, reason: Reason) {
        lock(&self.0).reset(reason);
    }
}

impl State {
    /// Records that the stream is gone.
    fn has_failed(&mut self) -> io::Error {
        self.failed = true;
        self.send = Send::Over;
        io::ErrorKind::ConnectionReset.into()
    }

    /// Takes the next DATA frame, or notes the end. Returns `true` if there are bytes.
    fn receive(&mut self) -> io::Result<bool> {
        let waker = self.waker.clone();
        let cx = &mut Context::from_waker(&waker);
        while self.held.is_empty() {
            let Some(recv) = &mut self.recv else { return Ok(false) };
            let ended = match recv.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    self.held = data;
                    continue;
                }
                Poll::Ready(Some(Err(error))) => Poll::Ready(Err(error)),
                Poll::Ready(None) => recv.poll_trailers(cx),
                Poll::Pending => Poll::Pending,
            };
            match ended {
                Poll::Pending => return Ok(false),
                Poll::Ready(Err(_)) => return Err(self.has_failed()),
                Poll::Ready(Ok(map)) => {
                    self.recv = None;
                    self.ended = Some(map.as_ref().and_then(fields::trailers));
                }
            }
        }
        Ok(true)
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut n = 0;
        while n < into.len() {
            match self.receive() {
                Ok(true) => {}
                Ok(false) => break,
                // The next call reports it.
                Err(_) if n > 0 => break,
                Err(error) => return Err(error),
            }
            let took = self.held.len().min(into.len() - n);
            into[n..n + took].copy_from_slice(&self.held[..took]);
            self.held.advance(took);
            n += took;
            if self.finished && !self.switched {
                self.unwanted += took;
            }
            if let Some(recv) = &mut self.recv
                && self.unwanted <= UNWANTED
            {
                // It was received, so it can be released.
                let _ = recv.flow_control().release_capacity(took);
            }
            self.shared.received.fetch_add(took as u64, Ordering::Relaxed);
        }
        let over = (self.finished || self.switched) && self.recv.is_none();
        if n > 0 && (over || self.failed) {
            // The end came with the last bytes: no other event follows for it.
            self.waker.wake_by_ref();
        }
        match n {
            0 if self.failed => Err(io::ErrorKind::ConnectionReset.into()),
            // The end of a request is no half-close: the client waits for the response.
            0 if !over => Err(io::ErrorKind::WouldBlock.into()),
            n => Ok(n),
        }
    }

    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let waker = self.waker.clone();
        let cx = &mut Context::from_waker(&waker);
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        let mut written = 0;
        while written < total {
            let Send::Body(send) = &mut self.send else { return Err(io::ErrorKind::BrokenPipe.into()) };
            let mut capacity = send.capacity();
            if capacity == 0 {
                send.reserve_capacity(total - written);
                capacity = send.capacity();
            }
            if capacity == 0 {
                match send.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(0))) | Poll::Pending => break,
                    Poll::Ready(Some(Ok(_))) => continue,
                    Poll::Ready(None | Some(Err(_))) => return Err(self.has_failed()),
                }
            }
            let n = capacity.min(total - written);
            if let Some(left) = &mut self.left {
                *left = left.saturating_sub(n as u64);
            }
            let last = self.left == Some(0);
            if send.send_data(gather(pieces, written, n), last).is_err() {
                return Err(self.has_failed());
            }
            if last {
                self.send = Send::Over;
                self.end = None;
            }
            written += n;
        }
        if written == 0 && total > 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(written) }
    }

    /// Ends this side with trailers, or without.
    fn finish(&mut self, trailers: HeaderMap) -> io::Result<()> {
        let Send::Body(mut send) = std::mem::replace(&mut self.send, Send::Over) else { return Ok(()) };
        let sent = if trailers.is_empty() { send.send_data(Bytes::new(), true) } else { send.send_trailers(trailers) };
        sent.map_err(|_| self.has_failed())
    }

    /// Ends the stream in both directions at once.
    fn reset(&mut self, reason: Reason) {
        match std::mem::replace(&mut self.send, Send::Over) {
            Send::Owed(mut respond) => respond.send_reset(reason),
            Send::Body(mut send) => send.send_reset(reason),
            Send::Over => {}
        }
        self.recv = None;
        self.held = Bytes::new();
    }

    fn respond(&mut self, head: http::Response<()>, body: BodyOut) {
        let Send::Owed(respond) = &mut self.send else { return };
        match respond.send_response(head, body == BodyOut::Nothing) {
            Ok(_) if body == BodyOut::Nothing => self.send = Send::Over,
            Ok(send) => self.send = Send::Body(send),
            Err(_) => {
                self.has_failed();
                self.waker.wake_by_ref();
            }
        }
        self.left = if let BodyOut::Length(n) = body { Some(n) } else { None };
    }
}

/// Returns `n` bytes of `pieces`, from `from` on.
fn gather(pieces: &[IoSlice<'_>], mut from: usize, n: usize) -> Bytes {
    let mut bytes = BytesMut::with_capacity(n);
    for piece in pieces {
        let skipped = from.min(piece.len());
        from -= skipped;
        let rest = &piece[skipped..];
        bytes.extend_from_slice(&rest[..rest.len().min(n - bytes.len())]);
    }
    bytes.freeze()
}

impl Duplex for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        lock(&self.0).read(into)
    }

    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        lock(&self.0).write(pieces)
    }

    fn flush(&mut self) -> io::Result<bool> {
        let mut state = lock(&self.0);
        match state.end.take() {
            Some(trailers) => state.finish(trailers).map(|()| true),
            None => Ok(true),
        }
    }

    fn has_pending(&self) -> bool {
        lock(&self.0).end.is_some()
    }

    /// Half-closes another protocol. A response that is incomplete is reset instead.
    fn finish(&mut self) {
        let mut state = lock(&self.0);
        let end = state.end.take();
        match end.or_else(|| state.switched.then(HeaderMap::new)) {
            Some(trailers) => drop(state.finish(trailers)),
            None if matches!(state.send, Send::Over) => {}
            None => state.reset(Reason::INTERNAL_ERROR),
        }
        // The rest of a request that is not wanted is read for a while: a reset at once could reach the client before
        // the response does. What is left is reset with NO_ERROR when the stream is dropped (RFC 9113 §8.1).
        state.finished = true;
    }

    fn cut(&mut self) {
        let mut state = lock(&self.0);
        let reason = if state.switched { Reason::CANCEL } else { Reason::INTERNAL_ERROR };
        state.reset(reason);
    }

    fn peer_side(&self) -> PeerSide {
        let state = &mut *lock(&self.0);
        let waker = state.waker.clone();
        let cx = &mut Context::from_waker(&waker);
        let reset = match &mut state.send {
            Send::Owed(respond) => respond.poll_reset(cx).is_ready(),
            Send::Body(send) => send.poll_reset(cx).is_ready(),
            Send::Over => false,
        };
        if reset {
            state.has_failed();
        }
        match state.failed {
            true => PeerSide::Reset,
            false if state.switched && state.recv.as_ref().is_none_or(RecvStream::is_end_stream) => PeerSide::Finished,
            false => PeerSide::Open,
        }
    }
}

impl Message for Stream {
    fn close_connection(&mut self) {
        lock(&self.0).shared.closes.store(true, Ordering::Relaxed);
    }

    fn inform(&mut self, status: u16, fields: &Headers) {
        let mut state = lock(&self.0);
        if let (Send::Owed(respond), Ok(status)) = (&mut state.send, http::StatusCode::from_u16(status)) {
            let mut head = http::Response::new(());
            *head.status_mut() = status;
            *head.headers_mut() = fields::to_map(fields);
            // If the stream is gone, the final response finds out.
            let _ = respond.send_informational(head);
        }
    }

    fn respond(&mut self, response: &ResponseSpec<'_>, length: Option<u64>, body: BodyOut) {
        let mut state = lock(&self.0);
        let head = fields::response(response, length, state.date.clone(), false);
        state.respond(head, body);
    }

    fn switch(&mut self, response: &ResponseSpec<'_>) {
        let mut state = lock(&self.0);
        let head = fields::response(response, None, state.date.clone(), true);
        state.respond(head, BodyOut::UntilClose);
        state.switched = true;
        // The client may have half-closed already.
        state.waker.wake_by_ref();
    }

    fn end(&mut self, trailers: Option<&Headers>) {
        let map = trailers.map(fields::to_map).unwrap_or_default();
        lock(&self.0).end = Some(map);
    }

    fn poll_end(&mut self) -> Option<Option<Box<Headers>>> {
        let mut state = lock(&self.0);
        if state.ended.is_none() && state.held.is_empty() {
            // The end may be behind the last byte that was read.
            let _ = state.receive();
        }
        state.ended.take()
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.0);
        f.debug_struct("Stream").field("held", &state.held.len()).field("switched", &state.switched).finish()
    }
}
