//! Connections of our own making: connecting, securing, and then an upgrade like any other.
//!
//! ```text
//!   Mail::Dial ──▶ Dialing: connect ─▶ TLS ─▶ then(Ok) ──who speaks──▶ Upgraded
//!                     │ within               │ └──nobody──▶ Closing
//!                     └──────────────────────┴─▶ then(Err), by close_slot
//!   Mail::AdoptUpgrade ───────────────────────────────────────▶ Upgraded
//! ```
//! They have a slot like those that came to us, but no place among the admitted, and nobody is told of their end but
//! who speaks on them.

use log::warn;

use super::{
    Engine,
    arrivals::Peer,
    core::Core,
    dispatch,
    slot::{Phase, Slot, secure},
    upgraded::Upgraded,
};
use crate::{
    api::{Dial, DialError, Dialed, Stream, Upgrade, Waker, dial},
    base::{Ended, PeerAddr, RequestId, Timer, pool::LENT, time::Tick},
    transport::{Fault, Socket, Transport},
};

/// A connection that is being made.
pub(super) struct Dialing {
    then: dial::Then,
    /// Until when it must stand.
    pub(super) by: Tick,
    connected: bool,
    /// What went wrong, in more words than an end has.
    fault: Option<DialError>,
}

impl Dialing {
    /// Keeps what is known of a fault that ends it.
    pub(super) fn note(&mut self, fault: DialError) {
        self.fault.get_or_insert(fault);
    }

    /// It came to nothing: what is to be called, and with what.
    pub(super) fn failed(self, why: Ended) -> (dial::Then, DialError) {
        let fault = self.fault.unwrap_or(match why {
            Ended::TimedOut(_) => DialError::TimedOut,
            Ended::Io(kind) => DialError::Io(kind.into()),
            Ended::Stopped => DialError::LoopEnded,
            _ => DialError::Io(std::io::ErrorKind::ConnectionAborted.into()),
        });
        (self.then, fault)
    }
}

impl Engine<'_> {
    /// Begins to connect.
    pub(super) fn dial(&mut self, dial: Dial, then: dial::Then) {
        if let Some(name) = dial.bad_name() {
            return dispatch::not_dialed(then, DialError::BadName(name));
        }
        let begun = match &dial.to {
            dial::Place::Tcp(addr) => Socket::connect_tcp(*addr).map(|socket| (socket, PeerAddr::tcp(*addr))),
            dial::Place::Unix(path) => Socket::connect_unix(path).map(|socket| (socket, PeerAddr::Unix)),
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
                then.take().map(|then| Phase::Dialing(Box::new(Dialing { then, by, connected: false, fault: None })))
            },
        );
        if let (Err(fault), Some(then)) = (added, then) {
            dispatch::not_dialed(then, fault.into());
        }
    }

    /// Lets `upgrade` speak on a stream that stands.
    pub(super) fn adopt_upgrade(&mut self, stream: Stream, upgrade: Box<dyn Upgrade>) {
        let adopted = match stream {
            Stream::Tcp(stream) => Socket::from_tcp(stream),
            Stream::Unix(stream) => Socket::from_unix(stream),
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

impl Slot {
    /// Goes on with connecting and the handshake; when both are done, asks who speaks. Whether anything changed.
    #[inline(never)]
    pub(super) fn drive_dialing(&mut self, core: &mut Core) -> Result<bool, Ended> {
        let Phase::Dialing(dialing) = &mut self.phase else { return Ok(false) };
        if !dialing.connected {
            match self.transport.socket().connected() {
                Ok(true) => dialing.connected = true,
                // Being writable will tell.
                Ok(false) => return self.dials_on(core),
                Err(error) => return Err(self.fault(core, error.into())),
            }
            self.transport.socket().keep_alive();
        }
        if self.transport.is_handshaking() {
            self.flush(core)?;
            let read = self.fill(core, LENT, LENT)?;
            if self.transport.is_handshaking() {
                if self.eof.is_some() {
                    return Err(self.fault(core, Fault::Tls("the peer has hung up during the handshake".into())));
                }
                return if read { Ok(true) } else { self.dials_on(core) };
            }
        }
        let local = self.transport.socket().local_addr();
        let waker = Waker::new(self.request_id(), core.mailbox.clone());
        let Phase::Dialing(dialing) = std::mem::replace(&mut self.phase, Phase::Head) else { return Ok(false) };
        let dialed = Dialed {
            peer: &self.peer.addr,
            local,
            secure: secure(&self.transport),
            alpn: self.transport.alpn(),
            waker: &waker,
            now: core.now,
        };
        match dispatch::dialed(dialing.then, dialed) {
            Err(_) => return Err(Ended::Panicked),
            Ok(None) => self.close(Ended::Complete, false),
            Ok(Some(upgrade)) => self.phase = Phase::Upgraded(Box::new(Upgraded::new(upgrade, waker, core))),
        }
        Ok(true)
    }

    /// Nothing more can be done for now; if there is time left. Asked only when everything that has come was looked at:
    /// a loop that was held up takes no peer's answer for late.
    fn dials_on(&self, core: &Core) -> Result<bool, Ended> {
        match &self.phase {
            Phase::Dialing(dialing) if dialing.by <= core.tick => Err(Ended::TimedOut(Timer::Handshake)),
            _ => Ok(false),
        }
    }
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
