//! The readiness of a socket: set by events, cleared by a call that returned nothing (or less than requested).
//!
//! One mechanism for four sources: mio is edge-triggered, the application's `select` is level-triggered, rustls may
//! hold plaintext while the socket is silent, and pipes within the process send messages.

use crate::base::duplex::PeerSide;

bitflags::bitflags! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Ready: u8 {
        const READ = 1;
        const WRITE = 2;
        /// The peer has half-closed or closed. Unread bytes may precede that.
        const READ_CLOSED = 4;
        /// The connection was reset. (A connection shut down in both directions may still have bytes to read.)
        const RESET = 8;
        /// The send timeout has passed. One more write is tried before the connection is given up.
        const LATE = 16;
        /// Not an event: the socket reports large amounts of data only (`coalescing`).
        const COALESCES = 32;
        /// A new socket: a read and a write are worth trying.
        const NEW = Self::READ.bits() | Self::WRITE.bits();
    }
}

impl Ready {
    /// Adds the events of the other end of a stream within the process.
    pub(super) fn note_within(&mut self, peer: PeerSide) {
        self.insert(match peer {
            PeerSide::Open => Self::NEW,
            PeerSide::Finished => Self::NEW | Self::READ_CLOSED,
            PeerSide::Reset => Self::NEW | Self::READ_CLOSED | Self::RESET,
        });
    }

    /// Adds the events of the poll.
    pub(super) fn note(&mut self, event: &mio::event::Event) {
        if event.is_readable() {
            self.insert(Self::READ);
        }
        if event.is_writable() {
            self.insert(Self::WRITE);
        }
        if event.is_read_closed() {
            self.insert(Self::READ | Self::READ_CLOSED);
        }
        if event.is_error() {
            self.insert(Self::READ | Self::WRITE | Self::READ_CLOSED | Self::RESET);
        }
    }
}
