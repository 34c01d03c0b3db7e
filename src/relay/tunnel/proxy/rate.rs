//! The rate limit of a credential's connections.
//!
//! ```text
//!   bytes ──▶ [ bucket of one second ] ──▶ at most so many a second, over all connections of the credential
//!               └─ empty: wait until 50 ms of bytes have come in; the connection that had bytes last waits longer
//! ```

use std::{
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use crate::relay::lock::lock;

/// Bytes of one second may be moved at once.
const BUCKET: Duration = Duration::from_secs(1);

/// An empty bucket gives nothing until this much time has filled it, so that bytes are not moved one by one.
const WORTH: Duration = Duration::from_millis(50);

/// The rate limit of a credential's connections together: a bucket of one second, stored as the instant when it is full
/// again. The connection that had bytes last lets a waiting one go first.
pub(super) struct Rate {
    /// Bytes a second; 0 for no limit.
    limit: u64,
    bucket: Mutex<Bucket>,
}

#[derive(Default)]
struct Bucket {
    full_at: Option<Instant>,
    /// The connection that had bytes last.
    last: Option<u64>,
    /// Another connection has got nothing since then.
    wanted: bool,
}

impl Bucket {
    /// Returns the debt above which this connection gets nothing.
    fn max_debt(&self, connection: u64) -> Duration {
        let behind = self.wanted && self.last == Some(connection);
        BUCKET - if behind { 2 * WORTH } else { WORTH }
    }
}

impl Rate {
    pub(super) fn new(limit: Option<u64>) -> Self {
        Self { limit: limit.map_or(0, |limit| limit.max(1)), bucket: Mutex::default() }
    }

    /// Returns when this connection may move bytes again, with enough to be worth it. `None` if it may now.
    pub(super) fn wait(&self, now: Instant, connection: u64) -> Option<Instant> {
        if self.limit == 0 {
            return None;
        }
        let bucket = self.bucket();
        bucket.full_at?.checked_sub(bucket.max_debt(connection)).filter(|at| *at > now)
    }

    /// Returns how many bytes this connection may move now: none if it must [wait](Self::wait), else at least one.
    pub(super) fn left(&self, now: Instant, connection: u64) -> usize {
        if self.limit == 0 {
            return usize::MAX;
        }
        let mut bucket = self.bucket();
        let debt = bucket.full_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        if debt > bucket.max_debt(connection) {
            bucket.wanted |= bucket.last != Some(connection);
            return 0;
        }
        ((self.limit as f64 * (BUCKET - debt).as_secs_f64()) as usize).max(1)
    }

    /// Counts bytes that this connection has moved.
    pub(super) fn moved(&self, n: usize, now: Instant, connection: u64) {
        if self.limit > 0 && n > 0 {
            let mut bucket = self.bucket();
            let from = bucket.full_at.map_or(now, |at| at.max(now));
            bucket.full_at = Some(from + Duration::from_secs_f64(n as f64 / self.limit as f64));
            if bucket.last != Some(connection) {
                (bucket.last, bucket.wanted) = (Some(connection), false);
            }
        }
    }

    /// Returns `true` if there is a limit.
    pub(super) fn is_limited(&self) -> bool {
        self.limit > 0
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        lock(&self.bucket)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a starting point for a virtual clock")]
mod tests {
    use super::*;

    #[test]
    fn a_rate_holds_over_time() {
        let (rate, start) = (Rate::new(Some(1000)), Instant::now());
        let (mut now, mut moved) = (start, 0);
        while now < start + Duration::from_secs(10) {
            match rate.wait(now, 0) {
                Some(at) => now = at,
                None => {
                    let n = rate.left(now, 0).min(100);
                    assert!(n > 0);
                    rate.moved(n, now, 0);
                    moved += n;
                }
            }
        }
        assert!((10_000..=11_100).contains(&moved), "{moved} bytes in 10 s");
        let none = Rate::new(None);
        none.moved(usize::MAX, now, 0);
        assert_eq!((none.wait(now, 0), none.left(now, 0)), (None, usize::MAX));
    }

    /// A connection that is called first each time does not starve the other.
    #[test]
    fn connections_take_turns_when_both_want_more() {
        let (rate, start) = (Rate::new(Some(1000)), Instant::now());
        let (mut now, mut moved) = (start, [0; 2]);
        while now < start + Duration::from_secs(10) {
            for connection in [0, 1] {
                let n = rate.left(now, connection);
                rate.moved(n, now, connection);
                moved[connection as usize] += n;
            }
            now = [0, 1].map(|connection| rate.wait(now, connection).unwrap_or(now)).into_iter().min().expect("two");
        }
        // The first connection had the bytes of one second at once.
        assert!(moved[1] > 4000 && moved[0] + moved[1] <= 11_100, "{moved:?}");
    }
}
