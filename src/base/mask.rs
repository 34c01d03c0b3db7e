//! The events an upgraded connection waits for.
//!
//! A type of its own over private flags, because two things must *not* exist: a second spelling of 0 (`empty()`,
//! `Default`), since a mask that is 0 by accident ends a connection, and unchecked bits.

use std::{
    fmt,
    ops::{BitOr, BitOrAssign},
};

use bitflags::bitflags;

bitflags! {
    #[derive(Clone, Copy, PartialEq, Eq, Hash)]
    struct MaskBits: u8 {
        const READ = 1;
        const WRITE = 2;
        const EXTERNAL = 4;
        const CORK = 8;
    }
}

/// The events an upgraded connection waits for; an [`Upgrade`](crate::Upgrade) returns one from each call.
///
/// The bits mean the same on a plain and on a TLS connection: they refer to *plaintext* that the handler can read or
/// write, never to the socket.
///
/// | bit | value | meaning |
/// |---|---|---|
/// | [`TERMINATE`](Self::TERMINATE) | 0 | send what is in the output, then close normally |
/// | [`READ`](Self::READ) | 1 | call again when there is new input, or the peer has finished sending |
/// | [`WRITE`](Self::WRITE) | 2 | call again when at least half the output is free, and free space grew |
/// | [`EXTERNAL`](Self::EXTERNAL) | 4 | call again after [`Waker::wake`](crate::Waker::wake) |
/// | [`CORK`](Self::CORK) | 8 | not an event: *un*cork, send everything written so far now |
///
/// ```
/// use uncork::EventMask;
/// let mask = EventMask::READ | EventMask::CORK;
/// assert!(mask.contains(EventMask::READ) && !mask.contains(EventMask::WRITE));
/// assert_eq!(mask.bits(), 9);
/// assert_eq!(EventMask::from_bits(9), Some(mask));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[must_use]
pub struct EventMask(MaskBits);

impl EventMask {
    /// Sends what is in the output, under the send timeout, then closes in the order the transport prescribes. The
    /// handler is not called again.
    pub const TERMINATE: Self = Self(MaskBits::empty());
    /// Calls again when there is input the handler has not seen, or when the peer has finished sending. If that was
    /// reported already, `READ` alone and without a deadline is [`TERMINATE`](Self::TERMINATE): nothing more can
    /// arrive.
    pub const READ: Self = Self(MaskBits::READ);
    /// Calls again when at least half the output buffer is free and free space *grew* since the last call.
    pub const WRITE: Self = Self(MaskBits::WRITE);
    /// Calls again after a wake, without waiting for the socket. A wake that came early is remembered.
    pub const EXTERNAL: Self = Self(MaskBits::EXTERNAL);
    /// Not an event. Without it the engine may hold a partial segment back for up to 200 ms while the mask has `WRITE`;
    /// with it, everything written so far is sent now. Alone it is [`TERMINATE`](Self::TERMINATE).
    pub const CORK: Self = Self(MaskBits::CORK);

    /// Returns the bits, with the values of the table above. They are part of the ABI and never change.
    pub const fn bits(self) -> u8 {
        self.0.bits()
    }

    /// Returns the mask of these bits; `None` if one of them is unknown. 0 is [`TERMINATE`](Self::TERMINATE).
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match MaskBits::from_bits(bits) {
            Some(bits) => Some(Self(bits)),
            None => None,
        }
    }

    /// Returns `true` if every bit of `other` is set. Every mask contains `TERMINATE`; ask
    /// [`is_terminate`](Self::is_terminate) instead.
    pub const fn contains(self, other: Self) -> bool {
        self.0.contains(other.0)
    }

    /// Returns `true` if the mask waits for nothing, which ends the connection: `TERMINATE`, or `CORK` alone.
    pub const fn is_terminate(self) -> bool {
        self.0.difference(MaskBits::CORK).is_empty()
    }
}

impl BitOr for EventMask {
    type Output = Self;
    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for EventMask {
    #[inline]
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for EventMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terminate = self.is_terminate().then_some("TERMINATE");
        for (i, name) in terminate.into_iter().chain(self.0.iter_names().map(|(name, _)| name)).enumerate() {
            write!(f, "{}{name}", if i == 0 { "" } else { "|" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_are_those_of_the_abi() {
        let all = [EventMask::TERMINATE, EventMask::READ, EventMask::WRITE, EventMask::EXTERNAL, EventMask::CORK];
        assert_eq!(all.map(EventMask::bits), [0, 1, 2, 4, 8]);
    }

    #[test]
    fn cork_alone_terminates_and_nothing_else_does() {
        for bits in 0..16u8 {
            let mask = EventMask::from_bits(bits).expect("known bits");
            assert_eq!(mask.bits(), bits);
            assert_eq!(mask.is_terminate(), bits == 0 || bits == 8, "{mask:?}");
        }
    }

    #[test]
    fn unknown_bits_are_rejected() {
        assert!((16..=255u8).all(|bits| EventMask::from_bits(bits).is_none()));
    }

    #[test]
    fn a_mask_prints_its_names() {
        assert_eq!(format!("{:?}", EventMask::TERMINATE), "TERMINATE");
        assert_eq!(format!("{:?}", EventMask::CORK), "TERMINATE|CORK");
        assert_eq!(format!("{:?}", EventMask::READ | EventMask::CORK), "READ|CORK");
    }
}
