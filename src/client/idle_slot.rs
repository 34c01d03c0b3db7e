//! The slot in which an idle connection is given its next request.
//!
//! ```text
//!   pool ──give────▶ Given(request) ──take─▶ the connection, which was woken, serves it
//!     └────retire──▶ Retired        ──take─▶ the connection closes
//! ```

use std::sync::{Arc, Mutex};

use crate::{
    api::{LoopHandle, Waker},
    base::lock,
};

/// The slot of one connection, which it shares with the pool. `T` is a request with its permit.
pub(super) struct IdleSlot<T> {
    loop_handle: LoopHandle,
    waker: Waker,
    content: Mutex<Content<T>>,
}

pub(super) enum Content<T> {
    Empty,
    Given(T),
    /// The connection must close: another one has its permit.
    Retired,
}

impl<T> IdleSlot<T> {
    /// Creates the slot of a connection of this loop, which `waker` wakes.
    pub(super) fn new(loop_handle: LoopHandle, waker: Waker) -> Arc<Self> {
        Arc::new(Self { loop_handle, waker, content: Mutex::new(Content::Empty) })
    }

    pub(super) fn loop_handle(&self) -> &LoopHandle {
        &self.loop_handle
    }

    /// Gives the connection a request. The caller has removed it from the list of idle connections.
    pub(super) fn give(&self, request: T) {
        self.put(Content::Given(request));
    }

    /// Closes the connection. The caller has removed it from the list of idle connections.
    pub(super) fn retire(&self) {
        self.put(Content::Retired);
    }

    fn put(&self, content: Content<T>) {
        let old = std::mem::replace(&mut *lock(&self.content), content);
        debug_assert!(matches!(old, Content::Empty), "a connection is removed from the list once");
        self.waker.wake();
    }

    /// Takes the content.
    pub(super) fn take(&self) -> Content<T> {
        std::mem::replace(&mut *lock(&self.content), Content::Empty)
    }
}
