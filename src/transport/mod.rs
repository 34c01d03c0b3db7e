//! Bytes on and off sockets. TLS ends here: the layers above see only plaintext.
//!
//! ```text
//!                 plaintext, in Bufs                  ciphertext, in lent Bufs
//!   engine ──read/write/flush/finish──▶ Transport ─┬─ Plain ─────────────────────▶ Socket (TCP │ Unix │ Duplex)
//!                                                  └─ Tls ── rustls, unbuffered ──▶ Socket
//! ```
//!
//! rustls has needs of its own: it writes in order to read, and holds plaintext while the socket is silent. Here they
//! are translated into the four verbs. [`sys`] is the only module of the crate with `unsafe` code; `tls` is the only
//! one that names rustls.
//!
//! Not here: HTTP, readiness and its bookkeeping (`engine`), the clock.

pub(crate) mod kernel_pipe;
pub(crate) mod listen;
pub(crate) mod proxy;
pub(crate) mod socket;
mod splice;
pub(crate) mod sys;
#[cfg(feature = "tls")]
pub(crate) mod tls;

use std::{
    fmt,
    fs::File,
    io::{self, IoSlice},
};

pub(crate) use listen::{Accepted, Listener};
pub(crate) use socket::Socket;
pub(crate) use splice::{Spliced, kernel_pipe, pass_on};
#[cfg(feature = "client")]
pub(crate) use sys::interface_index;
#[cfg(feature = "tls")]
pub use tls::{Tls, TlsBuilder, TlsClient, TlsClientBuilder, TlsError, TlsVersion};

use crate::base::{buf::Buf, duplex::PeerSide, pool::Pool};

/// The TLS configuration of a listener's connections, if they have any.
#[cfg(feature = "tls")]
pub(crate) type Security = Option<Tls>;
#[cfg(not(feature = "tls"))]
pub(crate) type Security = Option<Never>;

/// The TLS configuration of an outbound connection, if it has any: the trusted roots, and the name that the peer must
/// prove.
#[cfg(feature = "tls")]
pub(crate) type Trust = Option<(TlsClient, Box<str>)>;
#[cfg(not(feature = "tls"))]
pub(crate) type Trust = Option<Never>;

/// No value exists.
#[cfg(not(feature = "tls"))]
#[derive(Clone, Debug)]
pub(crate) enum Never {}

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    /// Bytes were appended (over TLS possibly none: the handshake advanced). `drained`: the socket has no more for now,
    /// and the transport holds nothing back; a new event will report more.
    Data { drained: bool },
    /// No byte was available.
    Blocked,
    /// No buffer to read into was available (over TLS).
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "only TLS needs a buffer of its own"))]
    Starved,
    /// The peer has ended its side. `clean`: in the way its transport prescribes (FIN; over TLS close_notify).
    /// Otherwise the stream is truncated.
    End { clean: bool },
}

/// The reason why a transport cannot continue.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "tls"),
    expect(dead_code, reason = "only TLS can't go on for other reasons than the system's")
)]
pub(crate) enum Fault {
    /// An error of the operating system.
    Io(io::Error),
    /// A plain HTTP request on a TLS port. Its bytes were appended as those of a read.
    /// [`Transport::write_plain`] can send a plain response.
    PlainHttp,
    /// The peer broke TLS, or no common version, suite or certificate was found. An alert was sent if that was
    /// possible.
    Tls(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::PlainHttp => f.write_str("plain HTTP on a TLS port"),
            Self::Tls(text) => write!(f, "TLS: {text}"),
        }
    }
}

/// The reason why a connection has no valid PROXY header.
#[derive(Debug)]
pub(crate) enum ProxyFault {
    Io(io::Error),
    /// The peer ended its side before the header was complete.
    Closed,
    /// The bytes are not a valid header, for this reason.
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
    /// Returns a transport over an accepted socket, with the security of its listener. `http2`: clients may use HTTP/2.
    pub(crate) fn accepted(socket: Socket, security: &Security, http2: bool) -> Result<Self, Fault> {
        #[cfg(feature = "tls")]
        if let Some(tls) = security {
            let conn = tls::TlsConn::accept(tls, http2)?;
            return Ok(Self { socket, tls: Some(Box::new(conn)) });
        }
        let _ = (security, http2);
        Ok(Self::plain(socket))
    }

    /// Returns a transport over an outbound socket, connected or not.
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

    pub(crate) fn socket_ref(&self) -> &Socket {
        &self.socket
    }

    /// Reads the PROXY header at the front of a connection from which no byte was read yet. Takes it out of the socket,
    /// but no byte after it: that may be TLS. Returns `None` while it is incomplete.
    pub(crate) fn read_proxy_header(&mut self) -> Result<Option<proxy::ProxyHeader>, ProxyFault> {
        let mut front = [0; proxy::MOST];
        let n = match sys::peek(&self.socket, &mut front) {
            Ok(0) => return Err(ProxyFault::Closed),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(ProxyFault::Io(error)),
        };
        let Some(header) = proxy::parse(&front[..n]).map_err(ProxyFault::Bad)? else { return Ok(None) };
        // The peek has seen all of them: one read returns them.
        match self.socket.read(&mut front[..header.len]) {
            Ok(n) if n == header.len => Ok(Some(header)),
            Ok(_) => Err(ProxyFault::Closed),
            Err(error) => Err(ProxyFault::Io(error)),
        }
    }

    /// Returns `true` if bytes go unchanged to a socket of the system. Then [`sendfile`](Self::sendfile) and splicing
    /// work, a read takes no more than it is allowed to, and dropping the socket half-closes.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_none() && self.socket.is_systems();
        #[cfg(not(feature = "tls"))]
        self.socket.is_systems()
    }

    /// Returns `true` if a read may bring one record more than requested.
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

    /// Appends available bytes to `into`, with at most one system call. On a plain transport at most `most` bytes, and
    /// never more than the spare space. Over TLS `most` is a hint, and `into` may grow by one record.
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

    /// Sends from the front of `pieces`. Returns how many bytes were taken; fewer than all if the socket is full.
    #[inline(always)]
    pub(crate) fn write(&mut self, pieces: &[IoSlice<'_>], pool: &mut Pool) -> Result<usize, Fault> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            return tls.write(&mut self.socket, pieces, pool);
        }
        let _ = &pool;
        self.write_plain(pieces).map_err(Fault::Io)
    }

    /// Writes to the socket directly, whatever the transport. Only for a response to [`Fault::PlainHttp`].
    #[inline(always)]
    pub(crate) fn write_plain(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.socket.write(pieces) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            result => result,
        }
    }

    /// Goes on without TLS. Only after [`Fault::PlainHttp`].
    #[cfg(feature = "http2")]
    #[cold]
    pub(crate) fn become_plain(&mut self, pool: &mut Pool) {
        #[cfg(feature = "tls")]
        if let Some(mut tls) = self.tls.take() {
            tls.release(pool);
        }
        let _ = pool;
    }

    /// Sends the ciphertext that the transport still holds, or the end of a message on a stream of HTTP/2. Returns
    /// `true` if nothing is left.
    #[inline]
    pub(crate) fn flush(&mut self, pool: &mut Pool) -> Result<bool, Fault> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            return tls.flush(&mut self.socket, pool);
        }
        let _ = &pool;
        self.socket.flush().map_err(Fault::Io)
    }

    /// Half-closes: close_notify over TLS, then FIN. Returns `false` if not all of it could be sent; call again when
    /// the socket is writable.
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

    /// Returns empty lent buffers to the pool.
    #[inline]
    pub(crate) fn settle(&mut self, pool: &mut Pool) {
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            tls.settle(pool);
        }
        let _ = &pool;
    }

    /// Returns `true` if the last write took less than it was given for want of a buffer to seal it in, and not because
    /// the socket is full.
    pub(crate) fn lacks_buffer(&self, pool: &Pool) -> bool {
        self.has_records() && !self.has_pending() && pool.is_exhausted()
    }

    /// Returns the number of lent buffers that it keeps.
    pub(crate) fn lent_buffers(&self) -> usize {
        #[cfg(feature = "tls")]
        return self.tls.as_ref().map_or(0, |tls| tls.lent_buffers());
        #[cfg(not(feature = "tls"))]
        0
    }

    /// Returns lent buffers to the pool, whatever they hold: the connection is over.
    pub(crate) fn release(&mut self, pool: &mut Pool) {
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            tls.release(pool);
        }
        let _ = &pool;
    }

    /// Returns `true` if [`flush`](Self::flush) has something to send.
    #[inline]
    pub(crate) fn has_pending(&self) -> bool {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return tls.pending() > 0;
        }
        self.socket.has_pending()
    }

    /// Returns how many bytes the peer's system has not acknowledged yet; `None` if the system cannot report it.
    pub(crate) fn unacknowledged(&self) -> Option<u64> {
        let queued = sys::unacknowledged(&self.socket)?;
        #[cfg(feature = "tls")]
        let queued = queued + self.tls.as_ref().map_or(0, |tls| tls.pending() as u64);
        Some(queued)
    }

    /// Returns the position on the wire after `sent` bytes of plaintext.
    pub(crate) fn on_wire(&self, sent: u64) -> u64 {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return tls.sealed();
        }
        sent
    }

    /// Sends from a file to a plain socket, without passing through the process. Returns the number of bytes; 0 if the
    /// socket is full.
    pub(crate) fn sendfile(&mut self, file: &File, offset: u64, most: u64) -> io::Result<u64> {
        debug_assert!(self.is_plain());
        match sys::sendfile(&self.socket, file, offset, most) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Ok(0) if most > 0 => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file was truncated while it was sent"))
            }
            result => result,
        }
    }

    /// Returns what the peer of a stream within the process has done; `None` for a socket of the system.
    pub(crate) fn peer_side(&self) -> Option<PeerSide> {
        self.socket.peer_side()
    }

    /// Returns the protocol that ALPN selected.
    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        #[cfg(feature = "tls")]
        return self.tls.as_ref().and_then(|tls| tls.alpn_protocol());
        #[cfg(not(feature = "tls"))]
        None
    }

    /// Returns `true` if [`set_low_water`](Self::set_low_water) has an effect.
    pub(crate) fn has_low_water(&self) -> bool {
        cfg!(target_os = "linux") && self.is_plain() && self.socket.is_tcp()
    }

    /// Asks the system to report the socket as readable only from so many bytes on; or if the peer has half-closed or
    /// disconnected, or the receive buffer is full. A hint.
    pub(crate) fn set_low_water(&self, bytes: usize) {
        debug_assert!(self.has_low_water());
        sys::set_low_water(&self.socket, bytes);
    }

    /// Returns the TLS connection, if there is one.
    #[cfg(feature = "tls")]
    pub(crate) fn tls_conn(&self) -> Option<&tls::TlsConn> {
        self.tls.as_deref()
    }
}
