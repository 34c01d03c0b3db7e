//! What a socket is ready for: set by events, cleared by a call that found nothing (or less than it asked for).
//!
//! One mechanism for four sources: mio is edge-triggered, the application's `select` is level-triggered, rustls may hold
//! plaintext while the socket is silent, and pipes of this process speak by messages.

use crate::base::duplex::PeerSide;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ready(u8);

impl Ready {
    pub(super) const READ: u8 = 1;
    pub(super) const WRITE: u8 = 2;
    /// The peer has shut down its side. There may be bytes before that.
    pub(super) const FIN: u8 = 4;
    /// The connection was reset. (That both sides are shut down is less: there may be bytes left to read.)
    pub(super) const DEAD: u8 = 8;
    /// The time to take output has run out, and one more write is tried before that is believed.
    pub(super) const LATE: u8 = 16;

    /// A fresh socket: a read and a write are worth trying.
    pub(super) const NEW: Self = Self(Self::READ | Self::WRITE);

    pub(super) fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    pub(super) fn clear(&mut self, bit: u8) {
        self.0 &= !bit;
    }

    pub(super) fn set(&mut self, bit: u8) {
        self.0 |= bit;
    }

    /// Something has changed in a stream within the process.
    pub(super) fn note_within(&mut self, peer: PeerSide) {
        self.set(match peer {
            PeerSide::Open => Self::NEW.0,
            PeerSide::Finished => Self::NEW.0 | Self::FIN,
            PeerSide::Gone => Self::NEW.0 | Self::FIN | Self::DEAD,
        });
    }

    pub(super) fn note(&mut self, event: &mio::event::Event) {
        if event.is_readable() {
            self.set(Self::READ);
        }
        if event.is_writable() {
            self.set(Self::WRITE);
        }
        if event.is_read_closed() {
            self.set(Self::READ | Self::FIN);
        }
        if event.is_error() {
            self.set(Self::READ | Self::WRITE | Self::FIN | Self::DEAD);
        }
    }
}
