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

mod acked;
mod arrivals;
mod body;
mod closing;
mod coalescing;
mod conn_io;
mod core;
mod deadlines;
mod dispatch;
mod held;
mod http;
mod inbox;
mod job;
mod outgoing;
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
        atomic::{AtomicU16, AtomicU32, Ordering},
    },
    time::Duration,
};

use log::{debug, warn};
use mio::{Events, Poll, Token};
use slab::Slab;

pub(crate) use self::{
    arrivals::{Admission, Arrival, ConnSource, LoopListener},
    proxied::Trusted,
};
pub(crate) type AccessLog = dispatch::AccessLog;
use self::{
    arrivals::{Full, Peer},
    conn_io::ConnIo,
    core::Core,
    reserve::Reserve,
    slot::{Phase, Slot, Turn},
};
use crate::{
    api::{
        Handler, LoopHandle, PipeIn, PipeOut, Waker,
        duplex::Ends,
        loop_message::{Later, LoopMessage},
    },
    base::{
        ConnId, EndReason, Limits, Moment, PeerAddr, RequestId, Wait,
        mailbox::{Mailbox, Notifier},
        time::Tick,
    },
    transport::{Accepted, Fault, Socket, Transport},
};

#[cfg(not(target_pointer_width = "64"))]
compile_error!("uncork tells connections apart by 64-bit tokens: it needs a 64-bit target");

const BELL: Token = Token(usize::MAX);
/// Listener `n` has the token `PORTS - n`. No connection's name comes near: loop numbers stop short of the top.
const PORTS: usize = usize::MAX - 1;
const LOOPS: u16 = 1022;
/// Connections taken in at once before those that are here have their turn.
const ACCEPTS: usize = 64;
/// How long a listener rests when there is no place or no descriptor for another connection.
const PAUSE: Duration = Duration::from_millis(50);
/// Rounds of mail and work within one turn: what one connection hands to another of the same loop arrives at once.
const RELAYS: usize = 8;

static LOOP_NUMBER: AtomicU16 = AtomicU16::new(0);
static GENERATION: AtomicU32 = AtomicU32::new(0);

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
    mail: Vec<LoopMessage>,
    later: BTreeMap<(Tick, u64), Later>,
    later_count: u64,
    /// Buffers are missing: when to take some back.
    relief: Tick,
    number: u16,
}

struct Ring(mio::Waker);

impl Notifier for Ring {
    fn notify(&self) {
        if let Err(error) = self.0.wake() {
            warn!(target: "uncork::engine", "a sleeping loop could not be woken: {error}");
        }
    }
}

impl<'h> Engine<'h> {
    pub(crate) fn new(setup: Setup<'h>, now: Moment) -> io::Result<Self> {
        let Setup { handler, mut ports, limits, admission, access_log, elsewhere } = setup;
        let poll = Poll::new()?;
        let bell = Ring(mio::Waker::new(poll.registry(), BELL)?);
        for (n, port) in ports.iter_mut().enumerate() {
            if let Some(listener) = &mut port.listener {
                listener.register(poll.registry(), Token(PORTS - n))?;
            }
        }
        let mailbox = Arc::new(Mailbox::new(Box::new(bell)));
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
            mail: Vec::new(),
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
                self.read_mail();
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
            if token == BELL {
                continue;
            }
            if let Some(port) = PORTS.checked_sub(token.0).and_then(|n| self.ports.get_mut(n)) {
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

    /// Accepts a number of connections; whether there may be more.
    fn accept_some(&mut self, number: usize) -> bool {
        for _ in 0..ACCEPTS {
            let tick = self.core.tick;
            let Some(port) = self.ports.get_mut(number) else { return false };
            if port.paused <= tick {
                port.paused = Tick::NEVER;
                port.ready = true;
            }
            let Some(listener) = port.listener.as_ref().filter(|_| port.ready && port.paused == Tick::NEVER) else {
                return false;
            };
            if !self.admission.has_place() {
                port.paused = tick.after(PAUSE);
                return false;
            }
            match listener.accept() {
                Accepted::Stream(socket, peer) => self.arrive(socket, peer, number),
                Accepted::Again => {}
                Accepted::Nobody => {
                    port.ready = false;
                    self.core.reserve.fill();
                    return false;
                }
                Accepted::Exhausted { descriptors: true, .. } if self.core.reserve.give_up() => {}
                Accepted::Exhausted { error, .. } => {
                    if let Some(times) = self.admission.exhausted.happens(self.core.now.mono) {
                        warn!(target: "uncork::engine", "no connection can be accepted for now: {error}{times}");
                    }
                    port.paused = tick.after(PAUSE);
                    return false;
                }
            }
        }
        true
    }

    /// A connection has come: is there a place for it, and does the application want it?
    fn arrive(&mut self, socket: Socket, peer: PeerAddr, port: usize) {
        let proxies = self.ports.get(port).and_then(|port| port.proxies.as_ref());
        if proxies.is_some_and(|trusted| !dispatch::trusts(&**trusted, &peer)) {
            debug!(target: "uncork::engine", "{peer}: turned away, it is no trusted proxy");
            return;
        }
        let by_proxy = proxies.is_some();
        let entered = if by_proxy { self.admission.enter_proxy(&peer) } else { self.admission.enter(&peer) };
        let entered = match entered {
            Ok(entered) => entered,
            Err(full) => {
                let what = if full == Full::Total { "in all" } else { "from this address" };
                debug!(target: "uncork::engine", "{peer}: turned away, too many connections {what}");
                return;
            }
        };
        // Who comes by a proxy is not known yet.
        if !by_proxy && !dispatch::accept(&mut *self.handler, &peer) {
            debug!(target: "uncork::engine", "{peer}: turned away by the handler");
            return;
        }
        self.take_in(Arrival { source: ConnSource::Socket(socket), peer: entered, port });
    }

    /// A connection was let in.
    fn take_in(&mut self, arrival: Arrival) {
        match &mut self.elsewhere {
            None => self.install(arrival),
            Some(elsewhere) => elsewhere(arrival),
        }
    }

    /// Gives an arrival its slot.
    pub(crate) fn install(&mut self, arrival: Arrival) {
        let Arrival { source: line, peer, port } = arrival;
        let addr = peer.addr;
        let added = match line {
            ConnSource::Socket(socket) => {
                let security = self.ports.get(port).map_or(&None, |port| &port.security).clone();
                let by_proxy = self.ports.get(port).is_some_and(|port| port.proxies.is_some());
                let phase = if by_proxy { Phase::Proxy } else { Phase::first(&security) };
                self.add(socket, peer, |socket| Transport::accepted(socket, &security), |_, _| Some(phase))
            }
            ConnSource::Pipes(pipes) => self.add_pipes(*pipes, peer),
        };
        match added {
            Ok(slot) => {
                slot.io.welcome = !matches!(slot.phase, Phase::Proxy);
                slot.io.listener = u16::try_from(port).unwrap_or(u16::MAX);
                self.inbound += 1;
            }
            Err(fault) => {
                if let Some(times) = self.admission.unserved.happens(self.core.now.mono) {
                    warn!(target: "uncork::engine", "{addr}: can't be served: {fault:?}{times}");
                }
            }
        }
    }

    /// Gives two pipes a slot. They speak by waking number 0 of their connection, which is no request's.
    fn add_pipes(&mut self, (input, output): (PipeOut, PipeIn), peer: Peer) -> Result<&mut Slot, Fault> {
        let id = self.next_id()?;
        let waker = Waker::new(RequestId { conn: id, number: 0 }, self.core.mailbox.clone());
        let socket = Socket::within(Box::new(Ends::new(input, output, &waker)));
        // What has become of them by now, nobody will tell.
        waker.wake();
        self.add_as(id, socket, peer, |socket| Ok(Transport::plain(socket)), |_, _| None)
    }

    /// Gives a socket a slot, with whatever secures it, in the phase it begins with.
    fn add(
        &mut self,
        socket: Socket,
        peer: Peer,
        secured: impl FnOnce(Socket) -> Result<Transport, Fault>,
        phase: impl FnOnce(ConnId, &Core) -> Option<Phase>,
    ) -> Result<&mut Slot, Fault> {
        let id = self.next_id()?;
        self.add_as(id, socket, peer, secured, phase)
    }

    /// What the next connection that gets a slot is called.
    fn next_id(&self) -> Result<ConnId, Fault> {
        let key = self.slots.vacant_key();
        if key >= ConnId::MAX_SLOTS {
            return Err(Fault::Io(io::ErrorKind::OutOfMemory.into()));
        }
        Ok(ConnId::new(self.number, key, GENERATION.fetch_add(1, Ordering::Relaxed)))
    }

    fn add_as(
        &mut self,
        id: ConnId,
        mut socket: Socket,
        peer: Peer,
        secured: impl FnOnce(Socket) -> Result<Transport, Fault>,
        phase: impl FnOnce(ConnId, &Core) -> Option<Phase>,
    ) -> Result<&mut Slot, Fault> {
        let entry = self.slots.vacant_entry();
        socket.register(self.poll.registry(), Token(id.token()))?;
        let io = ConnIo::new(id, secured(socket)?, peer);
        let mut slot = Slot { io, phase: phase(id, &self.core).unwrap_or(Phase::Head) };
        slot.io.queued = true;
        self.core.run.push_back(id);
        Ok(entry.insert(slot))
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
        let unfinished = io.conn.is_answering() || !io.out.is_empty();
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
        let (is_guest, welcome) = (io.peer.is_inbound(), io.welcome);
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
        if is_guest {
            self.inbound -= 1;
        }
        if welcome {
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

    /// Stopped, and nothing is left to do. Once the grace is over, mail is nothing to be done: whoever goes on posting
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
