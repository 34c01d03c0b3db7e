//! Bytes between a socket, plain or TLS, and the `h2` crate, without a runtime: two buffers that h2 reads and writes,
//! and a socket that never blocks.
//!
//! ```text
//!   h2 ◀──AsyncRead── [ rx ] ◀──fill── socket ◀── server
//!   h2 ──AsyncWrite──▶ [ tx ] ──flush──▶ socket ──▶ server
//! ```

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use mio::{Events, Interest, Token, net::TcpStream};
use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that h2 may write before they are sent.
const ROOM: usize = 256 * 1024;

/// The way in which the server has closed the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// FIN, and over TLS a close_notify before it.
    Clean,
    /// FIN without a close_notify.
    Truncated,
    Reset,
}

#[derive(Default)]
struct Buffers {
    rx: Vec<u8>,
    tx: Vec<u8>,
    /// h2 has more to write than there was room for.
    waits: bool,
    end: Option<End>,
}

fn lock(buffers: &Mutex<Buffers>) -> MutexGuard<'_, Buffers> {
    buffers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The end for h2.
pub(crate) struct Memory(Arc<Mutex<Buffers>>);

/// The end for the socket.
pub(crate) struct Link {
    buffers: Arc<Mutex<Buffers>>,
    tcp: TcpStream,
    tls: Option<Box<ClientConnection>>,
    poll: mio::Poll,
    events: Events,
    /// Bytes received from the server so far, without TLS.
    pub(crate) received: usize,
}

impl Link {
    pub(crate) fn connect(addr: SocketAddr, tls: Option<Arc<ClientConfig>>) -> io::Result<(Self, Memory)> {
        let tcp = std::net::TcpStream::connect(addr)?;
        tcp.set_nodelay(true)?;
        tcp.set_nonblocking(true)?;
        let mut tcp = TcpStream::from_std(tcp);
        let poll = mio::Poll::new()?;
        poll.registry().register(&mut tcp, Token(0), Interest::READABLE | Interest::WRITABLE)?;
        let tls = match tls {
            Some(config) => {
                let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
                Some(Box::new(ClientConnection::new(config, name).map_err(io::Error::other)?))
            }
            None => None,
        };
        let buffers = Arc::<Mutex<Buffers>>::default();
        let memory = Memory(buffers.clone());
        Ok((Self { buffers, tcp, tls, poll, events: Events::with_capacity(8), received: 0 }, memory))
    }

    /// Returns the protocol that ALPN has selected.
    pub(crate) fn alpn(&self) -> Option<Vec<u8>> {
        self.tls.as_ref().and_then(|tls| tls.alpn_protocol()).map(<[u8]>::to_vec)
    }

    /// Returns `true` if the server can be written to.
    pub(crate) fn is_ready(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking())
    }

    /// Returns `true` if the socket has not taken all that h2 writes, and still may.
    pub(crate) fn has_output(&self) -> bool {
        let buffers = lock(&self.buffers);
        let is_left = !buffers.tx.is_empty() || buffers.waits || self.tls.as_ref().is_some_and(|tls| tls.wants_write());
        is_left && buffers.end.is_none()
    }

    pub(crate) fn end(&self) -> Option<End> {
        lock(&self.buffers).end
    }

    /// Waits until the socket has news.
    pub(crate) fn wait(&mut self, time: Duration) {
        match self.poll.poll(&mut self.events, Some(time)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => panic!("poll: {error}"),
            _ => {}
        }
    }

    /// Sends what h2 has written, as far as the socket takes it. Returns `true` if it took any.
    pub(crate) fn flush(&mut self) -> bool {
        let mut buffers = lock(&self.buffers);
        let mut moved = false;
        loop {
            if let Some(tls) = &mut self.tls {
                if !buffers.tx.is_empty() && !tls.wants_write() && !tls.is_handshaking() {
                    let n = tls.writer().write(&buffers.tx).unwrap_or(0);
                    buffers.tx.drain(..n);
                }
                if !tls.wants_write() {
                    return moved;
                }
                match tls.write_tls(&mut self.tcp) {
                    Ok(1..) => moved = true,
                    _ => return moved,
                }
            } else {
                if buffers.tx.is_empty() {
                    return moved;
                }
                match (&self.tcp).write(&buffers.tx) {
                    Ok(n @ 1..) => drop(buffers.tx.drain(..n)),
                    _ => return moved,
                }
                moved = true;
            }
        }
    }

    /// Reads once. Returns `true` if there were bytes, or the end.
    pub(crate) fn fill(&mut self) -> bool {
        let mut buffers = lock(&self.buffers);
        if buffers.end.is_some() {
            return false;
        }
        let Buffers { rx, end, .. } = &mut *buffers;
        let mut block = [0; 32 * 1024];
        let result = match &mut self.tls {
            None => match (&self.tcp).read(&mut block) {
                Ok(0) => Ok(End::Clean),
                Ok(n) => {
                    rx.extend_from_slice(&block[..n]);
                    self.received += n;
                    return true;
                }
                Err(error) => Err(error),
            },
            Some(tls) => loop {
                match tls.reader().read(&mut block) {
                    Ok(0) => break Ok(End::Clean),
                    Ok(n) => {
                        rx.extend_from_slice(&block[..n]);
                        self.received += n;
                        return true;
                    }
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => break Ok(End::Truncated),
                    Err(_) => {}
                }
                match tls.read_tls(&mut self.tcp) {
                    // The reader says whether that is a clean end.
                    Ok(0) if tls.is_handshaking() => break Ok(End::Truncated),
                    Ok(_) => match tls.process_new_packets() {
                        Ok(_) => {}
                        Err(error) => panic!("TLS: {error}"),
                    },
                    Err(error) => break Err(error),
                }
                if tls.is_handshaking() {
                    return true;
                }
            },
        };
        match result {
            Ok(how) => *end = Some(how),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => return false,
                _ => *end = Some(End::Reset),
            },
        }
        true
    }

    /// Ends our side of the connection; over TLS with a close_notify, if `clean`.
    pub(crate) fn finish(&mut self, clean: bool) {
        self.flush();
        if let Some(tls) = &mut self.tls
            && clean
        {
            tls.send_close_notify();
            self.flush();
        }
        // The server may have closed first.
        let _ = self.tcp.shutdown(Shutdown::Write);
    }

    /// Resets the connection.
    pub(crate) fn reset(&self) {
        socket2::SockRef::from(&self.tcp).set_linger(Some(Duration::ZERO)).expect("set");
    }
}

impl AsyncRead for Memory {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut buffers = lock(&self.0);
        if buffers.rx.is_empty() {
            return match buffers.end {
                None => Poll::Pending,
                Some(End::Clean) => Poll::Ready(Ok(())),
                Some(End::Truncated) => Poll::Ready(Err(ErrorKind::UnexpectedEof.into())),
                Some(End::Reset) => Poll::Ready(Err(ErrorKind::ConnectionReset.into())),
            };
        }
        let n = buffers.rx.len().min(into.remaining());
        into.put_slice(&buffers.rx[..n]);
        buffers.rx.drain(..n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Memory {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut buffers = lock(&self.0);
        let n = bytes.len().min(ROOM.saturating_sub(buffers.tx.len()));
        buffers.waits = n < bytes.len();
        if n == 0 && !bytes.is_empty() {
            return Poll::Pending;
        }
        buffers.tx.extend_from_slice(&bytes[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
