//! Why something is over: a value, not a log line. A normal end is one of them, never an error.

use std::{fmt, io};

/// A timeout that has passed: of a connection of the server, by its field in [`Limits`](crate::Limits), or of a request
/// that the client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Timeout {
    /// The TLS handshake, with the PROXY header before it: [`Limits::handshake_timeout`](crate::Limits::handshake_timeout).
    Handshake,
    /// A head. On the server: a request's, from its first byte ([`Limits::head_timeout`](crate::Limits::head_timeout)).
    /// In the client: a response's, from the last byte of the request.
    Head,
    /// No progress. On the server: between two requests ([`Limits::idle_timeout`](crate::Limits::idle_timeout)). In the
    /// client: within a body, while the server is the one that must act.
    Idle,
    /// A request's body, while the server is ready to receive it: [`Limits::body_timeout`](crate::Limits::body_timeout).
    Body,
    /// Output that the peer does not take: [`Limits::send_timeout`](crate::Limits::send_timeout).
    Send,
    /// Reading after the server's last byte, so that the peer can read it:
    /// [`Limits::linger_timeout`](crate::Limits::linger_timeout).
    Linger,
    /// In the client: the wait for a connection, including the queue, name resolution, TCP and TLS.
    Connect,
    /// In the client: the whole request, to the last byte of its response.
    Total,
}

/// Why a connection or a request is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndReason {
    /// In order: the answer was sent whole, the last request was answered, the upgraded protocol was terminated.
    Complete,
    /// The peer closed its side, or reset the connection, before that.
    PeerClosed,
    /// The peer was too slow; which clock ran out.
    TimedOut(Timeout),
    /// The peer broke a rule or ran into a limit, and was told so.
    Rejected {
        /// The status it was answered with; 0 if nothing could be said (before TLS stands).
        status: u16,
        /// The rule, in a few words.
        rule: &'static str,
    },
    /// The server stopped first.
    Stopped,
    /// The application broke it off, by [`Action::Abort`](crate::Action::Abort), [`Produced::Abort`](crate::Produced::Abort)
    /// or [`Io::abort`](crate::Io::abort), or by what the engine takes as such.
    Aborted,
    /// The application panicked.
    Panicked,
    /// The operating system reported an error on the socket.
    Io(io::ErrorKind),
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complete => f.write_str("complete"),
            Self::PeerClosed => f.write_str("the peer left"),
            Self::TimedOut(timer) => write!(f, "timed out ({timer:?})"),
            Self::Rejected { status, rule } => write!(f, "refused with {status}: {rule}"),
            Self::Stopped => f.write_str("the server stopped"),
            Self::Aborted => f.write_str("aborted by the application"),
            Self::Panicked => f.write_str("the application panicked"),
            Self::Io(kind) => write!(f, "{kind}"),
        }
    }
}
