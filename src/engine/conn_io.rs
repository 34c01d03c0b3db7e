//! The resources of one connection: its transport, its buffers, its HTTP machine, its timeouts.
//!
//! A phase works with these; they do not depend on which phase that is (see `phase`). An idle connection holds no
//! buffer: the loop lends one while there are bytes in it.

use std::{io::IoSlice, num::NonZeroU16, time::Duration};

use log::debug;

use super::{arrivals::Peer, core::Core, ready::Ready};
use crate::{
    api::TlsInfo,
    base::{ConnId, EndReason, RequestId, Timeout, buf::Buf, out::Out, pool::LENT, time::Tick},
    conn::ServerConn,
    h1::{Misbehaved, write},
    transport::{Fault, Got, Transport},
};

pub(super) struct ConnIo {
    pub(super) id: ConnId,
    pub(super) transport: Transport,
    pub(super) rx: Buf,
    pub(super) out: Out,
    pub(super) conn: ServerConn,
    pub(super) peer: Peer,
    /// The time at which the timeout of input passes.
    pub(super) recv_by: Tick,
    /// The time by which the peer must have taken output.
    pub(super) send_by: Tick,
    /// This connection's earliest entry in the deadlines.
    pub(super) entry: Tick,
    /// Bytes of plaintext handed to the transport so far.
    pub(super) sent: u64,
    /// The number of the latest request. 0 before the first one, and always on an outbound connection.
    pub(super) number: u32,
    pub(super) ready: Ready,
    /// The timeout that `recv_by` measures.
    pub(super) running_timeout: Option<Timeout>,
    /// It is in the run queue.
    pub(super) queued: bool,
    /// The peer has ended its side; `true` if in the way its transport prescribes.
    pub(super) eof: Option<bool>,
}

impl ConnIo {
    pub(super) fn new(id: ConnId, transport: Transport, peer: Peer) -> Self {
        Self {
            id,
            transport,
            rx: Buf::default(),
            out: Out::default(),
            conn: ServerConn::new(),
            peer,
            recv_by: Tick::NEVER,
            send_by: Tick::NEVER,
            entry: Tick::NEVER,
            sent: 0,
            number: 0,
            ready: Ready::NEW,
            running_timeout: None,
            queued: false,
            eof: None,
        }
    }

    /// Reads once if the socket may have data: at most `most` bytes, up to `hold` bytes in the buffer. Returns `true`
    /// if anything changed.
    #[inline]
    pub(super) fn fill(&mut self, core: &mut Core, most: usize, hold: usize) -> Result<bool, EndReason> {
        self.try_fill(core, most, hold).map_err(|fault| self.fault(core, fault))
    }

    /// Like [`fill`](Self::fill), but returns the transport's own fault.
    #[inline]
    pub(super) fn try_fill(&mut self, core: &mut Core, most: usize, hold: usize) -> Result<bool, Fault> {
        if !self.ready.contains(Ready::READ) || self.eof.is_some() || self.rx.len() >= hold {
            return Ok(false);
        }
        if !core.pool.lend(&mut self.rx) {
            core.starved.push(self.id);
            return Ok(false);
        }
        if self.rx.spare().is_empty() {
            let more = (hold - self.rx.len()).min(self.rx.len().max(LENT));
            // A buffer that outgrows what is lent counts as lent until it is given back.
            self.rx.reserve(more);
        }
        match self.transport.read(&mut self.rx, most, &mut core.pool) {
            Ok(Got::Data { drained }) => {
                // A short read has emptied the socket, and the next bytes make a new event. An end that has arrived
                // already makes no other event.
                if drained && !self.ready.contains(Ready::READ_CLOSED) {
                    self.ready.remove(Ready::READ);
                }
                Ok(true)
            }
            Ok(Got::Blocked) => {
                self.ready.remove(Ready::READ);
                Ok(false)
            }
            Ok(Got::Starved) => {
                core.starved.push(self.id);
                Ok(false)
            }
            Ok(Got::End { clean }) => {
                self.ready.remove(Ready::READ);
                self.eof = Some(clean);
                Ok(true)
            }
            Err(fault) => Err(fault),
        }
    }

    /// Writes the output as far as the socket takes it. Returns `true` if any bytes were sent.
    #[inline]
    pub(super) fn flush(&mut self, core: &mut Core) -> Result<bool, EndReason> {
        self.try_flush(core).map_err(|fault| self.fault(core, fault))
    }

    /// Like [`flush`](Self::flush), but returns the transport's own fault.
    #[inline]
    pub(super) fn try_flush(&mut self, core: &mut Core) -> Result<bool, Fault> {
        let mut went = false;
        while !self.out.is_empty() && self.ready.contains(Ready::WRITE) {
            let (total, written) = match self.out.only_piece() {
                Some(bytes) => (bytes.len(), self.transport.write(&[IoSlice::new(bytes)], &mut core.pool)),
                None => self.write_pieces(core),
            };
            let n = written?;
            self.out.consume(n);
            self.note_sent(core, n);
            went |= n > 0;
            if n < total && self.transport.lacks_buffer(&core.pool) {
                core.starved.push(self.id);
                return Ok(went);
            }
            if n < total {
                self.ready.remove(Ready::WRITE);
            }
        }
        if !self.transport.is_plain() && self.ready.contains(Ready::WRITE) {
            let pending = self.transport.has_pending();
            if self.transport.flush(&mut core.pool)? {
                // A caller that waited for the last of it must see progress.
                went |= pending;
            } else {
                self.ready.remove(Ready::WRITE);
            }
        }
        Ok(went)
    }

    /// Writes output that is in several pieces. Returns its length, and how much of it the transport took. Not inlined:
    /// most output is one piece.
    #[inline(never)]
    fn write_pieces(&mut self, core: &mut Core) -> (usize, Result<usize, Fault>) {
        let mut pieces = [IoSlice::new(&[]); 8];
        let count = self.out.pieces(&mut pieces);
        let total = pieces[..count].iter().map(|piece| piece.len()).sum();
        (total, self.transport.write(&pieces[..count], &mut core.pool))
    }

    /// Counts `n` bytes that the transport took, and extends the send timeout.
    pub(super) fn note_sent(&mut self, core: &Core, n: usize) {
        self.sent += n as u64;
        self.note_taken(core, n);
    }

    /// Extends the send timeout: the peer took `n` bytes, of this output or of others that were sent before it.
    #[inline]
    pub(super) fn note_taken(&mut self, core: &Core, n: usize) {
        if n > 0 {
            self.ready.remove(Ready::LATE);
        }
        if self.send_by != Tick::NEVER && n > 0 {
            self.send_by = self.prolong(self.send_by, core, n, Timeout::Send);
        }
    }

    /// Stops the timeout of input: the awaited input has arrived. The next timeout starts anew at the end of the turn,
    /// even if it is the same one.
    #[inline]
    pub(super) fn stop_timeout(&mut self) {
        self.running_timeout = None;
    }

    /// Extends the body timeout after `n` bytes of a body. If the upload has a timeout of its own, that restarts
    /// instead.
    pub(super) fn note_received(&mut self, core: &Core, n: usize, body_timeout: Option<Duration>) {
        if self.running_timeout == Some(Timeout::Body) && n > 0 {
            self.recv_by = match body_timeout {
                Some(body_timeout) => core.tick.after(body_timeout),
                None => self.prolong(self.recv_by, core, n, Timeout::Body),
            };
        }
    }

    /// Sets the connection's own timeout, see [`Request::set_timeout`](crate::Request::set_timeout).
    #[cold]
    pub(super) fn set_timeout(&mut self, timeout: Duration) {
        let seconds = timeout.as_secs().saturating_add(u64::from(timeout.subsec_nanos() > 0)).max(1);
        self.peer.timeout = NonZeroU16::new(u16::try_from(seconds).unwrap_or(u16::MAX));
    }

    /// Returns the duration of a timeout: the connection's own, or that of the limits.
    #[inline]
    pub(super) fn duration(&self, timeout: Timeout, core: &Core) -> Duration {
        match (self.peer.timeout, timeout) {
            (Some(NonZeroU16::MAX), Timeout::Head | Timeout::Idle | Timeout::Body | Timeout::Send) => Duration::MAX,
            (Some(seconds), Timeout::Head | Timeout::Idle | Timeout::Body | Timeout::Send) => {
                Duration::from_secs(seconds.get().into())
            }
            _ => core.limits.timeout(timeout),
        }
    }

    /// Extends a timeout by the time that `bytes` may take at the minimum rate, but never beyond the full time from
    /// now. The connection's own timeout has no rate: it begins anew.
    fn prolong(&self, by: Tick, core: &Core, bytes: usize, timeout: Timeout) -> Tick {
        let most = core.tick.after(self.duration(timeout, core));
        let rate = if self.peer.timeout.is_some() { 0 } else { core.limits.min_rate };
        match (bytes as u64).saturating_mul(1000).checked_div(rate) {
            Some(millis) => by.plus(millis).min(most),
            None => most,
        }
    }

    /// Lends the output a buffer for a response, if one is left. Otherwise [`Out::push`](crate::base::out::Out::push)
    /// makes a store of its own: a limit on buffers only delays reading.
    #[inline]
    pub(super) fn open_out(&mut self, core: &mut Core) {
        core.pool.lend(&mut self.out.buf);
    }

    /// Returns `true` if output waits for the peer. `more`: there is output outside of `out`.
    pub(super) fn is_blocked(&self, more: bool) -> bool {
        !self.ready.contains(Ready::WRITE) && (more || !self.out.is_empty() || self.transport.has_pending())
    }

    /// Returns the id of the request in progress, or of the latest one.
    pub(super) fn request_id(&self) -> RequestId {
        RequestId { conn: self.id, number: self.number }
    }

    /// Turns a transport's fault into the reason for the end.
    #[cold]
    pub(super) fn fault(&mut self, core: &mut Core, fault: Fault) -> EndReason {
        match fault {
            Fault::Io(error) => {
                debug!(target: "uncork::transport", "{} {}: {error}", self.id, self.peer.addr);
                match error.kind() {
                    std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe => EndReason::PeerClosed,
                    std::io::ErrorKind::UnexpectedEof => EndReason::Aborted,
                    kind => EndReason::Io(kind),
                }
            }
            Fault::PlainHttp => {
                let rule = Misbehaved::PlainHttpOnTls;
                let mut response = Vec::new();
                write::error(rule, core.date.at(core.now.wall), true, &mut response);
                // Best effort: a new socket takes this much.
                let _ = self.transport.write_plain(&[IoSlice::new(&response)]);
                let _ = self.transport.socket().shutdown_write();
                EndReason::Rejected { status: rule.status(), rule: rule.rule() }
            }
            Fault::Tls(text) => {
                debug!(target: "uncork::transport", "{} {}: TLS: {text}", self.id, self.peer.addr);
                EndReason::Rejected { status: 0, rule: "TLS" }
            }
        }
    }
}

/// Returns the properties of the TLS session, if there is one.
#[inline]
pub(super) fn tls_info(transport: &Transport) -> Option<TlsInfo<'_>> {
    #[cfg(feature = "tls")]
    return transport.tls_conn().map(|tls| TlsInfo {
        server_name: tls.server_name(),
        version: tls.protocol_version().unwrap_or("TLS"),
        cipher_suite: tls.cipher_suite().unwrap_or("unknown"),
        peer_certificate: tls.peer_certificates().and_then(|chain| chain.first()).map(AsRef::as_ref),
    });
    #[cfg(not(feature = "tls"))]
    {
        let _ = transport;
        None
    }
}
