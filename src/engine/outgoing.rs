//! Outbound connections: connecting, TLS, and then an upgrade like any other.
//!
//! ```text
//!   LoopMessage::Dial ──▶ Dialing: connect ─▶ TLS ─▶ then(Ok) ──Some(upgrade)──▶ Upgraded
//!                            │ timeout             │ └──None──▶ Closing
//!                            └─────────────────────┴─▶ then(Err), by close_slot
//!   LoopMessage::AdoptUpgrade ────────────────────────────────────────▶ Upgraded
//! ```
//! They use slots like inbound connections, but do not count toward the limits. Only their `Upgrade` learns that they
//! ended.

use log::{debug, warn};

use super::{
    Engine,
    arrivals::Peer,
    conn_io::{ConnIo, tls_info},
    core::Core,
    dispatch,
    phase::{Dialing, Phase, Step, Upgraded},
};
use crate::{
    api::{ConnectedSocket, Dial, DialError, Dialed, Upgrade, Waker, dial},
    base::{EndReason, PeerAddr, RequestId, Timeout, pool::LENT},
    transport::{Fault, Socket, Transport},
};

impl Dialing {
    /// Returns the function to call after a failure, and the error to call it with.
    pub(super) fn failed(self, reason: EndReason) -> Option<(dial::Then, DialError)> {
        let fault = self.fault.unwrap_or(match reason {
            EndReason::TimedOut(_) => DialError::TimedOut,
            EndReason::Io(kind) => DialError::Io(kind.into()),
            EndReason::Stopped => DialError::LoopEnded,
            _ => DialError::Io(std::io::ErrorKind::ConnectionAborted.into()),
        });
        self.then.map(|then| (then, fault))
    }
}

impl Engine<'_> {
    /// Begins to connect.
    pub(super) fn dial(&mut self, dial: Dial, then: dial::Then) {
        if let Some(name) = dial.bad_name() {
            return dispatch::not_dialed(then, DialError::BadName(name));
        }
        let begun = match &dial.to {
            dial::DialTarget::Tcp(addr) => Socket::connect_tcp(*addr).map(|socket| (socket, PeerAddr::tcp(*addr))),
            dial::DialTarget::Unix(path) => Socket::connect_unix(path).map(|socket| (socket, PeerAddr::Unix)),
        };
        let (socket, peer) = match begun {
            Ok(begun) => begun,
            Err(error) => return dispatch::not_dialed(then, DialError::Io(error)),
        };
        let by = self.core.tick.after(dial.timeout);
        let mut then = Some(then);
        let added = self.add(
            socket,
            Peer::dialed(peer),
            |socket| Transport::dialed(socket, &dial.trust),
            |_, _| {
                then.take().map(|then| {
                    Phase::Dialing(Box::new(Dialing { then: Some(then), by, connected: false, fault: None }))
                })
            },
        );
        if let (Err(fault), Some(then)) = (added, then) {
            dispatch::not_dialed(then, fault.into());
        }
    }

    /// Runs `upgrade` on an established stream.
    pub(super) fn adopt_upgrade(&mut self, stream: ConnectedSocket, upgrade: Box<dyn Upgrade>) {
        let adopted = match stream {
            ConnectedSocket::Tcp(stream) => Socket::from_tcp(stream),
            ConnectedSocket::Unix(stream) => Socket::from_unix(stream),
        };
        let (socket, peer) = match adopted {
            Ok(adopted) => adopted,
            Err(error) => {
                warn!(target: "uncork::engine", "cannot adopt a stream: {error}");
                return dispatch::discard(upgrade);
            }
        };
        socket.keep_alive();
        let mut upgrade = Some(upgrade);
        let added = self.add(
            socket,
            Peer::dialed(peer),
            |socket| Ok(Transport::plain(socket)),
            |id, core| {
                let waker = Waker::new(RequestId { conn: id, number: 0 }, core.mailbox.clone());
                upgrade.take().map(|upgrade| Phase::Upgraded(Box::new(Upgraded::new(upgrade, waker, core))))
            },
        );
        if let Err(fault) = added {
            warn!(target: "uncork::engine", "{peer}: cannot adopt a stream: {fault}");
        }
        dispatch::discard(upgrade);
    }
}

impl Dialing {
    /// Advances connecting and the handshake. When both are done, asks the application for an upgrade.
    #[inline(never)]
    pub(super) fn drive(&mut self, io: &mut ConnIo, core: &mut Core) -> Result<Step, EndReason> {
        match self.connect(io, core) {
            Ok(Reached::Established) => {}
            Ok(Reached::Further) => return Ok(Step::Progress),
            // Checked only after all input was read: a loop that was delayed must not take a response for late.
            Ok(Reached::Waits) if self.by <= core.tick => return Err(EndReason::TimedOut(Timeout::Handshake)),
            Ok(Reached::Waits) => return Ok(Step::Idle),
            Err(fault) => {
                debug!(target: "uncork::transport", "{} {}: cannot connect: {fault}", io.id, io.peer.addr);
                self.fault.get_or_insert(fault.into());
                return Err(EndReason::Aborted);
            }
        }
        let local = io.transport.socket().local_addr();
        let waker = Waker::new(io.request_id(), core.mailbox.clone());
        let Some(then) = self.then.take() else { return Err(EndReason::Aborted) };
        let dialed = Dialed {
            peer: &io.peer.addr,
            local,
            tls_info: tls_info(&io.transport),
            alpn: io.transport.alpn(),
            waker: &waker,
            now: core.now,
        };
        match dispatch::dialed(then, dialed) {
            Err(_) => Err(EndReason::Panicked),
            Ok(None) => Ok(io.closing(EndReason::Complete, false)),
            Ok(Some(upgrade)) => Ok(Step::Become(Phase::Upgraded(Box::new(Upgraded::new(upgrade, waker, core))))),
        }
    }

    /// Connects, then performs the handshake.
    fn connect(&mut self, io: &mut ConnIo, core: &mut Core) -> Result<Reached, Fault> {
        if !self.connected {
            self.connected = io.transport.socket().connected()?;
            if !self.connected {
                // The socket becomes writable when it is connected.
                return Ok(Reached::Waits);
            }
            io.transport.socket().keep_alive();
        }
        if !io.transport.is_handshaking() {
            return Ok(Reached::Established);
        }
        io.try_flush(core)?;
        let read = io.try_fill(core, LENT, LENT)?;
        if !io.transport.is_handshaking() {
            return Ok(Reached::Established);
        }
        if io.eof.is_some() {
            return Err(Fault::Tls("the peer closed the connection during the handshake".into()));
        }
        Ok(if read { Reached::Further } else { Reached::Waits })
    }
}

/// The progress of an outbound connection.
enum Reached {
    /// It waits for an event.
    Waits,
    /// Some of the handshake was read.
    Further,
    Established,
}

impl From<Fault> for DialError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Io(error) => Self::Io(error),
            Fault::Tls(text) => Self::Tls(text),
            Fault::PlainHttp => Self::Tls("the peer sent plain HTTP".into()),
        }
    }
}
