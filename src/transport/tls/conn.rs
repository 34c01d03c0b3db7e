//! One TLS connection, as server or client, with four verbs over plaintext.
//!
//! [`records`](super::records) is common to both sides. Little is specific: a server asks for a certificate by
//! name, and may receive plain HTTP by mistake; a client begins, and names the server that it expects.

use std::io::{self, IoSlice};

use rustls::{
    CommonState, ProtocolVersion,
    client::UnbufferedClientConnection,
    pki_types::{CertificateDer, ServerName},
    server::UnbufferedServerConnection,
};

use super::{
    Tls, TlsClient,
    config::take_asked_for,
    records::{Pieces, RECEIVED, Records},
};
use crate::{
    base::{
        buf::Buf,
        pool::{self, LENT, Pool},
    },
    transport::{Fault, Got, Socket},
};

/// Our end of one connection.
pub(crate) struct TlsConn {
    rustls: Rustls,
    records: Records,
    /// Bytes of ciphertext given to the socket so far.
    given: u64,
    /// The name the client asked for.
    name: Option<Box<str>>,
    /// The first byte has arrived.
    begun: bool,
    /// The output is only a ticket, which can go with the response.
    ticket: bool,
    /// Our close_notify is waiting or was sent, or none can be sent any more.
    finished: bool,
    /// TLS has failed; rustls must not be called again.
    failed: bool,
}

/// Our role.
enum Rustls {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

impl Rustls {
    fn state(&self) -> &CommonState {
        match self {
            Self::Server(server) => server,
            Self::Client(client) => client,
        }
    }
}

impl TlsConn {
    /// Returns the server's end of a new connection. `http2`: ALPN may select HTTP/2.
    pub(crate) fn accept(tls: &Tls, http2: bool) -> Result<Self, Fault> {
        let rustls =
            UnbufferedServerConnection::new(tls.config(http2)).map_err(|error| Fault::Tls(error.to_string()))?;
        Ok(Self::new(Rustls::Server(rustls), None))
    }

    /// Returns the client's end of a connection to `name`. Its first message waits to be sent by
    /// [`flush`](Self::flush).
    pub(crate) fn connect(tls: &TlsClient, name: &str) -> Result<Self, Fault> {
        let server = ServerName::try_from(name).map_err(|error| Fault::Tls(error.to_string()))?.to_owned();
        let rustls =
            UnbufferedClientConnection::new(tls.config(), server).map_err(|error| Fault::Tls(error.to_string()))?;
        Ok(Self::new(Rustls::Client(rustls), Some(name.into())))
    }

    fn new(rustls: Rustls, name: Option<Box<str>>) -> Self {
        Self {
            rustls,
            records: Records::default(),
            given: 0,
            name,
            begun: false,
            ticket: false,
            finished: false,
            failed: false,
        }
    }

    /// Appends plaintext to `into`: first from what is held, then from one system call. `most` is a hint: the record
    /// that reaches it is taken completely. Handshake output goes to the socket at once.
    ///
    /// If the pool lends no buffer, nothing is read: it returns [`Got::Starved`], or the plaintext that was there
    /// before.
    pub(crate) fn read(
        &mut self,
        socket: &mut Socket,
        into: &mut Buf,
        most: usize,
        pool: &mut Pool,
    ) -> Result<Got, Fault> {
        let before = into.len();
        let until = before.saturating_add(most.max(1));
        if self.records.held {
            self.open(socket, into, until, pool)?;
            if self.records.held {
                return Ok(Got::Data { drained: false });
            }
        }
        let had_some = into.len() > before;
        if let Some(clean) = self.records.end {
            return Ok(if had_some { Got::Data { drained: false } } else { Got::End { clean } });
        }
        if self.failed {
            return Err(Fault::Tls("the connection has already failed".into()));
        }
        if had_some && into.len() >= until || !pool.lend(&mut self.records.rx) {
            return Ok(if had_some { Got::Data { drained: false } } else { Got::Starved });
        }
        self.records.rx.compact();
        // If little is wanted, it reads no more than one record, so that held bytes do not keep a lent buffer. Only a
        // handshake message may be longer.
        let longer = self.records.rx.len() >= RECEIVED && self.rustls.state().is_handshaking();
        let hold = if most < LENT && !longer { RECEIVED } else { usize::MAX };
        let room = self.records.rx.spare().len().min(hold.saturating_sub(self.records.rx.len()));
        if room == 0 {
            return Err(self.fail(socket, "a handshake message is too large", pool));
        }
        let n = match socket.read(&mut self.records.rx.spare()[..room]) {
            Ok(0) => {
                self.records.end = Some(false);
                return Ok(if had_some { Got::Data { drained: false } } else { Got::End { clean: false } });
            }
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Ok(if had_some { Got::Data { drained: true } } else { Got::Blocked });
            }
            Err(error) => return Err(error.into()),
        };
        self.records.rx.commit(n);
        if !self.begun {
            self.begun = true;
            // A handshake record begins with 0x16, a request with a method, a response with `HTTP/1.1`.
            if self.records.rx.filled()[0].is_ascii_uppercase() {
                (self.failed, self.finished) = (true, true);
                into.push(self.records.rx.filled());
                self.records.rx.consume(n);
                return Err(match self.rustls {
                    Rustls::Server(_) => Fault::PlainHttp,
                    Rustls::Client(_) => Fault::Tls("the peer sent plain text: check that this is its TLS port".into()),
                });
            }
        }
        let handshaking = self.rustls.state().is_handshaking();
        self.open(socket, into, until, pool)?;
        let some = into.len() > before;
        if !self.records.tx.is_empty() {
            // The last flight of a TLS 1.3 server is a ticket, for which no client waits: it goes with the response, if
            // there will be one. (In 1.2 the client waits for it.)
            let is_server = matches!(self.rustls, Rustls::Server(_));
            self.ticket = is_server
                && handshaking
                && some
                && self.rustls.state().protocol_version() == Some(ProtocolVersion::TLSv1_3);
            if !self.ticket {
                // The next write, flush or recv reports a failure: the peer may have sent its last request and closed,
                // without waiting for this output.
                let _ = self.send(socket);
            }
        }
        match self.records.end {
            Some(clean) if !some => Ok(Got::End { clean }),
            end => Ok(Got::Data { drained: n < room && !self.records.held && end.is_none() }),
        }
    }

    /// Encrypts from the front of `pieces` and sends. Returns how many bytes of plaintext were taken. Fewer than all:
    /// the socket is full (and at most one buffer of ciphertext waits), no buffer can be lent, or the handshake is
    /// incomplete.
    pub(crate) fn write(
        &mut self,
        socket: &mut Socket,
        pieces: &[IoSlice<'_>],
        pool: &mut Pool,
    ) -> Result<usize, Fault> {
        if self.finished {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe).into());
        }
        if !self.ticket && !self.send(socket)? || self.rustls.state().is_handshaking() {
            return Ok(0);
        }
        let mut from = Pieces::new(pieces);
        let mut taken = 0;
        while from.skip_empty() && pool.lend(&mut self.records.tx) {
            let sealed = match &mut self.rustls {
                Rustls::Server(server) => self.records.seal(server, &mut from, pool),
                Rustls::Client(client) => self.records.seal(client, &mut from, pool),
            };
            let n = match sealed {
                Ok(n) => n,
                Err(error) => return Err(self.fail(socket, error, pool)),
            };
            taken += n;
            if !self.send(socket)? || n == 0 {
                break;
            }
        }
        Ok(taken)
    }

    /// Sends the waiting ciphertext. Returns `true` if nothing is left.
    pub(crate) fn flush(&mut self, socket: &mut Socket, pool: &mut Pool) -> Result<bool, Fault> {
        self.collect(pool).map_err(Fault::Tls)?;
        Ok(self.send(socket)?)
    }

    /// Sends close_notify, once, after everything that was written. Returns `true` if it is out. During the handshake
    /// there is nothing to end.
    pub(crate) fn finish(&mut self, socket: &mut Socket, pool: &mut Pool) -> Result<bool, Fault> {
        if !self.finished {
            let result = match &mut self.rustls {
                Rustls::Server(server) => self.records.say_goodbye(server, pool),
                Rustls::Client(client) => self.records.say_goodbye(client, pool),
            };
            self.finished = true;
            result.map_err(Fault::Tls)?;
        }
        self.flush(socket, pool)
    }

    /// Returns the bytes of ciphertext that the socket has not accepted yet.
    pub(crate) fn pending(&self) -> usize {
        self.records.tx.len()
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.rustls.state().is_handshaking()
    }

    /// Returns empty buffers to the pool, and exchanges those that hold little.
    pub(crate) fn settle(&mut self, pool: &mut Pool) {
        pool.settle(&mut self.records.rx);
        pool.settle(&mut self.records.tx);
    }

    /// Returns the number of lent buffers that it keeps.
    pub(crate) fn lent_buffers(&self) -> usize {
        [&self.records.rx, &self.records.tx].into_iter().filter(|buf| pool::is_lent(buf)).count()
    }

    /// Returns all buffers to the pool, whatever they hold.
    pub(crate) fn release(&mut self, pool: &mut Pool) {
        for buf in [&mut self.records.rx, &mut self.records.tx] {
            pool.take_back(buf.take_store());
        }
        // rustls's offset into `rx` is no longer valid.
        (self.failed, self.finished, self.records.held) = (true, true, false);
    }

    /// Returns the name the client asked for (SNI); as a client, the one that was dialled.
    pub(crate) fn server_name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns the verified certificates of the peer: its own first.
    pub(crate) fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.rustls.state().peer_certificates()
    }

    /// Returns the version as it is written: `TLSv1.3`.
    pub(crate) fn protocol_version(&self) -> Option<&'static str> {
        match self.rustls.state().protocol_version()? {
            ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
            ProtocolVersion::TLSv1_3 => Some("TLSv1.3"),
            _ => None,
        }
    }

    /// Returns the name of the cipher suite, once it is negotiated.
    pub(crate) fn cipher_suite(&self) -> Option<&'static str> {
        self.rustls.state().negotiated_cipher_suite()?.suite().as_str()
    }

    /// Returns the protocol that ALPN has selected.
    pub(crate) fn alpn_protocol(&self) -> Option<&[u8]> {
        self.rustls.state().alpn_protocol()
    }

    /// Returns the kind of the handshake: full or resumed.
    #[cfg(test)]
    pub(crate) fn handshake_kind(&self) -> Option<rustls::HandshakeKind> {
        self.rustls.state().handshake_kind()
    }

    /// Returns the bytes of ciphertext made so far: those given to the socket, and those that wait.
    pub(crate) fn sealed(&self) -> u64 {
        self.given + self.records.tx.len() as u64
    }

    /// Gives the waiting ciphertext to the socket. Returns `true` if it took all. A short write means that it is full:
    /// there is no second attempt.
    #[inline]
    fn send(&mut self, socket: &mut Socket) -> io::Result<bool> {
        if self.records.tx.is_empty() {
            return Ok(true);
        }
        self.ticket = false;
        match socket.write(&[IoSlice::new(self.records.tx.filled())]) {
            Ok(n) => {
                self.records.tx.consume(n);
                self.given += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(self.records.tx.is_empty())
    }

    /// Processes `rx`, appending plaintext until `into` has `until` bytes or no complete record is left.
    fn open(&mut self, socket: &mut Socket, into: &mut Buf, until: usize, pool: &mut Pool) -> Result<(), Fault> {
        let handshaking = self.rustls.state().is_handshaking();
        let result = match &mut self.rustls {
            Rustls::Server(server) => self.records.open(server, into, until, pool),
            Rustls::Client(client) => self.records.open(client, into, until, pool),
        };
        if handshaking && let Some(name) = take_asked_for() {
            self.name = Some(name);
        }
        result.map_err(|error| self.fail(socket, error, pool))
    }

    /// Takes over what rustls itself must send.
    fn collect(&mut self, pool: &mut Pool) -> Result<(), String> {
        match &mut self.rustls {
            Rustls::Server(server) => self.records.collect(server, pool),
            Rustls::Client(client) => self.records.collect(client, pool),
        }
    }

    /// Fails the connection; its alert is sent if the socket takes it.
    #[cold]
    fn fail(&mut self, socket: &mut Socket, error: impl Into<String>, pool: &mut Pool) -> Fault {
        (self.failed, self.finished, self.records.held) = (true, true, false);
        let _ = self.collect(pool);
        let _ = self.send(socket);
        self.records.rx.consume(self.records.rx.len());
        Fault::Tls(error.into())
    }
}
