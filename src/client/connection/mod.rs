//! One connection to a server: an [`Upgrade`] around the machine of `conn/client`.
//!
//! ```text
//!   New ──▶ Busy ──head──▶ (Response: what shall become of the body?) ──end──▶ Idle ──given a call──▶ Busy
//!             │                                                                └─FIN, bytes, time─▶ Over
//!             ├──broken, late, cut off──▶ Over, and whoever waits is told
//!             └──101, CONNECT──▶ Handed: another Upgrade speaks
//! ```
//!
//! Everything happens in one call of [`ready`](Upgrade::ready): what has come is read, what can be sent is written, and
//! the mask says what is waited for. Back-pressure is a mask without READ.
//!
//! | file | what |
//! |---|---|
//! | here | its life: given a call, free for another, handed over, over |
//! | `work` | one call: sent, timed, finished or failed, perhaps to be sent again |
//! | `receive` | what comes: heads, and a body on its way to whoever wants it |

mod receive;
mod work;

use std::{
    sync::{Arc, Weak},
    time::Instant,
};

use log::debug;

use self::work::{Work, tell};
use super::{
    Deadline, Error,
    idle_slot::{IdleSlot, Left},
    pool::{ConnPermit, Exchange, Key, Next, Shared},
};
use crate::{
    api::{Events, Io, LoopHandle, ReadState, Upgrade, Waker},
    base::EventMask,
    conn::client::ClientConn,
};

pub(super) struct Connection {
    here: LoopHandle,
    shared: Weak<Shared>,
    key: Key,
    seat: Arc<IdleSlot>,
    place: Option<ConnPermit>,
    conn: ClientConn,
    /// The beginning of a head that is not whole yet.
    partial: Vec<u8>,
    phase: Phase,
    /// It has waited, or served a call.
    used: bool,
    stopping: bool,
}

enum Phase {
    New(Option<Box<Exchange>>),
    Busy(Box<Work>),
    /// Until then.
    Idle(Option<Instant>),
    Handed(Box<dyn Upgrade>),
    Over,
}

/// How it goes on after a step.
enum Go {
    On,
    Wait(EventMask, Option<Instant>),
    /// Closes in order.
    Close,
    /// Breaks off.
    Break,
}

impl Connection {
    /// A connection that stands, for this call; or for the next, if this one's time was up just now. `None` if nobody is
    /// there to want it.
    pub(super) fn new(
        here: LoopHandle,
        waker: Waker,
        place: ConnPermit,
        exchange: Option<Box<Exchange>>,
    ) -> Option<Self> {
        let (shared, key) = place.whose()?;
        let seat = IdleSlot::new(here.clone(), waker);
        Some(Self {
            here,
            shared,
            key,
            seat,
            place: Some(place),
            conn: ClientConn::new(),
            partial: Vec::new(),
            phase: Phase::New(exchange),
            used: false,
            stopping: false,
        })
    }

    fn step(&mut self, io: &mut Io<'_>) -> Go {
        match &mut self.phase {
            Phase::New(exchange) => match exchange.take() {
                Some(exchange) => self.serve(exchange, io),
                None => self.release(io),
            },
            Phase::Busy(_) => self.busy(io),
            Phase::Idle(until) => {
                let until = *until;
                self.idle(io, until)
            }
            Phase::Handed(_) | Phase::Over => Go::Close,
        }
    }

    fn idle(&mut self, io: &mut Io<'_>, until: Option<Instant>) -> Go {
        match self.seat.look() {
            Ok(Some((exchange, place))) => {
                self.place = Some(place);
                return self.serve(exchange, io);
            }
            Ok(None) => {}
            Err(()) => return Go::Close,
        }
        if !is_quiet(io) || self.stopping || until.is_some_and(|until| until <= io.now().mono) {
            if !io.rx.bytes().is_empty() {
                debug!(target: "uncork::client", "{:?}: the server talks unasked", self.key);
            }
            if let Some((exchange, place)) = self.leave() {
                self.place = Some(place);
                return self.serve(exchange, io);
            }
            return Go::Close;
        }
        Go::Wait(EventMask::READ | EventMask::EXTERNAL, until)
    }

    /// Gives up its seat; a call that was left in it just now is to be served nevertheless.
    fn leave(&mut self) -> Option<(Box<Exchange>, ConnPermit)> {
        let left = match self.shared.upgrade() {
            Some(shared) => shared.leave(&self.key, &self.seat),
            None => self.seat.leave(),
        };
        match left {
            Left::With(exchange, place) => Some((exchange, place)),
            Left::Alone(_) => None,
        }
    }

    /// Free for another call.
    fn release(&mut self, io: &Io<'_>) -> Go {
        self.used = true;
        let next = match self.shared.upgrade() {
            Some(shared) if !self.stopping => {
                let until = io.now().mono.checked_add(shared.settings.idle_time);
                self.phase = Phase::Idle(until);
                shared.release(&self.key, &self.seat, &mut self.place, &self.here)
            }
            _ => Next::Close,
        };
        match next {
            Next::Wait => Go::On,
            Next::Serve(exchange) => {
                self.phase = Phase::New(Some(exchange));
                Go::On
            }
            Next::Close => {
                self.phase = Phase::Over;
                self.place = None;
                Go::Close
            }
        }
    }

    fn hand_over(&mut self, io: &mut Io<'_>, upgrade: Box<dyn Upgrade>) -> Go {
        // It is no HTTP connection any more, and its own affair.
        self.place = None;
        io.set_deadline(None);
        self.phase = Phase::Handed(upgrade);
        Go::On
    }
}

/// The server has neither said nor ended anything.
fn is_quiet(io: &Io<'_>) -> bool {
    io.rx.bytes().is_empty() && io.rx.state() == ReadState::Open && !io.events().is_error()
}

impl Upgrade for Connection {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        if let Phase::Handed(upgrade) = &mut self.phase {
            return upgrade.ready(io);
        }
        self.stopping |= io.events().is_stopping();
        loop {
            match self.step(io) {
                Go::On => {}
                Go::Wait(mask, by) => {
                    io.set_deadline(by);
                    return mask;
                }
                Go::Close => {
                    self.phase = Phase::Over;
                    return EventMask::TERMINATE;
                }
                Go::Break => {
                    self.phase = Phase::Over;
                    io.abort();
                    return EventMask::TERMINATE;
                }
            }
            if let Phase::Handed(upgrade) = &mut self.phase {
                // Its first call: nothing was told to it yet.
                let stopping = if self.stopping { Events::STOPPING } else { 0 };
                io.events = Events(io.events.0 & (Events::READ | Events::END | Events::RESET) | stopping);
                return upgrade.ready(io);
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Busy(work) => {
                // The loop has ended; or it has broken the connection off, because the server takes nothing.
                let stuck = matches!(work.clock, Some((Deadline::Idle, _))) && self.conn.is_sending();
                let error = if stuck { Error::TimedOut(Deadline::Idle) } else { Error::LoopEnded };
                let Work { exchange, to, line, .. } = *work;
                if let Some(exchange) = exchange {
                    return exchange.fail(error);
                }
                tell(to, line, error);
            }
            // A call that was left there is told that the loop has ended.
            Phase::Idle(_) => drop(self.leave()),
            Phase::New(_) | Phase::Handed(_) | Phase::Over => {}
        }
    }
}
