//! The carrier's protocol SPDY, to a spdy-proxy: this side is the server.
//!
//! ```text
//!   Io ◀══ Pump ══▶ Session ──Opened──▶ Exchange::begin ──▶ adopt_pipes, on this loop
//!                     woken keys, data, window ──▶ only those exchanges are driven
//!   deadline: ping after silence, suspect, dead, the drain timeout
//! ```
//! A spdy-proxy does not describe its clients: the peer of every request is the proxy. Fields in which a client
//! describes itself (`X-Forwarded-For` and the like) are dropped.

use std::{collections::HashMap, task, time::Instant};

use slab::Slab;
use uncork::{EventMask, Io};

use super::{
    error::TunnelError,
    exchange::Exchange,
    protocol::{Liveness, Protocol, STREAMS, Timeouts},
    stream::Served,
};
use crate::relay::tunnel::wakes::Wakes;
use crate::relay::tunnel::{
    pump::Step,
    spdy::{Code, Event, Fault, RequestHead, Role, Session, SessionPump, User},
    wire::CONNECTION,
};

pub(super) struct Spdy {
    pump: SessionPump,
    inner: Inner,
}

struct Inner {
    served: Served,
    wakes: Wakes,
    session: Session,
    exchanges: Slab<Exchange>,
    /// The exchange of each stream number.
    keys: HashMap<u32, usize>,
    liveness: Liveness,
    error: Option<TunnelError>,
}

impl Spdy {
    pub(super) fn new(served: Served, timeouts: Timeouts, now: Instant) -> Self {
        let wakes = Wakes::new();
        let pump = SessionPump::new(&wakes, b"");
        let inner = Inner {
            served,
            wakes,
            session: Session::new(Role::Server, STREAMS as usize),
            exchanges: Slab::new(),
            keys: HashMap::new(),
            liveness: Liveness::new(timeouts, now),
            error: None,
        };
        Self { pump, inner }
    }
}

impl Protocol for Spdy {
    fn waker(&self) -> task::Waker {
        self.inner.wakes.waker(CONNECTION)
    }

    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        let Self { pump, inner } = self;
        inner.liveness.now = io.now().mono;
        if io.rx.bytes().is_empty() && inner.liveness.begin_ping() {
            inner.session.ping();
        }
        let mask = pump.turn(io, inner);
        io.set_deadline(Some(inner.liveness.due()));
        mask
    }

    fn liveness(&self) -> &Liveness {
        &self.inner.liveness
    }

    fn drain(&mut self, now: Instant) {
        let inner = &mut self.inner;
        if inner.liveness.drain(now) {
            inner.session.close();
            inner.wakes.waker(CONNECTION).wake();
        }
    }

    fn take_error(&mut self) -> Option<TunnelError> {
        self.inner.error.take()
    }
}

impl Inner {
    fn opened(&mut self, stream: u32, head: RequestHead, end: bool) {
        let entry = self.exchanges.vacant_entry();
        let key = entry.key();
        match Exchange::begin(stream, head, end, &self.served, self.wakes.waker(key)) {
            Ok(exchange) => {
                entry.insert(exchange);
                self.keys.insert(stream, key);
                self.drive(key);
            }
            Err(reason) => {
                log::debug!(target: "uncork::relay", "request of the tunnel rejected: {reason}");
                self.session.reset(stream, Code::PROTOCOL_ERROR);
            }
        }
    }

    fn drive(&mut self, key: usize) {
        let Some(exchange) = self.exchanges.get_mut(key) else { return };
        if exchange.drive(&mut self.session) {
            self.keys.remove(&exchange.id);
            drop(self.exchanges.remove(key));
        }
    }
}

impl User for Inner {
    fn session(&self) -> &Session {
        &self.session
    }

    fn session_mut(&mut self) -> &mut Session {
        &mut self.session
    }

    fn on_input(&mut self) {
        self.liveness.note_input();
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Opened { stream, head, end } => self.opened(stream, head, end),
            Event::Data { stream, bytes, end } => match self.keys.get(&stream) {
                Some(&key) => {
                    if let Some(exchange) = self.exchanges.get_mut(key) {
                        exchange.received(&bytes, end);
                    }
                    self.drive(key);
                }
                None => self.session.release(stream, bytes.len()),
            },
            Event::Writable { stream } => {
                if let Some(&key) = self.keys.get(&stream) {
                    self.drive(key);
                }
            }
            // The proxy or its client has cancelled the request.
            Event::Reset { stream, .. } => {
                if let Some(key) = self.keys.remove(&stream) {
                    drop(self.exchanges.try_remove(key));
                }
            }
            // The proxy sends no more requests: those in progress are finished, and another connection is opened.
            Event::GoAway => drop(self.liveness.drain(self.liveness.now)),
            // Any input resets the silence. A server's session gets no replies.
            Event::Pong | Event::Replied { .. } => {}
        }
    }

    fn step(&mut self, keys: &mut Vec<usize>) -> Step {
        if self.liveness.is_dead() {
            self.error = Some(TunnelError::Silent);
            return Step::Abort;
        }
        if self.liveness.is_drained() {
            return Step::Abort;
        }
        for key in keys.drain(..).filter(|key| *key != CONNECTION) {
            self.drive(key);
        }
        if self.liveness.is_draining() && self.exchanges.is_empty() { Step::Over } else { Step::Pending }
    }

    /// The exchanges end with the connection.
    fn ended(&mut self, fault: Option<Fault>) {
        self.keys.clear();
        self.exchanges.clear();
        if let Some(Fault { rule }) = fault {
            self.error = Some(TunnelError::Broken(rule.to_owned()));
        }
    }
}
