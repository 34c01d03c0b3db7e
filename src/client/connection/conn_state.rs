//! What all phases of a connection use: its HTTP, and its slot in the pool.

use std::sync::{Arc, Weak};

use super::{
    super::{
        exchange::Key,
        idle_slot::{Content, IdleSlot},
        pool::{ConnPermit, Next, Permitted, Pool, Slot},
    },
    phase::{Phase, Step},
};
use crate::{
    api::{Io, LoopHandle, ReadState, Waker},
    base::Moment,
    conn::client::ClientConn,
};

pub(super) struct ConnState {
    pub(super) loop_handle: LoopHandle,
    /// An idle connection does not keep the pool alive; a permit does.
    pool: Weak<Pool>,
    pub(super) key: Key,
    slot: Arc<Slot>,
    pub(super) conn: ClientConn,
    /// The beginning of an incomplete head.
    pub(super) partial: Vec<u8>,
    /// It has been idle, or has served a request.
    pub(super) used: bool,
    pub(super) stopping: bool,
}

impl ConnState {
    pub(super) fn new(loop_handle: LoopHandle, waker: Waker, permit: &ConnPermit) -> Self {
        Self {
            slot: IdleSlot::new(loop_handle.clone(), waker),
            loop_handle,
            pool: Arc::downgrade(permit.pool()),
            key: permit.key().clone(),
            conn: ClientConn::new(),
            partial: Vec::new(),
            used: false,
            stopping: false,
        }
    }

    /// Returns what the pool has put into the slot of an idle connection.
    pub(super) fn take_slot(&self) -> Content<Permitted> {
        self.slot.take()
    }

    /// Frees the connection for another request.
    pub(super) fn release(&mut self, permit: ConnPermit, now: Moment) -> Step {
        self.used = true;
        if self.stopping {
            return Step::Close;
        }
        let pool = permit.pool().clone();
        match pool.release(permit, &self.slot) {
            Next::Wait => Step::Become(Phase::Idle(now.mono.checked_add(pool.settings.pool_idle_timeout))),
            Next::Serve(permitted) => Step::Become(Phase::Start(permitted)),
            Next::Close => Step::Close,
        }
    }

    /// Leaves the pool, if it is idle. Returns a request that was given just before, which must be served.
    pub(super) fn leave(&self) -> Option<Permitted> {
        match self.pool.upgrade() {
            Some(pool) => pool.leave(&self.key, &self.slot),
            None => match self.slot.take() {
                Content::Given(permitted) => Some(permitted),
                Content::Empty | Content::Retired => None,
            },
        }
    }
}

/// Returns `true` if the server has neither sent bytes nor ended the stream.
pub(super) fn is_quiet(io: &Io<'_>) -> bool {
    io.rx.bytes().is_empty() && io.rx.state() == ReadState::Open && !io.events().is_error()
}
