//! Who hears what the peer says, and how it ended.

use std::{fmt, sync::Arc};

use super::{Sender, queue::Core};

/// The application's end of one WebSocket.
///
/// Called on the connection's own loop, never re-entrantly; it must not block, except thread per connection. A panic
/// ends this connection; [`closed`](Self::closed) is called then too.
pub trait Handler: Send {
    /// The connection speaks: the handshake is done, and nothing was received yet. `sender` is the one that
    /// [`Accept::switch`](super::Accept::switch) gave.
    fn open(&mut self, sender: &Sender) {
        let _ = sender;
    }

    /// A message, whole; text is UTF-8. The next one is delivered when `done` is called or dropped, from any thread:
    /// until then the peer is not read from, and nothing is buffered but what the loop had received already.
    fn message(&mut self, message: Message<'_>, done: Done);

    /// Whether messages are to be delivered as they arrive, by [`part`](Self::part). Asked once, before `open`.
    fn streams(&self) -> bool {
        false
    }

    /// A piece of a message, if [`streams`](Self::streams) says so: [`message`](Self::message) is not called then.
    /// Pieces are as they arrive, text cut between characters. [`Config::message`](super::Config::message) holds for
    /// the whole of them.
    fn part(&mut self, part: MessagePart<'_>, done: Done) {
        let _ = (part, done);
    }

    /// The peer has sent a ping; it is answered without doing anything here.
    fn ping(&mut self, payload: &[u8]) {
        let _ = payload;
    }

    /// The peer has sent a pong.
    fn pong(&mut self, payload: &[u8]) {
        let _ = payload;
    }

    /// It is over. Called exactly once, be it that the connection ended before [`open`](Self::open). Bytes may still
    /// be on their way to the peer.
    fn closed(&mut self, closed: &Closed) {
        let _ = closed;
    }
}

/// A closure hears messages.
impl<F: FnMut(Message<'_>, Done) + Send> Handler for F {
    fn message(&mut self, message: Message<'_>, done: Done) {
        self(message, done);
    }
}

/// Text or bytes (RFC 6455 §5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// UTF-8.
    Text,
    /// Anything.
    Binary,
}

/// A message, where it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
}

impl<'a> Message<'a> {
    /// What it says.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// What it is.
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
    /// The message begins with it.
    pub first: bool,
    /// The message ends with it.
    pub last: bool,
}

/// The right to hear the next message. To be used from any thread; dropping it is the same.
#[must_use = "dropped at once, it asks for the next message"]
pub struct Done(pub(super) Arc<Core>);

impl Done {
    /// Done with this one: the next, please.
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

/// How a WebSocket ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Closed {
    /// The code of the peer's Close, 1005 if that had none; the one that a refused peer was told; otherwise 1006
    /// (RFC 6455 §7.1.5, §7.4).
    pub code: u16,
    /// The reason that came with it; often empty. Of a refused peer, the rule.
    pub reason: String,
    /// What happened.
    pub cause: CloseCause,
    /// Messages that were queued and did not get as far as the engine's own buffer; none after [`CloseCause::Aborted`]. (How many
    /// of the others arrived nobody can tell.)
    pub unsent: usize,
}

impl Closed {
    /// Whether both sides have said that it is over.
    pub fn is_clean(&self) -> bool {
        matches!(self.cause, CloseCause::PeerClosed | CloseCause::LocalClosed)
    }
}

/// What ended a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseCause {
    /// The peer began the close handshake, and we answered.
    PeerClosed,
    /// We began the close handshake ([`Sender::close`], or the server stops), and the peer answered.
    LocalClosed,
    /// The peer broke a rule or ran into a limit, which is named; it was told so, with this code.
    Rejected {
        /// 1002, 1007, 1008, 1009 or 1013.
        code: u16,
        /// The rule, in a few words.
        rule: &'static str,
    },
    /// The stream ended without a Close.
    NoCloseFrame,
    /// The connection was reset, or its transport failed, before both sides had said Close.
    Reset,
    /// A ping was not answered.
    PongTimeout,
    /// [`Config::idle_timeout`](super::Config::idle_timeout) has passed.
    IdleTimeout,
    /// The close handshake took too long: the peer's Close did not come, or ours did not go out.
    CloseTimeout,
    /// [`Sender::close_without_handshake`].
    ClosedWithoutHandshake,
    /// [`Sender::abort`].
    Aborted,
    /// The engine has dropped the connection: it ended before the handshake was answered, the server's grace time
    /// is over, the peer does not take what is sent to it, or the speaker panicked.
    Dropped,
    /// There are no random numbers to be had, without which a client can't mask.
    NoRandom,
}
