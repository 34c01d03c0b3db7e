//! Connections of our own making: connecting, securing, and then an upgrade like any other.
//!
//! ```text
//!   LoopMessage::Dial ──▶ Dialing: connect ─▶ TLS ─▶ then(Ok) ──who speaks──▶ Upgraded
//!                     │ within               │ └──nobody──▶ Closing
//!                     └──────────────────────┴─▶ then(Err), by close_slot
//!   LoopMessage::AdoptUpgrade ───────────────────────────────────────▶ Upgraded
//! ```
//! They have a slot like those that came to us, but no place among the admitted, and nobody is told of their end but
//! who speaks on them.

use log::{debug, warn};

use super::{
    Engine,
    arrivals::Peer,
    conn_io::{ConnIo, secure},
    core::Core,
    dispatch,
    slot::{Phase, Step},
    upgraded::Upgraded,
};
use crate::{
    api::{ConnectedSocket, Dial, DialError, Dialed, Upgrade, Waker, dial},
    base::{EndReason, PeerAddr, RequestId, Timeout, pool::LENT, time::Tick},
    transport::{Fault, Socket, Transport},
};

/// A connection that is being made.
pub(super) struct Dialing {
    /// `None` once it was called.
    then: Option<dial::Then>,
    /// Until when it must stand.
    pub(super) by: Tick,
    connected: bool,
    /// What went wrong, in more words than an end has.
    fault: Option<DialError>,
}

impl Dialing {
    /// It came to nothing: what is to be called, and with what.
    pub(super) fn failed(self, why: EndReason) -> Option<(dial::Then, DialError)> {
        let fault = self.fault.unwrap_or(match why {
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
        let by = self.core.tick.after(dial.within);
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

    /// Lets `upgrade` speak on a stream that stands.
    pub(super) fn adopt_upgrade(&mut self, stream: ConnectedSocket, upgrade: Box<dyn Upgrade>) {
        let adopted = match stream {
            ConnectedSocket::Tcp(stream) => Socket::from_tcp(stream),
            ConnectedSocket::Unix(stream) => Socket::from_unix(stream),
        };
        let (socket, peer) = match adopted {
            Ok(adopted) => adopted,
            Err(error) => {
                warn!(target: "uncork::engine", "a stream could not be adopted: {error}");
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
            warn!(target: "uncork::engine", "{peer}: a stream could not be adopted: {fault:?}");
        }
        dispatch::discard(upgrade);
    }
}

impl Dialing {
    /// Goes on with connecting and the handshake; when both are done, asks the application for an upgrade.
    #[inline(never)]
    pub(super) fn drive(&mut self, io: &mut ConnIo, core: &mut Core) -> Result<Step, EndReason> {
        match self.connect(io, core) {
            Ok(Reached::Established) => {}
            Ok(Reached::Further) => return Ok(Step::Progress),
            // Asked only when everything that has come was looked at: a loop that was held up takes no response for late.
            Ok(Reached::Waits) if self.by <= core.tick => return Err(EndReason::TimedOut(Timeout::Handshake)),
            Ok(Reached::Waits) => return Ok(Step::Idle),
            Err(fault) => {
                debug!(target: "uncork::transport", "{} {}: not connected: {fault:?}", io.id, io.peer.addr);
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
            secure: secure(&io.transport),
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

    /// Connects, then secures the connection.
    fn connect(&mut self, io: &mut ConnIo, core: &mut Core) -> Result<Reached, Fault> {
        if !self.connected {
            self.connected = io.transport.socket().connected()?;
            if !self.connected {
                // The socket becomes writable when it is.
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
            return Err(Fault::Tls("the peer has hung up during the handshake".into()));
        }
        Ok(if read { Reached::Further } else { Reached::Waits })
    }
}

/// How far a connection has come that is being made.
enum Reached {
    /// It waits for an event.
    Waits,
    /// Something of the handshake was read.
    Further,
    Established,
}

impl From<Fault> for DialError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Io(error) => Self::Io(error),
            Fault::Tls(words) => Self::Tls(words),
            Fault::PlainHttp => Self::Tls("the peer speaks plain HTTP".into()),
        }
    }
}
