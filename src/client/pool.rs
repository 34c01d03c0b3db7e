//! Who is served by which connection.
//!
//! ```text
//!   send ─▶ an idle connection of this loop? ──▶ it serves
//!           a place free, or an idle one of another loop to give up? ──▶ a new connection serves
//!           room in the queue? ──▶ waits; the first connection of its loop that is free, or place that is, serves
//! ```
//!
//! All connections to one origin (scheme, host, port; or Unix socket) are counted together, over all loops. A connection
//! only serves calls of its own loop: a call sent on a loop is answered there, and neither a loop that blocks (thread per
//! connection) nor one that ends costs others their calls.
//!
//! One lock, held while lists are changed, and never while application code runs or a connection is dropped.

use std::{
    collections::{HashMap, VecDeque},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Instant,
};

use super::{
    Deadline, Error, Request, Response,
    blocking::Background,
    builder::Settings,
    cancel::Stage,
    connect,
    idle_slot::{IdleSlot, Left},
    resolve::Resolver,
    response::Reply,
};
use crate::{api::LoopHandle, base::Moment, transport::TlsClient};

/// How often a call of another loop may be passed over in the queue.
const PASSED_MAX: u8 = 16;

/// What all clones of a client, and its calls, have in common.
pub(super) struct Shared {
    pub(super) settings: Settings,
    hosts: Mutex<HashMap<Key, Host>>,
    pub(super) resolver: Resolver,
    pub(super) background: Background,
    /// The system's roots, or why there are none; read when they are first needed.
    pub(super) roots: OnceLock<Result<TlsClient, String>>,
}

/// An origin: those who may share a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    unix: Option<Arc<Path>>,
    https: bool,
    host: String,
    zone: Option<String>,
    port: u16,
}

impl Key {
    pub(super) fn of(call: &Request) -> Self {
        let url = &call.url;
        if call.unix.is_some() && !url.https {
            // Whoever listens there, listens for all hosts.
            return Self { unix: call.unix.clone(), https: false, host: String::new(), zone: None, port: 0 };
        }
        Self {
            unix: call.unix.clone(),
            https: url.https,
            host: url.host.clone(),
            zone: url.zone.clone(),
            port: url.port,
        }
    }
}

#[derive(Default)]
struct Host {
    /// Connections that stand, or are being made.
    open: usize,
    /// The one used last is at the end, and used first.
    idle: Vec<Arc<IdleSlot>>,
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
        std::iter::from_fn(|| self.waiting.pop_front()).find(Pending::is_waiting)
    }

    /// The next call that waits and may be served by a standing connection of this loop.
    fn next_of(&mut self, here: &LoopHandle) -> Option<Box<Exchange>> {
        while self.waiting.front().is_some_and(|pending| !pending.is_waiting()) {
            self.waiting.pop_front();
        }
        let fits = |x: &Exchange| x.here == *here && !x.is_alone();
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
    pub(super) call: Request,
    pub(super) here: LoopHandle,
    pub(super) then: Reply<Response>,
    /// When it has to be over.
    pub(super) whole: Option<Instant>,
    /// When a connection has to stand.
    pub(super) connect_by: Instant,
    /// Redirects left, and whether there was one.
    pub(super) redirects: u8,
    pub(super) redirected: bool,
    /// Goes with `Connection: close`.
    pub(super) close: bool,
    /// It has failed on a connection that was stale: now it goes on a new one.
    pub(super) again: bool,
    /// The place its connection will have, while both are on their way to their loop.
    place: Option<ConnPermit>,
}

impl Exchange {
    /// Made on its loop, where there is a time: its deadlines begin to run.
    pub(super) fn new(
        shared: Arc<Shared>,
        call: Request,
        here: LoopHandle,
        then: Reply<Response>,
        now: Moment,
    ) -> Box<Self> {
        let (options, settings) = (&call.options, &shared.settings);
        let after = |time| now.mono.checked_add(time);
        let whole = options.whole.or(settings.whole).and_then(after);
        // As long as a clock can show: for ever.
        let connect_by = after(options.connect.unwrap_or(settings.connect_within)).or(whole);
        let connect_by = connect_by.unwrap_or(now.mono + std::time::Duration::from_secs(1 << 31));
        Box::new(Self {
            key: Key::of(&call),
            here,
            then,
            whole,
            connect_by,
            redirects: options.redirects.unwrap_or(settings.redirects),
            redirected: false,
            close: options.fresh,
            again: false,
            place: None,
            call,
            shared,
        })
    }

    /// It does not go on a connection that was used before.
    fn is_alone(&self) -> bool {
        self.again || self.call.options.fresh
    }

    pub(super) fn fail(self: Box<Self>, error: Error) {
        let Self { then, place, .. } = *self;
        drop(place);
        then.tell(Err(error));
    }

    /// When it has failed if there is no connection, and what that is called.
    pub(super) fn connection_by(&self) -> (Instant, Deadline) {
        match self.whole {
            Some(whole) if whole < self.connect_by => (whole, Deadline::Whole),
            _ => (self.connect_by, Deadline::Connect),
        }
    }
}

/// A call that waits for a connection. Whoever takes it, serves it, or tells it that its time is up.
#[derive(Clone)]
pub(super) struct Pending(Arc<Mutex<Option<Box<Exchange>>>>);

impl Pending {
    /// From now on its deadline runs, whoever has it.
    pub(super) fn new(exchange: Box<Exchange>, now: Moment) -> Self {
        let (here, (by, which)) = (exchange.here.clone(), exchange.connection_by());
        let cancel = exchange.call.cancel.clone();
        let pending = Self(Arc::new(Mutex::new(Some(exchange))));
        if let Some(cancel) = cancel {
            cancel.note(Some(Stage::Pending(pending.clone())));
            // Cancelled on another thread just before: then that has found nothing to wake.
            if cancel.is_cancelled() {
                cancel.cancel();
            }
        }
        let timed = Timed(pending.clone());
        here.after(by.saturating_duration_since(now.mono), move |_| timed.0.fail(Error::TimedOut(which)));
        pending
    }

    pub(super) fn take(&self) -> Option<Box<Exchange>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Nobody will serve it, if nobody does already.
    pub(super) fn fail(&self, error: Error) {
        if let Some(exchange) = self.take() {
            exchange.fail(error);
        }
    }

    pub(super) fn look<T>(&self, f: impl FnOnce(&Exchange) -> T) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_deref().map(f)
    }

    fn is_waiting(&self) -> bool {
        self.look(|_| ()).is_some()
    }

    /// Sends it along with the place its connection will have; gives that back if nobody waits any more.
    fn give(&self, place: ConnPermit) -> Result<LoopHandle, ConnPermit> {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(exchange) => {
                exchange.place = Some(place);
                Ok(exchange.here.clone())
            }
            None => Err(place),
        }
    }

    pub(super) fn take_place(&self) -> Option<ConnPermit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut()?.place.take()
    }
}

/// What its loop knows of it, as long as that lives.
struct Timed(Pending);

impl Drop for Timed {
    fn drop(&mut self) {
        self.0.fail(Error::LoopEnded);
    }
}

/// A connection that counts. Dropped, it goes to the next call that waits.
pub(super) struct ConnPermit(Option<(Weak<Shared>, Key)>);

impl ConnPermit {
    fn new(shared: &Arc<Shared>, key: &Key) -> Self {
        Self(Some((Arc::downgrade(shared), key.clone())))
    }

    pub(super) fn whose(&self) -> Option<(Weak<Shared>, Key)> {
        self.0.clone()
    }

    /// It goes on elsewhere, and is not to be counted twice.
    fn void(mut self) {
        self.0 = None;
    }
}

impl Drop for ConnPermit {
    fn drop(&mut self) {
        if let Some((shared, key)) = self.0.take()
            && let Some(shared) = shared.upgrade()
        {
            shared.free(&key);
        }
    }
}

/// What a connection that is free does next.
pub(super) enum Next {
    Serve(Box<Exchange>),
    /// It waits in its seat.
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

    /// Who is believed, if that can be said without reading files.
    pub(super) fn trust(&self) -> Option<Result<TlsClient, String>> {
        self.settings.tls.clone().map(Ok).or_else(|| self.roots.get().cloned())
    }

    /// The same, blocking.
    pub(super) fn load_trust(&self) -> Result<TlsClient, String> {
        let load = || TlsClient::system().map_err(|error| error.to_string());
        self.trust().unwrap_or_else(|| self.roots.get_or_init(load).clone())
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<Key, Host>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn a_place(self: &Arc<Self>, url: &str) -> ConnPermit {
        let key = Key::of(&Request::get(url));
        self.hosts().entry(key.clone()).or_default().open += 1;
        ConnPermit::new(self, &key)
    }

    /// A place has become free: the next call that waits gets it.
    fn free(self: &Arc<Self>, key: &Key) {
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
                Ok(here) => {
                    let there = next.clone();
                    if here.at_once(move |now| connect::resume(there, now)) {
                        return;
                    }
                    // That loop has ended, and so has this call. The place is still ours: no recursion, since a thousand
                    // calls may wait for that loop.
                    if let Some(place) = next.take_place() {
                        place.void();
                    }
                    next.fail(Error::LoopEnded);
                }
                // Its time was up just now.
                Err(place) => place.void(),
            }
        }
    }

    /// A connection is free: what does it do next?
    pub(super) fn release(
        &self,
        key: &Key,
        seat: &Arc<IdleSlot>,
        place: &mut Option<ConnPermit>,
        here: &LoopHandle,
    ) -> Next {
        let mut hosts = self.hosts();
        let Some(host) = hosts.get_mut(key) else { return Next::Close };
        if let Some(exchange) = host.next_of(here) {
            return Next::Serve(exchange);
        }
        // Those that are left wait for a place on another loop.
        if host.waiting.is_empty()
            && host.idle.len() < self.settings.idle
            && let Some(place) = place.take()
        {
            seat.wait(place);
            host.idle.push(seat.clone());
            return Next::Wait;
        }
        Next::Close
    }

    /// A connection does not wait any longer.
    pub(super) fn leave(&self, key: &Key, seat: &Arc<IdleSlot>) -> Left {
        if let Some(host) = self.hosts().get_mut(key) {
            host.idle.retain(|other| !Arc::ptr_eq(other, seat));
        }
        // Whoever took it out of the list before has left word in it.
        seat.leave()
    }

    pub(super) fn idle_connections(&self) -> usize {
        self.hosts().values().map(|host| host.idle.len()).sum()
    }

    pub(super) fn connections(&self) -> usize {
        self.hosts().values().map(|host| host.open).sum()
    }

    pub(super) fn close_idle(&self) {
        let seats: Vec<_> = self.hosts().values_mut().flat_map(|host| std::mem::take(&mut host.idle)).collect();
        for seat in seats {
            drop(seat.retire());
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.close_idle();
    }
}

/// Finds a connection for a call; on its loop.
pub(super) fn start(mut exchange: Box<Exchange>, now: Moment) {
    if exchange.whole.is_some_and(|at| at <= now.mono) {
        return exchange.fail(Error::TimedOut(Deadline::Whole));
    }
    if exchange.call.is_cancelled() {
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
    if !exchange.is_alone()
        && let Some(at) = host.idle.iter().rposition(|seat| seat.is_of(&exchange.here))
    {
        // It is woken, and looks into its seat.
        return host.idle.remove(at).give(exchange);
    }
    let place = if host.open < settings.connections {
        host.open += 1;
        Some(ConnPermit::new(&shared, &exchange.key))
    } else if host.idle.is_empty() {
        None
    } else {
        host.idle.remove(0).retire()
    };
    if let Some(place) = place {
        drop(hosts);
        return connect::begin(Pending::new(exchange, now), place, now);
    }
    if host.waiting.len() >= settings.queue {
        host.waiting.retain(Pending::is_waiting);
    }
    if host.waiting.len() >= settings.queue {
        drop(hosts);
        return exchange.fail(Error::QueueFull);
    }
    host.waiting.push_back(Pending::new(exchange, now));
}
