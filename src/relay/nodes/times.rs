//! How long another node takes to respond to a question.
//!
//! Forwarded requests are not measured: most of them wait for the other client, for seconds or minutes. A question
//! takes the same way (the same client and its idle connections, the signature, the listener and its loop) and needs no
//! wait. So its time is what forwarding adds to a request.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Upper bounds of the histogram, in microseconds: a node on the same machine, one in the same network, one on another
/// continent. The last is the deadline of a question.
const BOUNDS: [u64; 12] = [250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000];

/// How long a node has taken to respond to questions about itself: [`Nodes::ask`](super::Nodes::ask) and
/// [`Nodes::watch`](super::Nodes::watch).
///
/// A time begins with the question and ends with the head of the response. It includes the time to connect, unless a
/// connection to the node is idle.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeTimes {
    /// Time of the last question with a response. `None` before the first one.
    pub last: Option<Duration>,
    /// A histogram: upper bounds, ascending, and how many responses took at most that long and longer than the bound
    /// before. Longer ones are in no bucket.
    pub buckets: Vec<(Duration, u64)>,
    /// Responses in total.
    pub count: u64,
    /// Sum of their times.
    pub sum: Duration,
    /// Questions without a response within 1 s, or with a response that rejects this node.
    pub failed: u64,
}

#[derive(Default)]
pub(super) struct Times {
    buckets: [AtomicU64; BOUNDS.len()],
    count: AtomicU64,
    /// In microseconds.
    sum: AtomicU64,
    /// In microseconds. Meaningless before the first response.
    last: AtomicU64,
    failed: AtomicU64,
}

impl Times {
    pub(super) fn responded(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().zip(&self.buckets).find(|(bound, _)| micros <= **bound);
        if let Some((_, bucket)) = bucket {
            bucket.fetch_add(1, Relaxed);
        }
        self.sum.fetch_add(micros, Relaxed);
        self.last.store(micros, Relaxed);
        self.count.fetch_add(1, Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    pub(super) fn times(&self) -> NodeTimes {
        let count = self.count.load(Relaxed);
        let buckets = BOUNDS.iter().zip(&self.buckets);
        NodeTimes {
            last: (count > 0).then(|| Duration::from_micros(self.last.load(Relaxed))),
            buckets: buckets.map(|(bound, n)| (Duration::from_micros(*bound), n.load(Relaxed))).collect(),
            count,
            sum: Duration::from_micros(self.sum.load(Relaxed)),
            failed: self.failed.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_in_one_bucket() {
        let times = Times::default();
        assert_eq!(times.times().last, None);
        for micros in [0, 250, 251, 1_000_000, 1_000_001] {
            times.responded(Duration::from_micros(micros));
        }
        times.failed();
        let times = times.times();
        let filled: Vec<_> = times.buckets.iter().filter(|(_, n)| *n > 0).map(|(b, n)| (b.as_micros(), *n)).collect();
        assert_eq!(filled, [(250, 2), (500, 1), (1_000_000, 1)]);
        assert_eq!((times.count, times.failed, times.sum), (5, 1, Duration::from_micros(2_000_502)));
        assert_eq!(times.last, Some(Duration::from_micros(1_000_001)));
    }
}
