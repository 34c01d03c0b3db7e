//! Output on its way to the transport: small pieces are copied together, large blocks are referenced.
//!
//! ```text
//!   buf     [ head of the response | … ]                    one store, lent
//!   blocks  [ after 120 bytes: Shared(Arc<[u8]>, from) ]    any number of connections can reference one block
//! ```

use std::{collections::VecDeque, io::IoSlice, sync::Arc};

use super::{buf::Buf, pool::Pool};

/// Bytes outside the buffer.
pub(crate) enum Block {
    Static(&'static [u8]),
    Owned(Vec<u8>),
    Shared(Arc<[u8]>),
}

impl Default for Block {
    fn default() -> Self {
        Self::Static(&[])
    }
}

impl Block {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Static(bytes) => bytes,
            Self::Owned(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl Block {
    /// Returns its bytes if a copy is cheaper than a segment of their own, none otherwise.
    #[inline]
    pub(crate) fn if_short(&self) -> &[u8] {
        let bytes = self.bytes();
        if bytes.len() < WORTH_REFERENCING { bytes } else { &[] }
    }
}

/// Below this many bytes a copy is cheaper than a segment of its own.
const WORTH_REFERENCING: usize = 2048;

#[derive(Default)]
pub(crate) struct Out {
    pub(crate) buf: Buf,
    /// Allocated with the first block: most connections never have one.
    blocks: Option<Box<Blocks>>,
}

#[derive(Default)]
struct Blocks {
    /// In order; each with the bytes of `buf` that go out before it, and the number of its bytes that are out.
    queue: VecDeque<(usize, Block, usize)>,
    /// Bytes of `buf` that go out before some block.
    before: usize,
}

impl Out {
    /// Returns the number of bytes that are not sent yet.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        let Some(blocks) = &self.blocks else { return self.buf.len() };
        self.buf.len() + blocks.queue.iter().map(|(_, block, from)| block.bytes().len() - from).sum::<usize>()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.buf.is_empty() && self.blocks.as_ref().is_none_or(|blocks| blocks.queue.is_empty())
    }

    /// Appends a copy of `bytes`, in a larger store if necessary. The caller enforces the limit.
    #[inline]
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buf.reserve(bytes.len());
        self.buf.push(bytes);
    }

    /// Appends a block: a small one is copied, a large one is taken and referenced.
    #[inline]
    pub(crate) fn push_block(&mut self, block: &mut Block) {
        let bytes = block.bytes();
        if bytes.len() < WORTH_REFERENCING { self.push(bytes) } else { self.reference(std::mem::take(block)) }
    }

    fn reference(&mut self, block: Block) {
        let blocks = self.blocks.get_or_insert_default();
        let copied = self.buf.len() - blocks.before;
        blocks.before += copied;
        blocks.queue.push_back((copied, block, 0));
    }

    /// Returns the bytes to be sent, if they are one piece.
    #[inline]
    pub(crate) fn only_piece(&self) -> Option<&[u8]> {
        if self.blocks.as_ref().is_none_or(|blocks| blocks.queue.is_empty()) { Some(self.buf.filled()) } else { None }
    }

    /// Puts the bytes to be sent next into up to `N` pieces, and returns the number of pieces.
    pub(crate) fn pieces<'a, const N: usize>(&'a self, into: &mut [IoSlice<'a>; N]) -> usize {
        let (mut n, mut rest) = (0, self.buf.filled());
        let mut put = |bytes: &'a [u8]| {
            if !bytes.is_empty() && n < N {
                into[n] = IoSlice::new(bytes);
                n += 1;
            }
        };
        let queue = self.blocks.iter().flat_map(|blocks| &blocks.queue);
        for (copied, block, from) in queue.take(N) {
            let (head, tail) = rest.split_at(*copied);
            rest = tail;
            put(head);
            put(&block.bytes()[*from..]);
        }
        if self.blocks.as_ref().is_none_or(|blocks| blocks.queue.len() <= N) {
            put(rest);
        }
        n
    }

    /// Removes the first `n` bytes: they are sent.
    #[inline]
    pub(crate) fn consume(&mut self, n: usize) {
        if self.blocks.is_none() { self.buf.consume(n) } else { self.consume_blocks(n) }
    }

    /// Not inlined: most output has no blocks.
    #[inline(never)]
    fn consume_blocks(&mut self, mut n: usize) {
        let Some(blocks) = &mut self.blocks else { return };
        while let Some((copied, block, from)) = blocks.queue.front_mut() {
            let from_buf = n.min(*copied);
            self.buf.consume(from_buf);
            *copied -= from_buf;
            blocks.before -= from_buf;
            n -= from_buf;
            if *copied > 0 {
                return;
            }
            let from_block = n.min(block.bytes().len() - *from);
            *from += from_block;
            n -= from_block;
            if *from < block.bytes().len() {
                return;
            }
            blocks.queue.pop_front();
        }
        self.buf.consume(n);
    }

    /// Discards everything.
    pub(crate) fn clear(&mut self) {
        self.blocks = None;
        self.buf.consume(self.buf.len());
    }

    /// Gives the store back to the pool if it is empty; keeps a small rest in a store of its own size.
    #[inline]
    pub(crate) fn settle(&mut self, pool: &mut Pool) {
        pool.settle(&mut self.buf);
        if self.blocks.as_ref().is_some_and(|blocks| blocks.queue.is_empty() && blocks.queue.capacity() > 8) {
            self.blocks = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(out: &Out) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 8];
        let n = out.pieces(&mut slices);
        slices[..n].iter().flat_map(|s| s.iter().copied()).collect()
    }

    #[test]
    fn order_is_kept_however_it_is_consumed() {
        let big: Arc<[u8]> = (0..5000u32).map(|i| i as u8).collect();
        for step in [1, 3, 100, 2500, 5000, 20_000] {
            let mut out = Out::default();
            out.push(b"head");
            out.push_block(&mut Block::Shared(big.clone()));
            out.push_block(&mut Block::Static(b"small"));
            out.push(b"between");
            out.push_block(&mut Block::Shared(big.clone()));
            out.push(b"tail");
            let want: Vec<u8> = [b"head", &big[..], b"smallbetween", &big[..], b"tail"].concat();
            assert_eq!(out.len(), want.len());
            let mut got = Vec::new();
            while !out.is_empty() {
                let now = all(&out);
                let n = step.min(now.len());
                got.extend_from_slice(&now[..n]);
                out.consume(n);
                assert_eq!(out.len(), want.len() - got.len());
            }
            assert!(got == want, "in steps of {step}");
        }
        assert_eq!(Arc::strong_count(&big), 1);
    }

    #[test]
    fn a_shared_block_is_not_copied() {
        let big: Arc<[u8]> = vec![7; 4096].into();
        let mut out = Out::default();
        out.push_block(&mut Block::Shared(big.clone()));
        assert_eq!((out.buf.capacity(), Arc::strong_count(&big)), (0, 2));
        out.clear();
        assert!(out.is_empty());
    }
}
