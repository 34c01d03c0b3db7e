//! A non-blocking stream socket, TCP or Unix.

use std::{
    io::{self, IoSlice},
    net::{Shutdown, SocketAddr},
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    time::Duration,
};

use mio::{
    Interest, Registry, Token,
    event::Source,
    net::{TcpStream, UnixStream},
};

#[cfg(target_os = "linux")]
use super::sys;
use crate::base::PeerAddr;

#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Takes over a connected TCP stream.
    pub(crate) fn from_tcp(stream: std::net::TcpStream) -> io::Result<(Self, PeerAddr)> {
        stream.set_nonblocking(true)?;
        let peer = PeerAddr::tcp(stream.peer_addr()?);
        // Whole answers are written at once, and partial ones are held back here (`CORK`): waiting in the kernel for
        // an acknowledgement could only add to that.
        stream.set_nodelay(true)?;
        Ok((Self::Tcp(TcpStream::from_std(stream)), peer))
    }

    /// Takes over a connected Unix stream.
    pub(crate) fn from_unix(stream: std::os::unix::net::UnixStream) -> io::Result<(Self, PeerAddr)> {
        stream.set_nonblocking(true)?;
        Ok((Self::Unix(UnixStream::from_std(stream)), PeerAddr::Unix))
    }

    /// Begins to connect. Whether it has [`connected`](Self::connected) is to be asked when the socket is writable.
    pub(crate) fn connect_tcp(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }

    /// The same for a Unix socket, which connects at once or not at all.
    pub(crate) fn connect_unix(path: &Path) -> io::Result<Self> {
        UnixStream::connect(path).map(Self::Unix)
    }

    /// Whether a socket that began to connect has done so by now; or what the system says.
    pub(crate) fn connected(&self) -> io::Result<bool> {
        let (error, peer) = match self {
            Self::Tcp(stream) => (stream.take_error()?, stream.peer_addr().map(drop)),
            Self::Unix(stream) => (stream.take_error()?, stream.peer_addr().map(drop)),
        };
        match (error, peer) {
            (Some(error), _) => Err(error),
            (None, Ok(())) => Ok(true),
            (None, Err(error)) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            (None, Err(error)) => Err(error),
        }
    }

    /// Our own address; `None` for a Unix socket.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    #[inline]
    pub(crate) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.read_once(into) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    #[inline]
    pub(crate) fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        loop {
            match self.write_once(pieces) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    #[cfg(target_os = "linux")]
    #[inline]
    fn read_once(&mut self, into: &mut [u8]) -> io::Result<usize> {
        sys::read(self.as_fd(), into)
    }

    #[cfg(target_os = "linux")]
    #[inline]
    fn write_once(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        sys::write(self.as_fd(), pieces)
    }

    #[cfg(not(target_os = "linux"))]
    fn read_once(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => io::Read::read(stream, into),
            Self::Unix(stream) => io::Read::read(stream, into),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn write_once(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => io::Write::write_vectored(stream, pieces),
            Self::Unix(stream) => io::Write::write_vectored(stream, pieces),
        }
    }

    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        let result = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
        match result {
            // The peer was faster: what was to be said is moot.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }

    /// From now on closing means a reset: the peer is not to mistake what it got for the whole.
    pub(crate) fn reset_on_close(&self) {
        if let Self::Tcp(stream) = self {
            let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// Has the system look after a peer that says nothing for long: one that is gone without a word is found.
    pub(crate) fn keep_alive(&self) {
        if let Self::Tcp(stream) = self {
            let probes = socket2::TcpKeepalive::new().with_time(Duration::from_secs(60));
            let probes = probes.with_interval(Duration::from_secs(15));
            let _ = socket2::SockRef::from(stream).set_tcp_keepalive(&probes);
        }
    }

    pub(crate) fn is_tcp(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        // Once, edge-triggered, for both directions: no epoll_ctl for the rest of the connection's life.
        let both = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Tcp(stream) => stream.register(registry, token, both),
            Self::Unix(stream) => stream.register(registry, token, both),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}
