//! One attempt to get a connection to the proxy, from its first byte: a request for a tunnel, then HTTP/2. ALPN may
//! have selected HTTP/2 with the roles reversed at once.
//!
//! ```text
//!   GET /tunnel, Bearer, Upgrade: ptth ──▶          ┌── 101 ──▶ Http2
//!   Requesting ◀── head, and the start of a body ───┼── else ──▶ rejected: reported, and closed
//!   PUT /, to a spdy-proxy ──▶                      └── 200 ──▶ Spdy
//! ```

use std::{mem, sync::Arc, task, time::Instant};

use uncork::{
    EventMask, Io, PeerAddr, ReadState, Upgrade,
    h1::{HeadScanner, find_response},
};

#[cfg(feature = "spdy")]
use super::spdy::Spdy;
use super::{
    error::TunnelError,
    http1::Http1,
    http2::Http2,
    protocol::{Health, Protocol},
    shared::Shared,
    stream::Served,
    upgrade_request::{RESPONSE_HEAD, UpgradeResponse},
};
use crate::relay::tunnel::{
    address::NamedNodes,
    labels::Inner,
    printable::{self, printable},
};

/// The peer has closed its side.
const HALF_CLOSED: &str = "it has closed the connection";

/// The owner of a carrier: it opens connections, and gets reports about them.
pub(super) trait Supervisor: Send + Sync {
    /// The server stops: no new connection is opened.
    fn stop(&self);

    /// Returns `true` if a newer connection is established.
    fn is_superseded(&self, generation: u64) -> bool;

    /// The proxy has accepted this connection: older ones may be drained.
    fn established(self: Arc<Self>, generation: u64, accepted: Accepted);

    /// The proxy is silent on this connection: another one is opened beside it.
    fn suspect(self: Arc<Self>, generation: u64);

    /// This connection takes no more requests: another one is opened beside it.
    fn used_up(self: Arc<Self>, generation: u64);

    /// This connection is over, or was never accepted.
    fn ended(self: Arc<Self>, generation: u64, end: CarrierEnd);
}

/// A connection that the proxy has accepted.
pub(super) struct Accepted {
    pub(super) peer: PeerAddr,
    /// Wakes its carrier.
    pub(super) waker: task::Waker,
    /// What the proxy has said about the nodes.
    pub(super) nodes: NamedNodes,
    pub(super) now: Instant,
}

/// The end of an attempt, or of a connection.
#[derive(Default)]
pub(super) struct CarrierEnd {
    /// The reason. `None`: the proxy has closed the connection in good order.
    pub(super) error: Option<TunnelError>,
    /// `Retry-After` of a rejection, in seconds.
    pub(super) retry_after: Option<u64>,
    /// ALPN has selected HTTP/2, and the proxy has then neither accepted nor rejected the connection.
    pub(super) unanswered: bool,
    /// It has served requests of HTTP/1.1, any of which can end a connection.
    pub(super) served: bool,
    /// The time of the last call.
    pub(super) now: Option<Instant>,
}

pub(super) struct Carrier {
    supervisor: Arc<dyn Supervisor>,
    shared: Arc<Shared>,
    generation: u64,
    served: Served,
    state: State,
    error: Option<TunnelError>,
    /// ALPN has selected HTTP/2, and the proxy has not accepted the connection yet.
    unanswered: bool,
    has_served: bool,
    /// `Retry-After` of a rejection, in seconds.
    retry_after: Option<u64>,
    /// What the response to the request for a tunnel has said about the nodes.
    nodes: NamedNodes,
    /// The time of the last call.
    now: Option<Instant>,
}

enum State {
    Requesting {
        /// The rest of the request, which is not sent yet.
        request: Vec<u8>,
        scan: HeadScanner,
        deadline: Option<Instant>,
    },
    Open {
        protocol: Box<dyn Protocol>,
        /// The supervisor knows that the connection is established.
        is_reported: bool,
    },
    Over,
}

impl Carrier {
    /// `reversed`: ALPN has selected this protocol, with the roles reversed. `request`: the request for a tunnel,
    /// without it.
    pub(super) fn new(
        supervisor: Arc<dyn Supervisor>,
        shared: Arc<Shared>,
        generation: u64,
        served: Served,
        reversed: Option<Inner>,
        request: Vec<u8>,
        now: Instant,
    ) -> Self {
        let hello = reversed.zip(shared.hello_response.clone());
        let unanswered = hello.is_some();
        let state = match hello {
            Some((inner, hello)) => {
                let (served, timeouts) = (served.clone(), shared.timeouts);
                let protocol: Box<dyn Protocol> = match inner {
                    Inner::Http2 => Box::new(Http2::new(served, timeouts, Some(hello), now)),
                    Inner::Http1 => Box::new(Http1::new(served, timeouts, Some(hello), now)),
                };
                State::Open { protocol, is_reported: false }
            }
            None => State::Requesting { request, scan: HeadScanner::default(), deadline: None },
        };
        Self {
            supervisor,
            shared,
            generation,
            served,
            state,
            error: None,
            unanswered,
            has_served: false,
            retry_after: None,
            nodes: NamedNodes::default(),
            now: None,
        }
    }

    fn request(&mut self, io: &mut Io<'_>) -> EventMask {
        let State::Requesting { request, scan, deadline } = &mut self.state else { return EventMask::TERMINATE };
        let now = io.now().mono;
        let deadline = *deadline.get_or_insert(now + self.shared.timeouts.connect_timeout);
        io.set_deadline(Some(deadline));
        let n = io.tx.write(request);
        request.drain(..n);
        let mask = if request.is_empty() { EventMask::READ } else { EventMask::READ | EventMask::WRITE };
        let found = find_response(scan, io.rx.bytes(), &RESPONSE_HEAD);
        let response = match found {
            Ok(Some(end)) => UpgradeResponse::parse(&io.rx.bytes()[..end]).map(|response| (end, response)),
            Ok(None) if io.rx.state() != ReadState::Open => Err(HALF_CLOSED),
            Ok(None) if now >= deadline => return self.fail(TunnelError::TimedOut),
            Ok(None) => return mask,
            Err(rule) => Err(rule.rule()),
        };
        let (end, response) = match response {
            Ok(response) => response,
            Err(rule) => return self.fail(TunnelError::NotAProxy(rule)),
        };
        if response.status == 101 {
            if !response.is_ptth {
                return self.fail(TunnelError::NotAProxy("it has switched to another protocol"));
            }
            io.rx.consume(end);
            self.nodes = response.nodes;
            let (served, timeouts) = (self.served.clone(), self.shared.timeouts);
            return match response.inner {
                Inner::Http2 => self.open(Box::new(Http2::new(served, timeouts, None, now)), io),
                Inner::Http1 => self.open(Box::new(Http1::new(served, timeouts, None, now)), io),
            };
        }
        #[cfg(feature = "spdy")]
        if response.status == 200 && self.shared.registration.legacy {
            let Some(body) = response.length.and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= printable::MAX)
            else {
                return self.fail(TunnelError::NotAProxy("its 200 response has no valid length"));
            };
            if io.rx.bytes().len() >= end + body {
                io.rx.consume(end + body);
                let spdy = Spdy::new(self.served.clone(), self.shared.timeouts, now);
                return self.open(Box::new(spdy), io);
            }
            return match io.rx.state() {
                ReadState::Open if now < deadline => mask,
                ReadState::Open => self.fail(TunnelError::TimedOut),
                _ => self.fail(TunnelError::NotAProxy(HALF_CLOSED)),
            };
        }
        if (100..200).contains(&response.status) {
            io.rx.consume(end);
            *scan = HeadScanner::default();
            return self.request(io);
        }
        // The body has the reason: wait for it until the timeout.
        let body = &io.rx.bytes()[end..];
        let is_complete =
            response.length.is_some_and(|length| body.len() as u64 >= length) || body.len() >= printable::MAX;
        if !is_complete && io.rx.state() == ReadState::Open && now < deadline {
            return mask;
        }
        self.retry_after = response.retry_after;
        let reason = printable(body);
        self.fail(TunnelError::Rejected { status: response.status, reason })
    }

    fn open(&mut self, protocol: Box<dyn Protocol>, io: &mut Io<'_>) -> EventMask {
        self.state = State::Open { protocol, is_reported: false };
        // The protocol may end at once.
        self.carry(io)
    }

    fn fail(&mut self, error: TunnelError) -> EventMask {
        self.error = Some(error);
        self.state = State::Over;
        EventMask::TERMINATE
    }

    fn carry(&mut self, io: &mut Io<'_>) -> EventMask {
        let State::Open { protocol, is_reported } = &mut self.state else { return EventMask::TERMINATE };
        let now = io.now().mono;
        let is_superseded = self.supervisor.is_superseded(self.generation) && !protocol.has_left_http();
        if io.events().is_stopping() || is_superseded {
            protocol.drain(now);
        }
        let mask = protocol.ready(io);
        self.error = self.error.take().or(protocol.take_error());
        if !*is_reported && self.error.is_none() && protocol.is_accepted() {
            *is_reported = true;
            self.unanswered = false;
            let nodes = protocol.nodes().filter(|nodes| !nodes.others.is_empty()).unwrap_or(&self.nodes).clone();
            let accepted = Accepted { peer: self.served.peer, waker: protocol.waker(), nodes, now };
            self.supervisor.clone().established(self.generation, accepted);
        }
        if protocol.liveness().health() == Health::Suspect && !protocol.liveness().is_draining() {
            self.supervisor.clone().suspect(self.generation);
        }
        if protocol.has_left_http() && !protocol.liveness().is_draining() {
            self.supervisor.clone().used_up(self.generation);
        }
        self.has_served = protocol.has_served();
        if mask.is_terminate() || io.events().is_error() {
            if io.events().is_error() {
                self.error.get_or_insert_with(|| TunnelError::Broken("it was reset".into()));
            }
            if let State::Open { protocol, .. } = mem::replace(&mut self.state, State::Over)
                && !protocol.liveness().is_draining()
            {
                self.error.get_or_insert(TunnelError::Closed);
            }
        }
        mask
    }
}

impl Upgrade for Carrier {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        self.now = Some(io.now().mono);
        if io.events().is_stopping() {
            self.supervisor.stop();
        }
        match self.state {
            State::Requesting { .. } if io.events().is_stopping() => EventMask::TERMINATE,
            State::Requesting { .. } if io.events().is_error() => self.fail(TunnelError::NotAProxy(HALF_CLOSED)),
            State::Requesting { .. } => self.request(io),
            State::Open { .. } => self.carry(io),
            State::Over => EventMask::TERMINATE,
        }
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        // Reports every end, also that of a loop that stops.
        let lost = !matches!(self.state, State::Over);
        let error = self.error.take().or_else(|| lost.then(|| TunnelError::Broken("the engine has closed it".into())));
        let unanswered = self.unanswered && !matches!(error, Some(TunnelError::Rejected { .. }));
        let (retry_after, served) = (self.retry_after, self.has_served);
        let end = CarrierEnd { error, retry_after, unanswered, served, now: self.now };
        self.supervisor.clone().ended(self.generation, end);
    }
}
