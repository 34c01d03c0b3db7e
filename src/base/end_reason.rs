//! Why something is over: a value, not a log line. A normal end is one of them, never an error.

use std::{fmt, io};

/// The clocks that run on a connection; each has its limit in [`Limits`](crate::Limits).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Timeout {
    /// The TLS handshake.
    Handshake,
    /// A request's head, from its first byte.
    Head,
    /// Between two requests.
    Idle,
    /// A request's body, while we are ready to receive it.
    Body,
    /// Output the peer does not take.
    Send,
    /// Reading on after our last byte, so that the peer can read it.
    Linger,
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
