//! A byte stream whose other end is in this process: a socket, for `transport`, without a system behind it.
//!
//! ```text
//!   engine ──read, write──▶ Socket::Duplex ──▶ dyn Duplex ──▶ two ends of pipes (api) ◀──▶ the other ends
//! ```
//! `transport` does not know what it is made of. It behaves as a non-blocking socket does.

use std::{
    fmt,
    io::{self, IoSlice},
};

/// A connected, non-blocking stream. After a call that returned `WouldBlock`, or fewer bytes than possible, an event
/// follows when that changes. An event also follows when the stream ends.
pub(crate) trait Duplex: fmt::Debug + Send {
    /// Reads the bytes that are there. 0: the peer has half-closed. `ConnectionReset`: the stream is truncated.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize>;

    /// Writes as much as there is room for. `BrokenPipe`: the peer does not read any more.
    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Half-closes. A second call has no effect.
    fn finish(&mut self);

    /// Ends what is complete: called when all bytes were written that there are for now. Returns `false` if more calls
    /// are needed.
    fn flush(&mut self) -> io::Result<bool> {
        Ok(true)
    }

    /// Returns `true` if [`flush`](Self::flush) has something to do.
    fn has_pending(&self) -> bool {
        false
    }

    /// Truncates this side, so that a truncated body never looks complete.
    fn cut(&mut self);

    /// Returns the state of the peer's side.
    fn peer_side(&self) -> PeerSide;
}

/// The state of the peer's side of a [`Duplex`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerSide {
    Open,
    /// The peer has finished; there may be bytes left.
    Finished,
    /// The stream is truncated, or the peer does not read any more.
    Reset,
}
