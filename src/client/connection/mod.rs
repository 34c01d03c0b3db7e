//! One connection to a server: an [`Upgrade`] around the machine of `conn/client`.
//!
//! ```text
//!   Start ──▶ Busy ──head──▶ (Response: the choice for the body) ──end──▶ Idle ──given a request──▶ Start
//!               │                                                          └─end, bytes, timeout─▶ Closed
//!               ├──malformed, late, truncated──▶ Closed, and the receiver gets the error
//!               └──101, CONNECT──▶ HandedOver: to another Upgrade
//! ```
//!
//! Each call of [`ready`](Upgrade::ready) reads the input, writes what fits into the output, and returns the mask of
//! the events to wait for. Back-pressure is a mask without READ.
//!
//! | file | content |
//! |---|---|
//! | here | the only file in which a connection changes its phase |
//! | `phase`, `conn_state`, `work` | the data: the phases; what all of them use; one request |
//! | `serve` | one request: sent, timed, finished, failed or repeated |
//! | `receive` | the input: heads and body |

mod conn_state;
mod phase;
mod receive;
mod serve;
mod work;

use std::time::Instant;

use log::debug;

use self::{
    conn_state::{ConnState, is_quiet},
    phase::{Phase, Step},
    serve::{End, Progress},
    work::{Work, fail_receiver},
};
use super::{error::Error, exchange::Exchange, idle_slot::Content, pool::ConnPermit};
use crate::{
    api::{Io, LoopHandle, Upgrade, Waker},
    base::{EventMask, Timeout},
};

pub(super) struct Connection {
    state: ConnState,
    phase: Phase,
}

impl Connection {
    /// Creates an open connection for this request, or for the next one if this has just timed out.
    pub(super) fn new(
        loop_handle: LoopHandle,
        waker: Waker,
        permit: ConnPermit,
        exchange: Option<Box<Exchange>>,
    ) -> Self {
        let state = ConnState::new(loop_handle, waker, &permit);
        let phase = match exchange {
            Some(exchange) => Phase::Start((exchange, permit)),
            None => Phase::Free(permit),
        };
        Self { state, phase }
    }

    fn step(&mut self, io: &mut Io<'_>) -> Step {
        let ended = match &mut self.phase {
            Phase::Busy(work) => match serve::busy(&mut self.state, work, io) {
                Ok(Progress::Wait(mask, by)) => return Step::Wait(mask, by),
                Ok(Progress::Ended(end)) => Ok(end),
                Err(error) => Err(error),
            },
            Phase::Idle(until) => return idle(&self.state, *until, io),
            Phase::Free(_) | Phase::Start(_) => return self.begin(io),
            Phase::HandedOver(_) | Phase::Closed => return Step::Close,
        };
        let Phase::Busy(work) = std::mem::replace(&mut self.phase, Phase::Closed) else { return Step::Close };
        match ended {
            Ok(End::Complete(trailers)) => serve::finish(&mut self.state, *work, trailers, io),
            // No longer an HTTP connection: it does not count for the pool, and its timeouts end.
            Ok(End::Switch(upgrade)) => {
                io.set_deadline(None);
                Step::Become(Phase::HandedOver(upgrade))
            }
            Err(error) => serve::fail(&self.state, *work, error, io),
        }
    }

    fn begin(&mut self, io: &mut Io<'_>) -> Step {
        match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Start(permitted) => serve::serve(&mut self.state, permitted, io),
            Phase::Free(permit) => self.state.release(permit, io.now()),
            other => Step::Become(other),
        }
    }
}

/// Waits for a request from the pool.
fn idle(state: &ConnState, until: Option<Instant>, io: &Io<'_>) -> Step {
    match state.take_slot() {
        Content::Given(permitted) => return Step::Become(Phase::Start(permitted)),
        Content::Retired => return Step::Close,
        Content::Empty => {}
    }
    if is_quiet(io) && !state.stopping && until.is_none_or(|until| until > io.now().mono) {
        return Step::Wait(EventMask::READ | EventMask::EXTERNAL, until);
    }
    if !io.rx.bytes().is_empty() {
        debug!(target: "uncork::client", "{}: the server sent bytes without a request", state.key);
    }
    match state.leave() {
        Some(permitted) => Step::Become(Phase::Start(permitted)),
        None => Step::Close,
    }
}

impl Upgrade for Connection {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        if let Phase::HandedOver(upgrade) = &mut self.phase {
            return upgrade.ready(io);
        }
        self.state.stopping |= io.events().is_stopping();
        loop {
            match self.step(io) {
                Step::Become(phase) => self.phase = phase,
                Step::Wait(mask, by) => {
                    io.set_deadline(by);
                    return mask;
                }
                Step::Close => {
                    self.phase = Phase::Closed;
                    return EventMask::TERMINATE;
                }
                Step::Abort => {
                    self.phase = Phase::Closed;
                    io.abort();
                    return EventMask::TERMINATE;
                }
            }
            if let Phase::HandedOver(upgrade) = &mut self.phase {
                io.restarted(self.state.stopping);
                return upgrade.ready(io);
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // In any phase: the application may have panicked after the pool had listed the connection as idle. A request
        // in the slot fails with LoopEnded.
        drop(self.state.leave());
        match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Busy(work) => {
                // The loop has ended, or it has aborted the connection because the server reads nothing.
                let stuck = matches!(work.clock, Some((Timeout::Idle, _))) && self.state.conn.is_sending();
                let error = if stuck { Error::TimedOut(Timeout::Idle) } else { Error::LoopEnded };
                let Work { exchange, to, channel, .. } = *work;
                if let Some(exchange) = exchange {
                    return exchange.fail(error);
                }
                fail_receiver(to, channel, error);
            }
            Phase::Idle(_) | Phase::Free(_) | Phase::Start(_) | Phase::HandedOver(_) | Phase::Closed => {}
        }
    }
}
