//! What an upgraded connection waits for.
//!
//! Written by hand rather than by a flags macro because two things must *not* exist: a second spelling of 0
//! (`empty()`, `Default`), since a mask that came out as 0 by accident would end a connection, and a way from an
//! arbitrary integer.

use std::{
    fmt,
    ops::{BitOr, BitOrAssign},
};

/// What an upgraded connection waits for; an [`Upgrade`](crate::Upgrade) returns one from each call.
///
/// The bits mean the same on a plain and on a TLS connection: they speak of *plaintext* the handler can read or
/// write, never of the socket.
///
/// | bit | value | meaning |
/// |---|---|---|
/// | [`TERMINATE`](Self::TERMINATE) | 0 | send what is in the output, then close in order |
/// | [`READ`](Self::READ) | 1 | call again when there is input not seen yet, or the peer has finished |
/// | [`WRITE`](Self::WRITE) | 2 | call again when at least half the output is free, and room grew |
/// | [`EXTERNAL`](Self::EXTERNAL) | 4 | call again when somebody called [`Waker::wake`](crate::Waker::wake) |
/// | [`CORK`](Self::CORK) | 8 | not an event: *un*cork, push everything written so far out now |
///
/// ```
/// use uncork::EventMask;
/// let mask = EventMask::READ | EventMask::CORK;
/// assert!(mask.contains(EventMask::READ) && !mask.contains(EventMask::WRITE));
/// assert_eq!(mask.bits(), 9);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[must_use]
pub struct EventMask(u8);

impl EventMask {
    /// Send what is in the output, under the send deadline; then close in the order the transport prescribes.
    /// The handler is not called again.
    pub const TERMINATE: Self = Self(0);
    /// Call again when there is input the handler has not seen, or when the peer has finished. Asked for alone after
    /// that, without a deadline, it is [`TERMINATE`](Self::TERMINATE): nothing could come any more.
    pub const READ: Self = Self(1);
    /// Call again when at least half the output buffer is free and room *grew* since the last call.
    pub const WRITE: Self = Self(2);
    /// No socket event is waited for: call again after a wake. A wake that came early is remembered.
    pub const EXTERNAL: Self = Self(4);
    /// Not an event. Without it the engine may hold a partial segment back while the mask has `WRITE`, for 200 ms
    /// at the most; with it, everything written so far goes out now. Alone it is [`TERMINATE`](Self::TERMINATE).
    pub const CORK: Self = Self(8);

    /// The bits, with the values of the table above (they are the C ABI, and never renumbered).
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether every bit of `other` is set here. `TERMINATE` is contained in every mask; ask
    /// [`is_terminate`](Self::is_terminate) instead.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether this mask waits for nothing, which ends the connection: `TERMINATE`, or `CORK` alone.
    pub const fn is_terminate(self) -> bool {
        self.0 & !Self::CORK.0 == 0
    }
}

impl BitOr for EventMask {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for EventMask {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for EventMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_terminate() {
            f.write_str("TERMINATE")?;
        }
        let names = [(Self::READ, "READ"), (Self::WRITE, "WRITE"), (Self::EXTERNAL, "EXTERNAL"), (Self::CORK, "CORK")];
        let mut between = if self.is_terminate() { "|" } else { "" };
        for (bit, name) in names {
            if self.contains(bit) {
                write!(f, "{between}{name}")?;
                between = "|";
            }
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
            let mask = EventMask(bits);
            assert_eq!(mask.is_terminate(), bits == 0 || bits == 8, "{mask:?}");
        }
    }

    #[test]
    fn a_mask_prints_its_names() {
        assert_eq!(format!("{:?}", EventMask::TERMINATE), "TERMINATE");
        assert_eq!(format!("{:?}", EventMask::CORK), "TERMINATE|CORK");
        assert_eq!(format!("{:?}", EventMask::READ | EventMask::CORK), "READ|CORK");
    }
}
