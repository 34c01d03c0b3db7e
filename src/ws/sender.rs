//! Sends messages to a peer, from any thread.

use std::{fmt, sync::Arc};

use super::{
    Frame, Message,
    frame::Op,
    queue::{Core, Last, Queue},
};

/// Sends messages to one peer.
///
/// Cheap to clone, usable from any thread, and harmless after the end of the connection. Two senders are equal if they
/// send to the same peer.
///
/// Messages wait in a queue until the peer reads them; [`Config::queue`](super::Config::queue) is its limit. An `Ok`
/// means queued, not delivered. Messages arrive complete, in the order in which they were queued.
#[derive(Clone)]
pub struct Sender(pub(super) Arc<Core>);

/// The error of a message that was not queued. Nothing of it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SendError {
    /// The queue is full; [`Sender::on_room`] reports when there is room again.
    Full,
    /// The connection is closing or closed.
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
    /// Sends an encoded message, without a copy and uncompressed.
    ///
    /// # Errors
    /// [`SendError`] if the queue is full or the connection is closing.
    pub fn send(&self, frame: &Frame) -> Result<(), SendError> {
        self.push(|queue| queue.push_frame(frame))
    }

    /// Sends a text message.
    ///
    /// # Errors
    /// [`SendError`] if the queue is full or the connection is closing.
    pub fn text(&self, text: &str) -> Result<(), SendError> {
        self.push(|queue| queue.push(Op::Text, text.as_bytes()))
    }

    /// Sends a binary message.
    ///
    /// # Errors
    /// [`SendError`] if the queue is full or the connection is closing.
    pub fn binary(&self, bytes: &[u8]) -> Result<(), SendError> {
        self.push(|queue| queue.push(Op::Binary, bytes))
    }

    /// Sends a message of either kind.
    ///
    /// # Errors
    /// [`SendError`] if the queue is full or the connection is closing.
    pub fn message(&self, message: Message<'_>) -> Result<(), SendError> {
        match message {
            Message::Text(text) => self.text(text),
            Message::Binary(bytes) => self.binary(bytes),
        }
    }

    /// Sends a ping after the queued messages, with the first 125 bytes of `payload` (RFC 6455 §5.5).
    ///
    /// # Errors
    /// [`SendError`] if the queue is full or the connection is closing.
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

    /// Starts the close handshake (RFC 6455 §7.1.2) after the queued messages. Nothing can be queued after this call.
    /// The peer's messages are still delivered until its own Close arrives. Does nothing if the connection is closing
    /// already.
    ///
    /// A code that must not be sent (§7.4: below 1000, 1004 to 1006, 1015 to 2999, 5000 and above) results in a Close
    /// frame without code and reason. At most the first 123 bytes of the reason are sent.
    pub fn close(&self, code: u16, reason: &str) {
        self.finish_with(Last::Close { code, reason: reason.to_owned() });
    }

    /// Ends the stream after the queued messages, without a Close frame. The peer sees code 1006.
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

    /// Aborts the connection. Queued messages are lost.
    pub fn abort(&self) {
        let mut queue = self.0.queue();
        if !queue.ended {
            queue.abort = true;
            queue.clear();
            drop(queue);
            self.0.wake();
        }
    }

    /// Returns `true` if the connection is closing or closed, so that nothing can be sent.
    pub fn is_closed(&self) -> bool {
        !self.0.queue().is_open()
    }

    /// Returns the number of bytes in the queue. The engine and the system may hold more.
    pub fn queued(&self) -> usize {
        self.0.queue().bytes()
    }

    /// Calls `f` once, when the queue is at most half full or the connection is closing. The queue then has room for at
    /// least one message.
    ///
    /// If that is the case already, `f` is called before this method returns; otherwise on the connection's loop.
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

impl PartialEq for Sender {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Sender {}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queue = self.0.queue();
        write!(f, "Sender({} bytes queued{})", queue.bytes(), if queue.is_open() { "" } else { ", closed" })
    }
}
