//! The TLS handshake of a connection that has come to us, and who speaks on it then.
//!
//! ```text
//!   Phase::Securing ──handshake──▶ no ALPN, http/1.1, http/1.0 ──▶ Phase::Head
//!                                  another ──Handler::alpn──▶ Upgraded │ nobody: closed
//! ```
//! Other protocols are agreed upon only where [`TlsBuilder::alpn`](crate::TlsBuilder::alpn), or a configuration of rustls,
//! has named them.

use log::debug;

use super::{
    core::Core,
    dispatch,
    slot::{Phase, Slot},
    upgraded::Upgraded,
};
use crate::{
    api::{Handler, Waker},
    base::Ended,
};

impl Slot {
    /// When the handshake is done, decides who speaks. Whether anything changed.
    #[inline(never)]
    pub(super) fn drive_securing(&mut self, core: &mut Core, handler: &mut dyn Handler) -> Result<bool, Ended> {
        if self.transport.is_handshaking() {
            if self.eof.is_some() {
                self.close(Ended::PeerLeft, false);
                return Ok(true);
            }
            return Ok(false);
        }
        self.stop_clock();
        let upgrade = match self.transport.alpn() {
            None | Some(b"http/1.1" | b"http/1.0") => {
                self.phase = Phase::Head;
                return Ok(true);
            }
            Some(protocol) => dispatch::alpn(handler, protocol, &self.peer.addr).map_err(|_| Ended::Panicked)?,
        };
        match upgrade {
            Some(upgrade) => {
                self.transport.socket().keep_alive();
                let waker = Waker::new(self.request_id(), core.mailbox.clone());
                self.phase = Phase::Upgraded(Box::new(Upgraded::new(upgrade, waker, core)));
            }
            None => {
                debug!(target: "uncork::engine", "{} {}: nobody speaks the protocol that ALPN has chosen", self.id,
                    self.peer.addr);
                self.close(Ended::Refused { status: 0, rule: "nobody speaks the protocol chosen by ALPN" }, true);
            }
        }
        Ok(true)
    }
}
