//! A block whose bytes need not be contiguous: data that was read together with its framing is decoded in place.
//!
//! ```text
//!   ├─ data ─┤ gap ├─ data ─┤ gap ├─ data ─┤ hole ├─ raw: not decoded yet  ─┤ spare
//!      run           run           run                  is_data, is_framing ▶
//! ```
//!
//! New bytes are appended, and are raw until the caller says what they are. Framing becomes a gap, which the reader
//! never sees: it gets one run after the other. Only short runs are moved together, so there are never more runs than
//! [`WORTH_A_RUN`] fits into the block.

use std::{collections::VecDeque, io::IoSlice};

use super::{
    buf::Buf,
    pipe_memory::{SMALL, Share},
};

/// Shorter runs than this are moved together: a copy is cheaper than a segment of its own.
const WORTH_A_RUN: usize = 4096;

/// The smallest store.
const SMALLEST: usize = 4096;

/// INVARIANT: `buf` holds, in this order, runs and gaps in turn, the last run, the hole, the raw bytes; every gap has a
/// run before it.
#[derive(Default)]
pub(crate) struct Runs {
    buf: Buf,
    /// The length of each run that a gap follows, and of that gap.
    gaps: VecDeque<(usize, usize)>,
    /// The length of the run after the last gap.
    last: usize,
    /// The length of all runs.
    len: usize,
    /// Bytes of framing between the last run and the raw bytes.
    hole: usize,
    raw: usize,
    /// The store's share of the memory of pipes.
    share: Share,
    /// There was no memory for a larger store: the room ends with this one, until it is replaced.
    is_small: bool,
}

impl Runs {
    /// Creates an empty block over `store`.
    pub(crate) fn from_store(store: Box<[u8]>) -> Self {
        let mut share = Share::default();
        share.resize(store.len());
        Self { buf: Buf::from_store(store), share, ..Self::default() }
    }

    /// Creates an empty block without a store. Its stores are counted in the memory that `share` belongs to.
    pub(crate) fn with_share(share: Share) -> Self {
        Self { share, ..Self::default() }
    }

    /// Returns the number of bytes of data.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Makes room for `wanted` bytes, in a larger store if necessary, but in none larger than `room`. An empty block
    /// has a store only when there are bytes to put in. The store for a short body is small: clearing 64 KiB would cost
    /// more than all the rest of it.
    ///
    /// If the memory of pipes is used up, the store stays small. Then there may be no more room than `least` bytes
    /// until the block is empty.
    pub(crate) fn make_room_for(
        &mut self,
        wanted: usize,
        least: usize,
        room: usize,
        make: impl FnOnce(usize) -> Box<[u8]>,
    ) {
        let left = room.saturating_sub(self.buf.len());
        if self.buf.spare().len() < wanted.min(left) && self.buf.capacity() < room {
            self.replace_store(wanted.min(left), least.min(left), room, make);
        }
    }

    fn replace_store(&mut self, wanted: usize, least: usize, room: usize, make: impl FnOnce(usize) -> Box<[u8]>) {
        let (len, old) = (self.buf.len(), self.buf.capacity());
        let size_for = |n: usize| (len + n).next_power_of_two().max(SMALLEST).min(room);
        let whole = size_for(wanted);
        let mut size = whole;
        while size > old.max(SMALL) && !self.share.try_resize(size) {
            size /= 2;
        }
        self.is_small = size < whole;
        size = size.max(SMALL.min(whole));
        if self.buf.spare().len() < least {
            size = size.max(size_for(least));
        } else if old >= size {
            return;
        }
        self.share.resize(size);
        self.buf.move_into(make(size));
    }

    /// Returns `true` if half of `room` can be put in, perhaps in a larger store, without moving bytes often.
    ///
    /// If others need the memory, a large store must be emptied first, and is [dropped](Self::leave_store) then.
    /// Otherwise blocks that are never empty would keep the memory, and move many times more bytes than the others.
    pub(crate) fn has_room(&mut self, room: usize) -> bool {
        if !self.is_empty() && self.share.is_scarce() {
            return false;
        }
        let room = if self.is_small { room.min(self.buf.capacity()) } else { room };
        let half = room.div_ceil(2);
        self.is_empty()
            || self.buf.spare().len() >= half
            || (self.buf.capacity() < room && self.buf.len() + half <= room)
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.buf.capacity()
    }

    /// Takes the store out, together with its bytes.
    pub(crate) fn take_store(&mut self) -> Box<[u8]> {
        let fresh = Self::with_share(self.share.another());
        std::mem::replace(self, fresh).buf.take_store()
    }

    /// Drops the store of an empty block if others need the memory.
    #[inline]
    pub(crate) fn leave_store(&mut self) {
        if self.is_empty() && self.share.is_scarce() {
            drop(self.take_store());
        }
    }

    /// Returns the room behind all bytes.
    #[inline]
    pub(crate) fn spare(&mut self) -> &mut [u8] {
        self.buf.spare()
    }

    // Putting bytes in.

    /// Marks the first `n` bytes of `spare` as data.
    #[inline]
    pub(crate) fn commit(&mut self, n: usize) {
        debug_assert_eq!(self.raw, 0);
        self.buf.commit(n);
        self.raw = n;
        self.is_data(n);
    }

    /// Appends as much of `bytes` as there is room for, and returns how much that is.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> usize {
        let n = self.buf.push(bytes);
        self.raw = n;
        self.is_data(n);
        n
    }

    /// Calls `read` on the buffer; the bytes it appends are raw.
    pub(crate) fn read_raw<T>(&mut self, read: impl FnOnce(&mut Buf) -> T) -> T {
        let (before, capacity) = (self.buf.len(), self.buf.capacity());
        let result = read(&mut self.buf);
        self.raw += self.buf.len() - before;
        // Over TLS the buffer can have grown by a record.
        if self.buf.capacity() != capacity {
            self.share.resize(self.buf.capacity());
        }
        result
    }

    /// Returns the raw bytes.
    pub(crate) fn raw(&self) -> &[u8] {
        let filled = self.buf.filled();
        &filled[filled.len() - self.raw..]
    }

    /// Marks the first `n` raw bytes as data.
    pub(crate) fn is_data(&mut self, n: usize) {
        debug_assert!(n <= self.raw);
        if n > 0 && self.hole > 0 {
            if self.last.min(n) < WORTH_A_RUN {
                let filled = self.buf.filled_mut();
                let at = filled.len() - self.raw;
                filled.copy_within(at..at + n, at - self.hole);
            } else {
                self.gaps.push_back((self.last, self.hole));
                (self.last, self.hole) = (0, 0);
            }
        }
        self.raw -= n;
        self.last += n;
        self.len += n;
        self.trim();
    }

    /// Marks the first `n` raw bytes as framing: the reader does not see them.
    pub(crate) fn is_framing(&mut self, n: usize) {
        debug_assert!(n <= self.raw);
        self.raw -= n;
        if self.len == 0 {
            self.buf.consume(n);
        } else {
            self.hole += n;
            self.trim();
        }
    }

    /// Takes out the rest of the raw bytes.
    pub(crate) fn take_raw(&mut self, take: impl FnOnce(&[u8])) {
        if self.raw > 0 {
            take(self.raw());
            self.buf.unfill(self.raw);
            self.raw = 0;
            self.trim();
        }
    }

    /// Turns a hole without bytes behind it into room.
    fn trim(&mut self) {
        if self.raw == 0 {
            self.buf.unfill(self.hole);
            self.hole = 0;
        }
    }

    // Taking bytes out.

    /// Returns the first run; that is all data, if it is contiguous.
    #[inline]
    pub(crate) fn filled(&self) -> &[u8] {
        &self.buf.filled()[..self.gaps.front().map_or(self.last, |&(run, _)| run)]
    }

    /// Puts the first `most` bytes into up to `into.len()` pieces, and returns the number of pieces.
    pub(crate) fn pieces<'a>(&'a self, mut most: usize, into: &mut [IoSlice<'a>]) -> usize {
        let (mut n, mut rest) = (0, self.buf.filled());
        for (run, gap) in self.gaps.iter().copied().chain([(self.last, 0)]) {
            let here = run.min(most);
            if here == 0 || n == into.len() {
                break;
            }
            into[n] = IoSlice::new(&rest[..here]);
            n += 1;
            most -= here;
            rest = &rest[run + gap..];
        }
        n
    }

    /// Removes the first `n` bytes.
    #[inline]
    pub(crate) fn consume(&mut self, mut n: usize) {
        debug_assert!(n <= self.len && self.raw == 0);
        self.len -= n;
        while let Some((run, gap)) = self.gaps.front_mut() {
            let here = n.min(*run);
            self.buf.consume(here);
            *run -= here;
            n -= here;
            if *run > 0 {
                return;
            }
            self.buf.consume(*gap);
            self.gaps.pop_front();
        }
        self.buf.consume(n);
        self.last -= n;
    }
}

#[cfg(test)]
#[path = "runs_tests.rs"]
mod tests;
