//! A connection whose owner uses it directly, as either end of a tunnel does: it has its own output, and streams are
//! named by their numbers.
//!
//! ```text
//!   takes_input ─▶ receive          held, take_with ─▶ take_end, or fault
//!   has_output  ─▶ drain            may_write ─▶ write ─▶ finish
//! ```

use super::{
    connection::Connection,
    state::{Fault, Sending},
};
use crate::base::out::Out;

impl Connection {
    // The connection.

    /// Passes output to `write`, which returns how many bytes it took. Returns `true` if it took any.
    pub(crate) fn drain(&mut self, mut write: impl FnMut(&[u8]) -> usize) -> bool {
        let mut moved = false;
        while let Some(bytes) = self.out.only_piece().filter(|bytes| !bytes.is_empty()) {
            let n = write(bytes);
            if n == 0 {
                break;
            }
            self.out.consume(n);
            moved = true;
        }
        moved
    }

    /// Frees the output if it is empty, like [`rest`](Self::rest).
    pub(crate) fn rest_output(&mut self) {
        if self.out.is_empty() {
            self.out = Out::default();
        }
    }

    /// Returns `true` if frames are left to be sent.
    pub(crate) fn has_output(&self) -> bool {
        !self.out.is_empty()
    }

    /// Returns the code with which the peer has ended the connection, or will end it.
    pub(crate) fn peer_error(&self) -> Option<u32> {
        self.peer_goaway.map(|(_, code)| code)
    }

    /// Returns `true` if a ping was sent, and not answered.
    pub(crate) fn awaits_pong(&self) -> bool {
        self.ping.is_some()
    }

    // Its streams.

    /// Returns why a stream has ended before it was complete.
    pub(crate) fn fault(&mut self, stream: u32) -> Option<Fault> {
        self.state(stream).map_or(Some(Fault::Gone), |state| state.fault)
    }

    /// Passes at most `most` of the bytes that have arrived to `take`, which returns how many it took. Returns that
    /// number.
    pub(crate) fn take_with(&mut self, stream: u32, most: usize, take: impl FnOnce(&[u8]) -> usize) -> usize {
        let Some(state) = self.state(stream) else { return 0 };
        let (bytes, _) = state.held.as_slices();
        let n = take(&bytes[..bytes.len().min(most)]);
        state.remove_held(n);
        self.took(stream, n);
        n
    }

    /// Returns the number of bytes that have arrived, and were not taken.
    pub(crate) fn held(&mut self, stream: u32) -> usize {
        self.state(stream).map_or(0, |state| state.held.len())
    }

    /// Returns `true` if the peer takes DATA of this stream, when its windows allow it.
    pub(crate) fn may_write(&mut self, stream: u32) -> bool {
        self.state(stream).is_some_and(|state| state.send == Sending::Body)
    }
}
