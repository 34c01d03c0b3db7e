//! The buffers of a loop. It lends one to a connection while that has bytes in flight, and takes it back when it has
//! none. The last buffer that was given back is lent next, so a quiet loop works in warm memory.

use super::buf::Buf;

/// The size of a lent buffer: the largest useful read, and four TLS records.
pub(crate) const LENT: usize = 64 * 1024;
/// Buffers that one connection can need at once, over TLS: in both directions, encrypted and plain. A connection that
/// gets fewer would ask again and again.
const WANTED: usize = 4;

/// Returns `true` if `buf` works in a lent store.
pub(crate) fn is_lent(buf: &Buf) -> bool {
    buf.capacity() >= LENT
}

/// Freed buffers that are kept. Further ones go back to the allocator.
const KEPT: usize = 16;
/// A lent buffer with at most this many bytes left in it is exchanged for a right-sized one when a turn ends. It is
/// more than one read of a head yields, so that a suspended request keeps no lent buffer for what its client sends
/// after it.
const SMALL: usize = LENT / 8 * 3;

pub(crate) struct Pool {
    /// Stores to be lent next: the first `kept` of them. They are swapped in and out, which is cheap: every request
    /// does it.
    free: [Box<[u8]>; KEPT],
    kept: usize,
    /// Stores of pipes that are not in use.
    blocks: Vec<Box<[u8]>>,
    /// Buffers that are lent now.
    lent: usize,
    /// The number of buffers that may be lent: those of `bytes`, without the memory that connections hold themselves.
    most: usize,
    bytes: usize,
    refused: bool,
}

impl Pool {
    pub(crate) fn new(bytes: usize) -> Self {
        let mut pool =
            Self { free: Default::default(), kept: 0, blocks: Vec::new(), lent: 0, most: 0, bytes, refused: false };
        pool.set_held(0);
        pool
    }

    /// Sets how many bytes connections hold of their own: that much less may be lent.
    pub(crate) fn set_held(&mut self, bytes: usize) {
        self.most = (self.bytes.saturating_sub(bytes) / LENT).max(4);
    }

    /// Lends `buf` a store, and keeps its bytes. Returns `false` if the limit is reached: try again after
    /// [`returned`](Self::returned) has returned `true`.
    #[inline]
    pub(crate) fn lend(&mut self, buf: &mut Buf) -> bool {
        buf.capacity() >= LENT || self.lend_anew(buf)
    }

    #[inline]
    fn lend_anew(&mut self, buf: &mut Buf) -> bool {
        if self.lent >= self.most {
            self.refused = true;
            return false;
        }
        self.lent += 1;
        match self.kept.checked_sub(1).and_then(|last| self.free.get_mut(last)) {
            Some(store) if buf.capacity() == 0 => {
                self.kept -= 1;
                buf.swap_store(store);
            }
            _ => self.lend_rare(buf),
        }
        true
    }

    /// Lends a store to a buffer that has one of its own, or a new store. Not inlined: every request lends two buffers,
    /// and would save registers that only this needs.
    #[inline(never)]
    fn lend_rare(&mut self, buf: &mut Buf) {
        let kept = self.kept.checked_sub(1).and_then(|last| self.free.get_mut(last)).map(std::mem::take);
        self.kept = self.kept.saturating_sub(1);
        drop(buf.move_into(kept.unwrap_or_else(|| vec![0; LENT].into_boxed_slice())));
    }

    /// Takes the store back if `buf` is empty; moves a small rest into a store of its own size.
    #[inline]
    pub(crate) fn settle(&mut self, buf: &mut Buf) {
        if buf.is_empty()
            && buf.capacity() == LENT
            && let Some(free) = self.free.get_mut(self.kept)
        {
            self.kept += 1;
            self.lent = self.lent.saturating_sub(1);
            buf.swap_store(free);
        } else if buf.capacity() > 0 {
            self.settle_rare(buf);
        }
    }

    /// Settles a buffer that has bytes in it, or a store that is not kept. Not inlined, as
    /// [`lend_rare`](Self::lend_rare).
    #[inline(never)]
    fn settle_rare(&mut self, buf: &mut Buf) {
        if buf.is_empty() {
            let store = buf.take_store();
            self.take_back(store);
        } else if buf.capacity() >= LENT && buf.len() <= SMALL {
            let store = buf.move_into(vec![0; buf.len()].into_boxed_slice());
            self.take_back(store);
        }
    }

    /// Takes back a store of any kind.
    pub(crate) fn take_back(&mut self, store: Box<[u8]>) {
        if store.len() >= LENT {
            self.lent = self.lent.saturating_sub(1);
        }
        if store.len() == LENT
            && let Some(free) = self.free.get_mut(self.kept)
        {
            self.kept += 1;
            *free = store;
        }
    }

    /// Returns a store for the block of a pipe. It is counted in the memory of pipes (`pipe_memory`), not here; the few
    /// that are kept are not counted.
    pub(crate) fn block(&mut self, room: usize) -> Box<[u8]> {
        match self.blocks.pop() {
            Some(store) if store.len() == room => store,
            _ => vec![0; room].into_boxed_slice(),
        }
    }

    /// Takes back the store of a pipe.
    pub(crate) fn take_back_block(&mut self, store: Box<[u8]>) {
        // A small one, of a short body, costs no more to make.
        if store.len() >= LENT && self.blocks.len() < KEPT {
            self.blocks.push(store);
        }
    }

    /// Returns `true`, once, if buffers can be lent again after a refusal.
    pub(crate) fn returned(&mut self) -> bool {
        self.refused && self.free() >= self.wanted() && std::mem::take(&mut self.refused)
    }

    /// Returns `true` if a connection was refused a buffer, and [`returned`](Self::returned) has not reported new ones
    /// yet.
    #[inline]
    pub(crate) fn has_refused(&self) -> bool {
        self.refused
    }

    /// Returns `true` if there are still not enough buffers for a connection that was refused one.
    pub(crate) fn is_short(&self) -> bool {
        self.refused && self.free() < self.wanted()
    }

    /// Returns `true` if less than an eighth of all that may be lent is free.
    pub(crate) fn is_scarce(&self) -> bool {
        self.free() < self.wanted().max(self.most / 8)
    }

    fn free(&self) -> usize {
        self.most.saturating_sub(self.lent)
    }

    fn wanted(&self) -> usize {
        WANTED.min(self.most)
    }

    /// Returns `true` if a connection was refused a buffer, and none was given back since.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.refused && self.lent >= self.most
    }

    #[cfg(test)]
    pub(crate) fn lent(&self) -> usize {
        self.lent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_buffer_goes_back_and_a_rest_is_right_sized() {
        let mut pool = Pool::new(1 << 20);
        let mut buf = Buf::default();
        assert!(pool.lend(&mut buf) && pool.lent() == 1);
        buf.push(b"GET / HT");
        pool.settle(&mut buf);
        assert_eq!((buf.capacity(), pool.lent()), (8, 0));
        assert!(pool.lend(&mut buf));
        assert_eq!((buf.filled(), buf.capacity()), (&b"GET / HT"[..], LENT));
        buf.consume(8);
        pool.settle(&mut buf);
        assert_eq!((buf.capacity(), pool.lent()), (0, 0));
    }

    #[test]
    fn memory_of_connections_is_not_lent() {
        let mut pool = Pool::new(12 * LENT);
        let mut bufs: Vec<Buf> = (0..13).map(|_| Buf::default()).collect();
        let mut lend = |pool: &mut Pool| bufs.iter_mut().filter_map(|b| pool.lend(b).then_some(())).count();
        pool.set_held(5 * LENT + 1);
        assert_eq!(lend(&mut pool), 6);
        pool.set_held(0);
        assert!(pool.returned());
        assert_eq!(lend(&mut pool), 12);
    }

    #[test]
    fn the_limit_holds_and_is_lifted_by_a_return() {
        let mut pool = Pool::new(4 * LENT);
        let mut bufs: Vec<Buf> = (0..5).map(|_| Buf::default()).collect();
        let got = bufs.iter_mut().map(|b| pool.lend(b)).filter(|ok| *ok).count();
        assert_eq!(got, 4);
        assert!(!pool.returned() && pool.is_short());
        pool.settle(&mut bufs[0]);
        assert!(!pool.returned() && pool.is_short(), "a connection may need several");
        bufs.iter_mut().for_each(|buf| pool.settle(buf));
        assert!(!pool.is_short() && pool.returned() && !pool.returned());
    }
}
