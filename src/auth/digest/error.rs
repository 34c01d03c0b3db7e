//! Why digest authentication did not succeed.

use std::fmt;

/// The reason why the digest credentials of a request are not accepted.
///
/// The client gets the same 401 for each, with `stale=true` if [`is_stale`](Self::is_stale). The difference is for logs
/// and for limits of attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DigestError {
    /// The request has no Authorization field, or one of another scheme.
    NoCredentials,
    /// The credentials do not have the syntax, a parameter occurs twice, or a required one is missing. Also if the
    /// request has several Authorization fields.
    Malformed,
    /// The field is longer than [`DigestCredentials::MAX_LEN`](super::DigestCredentials::MAX_LEN).
    TooLarge,
    /// The user is another one, or unknown.
    WrongUser,
    /// `realm` is another one.
    WrongRealm,
    /// `uri` is not the target of the request (RFC 7616 §3.4.6).
    WrongUri,
    /// `qop` was not offered.
    WrongQop,
    /// `algorithm` was not offered.
    WrongAlgorithm,
    /// The nonce has expired, or was used more often than is allowed, or this use of it has been seen: the request may
    /// be a replay.
    NonceStale,
    /// The nonce was made for other conditions; see [`Binding`](super::Binding).
    NonceOtherConditions,
    /// The nonce was not made here: it was made up, or by a process that has ended.
    NonceWrong,
    /// `response` is wrong, so most likely the password is.
    ResponseWrong,
}

impl DigestError {
    /// Returns `true` if the nonce was not accepted, which says nothing about name and password. The challenge then has
    /// `stale=true`, so that the client tries again without asking its user (RFC 7616 §3.3).
    pub fn is_stale(self) -> bool {
        matches!(self, Self::NonceStale | Self::NonceOtherConditions | Self::NonceWrong)
    }
}

impl fmt::Display for DigestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCredentials => "the request has no digest credentials",
            Self::Malformed => "invalid credentials: not as RFC 7616 has them",
            Self::TooLarge => "invalid credentials: too long",
            Self::WrongUser => "unknown or wrong user",
            Self::WrongRealm => "wrong realm",
            Self::WrongUri => "the uri is not the target of the request",
            Self::WrongQop => "this qop was not offered",
            Self::WrongAlgorithm => "this algorithm was not offered",
            Self::NonceStale => "the nonce has expired, or this use of it has been seen",
            Self::NonceOtherConditions => "the nonce is for other conditions",
            Self::NonceWrong => "the nonce was not made by this server",
            Self::ResponseWrong => "wrong response: most likely a wrong password",
        })
    }
}

impl std::error::Error for DigestError {}
