//! One TLS connection, ours either as the server or as the client, as four verbs over plaintext.
//!
//! What the two sides have in common is in [`records`](super::records); what is theirs alone is few things: a server
//! is asked for a name and may be spoken to in plain HTTP by mistake, a client begins, and says whom it expects.

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
    /// Bytes of ciphertext given to the socket, ever.
    given: u64,
    /// The name the client asked for.
    name: Option<Box<str>>,
    /// The first byte has come.
    begun: bool,
    /// What is to go is but a ticket, which can go with the answer.
    ticket: bool,
    /// Our close_notify is on its way or gone, or there can be none any more.
    finished: bool,
    /// TLS was broken; nothing more may be asked of rustls.
    failed: bool,
}

/// Who we are.
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
    /// The server's end of a connection that begins now.
    pub(crate) fn accept(tls: &Tls) -> Result<Self, Fault> {
        let rustls = UnbufferedServerConnection::new(tls.config()).map_err(|error| Fault::Tls(error.to_string()))?;
        Ok(Self::new(Rustls::Server(rustls), None))
    }

    /// The client's end of a connection to `name`. Its first words wait to be sent by [`flush`](Self::flush).
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

    /// Appends plaintext to `into`: of what is held first, then of what one system call brings. `most` is a wish:
    /// the record that reaches it is taken whole. Whatever handshaking wants to say goes to the socket at once.
    ///
    /// Without a buffer to be had from the pool, nothing is read: [`Got::Starved`], or what was there before.
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
            return Err(Fault::Tls("the connection has failed before".into()));
        }
        if had_some && into.len() >= until || !pool.lend(&mut self.records.rx) {
            return Ok(if had_some { Got::Data { drained: false } } else { Got::Starved });
        }
        self.records.rx.compact();
        // Little is wanted: no more than one record, so that what is held does not keep a lent buffer. Only a message of
        // the handshake may be longer.
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
            // A handshake record begins with 0x16, a request with a method, an answer with `HTTP/1.1`.
            if self.records.rx.filled()[0].is_ascii_uppercase() {
                (self.failed, self.finished) = (true, true);
                self.records.rx.consume(n);
                return Err(match self.rustls {
                    Rustls::Server(_) => Fault::PlainHttp,
                    Rustls::Client(_) => Fault::Tls("the peer answers in plain text: is this its TLS port?".into()),
                });
            }
        }
        let handshaking = self.rustls.state().is_handshaking();
        self.open(socket, into, until, pool)?;
        let some = into.len() > before;
        if !self.records.tx.is_empty() {
            // The last flight of a TLS 1.3 server is a ticket, which nobody waits for: it goes with the answer, if
            // there will be one. (In 1.2 it is what the client waits for.)
            let is_server = matches!(self.rustls, Rustls::Server(_));
            self.ticket = is_server
                && handshaking
                && some
                && self.rustls.state().protocol_version() == Some(ProtocolVersion::TLSv1_3);
            if !self.ticket {
                // A failure is the next write's, flush's or recv's to report: the peer may have sent its last
                // request and closed, not waiting for what we have to say.
                let _ = self.send(socket);
            }
        }
        match self.records.end {
            Some(clean) if !some => Ok(Got::End { clean }),
            end => Ok(Got::Data { drained: n < room && !self.records.held && end.is_none() }),
        }
    }

    /// Encrypts from the front of `pieces` and sends; how many bytes of plaintext were taken over. Fewer than all:
    /// the socket is full (and at most one buffer of ciphertext waits), no buffer can be lent, or the handshake is
    /// still going on.
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

    /// Sends what is to go. `true`: nothing is left.
    pub(crate) fn flush(&mut self, socket: &mut Socket, pool: &mut Pool) -> Result<bool, Fault> {
        self.collect(pool).map_err(Fault::Tls)?;
        Ok(self.send(socket)?)
    }

    /// Says close_notify, once, behind all that was written. `true`: it is out. While the handshake is going on there
    /// is nothing to be ended.
    pub(crate) fn finish(&mut self, socket: &mut Socket, pool: &mut Pool) -> Result<bool, Fault> {
        if !self.finished {
            let said = match &mut self.rustls {
                Rustls::Server(server) => self.records.say_goodbye(server, pool),
                Rustls::Client(client) => self.records.say_goodbye(client, pool),
            };
            self.finished = true;
            said.map_err(Fault::Tls)?;
        }
        self.flush(socket, pool)
    }

    /// Bytes of ciphertext that the socket has not taken yet.
    pub(crate) fn pending(&self) -> usize {
        self.records.tx.len()
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.rustls.state().is_handshaking()
    }

    /// Gives back buffers that hold nothing, and exchanges those that hold little.
    pub(crate) fn settle(&mut self, pool: &mut Pool) {
        pool.settle(&mut self.records.rx);
        pool.settle(&mut self.records.tx);
    }

    /// The buffers it has been lent and keeps.
    pub(crate) fn lent_buffers(&self) -> usize {
        [&self.records.rx, &self.records.tx].into_iter().filter(|buf| pool::is_lent(buf)).count()
    }

    /// Gives back all buffers, whatever they hold.
    pub(crate) fn release(&mut self, pool: &mut Pool) {
        for buf in [&mut self.records.rx, &mut self.records.tx] {
            pool.take_back(buf.take_store());
        }
        // What rustls says about its place in `rx` is not true any more.
        (self.failed, self.finished, self.records.held) = (true, true, false);
    }

    /// The name the client asked for (SNI); as a client, the one that was dialled.
    pub(crate) fn server_name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// What the peer has shown and we have verified: its own certificate first.
    pub(crate) fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.rustls.state().peer_certificates()
    }

    /// As it is written: `TLSv1.3`.
    pub(crate) fn protocol_version(&self) -> Option<&'static str> {
        match self.rustls.state().protocol_version()? {
            ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
            ProtocolVersion::TLSv1_3 => Some("TLSv1.3"),
            _ => None,
        }
    }

    /// What was agreed upon.
    pub(crate) fn alpn_protocol(&self) -> Option<&[u8]> {
        self.rustls.state().alpn_protocol()
    }

    /// In full, or resumed.
    #[cfg(test)]
    pub(crate) fn handshake_kind(&self) -> Option<rustls::HandshakeKind> {
        self.rustls.state().handshake_kind()
    }

    /// Bytes of ciphertext made, ever: those given to the socket, and those that wait.
    pub(crate) fn sealed(&self) -> u64 {
        self.given + self.records.tx.len() as u64
    }

    /// Gives the socket what is to go. `true`: it took all. A short write means that it is full: no second one tries.
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

    /// Takes over what rustls wants to say on its own.
    fn collect(&mut self, pool: &mut Pool) -> Result<(), String> {
        match &mut self.rustls {
            Rustls::Server(server) => self.records.collect(server, pool),
            Rustls::Client(client) => self.records.collect(client, pool),
        }
    }

    /// The connection can't go on; the alert that says so is sent if the socket takes it.
    #[cold]
    fn fail(&mut self, socket: &mut Socket, error: impl Into<String>, pool: &mut Pool) -> Fault {
        (self.failed, self.finished, self.records.held) = (true, true, false);
        let _ = self.collect(pool);
        let _ = self.send(socket);
        self.records.rx.consume(self.records.rx.len());
        Fault::Tls(error.into())
    }
}
