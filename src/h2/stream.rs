//! A stream of HTTP/2, as the engine's connection of one request: a socket for the bytes of its bodies, and a
//! [`Message`] for its heads and ends.
//!
//! ```text
//!   DATA ──▶ Duplex::read  ──▶ input of the exchange     (what is not read, the client may not send)
//!   DATA ◀── Duplex::write ◀── output of the exchange    (as much as the client's window allows)
//!   HEADERS, trailers, END_STREAM ◀── Message
//! ```
//! Both are handles to one stream of one [`Connection`]; the loop that serves the connection uses all of them, so the
//! lock is never contended. A stream that is dropped before it is complete is reset (RFC 9113 §8.1), so that a part
//! never looks like the whole.

use std::{
    fmt,
    io::{self, IoSlice},
    sync::{Arc, Mutex, MutexGuard},
};

use super::{
    connection::Connection,
    frame::ErrorCode,
    state::{End, Receiving, Sending},
};
use crate::{
    base::{
        duplex::{Duplex, PeerSide},
        lock,
    },
    conn::message::{BodyOut, Message, ResponseSpec},
    h1::Headers,
};

/// The connection that several streams share.
pub(crate) type Shared = Arc<Mutex<Connection>>;

/// A handle to a stream.
#[derive(Clone)]
pub(crate) struct Stream(Arc<Handle>);

struct Handle {
    connection: Shared,
    number: u32,
}

impl Stream {
    /// Returns the handle to a stream of that number, which was [opened](Connection::open).
    pub(crate) fn new(connection: Shared, number: u32) -> Self {
        Self(Arc::new(Handle { connection, number }))
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        lock(&self.0.connection)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        lock(&self.connection).release(self.number);
    }
}

impl Connection {
    fn respond(&mut self, stream: u32, body: BodyOut) {
        let left = if let BodyOut::Length(n) = body { Some(n) } else { None };
        self.send_head(stream, body == BodyOut::Nothing, left);
    }

    fn flush(&mut self, stream: u32) {
        let Some(state) = self.state(stream) else { return };
        match std::mem::replace(&mut state.end, End::None) {
            End::None => {}
            End::Plain => self.finish(stream, None),
            End::Trailers(trailers) => self.finish(stream, Some(&trailers)),
        }
    }

    /// Half-closes another protocol. A response that is incomplete is reset instead.
    fn leave(&mut self, stream: u32) {
        self.flush(stream);
        let Some(state) = self.state(stream) else { return };
        // The rest of a request that is not wanted is read for a while: a reset at once could reach the client before
        // the response does. What is left is reset with NO_ERROR when the stream is dropped (RFC 9113 §8.1).
        state.finished = true;
        match (state.send, state.switched) {
            (Sending::Over, _) => {}
            (Sending::Body, true) => self.finish(stream, None),
            _ => self.reset_stream(stream, ErrorCode::Internal),
        }
    }
}

impl Duplex for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.connection().read(self.0.number, into)
    }

    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.connection().write(self.0.number, pieces)
    }

    fn flush(&mut self) -> io::Result<bool> {
        self.connection().flush(self.0.number);
        Ok(true)
    }

    fn has_pending(&self) -> bool {
        self.connection().state(self.0.number).is_some_and(|state| !matches!(state.end, End::None))
    }

    fn finish(&mut self) {
        self.connection().leave(self.0.number);
    }

    fn cut(&mut self) {
        let mut connection = self.connection();
        let Some(state) = connection.state(self.0.number) else { return };
        if state.is_open() {
            let code = if state.switched { ErrorCode::Cancel } else { ErrorCode::Internal };
            connection.reset_stream(self.0.number, code);
        }
    }

    fn peer_side(&self) -> PeerSide {
        let mut connection = self.connection();
        let half_closed = connection.half_closed;
        match connection.state(self.0.number) {
            Some(state) if state.fault.is_none() => {
                let has_ended = half_closed || (state.switched && state.recv != Receiving::Open);
                if has_ended { PeerSide::Finished } else { PeerSide::Open }
            }
            _ => PeerSide::Reset,
        }
    }
}

impl Message for Stream {
    fn inform(&mut self, status: u16, fields: &Headers) {
        self.connection().inform(self.0.number, status, fields);
    }

    fn respond(&mut self, response: &ResponseSpec<'_>, length: Option<u64>, body: BodyOut) {
        let mut connection = self.connection();
        if connection.state(self.0.number).is_some_and(|state| state.send == Sending::Owed) {
            connection.encode_response(response, length, false);
            connection.respond(self.0.number, body);
        }
    }

    fn switch(&mut self, response: &ResponseSpec<'_>) {
        let mut connection = self.connection();
        if connection.state(self.0.number).is_some_and(|state| state.send == Sending::Owed) {
            connection.encode_response(response, None, true);
            connection.respond(self.0.number, BodyOut::UntilClose);
        }
        if let Some(state) = connection.state(self.0.number) {
            state.switched = true;
        }
        // The client may have half-closed already.
        connection.wake(self.0.number);
    }

    fn end(&mut self, trailers: Option<&Headers>) {
        if let Some(state) = self.connection().state(self.0.number).filter(|state| state.send != Sending::Over) {
            state.end = match trailers {
                Some(trailers) => End::Trailers(Box::new(trailers.clone())),
                None => End::Plain,
            };
        }
    }

    fn poll_end(&mut self) -> Option<Option<Box<Headers>>> {
        self.connection().take_end(self.0.number)
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("number", &self.0.number).finish_non_exhaustive()
    }
}
