//! Why there is no tunnel, in words for whoever has to do something about it.

use std::fmt;

use uncork::DialError;

/// Why a connection to the proxy was not made, or is no more.
#[derive(Debug)]
#[non_exhaustive]
pub enum TunnelError {
    /// The proxy's name has no address.
    Resolve {
        /// The name.
        host: String,
        /// The system's word.
        reason: String,
    },
    /// No connection, or no TLS: nobody listens, or the proxy has not proven to be who it should be.
    Dial(DialError),
    /// The proxy has answered, and said no.
    Rejected {
        /// Its status code.
        status: u16,
        /// The reason that the response gives; may be empty.
        reason: String,
    },
    /// What answered is no tunnel's proxy; the rule it broke.
    NotAProxy(&'static str),
    /// It did not answer in time.
    TimedOut,
    /// The connection was there, and silent for so long that it is taken for dead.
    Silent,
    /// The connection has broken; in words.
    Broken(String),
    /// The proxy has closed the connection, in order.
    Closed,
}

impl fmt::Display for TunnelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve { host, reason } => write!(f, "{host} can't be resolved: {reason}"),
            // As many programs make them for trying out.
            Self::Dial(DialError::Tls(words)) if words.contains("CaUsedAsEndEntity") => f.write_str(
                "no TLS connection: the proxy shows an authority's own certificate; make it one for servers \
                 (basicConstraints CA:FALSE), or pin its key",
            ),
            Self::Dial(error) => error.fmt(f),
            Self::Rejected { status, reason } => {
                let hint = match status {
                    401 => ", check the token",
                    403 => ", the token may not have these names",
                    404 | 405 => ", is this the proxy's port for origins?",
                    409 => ", somebody else has one of these names",
                    _ => "",
                };
                write!(f, "the proxy refuses, {status}{hint}")?;
                if reason.is_empty() { Ok(()) } else { write!(f, ": {reason}") }
            }
            Self::NotAProxy(rule) => write!(f, "what answers there is no tunnel's proxy: {rule}"),
            Self::TimedOut => f.write_str("the proxy did not answer in time"),
            Self::Silent => f.write_str("the proxy says nothing any more, and is taken for dead"),
            Self::Broken(words) => write!(f, "the connection has broken: {words}"),
            Self::Closed => f.write_str("the proxy has closed the connection"),
        }
    }
}

impl std::error::Error for TunnelError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        if let Self::Dial(error) = self { Some(error) } else { None }
    }
}

/// One line that can't do a terminal harm.
pub(super) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
