//! The TLS handshake of an inbound connection, and the choice of its protocol.
//!
//! ```text
//!   Phase::Securing ──handshake──▶ no ALPN, http/1.1, http/1.0 ──▶ Phase::Head
//!                                  another ──Handler::alpn──▶ Upgraded │ None: closed
//!   plain HTTP/2 ───────────────▶ Phase::Streams, which rejects the first request
//! ```
//! Other protocols are selected only where [`TlsBuilder::alpn`](crate::TlsBuilder::alpn), or a rustls configuration,
//! names them.

use log::debug;

use super::{
    conn_io::ConnIo,
    core::Core,
    dispatch,
    phase::{Phase, Step, Upgraded},
    slot::AHEAD,
};
use crate::{
    api::{Handler, Waker},
    base::EndReason,
};
#[cfg(feature = "http2")]
use crate::{h1::Misbehaved, transport::Fault};

/// Bytes of a request from which on its first word is known: `PRI ` begins HTTP/2, and `PUT ` HTTP/1.1.
#[cfg(feature = "http2")]
const WORD: usize = 4;

impl ConnIo {
    /// Like [`fill`](Self::fill), but goes on without TLS for a client that has begun HTTP/2 without it: such a client
    /// cannot read the response of HTTP/1.1 that others get.
    #[inline(never)]
    pub(super) fn fill_securing(&mut self, core: &mut Core) -> Result<bool, EndReason> {
        match self.try_fill(core, AHEAD, Self::head_room(core)) {
            #[cfg(feature = "http2")]
            Err(Fault::PlainHttp) if core.versions.http2 && self.rx.len() >= WORD && self.has_preface() => {
                self.transport.become_plain(&mut core.pool);
                Ok(true)
            }
            result => result.map_err(|fault| self.fault(core, fault)),
        }
    }

    /// Selects the next phase after the handshake, by the protocol of ALPN.
    #[inline(never)]
    pub(super) fn drive_securing(&mut self, core: &mut Core, handler: &mut dyn Handler) -> Result<Step, EndReason> {
        if self.transport.is_handshaking() {
            if self.eof.is_some() {
                return Ok(self.closing(EndReason::PeerClosed, false));
            }
            return Ok(Step::Idle);
        }
        self.stop_timeout();
        #[cfg(feature = "http2")]
        if !self.transport.has_records() {
            return Ok(self.begin_rejecting_http2(core, Misbehaved::PlainHttpOnTls));
        }
        let upgrade = match self.transport.alpn() {
            None | Some(b"http/1.1" | b"http/1.0") => {
                return Ok(Step::Become(Phase::Head));
            }
            #[cfg(feature = "http2")]
            Some(crate::h2::ALPN) if core.versions.http2 => return Ok(self.begin_http2(core)),
            Some(protocol) => dispatch::alpn(handler, protocol, &self.peer.addr).map_err(|_| EndReason::Panicked)?,
        };
        match upgrade {
            Some(upgrade) => {
                self.transport.socket().keep_alive();
                let waker = Waker::new(self.request_id(), core.mailbox.clone());
                Ok(Step::Become(Phase::Upgraded(Box::new(Upgraded::new(upgrade, waker, core)))))
            }
            None => {
                debug!(target: "uncork::engine", "{} {}: no upgrade for the protocol that ALPN selected", self.id,
                    self.peer.addr);
                Ok(self.closing(
                    EndReason::Rejected { status: 0, rule: "no upgrade for the protocol selected by ALPN" },
                    true,
                ))
            }
        }
    }
}
