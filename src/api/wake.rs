//! Wakes a request or an upgraded connection, from any thread.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::loop_message::LoopMessage;
use crate::base::{RequestId, mailbox::Mailbox};

/// A handle that has one request's [`Upload`](crate::Upload), [`Produce`](crate::Produce) or
/// [`Upgrade`](crate::Upgrade) called again, on its own loop. It is cheap to clone, usable from any thread, and has no
/// effect when the request has ended.
///
/// A wake runs no application code: it posts a message, at most one at a time, however often it is called. An early
/// wake, during a call of the application or before it waits for a wake, is remembered.
///
/// It converts into a [`std::task::Waker`].
#[derive(Clone)]
pub struct Waker(pub(crate) Arc<WakeCore>);

pub(crate) struct WakeCore {
    pub(crate) id: RequestId,
    pub(crate) mailbox: Arc<Mailbox<LoopMessage>>,
    /// `true` if a message is in the mailbox.
    outstanding: AtomicBool,
}

impl Waker {
    pub(crate) fn new(id: RequestId, mailbox: Arc<Mailbox<LoopMessage>>) -> Self {
        Self(Arc::new(WakeCore { id, mailbox, outstanding: AtomicBool::new(false) }))
    }

    /// Has the upload, the producer or the upgrade called again, as soon as its loop reads its messages. An upgrade
    /// must have [`EventMask::EXTERNAL`](crate::EventMask::EXTERNAL) in its mask. Does not block.
    pub fn wake(&self) {
        if !self.0.outstanding.swap(true, Ordering::AcqRel) {
            // A closed mailbox belongs to a loop that has ended: there is nothing to wake.
            let _ = self.0.mailbox.post(LoopMessage::Wake(self.0.clone()));
        }
    }

    /// Returns the id of the request it wakes.
    pub fn id(&self) -> RequestId {
        self.0.id
    }
}

impl WakeCore {
    /// Notes that the message has arrived: the next wake posts another.
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
