//! The TLS handshake of an inbound connection, and the choice of its protocol.
//!
//! ```text
//!   Phase::Securing ──handshake──▶ no ALPN, http/1.1, http/1.0 ──▶ Phase::Head
//!                                  another ──Handler::alpn──▶ Upgraded │ None: closed
//! ```
//! Other protocols are selected only where [`TlsBuilder::alpn`](crate::TlsBuilder::alpn), or a rustls configuration,
//! names them.

use log::debug;

use super::{
    conn_io::ConnIo,
    core::Core,
    dispatch,
    phase::{Phase, Step, Upgraded},
};
use crate::{
    api::{Handler, Waker},
    base::EndReason,
};

impl ConnIo {
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
