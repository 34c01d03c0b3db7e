//! One connection: its transport, its buffers, its machine, and what it is doing.
//!
//! ```text
//!   Head ──a request──▶ (answered at once) ──▶ Head
//!     │                        └─▶ Job ──complete──▶ Head
//!     │                             └─▶ Upgraded
//!     └─────────────┬───────────────┘   ▲  │
//!                   └──▶ Closing ◀──────│──┘   flush, finish, linger
//!                           ▲───────────┤
//!   Dialing ────────────────┴───────────┘      of our own making
//! ```
//! (One that comes by a proxy begins with `Proxy`, and is told of to nobody until that is over; one over TLS is first
//! `Securing`, and may go on in a protocol chosen by ALPN.)
//! An idle connection is one of these and nothing else: buffers are lent while there are bytes in them, and a job is
//! allocated only for a request that can't be answered at once.

use std::{io::IoSlice, time::Duration};

use log::debug;

use super::{
    arrivals::Peer, closing::Closing, coalescing::WATER, core::Core, job::Job, outgoing::Dialing, ready::Ready,
    upgraded::Upgraded,
};
use crate::{
    api::Secure,
    base::{ConnId, Ended, Timer, buf::Buf, out::Out, pool::LENT, time::Tick},
    conn::ServerConn,
    h1::{Misbehaved, write},
    transport::{Fault, Got, Security, Transport},
};

pub(super) struct Slot {
    pub(super) id: ConnId,
    pub(super) transport: Transport,
    pub(super) rx: Buf,
    pub(super) out: Out,
    pub(super) conn: ServerConn,
    pub(super) phase: Phase,
    pub(super) peer: Peer,
    /// When the earliest of the clocks that wait for input runs out.
    pub(super) recv_by: Tick,
    /// When output must have been taken.
    pub(super) send_by: Tick,
    /// This connection's earliest entry among the deadlines.
    pub(super) entry: Tick,
    /// Bytes of plaintext handed to the transport, ever.
    pub(super) sent: u64,
    /// The number of the latest request; 0 if there was none yet, and always if the connection is of our own making.
    pub(super) number: u32,
    pub(super) listener: u16,
    pub(super) ready: Ready,
    /// What `recv_by` measures.
    pub(super) clock: Option<Timer>,
    /// The socket wakes us for large pieces only.
    pub(super) coalesces: bool,
    /// It stands in the run queue.
    pub(super) queued: bool,
    /// The application has said yes to it, and is told when it is over.
    pub(super) welcome: bool,
    /// The peer has finished; whether in order.
    pub(super) eof: Option<bool>,
}

pub(super) enum Phase {
    /// Being made, by us.
    Dialing(Box<Dialing>),
    /// Waiting for what the proxy it comes by has to say first.
    Proxy,
    /// The TLS handshake is going on.
    Securing,
    /// Between two requests, or receiving a head.
    Head,
    /// At work on a request.
    Job(Box<Job>),
    /// Speaking another protocol.
    Upgraded(Box<Upgraded>),
    /// Coming to an end.
    Closing(Closing),
}

impl Phase {
    /// How a connection begins that is secured so, once it is known who is there.
    pub(super) fn first(security: &Security) -> Self {
        if security.is_some() { Self::Securing } else { Self::Head }
    }
}

impl Slot {
    pub(super) fn new(id: ConnId, transport: Transport, peer: Peer) -> Self {
        Self {
            id,
            transport,
            rx: Buf::default(),
            out: Out::default(),
            conn: ServerConn::new(),
            phase: Phase::Head,
            peer,
            recv_by: Tick::NEVER,
            send_by: Tick::NEVER,
            entry: Tick::NEVER,
            sent: 0,
            number: 0,
            listener: u16::MAX,
            ready: Ready::NEW,
            clock: None,
            coalesces: false,
            queued: false,
            welcome: false,
            eof: None,
        }
    }

    /// Reads once, if the socket may have something: at most `most` bytes, and into no more than `hold` bytes held.
    /// Whether anything changed.
    #[inline]
    pub(super) fn fill(&mut self, core: &mut Core, most: usize, hold: usize) -> Result<bool, Ended> {
        if !self.ready.has(Ready::READ) || self.eof.is_some() || self.rx.len() >= hold {
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
                // A short read has emptied the socket, and the next bytes make a new event; but of an end that has
                // come already there is no other.
                if drained && !self.ready.has(Ready::FIN) {
                    self.ready.clear(Ready::READ);
                }
                Ok(true)
            }
            Ok(Got::Blocked) => {
                self.ready.clear(Ready::READ);
                Ok(false)
            }
            Ok(Got::Starved) => {
                core.starved.push(self.id);
                Ok(false)
            }
            Ok(Got::End { clean }) => {
                self.ready.clear(Ready::READ);
                self.eof = Some(clean);
                Ok(true)
            }
            Err(fault) => Err(self.fault(core, fault)),
        }
    }

    /// Writes what is in the output, as far as the socket takes it. Whether anything went out.
    #[inline]
    pub(super) fn flush(&mut self, core: &mut Core) -> Result<bool, Ended> {
        let mut went = false;
        while !self.out.is_empty() && self.ready.has(Ready::WRITE) {
            let (total, written) = match self.out.only_piece() {
                Some(bytes) => (bytes.len(), self.transport.write(&[IoSlice::new(bytes)], &mut core.pool)),
                None => {
                    let mut pieces = [IoSlice::new(&[]); 8];
                    let count = self.out.pieces(&mut pieces);
                    let total = pieces[..count].iter().map(|piece| piece.len()).sum();
                    (total, self.transport.write(&pieces[..count], &mut core.pool))
                }
            };
            let n = match written {
                Ok(n) => n,
                Err(fault) => return Err(self.fault(core, fault)),
            };
            self.out.consume(n);
            self.note_sent(core, n);
            went |= n > 0;
            if n < total && self.transport.lacks_buffer(&core.pool) {
                core.starved.push(self.id);
                return Ok(went);
            }
            if n < total {
                self.ready.clear(Ready::WRITE);
            }
        }
        if !self.transport.is_plain() && self.ready.has(Ready::WRITE) {
            let pending = self.transport.has_pending();
            match self.transport.flush(&mut core.pool) {
                // Whoever waited for the last of it has to hear of that.
                Ok(true) => went |= pending,
                Ok(false) => self.ready.clear(Ready::WRITE),
                Err(fault) => return Err(self.fault(core, fault)),
            }
        }
        Ok(went)
    }

    /// So many bytes of output were taken over: the send clock is prolonged.
    pub(super) fn note_sent(&mut self, core: &Core, n: usize) {
        self.sent += n as u64;
        if n > 0 {
            self.ready.clear(Ready::LATE);
        }
        if self.send_by != Tick::NEVER && n > 0 {
            self.send_by = prolong(self.send_by, core, n, core.limits.send_time);
        }
    }

    /// What the peer was waited for is here. The next clock starts afresh when the turn ends, be it the same again.
    #[inline]
    pub(super) fn stop_clock(&mut self) {
        self.clock = None;
    }

    /// So many bytes of a body arrived: the body clock is prolonged, or starts afresh if the upload has a patience of
    /// its own.
    pub(super) fn note_received(&mut self, core: &Core, n: usize, patience: Option<Duration>) {
        if self.clock == Some(Timer::Body) && n > 0 {
            self.recv_by = match patience {
                Some(patience) => core.tick.after(patience),
                None => prolong(self.recv_by, core, n, core.limits.body_time),
            };
        }
    }

    /// Makes room for an answer. Never refused: what a limit on buffers delays is reading.
    #[inline]
    pub(super) fn open_out(&mut self, core: &mut Core) {
        core.pool.lend(&mut self.out.buf);
    }

    /// Whether output waits for the peer.
    pub(super) fn is_blocked(&self) -> bool {
        if self.ready.has(Ready::WRITE) {
            return false;
        }
        !self.out.is_empty()
            || self.transport.has_pending()
            || matches!(&self.phase, Phase::Job(job) if job.has_output())
    }

    /// Turns a transport's fault into an end.
    #[cold]
    pub(super) fn fault(&mut self, core: &mut Core, fault: Fault) -> Ended {
        if let Phase::Dialing(dialing) = &mut self.phase {
            debug!(target: "uncork::transport", "{} {}: not connected: {fault:?}", self.id, self.peer.addr);
            dialing.note(fault.into());
            return Ended::Aborted;
        }
        match fault {
            Fault::Io(error) => {
                debug!(target: "uncork::transport", "{} {}: {error}", self.id, self.peer.addr);
                match error.kind() {
                    std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe => Ended::PeerLeft,
                    std::io::ErrorKind::UnexpectedEof => Ended::Aborted,
                    kind => Ended::Io(kind),
                }
            }
            Fault::PlainHttp => {
                let rule = Misbehaved::PlainHttpOnTls;
                let mut answer = Vec::new();
                write::error(rule, core.date.at(core.now.wall), true, &mut answer);
                // Best effort: a fresh socket takes this much.
                let _ = self.transport.write_plain(&[IoSlice::new(&answer)]);
                let _ = self.transport.socket().shutdown_write();
                Ended::Refused { status: rule.status(), rule: rule.rule() }
            }
            Fault::Tls(words) => {
                debug!(target: "uncork::transport", "{} {}: TLS: {words}", self.id, self.peer.addr);
                Ended::Refused { status: 0, rule: "TLS" }
            }
        }
    }

    /// What the connection waits for, as far as it is the peer's turn.
    fn waits_for(&self) -> Option<Timer> {
        match &self.phase {
            Phase::Proxy | Phase::Securing => Some(Timer::Handshake),
            Phase::Head if self.conn.has_partial_head(&self.rx) => Some(Timer::Head),
            Phase::Head => Some(Timer::Idle),
            Phase::Job(job) if self.conn.is_receiving() && job.wants_body() => Some(Timer::Body),
            Phase::Job(_) | Phase::Upgraded(_) | Phase::Dialing(_) => None,
            Phase::Closing(closing) => closing.is_lingering().then_some(Timer::Linger),
        }
    }

    /// From here on the socket wakes us for large pieces only, or for everything again. Whether to look at once, because
    /// what came meanwhile has woken nobody.
    #[cold]
    fn set_coalescing(&mut self, yes: bool) -> bool {
        self.transport.set_low_water(if yes { WATER } else { 1 });
        self.coalesces = yes;
        if !yes {
            self.ready.set(Ready::READ);
        }
        !yes
    }

    /// At the end of a turn: gives back what was lent and is not needed, sets the clocks, and has the connection
    /// looked at when the first of them runs out. Whether to look at it at once.
    #[inline]
    pub(super) fn settle(&mut self, core: &mut Core) -> bool {
        let coalesces = matches!(&self.phase, Phase::Job(job) if job.coalesces()) && self.conn.direct() >= WATER;
        let again = coalesces != self.coalesces && self.set_coalescing(coalesces);
        core.pool.settle(&mut self.rx);
        self.out.settle(&mut core.pool);
        self.transport.settle(&mut core.pool);
        let clock = self.waits_for();
        match clock {
            // Whatever ran before is over: a clock that nobody waits for would run out again and again.
            None => self.recv_by = Tick::NEVER,
            Some(timer) if clock != self.clock => {
                let own = if let Phase::Job(job) = &self.phase { job.patience } else { None };
                let time = own.filter(|_| timer == Timer::Body).unwrap_or(core.limits.time(timer));
                self.recv_by = core.tick.after(time);
            }
            Some(_) => {}
        }
        self.clock = clock;
        if !self.is_blocked() {
            self.send_by = Tick::NEVER;
            self.ready.clear(Ready::LATE);
        } else if self.send_by == Tick::NEVER {
            self.send_by = core.tick.after(core.limits.send_time);
        }
        let own = match &self.phase {
            Phase::Job(job) => job.due(),
            Phase::Upgraded(upgraded) => upgraded.due(),
            Phase::Dialing(dialing) => dialing.by,
            _ => Tick::NEVER,
        };
        let due = self.recv_by.min(self.send_by).min(own);
        core.deadlines.schedule(self.id, due, &mut self.entry);
        again
    }
}

/// What is to be known of its TLS, if it has any.
#[inline]
pub(super) fn secure(transport: &Transport) -> Option<Secure<'_>> {
    #[cfg(feature = "tls")]
    return transport.tls_conn().map(|tls| Secure {
        server_name: tls.server_name(),
        version: tls.protocol_version().unwrap_or("TLS"),
        peer_certificate: tls.peer_certificates().and_then(|chain| chain.first()).map(AsRef::as_ref),
    });
    #[cfg(not(feature = "tls"))]
    {
        let _ = transport;
        None
    }
}

/// A clock that each byte prolongs by what it may take at the least rate, never beyond the full time from now.
fn prolong(by: Tick, core: &Core, bytes: usize, full: Duration) -> Tick {
    let most = core.tick.after(full);
    match (bytes as u64).saturating_mul(1000).checked_div(core.limits.min_rate) {
        Some(millis) => by.plus(millis).min(most),
        None => most,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<Slot>() <= 344, "{} bytes", size_of::<Slot>());
    }
}
