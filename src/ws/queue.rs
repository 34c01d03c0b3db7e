//! The send queue, and the other state that a session shares with its senders.
//!
//! ```text
//!   items   [ small: 40 bytes │ shared: Arc<[u8]> │ small: 7 bytes │ … ]     in order
//!   small   [ 40 bytes        7 bytes … ]                                    one allocation for all small ones
//! ```
//!
//! The queue holds frames as a server sends them. A session that compresses or masks does so when it takes them out.

use std::{
    cell::Cell,
    collections::VecDeque,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicU8, Ordering},
    },
};

use super::{
    Config, Frame, SendError,
    frame::{Encoded, FIN, Op},
};
use crate::{api::Waker, base::lock};

pub(super) type OnRoom = Box<dyn FnOnce() + Send>;

/// Up to this size messages share one allocation; a larger one has its own.
const SMALL: usize = 2048;

/// Up to so many bytes are kept by each thread for the next queue.
const KEPT: usize = 64 * 1024;

thread_local! {
    /// Most queues are filled and emptied within one turn of a loop.
    static SPARE: Cell<(Vec<u8>, VecDeque<Item>)> = const { Cell::new((Vec::new(), VecDeque::new())) };
}

/// The end of the output after the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Last {
    Close { code: u16, reason: String },
    EndOfStream,
}

#[derive(Debug)]
pub(super) enum Item {
    /// The next `len` bytes of the shared allocation.
    Small {
        len: usize,
        plain: bool,
    },
    Shared {
        frame: Arc<[u8]>,
        plain: bool,
    },
}

impl Item {
    /// Returns `true` if it must not be compressed.
    pub(super) fn is_plain(&self) -> bool {
        match self {
            Self::Small { plain, .. } | Self::Shared { plain, .. } => *plain,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Small { len, .. } => *len,
            Self::Shared { frame, .. } => frame.len(),
        }
    }
}

pub(super) struct Queue {
    items: VecDeque<Item>,
    small: Vec<u8>,
    /// The number of bytes of `small` that are sent.
    out: usize,
    /// Bytes in all items.
    bytes: usize,
    config: Config,
    /// The session has nothing to send, and must be woken.
    pub(super) asleep: bool,
    /// Boxed, as it is rare; so that an idle connection is small.
    pub(super) last: Option<Box<Last>>,
    pub(super) abort: bool,
    /// The session has ended.
    pub(super) ended: bool,
    pub(super) on_room: Vec<OnRoom>,
}

impl Queue {
    pub(super) fn is_open(&self) -> bool {
        !self.ended && !self.abort && self.last.is_none()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Checks that a message may be added, and provides memory for it.
    fn admit(&mut self) -> Result<(), SendError> {
        if !self.is_open() {
            return Err(SendError::Closed);
        }
        let most = &self.config.0;
        let many = most.queue_messages.is_some_and(|most| self.items.len() > most);
        if self.bytes >= most.queue.max(1) || many {
            return Err(SendError::Full);
        }
        if self.items.capacity() == 0 {
            (self.small, self.items) = SPARE.take();
        }
        Ok(())
    }

    /// Returns `true` if the queue is at most half full.
    pub(super) fn has_room(&self) -> bool {
        let most = &self.config.0;
        self.bytes <= most.queue / 2 && most.queue_messages.is_none_or(|most| self.items.len() <= most / 2)
    }

    pub(super) fn push_frame(&mut self, frame: &Frame) -> Result<(), SendError> {
        self.admit()?;
        self.bytes += frame.wire.len();
        self.items.push_back(Item::Shared { frame: frame.wire.clone(), plain: true });
        Ok(())
    }

    pub(super) fn push(&mut self, op: Op, payload: &[u8]) -> Result<(), SendError> {
        self.admit()?;
        let plain = op.is_control();
        let item = if payload.len() <= SMALL {
            let head = Encoded::new(FIN | op as u8, payload.len(), None);
            if self.out > self.small.len() / 2 {
                self.small.drain(..mem::take(&mut self.out));
            }
            self.small.extend_from_slice(head.as_bytes());
            self.small.extend_from_slice(payload);
            Item::Small { len: head.as_bytes().len() + payload.len(), plain }
        } else {
            Item::Shared { frame: Frame::encode(op, &[payload]).wire, plain }
        };
        self.bytes += item.len();
        self.items.push_back(item);
        Ok(())
    }

    /// Returns the first item and its bytes.
    pub(super) fn front(&self) -> Option<(&Item, &[u8])> {
        let item = self.items.front()?;
        let bytes = match item {
            Item::Small { len, .. } => &self.small[self.out..self.out + len],
            Item::Shared { frame, .. } => frame,
        };
        Some((item, bytes))
    }

    /// Removes the first item, which is sent.
    pub(super) fn pop(&mut self) {
        let Some(item) = self.items.pop_front() else { return };
        self.bytes -= item.len();
        if let Item::Small { len, .. } = item {
            self.out += len;
            if self.out == self.small.len() {
                self.small.clear();
                self.out = 0;
            }
        }
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.small.capacity() + self.items.capacity() * size_of::<Item>()
    }

    /// Returns the memory of an empty queue to this thread's store.
    pub(super) fn shrink(&mut self) {
        if self.items.is_empty() && self.items.capacity() > 0 {
            let store = (mem::take(&mut self.small), mem::take(&mut self.items));
            if store.0.capacity() <= KEPT && store.1.capacity() <= KEPT / size_of::<Item>() {
                SPARE.set(store);
            }
        }
    }

    /// Drops all items.
    pub(super) fn clear(&mut self) {
        self.items = VecDeque::new();
        self.small = Vec::new();
        (self.out, self.bytes) = (0, 0);
    }
}

/// The session may deliver the next message.
const FREE: u8 = 0;
/// The handler is being called.
const CALLED: u8 = 1;
/// The handler has returned, and has kept its [`Done`](super::Done).
const HELD: u8 = 2;

/// Shared by a session, its senders, and the handler's [`Done`](super::Done).
pub(super) struct Core {
    queue: Mutex<Queue>,
    turn: AtomicU8,
    waker: OnceLock<Waker>,
}

impl Core {
    pub(super) fn new(config: &Config) -> Arc<Self> {
        let queue = Queue {
            items: VecDeque::new(),
            small: Vec::new(),
            out: 0,
            bytes: 0,
            config: config.clone(),
            asleep: false,
            last: None,
            abort: false,
            ended: false,
            on_room: Vec::new(),
        };
        Arc::new(Self { queue: Mutex::new(queue), turn: AtomicU8::new(FREE), waker: OnceLock::new() })
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }

    /// Sets the waker. The session finds what was sent before.
    pub(super) fn opens(&self, waker: Waker) {
        let _first = self.waker.set(waker);
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
    }

    /// Records that the handler is about to be called.
    pub(super) fn calls(&self) {
        self.turn.store(CALLED, Ordering::Release);
    }

    /// Records that the handler has returned. Returns `true` if it is done.
    pub(super) fn returned(&self) -> bool {
        self.turn.compare_exchange(CALLED, HELD, Ordering::AcqRel, Ordering::Acquire).is_err()
    }

    /// Returns `true` if the handler is being called. After the call the session sends the queue without a wake-up.
    pub(super) fn is_calling(&self) -> bool {
        self.turn.load(Ordering::Acquire) == CALLED
    }

    pub(super) fn is_free(&self) -> bool {
        self.turn.load(Ordering::Acquire) == FREE
    }

    pub(super) fn done(&self) {
        if self.turn.swap(FREE, Ordering::AcqRel) == HELD {
            self.wake();
        }
    }
}
