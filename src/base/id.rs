//! Names of connections and requests: plain integers that are never used twice.
//!
//! A slot of a loop's slab is used again and again, so an index alone would let a late message reach the wrong
//! connection. Every name therefore carries the slot's generation, and a request's name its number as well: a
//! message for a request that is over finds nobody, not the next request of the same keep-alive connection.

use std::fmt;

/// One connection, unique among all connections of all loops in this process for as long as it runs.
///
/// As an integer: the loop's number (10 bits), its slot (22 bits), and the slot's generation (32 bits).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(u64);

impl ConnId {
    /// The most slots one loop can have: 4,194,304.
    pub(crate) const MAX_SLOTS: usize = 1 << 22;

    pub(crate) fn new(loop_number: u16, index: usize, generation: u32) -> Self {
        let place = (u64::from(loop_number) & 0x3ff) << 22 | (index as u64 & 0x3f_ffff);
        Self(place << 32 | u64::from(generation))
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

    /// The name as an integer: for logs, tables and foreign languages.
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

/// One request: its connection, and its number on that connection (from 1; 0 is a connection as a whole: one of our own
/// making, or in a protocol chosen by ALPN).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId {
    /// The connection it came on.
    pub conn: ConnId,
    /// Its number on that connection, counted from 1. 0 where there are no requests.
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
    fn the_parts_come_back() {
        let id = ConnId::new(1023, ConnId::MAX_SLOTS - 1, 7);
        assert_eq!((id.index(), id.to_string().as_str()), (ConnId::MAX_SLOTS - 1, "1023.4194303#7"));
        assert_ne!(id, ConnId::new(1023, ConnId::MAX_SLOTS - 1, 8));
    }
}
