//! The reasons why there is no tunnel, with advice for the operator.

use std::fmt;

use uncork::DialError;

use crate::relay::tunnel::printable::printable;

/// The reason why a connection to the proxy could not be opened, or has ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum TunnelError {
    /// The proxy's name cannot be resolved.
    Resolve {
        /// The name.
        host: String,
        /// The system's message.
        reason: String,
    },
    /// The TCP connection or the TLS handshake has failed; the proxy may not have proven its identity.
    Dial(DialError),
    /// The proxy has rejected the tunnel.
    Rejected {
        /// Its status code.
        status: u16,
        /// The reason that the response gives; may be empty.
        reason: String,
    },
    /// The peer is not a tunnel proxy; with the rule that it broke.
    NotAProxy(&'static str),
    /// The proxy did not respond in time.
    TimedOut,
    /// The proxy was silent for so long that it counts as dead.
    Silent,
    /// The connection has ended, or the peer broke a protocol rule; with the reason.
    Broken(String),
    /// The proxy has closed the connection in good order.
    Closed,
}

impl fmt::Display for TunnelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve { host, reason } => write!(f, "cannot resolve {host}: {reason}"),
            // Frequent among self-made certificates.
            Self::Dial(DialError::Tls(message)) if message.contains("CaUsedAsEndEntity") => f.write_str(
                "cannot verify the proxy: its certificate is that of an authority; use one for servers \
                 (basicConstraints CA:FALSE), or pin its key",
            ),
            // It may list all names of the certificate.
            Self::Dial(error) => f.write_str(&printable(error.to_string().as_bytes())),
            Self::Rejected { status, reason } => {
                let hint = match status {
                    401 => " (check the token)",
                    403 => " (check that the token is valid for these names)",
                    404 | 405 => " (this may not be the proxy's port for origin servers)",
                    409 => " (another credential has one of these names)",
                    _ => "",
                };
                write!(f, "the proxy rejected the tunnel with {status}{hint}")?;
                if reason.is_empty() { Ok(()) } else { write!(f, ": {reason}") }
            }
            Self::NotAProxy(rule) => write!(f, "the peer is not a tunnel proxy: {rule}"),
            Self::TimedOut => f.write_str("the proxy did not respond in time"),
            Self::Silent => f.write_str("the proxy is silent and counts as dead"),
            Self::Broken(reason) => write!(f, "connection lost: {reason}"),
            Self::Closed => f.write_str("the proxy has closed the connection"),
        }
    }
}

impl std::error::Error for TunnelError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        if let Self::Dial(error) = self { Some(error) } else { None }
    }
}
