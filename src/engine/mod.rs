//! One event loop: slots, readiness, deadlines, messages. Private; [`drive`](crate::drive) decides when it turns.
//!
//! ```text
//!   poll(sleep) ──▶ events ─┐
//!                   mailbox ─┼─▶ run queue ──▶ Slot::drive: fill ─▶ heads │ job │ upgrade │ closing ─▶ flush
//!                 deadlines ─┘                      │ handlers, uploads … only through dispatch.rs
//!   turn(now) ─────────────────────────────────────▶ Wait: when to turn again
//! ```
//!
//! | file | content |
//! |---|---|
//! | `slot`, `phase`, `conn_io` | a connection: its turn and its timeouts; what it is doing; its reading and writing |
//! | `accept`, `arrivals` | new connections; the limits on their number |
//! | `http` | heads, dispatch, the fast path; rejections |
//! | `http2` | a connection of HTTP/2, whose streams are slots within its own |
//! | `job`, `exchange` | a request that does not get its response at once: its data; its course |
//! | `body`, `response_body` | its two bodies; `pump` moves pipes, `coalescing` sets how often |
//! | `upgraded` | the upgrade callback; `held` counts what upgraded connections hold themselves |
//! | `splicing` | the socket, for an upgrade that splices: the client |
//! | `outgoing` | outbound connections, until they are upgrades |
//! | `closing` | flush, finish, linger |
//! | `inbox` | messages |
//! | `reserve`, `relief` | spare descriptors; buffers taken back when none is left |
//! | `proxied`, `securing` | connections through a proxy; TLS, and the protocol that ALPN selected |
//! | `dispatch` | the calls of handlers, uploads, producers and upgrades |
//!
//! The engine calls handlers, uploads, producers and upgrades in one file, `dispatch`. Two calls are made elsewhere:
//! the wakers of a pipe (`api/pipe`), and callbacks that are dropped because their loop has ended.
//!
//! Not here: the caller of the loop, threads, clocks (`drive`), HTTP (`conn`, `h1`), TLS (`transport`).

mod accept;
mod acked;
mod arrivals;
mod body;
mod closing;
mod coalescing;
mod conn_io;
mod core;
mod deadlines;
mod dispatch;
mod exchange;
mod held;
mod http;
#[cfg(feature = "http2")]
mod http2;
mod inbox;
mod job;
mod outgoing;
mod phase;
mod proxied;
mod pump;
mod ready;
mod relief;
mod reserve;
mod response_body;
mod securing;
mod slot;
mod splicing;
mod upgraded;

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use log::warn;
use mio::{Events, Poll, Token};
use slab::Slab;

pub(crate) use self::{
    arrivals::{Admission, Arrival, LoopListener},
    core::Versions,
    dispatch::{AccessLog, Trusted},
};
use self::{
    core::Core,
    phase::{Phase, Slot},
    reserve::Reserve,
    slot::{Ended, Turn},
};
/// What the fuzz target of the server needs beside the engine: the heads that a client receives.
#[cfg(all(feature = "http2", any(test, fuzzing, feature = "__internals")))]
pub(crate) use crate::h2::hpack;
use crate::{
    api::{
        Handler, LoopHandle,
        loop_message::{Later, LoopMessage},
    },
    base::{
        ConnId, EndReason, Limits, Moment, Wait,
        mailbox::{Mailbox, Notifier},
        time::Tick,
    },
    transport::sys::selector_fd,
};

#[cfg(not(target_pointer_width = "64"))]
compile_error!("uncork identifies connections by 64-bit tokens: it needs a 64-bit target");

const NOTIFIER: Token = Token(usize::MAX);
/// Listener `n` has the token `LISTENERS - n`. No connection's token comes near it: loop numbers end below.
const LISTENERS: usize = usize::MAX - 1;
const LOOPS: u16 = 1022;
/// Rounds of messages and work within one turn. What one connection sends to another of the same loop arrives in this
/// turn.
const RELAYS: usize = 8;

static LOOP_NUMBER: AtomicU16 = AtomicU16::new(0);

/// The parts that a loop is built from.
pub(crate) struct Setup<'h> {
    pub(crate) handler: Box<dyn Handler + 'h>,
    pub(crate) listeners: Vec<LoopListener>,
    pub(crate) limits: Limits,
    pub(crate) admission: Arc<Admission>,
    pub(crate) access_log: Option<Arc<AccessLog>>,
    pub(crate) versions: Versions,
    /// Takes the connections of a loop that only accepts.
    pub(crate) hand_off: Option<HandOff>,
}

/// Takes a connection to another loop.
pub(crate) type HandOff = Box<dyn FnMut(Arrival) + Send>;

pub(crate) struct Engine<'h> {
    poll: Poll,
    events: Events,
    handler: Box<dyn Handler + 'h>,
    slots: Slab<Slot>,
    /// The number of inbound connections.
    inbound: usize,
    core: Core,
    listeners: Vec<LoopListener>,
    admission: Arc<Admission>,
    hand_off: Option<HandOff>,
    /// Kept for its allocation: messages are drained into it.
    messages: Vec<LoopMessage>,
    later: BTreeMap<(Tick, u64), Later>,
    later_count: u64,
    /// The time to take buffers back, if some are missing.
    relief: Tick,
    number: u16,
}

struct PollNotifier(mio::Waker);

impl Notifier for PollNotifier {
    fn notify(&self) {
        if let Err(error) = self.0.wake() {
            warn!(target: "uncork::engine", "cannot wake a sleeping loop: {error}");
        }
    }
}

impl<'h> Engine<'h> {
    pub(crate) fn new(setup: Setup<'h>, now: Moment) -> io::Result<Self> {
        let Setup { handler, mut listeners, limits, admission, access_log, versions, hand_off } = setup;
        let poll = Poll::new()?;
        let notifier = PollNotifier(mio::Waker::new(poll.registry(), NOTIFIER)?);
        for (n, entry) in listeners.iter_mut().enumerate() {
            if let Some(listener) = &mut entry.listener {
                listener.register(poll.registry(), Token(LISTENERS - n))?;
            }
        }
        let mailbox = Arc::new(Mailbox::new(Box::new(notifier)));
        // A loop that accepts nothing does not need spare descriptors.
        let accepts = listeners.iter().any(|entry| entry.listener.is_some());
        let reserve = Reserve::new(if accepts { limits.reserved_descriptors } else { 0 });
        Ok(Self {
            poll,
            events: Events::with_capacity(512),
            handler,
            slots: Slab::new(),
            inbound: 0,
            core: Core {
                access_log,
                versions,
                ..Core::new(mailbox, limits, reserve, admission.kernel_pipes.clone(), now)
            },
            listeners,
            admission,
            hand_off,
            messages: Vec::new(),
            later: BTreeMap::new(),
            later_count: 0,
            relief: Tick::NEVER,
            number: LOOP_NUMBER.fetch_add(1, Ordering::Relaxed) % LOOPS,
        })
    }

    /// Returns a handle to this loop.
    pub(crate) fn handle(&self) -> LoopHandle {
        LoopHandle(self.core.mailbox.clone())
    }

    /// Sleeps until an event, at most for `timeout`. The next [`turn`](Self::turn) handles the events. After a turn,
    /// either posting wakes the poll, or work is pending and `timeout` must be zero.
    pub(crate) fn poll(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let result = self.poll.poll(&mut self.events, timeout);
        self.core.mailbox.awake();
        match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                Ok(())
            }
            result => result,
        }
    }

    /// Sleeps until an event or until `due`, the result of the turn before.
    #[inline]
    pub(crate) fn poll_until(&mut self, due: Tick) -> io::Result<()> {
        self.poll(due.left(self.core.tick))
    }

    /// Like [`poll_until`](Self::poll_until), but returns the time for a caller that sleeps itself.
    pub(crate) fn wait_until(&self, due: Tick) -> Wait {
        if due <= self.core.tick {
            return Wait::Now;
        }
        due.instant(self.core.start).map_or(Wait::Forever, Wait::Until)
    }

    /// Handles everything that has happened. Returns when to call again: at once, if that is not later than now.
    pub(crate) fn turn(&mut self, now: Moment) -> Tick {
        self.core.set_now(now);
        self.note_events();
        for index in 0..self.listeners.len() {
            if self.listeners[index].may_accept(self.core.tick) {
                self.accept_some(index);
            }
        }
        self.expire();
        for _ in 0..RELAYS {
            if !self.core.mailbox.is_empty() {
                self.read_messages();
            }
            if self.core.run.is_empty() {
                break;
            }
            self.run();
        }
        if self.core.is_over() {
            self.force();
        }
        if self.core.pool.has_refused() {
            self.relieve();
        }
        let (slots, live) = (&self.slots, self.slots.len());
        self.core
            .deadlines
            .tidy(live, |due, id| slots.get(id.index()).is_some_and(|slot| slot.io.id == id && slot.io.entry == due));
        self.due()
    }

    fn due(&mut self) -> Tick {
        let accepting =
            self.listeners.iter().any(|entry| entry.ready && entry.listener.is_some() && entry.paused == Tick::NEVER);
        // Between turns, posting must wake the poll: the application may be asleep in its own `select`.
        if accepting || !self.core.run.is_empty() || !self.core.mailbox.sleep() {
            return self.core.tick;
        }
        let paused = self.listeners.iter().map(|entry| entry.paused).min().unwrap_or(Tick::NEVER);
        let later = self.later.keys().next().map_or(Tick::NEVER, |(due, _)| *due);
        let stopping = self.core.stopping.unwrap_or(Tick::NEVER);
        self.core.deadlines.next().min(paused).min(later).min(stopping)
    }

    fn note_events(&mut self) {
        for event in &self.events {
            let token = event.token();
            if token == NOTIFIER {
                continue;
            }
            if let Some(entry) = LISTENERS.checked_sub(token.0).and_then(|n| self.listeners.get_mut(n)) {
                entry.ready = true;
                continue;
            }
            let id = ConnId::from_token(token.0);
            if let Some(slot) = self.slots.get_mut(id.index()).filter(|slot| slot.io.id == id) {
                slot.io.ready.note(event);
                if !std::mem::replace(&mut slot.io.queued, true) {
                    self.core.run.push_back(id);
                }
            }
        }
        self.events.clear();
    }

    fn expire(&mut self) {
        while let Some((due, id)) = self.core.deadlines.expired(self.core.tick) {
            let Some(slot) = self.slots.get_mut(id.index()).filter(|slot| slot.io.id == id) else { continue };
            if slot.io.entry != due {
                continue;
            }
            slot.io.entry = Tick::NEVER;
            match slot.expire(&mut self.core) {
                Ok(()) => self.enqueue(id),
                Err(reason) => self.close_slot(id, reason),
            }
        }
        while let Some(entry) = self.later.first_entry()
            && entry.key().0 <= self.core.tick
        {
            dispatch::later(entry.remove(), self.core.now);
        }
    }

    /// Drives each connection that is in the run queue now.
    fn run(&mut self) {
        for _ in 0..self.core.run.len() {
            let Some(id) = self.core.run.pop_front() else { return };
            let Some(slot) = self.slots.get_mut(id.index()).filter(|slot| slot.io.id == id) else { continue };
            slot.io.queued = false;
            let again = match slot.drive(&mut self.core, &mut *self.handler) {
                Turn::Waits => false,
                Turn::Again => true,
                Turn::Over(reason) => {
                    self.close_slot(id, reason);
                    continue;
                }
            };
            let again = again || (self.core.stopping.is_some() && slot.quit_if_idle(&mut self.core));
            let again = slot.settle(&mut self.core) || again;
            if again {
                slot.io.queued = true;
                self.core.run.push_back(id);
            }
        }
    }

    /// Frees the slot of a connection that has ended, and reports the end.
    fn close_slot(&mut self, id: ConnId, reason: EndReason) {
        if self.slots.get(id.index()).is_none_or(|slot| slot.io.id != id) {
            return;
        }
        let Ended { io, rejected, not_dialed } = self.slots.remove(id.index()).end(&mut self.core, reason);
        let (is_inbound, notify_closed) = (io.peer.is_inbound(), io.peer.notify_closed);
        drop(io);
        self.core.reserve.fill();
        if let Some((then, error)) = not_dialed {
            dispatch::not_dialed(then, error);
        }
        for entry in &mut self.listeners {
            // Capacity and a descriptor have become free.
            if entry.paused != Tick::NEVER {
                entry.paused = self.core.tick;
            }
        }
        if is_inbound {
            self.inbound -= 1;
        }
        match (notify_closed, rejected) {
            (true, _) => dispatch::closed(&mut *self.handler, id, &reason),
            (false, Some(peer)) => dispatch::rejected(&mut *self.handler, &peer, &reason),
            (false, None) => {}
        }
    }

    /// Wakes every upgraded connection.
    pub(crate) fn wake_all(&mut self) {
        for id in self.slots.iter().map(|(_, slot)| slot.io.id).collect::<Vec<_>>() {
            match self.slots.get_mut(id.index()).map(|slot| &mut slot.phase) {
                Some(Phase::Upgraded(upgraded)) => upgraded.woken = true,
                Some(Phase::Streams(streams)) => streams.wake_all(),
                _ => continue,
            }
            self.enqueue(id);
        }
    }

    /// Returns `true` if this time has come.
    #[cfg(all(feature = "http2", any(test, fuzzing, feature = "__internals")))]
    pub(crate) fn is_due(&self, due: Tick) -> bool {
        due <= self.core.tick
    }

    /// Returns `true` if no inbound connection is left.
    pub(crate) fn is_vacant(&self) -> bool {
        self.inbound == 0
    }

    /// Returns `true` if nothing is left that the application has begun on this loop.
    pub(crate) fn is_quiet(&self) -> bool {
        self.slots.is_empty() && self.later.is_empty() && self.core.mailbox.is_empty()
    }

    /// Returns `true` if the loop has stopped and nothing is left to do. After the grace period, pending messages do
    /// not count: a thread that keeps posting would keep the loop running for ever.
    pub(crate) fn is_done(&self) -> bool {
        let stopped = self.core.is_over() || (self.core.stopping.is_some() && self.core.mailbox.is_empty());
        stopped && self.slots.is_empty()
    }
}

impl Drop for Engine<'_> {
    fn drop(&mut self) {
        self.force();
        // A message posted to a loop that has ended is returned to its sender. Messages posted before are dropped here.
        self.core.mailbox.close().into_iter().for_each(dispatch::discard);
        dispatch::discard(std::mem::take(&mut self.later));
    }
}

impl AsFd for Engine<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        selector_fd(&self.poll)
    }
}
