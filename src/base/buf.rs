//! A bounded buffer with four verbs: `spare`, `commit`, `filled`, `consume`.
//!
//! The loop's [`Pool`](super::pool::Pool) usually lends its store while there are bytes in it, and takes it back when
//! there are none. So each buffer of an idle connection is an empty value of 24 bytes.

/// INVARIANT: `start <= end <= store.len()`.
#[derive(Default)]
pub(crate) struct Buf {
    store: Box<[u8]>,
    start: u32,
    end: u32,
}

impl Buf {
    #[cfg(test)]
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self::from_store(vec![0; capacity].into_boxed_slice())
    }

    /// Creates an empty buffer over `store`. Stores are far below 4 GiB.
    pub(crate) fn from_store(store: Box<[u8]>) -> Self {
        debug_assert!(u32::try_from(store.len()).is_ok());
        Self { store, start: 0, end: 0 }
    }

    /// Returns the bytes that were put in and not consumed.
    #[inline]
    pub(crate) fn filled(&self) -> &[u8] {
        &self.store[self.start as usize..self.end as usize]
    }

    /// Like [`filled`](Self::filled), but mutable, to decrypt or unmask in place.
    pub(crate) fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.store[self.start as usize..self.end as usize]
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(crate) fn capacity(&self) -> usize {
        self.store.len()
    }

    /// Returns the room behind the filled bytes. Empty means full (or needs [`compact`](Self::compact)).
    #[inline]
    pub(crate) fn spare(&mut self) -> &mut [u8] {
        &mut self.store[self.end as usize..]
    }

    /// Returns how many bytes `spare` has after `compact`.
    pub(crate) fn room(&self) -> usize {
        self.store.len() - self.len()
    }

    /// Marks the first `n` bytes of `spare` as filled.
    #[inline]
    pub(crate) fn commit(&mut self, n: usize) {
        debug_assert!(n <= self.store.len() - self.end as usize);
        self.end = (self.end as usize + n).min(self.store.len()) as u32;
    }

    /// Removes the first `n` bytes of `filled`.
    #[inline]
    pub(crate) fn consume(&mut self, n: usize) {
        debug_assert!(n <= self.len());
        self.start = (self.start as usize + n).min(self.end as usize) as u32;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Removes the last `n` bytes of `filled`.
    pub(crate) fn unfill(&mut self, n: usize) {
        self.end -= n.min(self.len()) as u32;
    }

    /// Moves the filled bytes to the front, so that all room is behind them.
    pub(crate) fn compact(&mut self) {
        if self.start > 0 {
            self.store.copy_within(self.start as usize..self.end as usize, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
    }

    /// Appends as much of `bytes` as there is room for, and returns how much that is.
    #[inline]
    pub(crate) fn push(&mut self, bytes: &[u8]) -> usize {
        if self.store.len() - (self.end as usize) < bytes.len() {
            self.compact();
        }
        let spare = self.spare();
        let n = bytes.len().min(spare.len());
        spare[..n].copy_from_slice(&bytes[..n]);
        self.end += n as u32;
        n
    }

    /// Makes room for `n` more bytes, in a larger store if necessary. Returns the store that was replaced.
    #[inline]
    pub(crate) fn reserve(&mut self, n: usize) -> Option<Box<[u8]>> {
        if self.store.len() - self.end as usize >= n { None } else { self.make_room(n) }
    }

    #[cold]
    fn make_room(&mut self, n: usize) -> Option<Box<[u8]>> {
        if self.room() >= n {
            self.compact();
            return None;
        }
        let size = (self.len() + n).next_power_of_two();
        Some(self.move_into(vec![0; size].into_boxed_slice()))
    }

    /// Moves the filled bytes into another store, which must be large enough. Returns the old store.
    pub(crate) fn move_into(&mut self, mut store: Box<[u8]>) -> Box<[u8]> {
        let len = self.len();
        store[..len].copy_from_slice(self.filled());
        (self.start, self.end) = (0, len as u32);
        std::mem::replace(&mut self.store, store)
    }

    /// Exchanges stores. The buffer must be empty.
    #[inline]
    pub(crate) fn swap_store(&mut self, other: &mut Box<[u8]>) {
        debug_assert!(self.is_empty());
        (self.start, self.end) = (0, 0);
        std::mem::swap(&mut self.store, other);
    }

    /// Takes the store out, together with the filled bytes.
    pub(crate) fn take_store(&mut self) -> Box<[u8]> {
        (self.start, self.end) = (0, 0);
        std::mem::take(&mut self.store)
    }

    /// Overwrites filled bytes, from the offset `at` on.
    pub(crate) fn patch(&mut self, at: usize, bytes: &[u8]) {
        let at = self.start as usize + at;
        self.store[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_and_empties() {
        let mut buf = Buf::with_capacity(8);
        assert_eq!(buf.push(b"hello"), 5);
        assert_eq!(buf.push(b"world"), 3, "as much as there is room for");
        assert_eq!(buf.filled(), b"hellowor");
        assert!(buf.spare().is_empty());
        buf.consume(5);
        assert_eq!(buf.room(), 5);
        assert!(buf.spare().is_empty());
        assert_eq!(buf.push(b"ld!"), 3, "room is made by moving to the front");
        assert_eq!(buf.filled(), b"world!");
        buf.consume(6);
        assert!(buf.is_empty());
        assert_eq!(buf.spare().len(), 8, "an emptied buffer starts over");
    }

    #[test]
    fn grows_on_request() {
        let mut buf = Buf::default();
        assert_eq!(buf.push(b"x"), 0, "without a store there is no room");
        assert!(buf.reserve(5).is_some());
        assert_eq!(buf.push(b"hello"), 5);
        buf.consume(2);
        assert_eq!(buf.reserve(100).map(|old| old.len()), Some(8));
        assert_eq!((buf.filled(), buf.capacity()), (&b"llo"[..], 128));
    }

    #[test]
    fn filled_bytes_can_be_patched() {
        let mut buf = Buf::with_capacity(8);
        buf.push(b"xab");
        buf.consume(1);
        buf.push(b"????");
        buf.patch(3, b"!!");
        assert_eq!(buf.filled(), b"ab?!!?");
    }
}
