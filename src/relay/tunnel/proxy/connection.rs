//! One connection of an origin server, as the rest of the proxy sees it.
//!
//! ```text
//!   any loop ── offer(request) ──▶ [ queue ] ── next ──▶ the carrier, on the connection's own loop
//!                  └─ Err: full, or draining            └─ close ──▶ requests that are not begun
//! ```

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task,
    time::{Duration, SystemTime},
};

use uncork::PeerAddr;

use super::{
    counters::ConnectionInfo,
    proxied_request::ProxiedRequest,
    shares::{PermitError, Permits},
};
use crate::relay::{
    lock::lock,
    tunnel::{labels::Inner, pattern::Pattern},
};

pub(super) struct OriginConnection {
    pub(super) id: u64,
    /// The credential that has opened it.
    pub(super) owner: usize,
    pub(super) patterns: Vec<Pattern>,
    peer: PeerAddr,
    since: SystemTime,
    inner: Inner,
    queue: Mutex<Queue>,
    /// It takes requests.
    joined: AtomicBool,
    /// Wakes the carrier.
    waker: task::Waker,
    /// Limits the requests.
    pub(super) permits: Arc<Permits>,
    requests: AtomicU64,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
    /// In microseconds plus one; 0 if it is not known.
    round_trip: AtomicU64,
    /// A newer connection has replaced it.
    #[cfg(feature = "spdy")]
    replaced: AtomicBool,
    /// The origin server goes to another node if this connection is closed.
    #[cfg(feature = "nodes")]
    pub(super) spreads: bool,
    /// It is closed, because other nodes have fewer connections.
    #[cfg(feature = "nodes")]
    shed: AtomicBool,
    /// Other nodes are told of its hosts.
    #[cfg(feature = "nodes")]
    announced: AtomicBool,
}

struct Queue {
    requests: VecDeque<Box<ProxiedRequest>>,
    open: bool,
}

/// The verified identity of a new connection, and the names that it registers.
pub(super) struct Registration {
    pub(super) owner: usize,
    pub(super) patterns: Vec<Pattern>,
    pub(super) peer: PeerAddr,
    pub(super) since: SystemTime,
    pub(super) inner: Inner,
    /// The origin server uses other nodes, if it is told about them.
    #[cfg_attr(not(feature = "nodes"), expect(dead_code, reason = "only nodes close connections for others"))]
    pub(super) spreads: bool,
}

impl OriginConnection {
    pub(super) fn new(id: u64, registration: Registration, permits: Arc<Permits>, waker: task::Waker) -> Arc<Self> {
        #[cfg(feature = "nodes")]
        let spreads = registration.spreads;
        let Registration { owner, patterns, peer, since, inner, .. } = registration;
        Arc::new(Self {
            id,
            owner,
            patterns,
            peer,
            since,
            inner,
            queue: Mutex::new(Queue { requests: VecDeque::new(), open: true }),
            joined: AtomicBool::new(false),
            waker,
            permits,
            requests: AtomicU64::new(0),
            bytes_up: AtomicU64::new(0),
            bytes_down: AtomicU64::new(0),
            round_trip: AtomicU64::new(0),
            #[cfg(feature = "spdy")]
            replaced: Default::default(),
            #[cfg(feature = "nodes")]
            spreads,
            #[cfg(feature = "nodes")]
            shed: AtomicBool::new(false),
            #[cfg(feature = "nodes")]
            announced: AtomicBool::new(false),
        })
    }

    /// Queues a request, from any thread. Returns it if the connection has no
    /// permit for it, or takes no more requests.
    pub(super) fn offer(&self, mut request: Box<ProxiedRequest>) -> Result<(), (Box<ProxiedRequest>, PermitError)> {
        match self.permits.take(request.share.address) {
            Ok(permit) => request.permit = Some(permit),
            Err(error) => return Err((request, error)),
        }
        let mut queue = self.queue();
        if !queue.open {
            drop(queue);
            request.permit = None;
            return Err((request, PermitError::AllTaken));
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

    /// Other nodes have fewer connections: its carrier drains.
    #[cfg(feature = "nodes")]
    pub(super) fn shed(&self) {
        self.shed.store(true, Relaxed);
        self.waker.wake_by_ref();
    }

    #[cfg(feature = "nodes")]
    pub(super) fn is_shed(&self) -> bool {
        self.shed.load(Relaxed)
    }

    /// Returns its hosts and patterns, without paths.
    #[cfg(feature = "nodes")]
    pub(super) fn hosts(&self) -> impl Iterator<Item = String> {
        self.patterns.iter().map(|pattern| Pattern { path: "".into(), ..pattern.clone() }.to_string())
    }

    /// Returns `true` once: other nodes are told of its hosts.
    #[cfg(feature = "nodes")]
    pub(super) fn announces(&self) -> bool {
        !self.announced.swap(true, Relaxed)
    }

    /// Returns `true` once, if other nodes were told of its hosts.
    #[cfg(feature = "nodes")]
    pub(super) fn withdraws(&self) -> bool {
        self.announced.swap(false, Relaxed)
    }

    /// Returns `true` if it takes requests.
    #[cfg(feature = "nodes")]
    pub(super) fn is_open(&self) -> bool {
        self.has_joined() && !self.is_shed() && self.queue().open
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

    /// Returns `true` if it has one request in progress at a time; others wait.
    pub(super) fn is_serial(&self) -> bool {
        self.inner == Inner::Http1
    }

    pub(super) fn active(&self) -> usize {
        self.permits.taken()
    }

    /// Counts bytes of request bodies, and of response bodies.
    pub(super) fn count_bytes(&self, request: usize, response: usize) {
        self.bytes_up.fetch_add(request as u64, Relaxed);
        self.bytes_down.fetch_add(response as u64, Relaxed);
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
            bytes_up: self.bytes_up.load(Relaxed),
            bytes_down: self.bytes_down.load(Relaxed),
            round_trip: self.round_trip.load(Relaxed).checked_sub(1).map(Duration::from_micros),
            draining: !self.queue().open,
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }
}
