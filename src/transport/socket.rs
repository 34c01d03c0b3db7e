//! A non-blocking stream socket, TCP or Unix; or what behaves as one, within the process.

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

/// A stream within the process. As with a socket, dropping it half-closes it. A pointer of one word: it would otherwise
/// make every connection larger.
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

    /// Takes over a stream within the process, who is told of its events elsewhere.
    pub(crate) fn within(stream: Box<dyn Duplex>) -> Self {
        Self::Duplex(Within(Box::new(stream)))
    }

    /// How it stands with the peer of a stream within the process; `None` for a socket of the system's, which has other
    /// ways to tell.
    pub(crate) fn peer_side(&self) -> Option<PeerSide> {
        if let Self::Duplex(stream) = self { Some(stream.0.peer_side()) } else { None }
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
            Self::Duplex(_) => return Ok(true),
        };
        match (error, peer) {
            (Some(error), _) => Err(error),
            (None, Ok(())) => Ok(true),
            (None, Err(error)) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            (None, Err(error)) => Err(error),
        }
    }

    /// Our own address; `None` if it is none of TCP.
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
            // The peer was faster: what was to be said is moot.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }

    /// From now on closing means a reset: the peer is not to mistake what it got for the whole.
    pub(crate) fn reset_on_close(&mut self) {
        match self {
            Self::Tcp(stream) => {
                let _ = socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
            }
            Self::Unix(_) => {}
            Self::Duplex(stream) => stream.0.cut(),
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

    /// Whether the system knows of it.
    #[inline]
    pub(crate) fn is_systems(&self) -> bool {
        !matches!(self, Self::Duplex(_))
    }

    /// Its descriptor; `Unsupported` if there is none.
    pub(crate) fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        match self {
            Self::Tcp(stream) => Ok(stream.as_fd()),
            Self::Unix(stream) => Ok(stream.as_fd()),
            Self::Duplex(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        // Once, edge-triggered, for both directions: no epoll_ctl for the rest of the connection's life.
        let both = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Tcp(stream) => stream.register(registry, token, both),
            Self::Unix(stream) => stream.register(registry, token, both),
            Self::Duplex(_) => Ok(()),
        }
    }
}
