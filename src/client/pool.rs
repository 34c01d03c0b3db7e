//! Assigns requests to connections.
//!
//! ```text
//!   send ─▶ an idle connection of this loop? ──▶ it serves
//!           a free permit, or that of an idle connection of another loop? ──▶ a new connection serves
//!           space in the queue? ──▶ waits for a free connection of its loop, or for a free permit
//! ```
//!
//! All connections to one origin (scheme, host, port; or Unix socket) are counted together, over all loops. A connection
//! serves only requests of its own loop. A loop that blocks (thread per connection) or ends affects no requests of other
//! loops.
//!
//! There is one lock. It is held while lists change, and never while application code runs or a connection is dropped.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Instant,
};

use super::{
    Error, Timeout,
    blocking::Background,
    connect,
    exchange::{Exchange, Key, Pending},
    idle_slot::{IdleSlot, Vacated},
    permit::ConnPermit,
    resolve::Resolver,
    settings::Settings,
};
use crate::{api::LoopHandle, base::Moment, transport::TlsClient};

/// How often requests of other loops may overtake the first request of the queue.
const PASSED_MAX: u8 = 16;

/// The state that all clones of a client, and its requests, share.
pub(super) struct Shared {
    pub(super) settings: Settings,
    hosts: Mutex<HashMap<Key, Host>>,
    pub(super) resolver: Resolver,
    pub(super) background: Background,
    /// The system's root certificates, or the error; read when they are first needed.
    pub(super) roots: OnceLock<Result<TlsClient, String>>,
}

#[derive(Default)]
struct Host {
    /// Connections that are open or being opened.
    open: usize,
    /// The most recently used one is last, and is used first.
    idle: Vec<Arc<IdleSlot>>,
    waiting: VecDeque<Pending>,
    /// How often the first of those has been overtaken.
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
    Serve(Box<Exchange>),
    /// It waits in its slot.
    Wait,
    Close,
}

impl Shared {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            hosts: Mutex::default(),
            resolver: Resolver::default(),
            background: Background::default(),
            roots: OnceLock::new(),
        }
    }

    /// Returns the trusted certificates, if they are known without reading files.
    pub(super) fn trust(&self) -> Option<Result<TlsClient, String>> {
        self.settings.tls.clone().map(Ok).or_else(|| self.roots.get().cloned())
    }

    /// Like [`trust`](Self::trust), but reads files if needed; blocks.
    pub(super) fn load_trust(&self) -> Result<TlsClient, String> {
        let load = || TlsClient::system().map_err(|error| error.to_string());
        self.trust().unwrap_or_else(|| self.roots.get_or_init(load).clone())
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<Key, Host>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn test_permit(self: &Arc<Self>, url: &str) -> ConnPermit {
        let key = Key::of(&super::Request::get(url));
        self.hosts().entry(key.clone()).or_default().open += 1;
        ConnPermit::new(self, &key)
    }

    /// Gives a free permit to the next queued request.
    pub(super) fn free(self: &Arc<Self>, key: &Key) {
        loop {
            let next = {
                let mut hosts = self.hosts();
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
            match next.give(ConnPermit::new(self, key)) {
                Ok(loop_handle) => {
                    let there = next.clone();
                    if loop_handle.at_once(move |now| connect::resume(there, now)) {
                        return;
                    }
                    // That loop has ended, and so has this request. The permit is still held here. A loop instead of
                    // recursion, since a thousand requests may wait for that loop.
                    if let Some(permit) = next.take_permit() {
                        permit.void();
                    }
                    next.fail(Error::LoopEnded);
                }
                // It has just timed out.
                Err(permit) => permit.void(),
            }
        }
    }

    /// Returns the next step of a connection that is free.
    pub(super) fn release(
        &self,
        key: &Key,
        slot: &Arc<IdleSlot>,
        permit: &mut Option<ConnPermit>,
        loop_handle: &LoopHandle,
    ) -> Next {
        let mut hosts = self.hosts();
        let Some(host) = hosts.get_mut(key) else { return Next::Close };
        if let Some(exchange) = host.next_of(loop_handle) {
            return Next::Serve(exchange);
        }
        // The requests that are left wait for a permit on another loop.
        if host.waiting.is_empty()
            && host.idle.len() < self.settings.max_idle
            && let Some(permit) = permit.take()
        {
            slot.wait(permit);
            host.idle.push(slot.clone());
            return Next::Wait;
        }
        Next::Close
    }

    /// Removes a connection from the idle ones.
    pub(super) fn leave(&self, key: &Key, slot: &Arc<IdleSlot>) -> Vacated {
        if let Some(host) = self.hosts().get_mut(key) {
            host.idle.retain(|other| !Arc::ptr_eq(other, slot));
        }
        // If it was not in the list, the slot has a request or is retired.
        slot.leave()
    }

    pub(super) fn idle_connections(&self) -> usize {
        self.hosts().values().map(|host| host.idle.len()).sum()
    }

    pub(super) fn connections(&self) -> usize {
        self.hosts().values().map(|host| host.open).sum()
    }

    pub(super) fn close_idle(&self) {
        let slots: Vec<_> = self.hosts().values_mut().flat_map(|host| std::mem::take(&mut host.idle)).collect();
        for slot in slots {
            drop(slot.retire());
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.close_idle();
    }
}

/// Finds a connection for a request, on its loop.
pub(super) fn start(mut exchange: Box<Exchange>, now: Moment) {
    if exchange.deadline.is_some_and(|at| at <= now.mono) {
        return exchange.fail(Error::TimedOut(Timeout::Total));
    }
    if exchange.request.is_cancelled() {
        return exchange.fail(Error::Cancelled);
    }
    let shared = exchange.shared.clone();
    let settings = &shared.settings;
    let mut hosts = shared.hosts();
    let host = hosts.entry(exchange.key.clone()).or_default();
    if let Some(every) = settings.rotate {
        match host.rotated {
            Some(last) if now.mono.saturating_duration_since(last) < every => {}
            last => {
                exchange.close |= last.is_some();
                host.rotated = Some(now.mono);
            }
        }
    }
    if !exchange.needs_new_connection()
        && let Some(at) = host.idle.iter().rposition(|slot| slot.is_of(&exchange.loop_handle))
    {
        // The connection is woken and reads its slot.
        return host.idle.remove(at).give(exchange);
    }
    let permit = if host.open < settings.max_connections {
        host.open += 1;
        Some(ConnPermit::new(&shared, &exchange.key))
    } else if host.idle.is_empty() {
        None
    } else {
        host.idle.remove(0).retire()
    };
    if let Some(permit) = permit {
        drop(hosts);
        return connect::begin(Pending::new(exchange, now), permit, now);
    }
    if host.waiting.len() >= settings.max_queued {
        host.waiting.retain(Pending::is_waiting);
    }
    if host.waiting.len() >= settings.max_queued {
        drop(hosts);
        return exchange.fail(Error::QueueFull);
    }
    host.waiting.push_back(Pending::new(exchange, now));
}
