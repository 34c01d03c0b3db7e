//! One connection to a server: an [`Upgrade`] around the machine of `conn/client`.
//!
//! ```text
//!   New ──▶ Busy ──head──▶ (Answer: what shall become of the body?) ──end──▶ Idle ──given a call──▶ Busy
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

use self::work::{Work, fail_receiver};
use super::{
    Error, Timeout,
    exchange::{Exchange, Key},
    idle_slot::{IdleSlot, Vacated},
    permit::ConnPermit,
    pool::{Next, Shared},
};
use crate::{
    api::{Io, LoopHandle, ReadState, Upgrade, Waker},
    base::EventMask,
    conn::client::ClientConn,
};

pub(super) struct Connection {
    loop_handle: LoopHandle,
    shared: Weak<Shared>,
    key: Key,
    slot: Arc<IdleSlot>,
    permit: Option<ConnPermit>,
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
    HandedOver(Box<dyn Upgrade>),
    Closed,
}

/// How it goes on after a step.
enum Go {
    On,
    Wait(EventMask, Option<Instant>),
    /// Closes in order.
    Close,
    /// Breaks off.
    Abort,
}

impl Connection {
    /// A connection that stands, for this call; or for the next, if this one's time was up just now. `None` if nobody is
    /// there to want it.
    pub(super) fn new(
        loop_handle: LoopHandle,
        waker: Waker,
        permit: ConnPermit,
        exchange: Option<Box<Exchange>>,
    ) -> Option<Self> {
        let (shared, key) = permit.whose()?;
        let slot = IdleSlot::new(loop_handle.clone(), waker);
        Some(Self {
            loop_handle,
            shared,
            key,
            slot,
            permit: Some(permit),
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
            Phase::HandedOver(_) | Phase::Closed => Go::Close,
        }
    }

    fn idle(&mut self, io: &mut Io<'_>, until: Option<Instant>) -> Go {
        match self.slot.look() {
            Ok(Some((exchange, permit))) => {
                self.permit = Some(permit);
                return self.serve(exchange, io);
            }
            Ok(None) => {}
            Err(()) => return Go::Close,
        }
        if !is_quiet(io) || self.stopping || until.is_some_and(|until| until <= io.now().mono) {
            if !io.rx.bytes().is_empty() {
                debug!(target: "uncork::client", "{:?}: the server talks unasked", self.key);
            }
            if let Some((exchange, permit)) = self.leave() {
                self.permit = Some(permit);
                return self.serve(exchange, io);
            }
            return Go::Close;
        }
        Go::Wait(EventMask::READ | EventMask::EXTERNAL, until)
    }

    /// Gives up its seat; a call that was left in it just now is to be served nevertheless.
    fn leave(&mut self) -> Option<(Box<Exchange>, ConnPermit)> {
        let left = match self.shared.upgrade() {
            Some(shared) => shared.leave(&self.key, &self.slot),
            None => self.slot.leave(),
        };
        match left {
            Vacated::With(exchange, permit) => Some((exchange, permit)),
            Vacated::Empty(_) => None,
        }
    }

    /// Free for another call.
    fn release(&mut self, io: &Io<'_>) -> Go {
        self.used = true;
        let next = match self.shared.upgrade() {
            Some(shared) if !self.stopping => {
                let until = io.now().mono.checked_add(shared.settings.pool_idle_timeout);
                self.phase = Phase::Idle(until);
                shared.release(&self.key, &self.slot, &mut self.permit, &self.loop_handle)
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
                self.phase = Phase::Closed;
                self.permit = None;
                Go::Close
            }
        }
    }

    fn hand_over(&mut self, io: &mut Io<'_>, upgrade: Box<dyn Upgrade>) -> Go {
        // It is no HTTP connection any more, and its own affair.
        self.permit = None;
        io.set_deadline(None);
        self.phase = Phase::HandedOver(upgrade);
        Go::On
    }
}

/// The server has neither said nor ended anything.
fn is_quiet(io: &Io<'_>) -> bool {
    io.rx.bytes().is_empty() && io.rx.state() == ReadState::Open && !io.events().is_error()
}

impl Upgrade for Connection {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        if let Phase::HandedOver(upgrade) = &mut self.phase {
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
                    self.phase = Phase::Closed;
                    return EventMask::TERMINATE;
                }
                Go::Abort => {
                    self.phase = Phase::Closed;
                    io.abort();
                    return EventMask::TERMINATE;
                }
            }
            if let Phase::HandedOver(upgrade) = &mut self.phase {
                io.restarted(self.stopping);
                return upgrade.ready(io);
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Busy(work) => {
                // The loop has ended; or it has broken the connection off, because the server takes nothing.
                let stuck = matches!(work.clock, Some((Timeout::Idle, _))) && self.conn.is_sending();
                let error = if stuck { Error::TimedOut(Timeout::Idle) } else { Error::LoopEnded };
                let Work { exchange, to, channel, .. } = *work;
                if let Some(exchange) = exchange {
                    return exchange.fail(error);
                }
                fail_receiver(to, channel, error);
            }
            // A call that was left there is told that the loop has ended.
            Phase::Idle(_) => drop(self.leave()),
            Phase::New(_) | Phase::HandedOver(_) | Phase::Closed => {}
        }
    }
}
