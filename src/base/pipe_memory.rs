//! The memory of pipes: how many bytes their blocks hold in total, and a limit for it.
//!
//! A block is made on one loop, is emptied on another, and may be dropped with the pipe on a third. So a [`Share`] goes
//! with its store and counts it. Pipes belong to no server, so the memory is counted for the process.
//!
//! The less memory is free, the smaller is a new block ([`PART`]). Nothing is rejected and nothing waits: a pipe always
//! gets a small block ([`SMALL`]), which is not counted. So all pipes together hold at most the limit and a small block
//! each.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The size of a block when the limit is reached. Each system call then moves fewer bytes.
pub(crate) const SMALL: usize = 16 * 1024;

/// 1,024 pipes of the relays' 256 KiB; as much as one loop lends in buffers.
const DEFAULT: usize = 256 << 20;

/// One block gets at most a quarter of the memory that the others leave free. So blocks become smaller while the memory
/// fills up, those of all pipes alike, and a later pipe finds some. (This is how switches share the memory of their
/// ports: Choudhury and Hahne, "Dynamic queue length thresholds", 1998.)
const PART: usize = 4;

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

    /// Changes it to the share of a store of `size` bytes. Returns `false`, and changes nothing, if that is more than a
    /// [part](PART) of what the others leave free.
    pub(crate) fn try_resize(&mut self, size: usize) -> bool {
        let (old, new) = (self.bytes, counted(size));
        if new > old {
            let limit = self.of.limit();
            let grow = |held: usize| {
                let free = limit.checked_sub(held - old)?;
                (new <= free / PART).then(|| held - old + new)
            };
            if self.of.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow).is_err() {
                return false;
            }
            self.bytes = new;
        }
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

    /// Returns `true` if less than a quarter of the memory is free: then an empty block must give up its store for
    /// others.
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
    fn shares_are_counted_until_they_are_dropped_on_any_thread() {
        static MEMORY: PipeMemory = PipeMemory::new(400_000);
        let (mut one, mut other) = (Share::none(&MEMORY), Share::none(&MEMORY));
        assert!(one.try_resize(100_000) && other.try_resize(60_000));
        assert_eq!(MEMORY.held(), 160_000);
        assert!(!one.try_resize(100_001), "more than a quarter of what the other leaves");
        assert!(one.try_resize(85_000) && one.try_resize(20_000) && other.try_resize(95_000));
        assert!(other.try_resize(SMALL) && one.try_resize(SMALL));
        assert_eq!(MEMORY.held(), 0, "small ones are not counted");
        one.resize(500_000);
        assert!(one.is_scarce() && !other.is_scarce() && !other.try_resize(SMALL + 1) && other.try_resize(SMALL));
        std::thread::spawn(move || drop(one)).join().expect("dropped");
        assert_eq!(MEMORY.held(), 0);
        assert!(other.try_resize(100_000) && !other.try_resize(usize::MAX));
        drop(other);
        assert_eq!(MEMORY.held(), 0);
    }

    #[test]
    fn one_share_is_at_most_a_quarter_of_what_the_others_leave() {
        static MEMORY: PipeMemory = PipeMemory::new(1 << 20);
        let mut shares: Vec<Share> = (0..12).map(|_| Share::none(&MEMORY)).collect();
        let sizes: Vec<usize> = shares
            .iter_mut()
            .map(|share| {
                [256, 128, 64, 32, 16].into_iter().find(|kib| share.try_resize(kib << 10)).expect("a small one")
            })
            .collect();
        assert_eq!(sizes, [256, 128, 128, 128, 64, 64, 64, 32, 32, 32, 16, 16]);
        shares.remove(0);
        assert!(shares[10].try_resize(64 << 10), "a late share gets what others give back");
    }

    #[test]
    fn many_threads_never_hold_more_than_the_limit() {
        static MEMORY: PipeMemory = PipeMemory::new(8 * 20_000);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let mut shares = [0; 3].map(|_| Share::none(&MEMORY));
                        shares.iter_mut().for_each(|share| _ = share.try_resize(20_000));
                        // Five of them: then 60,000 are free, and a quarter of that is less than 20,000.
                        assert!(MEMORY.held() <= 5 * 20_000);
                    }
                });
            }
        });
        assert_eq!(MEMORY.held(), 0);
    }
}
