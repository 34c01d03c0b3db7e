//! One event loop: slots, readiness, deadlines, messages. Private; [`drive`](crate::drive) decides when it turns.
//!
//! ```text
//!   poll(sleep) ──▶ events ─┐
//!                   mailbox ─┼─▶ run queue ──▶ Slot::drive: fill ─▶ heads │ job │ upgrade │ closing ─▶ flush
//!                 deadlines ─┘                      │ application code only through dispatch.rs
//!   turn(now) ─────────────────────────────────────▶ Wait: when to come back
//! ```
//!
//! | file | what |
//! |---|---|
//! | `slot` | a connection, its reading and writing, its clocks |
//! | `http` | heads, dispatch, the fast path; refusals |
//! | `job` | a request that is not answered at once; `body` what comes in, `pump` its pipes, `coalescing` how often |
//! | `upgraded` | the upgrade callback; `held` what upgraded connections hold of their own |
//! | `outgoing` | connections of our own making, until they are upgrades |
//! | `closing` | flush, finish, linger |
//! | `inbox`, `arrivals` | messages; new connections |
//! | `reserve`, `relief` | descriptors for when there are no others; buffers taken back when none is left |
//! | `proxied`, `securing` | those that come by a proxy; TLS, and what ALPN chose |
//! | `dispatch` | the one place that calls the application |
//!
//! Not here: who calls it, threads, clocks (`drive`), HTTP (`conn`, `h1`), TLS (`transport`).

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
mod upgraded;

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsRawFd, RawFd},
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
    dispatch::{AccessLog, Trusted},
};
use self::{
    core::Core,
    phase::Phase,
    reserve::Reserve,
    slot::{Slot, Turn},
};
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
};

#[cfg(not(target_pointer_width = "64"))]
compile_error!("uncork tells connections apart by 64-bit tokens: it needs a 64-bit target");

const NOTIFIER: Token = Token(usize::MAX);
/// Listener `n` has the token `LISTENERS - n`. No connection's name comes near: loop numbers stop short of the top.
const LISTENERS: usize = usize::MAX - 1;
const LOOPS: u16 = 1022;
/// Rounds of messages and work within one turn: what one connection hands to another of the same loop arrives at once.
const RELAYS: usize = 8;

static LOOP_NUMBER: AtomicU16 = AtomicU16::new(0);

/// What a loop is made of.
pub(crate) struct Setup<'h> {
    pub(crate) handler: Box<dyn Handler + 'h>,
    pub(crate) ports: Vec<LoopListener>,
    pub(crate) limits: Limits,
    pub(crate) admission: Arc<Admission>,
    pub(crate) access_log: Option<Arc<AccessLog>>,
    /// Where connections go instead of into this loop, if it only accepts.
    pub(crate) elsewhere: Option<Elsewhere>,
}

/// Takes a connection away.
pub(crate) type Elsewhere = Box<dyn FnMut(Arrival) + Send>;

pub(crate) struct Engine<'h> {
    poll: Poll,
    events: Events,
    handler: Box<dyn Handler + 'h>,
    slots: Slab<Slot>,
    /// How many of them are served, and were not dialled by us.
    inbound: usize,
    core: Core,
    ports: Vec<LoopListener>,
    admission: Arc<Admission>,
    elsewhere: Option<Elsewhere>,
    /// The allocation messages are taken out in.
    messages: Vec<LoopMessage>,
    later: BTreeMap<(Tick, u64), Later>,
    later_count: u64,
    /// Buffers are missing: when to take some back.
    relief: Tick,
    number: u16,
}

struct PollNotifier(mio::Waker);

impl Notifier for PollNotifier {
    fn ring(&self) {
        if let Err(error) = self.0.wake() {
            warn!(target: "uncork::engine", "a sleeping loop could not be woken: {error}");
        }
    }
}

impl<'h> Engine<'h> {
    pub(crate) fn new(setup: Setup<'h>, now: Moment) -> io::Result<Self> {
        let Setup { handler, mut ports, limits, admission, access_log, elsewhere } = setup;
        let poll = Poll::new()?;
        let notifier = PollNotifier(mio::Waker::new(poll.registry(), NOTIFIER)?);
        for (n, port) in ports.iter_mut().enumerate() {
            if let Some(listener) = &mut port.listener {
                listener.register(poll.registry(), Token(LISTENERS - n))?;
            }
        }
        let mailbox = Arc::new(Mailbox::new(Box::new(notifier)));
        // A loop that accepts nothing has no use for them.
        let accepts = ports.iter().any(|port| port.listener.is_some());
        let reserve = Reserve::new(if accepts { limits.reserved_descriptors } else { 0 });
        Ok(Self {
            poll,
            events: Events::with_capacity(512),
            handler,
            slots: Slab::new(),
            inbound: 0,
            core: Core::new(mailbox, limits, reserve, admission.kernel_pipes.clone(), access_log, now),
            ports,
            admission,
            elsewhere,
            messages: Vec::new(),
            later: BTreeMap::new(),
            later_count: 0,
            relief: Tick::NEVER,
            number: LOOP_NUMBER.fetch_add(1, Ordering::Relaxed) % LOOPS,
        })
    }

    /// This loop, from outside.
    pub(crate) fn handle(&self) -> LoopHandle {
        LoopHandle(self.core.mailbox.clone())
    }

    /// Sleeps until an event, for `timeout` at most. What was found is worked on by the next [`turn`](Self::turn). Since
    /// the turn before, posting rings; or there was something left to do, and the sleep has to be of no length.
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

    /// Sleeps until an event, or until `due`, which the turn before has returned.
    #[inline]
    pub(crate) fn poll_until(&mut self, due: Tick) -> io::Result<()> {
        self.poll(due.left(self.core.tick))
    }

    /// The same for those who sleep on their own.
    pub(crate) fn wait_until(&self, due: Tick) -> Wait {
        if due <= self.core.tick {
            return Wait::Now;
        }
        due.instant(self.core.start).map_or(Wait::Forever, Wait::Until)
    }

    /// Works on all that has happened; returns when to come back. At once, if that is no later than now.
    pub(crate) fn turn(&mut self, now: Moment) -> Tick {
        self.core.set_now(now);
        self.note_events();
        for port in 0..self.ports.len() {
            if self.ports[port].may_accept(self.core.tick) {
                self.accept_some(port);
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
        if self.core.pool.refused() {
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
            self.ports.iter().any(|port| port.ready && port.listener.is_some() && port.paused == Tick::NEVER);
        // Between turns posting must ring: the application may be asleep in its own `select`.
        if accepting || !self.core.run.is_empty() || !self.core.mailbox.sleep() {
            return self.core.tick;
        }
        let paused = self.ports.iter().map(|port| port.paused).min().unwrap_or(Tick::NEVER);
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
            if let Some(port) = LISTENERS.checked_sub(token.0).and_then(|n| self.ports.get_mut(n)) {
                port.ready = true;
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
                Err(why) => self.close_slot(id, why),
            }
        }
        while let Some(entry) = self.later.first_entry()
            && entry.key().0 <= self.core.tick
        {
            dispatch::later(entry.remove(), self.core.now);
        }
    }

    /// Has each connection that is in the run queue now its turn.
    fn run(&mut self) {
        for _ in 0..self.core.run.len() {
            let Some(id) = self.core.run.pop_front() else { return };
            let Some(slot) = self.slots.get_mut(id.index()).filter(|slot| slot.io.id == id) else { continue };
            slot.io.queued = false;
            let again = match slot.drive(&mut self.core, &mut *self.handler) {
                Turn::Waits => false,
                Turn::Again => true,
                Turn::Over(why) => {
                    self.close_slot(id, why);
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

    /// The connection is over: frees its slot, and reports the end.
    fn close_slot(&mut self, id: ConnId, why: EndReason) {
        if self.slots.get(id.index()).is_none_or(|slot| slot.io.id != id) {
            return;
        }
        let Slot { mut io, mut phase } = self.slots.remove(id.index());
        let mut job_ended = why;
        if let Phase::Job(job) = &mut phase
            // What has panicked is not called again.
            && why != EndReason::Panicked
            && job.is_out_by_now(&mut io, &mut self.core)
        {
            job_ended = job.outcome;
        }
        let unfinished = io.conn.is_responding() || !io.out.is_empty();
        // The peer must not take a part for the whole, nor wait for what will not come.
        if (unfinished && why != EndReason::Complete) || matches!(why, EndReason::Aborted | EndReason::Panicked) {
            io.transport.socket().reset_on_close();
        }
        let mut not_dialed = None;
        let job = match phase {
            Phase::Dialing(dialing) => {
                not_dialed = dialing.failed(why);
                None
            }
            phase => phase.into_job(&io, &mut self.core),
        };
        if let Some(job) = job {
            io.end_job(&mut self.core, *job, job_ended);
        }
        io.rx.consume(io.rx.len());
        io.out.clear();
        self.core.pool.settle(&mut io.rx);
        io.out.settle(&mut self.core.pool);
        io.transport.release(&mut self.core.pool);
        let (is_inbound, notify_closed) = (io.peer.is_inbound(), io.notify_closed);
        drop(io);
        self.core.reserve.fill();
        if let Some((then, error)) = not_dialed {
            dispatch::not_dialed(then, error);
        }
        for port in &mut self.ports {
            // A place and a descriptor have become free.
            if port.paused != Tick::NEVER {
                port.paused = self.core.tick;
            }
        }
        if is_inbound {
            self.inbound -= 1;
        }
        if notify_closed {
            dispatch::closed(&mut *self.handler, id, &why);
        }
    }

    /// Wakes every upgraded connection.
    pub(crate) fn wake_all(&mut self) {
        for id in self.slots.iter().map(|(_, slot)| slot.io.id).collect::<Vec<_>>() {
            if let Some(Slot { phase: Phase::Upgraded(upgraded), .. }) = self.slots.get_mut(id.index()) {
                upgraded.woken = true;
                self.enqueue(id);
            }
        }
    }

    /// No connection that has come to us is left.
    pub(crate) fn is_vacant(&self) -> bool {
        self.inbound == 0
    }

    /// Nothing is left that the application has begun here.
    pub(crate) fn is_quiet(&self) -> bool {
        self.slots.is_empty() && self.later.is_empty() && self.core.mailbox.is_empty()
    }

    /// Stopped, and nothing is left to do. Once the grace is over, messages is nothing to be done: whoever goes on posting
    /// would keep a loop from ending for ever.
    pub(crate) fn is_done(&self) -> bool {
        let stopped = self.core.is_over() || (self.core.stopping.is_some() && self.core.mailbox.is_empty());
        stopped && self.slots.is_empty()
    }
}

impl Drop for Engine<'_> {
    fn drop(&mut self) {
        self.force();
        // What is said to a loop that has ended is given back to who says it; what was said before is dropped here.
        self.core.mailbox.close().into_iter().for_each(dispatch::discard);
        dispatch::discard(std::mem::take(&mut self.later));
    }
}

impl AsRawFd for Engine<'_> {
    fn as_raw_fd(&self) -> RawFd {
        self.poll.as_raw_fd()
    }
}
