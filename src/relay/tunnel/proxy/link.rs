//! One connection of an origin, as the rest of the proxy sees it; and how fast it may be.
//!
//! ```text
//!   any loop ── offer(order) ──▶ [ orders ] ── next ──▶ the carrier, on the connection's own loop
//!                  └─ Err: full, or leaving               └─ close ──▶ orders that nobody has begun
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
    shares::{Full, Places},
};

pub(super) struct Link {
    pub(super) id: u64,
    /// The credential it was opened with.
    pub(super) owner: usize,
    pub(super) patterns: Vec<Pattern>,
    peer: PeerAddr,
    since: SystemTime,
    queue: Mutex<Queue>,
    /// Requests come to it.
    joined: AtomicBool,
    /// Wakes the carrier.
    waker: task::Waker,
    /// For requests.
    pub(super) places: Arc<Places>,
    requests: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
    /// In microseconds, and one more; 0 if it is not known.
    round_trip: AtomicU64,
    /// Another has taken its place.
    #[cfg(feature = "spdy")]
    ousted: AtomicBool,
}

struct Queue {
    orders: VecDeque<Box<ProxiedRequest>>,
    open: bool,
}

/// What a connection is opened with.
pub(super) struct Opening {
    pub(super) owner: usize,
    pub(super) patterns: Vec<Pattern>,
    pub(super) peer: PeerAddr,
    pub(super) since: SystemTime,
}

impl Link {
    pub(super) fn new(id: u64, opening: Opening, places: Arc<Places>, waker: task::Waker) -> Arc<Self> {
        let Opening { owner, patterns, peer, since } = opening;
        Arc::new(Self {
            id,
            owner,
            patterns,
            peer,
            since,
            queue: Mutex::new(Queue { orders: VecDeque::new(), open: true }),
            joined: AtomicBool::new(false),
            waker,
            places,
            requests: AtomicU64::new(0),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            round_trip: AtomicU64::new(0),
            #[cfg(feature = "spdy")]
            ousted: Default::default(),
        })
    }

    /// Gives it a request, from any thread; or gives it back, if the link is full (for this client) or takes no more.
    pub(super) fn offer(&self, mut order: Box<ProxiedRequest>) -> Result<(), (Box<ProxiedRequest>, Full)> {
        match self.places.take(order.share.address) {
            Ok(place) => order.place = Some(place),
            Err(full) => return Err((order, full)),
        }
        let mut queue = self.queue();
        if !queue.open {
            drop(queue);
            order.place = None;
            return Err((order, Full::All));
        }
        queue.orders.push_back(order);
        drop(queue);
        self.requests.fetch_add(1, Relaxed);
        self.waker.wake_by_ref();
        Ok(())
    }

    /// Another takes its place: its carrier is to end.
    #[cfg(feature = "spdy")]
    pub(super) fn oust(&self) {
        self.ousted.store(true, Relaxed);
        self.waker.wake_by_ref();
    }

    #[cfg(feature = "spdy")]
    pub(super) fn is_ousted(&self) -> bool {
        self.ousted.load(Relaxed)
    }

    pub(super) fn next(&self) -> Option<Box<ProxiedRequest>> {
        self.queue().orders.pop_front()
    }

    /// It could not be begun yet.
    pub(super) fn put_back(&self, order: Box<ProxiedRequest>) {
        self.queue().orders.push_front(order);
    }

    /// Takes no more requests. Those that nobody has begun.
    pub(super) fn close(&self) -> VecDeque<Box<ProxiedRequest>> {
        let mut queue = self.queue();
        queue.open = false;
        std::mem::take(&mut queue.orders)
    }

    pub(super) fn set_joined(&self) {
        self.joined.store(true, Relaxed);
    }

    pub(super) fn has_joined(&self) -> bool {
        self.joined.load(Relaxed)
    }

    pub(super) fn active(&self) -> usize {
        self.places.taken()
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

/// A second's worth of bytes may be moved at once.
const BUCKET: Duration = Duration::from_secs(1);

/// Of an empty bucket, nothing is taken before that much time's worth is in it: not byte by byte.
const WORTH: Duration = Duration::from_millis(50);

/// How many bytes a credential's connections may carry: a bucket for one second, told as the instant when it is full
/// again. Shared by all of them: which of them had bytes last lets another go first that waits.
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
    /// Another one has found nothing since.
    wanted: bool,
}

impl Bucket {
    /// Returns the debt beyond which this link may not have anything.
    fn limit(&self, link: u64) -> Duration {
        let behind = self.wanted && self.last == Some(link);
        BUCKET - if behind { 2 * WORTH } else { WORTH }
    }
}

impl Rate {
    pub(super) fn new(most: Option<u64>) -> Self {
        Self { most: most.map_or(0, |most| most.max(1)), state: Mutex::default() }
    }

    /// Returns the time when this link may move bytes again, if it may not now: when there is something worth moving.
    pub(super) fn wait(&self, now: Instant, link: u64) -> Option<Instant> {
        if self.most == 0 {
            return None;
        }
        let bucket = self.bucket();
        bucket.full_at?.checked_sub(bucket.limit(link)).filter(|at| *at > now)
    }

    /// Returns how many bytes this link may move now: none if there is to be [waited](Self::wait), else one at least.
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

    /// Tells whether there is a limit.
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

    /// One that is called first each time does not keep the other from its part.
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
        // The first had a second's worth at once.
        assert!(moved[1] > 4000 && moved[0] + moved[1] <= 11_100, "{moved:?}");
    }
}
