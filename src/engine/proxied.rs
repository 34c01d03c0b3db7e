//! Connections through a proxy that names the client first, by the PROXY protocol.
//!
//! ```text
//!   accept ──trusted?──▶ Phase::Proxy ──header──▶ limits of the client, Handler::accept ──▶ Securing │ Head
//!              └──no──▶ closed        └──invalid, or late──▶ closed
//! ```
//! Until the header has arrived, the application does not learn of the connection. For that long, at most
//! [`Limits::handshake_timeout`](crate::Limits::handshake_timeout), it counts toward the limit on all connections, but
//! toward none of an address. The header is parsed in the socket; no buffer is held for it.

use log::debug;

use super::{
    accept::BY_HANDLER,
    conn_io::ConnIo,
    dispatch,
    phase::{Phase, Step},
    ready::Ready,
};
use crate::{
    api::Handler,
    base::{EndReason, PeerAddr},
    transport::ProxyFault,
};

impl ConnIo {
    /// Reads the header once it is complete; the client that it names becomes the connection's peer.
    #[inline(never)]
    pub(super) fn drive_proxy(&mut self, handler: &mut dyn Handler) -> Result<Step, EndReason> {
        if !self.ready.contains(Ready::READ) {
            return Ok(Step::Idle);
        }
        let proxy = self.peer.addr;
        let header = match self.transport.read_proxy_header() {
            Ok(Some(header)) => header,
            Ok(None) if self.ready.contains(Ready::READ_CLOSED) => return Err(EndReason::PeerClosed),
            Ok(None) => {
                self.ready.remove(Ready::READ);
                return Ok(Step::Idle);
            }
            Err(ProxyFault::Closed) => return Err(EndReason::PeerClosed),
            Err(ProxyFault::Io(error)) => return Err(EndReason::Io(error.kind())),
            Err(ProxyFault::Bad(rule)) => {
                debug!(target: "uncork::engine", "{} {proxy}: {rule}", self.id);
                return Err(EndReason::Rejected { status: 0, rule });
            }
        };
        let client = header.source.map_or(proxy, PeerAddr::tcp);
        if let Err(limit) = self.peer.set_client(client) {
            let rule = limit.rule();
            debug!(target: "uncork::engine", "{client}, by {proxy}: rejected: {rule}");
            return Err(EndReason::Rejected { status: 0, rule });
        }
        if !dispatch::accept(handler, &self.peer.addr) {
            debug!(target: "uncork::engine", "{}, by {proxy}: rejected by the handler", self.peer.addr);
            return Err(EndReason::Rejected { status: 0, rule: BY_HANDLER });
        }
        self.peer.notify_closed = true;
        dispatch::opened(handler, self.id, &self.peer.addr, self.transport.socket_ref().fd().ok());
        Ok(Step::Become(if self.transport.is_handshaking() { Phase::Securing } else { Phase::Head }))
    }
}
