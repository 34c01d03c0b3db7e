//! Outgoing connections: to whom, how secured, and what comes of it.
//!
//! ```text
//!   LoopHandle::dial(Dial, then) ──▶ connect ──▶ TLS ──▶ then(Ok(Dialed)) ──▶ who speaks ──▶ Upgrade::ready(Io)
//!                                 └──────────┴────▶ then(Err(DialError))
//! ```
//! What speaks on it is an [`Upgrade`], called just as after a `101`: there is no other kind of stream here.

use std::{fmt, io, net::SocketAddr, path::PathBuf, time::Duration};

use super::{TlsInfo, Upgrade, Waker};
#[cfg(feature = "tls")]
use crate::transport::TlsClient;
use crate::{
    base::{Moment, PeerAddr},
    transport::Trust,
};

/// Where to, how, and how long it may take.
///
/// ```
/// use std::time::Duration;
/// use uncork::Dial;
/// let dial = Dial::tcp(([192, 0, 2, 1], 80).into()).timeout(Duration::from_secs(3));
/// # let _ = dial;
/// ```
#[derive(Debug)]
#[must_use = "give it to `Loop::dial`"]
pub struct Dial {
    pub(crate) to: DialTarget,
    pub(crate) trust: Trust,
    pub(crate) within: Duration,
}

/// Where somebody listens.
#[derive(Debug)]
pub(crate) enum DialTarget {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Dial {
    /// To a TCP address. Names are the caller's to resolve: that blocks.
    pub fn tcp(addr: SocketAddr) -> Self {
        Self::to(DialTarget::Tcp(addr))
    }

    /// To a Unix socket. One whose queue is full refuses at once (`WouldBlock`).
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::to(DialTarget::Unix(path.into()))
    }

    /// Over TLS, with a peer that proves to be `server_name`: a DNS name, or an IP address (without brackets). It is
    /// checked when dialled.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: &TlsClient, server_name: &str) -> Self {
        self.trust = Some((tls.clone(), server_name.into()));
        self
    }

    /// The most that connecting and the TLS handshake may take together; 10 s unless said otherwise.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.within = time;
        self
    }

    fn to(place: DialTarget) -> Self {
        Self { to: place, trust: None, within: Duration::from_secs(10) }
    }

    /// The name the peer has to prove, if no peer can.
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

/// An outgoing connection that stands.
#[derive(Debug)]
#[non_exhaustive]
pub struct Dialed<'a> {
    /// Who is at the other end.
    pub peer: &'a PeerAddr,
    /// Our own address; `None` for a Unix socket.
    pub local: Option<SocketAddr>,
    /// TLS, and the name and certificate the peer has proven.
    pub secure: Option<TlsInfo<'a>>,
    /// The protocol agreed upon by ALPN, if one was.
    pub alpn: Option<&'a [u8]>,
    pub(crate) waker: &'a Waker,
    pub(crate) now: Moment,
}

impl Dialed<'_> {
    /// Wakes the upgrade that is returned, as [`Io::waker`](crate::Io::waker) does.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// The time of this turn.
    pub fn now(&self) -> Moment {
        self.now
    }
}

/// Why there is no connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum DialError {
    /// The system's word: refused, unreachable, no such file.
    Io(io::Error),
    /// It took longer than [`Dial::timeout`].
    TimedOut,
    /// Connected, but TLS was not agreed upon, or the peer did not prove to be who it should be; in words.
    Tls(String),
    /// No peer can prove to have this name: it is neither a DNS name nor an IP address.
    BadName(String),
    /// The loop has ended, or its server stopped, before it was decided.
    LoopEnded,
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                write!(f, "nobody listens there: {error}")
            }
            Self::Io(error) => write!(f, "can't connect: {error}"),
            Self::TimedOut => f.write_str("no connection in the time given (`Dial::timeout`)"),
            Self::Tls(words) => write!(f, "no TLS connection: {words}"),
            Self::BadName(name) => {
                write!(f, "{name:?} is neither a DNS name nor an IP address that a peer could prove")
            }
            Self::LoopEnded => f.write_str("the loop has ended, or its server stopped: dial on another one"),
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

/// What comes then. It is called exactly once, come what may: whoever drops it uncalled calls it.
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
    fn it_is_called_once_even_if_nobody_does() {
        let (tell, told) = channel();
        let then = |tell: std::sync::mpsc::Sender<String>| {
            Then::new(move |result| {
                tell.send(result.expect_err("no connection").to_string()).expect("heard");
                None
            })
        };
        drop(then(tell.clone()));
        assert!(then(tell).call(Err(DialError::TimedOut)).is_none());
        let told: Vec<String> = told.iter().collect();
        assert!(told.len() == 2 && told[0].contains("loop has ended") && told[1].contains("Dial::timeout"), "{told:?}");
    }

    #[test]
    fn errors_say_what_happened() {
        for (error, words) in [
            (DialError::Io(io::ErrorKind::ConnectionRefused.into()), "nobody listens there"),
            (DialError::Io(io::ErrorKind::NetworkUnreachable.into()), "can't connect"),
            (DialError::Tls("why".into()), "no TLS connection: why"),
            (DialError::BadName("a b".into()), "\"a b\" is neither"),
        ] {
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn a_name_is_checked_when_it_is_dialled() {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let client = TlsClient::roots_pem(made.cert.pem().as_bytes()).expect("a root");
        let dial = |name: &str| Dial::tcp(([127, 0, 0, 1], 443).into()).tls(&client, name);
        for name in ["localhost", "example.org", "127.0.0.1", "::1"] {
            assert_eq!(dial(name).bad_name(), None);
        }
        for name in ["", "a b", "[::1]", "example.org:443"] {
            assert_eq!(dial(name).bad_name().as_deref(), Some(name));
        }
    }
}
