//! Waking a request or an upgraded connection, from any thread.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::loop_message::LoopMessage;
use crate::base::{RequestId, mailbox::Mailbox};

/// Has one request's [`Upload`](crate::Upload), [`Produce`](crate::Produce) or [`Upgrade`](crate::Upgrade) called
/// again, on its own loop. Cheap to clone, usable from any thread, and still harmless when the request is over.
///
/// A wake runs no application code; it leaves a message, and leaves at most one at a time however often it is called.
/// One that comes early, while the application is being called or before it has asked to be woken, is remembered.
///
/// It converts into a [`std::task::Waker`].
#[derive(Clone)]
pub struct Waker(pub(crate) Arc<WakeCore>);

pub(crate) struct WakeCore {
    pub(crate) id: RequestId,
    pub(crate) mailbox: Arc<Mailbox<LoopMessage>>,
    /// Whether a message is under way.
    outstanding: AtomicBool,
}

impl Waker {
    pub(crate) fn new(id: RequestId, mailbox: Arc<Mailbox<LoopMessage>>) -> Self {
        Self(Arc::new(WakeCore { id, mailbox, outstanding: AtomicBool::new(false) }))
    }

    /// Has it called again.
    pub fn wake(&self) {
        if !self.0.outstanding.swap(true, Ordering::AcqRel) {
            // A closed mailbox belongs to a loop that has ended; nobody is left to be woken.
            let _ = self.0.mailbox.post(LoopMessage::Wake(self.0.clone()));
        }
    }

    /// The request it wakes.
    pub fn id(&self) -> RequestId {
        self.0.id
    }
}

impl WakeCore {
    /// The message has arrived: from here on the next wake sends another.
    pub(crate) fn arrived(&self) {
        self.outstanding.store(false, Ordering::Release);
    }
}

impl std::task::Wake for WakeCore {
    fn wake(self: Arc<Self>) {
        Waker(self).wake();
    }
}

impl From<Waker> for std::task::Waker {
    fn from(waker: Waker) -> Self {
        waker.0.into()
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Waker({})", self.0.id)
    }
}
