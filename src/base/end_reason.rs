//! The reasons for the end of a connection or a request: values, not log lines. A normal end is one of them, not an
//! error.

use std::{fmt, io};

/// A timeout that has passed: of a connection of the server, by its field in [`Limits`](crate::Limits), or of a request
/// that the client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Timeout {
    /// The TLS handshake, with the PROXY header before it:
    /// [`Limits::handshake_timeout`](crate::Limits::handshake_timeout).
    Handshake,
    /// A head. On the server: a request's, from its first byte ([`Limits::head_timeout`](crate::Limits::head_timeout)).
    /// In the client: a response's, from the last byte of the request.
    Head,
    /// No progress. On the server: between two requests ([`Limits::idle_timeout`](crate::Limits::idle_timeout)). In the
    /// client: within a body, while the server is the one that must act.
    Idle,
    /// A request's body, while the server is ready to receive it:
    /// [`Limits::body_timeout`](crate::Limits::body_timeout).
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

/// The reason for the end of a connection or a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndReason {
    /// A normal end: the response was sent whole, the last request got its response, the upgraded protocol was
    /// terminated.
    Complete,
    /// The peer closed its side, or reset the connection, before that.
    PeerClosed,
    /// The peer was too slow: the timeout that expired.
    TimedOut(Timeout),
    /// The peer broke a rule or exceeded a limit, and got a response that says so if that was possible.
    Rejected {
        /// The status of the response; 0 if none could be sent (before TLS is established).
        status: u16,
        /// The rule, in a few words.
        rule: &'static str,
    },
    /// The server stopped first.
    Stopped,
    /// The application aborted it, by [`Action::Abort`](crate::Action::Abort),
    /// [`Produced::Abort`](crate::Produced::Abort) or [`Io::abort`](crate::Io::abort), or by something the engine
    /// treats as such.
    Aborted,
    /// The application panicked.
    Panicked,
    /// The operating system reported an error on the socket.
    Io(io::ErrorKind),
}

impl EndReason {
    /// Returns a stable number for the reason, for other languages, metrics and tables. The numbers never change.
    ///
    /// | code | reason |
    /// |---|---|
    /// | 0 | [`Complete`](Self::Complete) |
    /// | 1 | [`PeerClosed`](Self::PeerClosed) |
    /// | 2 | [`Rejected`](Self::Rejected) without a status |
    /// | 3 | [`Stopped`](Self::Stopped) |
    /// | 4 | [`Aborted`](Self::Aborted) |
    /// | 5 | [`Panicked`](Self::Panicked) |
    /// | 6 | [`Io`](Self::Io) |
    /// | 16 to 23 | [`TimedOut`](Self::TimedOut): handshake, head, idle, body, send, linger, connect, total |
    /// | 100 to 999 | [`Rejected`](Self::Rejected) with this status |
    ///
    /// ```
    /// use uncork::EndReason;
    /// assert_eq!(EndReason::Complete.code(), 0);
    /// assert_eq!(EndReason::Rejected { status: 413, rule: "" }.code(), 413);
    /// ```
    pub fn code(&self) -> u16 {
        match *self {
            Self::Complete => 0,
            Self::PeerClosed => 1,
            Self::Rejected { status: 0..100, .. } => 2,
            Self::Rejected { status, .. } => status,
            Self::Stopped => 3,
            Self::Aborted => 4,
            Self::Panicked => 5,
            Self::Io(_) => 6,
            Self::TimedOut(timeout) => match timeout {
                Timeout::Handshake => 16,
                Timeout::Head => 17,
                Timeout::Idle => 18,
                Timeout::Body => 19,
                Timeout::Send => 20,
                Timeout::Linger => 21,
                Timeout::Connect => 22,
                Timeout::Total => 23,
            },
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complete => f.write_str("complete"),
            Self::PeerClosed => f.write_str("the peer closed the connection"),
            Self::TimedOut(timeout) => write!(f, "timed out ({timeout:?})"),
            Self::Rejected { status: 0, rule } => write!(f, "rejected: {rule}"),
            Self::Rejected { status, rule } => write!(f, "rejected with {status}: {rule}"),
            Self::Stopped => f.write_str("the server stopped"),
            Self::Aborted => f.write_str("aborted by the application"),
            Self::Panicked => f.write_str("the application panicked"),
            Self::Io(kind) => write!(f, "{kind}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_of_the_table() {
        let rejected = |status| EndReason::Rejected { status, rule: "a rule" };
        let timeouts =
            [Timeout::Handshake, Timeout::Head, Timeout::Idle, Timeout::Body, Timeout::Send, Timeout::Linger];
        assert_eq!(timeouts.map(|timeout| EndReason::TimedOut(timeout).code()), [16, 17, 18, 19, 20, 21]);
        for (reason, code) in [
            (EndReason::Complete, 0),
            (EndReason::PeerClosed, 1),
            (rejected(0), 2),
            (EndReason::Stopped, 3),
            (EndReason::Aborted, 4),
            (EndReason::Panicked, 5),
            (EndReason::Io(io::ErrorKind::TimedOut), 6),
            (rejected(400), 400),
            (rejected(505), 505),
        ] {
            assert_eq!(reason.code(), code, "{reason}");
        }
    }

    #[test]
    fn a_rejection_names_its_status_if_there_is_one() {
        let text = |status| EndReason::Rejected { status, rule: "a rule" }.to_string();
        assert_eq!((text(0).as_str(), text(413).as_str()), ("rejected: a rule", "rejected with 413: a rule"));
    }
}
