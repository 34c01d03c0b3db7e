//! Where an idle connection waits, and is found.
//!
//! ```text
//!   connection ──wait──▶ Idle(place) ──give────▶ Given(call, place) ──taken by the connection, which was woken
//!                             │    └───retire──▶ Retired            ──the connection closes
//!                             └─leave: it was closed, or waited too long
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{exchange::Exchange, permit::ConnPermit};
use crate::api::{LoopHandle, Waker};

pub(super) struct IdleSlot {
    here: LoopHandle,
    waker: Waker,
    state: Mutex<State>,
}

enum State {
    /// The connection is at work, or gone.
    Empty,
    Idle(ConnPermit),
    Given(Box<Exchange>, ConnPermit),
    Retired,
}

/// What a connection finds in its seat when it leaves it.
pub(super) enum Left {
    /// Its place, or nothing any more.
    Alone(#[expect(dead_code, reason = "dropping it frees it")] Option<ConnPermit>),
    /// A call, which came just before.
    With(Box<Exchange>, ConnPermit),
}

impl IdleSlot {
    pub(super) fn new(here: LoopHandle, waker: Waker) -> Arc<Self> {
        Arc::new(Self { here, waker, state: Mutex::new(State::Empty) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_of(&self, here: &LoopHandle) -> bool {
        self.here.same(here)
    }

    pub(super) fn wait(&self, place: ConnPermit) {
        *self.state() = State::Idle(place);
    }

    /// The connection gets this call. It was in the list of those that are idle, and is taken out of it.
    pub(super) fn give(&self, exchange: Box<Exchange>) {
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Empty) {
            State::Idle(place) => *state = State::Given(exchange, place),
            other => {
                debug_assert!(false, "it was idle");
                *state = other;
            }
        }
        drop(state);
        self.waker.wake();
    }

    /// The connection closes; its place is another's.
    pub(super) fn retire(&self) -> Option<ConnPermit> {
        let old = std::mem::replace(&mut *self.state(), State::Retired);
        self.waker.wake();
        match old {
            State::Idle(place) => Some(place),
            _ => None,
        }
    }

    /// What has come for the connection: a call and its place back, `Err` if it is to close.
    pub(super) fn look(&self) -> Result<Option<(Box<Exchange>, ConnPermit)>, ()> {
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Empty) {
            State::Given(exchange, place) => Ok(Some((exchange, place))),
            State::Retired => Err(()),
            other => {
                *state = other;
                Ok(None)
            }
        }
    }

    pub(super) fn leave(&self) -> Left {
        match std::mem::replace(&mut *self.state(), State::Empty) {
            State::Idle(place) => Left::Alone(Some(place)),
            State::Given(exchange, place) => Left::With(exchange, place),
            State::Empty | State::Retired => Left::Alone(None),
        }
    }
}
