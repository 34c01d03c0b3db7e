//! The slot in which an idle connection waits for a request.
//!
//! ```text
//!   connection ──wait──▶ Idle(permit) ──give────▶ Given(request, permit) ──taken by the connection, which was woken
//!                             │    └───retire──▶ Retired            ──the connection closes
//!                             └─leave: it was closed, or waited too long
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{exchange::Exchange, permit::ConnPermit};
use crate::api::{LoopHandle, Waker};

pub(super) struct IdleSlot {
    loop_handle: LoopHandle,
    waker: Waker,
    state: Mutex<State>,
}

enum State {
    /// The connection is in use or closed.
    Empty,
    Idle(ConnPermit),
    Given(Box<Exchange>, ConnPermit),
    Retired,
}

/// The content of a slot when its connection leaves it.
pub(super) enum Vacated {
    /// Its permit, or nothing.
    Empty(#[expect(dead_code, reason = "dropping it frees it")] Option<ConnPermit>),
    /// A request that was given just before.
    With(Box<Exchange>, ConnPermit),
}

impl IdleSlot {
    pub(super) fn new(loop_handle: LoopHandle, waker: Waker) -> Arc<Self> {
        Arc::new(Self { loop_handle, waker, state: Mutex::new(State::Empty) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_of(&self, loop_handle: &LoopHandle) -> bool {
        self.loop_handle == *loop_handle
    }

    pub(super) fn wait(&self, permit: ConnPermit) {
        *self.state() = State::Idle(permit);
    }

    /// Gives the connection a request. The caller has removed it from the list of idle connections.
    pub(super) fn give(&self, exchange: Box<Exchange>) {
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Empty) {
            State::Idle(permit) => *state = State::Given(exchange, permit),
            other => {
                debug_assert!(false, "it was idle");
                *state = other;
            }
        }
        drop(state);
        self.waker.wake();
    }

    /// Closes the connection and takes its permit.
    pub(super) fn retire(&self) -> Option<ConnPermit> {
        let old = std::mem::replace(&mut *self.state(), State::Retired);
        self.waker.wake();
        match old {
            State::Idle(permit) => Some(permit),
            _ => None,
        }
    }

    /// Returns a request and the permit, if one was given; `Err` if the connection must close.
    pub(super) fn look(&self) -> Result<Option<(Box<Exchange>, ConnPermit)>, ()> {
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Empty) {
            State::Given(exchange, permit) => Ok(Some((exchange, permit))),
            State::Retired => Err(()),
            other => {
                *state = other;
                Ok(None)
            }
        }
    }

    pub(super) fn leave(&self) -> Vacated {
        match std::mem::replace(&mut *self.state(), State::Empty) {
            State::Idle(permit) => Vacated::Empty(Some(permit)),
            State::Given(exchange, permit) => Vacated::With(exchange, permit),
            State::Empty | State::Retired => Vacated::Empty(None),
        }
    }
}
