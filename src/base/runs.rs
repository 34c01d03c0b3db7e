//! A block whose bytes need not be contiguous: data that was read together with its framing is decoded in place.
//!
//! ```text
//!   ├─ data ─┤ gap ├─ data ─┤ gap ├─ data ─┤ hole ├─ raw: not decoded yet  ─┤ spare
//!      run           run           run                  is_data, is_framing ▶
//! ```
//!
//! New bytes are appended, and are raw until the caller says what they are. Framing becomes a gap, which the reader never
//! sees: it gets one run after the other. Only short runs are moved together, so there are never more runs than
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

    /// Makes room for `wanted` bytes, in a larger store if necessary, but in none larger than `room`. An empty block has a
    /// store only when there are bytes to put in. The store for a short body is small: clearing 64 KiB would cost more than
    /// all the rest of it.
    ///
    /// If the memory of pipes is used up, the store stays small. Then there may be no more room than `least` bytes until
    /// the block is empty.
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
        if size <= old.max(SMALL) {
            size = size.max(SMALL.min(whole));
            if self.buf.spare().len() < least {
                size = size.max(size_for(least));
            } else if old >= size {
                return;
            }
            self.share.resize(size);
        }
        self.buf.move_into(make(size));
    }

    /// Returns `true` if half of `room` can be put in, perhaps in a larger store, without moving bytes often.
    ///
    /// If others need the memory, a large store must be emptied first, and is [dropped](Self::leave_store) then. Otherwise
    /// blocks that are never empty would keep the memory, and move many times more bytes than the others.
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
mod tests {
    use super::*;
    use crate::base::pipe_memory::PipeMemory;

    fn runs(room: usize) -> Runs {
        Runs::from_store(vec![0; room].into_boxed_slice())
    }

    fn put_raw(runs: &mut Runs, bytes: &[u8]) {
        runs.read_raw(|buf| assert_eq!(buf.push(bytes), bytes.len()));
    }

    fn all(runs: &Runs) -> (Vec<u8>, usize) {
        let mut pieces = [IoSlice::new(&[]); 32];
        let n = runs.pieces(usize::MAX, &mut pieces);
        (pieces[..n].iter().map(|piece| &**piece).collect::<Vec<&[u8]>>().concat(), n)
    }

    /// Returns a block of chunks of these sizes, with ten bytes of framing before each and four after the last, and the data.
    fn framed(sizes: &[usize]) -> (Runs, Vec<u8>) {
        let mut block = runs(64 * 1024);
        let (mut wire, mut data) = (Vec::new(), Vec::new());
        for (i, &size) in sizes.iter().enumerate() {
            wire.extend_from_slice(b"__________");
            let chunk: Vec<u8> = (0..size).map(|j| (i * 7 + j) as u8).collect();
            wire.extend_from_slice(&chunk);
            data.extend_from_slice(&chunk);
        }
        wire.extend_from_slice(b"____rest");
        put_raw(&mut block, &wire);
        for &size in sizes {
            block.is_framing(10);
            // In two steps.
            block.is_data(size / 2);
            block.is_data(size - size / 2);
        }
        block.is_framing(4);
        assert_eq!(block.raw(), b"rest");
        let mut rest = Vec::new();
        block.take_raw(|raw| rest.extend_from_slice(raw));
        assert_eq!(rest, b"rest");
        (block, data)
    }

    #[test]
    fn framing_is_not_seen_and_only_short_runs_are_moved() {
        for (sizes, pieces) in [
            (&[5000][..], 1),
            (&[10_000, 10_000, 10_000], 3),
            (&[1, 1, 1, 1, 1], 1),
            (&[1, 10_000, 1, 10_000, 10_000], 4),
            (&[], 0),
        ] {
            let (block, data) = framed(sizes);
            assert_eq!(block.len(), data.len());
            assert_eq!(all(&block), (data, pieces), "{sizes:?}");
        }
    }

    #[test]
    fn order_is_kept_however_it_is_consumed() {
        for step in [1, 7, 9_999, 10_000, 10_001, 24_000, 100_000] {
            let (mut block, data) = framed(&[10_000, 3, 10_000, 10_000, 3, 9000]);
            let mut got = Vec::new();
            while !block.is_empty() {
                assert_eq!(all(&block).0, &data[got.len()..]);
                let n = step.min(block.filled().len());
                got.extend_from_slice(&block.filled()[..n]);
                block.consume(n);
            }
            assert!(got == data, "in steps of {step}");
            assert_eq!(block.spare().len(), 64 * 1024, "an emptied block starts over");
            let (mut block, data) = framed(&[10_000, 3, 10_000, 10_000, 3, 9000]);
            let n = step.min(data.len());
            block.consume(n);
            assert_eq!(all(&block).0, &data[n..], "across runs");
        }
    }

    #[test]
    fn later_bytes_follow_the_data() {
        let (mut block, mut data) = framed(&[10_000, 10_000]);
        data.extend_from_slice(b"more");
        assert_eq!(block.push(b"more"), 4);
        block.spare()[..3].copy_from_slice(b"and");
        block.commit(3);
        data.extend_from_slice(b"and");
        assert_eq!(all(&block), (data, 2));
        let mut pieces = [IoSlice::new(&[]); 1];
        assert_eq!(block.pieces(12_000, &mut pieces), 1, "as many pieces as there is room for");
        assert_eq!(pieces[0].len(), 10_000);
    }

    #[test]
    fn when_memory_is_used_up_a_block_is_small_and_has_the_least_room() {
        const ROOM: usize = 256 * 1024;
        const MOST: usize = 4 * ROOM - 10_000;
        static MEMORY: PipeMemory = PipeMemory::new(4 * ROOM);
        let make = |size| vec![0; size].into_boxed_slice();
        let (mut block, mut others) = (Runs::with_share(Share::none(&MEMORY)), Share::none(&MEMORY));
        others.resize(MOST);
        block.make_room_for(ROOM, 0, ROOM, make);
        assert_eq!((block.capacity(), MEMORY.held()), (SMALL, MOST));
        let data: Vec<u8> = (0..10_000u32).map(|i| (i % 251) as u8).collect();
        assert_eq!(block.push(&data), 10_000);
        assert!(!block.has_room(ROOM), "its rear half is not free");
        block.consume(9_000);
        block.make_room_for(ROOM, 0, ROOM, make);
        assert!(!block.has_room(ROOM) && block.capacity() == SMALL && block.spare().len() == SMALL - 10_000);
        block.make_room_for(ROOM, 9_000, ROOM, make);
        assert!(block.has_room(ROOM) && block.capacity() == SMALL && block.spare().len() >= 9_000);
        block.make_room_for(ROOM, 20_000, ROOM, make);
        assert_eq!((block.capacity(), MEMORY.held()), (2 * SMALL, MOST + 2 * SMALL));
        assert_eq!(block.filled(), &data[9_000..]);
        others.resize(0);
        block.make_room_for(ROOM, 0, ROOM, make);
        assert_eq!((block.capacity(), MEMORY.held()), (ROOM, ROOM));
        assert!(block.has_room(ROOM) && block.filled() == &data[9_000..]);
        others.resize(MOST);
        assert!(!block.has_room(ROOM), "others need the memory: it must be emptied first");
        block.leave_store();
        assert_eq!(MEMORY.held(), MOST + ROOM, "there is something in it");
        block.consume(1_000);
        assert!(block.has_room(ROOM));
        block.leave_store();
        assert_eq!((block.capacity(), MEMORY.held()), (0, MOST));
    }

    #[test]
    fn a_read_that_makes_the_store_larger_is_counted() {
        static MEMORY: PipeMemory = PipeMemory::new(0);
        let mut block = Runs::with_share(Share::none(&MEMORY));
        block.make_room_for(100, 0, 64 * 1024, |size| vec![0; size].into_boxed_slice());
        block.read_raw(|buf| drop(buf.reserve(3 * SMALL)));
        assert_eq!((block.capacity(), MEMORY.held()), (4 * SMALL, 4 * SMALL));
        drop(block);
        assert_eq!(MEMORY.held(), 0);
    }
}
