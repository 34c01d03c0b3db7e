//! Who is served by which connection.
//!
//! ```text
//!   send ─▶ an idle connection of this loop? ──▶ it serves
//!           a place free, or an idle one of another loop to give up? ──▶ a new connection serves
//!           room in the queue? ──▶ waits; the first connection of its loop that is free, or place that is, serves
//! ```
//!
//! Everything of one origin (scheme, host, port; or Unix socket) is counted together, over all loops. A connection only
//! serves calls of its own loop: a call sent on a loop is answered there, and neither a loop that blocks (thread per
//! connection) nor one that ends costs others their calls.
//!
//! One lock, held while lists are changed, and never while application code runs, a connection is made or dropped.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use super::{
    Answer, Call, Deadline, Error, answer::Reply, blocking::Background, builder::Settings, connect, resolve::Resolver,
};
use crate::{
    api::{Loop, Waker},
    base::Moment,
};

/// How often a call of another loop may be passed over in the queue.
const PASSED_MAX: u8 = 16;

/// What all clones of a client, and all of their connections, have in common.
pub(super) struct Shared {
    pub(super) settings: Settings,
    hosts: Mutex<HashMap<Key, Host>>,
    pub(super) resolver: Resolver,
    pub(super) background: Background,
}

/// An origin: those who may share a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) unix: Option<Arc<Path>>,
    pub(super) https: bool,
    pub(super) host: String,
    pub(super) port: u16,
}

impl Key {
    pub(super) fn of(call: &Call) -> Self {
        let url = &call.url;
        if call.unix.is_some() && !url.https {
            // Whoever listens there, listens for all hosts.
            return Self { unix: call.unix.clone(), https: false, host: String::new(), port: 0 };
        }
        Self { unix: call.unix.clone(), https: url.https, host: url.host.clone(), port: url.port }
    }
}

#[derive(Default)]
struct Host {
    /// Connections that stand, or are being made.
    open: usize,
    /// The one used last is at the end, and used first.
    idle: Vec<Arc<Seat>>,
    waiting: VecDeque<Pending>,
    /// How often the first of those has been passed over.
    passed: u8,
    /// When a call last went with `Connection: close`, so that connections rotate.
    rotated: Option<Instant>,
}

impl Host {
    /// The next call that waits, be it of any loop.
    fn next(&mut self) -> Option<Pending> {
        self.passed = 0;
        std::iter::from_fn(|| self.waiting.pop_front()).find(|pending| pending.look(|_| ()).is_some())
    }

    /// The next call that waits and may be served by a standing connection of this loop.
    fn next_of(&mut self, here: &Loop) -> Option<Box<Exchange>> {
        while self.waiting.front().is_some_and(|pending| pending.look(|_| ()).is_none()) {
            self.waiting.pop_front();
        }
        let fits = |x: &Exchange| x.here.same(here) && !x.alone();
        let at = self.waiting.iter().position(|pending| pending.look(fits) == Some(true))?;
        if at > 0 && self.passed >= PASSED_MAX {
            return None;
        }
        self.passed = if at > 0 { self.passed + 1 } else { 0 };
        self.waiting.remove(at)?.take()
    }
}

/// One call, on its way.
pub(super) struct Exchange {
    pub(super) shared: Arc<Shared>,
    pub(super) key: Key,
    pub(super) call: Call,
    pub(super) here: Loop,
    pub(super) then: Reply<Answer>,
    /// When it has to be over.
    pub(super) whole: Option<Instant>,
    /// When a connection has to stand.
    pub(super) connect_by: Instant,
    pub(super) redirects: u8,
    /// Goes with `Connection: close`.
    pub(super) close: bool,
    /// It has failed once, on a connection that was stale: now it goes on a new one.
    pub(super) again: bool,
    /// The place its connection will have, while it is on its way to its loop.
    place: Option<Place>,
}

impl Exchange {
    /// It does not go on a connection that was used before.
    fn alone(&self) -> bool {
        self.again || self.call.options.fresh
    }

    pub(super) fn fail(self: Box<Self>, error: Error) {
        let Self { then, place, .. } = *self;
        drop(place);
        then.tell(Err(error));
    }
}

/// A call that waits for a connection. Whoever takes it, serves it, or tells that its time is up.
#[derive(Clone)]
pub(super) struct Pending(Arc<Mutex<Option<Box<Exchange>>>>);

impl Pending {
    pub(super) fn new(exchange: Box<Exchange>) -> Self {
        Self(Arc::new(Mutex::new(Some(exchange))))
    }

    pub(super) fn take(&self) -> Option<Box<Exchange>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn look<T>(&self, f: impl FnOnce(&Exchange) -> T) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_deref().map(f)
    }

    fn place(&self, place: Place) -> Result<(), Place> {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(exchange) => {
                exchange.place = Some(place);
                Ok(())
            }
            None => Err(place),
        }
    }

    /// Its time is up when there is no connection by then.
    fn expire_at(&self, here: &Loop, now: Moment, by: Instant, which: Deadline) {
        let pending = self.clone();
        here.after(by.saturating_duration_since(now.mono), move |_| {
            if let Some(exchange) = pending.take() {
                exchange.fail(Error::TimedOut(which));
            }
        });
    }
}

/// A connection that counts. Dropped, it makes room for the next call that waits.
pub(super) struct Place {
    shared: Weak<Shared>,
    key: Key,
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else { return };
        loop {
            let next = {
                let mut hosts = shared.hosts();
                let Some(host) = hosts.get_mut(&self.key) else { return };
                match host.next() {
                    Some(pending) => pending,
                    None => {
                        host.open -= 1;
                        if host.open == 0 {
                            hosts.remove(&self.key);
                        }
                        return;
                    }
                }
            };
            let place = Self { shared: self.shared.clone(), key: self.key.clone() };
            if let Err(place) = next.place(place) {
                // Its time was up just now.
                std::mem::forget(place.disarm());
                continue;
            }
            let Some(here) = next.look(|exchange| exchange.here.clone()) else { return };
            let on_loop = next.clone();
            if here.at_once(move |now| connect::resume(&on_loop, now)) {
                return;
            }
            // That loop has ended. Not by recursion: a thousand calls may wait for it.
            let Some(mut exchange) = next.take() else { return };
            if let Some(place) = exchange.place.take() {
                std::mem::forget(place.disarm());
            }
            exchange.fail(Error::LoopEnded);
        }
    }
}
