//! One TLS connection, as four verbs over plaintext.
//!
//! ```text
//!            ┌──────────── handshake, alerts, tickets ───────────┐
//!            │                                                   ▼
//!   rx ── process_tls_records ── ReadTraffic ──▶ into     tx ──▶ socket
//!            │                                    ▲
//!            └── WriteTraffic ── pieces, encrypted┘
//! ```
//!
//! Four things about rustls's unbuffered connections that the code below depends on:
//!
//! - A record is processed per call; what it says comes back as one state. Bytes to send come before the next record.
//! - `EncodeTlsData` owns what it wants to send: if there is no room for it, it is lost. So there is always room.
//! - A handshake message in several records stays in `rx`, decrypted in place, and rustls keeps offsets into it. `rx`
//!   may be moved, but nothing may be taken from it except `discard`, and it must be shown whole at the next call: a
//!   shorter one panics. Only right behind application data (nothing can be half there) may it be shown empty.
//! - An answer to a KeyUpdate is not sent by itself, but in front of the next data: neither can it be forgotten, nor
//!   does a peer that sends thousands of them make us send anything.

use std::io::{self, IoSlice};

use rustls::{
    ProtocolVersion,
    pki_types::CertificateDer,
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic},
};

use super::{Tls, config::take_asked_for};
use crate::{
    base::{
        buf::Buf,
        pool::{LENT, Pool},
    },
    transport::{Fault, Got, Socket},
};

/// What a record has at most besides its plaintext (29 bytes in TLS 1.2, 22 in 1.3), generously.
const OVERHEAD: usize = 64;
/// Plaintext in a full record: a little less than the 16 KiB allowed, so that four of them, and a KeyUpdate or a
/// ticket before them, are one lent buffer and one send.
const RECORD: usize = LENT / 4 - 2 * OVERHEAD;
/// A smaller record than this is not made only because a lent buffer has just so much room left.
const WORTH_A_RECORD: usize = 1024;
/// Room that is made for a flight of the handshake when no buffer can be lent.
const FLIGHT: usize = 4096;

/// The server's end of one connection.
pub(crate) struct TlsConn {
    rustls: UnbufferedServerConnection,
    /// Ciphertext that came and was not processed yet.
    rx: Buf,
    /// Ciphertext that is to go.
    tx: Buf,
    /// Bytes of ciphertext given to the socket, ever.
    given: u64,
    /// The name the client asked for.
    name: Option<Box<str>>,
    /// The first byte has come.
    begun: bool,
    /// A complete record is in `rx`: `into` was full. Right behind application data, see above.
    held: bool,
    /// `tx` holds but a ticket, which can go with the answer.
    ticket: bool,
    /// The peer has ended the stream, cleanly or not.
    end: Option<bool>,
    /// Our close_notify is in `tx` or gone, or there can be none any more.
    finished: bool,
    /// TLS was broken; nothing more may be asked of rustls.
    failed: bool,
}

impl TlsConn {
    /// The server's end of a connection that begins now.
    pub(crate) fn accept(tls: &Tls) -> Result<Self, Fault> {
        let rustls = UnbufferedServerConnection::new(tls.config()).map_err(|error| Fault::Tls(error.to_string()))?;
        Ok(Self {
            rustls,
            rx: Buf::default(),
            tx: Buf::default(),
            given: 0,
            name: None,
            begun: false,
            held: false,
            ticket: false,
            end: None,
            finished: false,
            failed: false,
        })
    }

    /// Appends plaintext to `into`: of what is held first, then of what one system call brings. `most` is a wish:
    /// the record that reaches it is taken whole. Whatever handshaking wants to say goes to the socket at once.
    ///
    /// Without a buffer to be had from the pool, nothing is read, and [`Got::Data`] says that there may be more.
    pub(crate) fn read(
        &mut self,
        socket: &mut Socket,
        into: &mut Buf,
        most: usize,
        pool: &mut Pool,
    ) -> Result<Got, Fault> {
        let before = into.len();
        let until = before.saturating_add(most.max(1));
        if self.held {
            self.open(socket, into, until, pool)?;
            if self.held {
                return Ok(Got::Data { drained: false });
            }
        }
        let had_some = into.len() > before;
        if let Some(clean) = self.end {
            return Ok(if had_some { Got::Data { drained: false } } else { Got::End { clean } });
        }
        if self.failed {
            return Err(Fault::Tls("the connection has failed before".into()));
        }
        if had_some && into.len() >= until || !pool.lend(&mut self.rx) {
            return Ok(Got::Data { drained: false });
        }
        self.rx.compact();
        let room = self.rx.spare().len();
        if room == 0 {
            return Err(self.fail(socket, "a handshake message is larger than 64 KiB", pool));
        }
        let n = match socket.read(self.rx.spare()) {
            Ok(0) => {
                self.end = Some(false);
                return Ok(if had_some { Got::Data { drained: false } } else { Got::End { clean: false } });
            }
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Ok(if had_some { Got::Data { drained: true } } else { Got::Blocked });
            }
            Err(error) => return Err(error.into()),
        };
        self.rx.commit(n);
        if !self.begun {
            self.begun = true;
            // A handshake record begins with 0x16, a request with a method.
            if self.rx.filled()[0].is_ascii_uppercase() {
                (self.failed, self.finished) = (true, true);
                self.rx.consume(n);
                return Err(Fault::PlainHttp);
            }
        }
        let handshaking = self.rustls.is_handshaking();
        self.open(socket, into, until, pool)?;
        let some = into.len() > before;
        if !self.tx.is_empty() {
            // The last flight of a TLS 1.3 server is a ticket, which nobody waits for: it goes with the answer, if
            // there will be one. (In 1.2 it is what the client waits for.)
            self.ticket = handshaking && some && self.rustls.protocol_version() == Some(ProtocolVersion::TLSv1_3);
            if !self.ticket {
                // A failure is the next write's, flush's or recv's to report: the peer may have sent its last
                // request and closed, not waiting for what we have to say.
                let _ = self.send(socket);
            }
        }
        match self.end {
            Some(clean) if !some => Ok(Got::End { clean }),
            end => Ok(Got::Data { drained: n < room && !self.held && end.is_none() }),
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
        if !self.ticket && !self.send(socket)? || self.rustls.is_handshaking() {
            return Ok(0);
        }
        let mut from = Pieces { pieces, offset: 0 };
        let mut taken = 0;
        while from.skip_empty() && pool.lend(&mut self.tx) {
            let n = match self.seal(&mut from, pool) {
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
        self.collect(pool)?;
        Ok(self.send(socket)?)
    }

    /// Says close_notify, once, behind all that was written. `true`: it is out. While the handshake is going on there
    /// is nothing to be ended.
    pub(crate) fn finish(&mut self, socket: &mut Socket, pool: &mut Pool) -> Result<bool, Fault> {
        if !self.finished {
            if self.tx.capacity() == 0 {
                pool.lend(&mut self.tx);
            }
            let said = self.with_traffic(pool, |traffic, tx| {
                make_room(tx, OVERHEAD + WORTH_A_RECORD);
                let n = traffic.queue_close_notify(tx.spare()).map_err(|error| error.to_string())?;
                tx.commit(n);
                Ok(n)
            });
            self.finished = true;
            said.map_err(Fault::Tls)?;
        }
        self.flush(socket, pool)
    }

    /// Bytes of ciphertext that the socket has not taken yet.
    pub(crate) fn pending(&self) -> usize {
        self.tx.len()
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.rustls.is_handshaking()
    }

    /// Gives back buffers that hold nothing, and exchanges those that hold little.
    pub(crate) fn settle(&mut self, pool: &mut Pool) {
        pool.settle(&mut self.rx);
        pool.settle(&mut self.tx);
    }

    /// Gives back all buffers, whatever they hold.
    pub(crate) fn release(&mut self, pool: &mut Pool) {
        for buf in [&mut self.rx, &mut self.tx] {
            pool.take_back(buf.take_store());
        }
        // What rustls says about its place in `rx` is not true any more.
        (self.failed, self.finished, self.held) = (true, true, false);
    }

    /// The name the client asked for (SNI).
    pub(crate) fn server_name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// What the client has shown and we have verified: its own certificate first.
    pub(crate) fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.rustls.peer_certificates()
    }

    /// As it is written: `TLSv1.3`.
    pub(crate) fn protocol_version(&self) -> Option<&'static str> {
        match self.rustls.protocol_version()? {
            ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
            ProtocolVersion::TLSv1_3 => Some("TLSv1.3"),
            _ => None,
        }
    }

    /// What was agreed upon.
    #[cfg(test)]
    pub(crate) fn alpn_protocol(&self) -> Option<&[u8]> {
        self.rustls.alpn_protocol()
    }

    /// Bytes of ciphertext made, ever: those given to the socket, and those that wait.
    pub(crate) fn sealed(&self) -> u64 {
        self.given + self.tx.len() as u64
    }

    /// Gives the socket what is to go. `true`: it took all. A short write means that it is full: no second one tries.
    #[inline]
    fn send(&mut self, socket: &mut Socket) -> io::Result<bool> {
        if self.tx.is_empty() {
            return Ok(true);
        }
        self.ticket = false;
        match socket.write(&[IoSlice::new(self.tx.filled())]) {
            Ok(n) => {
                self.tx.consume(n);
                self.given += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(self.tx.is_empty())
    }

    /// Processes `rx`, appending plaintext until `into` has `until` bytes or no complete record is left.
    fn open(&mut self, socket: &mut Socket, into: &mut Buf, until: usize, pool: &mut Pool) -> Result<(), Fault> {
        let handshaking = self.rustls.is_handshaking();
        let result = self.open_records(into, until, pool);
        if handshaking && let Some(name) = take_asked_for() {
            self.name = Some(name);
        }
        result.map_err(|error| self.fail(socket, error, pool))
    }

    fn open_records(&mut self, into: &mut Buf, until: usize, pool: &mut Pool) -> Result<(), String> {
        self.held = false;
        loop {
            let UnbufferedStatus { discard, state } = self.rustls.process_tls_records(self.rx.filled_mut());
            let mut data = false;
            let mut blocked = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    data = true;
                    while let Some(record) = traffic.next_record() {
                        append(into, record.map_err(|error| error.to_string())?.payload, pool);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(chunk)) => encode(chunk, &mut self.tx, pool)?,
                // It is in `tx` and in order: as far as rustls is concerned, it is gone.
                Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    // What comes behind a close_notify is to be ignored.
                    self.rx.consume(self.rx.len());
                    self.end = Some(true);
                    return Ok(());
                }
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => blocked = true,
                Ok(_) => return Err("early data, which was not offered".into()),
                Err(error) => return Err(error.to_string()),
            }
            self.rx.consume(discard);
            if blocked || data && self.rx.is_empty() {
                return Ok(());
            }
            if data && into.len() >= until {
                self.held = starts_with_record(self.rx.filled());
                return Ok(());
            }
        }
    }

    /// Lets `f` encrypt into `tx`; 0 while the handshake goes on.
    fn with_traffic(
        &mut self,
        pool: &mut Pool,
        f: impl FnOnce(&mut WriteTraffic<'_, ServerConnectionData>, &mut Buf) -> Result<usize, String>,
    ) -> Result<usize, String> {
        loop {
            // See above: where complete records may be, nothing can be half there, and the reverse.
            let rx = if self.held { &mut [][..] } else { self.rx.filled_mut() };
            let UnbufferedStatus { discard, state } = self.rustls.process_tls_records(rx);
            debug_assert_eq!(discard, 0, "all that can be processed was");
            match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => return f(&mut traffic, &mut self.tx),
                Ok(ConnectionState::EncodeTlsData(chunk)) => encode(chunk, &mut self.tx, pool)?,
                Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
                Ok(ConnectionState::PeerClosed) => self.end = Some(true),
                Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => return Ok(0),
                Ok(_) => return Err("data where none can be".into()),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Fills `tx` with records of what comes `from` the application; how much that was.
    fn seal(&mut self, from: &mut Pieces<'_>, pool: &mut Pool) -> Result<usize, String> {
        self.with_traffic(pool, |traffic, tx| {
            let mut taken = 0;
            tx.compact();
            while from.skip_empty() {
                let spare = tx.spare();
                let wanted = from.len_up_to(RECORD);
                let here = from.here();
                let direct = here.len() >= wanted;
                // What is in several pieces is copied together at the far end of the very buffer it is encrypted into.
                let room = spare.len().saturating_sub(OVERHEAD) / if direct { 1 } else { 2 };
                let n = wanted.min(room);
                if n < wanted && n < WORTH_A_RECORD {
                    break;
                }
                let encrypted = if direct {
                    traffic.encrypt(&here[..n], spare)
                } else {
                    let (out, scratch) = spare.split_at_mut(spare.len() - n);
                    from.copy_to(scratch);
                    traffic.encrypt(scratch, out)
                };
                match encrypted {
                    Ok(written) => tx.commit(written),
                    // Something of rustls's own goes before it, or its records are smaller than ours.
                    Err(EncryptError::InsufficientSize(_)) if !tx.is_empty() => break,
                    Err(error) => return Err(error.to_string()),
                }
                from.advance(n);
                taken += n;
            }
            Ok(taken)
        })
    }

    /// Moves to `tx` what rustls wants to say on its own.
    fn collect(&mut self, pool: &mut Pool) -> Result<(), Fault> {
        // What is to be sent comes before what was received: `rx` is not looked at.
        while self.rustls.wants_write() {
            match self.rustls.process_tls_records(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(chunk)) => encode(chunk, &mut self.tx, pool).map_err(Fault::Tls)?,
                _ => break,
            }
        }
        Ok(())
    }

    /// The connection can't go on; the alert that says so is sent if the socket takes it.
    #[cold]
    fn fail(&mut self, socket: &mut Socket, error: impl Into<String>, pool: &mut Pool) -> Fault {
        (self.failed, self.finished, self.held) = (true, true, false);
        let _ = self.collect(pool);
        let _ = self.send(socket);
        self.rx.consume(self.rx.len());
        Fault::Tls(error.into())
    }
}

/// Takes over what rustls wants to send. There is always room for it, see above.
fn encode(mut chunk: EncodeTlsData<'_, ServerConnectionData>, tx: &mut Buf, pool: &mut Pool) -> Result<(), String> {
    if tx.capacity() == 0 {
        // Not asked for if there is a rest: it may be waiting for a long time, with a peer that does not read.
        pool.lend(tx);
    }
    loop {
        match chunk.encode(tx.spare()) {
            Ok(n) => {
                tx.commit(n);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(need)) => make_room(tx, need.required_size.max(FLIGHT)),
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Appends a record to the engine's buffer, which gets larger if need be.
fn append(into: &mut Buf, bytes: &[u8], pool: &mut Pool) {
    if into.room() < bytes.len() {
        pool.lend(into);
    }
    make_room(into, bytes.len());
    into.push(bytes);
}

/// Sees to spare room for `n` bytes. A store that is replaced is dropped, not given back: the larger one will be, in
/// its place.
fn make_room(buf: &mut Buf, n: usize) {
    drop(buf.reserve(n));
}

/// Whether a whole record is at the front.
fn starts_with_record(bytes: &[u8]) -> bool {
    let [_, _, _, high, low, rest @ ..] = bytes else { return false };
    rest.len() >= usize::from(u16::from_be_bytes([*high, *low]))
}

/// Where in the application's pieces we are.
struct Pieces<'a> {
    pieces: &'a [IoSlice<'a>],
    /// Bytes of the first that are done with.
    offset: usize,
}

impl<'a> Pieces<'a> {
    /// Goes to the next byte; whether there is one.
    fn skip_empty(&mut self) -> bool {
        while let [first, rest @ ..] = self.pieces {
            if self.offset < first.len() {
                return true;
            }
            (self.pieces, self.offset) = (rest, 0);
        }
        false
    }

    /// What is in one place from here.
    fn here(&self) -> &'a [u8] {
        self.pieces.first().map_or(&[], |first| &first[self.offset..])
    }

    /// How much there is from here, but not counted beyond `most`.
    fn len_up_to(&self, most: usize) -> usize {
        let mut n = 0;
        for piece in self.pieces {
            n += piece.len();
            if n >= most + self.offset {
                return most;
            }
        }
        n - self.offset
    }

    /// Fills `to`, which is no longer than what is there.
    fn copy_to(&self, to: &mut [u8]) {
        let (mut at, mut offset) = (0, self.offset);
        for piece in self.pieces {
            let n = (piece.len() - offset).min(to.len() - at);
            to[at..at + n].copy_from_slice(&piece[offset..offset + n]);
            (at, offset) = (at + n, 0);
            if at == to.len() {
                return;
            }
        }
    }

    fn advance(&mut self, mut n: usize) {
        while let [first, rest @ ..] = self.pieces {
            let here = first.len() - self.offset;
            if n < here {
                self.offset += n;
                return;
            }
            n -= here;
            (self.pieces, self.offset) = (rest, 0);
        }
    }
}
