//! One connection to a server: an [`Upgrade`] around the machine of `conn/client`.
//!
//! ```text
//!   New ──▶ Busy ──head──▶ (Response: the choice for the body) ──end──▶ Idle ──given a request──▶ Busy
//!             │                                                           └─FIN, bytes, timeout─▶ Closed
//!             ├──malformed, late, truncated──▶ Closed, and the receiver gets the error
//!             └──101, CONNECT──▶ HandedOver: to another Upgrade
//! ```
//!
//! Each call of [`ready`](Upgrade::ready) reads the input, writes what fits into the output, and returns the mask of the
//! events to wait for. Back-pressure is a mask without READ.
//!
//! | file | content |
//! |---|---|
//! | here | the phases of a connection |
//! | `work` | one request: sent, timed, finished, failed or repeated |
//! | `receive` | the input: heads and body |

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
    /// The beginning of an incomplete head.
    partial: Vec<u8>,
    phase: Phase,
    /// It has been idle, or has served a request.
    used: bool,
    stopping: bool,
}

enum Phase {
    New(Option<Box<Exchange>>),
    Busy(Box<Work>),
    /// Until this time.
    Idle(Option<Instant>),
    HandedOver(Box<dyn Upgrade>),
    Closed,
}

/// The result of a step.
enum Go {
    On,
    Wait(EventMask, Option<Instant>),
    /// Closes the connection in order.
    Close,
    /// Aborts the connection.
    Abort,
}

impl Connection {
    /// Creates an open connection for this request, or for the next one if this has just timed out. `None` if the client
    /// is gone.
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
                debug!(target: "uncork::client", "{:?}: the server sent bytes without a request", self.key);
            }
            if let Some((exchange, permit)) = self.leave() {
                self.permit = Some(permit);
                return self.serve(exchange, io);
            }
            return Go::Close;
        }
        Go::Wait(EventMask::READ | EventMask::EXTERNAL, until)
    }

    /// Leaves its slot. Returns a request that was given just before, which must be served.
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

    /// Frees the connection for another request.
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
        // No longer an HTTP connection: it does not count for the pool.
        self.permit = None;
        io.set_deadline(None);
        self.phase = Phase::HandedOver(upgrade);
        Go::On
    }
}

/// Returns `true` if the server has neither sent bytes nor ended the stream.
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
                // The loop has ended, or it has aborted the connection because the server reads nothing.
                let stuck = matches!(work.clock, Some((Timeout::Idle, _))) && self.conn.is_sending();
                let error = if stuck { Error::TimedOut(Timeout::Idle) } else { Error::LoopEnded };
                let Work { exchange, to, channel, .. } = *work;
                if let Some(exchange) = exchange {
                    return exchange.fail(error);
                }
                fail_receiver(to, channel, error);
            }
            // A request in the slot fails with LoopEnded.
            Phase::Idle(_) => drop(self.leave()),
            Phase::New(_) | Phase::HandedOver(_) | Phase::Closed => {}
        }
    }
}
