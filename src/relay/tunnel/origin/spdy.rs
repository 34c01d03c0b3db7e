//! The carrier to a proxy of 2014: a connection on which this side is SPDY's server.
//!
//! ```text
//!   Io ◀══ Pump ══▶ Session ──Opened──▶ Exchange::begin ──▶ adopt_pipes, on this very loop
//!                     woken keys, data, room ──▶ only those exchanges are driven
//!   deadline: ping after silence, suspicion, death, the end of a drain
//! ```
//! Such a proxy says nothing of its client: the peer of every request is the proxy, and what the client says of itself
//! (`X-Forwarded-For` and the like) is dropped.

use std::{
    collections::HashMap,
    task,
    time::{Duration, Instant},
};

use slab::Slab;
use uncork::{EventMask, Io, LoopHandle, PeerAddr};

use super::{
    TunnelError,
    carrier::{Health, Protocol},
    exchange::Exchange,
    http2::Times,
    stream::Served,
};
use crate::relay::tunnel::{
    spdy::{Code, Event, Fault, Pump, RequestHead, Role, Session, Speaker},
    wakes::Wakes,
    wire::{CONNECTION, Step},
};

/// Requests at the same time.
const STREAMS: usize = 256;

pub(super) struct Spdy {
    pump: Pump,
    inner: Inner,
}

struct Inner {
    here: LoopHandle,
    listener: usize,
    peer: PeerAddr,
    wakes: Wakes,
    session: Session,
    exchanges: Slab<Exchange>,
    /// Where the exchanges on the streams of these numbers are.
    keys: HashMap<u32, usize>,
    times: Times,
    now: Instant,
    heard: Instant,
    pinged: bool,
    /// Since when nothing new is to come.
    leaving: Option<Instant>,
    error: Option<TunnelError>,
}

impl Spdy {
    pub(super) fn new(here: LoopHandle, listener: usize, peer: PeerAddr, times: Times, now: Instant) -> Self {
        let wakes = Wakes::new();
        let pump = Pump::new(&wakes, b"");
        let inner = Inner {
            here,
            listener,
            peer,
            wakes,
            session: Session::new(Role::Server, STREAMS),
            exchanges: Slab::new(),
            keys: HashMap::new(),
            times,
            now,
            heard: now,
            pinged: false,
            leaving: None,
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
        inner.now = io.now().mono;
        if inner.silence() >= inner.times.ping && !inner.pinged && io.rx.bytes().is_empty() {
            inner.session.ping();
            inner.pinged = true;
        }
        let mask = pump.turn(io, inner);
        io.set_deadline(Some(inner.due()));
        mask
    }

    fn health(&self) -> Health {
        let limit = self.inner.times.ping.saturating_mul(3) / 2;
        if self.inner.silence() >= limit { Health::Suspect } else { Health::Good }
    }

    fn leave(&mut self, now: Instant) {
        let inner = &mut self.inner;
        if inner.leaving.is_none() {
            inner.leaving = Some(now);
            inner.session.close();
            inner.wakes.waker(CONNECTION).wake();
        }
    }

    fn is_leaving(&self) -> bool {
        self.inner.leaving.is_some()
    }

    fn take_error(&mut self) -> Option<TunnelError> {
        self.inner.error.take()
    }
}

impl Inner {
    fn opened(&mut self, stream: u32, head: RequestHead, end: bool) {
        let entry = self.exchanges.vacant_entry();
        let key = entry.key();
        let served = Served { here: &self.here, listener: self.listener, peer: self.peer };
        match Exchange::begin(stream, head, end, &served, self.wakes.waker(key)) {
            Ok(exchange) => {
                entry.insert(exchange);
                self.keys.insert(stream, key);
                self.drive(key);
            }
            Err(why) => {
                log::debug!(target: "uncork::relay", "a request of the tunnel is refused: {why}");
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

    fn silence(&self) -> Duration {
        self.now.saturating_duration_since(self.heard)
    }

    /// When to look at the clocks again.
    fn due(&self) -> Instant {
        let ping = self.times.ping;
        let steps = [ping, ping.saturating_mul(3) / 2, ping.saturating_mul(2)];
        let silent = steps.into_iter().map(|after| self.heard + after).find(|at| *at > self.now);
        let silent = silent.unwrap_or(self.now);
        self.leaving.map_or(silent, |since| silent.min(since + self.times.drain))
    }
}

impl Speaker for Inner {
    fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    fn heard(&mut self) {
        (self.heard, self.pinged) = (self.now, false);
    }

    fn happens(&mut self, event: Event) {
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
            Event::Room { stream } => {
                if let Some(&key) = self.keys.get(&stream) {
                    self.drive(key);
                }
            }
            // Who has asked is gone.
            Event::Reset { stream, .. } => {
                if let Some(key) = self.keys.remove(&stream) {
                    drop(self.exchanges.try_remove(key));
                }
            }
            // It asks for no more: what is under way is finished, and another connection is made.
            Event::GoAway => self.leaving = self.leaving.or(Some(self.now)),
            // That something was heard is what counts. A server's session hears of no replies.
            Event::Pong | Event::Replied { .. } => {}
        }
    }

    fn look(&mut self, keys: &mut Vec<usize>) -> Step {
        if self.silence() >= self.times.ping.saturating_mul(2) {
            self.error = Some(TunnelError::Silent);
            return Step::Abort;
        }
        if self.leaving.is_some_and(|since| self.now >= since + self.times.drain) {
            return Step::Abort;
        }
        for key in keys.drain(..).filter(|key| *key != CONNECTION) {
            self.drive(key);
        }
        if self.leaving.is_some() && self.exchanges.is_empty() { Step::Over } else { Step::Waits }
    }

    /// What is under way is broken off.
    fn ended(&mut self, fault: Option<Fault>) {
        self.keys.clear();
        self.exchanges.clear();
        if let Some(Fault { rule }) = fault {
            self.error = Some(TunnelError::Broken(rule.to_owned()));
        }
    }
}
