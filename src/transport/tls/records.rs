//! Records in both directions: the common part of the two sides of a connection.
//!
//! ```text
//!            ┌──────────── handshake, alerts, tickets ───────────┐
//!            │                                                   ▼
//!   rx ── process_tls_records ── ReadTraffic ──▶ into     tx ──▶ socket
//!            │                                    ▲
//!            └── WriteTraffic ── pieces, encrypted┘
//! ```
//!
//! The code below depends on four properties of rustls's unbuffered connections:
//!
//! - Each call processes one record; its result is one state. Bytes to send come before the next record.
//! - `EncodeTlsData` owns what it must send: without space for it, it is lost. So there is always space.
//! - A handshake message in several records stays in `rx`, decrypted in place, and rustls keeps offsets into it. `rx`
//!   may be moved, but only `discard` may be taken from it. The next call must be given all of it: a shorter one
//!   panics. Only directly behind application data (no message can be incomplete there) may it be given an empty one.
//! - The response to a KeyUpdate is not sent by itself, but in front of the next data. So it cannot be forgotten, and a
//!   peer that sends thousands of them causes no output.

use std::io::IoSlice;

use rustls::{
    CertificateError, Error,
    client::{ClientConnectionData, UnbufferedClientConnection},
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic},
};

use crate::base::{
    buf::Buf,
    pool::{LENT, Pool},
};

/// The most that a record adds to its plaintext (29 bytes in TLS 1.2, 22 in 1.3), rounded up.
const OVERHEAD: usize = 64;
/// Plaintext in a full record: a little less than the 16 KiB allowed. So four of them, with a KeyUpdate or a ticket
/// before them, fit in one lent buffer and one send.
const RECORD: usize = LENT / 4 - 2 * OVERHEAD;
/// The longest record accepted from a peer: 16 KiB, what TLS 1.2 allows around it, and its header.
pub(super) const RECEIVED: usize = (16 << 10) + (2 << 10) + 5;
/// A record smaller than this is not made merely because a lent buffer has no more space.
const WORTH_A_RECORD: usize = 1024;
/// Space for a flight of the handshake when no buffer can be lent.
const FLIGHT: usize = 4096;

/// A rustls connection of one side.
pub(super) trait Side {
    type Data;
    fn process<'c, 'i>(&'c mut self, rx: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn wants_write(&self) -> bool;
}

impl Side for UnbufferedServerConnection {
    type Data = ServerConnectionData;
    #[inline]
    fn process<'c, 'i>(&'c mut self, rx: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(rx)
    }
    fn wants_write(&self) -> bool {
        (**self).wants_write()
    }
}

impl Side for UnbufferedClientConnection {
    type Data = ClientConnectionData;
    #[inline]
    fn process<'c, 'i>(&'c mut self, rx: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(rx)
    }
    fn wants_write(&self) -> bool {
        (**self).wants_write()
    }
}

/// Ciphertext, inbound and outbound.
#[derive(Default)]
pub(super) struct Records {
    /// Bytes that arrived and were not processed yet.
    pub(super) rx: Buf,
    /// Bytes to send.
    pub(super) tx: Buf,
    /// A complete record is in `rx`: `into` was full. Directly behind application data, see above.
    pub(super) held: bool,
    /// The peer has ended the stream; `true` if by close_notify.
    pub(super) end: Option<bool>,
}

impl Records {
    /// Processes `rx`, appending plaintext until `into` has `until` bytes or no complete record is left.
    pub(super) fn open(
        &mut self,
        side: &mut impl Side,
        into: &mut Buf,
        until: usize,
        pool: &mut Pool,
    ) -> Result<(), String> {
        self.held = false;
        loop {
            let UnbufferedStatus { discard, state } = side.process(self.rx.filled_mut());
            let mut data = false;
            let mut blocked = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    data = true;
                    while let Some(record) = traffic.next_record() {
                        append(into, record.map_err(|error| description(&error))?.payload, pool);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(chunk)) => encode(chunk, &mut self.tx, pool)?,
                // It is in `tx` and in order: for rustls it was sent.
                Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    // Bytes behind a close_notify must be ignored.
                    self.rx.consume(self.rx.len());
                    self.end = Some(true);
                    return Ok(());
                }
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => blocked = true,
                Ok(_) => return Err("unexpected early data".into()),
                Err(error) => return Err(description(&error)),
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

    /// Lets `f` encrypt into `tx`. Returns 0 during the handshake.
    fn with_traffic<S: Side>(
        &mut self,
        side: &mut S,
        pool: &mut Pool,
        f: impl FnOnce(&mut WriteTraffic<'_, S::Data>, &mut Buf) -> Result<usize, String>,
    ) -> Result<usize, String> {
        loop {
            // See above: if complete records may be there, no incomplete message can be, and the reverse.
            let rx = if self.held { &mut [][..] } else { self.rx.filled_mut() };
            let UnbufferedStatus { discard, state } = side.process(rx);
            debug_assert_eq!(discard, 0, "all that can be processed was");
            match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => return f(&mut traffic, &mut self.tx),
                Ok(ConnectionState::EncodeTlsData(chunk)) => encode(chunk, &mut self.tx, pool)?,
                Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
                Ok(ConnectionState::PeerClosed) => self.end = Some(true),
                Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => return Ok(0),
                Ok(_) => return Err("unexpected state of rustls".into()),
                Err(error) => return Err(description(&error)),
            }
        }
    }

    /// Fills `tx` with records of the application's bytes. Returns how many bytes were taken.
    pub(super) fn seal(
        &mut self,
        side: &mut impl Side,
        from: &mut Pieces<'_>,
        pool: &mut Pool,
    ) -> Result<usize, String> {
        self.with_traffic(side, pool, |traffic, tx| {
            let mut taken = 0;
            tx.compact();
            while from.skip_empty() {
                let spare = tx.spare();
                let wanted = from.len_up_to(RECORD);
                let here = from.here();
                let direct = here.len() >= wanted;
                // Several pieces are copied together at the far end of the buffer that they are encrypted into.
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
                    // rustls sends something of its own first, or its records are smaller than ours.
                    Err(EncryptError::InsufficientSize(_)) if !tx.is_empty() => break,
                    Err(error) => return Err(error.to_string()),
                }
                from.advance(n);
                taken += n;
            }
            Ok(taken)
        })
    }

    /// Sends close_notify; nothing during the handshake.
    pub(super) fn say_goodbye(&mut self, side: &mut impl Side, pool: &mut Pool) -> Result<usize, String> {
        if self.tx.capacity() == 0 {
            pool.lend(&mut self.tx);
        }
        self.with_traffic(side, pool, |traffic, tx| {
            make_room(tx, OVERHEAD + WORTH_A_RECORD);
            let n = traffic.queue_close_notify(tx.spare()).map_err(|error| error.to_string())?;
            tx.commit(n);
            Ok(n)
        })
    }

    /// Moves to `tx` what rustls itself must send.
    pub(super) fn collect(&mut self, side: &mut impl Side, pool: &mut Pool) -> Result<(), String> {
        // Bytes to send come before received ones: `rx` is not read.
        while side.wants_write() {
            match side.process(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(chunk)) => encode(chunk, &mut self.tx, pool)?,
                _ => break,
            }
        }
        Ok(())
    }
}

/// Takes over bytes that rustls must send. There is always space for them, see above.
fn encode<D>(mut chunk: EncodeTlsData<'_, D>, tx: &mut Buf, pool: &mut Pool) -> Result<(), String> {
    if tx.capacity() == 0 {
        // No buffer is lent if there are bytes left: they may wait long for a peer that does not read.
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

/// Appends a record to the engine's buffer, which grows if necessary.
fn append(into: &mut Buf, bytes: &[u8], pool: &mut Pool) {
    if into.room() < bytes.len() {
        pool.lend(into);
    }
    make_room(into, bytes.len());
    into.push(bytes);
}

/// Makes spare space for `n` bytes. A store that is replaced is dropped, not returned: the larger one will be returned
/// in its place.
fn make_room(buf: &mut Buf, n: usize) {
    drop(buf.reserve(n));
}

/// Returns `true` if a complete record is at the front.
fn starts_with_record(bytes: &[u8]) -> bool {
    let [_, _, _, high, low, rest @ ..] = bytes else { return false };
    rest.len() >= usize::from(u16::from_be_bytes([*high, *low]))
}

/// A position in the application's pieces.
pub(super) struct Pieces<'a> {
    pieces: &'a [IoSlice<'a>],
    /// Bytes of the first piece that are done.
    offset: usize,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(pieces: &'a [IoSlice<'a>]) -> Self {
        Self { pieces, offset: 0 }
    }

    /// Moves to the next byte. Returns `true` if there is one.
    pub(super) fn skip_empty(&mut self) -> bool {
        while let [first, rest @ ..] = self.pieces {
            if self.offset < first.len() {
                return true;
            }
            (self.pieces, self.offset) = (rest, 0);
        }
        false
    }

    /// Returns the contiguous bytes at this position.
    fn here(&self) -> &'a [u8] {
        self.pieces.first().map_or(&[], |first| &first[self.offset..])
    }

    /// Returns the number of bytes from this position, but counts no more than `most`.
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

    /// Fills `to`, which is not longer than what is left.
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

/// Describes an error; those that an operator can act upon get a text of their own.
fn description(error: &Error) -> String {
    use CertificateError as C;
    match error {
        Error::InvalidCertificate(C::UnknownIssuer) => "the peer's certificate is not trusted: unknown issuer".into(),
        Error::InvalidCertificate(why @ (C::Expired | C::ExpiredContext { .. })) => {
            format!("the peer's certificate has expired: {why}")
        }
        Error::InvalidCertificate(why @ (C::NotValidYet | C::NotValidYetContext { .. })) => {
            format!("the peer's certificate is not valid yet: {why}")
        }
        Error::InvalidCertificate(why @ (C::NotValidForName | C::NotValidForNameContext { .. })) => {
            format!("the peer's certificate is for another name: {why}")
        }
        Error::InvalidCertificate(C::Revoked) => "the peer's certificate was revoked".into(),
        Error::AlertReceived(alert) => format!("the peer sent an alert: {alert:?}"),
        other => other.to_string(),
    }
}
