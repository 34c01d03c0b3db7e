//! Bytes on and off sockets. TLS ends here: above this room there is only plaintext.
//!
//! ```text
//!                 plaintext, in Bufs                  ciphertext, in lent Bufs
//!   engine ──read/write/flush/finish──▶ Transport ─┬─ Plain ─────────────────────▶ Socket (TCP │ Unix │ Duplex)
//!                                                  └─ Tls ── rustls, unbuffered ──▶ Socket
//! ```
//!
//! What rustls needs on its own account (writing in order to read, plaintext that waits while the socket is silent)
//! is translated here into the four verbs. [`sys`] is the one room of the crate that may say `unsafe`; `tls` is the one
//! file that names rustls.
//!
//! Not here: HTTP, readiness and its bookkeeping (`engine`), the clock.

pub(crate) mod kernel_pipe;
pub(crate) mod listen;
pub(crate) mod proxy;
pub(crate) mod socket;
pub(crate) mod sys;
#[cfg(feature = "tls")]
pub(crate) mod tls;

use std::{
    fs::File,
    io::{self, IoSlice},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use kernel_pipe::{KernelPipe, KernelPipes};
pub(crate) use listen::{Accepted, Listener};
pub(crate) use socket::Socket;
#[cfg(feature = "client")]
pub(crate) use sys::interface_index;
#[cfg(feature = "tls")]
pub use tls::{Tls, TlsBuilder, TlsClient, TlsClientBuilder, TlsError};

use crate::base::{buf::Buf, duplex::PeerSide, pool::Pool};

/// What secures the connections of a listener, if anything does.
#[cfg(feature = "tls")]
pub(crate) type Security = Option<Tls>;
#[cfg(not(feature = "tls"))]
pub(crate) type Security = Option<Never>;

/// What secures an outgoing connection, if anything does: who is believed, and the name the peer has to prove.
#[cfg(feature = "tls")]
pub(crate) type Trust = Option<(TlsClient, Box<str>)>;
#[cfg(not(feature = "tls"))]
pub(crate) type Trust = Option<Never>;

/// There is none.
#[cfg(not(feature = "tls"))]
#[derive(Clone, Debug)]
pub(crate) enum Never {}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    /// Some bytes were appended (over TLS possibly none: a handshake went on). `drained`: the socket has no more for
    /// now, and nothing is held back here; a new event will tell of more.
    Data { drained: bool },
    /// Nothing was there.
    Blocked,
    /// There was no buffer to read into (over TLS).
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "only TLS needs a buffer of its own"))]
    Starved,
    /// The peer has finished. `clean`: in the way its transport prescribes (FIN; over TLS close_notify); otherwise
    /// the stream was cut off, and what came before may be truncated.
    End { clean: bool },
}

/// What splicing brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spliced {
    /// So many bytes were moved. Fewer than asked for says nothing about the socket.
    Bytes(usize),
    /// The socket has nothing, or takes nothing.
    Blocked,
    /// The peer has finished.
    End,
    /// The system does not splice this socket.
    Unable,
}

/// A refusal of splice itself is no fault of the connection.
fn unable_or(error: io::Error) -> io::Result<Spliced> {
    match error.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied => {
            Ok(Spliced::Unable)
        }
        _ => Err(error),
    }
}

/// A kernel pipe from the pool, or a new one; `None` if there are enough of them, or the system refuses.
pub(crate) fn kernel_pipe(pool: &Arc<KernelPipes>) -> Option<KernelPipe> {
    pool.take(sys::kernel_pipe)
}

/// From the kernel pipe to a socket.
fn splice_out(pipe: &mut KernelPipe, socket: BorrowedFd<'_>, most: usize) -> io::Result<Spliced> {
    debug_assert!(most > 0 && most <= pipe.len());
    let Some(ends) = pipe.ends() else { return Ok(Spliced::Unable) };
    match sys::splice(ends.read.as_fd(), socket, most) {
        Ok(n) => {
            pipe.taken_out(n);
            Ok(Spliced::Bytes(n))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Spliced::Blocked),
        Err(error) => unable_or(error),
    }
}

/// From the kernel pipe to a socket that was lent; how much went. What can't be spliced, its owner finds out.
pub(crate) fn pass_on(socket: BorrowedFd<'_>, pipe: &mut KernelPipe, most: usize) -> io::Result<usize> {
    match splice_out(pipe, socket, most)? {
        Spliced::Bytes(n) => Ok(n),
        Spliced::Blocked | Spliced::End | Spliced::Unable => Ok(0),
    }
}

/// Why a transport can't go on.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "tls"),
    expect(dead_code, reason = "only TLS can't go on for other reasons than the system's")
)]
pub(crate) enum Fault {
    /// The operating system's word.
    Io(io::Error),
    /// A plain HTTP request on a TLS port: it can be answered in plain text, with [`Transport::write_plain`].
    PlainHttp,
    /// The peer broke TLS, or no version, suite or certificate was agreed upon. An alert was sent if it could be.
    Tls(String),
}

/// Why there is no PROXY header.
#[derive(Debug)]
pub(crate) enum ProxyFault {
    Io(io::Error),
    /// The peer has finished before it was whole.
    Closed,
    /// What is there is none; why.
    Bad(&'static str),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A connected stream of plaintext.
pub(crate) struct Transport {
    socket: Socket,
    #[cfg(feature = "tls")]
    tls: Option<Box<tls::TlsConn>>,
}

impl Transport {
    /// A transport over a socket that was accepted where that security was set up.
    pub(crate) fn accepted(socket: Socket, security: &Security) -> Result<Self, Fault> {
        #[cfg(feature = "tls")]
        if let Some(tls) = security {
            let conn = tls::TlsConn::accept(tls)?;
            return Ok(Self { socket, tls: Some(Box::new(conn)) });
        }
        let _ = security;
        Ok(Self::plain(socket))
    }

    /// A transport over a socket that connects, or has connected.
    pub(crate) fn dialed(socket: Socket, trust: &Trust) -> Result<Self, Fault> {
        #[cfg(feature = "tls")]
        if let Some((tls, name)) = trust {
            let conn = tls::TlsConn::connect(tls, name)?;
            return Ok(Self { socket, tls: Some(Box::new(conn)) });
        }
        let _ = trust;
        Ok(Self::plain(socket))
    }

    pub(crate) fn plain(socket: Socket) -> Self {
        Self {
            socket,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    pub(crate) fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }

    /// Reads the PROXY header at the front of a connection from which nothing was read so far, and takes it out of the
    /// socket, but not a byte behind it: that may be TLS. `None`: it is not whole yet.
    pub(crate) fn read_proxy_header(&mut self) -> Result<Option<proxy::ProxyHeader>, ProxyFault> {
        let mut front = [0; proxy::MOST];
        let n = match sys::peek(&self.socket, &mut front) {
            Ok(0) => return Err(ProxyFault::Closed),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(ProxyFault::Io(error)),
        };
        let Some(said) = proxy::parse(&front[..n]).map_err(ProxyFault::Bad)? else { return Ok(None) };
        // They were seen to be there: one read has them all.
        match self.socket.read(&mut front[..said.len]) {
            Ok(n) if n == said.len => Ok(Some(said)),
            Ok(_) => Err(ProxyFault::Closed),
            Err(error) => Err(ProxyFault::Io(error)),
        }
    }

    /// Whether bytes go to a socket of the system's as they are: then [`sendfile`](Self::sendfile) and splicing work, a
    /// read takes no more than it is allowed to, and dropping it is an end in order.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_none() && self.socket.is_systems();
        #[cfg(not(feature = "tls"))]
        self.socket.is_systems()
    }

    /// Returns `true` if a read may bring a record more than it is asked for.
    #[inline]
    pub(crate) fn has_records(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }

    #[inline]
    pub(crate) fn is_handshaking(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.as_ref().is_some_and(|tls| tls.is_handshaking());
        #[cfg(not(feature = "tls"))]
        false
    }

    /// Appends to `into` what can be had, with one system call at the most. On a plain transport at most `most`
    /// bytes and never more than the spare room; over TLS `most` is a wish, and `into` may grow by one record.
    #[inline(always)]
    pub(crate) fn read(&mut self, into: &mut Buf, most: usize, pool: &mut Pool) -> Result<Got, Fault> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            return tls.read(&mut self.socket, into, most, pool);
        }
        let _ = &pool;
        let spare = into.spare();
        let room = spare.len().min(most);
        match self.socket.read(&mut spare[..room]) {
            Ok(0) if room > 0 => Ok(Got::End { clean: true }),
            Ok(n) => {
                into.commit(n);
                Ok(Got::Data { drained: n < room })
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Got::Blocked),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends from the front of `pieces`; how many bytes were taken over. Fewer than all: the socket is full.
    #[inline(always)]
    pub(crate) fn write(&mut self, pieces: &[IoSlice<'_>], pool: &mut Pool) -> Result<usize, Fault> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            return tls.write(&mut self.socket, pieces, pool);
        }
        let _ = &pool;
        self.write_plain(pieces).map_err(Fault::Io)
    }

    /// To the socket as it is, whatever the transport. Only for an answer to [`Fault::PlainHttp`].
    #[inline(always)]
    pub(crate) fn write_plain(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.socket.write(pieces) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            result => result,
        }
    }

    /// Sends what the transport itself still holds (ciphertext). `true`: nothing is left.
    #[inline]
    pub(crate) fn flush(&mut self, pool: &mut Pool) -> Result<bool, Fault> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            return tls.flush(&mut self.socket, pool);
        }
        let _ = &pool;
        Ok(true)
    }

    /// Ends our side in order: close_notify over TLS, then FIN. `false`: not all of it could go out yet; call again
    /// when the socket is writable.
    pub(crate) fn finish(&mut self, pool: &mut Pool) -> Result<bool, Fault> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls
            && !tls.finish(&mut self.socket, pool)?
        {
            return Ok(false);
        }
        let _ = &pool;
        self.socket.shutdown_write()?;
        Ok(true)
    }

    /// Gives back lent buffers that hold nothing.
    #[inline]
    pub(crate) fn settle(&mut self, pool: &mut Pool) {
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            tls.settle(pool);
        }
        let _ = &pool;
    }

    /// Returns `true` if the last write took less than it was given because there was no buffer to seal it in, and not because the
    /// socket takes no more.
    pub(crate) fn lacks_buffer(&self, pool: &Pool) -> bool {
        !self.is_plain() && !self.has_pending() && pool.has_refused()
    }

    /// The buffers it has been lent and keeps.
    pub(crate) fn lent_buffers(&self) -> usize {
        #[cfg(feature = "tls")]
        return self.tls.as_ref().map_or(0, |tls| tls.lent_buffers());
        #[cfg(not(feature = "tls"))]
        0
    }

    /// Gives back lent buffers, whatever they hold: the connection is over.
    pub(crate) fn release(&mut self, pool: &mut Pool) {
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            tls.release(pool);
        }
        let _ = &pool;
    }

    /// Whether the transport itself still holds something to send.
    #[inline]
    pub(crate) fn has_pending(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.as_ref().is_some_and(|tls| tls.pending() > 0);
        #[cfg(not(feature = "tls"))]
        false
    }

    /// Bytes handed over that the peer's system has not acknowledged yet; `None` where the system can't tell.
    pub(crate) fn unacknowledged(&self) -> Option<u64> {
        let queued = sys::unacknowledged(&self.socket)?;
        #[cfg(feature = "tls")]
        let queued = queued + self.tls.as_ref().map_or(0, |tls| tls.pending() as u64);
        Some(queued)
    }

    /// Where on the wire the plaintext handed over so far ends, of which there are `sent` bytes.
    pub(crate) fn on_wire(&self, sent: u64) -> u64 {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return tls.sealed();
        }
        sent
    }

    /// From a file to a plain socket, without passing through the process; how many bytes went. 0: the socket is full.
    pub(crate) fn sendfile(&mut self, file: &File, offset: u64, most: u64) -> io::Result<u64> {
        debug_assert!(self.is_plain());
        match sys::sendfile(&self.socket, file, offset, most) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Ok(0) if most > 0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file has become shorter")),
            result => result,
        }
    }

    /// What the peer has done, if this is a stream within the process.
    pub(crate) fn peer_side(&self) -> Option<PeerSide> {
        self.socket.peer_side()
    }

    /// What was agreed upon by ALPN.
    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        #[cfg(feature = "tls")]
        return self.tls.as_ref().and_then(|tls| tls.alpn_protocol());
        #[cfg(not(feature = "tls"))]
        None
    }

    /// Whether [`set_low_water`](Self::set_low_water) does anything.
    pub(crate) fn has_low_water(&self) -> bool {
        cfg!(target_os = "linux") && self.is_plain() && self.socket.is_tcp()
    }

    /// A hint: from here on it is an event only when there are so many bytes to be read, the peer has finished or is gone,
    /// or the system has no room for more.
    pub(crate) fn set_low_water(&self, bytes: usize) {
        debug_assert!(self.has_low_water());
        sys::set_low_water(&self.socket, bytes);
    }

    /// From a plain socket into an empty kernel pipe, without passing through the process.
    ///
    /// Into an empty one, because the system says the same of a socket that has nothing and of a pipe that is full; and
    /// a pipe is full of a few bytes, if they came in as many pieces as it has pages.
    pub(crate) fn splice_in(&mut self, pipe: &mut KernelPipe, most: usize) -> Result<Spliced, Fault> {
        debug_assert!(self.is_plain() && pipe.is_empty() && most > 0);
        let Some(ends) = pipe.ends() else { return Ok(Spliced::Unable) };
        match sys::splice(self.socket.fd()?, ends.write.as_fd(), most) {
            Ok(0) => Ok(Spliced::End),
            Ok(n) => {
                pipe.put_in(n);
                Ok(Spliced::Bytes(n))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Spliced::Blocked),
            Err(error) => Ok(unable_or(error)?),
        }
    }

    /// From the kernel pipe to a plain socket.
    pub(crate) fn splice_out(&mut self, pipe: &mut KernelPipe, most: usize) -> Result<Spliced, Fault> {
        debug_assert!(self.is_plain());
        Ok(splice_out(pipe, self.socket.fd()?, most)?)
    }

    /// A second descriptor for a plain socket, on which others can [pass](pass_on) spliced bytes on.
    pub(crate) fn lend(&self) -> io::Result<OwnedFd> {
        debug_assert!(self.is_plain());
        self.socket.fd()?.try_clone_to_owned()
    }

    /// The TLS connection's facts, if it is one.
    #[cfg(feature = "tls")]
    pub(crate) fn tls_conn(&self) -> Option<&tls::TlsConn> {
        self.tls.as_deref()
    }
}
