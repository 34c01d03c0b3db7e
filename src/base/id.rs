//! Ids of connections and requests: plain integers.
//!
//! A slot of a loop's slab is used again and again, so an index alone would let a late message reach the wrong
//! connection. Every id therefore contains the generation of the slot, and the id of a request also its number. So a
//! message for a request that has ended has no effect, not even on the next request of the same keep-alive connection.

use std::fmt;

/// The id of a connection, unique among 4 billion consecutive connections of this process.
///
/// As an integer: the loop's number (10 bits), its slot (22 bits), and the slot's generation (32 bits).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(u64);

impl ConnId {
    /// The largest number of slots of one loop: 4,194,304.
    pub(crate) const MAX_SLOTS: usize = 1 << 22;

    pub(crate) fn new(loop_number: u16, index: usize, generation: u32) -> Self {
        let slot = (u64::from(loop_number) & 0x3ff) << 22 | (index as u64 & 0x3f_ffff);
        Self(slot << 32 | u64::from(generation))
    }

    pub(crate) fn index(self) -> usize {
        (self.0 >> 32) as usize & 0x3f_ffff
    }

    pub(crate) fn token(self) -> usize {
        self.0 as usize
    }

    pub(crate) fn from_token(token: usize) -> Self {
        Self(token as u64)
    }

    /// Returns the id as an integer, for logs, tables and other languages.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}#{}", self.0 >> 54, self.index(), self.0 as u32)
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The id of a request: its connection, and its number on that connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId {
    /// The connection of the request.
    pub conn: ConnId,
    /// Its number on that connection, counted from 1. 0 means the connection itself, where there are no requests: an
    /// outgoing connection, or one in a protocol that ALPN has chosen.
    pub number: u32,
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.conn, self.number)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_kept() {
        let id = ConnId::new(1023, ConnId::MAX_SLOTS - 1, 7);
        assert_eq!((id.index(), id.to_string().as_str()), (ConnId::MAX_SLOTS - 1, "1023.4194303#7"));
        assert_ne!(id, ConnId::new(1023, ConnId::MAX_SLOTS - 1, 8));
    }
}
