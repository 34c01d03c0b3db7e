//! A non-blocking stream socket, TCP or Unix, or a stream within the process that behaves like one.

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
use crate::base::{
    PeerAddr,
    duplex::{Duplex, PeerSide},
};

#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Duplex(Within),
}

/// A stream within the process. As with a socket, dropping it half-closes it. The second `Box` keeps the pointer at one
/// word: two would make every connection larger.
#[derive(Debug)]
pub(crate) struct Within(Box<Box<dyn Duplex>>);

impl Drop for Within {
    fn drop(&mut self) {
        self.0.finish();
    }
}

impl Socket {
    /// Takes over a connected TCP stream.
    pub(crate) fn from_tcp(stream: std::net::TcpStream) -> io::Result<(Self, PeerAddr)> {
        stream.set_nonblocking(true)?;
        let peer = PeerAddr::tcp(stream.peer_addr()?);
        // The engine writes complete responses at once and holds partial segments back itself (`CORK`). Nagle's
        // algorithm could only add a delay to that.
        stream.set_nodelay(true)?;
        Ok((Self::Tcp(TcpStream::from_std(stream)), peer))
    }

    /// Takes over a connected Unix stream.
    pub(crate) fn from_unix(stream: std::os::unix::net::UnixStream) -> io::Result<(Self, PeerAddr)> {
        stream.set_nonblocking(true)?;
        Ok((Self::Unix(UnixStream::from_std(stream)), PeerAddr::Unix))
    }

    /// Takes over a stream within the process. Its events arrive as messages.
    pub(crate) fn within(stream: Box<dyn Duplex>) -> Self {
        Self::Duplex(Within(Box::new(stream)))
    }

    /// Returns the state of the peer of a stream within the process; `None` for a socket of the system, which reports
    /// that by events.
    pub(crate) fn peer_side(&self) -> Option<PeerSide> {
        if let Self::Duplex(stream) = self { Some(stream.0.peer_side()) } else { None }
    }

    /// Begins to connect. Check [`connected`](Self::connected) when the socket is writable.
    pub(crate) fn connect_tcp(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }

    /// Connects to a Unix socket, which succeeds or fails at once.
    pub(crate) fn connect_unix(path: &Path) -> io::Result<Self> {
        UnixStream::connect(path).map(Self::Unix)
    }

    /// Returns `true` if the socket is connected, `false` if it is still connecting, or the system's error.
    pub(crate) fn connected(&self) -> io::Result<bool> {
        let (error, peer) = match self {
            Self::Tcp(stream) => (stream.take_error()?, stream.peer_addr().map(drop)),
            Self::Unix(stream) => (stream.take_error()?, stream.peer_addr().map(drop)),
            Self::Duplex(_) => return Ok(true),
        };
        match (error, peer) {
            (Some(error), _) => Err(error),
            (None, Ok(())) => Ok(true),
            (None, Err(error)) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            (None, Err(error)) => Err(error),
        }
    }

    /// Returns the local address; `None` if the socket is not TCP.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok(),
            Self::Unix(_) | Self::Duplex(_) => None,
        }
    }

    #[inline(always)]
    pub(crate) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.read_once(into) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    #[inline(always)]
    pub(crate) fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        loop {
            match self.write_once(pieces) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    #[cfg(target_os = "linux")]
    #[inline(always)]
    fn read_once(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => sys::read(stream.as_fd(), into),
            Self::Unix(stream) => sys::read(stream.as_fd(), into),
            Self::Duplex(stream) => stream.0.read(into),
        }
    }

    #[cfg(target_os = "linux")]
    #[inline(always)]
    fn write_once(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => sys::write(stream.as_fd(), pieces),
            Self::Unix(stream) => sys::write(stream.as_fd(), pieces),
            Self::Duplex(stream) => stream.0.write(pieces),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn read_once(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => io::Read::read(stream, into),
            Self::Unix(stream) => io::Read::read(stream, into),
            Self::Duplex(stream) => stream.0.read(into),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn write_once(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => io::Write::write_vectored(stream, pieces),
            Self::Unix(stream) => io::Write::write_vectored(stream, pieces),
            Self::Duplex(stream) => stream.0.write(pieces),
        }
    }

    /// Ends what is complete, on a stream within the process. Returns `true` if nothing is left to do.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        if let Self::Duplex(stream) = self { stream.0.flush() } else { Ok(true) }
    }

    /// Returns `true` if [`flush`](Self::flush) has something to do.
    #[inline]
    pub(super) fn has_pending(&self) -> bool {
        if let Self::Duplex(stream) = self { stream.0.has_pending() } else { false }
    }

    pub(crate) fn shutdown_write(&mut self) -> io::Result<()> {
        let result = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
            Self::Duplex(stream) => {
                stream.0.finish();
                Ok(())
            }
        };
        match result {
            // The peer has closed first: there is nothing left to end.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }

    /// Makes closing send a reset, so that a truncated body never looks complete.
    pub(crate) fn reset_on_close(&mut self) {
        match self {
            Self::Tcp(stream) => {
                let _ = socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
            }
            Self::Unix(_) => {}
            Self::Duplex(stream) => stream.0.cut(),
        }
    }

    /// Enables TCP keep-alive, which finds a silent peer that has disconnected: after 60 s, probes every 15 s.
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

    /// Returns `true` if this is a socket of the system.
    #[inline]
    pub(crate) fn is_systems(&self) -> bool {
        !matches!(self, Self::Duplex(_))
    }

    /// Returns its descriptor; `Unsupported` if there is none.
    pub(crate) fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        match self {
            Self::Tcp(stream) => Ok(stream.as_fd()),
            Self::Unix(stream) => Ok(stream.as_fd()),
            Self::Duplex(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        // Registered once, edge-triggered, for both directions: the connection needs no other epoll_ctl.
        let both = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Tcp(stream) => stream.register(registry, token, both),
            Self::Unix(stream) => stream.register(registry, token, both),
            Self::Duplex(_) => Ok(()),
        }
    }
}
