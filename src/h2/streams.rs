//! The streams of a connection: what the application does with them, and the windows for what this side sends.
//!
//! ```text
//!   read  ◀─ held bytes                  what was read is announced by WINDOW_UPDATE
//!   write ─▶ DATA in the output, as far as  the stream's window │ the connection's window │ space   allow it
//!               └─ the first is closed: waits for the client     └─ the others: has its turn, by urgency
//! ```

use std::io::{self, IoSlice};

use super::{
    connection::Connection,
    frame::{self, ErrorCode, GREATEST, LARGEST, setting},
    settings::Side,
    state::{End, Receiving, Sending, StreamState, part_of},
};
use crate::h1::Headers;

/// Bytes of a request's body that a client may send behind the response, besides a window. With more, it waits for
/// the reset.
const UNWANTED: usize = 64 * 1024;
/// With less space than this in the output, streams wait: small frames cost as much as large ones.
const WORTHWHILE: usize = 1024;
/// Bytes of output for what the peer's frames cause, besides those of streams.
const BESIDES: usize = 16 * 1024;

impl Connection {
    /// Returns a stream.
    #[inline]
    pub(super) fn find(streams: &mut [(u32, Box<StreamState>)], stream: u32) -> Option<&mut StreamState> {
        let at = streams.binary_search_by_key(&stream, |(own, _)| *own).ok()?;
        Some(&mut streams[at].1)
    }

    pub(super) fn state(&mut self, stream: u32) -> Option<&mut StreamState> {
        Self::find(&mut self.streams, stream)
    }

    /// Adds the stream of a request that has begun. `length`: that of its body, if it was announced.
    pub(crate) fn open(&mut self, stream: u32, urgency: u8, ended: bool, length: Option<u64>) {
        let state = StreamState::new(urgency, ended, length, self.windows.window, self.initial_send_window);
        // Streams begin in the order of their numbers.
        let at = self.streams.partition_point(|(own, _)| *own < stream);
        self.streams.insert(at, (stream, Box::new(state)));
        self.open += 1;
    }

    /// Removes a stream whose application has left it. What is incomplete is reset, so that a part never looks like
    /// the whole.
    pub(crate) fn release(&mut self, stream: u32) {
        let Ok(at) = self.streams.binary_search_by_key(&stream, |(own, _)| *own) else { return };
        let (send, recv) = (self.streams[at].1.send, self.streams[at].1.recv);
        if send != Sending::Over {
            self.reset_stream(stream, ErrorCode::Cancel);
        } else if recv == Receiving::Open {
            // RFC 9113 §8.1: the response is complete, and the rest of the request is not needed.
            let is_response = self.side == Side::Client;
            self.reset_stream(stream, if is_response { ErrorCode::Cancel } else { ErrorCode::NoError });
        }
        let (_, state) = self.streams.remove(at);
        if let Some(turn) = state.waits {
            self.waiting.remove(&(state.urgency, turn, stream));
        }
        self.release_connection(state.held.len());
    }

    // Wake-ups.

    /// Notes that a stream has something to do.
    pub(crate) fn wake(&mut self, stream: u32) {
        let quota = (self.room() / (self.waiting.len() + 1)).max(LARGEST);
        if let Some(state) = Self::find(&mut self.streams, stream) {
            state.quota = quota;
            if !std::mem::replace(&mut state.woken, true) {
                self.woken.push(stream);
            }
        }
    }

    /// Moves the woken streams into `streams`, the most urgent first (RFC 9218): what is driven first gets the windows,
    /// and the space in the output, first.
    pub(crate) fn take_woken(&mut self, streams: &mut Vec<u32>) {
        for stream in self.woken.drain(..) {
            if let Some(state) = Self::find(&mut self.streams, stream) {
                state.woken = false;
                streams.push(stream);
            }
        }
        if streams.len() > 1 {
            streams.sort_by_cached_key(|stream| self.state(*stream).map_or(0, |state| state.urgency));
        }
    }

    /// Wakes the next stream that waits, if it could write now. Returns `true` if it did.
    pub(crate) fn wake_waiting(&mut self) -> bool {
        // Without a WINDOW_UPDATE to come, those that wait learn that they cannot go on.
        let is_lost = self.half_closed && self.send_window <= 0;
        if self.waiting.is_empty() || !is_lost && (self.send_window <= 0 || self.room() < WORTHWHILE) {
            return false;
        }
        let Some((.., stream)) = self.waiting.pop_first() else { return false };
        if let Some(state) = self.state(stream) {
            state.waits = None;
        }
        self.wake(stream);
        true
    }

    /// Returns `true` if streams wait for space in the output only.
    pub(crate) fn waits_for_space(&self) -> bool {
        !self.waiting.is_empty() && self.send_window > 0
    }

    /// Returns `true` if a stream could write, but others have their turn first.
    pub(crate) fn has_others_first(&mut self, stream: u32) -> bool {
        self.state(stream).is_some_and(|state| state.waits.is_some() || state.woken)
    }

    /// Returns how many bytes of output wait to be sent.
    pub(crate) fn output(&self) -> usize {
        self.out.len()
    }

    /// Returns `true` if frames may be taken. The peer may read slowly or not at all: with the output full of DATA, its
    /// RST_STREAM, WINDOW_UPDATE and uploads are still taken (RFC 9113 §5.2.2), or both sides could wait for each other.
    /// What such frames cause has a bound of its own.
    pub(crate) fn takes_input(&self) -> bool {
        self.out.len() < self.output_limit + BESIDES
    }

    /// Returns `true` if there is no space for what streams write.
    pub(crate) fn is_full(&self) -> bool {
        self.room() < WORTHWHILE
    }

    fn room(&self) -> usize {
        self.output_limit.max(WORTHWHILE).saturating_sub(self.out.len())
    }

    // The client's side.

    pub(super) fn end_input(&mut self, stream: u32) {
        if let Some(state) = Self::find(&mut self.streams, stream)
            && state.recv == Receiving::Open
        {
            state.recv = Receiving::Ended;
            self.open -= u32::from(!state.is_open());
            self.wake(stream);
        }
    }

    pub(super) fn release_connection(&mut self, n: usize) {
        self.recv_window.release(n);
        if self.error.is_none()
            && let Some(increment) = self.recv_window.update(self.windows.connection())
        {
            frame::write_window_update(&mut self.out, 0, increment);
        }
    }

    /// Reads what has arrived. 0: another protocol was half-closed.
    pub(super) fn read(&mut self, stream: u32, into: &mut [u8]) -> io::Result<usize> {
        let state = Self::find(&mut self.streams, stream).ok_or(io::ErrorKind::ConnectionReset)?;
        let n = state.take_held(into);
        let over = (state.finished || state.switched) && state.recv != Receiving::Open && state.held.is_empty();
        let failed = state.fault.is_some();
        self.took(stream, n);
        if n > 0 && (over || failed) {
            // The end came with the last bytes: no other event follows for it.
            self.wake(stream);
        }
        match n {
            0 if failed => Err(io::ErrorKind::ConnectionReset.into()),
            // The end of a request is no half-close: the client waits for the response.
            0 if !over => Err(io::ErrorKind::WouldBlock.into()),
            n => Ok(n),
        }
    }

    /// Records that the application has taken `n` bytes: the client may send as many more.
    pub(super) fn took(&mut self, stream: u32, n: usize) {
        let window = self.windows.window;
        let Some(state) = Self::find(&mut self.streams, stream).filter(|_| n > 0) else { return };
        state.unwanted += if state.finished && !state.switched { n } else { 0 };
        if state.unwanted <= UNWANTED {
            state.recv_window.release(n);
            if state.recv == Receiving::Open
                && let Some(increment) = state.recv_window.update(window)
            {
                frame::write_window_update(&mut self.out, stream, increment);
            }
        }
        self.windows.received += n as u64;
        self.release_connection(n);
    }

    /// Returns the trailers of the request when all of it was read, once.
    pub(crate) fn take_end(&mut self, stream: u32) -> Option<Option<Box<Headers>>> {
        let state = self.state(stream)?;
        if state.recv != Receiving::Ended || !state.held.is_empty() || state.end_reported {
            return None;
        }
        state.end_reported = true;
        Some(state.trailers.take())
    }

    // This side.

    /// Sends the head of a response, whose header block is in `block`. `left`: bytes of the body, if that is known.
    pub(crate) fn send_head(&mut self, stream: u32, end: bool, left: Option<u64>) {
        let Some(state) = Self::find(&mut self.streams, stream).filter(|state| state.send == Sending::Owed) else {
            return;
        };
        frame::write_headers(&mut self.out, stream, &self.block, end);
        state.left_out = left;
        state.send = if end { Sending::Over } else { Sending::Body };
        self.open -= u32::from(!state.is_open());
        self.fault_budget.give(1);
    }

    /// Writes as much as the windows and the output allow.
    pub(crate) fn write(&mut self, stream: u32, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let (room, window) = (self.room(), self.send_window);
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        let state = Self::find(&mut self.streams, stream).ok_or(io::ErrorKind::ConnectionReset)?;
        if state.fault.is_some() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if state.send != Sending::Body {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if let Some(turn) = state.waits.take() {
            self.waiting.remove(&(state.urgency, turn, stream));
        }
        let own = usize::try_from(state.send_window).unwrap_or(0);
        let shared =
            if room < WORTHWHILE { 0 } else { usize::try_from(window).unwrap_or(0).min(room).min(state.quota) };
        let all = total.min(own).min(shared);
        let mut written = 0;
        while written < all {
            let n = (all - written).min(LARGEST);
            if let Some(left) = &mut state.left_out {
                *left = left.saturating_sub(n as u64);
            }
            let last = state.left_out == Some(0);
            frame::write_data_head(&mut self.out, stream, n, last);
            part_of(pieces, written, n, |part| self.out.push(part));
            written += n;
            if last {
                state.send = Sending::Over;
                state.end = End::None;
                self.open -= u32::from(!state.is_open());
                break;
            }
        }
        state.send_window -= written as i64;
        state.quota -= written;
        self.send_window -= written as i64;
        if written < total && state.send_window > 0 && state.send == Sending::Body {
            self.turn += 1;
            state.waits = Some(self.turn);
            self.waiting.insert((state.urgency, self.turn, stream));
        }
        let is_closed = state.send_window <= 0 || self.send_window <= 0;
        if self.half_closed && is_closed && written < total {
            // No WINDOW_UPDATE will come.
            self.reset_stream(stream, ErrorCode::Cancel);
            self.wake(stream);
        }
        if written == 0 && total > 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(written) }
    }

    /// Ends this side with trailers, or without.
    pub(crate) fn finish(&mut self, stream: u32, trailers: Option<&Headers>) {
        let Some(state) = Self::find(&mut self.streams, stream).filter(|state| state.send == Sending::Body) else {
            return;
        };
        state.send = Sending::Over;
        self.open -= u32::from(!state.is_open());
        match trailers.filter(|trailers| !trailers.is_empty()) {
            Some(trailers) => {
                self.encode_trailers(trailers);
                frame::write_headers(&mut self.out, stream, &self.block, true);
            }
            None => frame::write_data_head(&mut self.out, stream, 0, true),
        }
    }

    /// Sends a whole response to a stream that was not [opened](Self::open): its header block is in `block`. Returns
    /// `false` if the windows or the output do not allow it.
    pub(crate) fn send_whole(&mut self, stream: u32, body: &[u8]) -> bool {
        let n = body.len() as i64;
        if n > self.send_window || n > self.initial_send_window || body.len() > self.room().max(LARGEST) {
            return false;
        }
        self.send_window -= n;
        self.fault_budget.give(1);
        frame::write_headers(&mut self.out, stream, &self.block, body.is_empty());
        let mut rest = body;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(LARGEST));
            frame::write_data_head(&mut self.out, stream, piece.len(), after.is_empty());
            self.out.push(piece);
            rest = after;
        }
        true
    }

    // The windows.

    pub(super) fn handle_window_update(&mut self, stream: u32, increment: u32) -> Result<(), ErrorCode> {
        if stream == 0 {
            self.send_window += i64::from(increment);
            return match increment {
                0 => Err(ErrorCode::Protocol),
                _ if self.send_window > i64::from(GREATEST) => Err(ErrorCode::FlowControl),
                _ => Ok(()),
            };
        }
        let Some(state) = Self::find(&mut self.streams, stream).filter(|state| state.fault.is_none()) else {
            return Ok(());
        };
        if increment == 0 {
            return self.end_stream(stream, ErrorCode::Protocol);
        }
        let was_closed = state.send_window <= 0;
        state.send_window += i64::from(increment);
        if state.send_window > i64::from(GREATEST) {
            return self.end_stream(stream, ErrorCode::FlowControl);
        }
        if was_closed && state.send_window > 0 {
            self.wake(stream);
        }
        Ok(())
    }

    /// Changes the windows of all streams, which a client's SETTINGS can also make negative (RFC 9113 §6.9.2).
    pub(super) fn change_windows(&mut self, window: i64) -> Result<(), ErrorCode> {
        let change = window - self.initial_send_window;
        self.initial_send_window = window;
        for at in 0..self.streams.len() {
            let (stream, state) = &mut self.streams[at];
            let (stream, was_closed) = (*stream, state.send_window <= 0);
            state.send_window += change;
            if state.send_window > i64::from(GREATEST) {
                return Err(ErrorCode::FlowControl);
            }
            if was_closed && state.send_window > 0 {
                self.wake(stream);
            }
        }
        Ok(())
    }

    /// Doubles what the client may send.
    pub(super) fn grow_windows(&mut self) {
        let (grown, of_connection) = self.windows.double();
        for (_, state) in &mut self.streams {
            state.recv_window.grow(grown);
        }
        self.recv_window.grow(of_connection);
        frame::write_settings(&mut self.out, &[(setting::INITIAL_WINDOW_SIZE, self.windows.window)]);
        frame::write_window_update(&mut self.out, 0, of_connection);
        self.unacknowledged += 1;
    }

    /// Returns `true` if the window of the connection lets the peer send DATA.
    pub(crate) fn peer_may_send(&self) -> bool {
        self.recv_window.is_open()
    }

    /// Returns how many bytes of bodies the application has received.
    pub(crate) fn received(&self) -> u64 {
        self.windows.received
    }

    /// Begins to measure a round trip in which the application had received `before` bytes at first, if none is
    /// measured.
    pub(crate) fn measure(&mut self, before: u64) {
        if self.windows.may_measure() && self.ping() {
            self.windows.begin(before);
        }
    }
}
