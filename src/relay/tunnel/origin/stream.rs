//! One request on a stream of HTTP/2, served as a connection of HTTP/1.1 that consists of two pipes.
//!
//! ```text
//!   HEADERS, DATA ─▶ RequestWriter ─▶ PipeIn ══▶ the engine ══▶ PipeOut ─▶ ResponseReader ─▶ HEADERS, DATA
//!        ◀─ WINDOW_UPDATE, as bytes leave for the pipe       written as the windows allow ─┘
//! ```
//! Pipes and buffers are bounded: a receiver that does not read stops its sender, from end to end. Dropping a stream
//! ends it in both directions: RST_STREAM if it was not over, and truncated pipes.
//!
//! Bytes behind a request are never parsed as another request. A body is never longer than its declared length, and the
//! bytes of a raw stream are held back until the handler has switched protocols.

use std::io::{ErrorKind, IoSlice};

use uncork::{
    LoopHandle, PeerAddr, PipeIn, PipeOut,
    h1::{
        Headers,
        write::{CHUNK_END, LAST_CHUNK, Sink, chunk_head, trailers},
    },
    pipe,
};

use super::parsed_request::{Framing, Parts, parse};
use crate::{
    h2::{connection::Connection, frame::ErrorCode},
    relay::tunnel::{
        response::{Piece, ResponseHead, ResponseReader},
        wakes::Wakes,
    },
};

/// Size of a pipe in bytes. A request without a body needs only the size of its head.
pub(super) const PIPE: usize = 64 * 1024;

pub(super) struct Stream {
    number: u32,
    request: RequestWriter,
    reader: ResponseReader<PipeOut>,
    response: ResponseState,
    upgrade: bool,
}

/// Writes the request, in HTTP/1.1.
struct RequestWriter {
    /// Nothing more comes, or it is dropped.
    received: bool,
    inlet: Option<PipeIn>,
    framing: Framing,
    /// The head, or the framing of a chunk, that is not in the pipe yet.
    own: Vec<u8>,
    /// Number of bytes of the body that go into the pipe behind `own`, before the framing of the next chunk.
    piece: usize,
    /// The part of `Content-Length` that is left.
    left: u64,
}

/// The progress of the response.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ResponseState {
    Head,
    Body,
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
    /// Begins to serve a request. Returns also the length of its body, if that is announced.
    ///
    /// # Errors
    /// Returns the reason why the request is malformed, or `None` if the loop has ended.
    pub(super) fn begin(
        number: u32,
        parts: &Parts<'_>,
        ended: bool,
        served: &Served,
        wakes: &Wakes,
    ) -> Result<(Self, Option<u64>), Option<&'static str>> {
        let parsed = parse(parts, ended).map_err(Some)?;
        let capacity = if ended { parsed.head.len() } else { PIPE };
        let ((mut inlet, input), (output, mut outlet)) = (pipe(capacity), pipe(PIPE));
        let waker = wakes.waker(number as usize);
        inlet.on_room(waker.clone());
        outlet.on_data(waker);
        // The last entry is the proxy's own.
        let peer = parts.last("x-forwarded-for").and_then(client_of).unwrap_or(served.peer);
        served.loop_handle.adopt_pipes(peer, input, output, served.listener).map_err(|_| None)?;
        let length = (parsed.framing == Framing::Length).then_some(parsed.length);
        let request = RequestWriter {
            received: ended,
            inlet: Some(inlet),
            framing: parsed.framing,
            own: parsed.head,
            piece: 0,
            left: parsed.length,
        };
        let reader = ResponseReader::new(outlet, parsed.method);
        Ok((Self { number, request, reader, response: ResponseState::Head, upgrade: parsed.upgrade }, length))
    }

    /// Moves what can be moved. Returns `true` if the stream is over.
    pub(super) fn drive(&mut self, connection: &mut Connection) -> bool {
        // The proxy or its client may have cancelled the request.
        if connection.fault(self.number).is_some() || self.request.drive(connection, self.number).is_err() {
            return true;
        }
        if let Err(reason) = self.drive_response(connection) {
            log::debug!(target: "uncork::relay", "response aborted: {reason}");
            connection.reset_stream(self.number, ErrorCode::Internal);
            return true;
        }
        // The response may be complete before the request is, and the handler may still receive that.
        if self.response != ResponseState::Over || !self.request.is_over(connection, self.number) {
            return false;
        }
        self.request.finish();
        true
    }

    fn drive_response(&mut self, connection: &mut Connection) -> Result<(), &'static str> {
        loop {
            match self.reader.next() {
                Piece::Pending => return Ok(()),
                Piece::Broken(reason) => return Err(reason),
                Piece::Informational(status, fields) => connection.inform(self.number, status, &fields),
                Piece::Head(head) => self.begin_response(head, connection)?,
                Piece::Data { bytes, last } => {
                    let n = match connection.write(self.number, &[IoSlice::new(bytes)]) {
                        Ok(n) => n,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                        Err(_) => return Err("the stream is closed"),
                    };
                    let end = last && n == bytes.len();
                    self.reader.consume(n);
                    if end {
                        connection.finish(self.number, None);
                        self.response = ResponseState::Over;
                    }
                }
                Piece::End(trailers) => {
                    connection.finish(self.number, trailers.as_deref());
                    self.response = ResponseState::Over;
                }
            }
        }
    }

    fn begin_response(&mut self, head: ResponseHead, connection: &mut Connection) -> Result<(), &'static str> {
        let ResponseHead { status, mut fields, whole, switched, has_length, .. } = head;
        if self.response != ResponseState::Head {
            return Err("two responses");
        }
        let status = match status {
            _ if switched => 200,
            // It would mean that the protocol has changed (RFC 8441 §5).
            200..300 if self.upgrade => 502,
            status => status,
        };
        if switched {
            fields.remove("content-length");
        }
        // With it, the last DATA ends the stream.
        let length = fields.get("content-length").filter(|_| has_length && !whole);
        let length = length.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
        connection.encode_head(status, &fields, switched);
        connection.send_head(self.number, whole, length);
        self.response = if whole { ResponseState::Over } else { ResponseState::Body };
        if self.request.framing == Framing::Raw {
            self.request.switched(switched);
            connection.wake(self.number);
        }
        Ok(())
    }
}

impl RequestWriter {
    /// Passes on what follows, in the new protocol. If the handler has not accepted that, it is dropped.
    fn switched(&mut self, accepted: bool) {
        self.framing = Framing::None;
        self.received |= !accepted;
    }

    fn is_over(&self, connection: &mut Connection, stream: u32) -> bool {
        let closed = self.inlet.as_ref().is_none_or(PipeIn::is_closed);
        closed || (self.received && self.own.is_empty() && connection.held(stream) == 0)
    }

    fn finish(&mut self) {
        if let Some(inlet) = self.inlet.take() {
            inlet.finish(None);
        }
    }

    /// Moves the request on. An error: the request is truncated.
    fn drive(&mut self, connection: &mut Connection, stream: u32) -> Result<(), ()> {
        let Some(inlet) = &mut self.inlet else { return Ok(()) };
        loop {
            if !self.own.is_empty() {
                let n = inlet.write(&self.own);
                self.own.drain(..n);
                if !self.own.is_empty() {
                    return Ok(());
                }
                self.own = Vec::new();
            }
            if self.piece > 0 {
                let n = connection.take_with(stream, self.piece, |bytes| inlet.write(bytes));
                self.piece -= n;
                if self.piece == 0 && self.framing == Framing::Chunked {
                    self.own.extend_from_slice(CHUNK_END);
                }
                if n == 0 {
                    return Ok(());
                }
                continue;
            }
            if self.framing == Framing::Raw {
                return Ok(());
            }
            let held = connection.held(stream);
            if held > 0 && self.received {
                connection.take_with(stream, held, <[u8]>::len);
                continue;
            }
            if held > 0 {
                self.piece = held;
                match self.framing {
                    Framing::Chunked => {
                        let mut size = [0; 18];
                        let n = chunk_head(held, &mut size);
                        self.own.extend_from_slice(&size[..n]);
                    }
                    // This was checked before. It is checked again, because other bytes would be parsed as another
                    // request.
                    Framing::Length => self.left = self.left.checked_sub(held as u64).ok_or(())?,
                    Framing::None | Framing::Raw => {}
                }
                continue;
            }
            let Some(trailers) = connection.take_end(stream).filter(|_| !self.received) else { return Ok(()) };
            self.received = true;
            match self.framing {
                Framing::Chunked => end_chunks(trailers.as_deref(), &mut self.own),
                Framing::Length if self.left > 0 => return Err(()),
                Framing::Length | Framing::Raw => {}
                // These end the new protocol's stream.
                Framing::None => {
                    self.finish();
                    return Ok(());
                }
            }
        }
    }
}

/// Writes the last chunk, with the trailers that HTTP/1.1 allows.
fn end_chunks(received: Option<&Headers>, to: &mut Vec<u8>) {
    let mut fields = Headers::new();
    for (name, value) in received.into_iter().flat_map(Headers::iter) {
        if !["content-length", "host", "trailer"].contains(&name) {
            let _ = fields.append(name, value);
        }
    }
    if fields.is_empty() { to.put(LAST_CHUNK) } else { trailers(&fields, to) }
}

/// Returns the address in the last entry of a field `X-Forwarded-For`.
pub(super) fn client_of(value: &[u8]) -> Option<PeerAddr> {
    let ip = std::str::from_utf8(value).ok()?.rsplit(',').next()?.trim().parse().ok()?;
    Some(PeerAddr::tcp(std::net::SocketAddr::new(ip, 0)))
}
