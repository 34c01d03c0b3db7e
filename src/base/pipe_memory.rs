//! The memory of pipes: how many bytes their blocks hold in total, and a limit for it.
//!
//! A block is made on one loop, is emptied on another, and may be dropped with the pipe on a third. So a [`Share`] goes
//! with its store and counts it. Pipes belong to no server, so the memory is counted for the process.
//!
//! Beyond the limit nothing is rejected and nothing waits: a pipe gets a small block ([`SMALL`]) until others have given
//! theirs back. Small blocks are not counted. So all pipes together hold at most the limit and a small block each.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The size of a block when the limit is reached. Each system call then moves fewer bytes.
pub(crate) const SMALL: usize = 16 * 1024;

/// 1,024 pipes of the relays' 256 KiB; as much as one loop lends in buffers.
const DEFAULT: usize = 256 << 20;

/// The memory of all pipes of the process.
pub(crate) static PROCESS: PipeMemory = PipeMemory::new(DEFAULT);

pub(crate) struct PipeMemory {
    /// Bytes of blocks that are not small.
    held: AtomicUsize,
    limit: AtomicUsize,
}

impl PipeMemory {
    pub(crate) const fn new(limit: usize) -> Self {
        Self { held: AtomicUsize::new(0), limit: AtomicUsize::new(limit) }
    }

    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    pub(crate) fn set_limit(&self, bytes: usize) {
        self.limit.store(bytes, Ordering::Relaxed);
    }
}

/// The memory that one block holds. Dropping it gives the memory back.
pub(crate) struct Share {
    of: &'static PipeMemory,
    bytes: usize,
}

impl Share {
    /// Creates an empty share of `of`.
    pub(crate) const fn none(of: &'static PipeMemory) -> Self {
        Self { of, bytes: 0 }
    }

    /// Creates an empty share of the same memory.
    pub(crate) fn another(&self) -> Self {
        Self::none(self.of)
    }

    /// Changes it to the share of a store of `size` bytes. Returns `false`, and changes nothing, if the limit does not
    /// allow that.
    pub(crate) fn try_resize(&mut self, size: usize) -> bool {
        let more = counted(size).saturating_sub(self.bytes);
        let limit = self.of.limit();
        let add = |held: usize| held.checked_add(more).filter(|held| *held <= limit);
        if more > 0 && self.of.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_err() {
            return false;
        }
        self.bytes += more;
        self.resize(size);
        true
    }

    /// Changes it to the share of a store of `size` bytes, whatever the limit.
    pub(crate) fn resize(&mut self, size: usize) {
        let (old, new) = (self.bytes, counted(size));
        if new > old {
            self.of.held.fetch_add(new - old, Ordering::Relaxed);
        } else if new < old {
            self.of.held.fetch_sub(old - new, Ordering::Relaxed);
        }
        self.bytes = new;
    }

    /// Returns `true` if less than a quarter of the memory is free: then an empty block must give up its store for others.
    #[inline]
    pub(crate) fn is_scarce(&self) -> bool {
        self.bytes > 0 && self.of.held() > self.of.limit() / 4 * 3
    }
}

impl Default for Share {
    fn default() -> Self {
        Self::none(&PROCESS)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.resize(0);
    }
}

fn counted(size: usize) -> usize {
    if size > SMALL { size } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_counted_until_they_are_dropped_wherever_that_is() {
        static MEMORY: PipeMemory = PipeMemory::new(100_000);
        let (mut one, mut other) = (Share::none(&MEMORY), Share::none(&MEMORY));
        assert!(one.try_resize(60_000) && !other.try_resize(60_000) && other.try_resize(40_000));
        assert_eq!(MEMORY.held(), 100_000);
        assert!(!one.try_resize(60_001), "not even a byte more");
        assert!(one.try_resize(60_000) && one.try_resize(20_000) && other.try_resize(80_000));
        assert!(other.try_resize(SMALL) && one.try_resize(SMALL));
        assert_eq!(MEMORY.held(), 0, "small ones are not counted");
        one.resize(200_000);
        assert!(one.is_scarce() && !other.is_scarce() && !other.try_resize(SMALL + 1) && other.try_resize(SMALL));
        std::thread::spawn(move || drop(one)).join().expect("dropped");
        assert_eq!(MEMORY.held(), 0);
        assert!(other.try_resize(100_000) && !other.try_resize(usize::MAX));
        drop(other);
        assert_eq!(MEMORY.held(), 0);
    }

    #[test]
    fn many_threads_never_hold_more_than_the_limit() {
        static MEMORY: PipeMemory = PipeMemory::new(5 * 20_000);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let mut shares = [0; 3].map(|_| Share::none(&MEMORY));
                        shares.iter_mut().for_each(|share| _ = share.try_resize(20_000));
                        assert!(MEMORY.held() <= 5 * 20_000);
                    }
                });
            }
        });
        assert_eq!(MEMORY.held(), 0);
    }
}
