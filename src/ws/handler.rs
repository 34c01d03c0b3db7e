//! The application's handler of one WebSocket, and the cause of its end.

use std::{fmt, sync::Arc};

use super::{Sender, queue::Core};

/// The application's handler of one WebSocket.
///
/// It is called on the connection's own loop, never re-entrantly. It must not block, except in thread-per-connection
/// mode. A panic ends this connection; [`closed`](Self::closed) is called then too.
pub trait Handler: Send {
    /// Called when the handshake is complete, before the first message. `sender` is the one that
    /// [`Accept::switch`](super::Accept::switch) returned.
    fn open(&mut self, sender: &Sender) {
        let _ = sender;
    }

    /// Called with a complete message; text is valid UTF-8.
    ///
    /// The next message is delivered when `done` is called or dropped, from any thread. Until then nothing more is read
    /// from the peer, and nothing is buffered beyond what the loop has received already.
    fn message(&mut self, message: Message<'_>, done: Done);

    /// Returns `true` if messages must be delivered as they arrive, by [`part`](Self::part). Called once, before
    /// `open`. Default: `false`.
    fn streams(&self) -> bool {
        false
    }

    /// Called with a piece of a message instead of [`message`](Self::message), if [`streams`](Self::streams) returns
    /// `true`. Text is split between characters. [`Config::message`](super::Config::message) limits the sum of the
    /// pieces.
    fn part(&mut self, part: MessagePart<'_>, done: Done) {
        let _ = (part, done);
    }

    /// Called with the payload of a ping. The session sends the pong itself.
    fn ping(&mut self, payload: &[u8]) {
        let _ = payload;
    }

    /// Called with the payload of a pong.
    fn pong(&mut self, payload: &[u8]) {
        let _ = payload;
    }

    /// Called exactly once, at the end, even if the connection ended before [`open`](Self::open). Bytes may still be on
    /// their way to the peer.
    fn closed(&mut self, closed: &Closed) {
        let _ = closed;
    }
}

/// A closure receives messages.
impl<F: FnMut(Message<'_>, Done) + Send> Handler for F {
    fn message(&mut self, message: Message<'_>, done: Done) {
        self(message, done);
    }
}

/// The kind of a message (RFC 6455 §5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// Text, valid UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

/// A message, borrowed from the buffer that received it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
}

impl<'a> Message<'a> {
    /// Returns the payload.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// Returns the kind.
    pub fn kind(self) -> MessageKind {
        match self {
            Self::Text(_) => MessageKind::Text,
            Self::Binary(_) => MessageKind::Binary,
        }
    }
}

/// A piece of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessagePart<'a> {
    /// The piece; it may be empty if it is the last.
    pub piece: Message<'a>,
    /// `true` for the first piece of a message.
    pub first: bool,
    /// `true` for the last piece of a message.
    pub last: bool,
}

/// Requests the next message when it is [used](Self::next) or dropped, from any thread.
#[must_use = "dropping it requests the next message"]
pub struct Done(pub(super) Arc<Core>);

impl Done {
    /// Requests the next message.
    pub fn next(self) {}
}

impl Drop for Done {
    fn drop(&mut self) {
        self.0.done();
    }
}

impl fmt::Debug for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Done(..)")
    }
}

/// The end of a WebSocket: code, reason and cause.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Closed {
    /// The code of the peer's Close frame, or 1005 if it has none; the code sent to a rejected peer; otherwise 1006
    /// (RFC 6455 §7.1.5, §7.4).
    pub code: u16,
    /// The reason in the peer's Close frame, often empty. For a rejected peer, the rule.
    pub reason: String,
    /// The cause.
    pub cause: CloseCause,
    /// The number of queued messages that did not reach the engine's output buffer; 0 after [`CloseCause::Aborted`].
    /// Messages in that buffer may or may not have arrived.
    pub unsent: usize,
}

impl Closed {
    /// Returns `true` if both sides have sent a Close frame.
    pub fn is_clean(&self) -> bool {
        matches!(self.cause, CloseCause::PeerClosed | CloseCause::LocalClosed)
    }
}

/// The cause of a WebSocket's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseCause {
    /// The peer started the close handshake, and this side completed it.
    PeerClosed,
    /// This side started the close handshake ([`Sender::close`], or the server stops), and the peer completed it.
    LocalClosed,
    /// The peer violated a rule or exceeded a limit. It was sent a Close frame with this code.
    Rejected {
        /// 1002, 1007, 1008, 1009 or 1013.
        code: u16,
        /// The rule, in a few words.
        rule: &'static str,
    },
    /// The stream ended without a Close frame.
    NoCloseFrame,
    /// The connection was reset, or its transport failed, before both sides had sent a Close frame.
    Reset,
    /// The peer sent nothing within [`Config::pong_timeout`](super::Config::pong_timeout) after a ping.
    PongTimeout,
    /// The connection exceeded [`Config::idle_timeout`](super::Config::idle_timeout).
    IdleTimeout,
    /// The close handshake exceeded [`Config::close_timeout`](super::Config::close_timeout).
    CloseTimeout,
    /// The application called [`Sender::close_without_handshake`].
    ClosedWithoutHandshake,
    /// The application called [`Sender::abort`].
    Aborted,
    /// The engine dropped the connection: it ended before the handshake was complete, the server's grace period has
    /// ended, the peer does not read its input, or the handler panicked.
    Dropped,
    /// The system cannot supply random bytes, which a client needs to mask its frames.
    RandomUnavailable,
}

impl fmt::Display for CloseCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PeerClosed => "closed by the peer",
            Self::LocalClosed => "closed by this side",
            Self::Rejected { code, rule } => return write!(f, "rejected with {code}: {rule}"),
            Self::NoCloseFrame => "the stream ended without a Close frame",
            Self::Reset => "the connection was reset",
            Self::PongTimeout => "pong timeout",
            Self::IdleTimeout => "idle timeout",
            Self::CloseTimeout => "close timeout",
            Self::ClosedWithoutHandshake => "closed without a handshake",
            Self::Aborted => "aborted",
            Self::Dropped => "dropped by the engine",
            Self::RandomUnavailable => "cannot read random bytes",
        })
    }
}
