//! Listening sockets: TCP (v4, v6, both), Unix, or handed over by the application.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use mio::{Interest, Registry, Token, event::Source};
use socket2::{Domain, Protocol, SockAddr, SockRef, Type};

use super::Socket;
use crate::base::PeerAddr;

/// The number of connections that the system may queue. It clamps this to its own limit.
const BACKLOG: i32 = 4096;

/// A bound, listening, non-blocking socket.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(mio::net::TcpListener),
    Unix(mio::net::UnixListener),
}

/// The result of one accept.
#[derive(Debug)]
pub(crate) enum Accepted {
    Stream(Socket, PeerAddr),
    /// The queue is empty.
    Empty,
    /// The peer closed while it was in the queue, or the call was interrupted: try again at once.
    Again,
    /// No descriptor or memory is left: try again when something was closed. If descriptors are missing and one can be
    /// closed, try again at once.
    Exhausted {
        error: io::Error,
        descriptors: bool,
    },
}

impl Listener {
    /// Binds and listens. A v6 wildcard serves v4 as well. `shared`: several loops each bind a socket of their own to
    /// the same address, and the system distributes the connections.
    /// the same address, and the system spreads the connections.
    pub(crate) fn tcp(addr: SocketAddr, shared: bool) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        if addr.is_ipv6() && addr.ip().is_unspecified() {
            socket.set_only_v6(false)?;
        }
        // Lets a server restart at once.
        socket.set_reuse_address(true)?;
        if shared {
            reuse_port(&SockRef::from(&socket))?;
        }
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        Self::from_tcp(socket.into())
    }

    /// Binds and listens on a Unix socket. It replaces a socket file left behind by a process that has ended; but not
    /// one on which a process listens, nor any other file.
    pub(crate) fn unix(path: &Path) -> io::Result<Self> {
        use std::os::unix::{fs::FileTypeExt, net::UnixListener};
        match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
                if !is_socket {
                    return Err(io::Error::new(error.kind(), "there is a file that is not a socket"));
                }
                if !refuses(path) {
                    return Err(error);
                }
                std::fs::remove_file(path)?;
                Self::from_unix(UnixListener::bind(path)?)
            }
            result => Self::from_unix(result?),
        }
    }

    /// Takes over a socket from the application.
    pub(crate) fn handed_over(fd: OwnedFd) -> io::Result<Self> {
        let wrong = |text: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        let socket = SockRef::from(&fd);
        let domain = socket.domain()?;
        if socket.r#type()? != Type::STREAM {
            return wrong("not a stream socket: its type is not SOCK_STREAM");
        }
        if socket.peer_addr().is_ok() {
            return wrong("the socket is a connection, not a listener (systemd: set Accept=no)");
        }
        if !is_listening(&socket)? {
            return wrong("the socket does not listen: listen(2) was not called");
        }
        match domain {
            Domain::IPV4 | Domain::IPV6 => Self::from_tcp(fd.into()),
            Domain::UNIX => Self::from_unix(fd.into()),
            _ => wrong("not a TCP or Unix socket"),
        }
    }

    /// Lets other sockets bind to the same address from now on.
    pub(crate) fn share(&self) -> io::Result<()> {
        reuse_port(&SockRef::from(self))
    }

    pub(crate) fn from_tcp(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self::Tcp(mio::net::TcpListener::from_std(listener)))
    }

    pub(crate) fn from_unix(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self::Unix(mio::net::UnixListener::from_std(listener)))
    }

    /// Returns another handle of the same listening socket, for another loop.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        let fd = self.as_fd().try_clone_to_owned()?;
        match self {
            Self::Tcp(_) => Self::from_tcp(fd.into()),
            Self::Unix(_) => Self::from_unix(fd.into()),
        }
    }

    /// Returns its local address; `None` for a Unix socket.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    pub(crate) fn accept(&self) -> Accepted {
        let result = match self {
            Self::Tcp(listener) => listener.accept().map(|(stream, addr)| {
                // See `Socket::from_tcp`. A connection that has ended already will report so when it is read.
                let _ = stream.set_nodelay(true);
                (Socket::Tcp(stream), PeerAddr::tcp(addr))
            }),
            Self::Unix(listener) => listener.accept().map(|(stream, _)| (Socket::Unix(stream), PeerAddr::Unix)),
        };
        match result {
            Ok((socket, peer)) => Accepted::Stream(socket, peer),
            Err(error) => Self::sort(error),
        }
    }

    /// Distinguishes errors of accept(2): some belong to a connection that ended in the queue, not to the listener.
    fn sort(error: io::Error) -> Accepted {
        if error.kind() == io::ErrorKind::WouldBlock {
            return Accepted::Empty;
        }
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE) => Accepted::Exhausted { error, descriptors: true },
            Some(
                libc::ECONNABORTED
                | libc::EINTR
                | libc::EPROTO
                | libc::ENETDOWN
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::EOPNOTSUPP
                | libc::ENETUNREACH
                | libc::EPERM,
            ) => Accepted::Again,
            _ => Accepted::Exhausted { error, descriptors: false },
        }
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.register(registry, token, Interest::READABLE),
            Self::Unix(listener) => listener.register(registry, token, Interest::READABLE),
        }
    }

    /// Undoes [`register`](Self::register).
    pub(crate) fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.deregister(registry),
            Self::Unix(listener) => listener.deregister(registry),
        }
    }
}

impl From<Listener> for OwnedFd {
    fn from(listener: Listener) -> Self {
        match listener {
            Listener::Tcp(listener) => listener.into(),
            Listener::Unix(listener) => listener.into(),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        }
    }
}

/// Returns `true` if no process listens on that Unix socket. Does not wait for one whose queue is full.
fn refuses(path: &Path) -> bool {
    let connected = SockAddr::unix(path).and_then(|addr| {
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&addr)
    });
    connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Returns SO_ACCEPTCONN, where the system reports it.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "fuchsia"))]
fn is_listening(socket: &SockRef<'_>) -> io::Result<bool> {
    socket.is_listener()
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "fuchsia")))]
fn is_listening(_: &SockRef<'_>) -> io::Result<bool> {
    Ok(true)
}

fn reuse_port(socket: &SockRef<'_>) -> io::Result<()> {
    #[cfg(not(any(target_os = "solaris", target_os = "illumos", target_os = "cygwin")))]
    socket.set_reuse_port(true)?;
    #[cfg(any(target_os = "solaris", target_os = "illumos", target_os = "cygwin"))]
    let _ = socket;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_dead_connections_do_not_stop_the_listener() {
        for code in [libc::ECONNABORTED, libc::EPROTO, libc::EINTR] {
            assert!(matches!(Listener::sort(io::Error::from_raw_os_error(code)), Accepted::Again));
        }
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOMEM] {
            assert!(matches!(Listener::sort(io::Error::from_raw_os_error(code)), Accepted::Exhausted { .. }));
        }
    }

    #[test]
    fn what_does_not_listen_is_not_taken() {
        let refused = |fd: OwnedFd, text: &str| {
            let error = Listener::handed_over(fd).map(drop).expect_err(text);
            assert!(error.to_string().contains(text), "{error}");
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let client = std::net::TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        refused(client.into(), "is a connection");
        Listener::handed_over(listener.into()).expect("it listens");
        let (one, _other) = std::os::unix::net::UnixStream::pair().expect("a pair");
        refused(one.into(), "is a connection");
        refused(std::net::UdpSocket::bind("127.0.0.1:0").expect("bound").into(), "SOCK_STREAM");
        refused(std::os::unix::net::UnixDatagram::unbound().expect("made").into(), "SOCK_STREAM");
        if cfg!(target_os = "linux") {
            let bound = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            bound.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("bound");
            refused(bound.into(), "does not listen");
        }
        assert!(Listener::handed_over(std::fs::File::open("/dev/null").expect("opened").into()).is_err());
    }

    #[test]
    fn a_dead_unix_socket_is_replaced_and_a_live_one_is_not() {
        let path = std::env::temp_dir().join(format!("uncork-listen-{}.sock", std::process::id()));
        let first = Listener::unix(&path).expect("a fresh path");
        assert_eq!(Listener::unix(&path).map(drop).map_err(|e| e.kind()), Err(io::ErrorKind::AddrInUse));
        drop(first);
        Listener::unix(&path).expect("no process listens any more");
        std::fs::remove_file(&path).expect("remove");
        // A listener whose queue is full must not block the check.
        let full = socket2::Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        let addr = SockAddr::unix(&path).expect("an address");
        full.bind(&addr).expect("bound");
        full.listen(0).expect("listens");
        let queued: Vec<_> = (0..8)
            .map_while(|_| {
                let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
                socket.set_nonblocking(true).expect("set");
                socket.connect(&addr).ok().map(|()| socket)
            })
            .collect();
        assert!(!queued.is_empty());
        assert_eq!(Listener::unix(&path).map(drop).map_err(|e| e.kind()), Err(io::ErrorKind::AddrInUse));
        std::fs::remove_file(&path).expect("remove");
        std::fs::write(&path, b"another file").expect("write");
        let error = Listener::unix(&path).map(drop).expect_err("it stays");
        assert!(error.kind() == io::ErrorKind::AddrInUse && error.to_string().contains("not a socket"), "{error}");
        std::fs::remove_file(&path).expect("remove");
    }
}
