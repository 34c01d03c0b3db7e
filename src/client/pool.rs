//! Assigns requests to connections.
//!
//! ```text
//!   start ─▶ an idle connection of this loop? ──▶ it serves
//!            a free permit, or an idle connection of another loop to close? ──▶ a new connection serves
//!            space in the queue? ──▶ waits for a free connection of its loop, or for a free permit
//! ```
//!
//! All connections to one origin (scheme, host, port; or Unix socket) are counted together, over all loops. A
//! connection serves only requests of its own loop. A loop that blocks (thread per connection) or ends affects no
//! requests of other loops.
//!
//! A request that has a permit goes to the function [`Connect`], so this file does not depend on sockets. A connection
//! that is free calls [`Pool::release`].
//!
//! There is one lock. It is held while lists change, and never while application code runs or a connection is dropped.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Instant,
};

use super::{
    error::Error,
    exchange::{Exchange, Key, Pending},
    idle_slot::{Content, IdleSlot},
    settings::Settings,
};
use crate::{
    api::LoopHandle,
    base::{Moment, Timeout, lock},
};

/// How often requests of other loops may overtake the first request of the queue.
const PASSED_MAX: u8 = 16;

/// Opens a connection for a request that has a permit. It is called on the request's loop.
type Connect = Box<dyn Fn(Pending, ConnPermit, Moment) + Send + Sync>;

/// The connections of a client. The client, its clones and all permits keep it alive.
pub(super) struct Pool {
    pub(super) settings: Settings,
    hosts: Mutex<HashMap<Key, Host>>,
    connect: Connect,
}

/// A request and the permit of the connection that will serve it.
pub(super) type Permitted = (Box<Exchange>, ConnPermit);

/// The slot of an idle connection. It has no permit: its place in the list counts instead.
pub(super) type Slot = IdleSlot<Permitted>;

/// One connection of an origin's limit. When dropped, it passes to the next queued request.
pub(super) struct ConnPermit {
    pool: Arc<Pool>,
    key: Key,
    void: bool,
}

impl ConnPermit {
    /// Creates the permit of a connection that is counted already.
    fn new(pool: &Arc<Pool>, key: &Key) -> Self {
        Self { pool: pool.clone(), key: key.clone(), void: false }
    }

    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    /// Opens a connection for this request.
    pub(super) fn connect(self, pending: Pending, now: Moment) {
        let pool = self.pool.clone();
        (pool.connect)(pending, self, now);
    }

    /// Drops the permit without passing it on: its connection is counted otherwise.
    fn void(mut self) {
        self.void = true;
    }
}

impl Drop for ConnPermit {
    fn drop(&mut self) {
        if !self.void {
            self.pool.free(&self.key);
        }
    }
}

/// The connections and requests of one origin.
#[derive(Default)]
struct Host {
    /// The connections that are open or being opened. Each has a permit or is in `idle`.
    open: usize,
    /// The most recently used one is last, and is used first.
    idle: Vec<Arc<Slot>>,
    waiting: VecDeque<Pending>,
    /// How often the first request in `waiting` has been overtaken.
    passed: u8,
    /// When a request was last sent with `Connection: close` for rotation.
    rotated: Option<Instant>,
}

impl Host {
    /// Takes the next queued request, of any loop.
    fn next(&mut self) -> Option<Pending> {
        self.passed = 0;
        std::iter::from_fn(|| self.waiting.pop_front()).find(Pending::is_waiting)
    }

    /// Takes the next queued request that an open connection of this loop may serve.
    fn next_of(&mut self, loop_handle: &LoopHandle) -> Option<Box<Exchange>> {
        while self.waiting.front().is_some_and(|pending| !pending.is_waiting()) {
            self.waiting.pop_front();
        }
        let fits = |x: &Exchange| x.loop_handle == *loop_handle && !x.needs_new_connection();
        let at = self.waiting.iter().position(|pending| pending.look(fits) == Some(true))?;
        if at > 0 && self.passed >= PASSED_MAX {
            return None;
        }
        self.passed = if at > 0 { self.passed + 1 } else { 0 };
        self.waiting.remove(at)?.take()
    }
}

/// The next step of a connection that is free.
pub(super) enum Next {
    Serve(Permitted),
    /// It waits in its slot.
    Wait,
    Close,
}

impl Pool {
    pub(super) fn new(
        settings: Settings,
        connect: impl Fn(Pending, ConnPermit, Moment) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { settings, hosts: Mutex::default(), connect: Box::new(connect) })
    }

    #[cfg(test)]
    pub(super) fn test_permit(self: &Arc<Self>, url: &str) -> ConnPermit {
        let key = Key::of(&super::Request::get(url));
        lock(&self.hosts).entry(key.clone()).or_default().open += 1;
        ConnPermit::new(self, &key)
    }

    /// Finds a connection for a request, on its loop.
    pub(super) fn start(self: &Arc<Self>, mut exchange: Box<Exchange>, now: Moment) {
        if exchange.deadline.is_some_and(|at| at <= now.mono) {
            return exchange.fail(Error::TimedOut(Timeout::Total));
        }
        if exchange.request.is_cancelled() {
            return exchange.fail(Error::Cancelled);
        }
        let mut hosts = lock(&self.hosts);
        let host = hosts.entry(exchange.key.clone()).or_default();
        if let Some(interval) = self.settings.rotate {
            match host.rotated {
                Some(last) if now.mono.saturating_duration_since(last) < interval => {}
                last => {
                    exchange.close |= last.is_some();
                    host.rotated = Some(now.mono);
                }
            }
        }
        if !exchange.needs_new_connection()
            && let Some(at) = host.idle.iter().rposition(|slot| *slot.loop_handle() == exchange.loop_handle)
        {
            let permit = ConnPermit::new(self, &exchange.key);
            return host.idle.remove(at).give((exchange, permit));
        }
        let permitted = if host.open < self.settings.max_connections {
            host.open += 1;
            true
        } else if host.idle.is_empty() {
            false
        } else {
            host.idle.remove(0).retire();
            true
        };
        if permitted {
            drop(hosts);
            let permit = ConnPermit::new(self, &exchange.key);
            return permit.connect(Pending::new(exchange, now), now);
        }
        if host.waiting.len() >= self.settings.max_queued {
            host.waiting.retain(Pending::is_waiting);
        }
        if host.waiting.len() >= self.settings.max_queued {
            drop(hosts);
            return exchange.fail(Error::QueueFull);
        }
        host.waiting.push_back(Pending::new(exchange, now));
    }

    /// Passes a free permit to the next queued request.
    fn free(self: &Arc<Self>, key: &Key) {
        loop {
            let next = {
                let mut hosts = lock(&self.hosts);
                let Some(host) = hosts.get_mut(key) else { return };
                match host.next() {
                    Some(pending) => pending,
                    None => {
                        host.open -= 1;
                        if host.open == 0 {
                            hosts.remove(key);
                        }
                        return;
                    }
                }
            };
            // None: it has just timed out or was cancelled.
            let Some(loop_handle) = next.look(|exchange| exchange.loop_handle.clone()) else { continue };
            let permit = Arc::new(Mutex::new(Some(ConnPermit::new(self, key))));
            let (sent, pending) = (permit.clone(), next.clone());
            let resume = move |now| {
                let permit = lock(&sent).take();
                if let Some(permit) = permit {
                    permit.connect(pending, now);
                }
            };
            if loop_handle.at_once(resume) {
                return;
            }
            // That loop has ended, and so has this request. The permit is taken back for the next one. A loop instead
            // of recursion, since a thousand requests may wait for that loop.
            if let Some(permit) = lock(&permit).take() {
                permit.void();
            }
            next.fail(Error::LoopEnded);
        }
    }

    /// Returns the next step of a connection that is free. If that is to wait, the connection is in the list `idle`.
    pub(super) fn release(self: &Arc<Self>, permit: ConnPermit, slot: &Arc<Slot>) -> Next {
        let mut hosts = lock(&self.hosts);
        if let Some(host) = hosts.get_mut(permit.key()) {
            if let Some(exchange) = host.next_of(slot.loop_handle()) {
                return Next::Serve((exchange, permit));
            }
            // The requests that are left wait for a permit on another loop.
            if host.waiting.is_empty() && host.idle.len() < self.settings.max_idle {
                host.idle.push(slot.clone());
                permit.void();
                return Next::Wait;
            }
        }
        drop(hosts);
        // This locks again.
        drop(permit);
        Next::Close
    }

    /// Removes a connection that closes from the idle ones. Returns a request that it was given just before.
    pub(super) fn leave(self: &Arc<Self>, key: &Key, slot: &Arc<Slot>) -> Option<Permitted> {
        let was_idle = lock(&self.hosts).get_mut(key).is_some_and(|host| {
            let at = host.idle.iter().position(|other| Arc::ptr_eq(other, slot));
            at.map(|at| host.idle.remove(at)).is_some()
        });
        if was_idle {
            self.free(key);
        }
        match slot.take() {
            Content::Given(permitted) => Some(permitted),
            Content::Empty | Content::Retired => None,
        }
    }

    pub(super) fn idle_connections(&self) -> usize {
        lock(&self.hosts).values().map(|host| host.idle.len()).sum()
    }

    pub(super) fn connections(&self) -> usize {
        lock(&self.hosts).values().map(|host| host.open).sum()
    }

    pub(super) fn close_idle(self: &Arc<Self>) {
        let idle: Vec<_> = {
            let mut hosts = lock(&self.hosts);
            hosts.iter_mut().map(|(key, host)| (key.clone(), std::mem::take(&mut host.idle))).collect()
        };
        for (key, slots) in idle {
            for slot in slots {
                slot.retire();
                self.free(&key);
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        lock(&self.hosts).values().flat_map(|host| &host.idle).for_each(|slot| slot.retire());
    }
}
