//! One listener as a value: a listening socket, and the setup of its connections.

use std::{
    fmt, io,
    net::{SocketAddr, ToSocketAddrs},
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
};

#[cfg(feature = "tls")]
use crate::transport::Tls;
use crate::{
    base::PeerAddr,
    engine::{LoopListener, Trusted},
    transport::{Listener, Security},
};

/// A listener of a [`Server`](crate::Server): a listening socket, with TLS and the PROXY protocol if configured.
///
/// ```no_run
/// use uncork::{Listen, Request, Response, Server};
/// # fn main() -> std::io::Result<()> {
/// Server::new()
///     .listen(Listen::tcp("[::]:8080")?)
///     .listen(Listen::unix("/run/hello.sock")?.proxy_protocol(|peer| peer.is_local()))
///     .threads(4, |_: &mut Request<'_>| Response::text("Hello, world!\n"))?
///     .join()
/// # }
/// ```
#[must_use = "give it to `Server::listen`"]
pub struct Listen {
    socket: ListenSocket,
    setup: ConnSetup,
}

/// What applies to each connection of a listener: TLS, and the trusted proxies.
#[derive(Clone)]
pub(super) struct ConnSetup {
    security: Security,
    proxies: Option<Arc<Trusted>>,
}

impl ConnSetup {
    /// Returns a listener without a socket, for loops that get their connections from another loop.
    pub(super) fn without_socket(&self) -> LoopListener {
        self.clone().on(None)
    }

    fn on(self, listener: Option<Listener>) -> LoopListener {
        LoopListener::new(listener, self.security, self.proxies)
    }
}

enum ListenSocket {
    /// Bound by this process to a TCP address: each loop can bind a socket of its own to it.
    Bound(Listener, SocketAddr),
    /// A Unix socket, or an inherited one: all loops share it.
    Shared(Listener),
    /// No socket: only adopted connections.
    None,
}

impl Listen {
    /// Listens on a TCP address, IPv4 or IPv6; `[::]` accepts both. Port 0 lets the system choose a free port, see
    /// [`local_addr`](Self::local_addr). If a name has several addresses, the first that can be bound is used.
    ///
    /// # Errors
    /// The system's error, such as `AddrInUse`, `PermissionDenied` or `AddrNotAvailable`; its text contains the
    /// address. `InvalidInput` if `addr` is not an address with a port.
    pub fn tcp(addr: impl ToSocketAddrs + fmt::Debug) -> io::Result<Self> {
        let found = addr.to_socket_addrs().map_err(|error| {
            let text = format!("cannot listen on {addr:?}, expected an address and a port (127.0.0.1:8080): {error}");
            io::Error::new(error.kind(), text)
        })?;
        let text = format!("cannot listen on {addr:?}: it resolves to no address");
        let mut last = io::Error::new(io::ErrorKind::InvalidInput, text);
        for addr in found {
            match Listener::tcp(addr, false) {
                Ok(listener) => {
                    let addr = listener.local_addr().unwrap_or(addr);
                    return Ok(Self::on(ListenSocket::Bound(listener, addr)));
                }
                Err(error) => last = io::Error::new(error.kind(), format!("cannot listen on {addr}: {error}")),
            }
        }
        Err(last)
    }

    /// Listens on a Unix socket. Replaces the socket file if no process listens on it any more.
    ///
    /// # Errors
    /// The system's error; `AddrInUse` if a process listens there, or if the file is not a socket. Its text contains the
    /// path.
    pub fn unix(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let listener = Listener::unix(path).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot listen on the Unix socket {}: {error}", path.display()))
        })?;
        Ok(Self::on(ListenSocket::Shared(listener)))
    }

    /// Takes over a listening TCP or Unix socket, for instance one that the service manager has passed, or that another
    /// server has [given back](crate::Running::quiesce). It becomes non-blocking.
    ///
    /// # Errors
    /// The system's error; `InvalidInput` if the descriptor is not a stream socket, or if it does not listen (as far as
    /// the system can report that).
    pub fn inherited(socket: impl Into<OwnedFd>) -> io::Result<Self> {
        Ok(Self::on(ListenSocket::Shared(Listener::handed_over(socket.into())?)))
    }

    /// Creates a listener without a socket. It serves only what
    /// [`LoopHandle::adopt_as`](crate::LoopHandle::adopt_as) passes to it, for instance with TLS.
    pub fn none() -> Self {
        Self::on(ListenSocket::None)
    }

    fn on(socket: ListenSocket) -> Self {
        Self { socket, setup: ConnSetup { security: None, proxies: None } }
    }

    /// Serves HTTPS on this listener.
    ///
    /// ```no_run
    /// use uncork::{Listen, Request, Response, Server, Tls};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let tls = Tls::pem("cert.pem", "key.pem")?;
    /// let server = Server::new().listen(Listen::tcp("127.0.0.1:8443")?.tls(tls));
    /// server.threads(4, |_: &mut Request<'_>| Response::text("Hello, world!\n"))?.join()?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: impl Into<Tls>) -> Self {
        self.setup.security = Some(tls.into());
        self
    }

    /// Requires a PROXY protocol header (version 1 or 2, HAProxy's `doc/proxy-protocol.txt`) on each connection of this
    /// listener. The client that the header names becomes the connection's peer for limits,
    /// [`Handler::accept`](crate::Handler::accept), [`Request::peer`](crate::Request::peer) and logs. A header that
    /// names no TCP client (`LOCAL`, `UNKNOWN`) leaves the proxy as the peer.
    ///
    /// The header is believed, so `trusted` must return `true` for the addresses of proxies only. Connections from
    /// other addresses, and connections without a valid header, are closed.
    ///
    /// The header comes before TLS. Both must arrive within
    /// [`Limits::handshake_timeout`](crate::Limits::handshake_timeout).
    pub fn proxy_protocol(mut self, trusted: impl Fn(&PeerAddr) -> bool + Send + Sync + 'static) -> Self {
        self.setup.proxies = Some(Arc::new(trusted));
        self
    }

    /// Returns the TCP address it listens on; `None` for a Unix socket and for [`none`](Self::none).
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.socket {
            ListenSocket::Bound(_, addr) => Some(*addr),
            ListenSocket::Shared(listener) => listener.local_addr(),
            ListenSocket::None => None,
        }
    }

    /// Returns `true` if all loops have the same socket.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self.socket, ListenSocket::Shared(_))
    }

    /// Lets other loops bind to the same address. Only after it is bound: a second server on the same address must get
    /// `AddrInUse`, not half of the connections.
    pub(super) fn allow_more(&self) -> io::Result<()> {
        match &self.socket {
            ListenSocket::Bound(listener, _) => listener.share(),
            _ => Ok(()),
        }
    }

    /// Returns another listener on the same address, for another loop.
    pub(super) fn for_another_loop(&self) -> io::Result<LoopListener> {
        let listener = match &self.socket {
            // If the system has no SO_REUSEPORT, or does not allow it, the loops share one socket.
            ListenSocket::Bound(listener, addr) => Some(Listener::tcp(*addr, true).or_else(|_| listener.try_clone())?),
            ListenSocket::Shared(listener) => Some(listener.try_clone()?),
            ListenSocket::None => None,
        };
        Ok(self.setup.clone().on(listener))
    }

    pub(super) fn setup(&self) -> ConnSetup {
        self.setup.clone()
    }

    pub(super) fn into_loop_listener(self) -> LoopListener {
        let listener = match self.socket {
            ListenSocket::Bound(listener, _) | ListenSocket::Shared(listener) => Some(listener),
            ListenSocket::None => None,
        };
        self.setup.on(listener)
    }
}

impl fmt::Debug for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listen").field("addr", &self.local_addr()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_address() {
        let error = Listen::tcp("nonsense").map(drop).expect_err("not an address");
        assert!(error.to_string().contains("\"nonsense\""), "{error}");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let bound = Listen::tcp("127.0.0.1:0").expect("bound");
        let addr = bound.local_addr().expect("an address");
        let error = Listen::tcp(addr).map(drop).expect_err("in use");
        assert!(error.to_string().contains(&addr.to_string()), "{error}");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
