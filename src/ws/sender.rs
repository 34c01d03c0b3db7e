//! Speaking to a peer, from any thread.

use std::{fmt, sync::Arc};

use super::{
    Frame, Message,
    frame::Op,
    queue::{Core, Last, Queue},
};

/// Speaks to one peer. Cheap to clone, usable from any thread, and harmless when the connection is over.
///
/// What is sent waits in a queue, bounded by [`Config::queue`](super::Config::queue), until the peer takes it; "sent"
/// means queued, not delivered. Messages arrive whole and in the order they were queued.
#[derive(Clone)]
pub struct Sender(pub(super) Arc<Core>);

/// Why a message was not queued. Nothing of it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SendError {
    /// As much waits as may; [`Sender::on_room`] tells when that has changed.
    Full,
    /// The connection is over or closing.
    Closed,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the queue is full",
            Self::Closed => "the connection is closed",
        })
    }
}

impl std::error::Error for SendError {}

impl Sender {
    /// Sends an encoded message, without copying it and without compressing it.
    ///
    /// # Errors
    /// [`SendError`]: the queue is full, or it is closing.
    pub fn send(&self, frame: &Frame) -> Result<(), SendError> {
        self.push(|queue| queue.push_frame(frame))
    }

    /// Sends a text message.
    ///
    /// # Errors
    /// [`SendError`]: the queue is full, or it is closing.
    pub fn text(&self, text: &str) -> Result<(), SendError> {
        self.push(|queue| queue.push(Op::Text, text.as_bytes()))
    }

    /// Sends a binary message.
    ///
    /// # Errors
    /// [`SendError`]: the queue is full, or it is closing.
    pub fn binary(&self, bytes: &[u8]) -> Result<(), SendError> {
        self.push(|queue| queue.push(Op::Binary, bytes))
    }

    /// Sends a message of either kind.
    ///
    /// # Errors
    /// [`SendError`]: the queue is full, or it is closing.
    pub fn message(&self, message: Message<'_>) -> Result<(), SendError> {
        match message {
            Message::Text(text) => self.text(text),
            Message::Binary(bytes) => self.binary(bytes),
        }
    }

    /// Sends a ping, behind what is queued; of the payload, the first 125 bytes (RFC 6455 §5.5).
    ///
    /// # Errors
    /// [`SendError`]: the queue is full, or it is closing.
    pub fn ping(&self, payload: &[u8]) -> Result<(), SendError> {
        self.push(|queue| queue.push(Op::Ping, &payload[..payload.len().min(125)]))
    }

    fn push(&self, push: impl FnOnce(&mut Queue) -> Result<(), SendError>) -> Result<(), SendError> {
        let mut queue = self.0.queue();
        push(&mut queue)?;
        let wake = queue.asleep && !self.0.is_calling();
        if wake {
            queue.asleep = false;
            drop(queue);
            self.0.wake();
        }
        Ok(())
    }

    /// Begins the close handshake (RFC 6455 §7.1.2) when what is queued is out. Nothing can be queued from now on;
    /// messages of the peer are still delivered until it has answered. Of no effect if it is closing already.
    ///
    /// A code that must not be sent (§7.4: below 1000, 1004 to 1006, 1015 and up to 2999, 5000 and above) sends none,
    /// and no reason. Of the reason, the first 123 bytes are sent.
    pub fn close(&self, code: u16, reason: &str) {
        self.finish_with(Last::Close { code, reason: reason.to_owned() });
    }

    /// When what is queued is out, the stream ends, without a Close: the peer's side of it says 1006.
    pub fn close_without_handshake(&self) {
        self.finish_with(Last::EndOfStream);
    }

    fn finish_with(&self, last: Last) {
        let mut queue = self.0.queue();
        if queue.is_open() {
            queue.last = Some(Box::new(last));
            queue.asleep = false;
            drop(queue);
            self.0.wake();
        }
    }

    /// Breaks the connection off. What is queued is lost.
    pub fn abort(&self) {
        let mut queue = self.0.queue();
        if !queue.ended {
            queue.abort = true;
            queue.clear();
            drop(queue);
            self.0.wake();
        }
    }

    /// Whether both speak to the same peer.
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether nothing can be sent any more: it is closing, or over.
    pub fn is_closed(&self) -> bool {
        !self.0.queue().is_open()
    }

    /// Bytes that wait here; the engine and the system may hold more.
    pub fn queued(&self) -> usize {
        self.0.queue().bytes()
    }

    /// Calls `f`, once, when at most half of what may wait does, or when nothing can be sent any more: whoever sends
    /// one message then will not find the queue full.
    ///
    /// If that is so already, `f` is called now, before this returns; otherwise on the connection's loop.
    pub fn on_room(&self, f: impl FnOnce() + Send + 'static) {
        let mut queue = self.0.queue();
        if queue.is_open() && !queue.has_room() {
            queue.on_room.push(Box::new(f));
        } else {
            drop(queue);
            f();
        }
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queue = self.0.queue();
        write!(f, "Sender({} bytes queued{})", queue.bytes(), if queue.is_open() { "" } else { ", closed" })
    }
}
