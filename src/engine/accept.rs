//! Accepts connections, applies the limits, and gives each its slot. `arrivals` has their data and the limits.

use std::{
    io,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use log::{debug, warn};
use mio::Token;

use super::{
    Engine,
    arrivals::{Arrival, ConnSource, Peer},
    conn_io::ConnIo,
    core::Core,
    dispatch,
    phase::{Phase, Slot},
};
use crate::{
    api::{PipeIn, PipeOut, Waker, duplex::Ends},
    base::{ConnId, EndReason, PeerAddr, RequestId, time::Tick},
    transport::{Accepted, Fault, Socket, Transport},
};

/// Connections accepted in one turn before the existing ones have their turn.
const ACCEPTS: usize = 64;
/// The time for which a listener pauses when a limit or the system allows no further connection.
const PAUSE: Duration = Duration::from_millis(50);

/// The rule of [`Handler::accept`](crate::Handler::accept).
pub(super) const BY_HANDLER: &str = "rejected by the handler";

static GENERATION: AtomicU32 = AtomicU32::new(0);

impl Engine<'_> {
    /// Accepts a number of connections. Returns `true` if there may be more.
    pub(super) fn accept_some(&mut self, index: usize) -> bool {
        for _ in 0..ACCEPTS {
            let tick = self.core.tick;
            let Some(entry) = self.listeners.get_mut(index) else { return false };
            if entry.paused <= tick {
                entry.paused = Tick::NEVER;
                entry.ready = true;
            }
            let Some(listener) = entry.listener.as_ref().filter(|_| entry.ready && entry.paused == Tick::NEVER) else {
                return false;
            };
            if !self.admission.has_capacity() {
                entry.paused = tick.after(PAUSE);
                return false;
            }
            match listener.accept() {
                Accepted::Stream(socket, peer) => self.arrive(socket, peer, index),
                Accepted::Again => {}
                Accepted::Empty => {
                    entry.ready = false;
                    self.core.reserve.fill();
                    return false;
                }
                Accepted::Exhausted { descriptors: true, .. } if self.core.reserve.release_one() => {}
                Accepted::Exhausted { error, .. } => {
                    if let Some(repetitions) = self.admission.exhausted.record(self.core.now.mono) {
                        warn!(target: "uncork::engine", "cannot accept connections for now: {error}{repetitions}");
                    }
                    entry.paused = tick.after(PAUSE);
                    return false;
                }
            }
        }
        true
    }

    /// Applies the limits to a new connection and asks the application.
    pub(super) fn arrive(&mut self, socket: Socket, peer: PeerAddr, listener: usize) {
        let proxies = self.listeners.get(listener).and_then(|entry| entry.proxies.as_ref());
        if proxies.is_some_and(|trusted| !dispatch::trusts(&**trusted, &peer)) {
            return self.reject(&peer, "not a trusted proxy");
        }
        let by_proxy = proxies.is_some();
        let entered = if by_proxy { self.admission.enter_proxy(&peer) } else { self.admission.enter(&peer) };
        let entered = match entered {
            Ok(entered) => entered,
            Err(limit) => return self.reject(&peer, limit.rule()),
        };
        // Behind a proxy the client is not known yet.
        if !by_proxy && !dispatch::accept(&mut *self.handler, &peer) {
            return self.reject(&peer, BY_HANDLER);
        }
        self.take_in(Arrival { source: ConnSource::Socket(socket), peer: entered, listener });
    }

    /// Reports a connection that is closed unread.
    #[cold]
    fn reject(&mut self, peer: &PeerAddr, rule: &'static str) {
        debug!(target: "uncork::engine", "{peer}: rejected: {rule}");
        dispatch::rejected(&mut *self.handler, peer, &EndReason::Rejected { status: 0, rule });
    }

    /// Installs an admitted connection here, or passes it to another loop.
    pub(super) fn take_in(&mut self, arrival: Arrival) {
        match &mut self.hand_off {
            None => self.install(arrival),
            Some(hand_off) => hand_off(arrival),
        }
    }

    /// Gives an admitted connection its slot.
    pub(crate) fn install(&mut self, arrival: Arrival) {
        let Arrival { source, peer, listener } = arrival;
        let addr = peer.addr;
        let added = match source {
            ConnSource::Socket(socket) => {
                let security = self.listeners.get(listener).map_or(&None, |entry| &entry.security).clone();
                let http2 = self.core.versions.http2;
                let by_proxy = self.listeners.get(listener).is_some_and(|entry| entry.proxies.is_some());
                let phase = if by_proxy { Phase::Proxy } else { Phase::first(&security) };
                self.add(socket, peer, |socket| Transport::accepted(socket, &security, http2), |_, _| Some(phase))
            }
            ConnSource::Pipes(pipes) => self.add_pipes(*pipes, peer),
        };
        match added {
            Ok(slot) => {
                slot.io.peer.notify_closed = !matches!(slot.phase, Phase::Proxy);
                slot.io.peer.listener = u16::try_from(listener).unwrap_or(u16::MAX);
                let opened = slot.io.peer.notify_closed.then_some(slot.io.id);
                self.inbound += 1;
                if let Some(id) = opened {
                    let slot = self.slots.get(id.index());
                    let socket = slot.and_then(|slot| slot.io.transport.socket_ref().fd().ok());
                    dispatch::opened(&mut *self.handler, id, &addr, socket);
                }
            }
            Err(fault) => {
                if let Some(repetitions) = self.admission.unserved.record(self.core.now.mono) {
                    warn!(target: "uncork::engine", "{addr}: cannot serve the connection: {fault}{repetitions}");
                }
            }
        }
    }

    /// Gives two pipes a slot. Their events are wake-ups for request 0 of the connection, which is never the number of
    /// a request.
    fn add_pipes(&mut self, (input, output): (PipeOut, PipeIn), peer: Peer) -> Result<&mut Slot, Fault> {
        let id = self.next_id()?;
        let waker = Waker::new(RequestId { conn: id, number: 0 }, self.core.mailbox.clone());
        let socket = Socket::within(Box::new(Ends::new(input, output, &waker)));
        // Events before this moment woke no connection.
        waker.wake();
        self.add_as(id, socket, peer, |socket| Ok(Transport::plain(socket)), |_, _| None)
    }

    /// Gives a socket a slot, in the phase it begins with.
    pub(super) fn add(
        &mut self,
        socket: Socket,
        peer: Peer,
        secured: impl FnOnce(Socket) -> Result<Transport, Fault>,
        phase: impl FnOnce(ConnId, &Core) -> Option<Phase>,
    ) -> Result<&mut Slot, Fault> {
        let id = self.next_id()?;
        self.add_as(id, socket, peer, secured, phase)
    }

    /// Returns the id of the next connection that gets a slot.
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
}
