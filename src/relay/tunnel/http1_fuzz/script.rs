//! The acts, and the values that they need.

pub(super) struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Returns the next act; `None` behind the end.
    pub(super) fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// Returns the next value; 0 behind the end.
    pub(super) fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    /// Returns a size: most are small.
    pub(super) fn size(&mut self) -> usize {
        let byte = self.byte();
        usize::from(byte & 31) * [1, 3, 50, 1, 700, 5, 9000, 1][usize::from(byte >> 5)]
    }

    /// Returns the next bytes as they are.
    pub(super) fn bytes(&mut self, n: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}
