//! Why a call has no answer, or not all of it.

use std::{fmt, io};

use crate::{base::Timeout, h1::Misbehaved};

/// Why a call failed. `Display` says what happened, and where.
///
/// Everything up to [`Connect`](Self::Connect) and [`Tls`](Self::Tls), and [`QueueFull`](Self::QueueFull), means that
/// nothing of the request was sent. The others leave open whether the server has worked on it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The URL can't be called: what is wrong with it.
    Url(&'static str),
    /// The call can't be sent as it is: a method, a header field or a setting that HTTP does not allow.
    InvalidRequest(String),
    /// The host's name has no address.
    Resolve {
        /// The name.
        host: String,
        /// What the system says.
        reason: String,
    },
    /// No connection stands.
    Connect {
        /// The last address that was tried.
        to: String,
        /// What sort of error it was.
        kind: io::ErrorKind,
        /// What the system says.
        reason: String,
    },
    /// The TLS handshake failed: a certificate that is not trusted, no version in common, no TLS at all.
    Tls {
        /// The address.
        to: String,
        /// What was wrong.
        reason: String,
    },
    /// A deadline has passed: which one.
    TimedOut(Timeout),
    /// The answer breaks this rule of RFC 9110 or RFC 9112; or what came was no HTTP.
    Protocol(Misbehaved),
    /// The connection ended before the answer was whole: in its head, or in its body.
    Incomplete {
        /// Bytes of the body that came.
        got: u64,
        /// Bytes of the body that were announced; `None`: it was chunked, its end was that of the connection, or not
        /// even the head was whole.
        of: Option<u64>,
    },
    /// The answer is larger than allowed: which part of it.
    TooLarge(TooLargePart),
    /// A kept connection was closed by the server just when it was used again, and the request may not be repeated:
    /// its method is not idempotent ([`Request::repeatable`](super::Request::repeatable)) or its body is a stream.
    Stale,
    /// As many calls as are allowed wait for a connection to this origin already, or for a name to be resolved.
    QueueFull,
    /// The request's body could not be had: its pipe was cut off, or was shorter than announced.
    UploadFailed,
    /// More redirects than allowed, or one that leads nowhere.
    Redirect(&'static str),
    /// The call was [cancelled](super::CancelHandle::cancel); or the receiver of the response's body is gone, of which
    /// only [`Response::on_end`](super::Response::on_end) tells.
    Cancelled,
    /// The loop has ended.
    LoopEnded,
}

/// A part of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TooLargePart {
    /// Status line, fields, or trailers.
    Head,
    /// The body.
    Body,
}

impl Error {
    /// What a rule that was broken means to the caller.
    pub(super) fn from_rule(rule: Misbehaved) -> Self {
        match rule {
            Misbehaved::HeadTooLarge | Misbehaved::TooManyFields | Misbehaved::TrailersTooLarge => {
                Self::TooLarge(TooLargePart::Head)
            }
            Misbehaved::BodyTooLarge => Self::TooLarge(TooLargePart::Body),
            rule => Self::Protocol(rule),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(reason) => write!(f, "the URL is not one to call: {reason}"),
            Self::InvalidRequest(reason) => write!(f, "the call can't be sent: {reason}"),
            Self::Resolve { host, reason } => write!(f, "{host} has no address: {reason}"),
            Self::Connect { to, reason, .. } => write!(f, "no connection to {to}: {reason}"),
            Self::Tls { to, reason } => write!(f, "no TLS with {to}: {reason}"),
            Self::TimedOut(Timeout::Connect) => f.write_str("timed out: no connection in time"),
            Self::TimedOut(Timeout::Head) => f.write_str("timed out: no answer in time"),
            Self::TimedOut(Timeout::Idle) => f.write_str("timed out: the body stands still"),
            Self::TimedOut(_) => f.write_str("timed out: the call took too long"),
            Self::Protocol(rule) => write!(f, "the answer is no proper HTTP: {rule}"),
            Self::Incomplete { got, of: Some(of) } => {
                write!(f, "the server closed the connection after {got} of {of} bytes of the body")
            }
            Self::Incomplete { got: 0, of: None } => {
                f.write_str("the server closed the connection before the answer was whole")
            }
            Self::Incomplete { got, of: None } => {
                write!(f, "the server closed the connection within the body, after {got} bytes")
            }
            Self::TooLarge(TooLargePart::Head) => f.write_str("the answer's head is too large"),
            Self::TooLarge(TooLargePart::Body) => f.write_str("the answer's body is too large"),
            Self::Stale => {
                f.write_str("the server closed a kept connection, and the request is not one that may be repeated")
            }
            Self::QueueFull => f.write_str("too many calls are waiting already"),
            Self::UploadFailed => f.write_str("the request's body was cut off"),
            Self::Redirect(reason) => write!(f, "redirected: {reason}"),
            Self::Cancelled => f.write_str("the call was cancelled, or the receiver of the response's body is gone"),
            Self::LoopEnded => f.write_str("the loop has ended"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Url(_) | Error::InvalidRequest(_) => io::ErrorKind::InvalidInput,
            Error::Connect { kind, .. } => *kind,
            Error::TimedOut(_) => io::ErrorKind::TimedOut,
            Error::Protocol(_) | Error::TooLarge(_) => io::ErrorKind::InvalidData,
            Error::Incomplete { .. } => io::ErrorKind::UnexpectedEof,
            Error::Stale => io::ErrorKind::ConnectionReset,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
