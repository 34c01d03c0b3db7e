//! The ends of streams and of the connection: RST_STREAM, GOAWAY, and the ping that says whether the peer is there.
//!
//! ```text
//!   shut_down ─▶ GOAWAY (2^31-1), PING ──the PING's ACK──▶ GOAWAY (the last stream) ──its streams end──▶ complete
//!   a rule is broken ─▶ of a stream: RST_STREAM │ of the connection: GOAWAY, and nothing more is received
//! ```

use super::{
    connection::{Checked, Connection},
    frame::{self, ErrorCode, GREATEST, Head},
    settings::Side,
    state::{Fault, Goaway, Receiving, Sending},
};

const SHUTDOWN: [u8; 8] = *b"shutdown";
const MEASURE: [u8; 8] = *b"measures";

impl Connection {
    // What the peer ends.

    pub(super) fn handle_reset(&mut self, stream: u32, code: u32) -> Checked {
        if self.fail_stream(stream, Fault::Reset(code)) {
            self.wake(stream);
            return self.fault_budget.take();
        }
        Ok(())
    }

    /// The server goes on with the streams up to `last`, and has not seen those behind it (RFC 9113 §6.8). A client goes
    /// on with the requests that it has begun.
    pub(super) fn handle_goaway(&mut self, last: u32, code: u32) {
        let last = self.peer_goaway.map_or(last, |(before, _)| before.min(last));
        self.peer_goaway = Some((last, code));
        if self.side == Side::Client {
            for at in 0..self.streams.len() {
                let stream = self.streams[at].0;
                if stream > last && self.fail_stream(stream, Fault::Unseen) {
                    self.wake(stream);
                }
            }
        }
    }

    pub(super) fn handle_ping(&mut self, head: &Head, payload: &[u8]) {
        let payload = payload.first_chunk().copied().unwrap_or_default();
        if !head.has(frame::ACK) {
            return frame::write_ping(&mut self.out, true, payload);
        }
        if payload == SHUTDOWN {
            self.conclude();
        }
        if self.ping == Some(payload) {
            self.ping = None;
            self.resets.ping_answered();
            if self.windows.is_limiting() && self.unacknowledged == 0 {
                self.grow_windows();
            }
        }
    }

    /// The peer has half-closed the connection: an incomplete request stays so. The others may get their responses, as
    /// far as the windows are open, which they will not be again.
    pub(crate) fn handle_half_close(&mut self) {
        if std::mem::replace(&mut self.half_closed, true) {
            return;
        }
        for at in 0..self.streams.len() {
            let (stream, state) = &self.streams[at];
            let (stream, recv, send) = (*stream, state.recv, state.send);
            if recv == Receiving::Open {
                let is_answered = send == Sending::Over;
                self.reset_stream(stream, if is_answered { ErrorCode::NoError } else { ErrorCode::Cancel });
            }
            self.wake(stream);
        }
    }

    // What this side ends.

    /// Ends a stream whose client has broken a rule.
    pub(super) fn blame(&mut self, stream: u32) -> Checked {
        self.end_stream(stream, ErrorCode::Protocol)
    }

    /// Ends a stream with this code, for something that its client has done.
    pub(super) fn end_stream(&mut self, stream: u32, code: ErrorCode) -> Checked {
        if self.is_idle(stream) {
            return if self.is_ignored(stream) { Ok(()) } else { Err(ErrorCode::Protocol) };
        }
        self.reset_stream(stream, code);
        self.wake(stream);
        self.fault_budget.take()
    }

    /// Sends RST_STREAM, and forgets what the stream holds.
    pub(crate) fn reset_stream(&mut self, stream: u32, code: ErrorCode) {
        if self.error.is_some() {
            return;
        }
        frame::write_reset(&mut self.out, stream, code);
        self.resets.add(stream);
        self.fail_stream(stream, Fault::Own(code));
    }

    /// Forgets what a stream holds. Returns `true` if it was there, without a fault.
    fn fail_stream(&mut self, stream: u32, fault: Fault) -> bool {
        let Some(state) = Self::find(&mut self.streams, stream).filter(|state| state.fault.is_none()) else {
            return false;
        };
        let was_open = state.is_open();
        let freed = match self.side {
            Side::Client if !matches!(fault, Fault::Own(_)) => state.fail_response(fault),
            _ => state.fail(fault),
        };
        self.open -= u32::from(was_open);
        self.release_connection(freed);
        true
    }

    /// Returns `true` if the stream has not begun. A server begins none, so that those with even numbers never do.
    pub(super) fn is_idle(&self, stream: u32) -> bool {
        stream > self.last || (stream.is_multiple_of(2) && stream != 0)
    }

    /// Returns `true` if the stream is behind the last one that this side accepts (RFC 9113 §6.8): its request was not
    /// seen, so that nothing is known of it.
    #[cold]
    pub(super) fn is_ignored(&self, stream: u32) -> bool {
        matches!(self.goaway, Goaway::Final(last) if stream > last && !stream.is_multiple_of(2))
    }

    /// Ends the connection with this code: nothing more is received.
    pub(crate) fn go_away(&mut self, code: ErrorCode) {
        if self.error.is_none() {
            self.error = Some(code);
            let last = self.last_of_peer();
            frame::write_goaway(&mut self.out, last, code);
            // Nothing comes behind it.
            self.end();
        }
    }

    /// Returns the last stream that the peer has begun. A server begins none.
    fn last_of_peer(&self) -> u32 {
        if self.side == Side::Server { self.last } else { 0 }
    }

    /// Accepts no new requests: those that are on their way are served, then the connection ends (RFC 9113 §6.8).
    pub(crate) fn shut_down(&mut self) {
        if self.goaway == Goaway::No && self.error.is_none() {
            self.goaway = Goaway::Announced;
            frame::write_goaway(&mut self.out, GREATEST, ErrorCode::NoError);
            frame::write_ping(&mut self.out, false, SHUTDOWN);
        }
    }

    /// Accepts no requests any more, also none that are on their way, if [`shut_down`](Self::shut_down) was called: the
    /// client has seen that, or has had the time to.
    pub(crate) fn conclude(&mut self) {
        if self.goaway == Goaway::Announced && self.error.is_none() {
            let last = self.last_of_peer();
            frame::write_goaway(&mut self.out, last, ErrorCode::NoError);
            self.goaway = Goaway::Final(last);
        }
    }

    /// Sends a ping, unless one is on its way. Returns `true` if it was sent.
    pub(crate) fn ping(&mut self) -> bool {
        if self.ping.is_some() || self.error.is_some() {
            return false;
        }
        self.ping = Some(MEASURE);
        self.resets.ping_sent();
        frame::write_ping(&mut self.out, false, MEASURE);
        true
    }

    /// Ends the connection without a frame: the client has left, or a limit has passed.
    pub(crate) fn end(&mut self) {
        self.error.get_or_insert(ErrorCode::NoError);
        for at in 0..self.streams.len() {
            let stream = self.streams[at].0;
            if self.fail_stream(stream, Fault::Gone) {
                self.wake(stream);
            }
        }
    }

    /// Ends the stream of a malformed request (RFC 9113 §8.1.1).
    pub(crate) fn reject(&mut self, stream: u32) {
        if let Err(code) = self.blame(stream) {
            self.go_away(code);
        }
    }
}
