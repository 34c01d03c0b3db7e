//! How many bytes a pipe has moved.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// The ends of a pipe, as an index of what each of them has.
pub(super) const WRITER: usize = 0;
pub(super) const READER: usize = 1;

/// The byte counters of a pipe, readable from any thread while bytes move and afterwards.
///
/// Bytes that the system splices are counted like others: as written when they are in the pipe of the system, as read
/// when they have left it.
#[derive(Clone, Debug, Default)]
pub struct PipeCounters(Arc<[AtomicU64; 2]>);

impl PipeCounters {
    /// Returns the number of bytes put into the pipe so far.
    pub fn written(&self) -> u64 {
        self.0[WRITER].load(Ordering::Relaxed)
    }

    /// Returns the number of bytes taken out of the pipe so far.
    pub fn read(&self) -> u64 {
        self.0[READER].load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, end: usize, n: usize) {
        self.0[end].fetch_add(n as u64, Ordering::Relaxed);
    }
}
