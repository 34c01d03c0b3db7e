//! One connection of an origin server, as the rest of the proxy sees it; and its rate limit.
//!
//! ```text
//!   any loop ── offer(request) ──▶ [ queue ] ── next ──▶ the carrier, on the connection's own loop
//!                  └─ Err: full, or draining            └─ close ──▶ requests that are not begun
//! ```

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task,
    time::{Duration, Instant, SystemTime},
};

use uncork::PeerAddr;

use super::{
    counters::ConnectionInfo,
    pattern::Pattern,
    proxied_request::ProxiedRequest,
    shares::{Full, Permits},
};

pub(super) struct Link {
    pub(super) id: u64,
    /// The credential that has opened it.
    pub(super) owner: usize,
    pub(super) patterns: Vec<Pattern>,
    peer: PeerAddr,
    since: SystemTime,
    queue: Mutex<Queue>,
    /// It takes requests.
    joined: AtomicBool,
    /// Wakes the carrier.
    waker: task::Waker,
    /// Limits the requests.
    pub(super) permits: Arc<Permits>,
    requests: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
    /// In microseconds plus one; 0 if it is not known.
    round_trip: AtomicU64,
    /// A newer connection has replaced it.
    #[cfg(feature = "spdy")]
    replaced: AtomicBool,
}

struct Queue {
    requests: VecDeque<Box<ProxiedRequest>>,
    open: bool,
}

/// The data with which a connection is opened.
pub(super) struct Opening {
    pub(super) owner: usize,
    pub(super) patterns: Vec<Pattern>,
    pub(super) peer: PeerAddr,
    pub(super) since: SystemTime,
}

impl Link {
    pub(super) fn new(id: u64, opening: Opening, permits: Arc<Permits>, waker: task::Waker) -> Arc<Self> {
        let Opening { owner, patterns, peer, since } = opening;
        Arc::new(Self {
            id,
            owner,
            patterns,
            peer,
            since,
            queue: Mutex::new(Queue { requests: VecDeque::new(), open: true }),
            joined: AtomicBool::new(false),
            waker,
            permits,
            requests: AtomicU64::new(0),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            round_trip: AtomicU64::new(0),
            #[cfg(feature = "spdy")]
            replaced: Default::default(),
        })
    }

    /// Queues a request, from any thread. Returns it if the link is full (for this client), or takes no more requests.
    pub(super) fn offer(&self, mut request: Box<ProxiedRequest>) -> Result<(), (Box<ProxiedRequest>, Full)> {
        match self.permits.take(request.share.address) {
            Ok(permit) => request.permit = Some(permit),
            Err(full) => return Err((request, full)),
        }
        let mut queue = self.queue();
        if !queue.open {
            drop(queue);
            request.permit = None;
            return Err((request, Full::All));
        }
        queue.requests.push_back(request);
        drop(queue);
        self.requests.fetch_add(1, Relaxed);
        self.waker.wake_by_ref();
        Ok(())
    }

    /// A newer connection replaces this one: its carrier ends.
    #[cfg(feature = "spdy")]
    pub(super) fn replace(&self) {
        self.replaced.store(true, Relaxed);
        self.waker.wake_by_ref();
    }

    #[cfg(feature = "spdy")]
    pub(super) fn is_replaced(&self) -> bool {
        self.replaced.load(Relaxed)
    }

    pub(super) fn next(&self) -> Option<Box<ProxiedRequest>> {
        self.queue().requests.pop_front()
    }

    /// Returns a request to the queue that could not be begun yet.
    pub(super) fn put_back(&self, request: Box<ProxiedRequest>) {
        self.queue().requests.push_front(request);
    }

    /// Takes no more requests. Returns those that are not begun.
    pub(super) fn close(&self) -> VecDeque<Box<ProxiedRequest>> {
        let mut queue = self.queue();
        queue.open = false;
        std::mem::take(&mut queue.requests)
    }

    pub(super) fn set_joined(&self) {
        self.joined.store(true, Relaxed);
    }

    pub(super) fn has_joined(&self) -> bool {
        self.joined.load(Relaxed)
    }

    pub(super) fn active(&self) -> usize {
        self.permits.taken()
    }

    pub(super) fn moved_up(&self, n: usize) {
        self.up.fetch_add(n as u64, Relaxed);
    }

    pub(super) fn moved_down(&self, n: usize) {
        self.down.fetch_add(n as u64, Relaxed);
    }

    pub(super) fn set_round_trip(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.round_trip.store(micros.saturating_add(1), Relaxed);
    }

    pub(super) fn info(&self, credential: &str) -> ConnectionInfo {
        ConnectionInfo {
            credential: credential.to_owned(),
            hosts: self.patterns.iter().map(ToString::to_string).collect(),
            peer: self.peer,
            since: self.since,
            active: self.active(),
            requests: self.requests.load(Relaxed),
            bytes_up: self.up.load(Relaxed),
            bytes_down: self.down.load(Relaxed),
            round_trip: self.round_trip.load(Relaxed).checked_sub(1).map(Duration::from_micros),
            leaving: !self.queue().open,
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of one second may be moved at once.
const BUCKET: Duration = Duration::from_secs(1);

/// An empty bucket gives nothing until this much time has filled it, so that bytes are not moved one by one.
const WORTH: Duration = Duration::from_millis(50);

/// The rate limit of a credential's connections together: a bucket of one second, stored as the instant when it is full
/// again. The connection that had bytes last lets a waiting one go first.
pub(super) struct Rate {
    /// Bytes a second; 0 for no limit.
    most: u64,
    state: Mutex<Bucket>,
}

#[derive(Default)]
struct Bucket {
    full_at: Option<Instant>,
    /// The link that had bytes last.
    last: Option<u64>,
    /// Another link has got nothing since then.
    wanted: bool,
}

impl Bucket {
    /// Returns the debt above which this link gets nothing.
    fn limit(&self, link: u64) -> Duration {
        let behind = self.wanted && self.last == Some(link);
        BUCKET - if behind { 2 * WORTH } else { WORTH }
    }
}

impl Rate {
    pub(super) fn new(most: Option<u64>) -> Self {
        Self { most: most.map_or(0, |most| most.max(1)), state: Mutex::default() }
    }

    /// Returns when this link may move bytes again, with enough to be worth it. `None` if it may now.
    pub(super) fn wait(&self, now: Instant, link: u64) -> Option<Instant> {
        if self.most == 0 {
            return None;
        }
        let bucket = self.bucket();
        bucket.full_at?.checked_sub(bucket.limit(link)).filter(|at| *at > now)
    }

    /// Returns how many bytes this link may move now: none if it must [wait](Self::wait), else at least one.
    pub(super) fn left(&self, now: Instant, link: u64) -> usize {
        if self.most == 0 {
            return usize::MAX;
        }
        let mut bucket = self.bucket();
        let debt = bucket.full_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        if debt > bucket.limit(link) {
            bucket.wanted |= bucket.last != Some(link);
            return 0;
        }
        ((self.most as f64 * (BUCKET - debt).as_secs_f64()) as usize).max(1)
    }

    /// Counts bytes that this link has moved.
    pub(super) fn moved(&self, n: usize, now: Instant, link: u64) {
        if self.most > 0 && n > 0 {
            let mut bucket = self.bucket();
            let from = bucket.full_at.map_or(now, |at| at.max(now));
            bucket.full_at = Some(from + Duration::from_secs_f64(n as f64 / self.most as f64));
            if bucket.last != Some(link) {
                (bucket.last, bucket.wanted) = (Some(link), false);
            }
        }
    }

    /// Returns `true` if there is a limit.
    pub(super) fn is_limited(&self) -> bool {
        self.most > 0
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// A link that is called first each time does not starve the other.
    #[test]
    fn links_take_turns_when_both_want_more() {
        let (rate, start) = (Rate::new(Some(1000)), Instant::now());
        let (mut now, mut moved) = (start, [0; 2]);
        while now < start + Duration::from_secs(10) {
            for link in [0, 1] {
                let n = rate.left(now, link);
                rate.moved(n, now, link);
                moved[link as usize] += n;
            }
            now = [0, 1].map(|link| rate.wait(now, link).unwrap_or(now)).into_iter().min().expect("two");
        }
        // The first link had the bytes of one second at once.
        assert!(moved[1] > 4000 && moved[0] + moved[1] <= 11_100, "{moved:?}");
    }
}
