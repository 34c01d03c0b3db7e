//! Cancellation of a request, from any thread.
//!
//! ```text
//!   CancelHandle::cancel ──▶ queued or connecting ──▶ it fails on its loop
//!                       └──▶ on a connection, without a response ──▶ the connection is woken and closes
//! ```

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard},
};

use crate::{api::Waker, base::lock};

/// Cancels one [`Request`](super::Request), from any thread: see
/// [`Request::cancel_handle`](super::Request::cancel_handle).
#[derive(Clone)]
pub struct CancelHandle(Arc<Mutex<State>>);

/// The stage that a request has reached.
pub(super) enum Stage {
    /// It is queued, or its connection is being opened: a function that fails it on its loop.
    Pending(Box<dyn FnOnce() + Send>),
    /// A connection serves it; its waker.
    Served(Waker),
}

#[derive(Default)]
struct State {
    cancelled: bool,
    stage: Option<Stage>,
}

impl CancelHandle {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    /// Cancels the request: it fails with [`Error::Cancelled`](super::Error::Cancelled) on its loop, and its connection
    /// is closed. Does nothing if the head of the response has been received: then drop the
    /// [`Response`](super::Response) instead.
    pub fn cancel(&self) {
        let stage = {
            let mut state = self.state();
            state.cancelled = true;
            state.stage.take()
        };
        match stage {
            Some(Stage::Pending(fail)) => fail(),
            Some(Stage::Served(waker)) => waker.wake(),
            None => {}
        }
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.state().cancelled
    }

    /// Records the request's stage. The previous one is dropped outside the lock: it may own the request.
    pub(super) fn note(&self, stage: Option<Stage>) {
        let old = std::mem::replace(&mut self.state().stage, stage);
        drop(old);
    }
}

impl fmt::Debug for CancelHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelHandle").field("cancelled", &self.is_cancelled()).finish()
    }
}
