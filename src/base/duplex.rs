//! A byte stream whose other end is in this process, as `transport` sees it: a socket without a system behind it.
//!
//! ```text
//!   engine ──read, write──▶ Socket::Duplex ──▶ dyn Duplex ──▶ two ends of pipes (api) ◀──▶ whoever holds the others
//! ```
//! `transport` may not know what it is made of; it knows how one behaves, which is as a non-blocking socket does.

use std::{
    fmt,
    io::{self, IoSlice},
};

/// A connected stream, non-blocking. Who was refused by `WouldBlock`, or given less than asked for, is told by an event
/// when that changes; so is everybody when the stream ends.
pub(crate) trait Duplex: fmt::Debug + Send {
    /// Reads what is there. 0: the peer has finished, in order. `ConnectionReset`: it has broken off.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize>;

    /// Writes what there is room for. `BrokenPipe`: nobody is there to read it.
    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Ends our side, in order. A second time does nothing.
    fn finish(&mut self);

    /// Breaks our side off: the peer is not to mistake what it got for the whole.
    fn cut(&mut self);

    /// How it stands with the peer's side.
    fn peer_side(&self) -> PeerSide;
}

/// What the peer of a [`Duplex`] has done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerSide {
    Open,
    /// It has finished; there may be bytes before that.
    Finished,
    /// It has broken off, or does not read what we have to say.
    Gone,
}
