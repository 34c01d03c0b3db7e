//! The errors of a request.

use std::{fmt, io};

use crate::{base::Timeout, h1::Misbehaved};

/// The error of a request that failed. Its `Display` has the cause, and the address if no connection could be opened.
///
/// [`InvalidUrl`](Self::InvalidUrl), [`InvalidRequest`](Self::InvalidRequest), [`Resolve`](Self::Resolve),
/// [`Connect`](Self::Connect), [`Tls`](Self::Tls) and [`QueueFull`](Self::QueueFull) mean that nothing of the request
/// was sent. After any other, the server may have processed it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The URL is invalid, for the reason given.
    InvalidUrl(&'static str),
    /// The request has a method, a header field or a setting that HTTP does not allow.
    InvalidRequest(String),
    /// The host name cannot be resolved to an address.
    Resolve {
        /// The host name.
        host: String,
        /// The system's message.
        reason: String,
    },
    /// No connection could be opened.
    Connect {
        /// The last address that was tried.
        to: String,
        /// The kind of error.
        kind: io::ErrorKind,
        /// The system's message.
        reason: String,
    },
    /// The TLS handshake failed: a certificate that is not trusted, no common version, or a server without TLS.
    Tls {
        /// The address.
        to: String,
        /// The cause.
        reason: String,
    },
    /// A timeout has passed: [`Connect`](Timeout::Connect), [`Head`](Timeout::Head), [`Idle`](Timeout::Idle) or
    /// [`Total`](Timeout::Total).
    TimedOut(Timeout),
    /// The response violates this rule of RFC 9110 or RFC 9112, or is not HTTP.
    Protocol(Misbehaved),
    /// The connection ended before the response was complete, in its head or in its body.
    Incomplete {
        /// Bytes of the body that were received.
        received: u64,
        /// Bytes of the body that were announced. `None` if the body was chunked, if it lasted until the end of the
        /// connection, or if the head was incomplete.
        expected: Option<u64>,
    },
    /// The response is larger than its limit, in the part given.
    TooLarge(TooLargePart),
    /// The server closed an idle connection just when it was used again, and the request must not be repeated. Its
    /// method is not idempotent ([`Request::repeatable`](super::Request::repeatable)), or its body is a stream.
    Stale,
    /// Too many requests are queued for a connection to this origin, or for name resolution.
    QueueFull,
    /// The request's body was truncated: its pipe was dropped, or was shorter than announced.
    UploadFailed,
    /// A redirect cannot be followed, for the reason given: there were too many, or its target is invalid.
    Redirect(&'static str),
    /// The request was [cancelled](super::CancelHandle::cancel), or the receiver of the response's body was dropped.
    /// Only [`Response::on_end`](super::Response::on_end) reports the latter.
    Cancelled,
    /// The loop has ended.
    LoopEnded,
}

/// The part of a response that exceeds its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TooLargePart {
    /// Status line, fields, or trailers.
    Head,
    /// The body.
    Body,
}

impl Error {
    /// Returns the error for a response that violates `rule`.
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
            Self::InvalidUrl(reason) => write!(f, "invalid URL: {reason}"),
            Self::InvalidRequest(reason) => write!(f, "invalid request: {reason}"),
            Self::Resolve { host, reason } => write!(f, "cannot resolve {host}: {reason}"),
            Self::Connect { to, reason, .. } => write!(f, "cannot connect to {to}: {reason}"),
            Self::Tls { to, reason } => write!(f, "cannot establish TLS with {to}: {reason}"),
            Self::TimedOut(Timeout::Connect) => f.write_str("connect timeout"),
            Self::TimedOut(Timeout::Head) => f.write_str("head timeout: no response"),
            Self::TimedOut(Timeout::Idle) => f.write_str("idle timeout: no progress in a body"),
            Self::TimedOut(_) => f.write_str("timeout of the whole request"),
            Self::Protocol(rule) => write!(f, "malformed response: {rule}"),
            Self::Incomplete { received, expected: Some(expected) } => {
                write!(f, "the server closed the connection after {received} of {expected} bytes of the body")
            }
            Self::Incomplete { received: 0, expected: None } => {
                f.write_str("the server closed the connection in the head of the response")
            }
            Self::Incomplete { received, expected: None } => {
                write!(f, "the server closed the connection in the body, after {received} bytes")
            }
            Self::TooLarge(TooLargePart::Head) => f.write_str("the response's head is too large"),
            Self::TooLarge(TooLargePart::Body) => f.write_str("the response's body is too large"),
            Self::Stale => f.write_str("the server closed an idle connection, and the request must not be repeated"),
            Self::QueueFull => f.write_str("too many requests are queued"),
            Self::UploadFailed => f.write_str("the request's body was truncated"),
            Self::Redirect(reason) => write!(f, "invalid redirect: {reason}"),
            Self::Cancelled => f.write_str("the request was cancelled, or the receiver of its response was dropped"),
            Self::LoopEnded => f.write_str("the loop has ended"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::InvalidUrl(_) | Error::InvalidRequest(_) => io::ErrorKind::InvalidInput,
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
