//! Outgoing connections: the target, TLS, and the result.
//!
//! ```text
//!   LoopHandle::dial(Dial, then) ──▶ connect ──▶ TLS ──▶ then(Ok(Dialed)) ──▶ Some(upgrade) ──▶ Upgrade::ready(Io)
//!                                       └──────────┴────▶ then(Err(DialError))
//! ```
//! An [`Upgrade`] handles the connection, called as after a `101`.

use std::{fmt, io, net::SocketAddr, path::PathBuf, time::Duration};

use super::{TlsInfo, Upgrade, Waker};
#[cfg(feature = "tls")]
use crate::transport::TlsClient;
use crate::{
    base::{Moment, PeerAddr},
    transport::Trust,
};

/// A connection to be made: the target, TLS, and a timeout.
///
/// ```
/// use std::time::Duration;
/// use uncork::Dial;
/// let dial = Dial::tcp(([192, 0, 2, 1], 80).into()).timeout(Duration::from_secs(3));
/// # let _ = dial;
/// ```
#[derive(Debug)]
#[must_use = "give it to `LoopHandle::dial`"]
pub struct Dial {
    pub(crate) to: DialTarget,
    pub(crate) trust: Trust,
    pub(crate) timeout: Duration,
}

/// The address to connect to.
#[derive(Debug)]
pub(crate) enum DialTarget {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Dial {
    /// Connects to a TCP address. The caller resolves names, since that blocks.
    pub fn tcp(addr: SocketAddr) -> Self {
        Self::to(DialTarget::Tcp(addr))
    }

    /// Connects to a Unix socket. If its queue is full, it fails at once (`WouldBlock`).
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::to(DialTarget::Unix(path.into()))
    }

    /// Uses TLS, and requires a certificate for `server_name`: a DNS name, or an IP address (without brackets). An
    /// invalid name is reported when it is dialled ([`DialError::BadName`]).
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: &TlsClient, server_name: &str) -> Self {
        self.trust = Some((tls.clone(), server_name.into()));
        self
    }

    /// Sets the timeout of connecting and the TLS handshake together. Default: 10 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    fn to(target: DialTarget) -> Self {
        Self { to: target, trust: None, timeout: Duration::from_secs(10) }
    }

    /// Returns the server name if it is invalid: no certificate can be for it.
    pub(crate) fn bad_name(&self) -> Option<String> {
        #[cfg(feature = "tls")]
        if let Some((_, name)) = &self.trust
            && !TlsClient::is_name(name)
        {
            return Some(name.to_string());
        }
        None
    }
}

/// An outgoing connection that is established.
#[derive(Debug)]
#[non_exhaustive]
pub struct Dialed<'a> {
    /// The address of the peer.
    pub peer: &'a PeerAddr,
    /// The local address; `None` for a Unix socket.
    pub local: Option<SocketAddr>,
    /// Information about TLS, with the verified server name and certificate.
    pub tls_info: Option<TlsInfo<'a>>,
    /// The protocol that ALPN has chosen, if it has.
    pub alpn: Option<&'a [u8]>,
    pub(crate) waker: &'a Waker,
    pub(crate) now: Moment,
}

impl Dialed<'_> {
    /// Returns a waker of the upgrade that will be returned, like [`Io::waker`](crate::Io::waker).
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Returns the time of this turn of the loop.
    pub fn now(&self) -> Moment {
        self.now
    }
}

/// The reason why a connection was not made.
#[derive(Debug)]
#[non_exhaustive]
pub enum DialError {
    /// The system's error, such as refused, unreachable, or not found.
    Io(io::Error),
    /// It took longer than [`Dial::timeout`].
    TimedOut,
    /// Connected, but the TLS handshake failed, or the certificate is not valid for the server name. Contains the
    /// cause.
    Tls(String),
    /// The server name is neither a DNS name nor an IP address.
    BadName(String),
    /// The loop has ended, or its server stopped, before the connection was made.
    LoopEnded,
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "cannot connect: {error}"),
            Self::TimedOut => f.write_str("cannot connect: timed out (`Dial::timeout`)"),
            Self::Tls(cause) => write!(f, "cannot establish TLS: {cause}"),
            Self::BadName(name) => {
                write!(f, "invalid server name {name:?}: expected a DNS name or an IP address")
            }
            Self::LoopEnded => f.write_str("the loop has ended, or its server stopped: dial on another loop"),
        }
    }
}

impl std::error::Error for DialError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

type Decision = dyn FnOnce(Result<Dialed<'_>, DialError>) -> Option<Box<dyn Upgrade>> + Send;

/// The function to call with the result. It is called exactly once: dropping it uncalled calls it.
pub(crate) struct Then(Option<Box<Decision>>);

impl Then {
    pub(crate) fn new(
        then: impl FnOnce(Result<Dialed<'_>, DialError>) -> Option<Box<dyn Upgrade>> + Send + 'static,
    ) -> Self {
        Self(Some(Box::new(then)))
    }

    pub(crate) fn call(mut self, result: Result<Dialed<'_>, DialError>) -> Option<Box<dyn Upgrade>> {
        self.0.take().and_then(|then| then(result))
    }
}

impl Drop for Then {
    fn drop(&mut self) {
        if let Some(then) = self.0.take() {
            drop(then(Err(DialError::LoopEnded)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn the_function_is_called_once_even_if_it_is_dropped() {
        let (report, reports) = channel();
        let then = |report: std::sync::mpsc::Sender<String>| {
            Then::new(move |result| {
                report.send(result.expect_err("no connection").to_string()).expect("a receiver");
                None
            })
        };
        drop(then(report.clone()));
        assert!(then(report).call(Err(DialError::TimedOut)).is_none());
        let all: Vec<String> = reports.iter().collect();
        assert!(all.len() == 2 && all[0].contains("loop has ended") && all[1].contains("Dial::timeout"), "{all:?}");
    }

    #[test]
    fn errors_name_the_cause() {
        for (error, text) in [
            (DialError::Io(io::ErrorKind::ConnectionRefused.into()), "cannot connect: connection refused"),
            (DialError::Io(io::ErrorKind::NetworkUnreachable.into()), "cannot connect: network"),
            (DialError::Tls("cause".into()), "cannot establish TLS: cause"),
            (DialError::BadName("a b".into()), "invalid server name \"a b\""),
        ] {
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn a_name_is_checked_when_it_is_dialled() {
        let generated = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let client = TlsClient::roots_pem(generated.cert.pem().as_bytes()).expect("a root");
        let dial = |name: &str| Dial::tcp(([127, 0, 0, 1], 443).into()).tls(&client, name);
        for name in ["localhost", "example.org", "127.0.0.1", "::1"] {
            assert_eq!(dial(name).bad_name(), None);
        }
        for name in ["", "a b", "[::1]", "example.org:443"] {
            assert_eq!(dial(name).bad_name().as_deref(), Some(name));
        }
    }
}
