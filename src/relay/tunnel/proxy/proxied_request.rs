//! One request on its way to an origin server: what a carrier gets, in HTTP/2 or SPDY.
//!
//! ```text
//!   client ──▶ Request ──┬─ head ───────────────▶ ProxiedRequest { head, body, responder } ──▶ carrier ══▶ origin
//!                        └─ Upload ──PipeIn══PipeOut────▶            │
//!   client ◀── Response ◀─ Ticket ◀─────────────────────── responder.begin(status, fields) ──▶ PipeIn
//!                        └─ stream ◀─PipeOut═════════════════════════════════════════════════┘
//! ```
//! A carrier takes the body out of one pipe and writes the response's body into the other. Both are bounded, so a slow
//! side stops only its own sender. A [`task::Waker`] wakes the carrier when there is something to do, or when the
//! client has disconnected. Dropping the end of a pipe truncates it.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task,
    time::{Duration, Instant},
};

use uncork::{PipeIn, PipeOut, Produced, Response, Switch, Ticket, Tx, h1::Headers, pipe};

use super::{common::Common, config::ProxyConfig, counters::Count, shares::Permit};
use crate::relay::{lock::lock, tunnel::head, upgraded_stream::UpgradedStream, wire::retry_after};

/// Bytes between a client and its stream, in each direction.
pub(super) const PIPE: usize = 64 * 1024;

/// Largest number of 1xx that are forwarded for one request. Some servers send a few 103; no client needs hundreds.
const INFORMATIONAL_MAX: u32 = 16;

/// Shortest time between two restarts of the timeout, while an upload moves.
const RESTART_EVERY: Duration = Duration::from_secs(5);

/// A request for an origin server.
pub(super) struct ProxiedRequest {
    pub(super) head: http::Request<()>,
    /// The protocol after a 2xx to an extended CONNECT (RFC 8441).
    pub(super) protocol: Option<Box<str>>,
    /// The body; with an extended CONNECT, the client's bytes in that protocol.
    pub(super) body: Option<PipeOut>,
    /// Names that its `Connection` lists: trailers of these names end here.
    pub(super) listed: Vec<Box<str>>,
    pub(super) responder: Responder,
    pub(super) share: Share,
    /// The numbers of the connections that have rejected it unread.
    pub(super) rejected_by: Vec<u64>,
    /// Its permit on the connection that has it.
    pub(super) permit: Option<Permit>,
}

/// Shares that a request uses, until its carrier is done with it.
pub(super) struct Share {
    /// The address that has a share of a connection's capacity.
    pub(super) address: Option<IpAddr>,
    /// One of the name's permits. It is not held until the client has disconnected: a rejected client may still send
    /// its body.
    name: Option<Permit>,
}

impl Share {
    pub(super) fn new(address: Option<IpAddr>, name: Permit) -> Self {
        Self { address, name: Some(name) }
    }

    /// Returns the name's permit. Before the client learns of the end: it may send its next request at once.
    pub(super) fn release(&mut self) {
        self.name = None;
    }
}

/// Connects the client's side to the carrier: either learns of the other's end.
#[derive(Default)]
pub(super) struct Cancellation {
    over: AtomicBool,
    carrier: Mutex<Option<task::Waker>>,
}

impl Cancellation {
    /// The client has disconnected, or has got another response.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Release);
        let carrier = lock(&self.carrier).take();
        if let Some(carrier) = carrier {
            carrier.wake();
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    fn watch(&self, waker: task::Waker) {
        let mut carrier = lock(&self.carrier);
        *carrier = Some(waker);
    }
}

/// The right to respond, once. Dropped without a response, it reports that the origin server has disconnected.
pub(super) struct Responder {
    common: Arc<Common>,
    pub(super) cancellation: Arc<Cancellation>,
    /// The latest time that is known here.
    pub(super) now: Instant,
    ticket: Option<Ticket>,
    is_head: bool,
    /// For an extended CONNECT.
    upgrade: Option<UpgradeParts>,
    informational: u32,
    /// When the timeout was last started.
    timeout_set: Option<Instant>,
}

/// The parts of a switch of the client's connection.
pub(super) struct UpgradeParts {
    pub(super) protocol: Box<str>,
    /// For a WebSocket.
    pub(super) accept: Option<String>,
    pub(super) to_origin: PipeIn,
}

/// The reason why an origin server has not responded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The name is known, but no origin server is connected.
    NoOriginServer,
    /// All connections are at their limit.
    Busy,
    /// The connections have capacity left, but this client's address has its share of it.
    Share,
    /// All origin servers have rejected the request unread.
    RejectedUnread,
    /// The origin server has disconnected, or has reset the stream.
    Lost,
    /// Its response is malformed.
    Malformed,
    /// It does not support extended CONNECT.
    NoUpgrade,
    /// The request's body exceeds the limit.
    TooLarge,
    /// The request's head is larger than an origin server accepts.
    HeadTooLarge,
}

/// The state behind the head of a response.
pub(super) enum Begun {
    /// Its body goes into this pipe.
    Body(PipeIn),
    /// There is no body, or none that the client may get.
    WithoutBody,
    /// The client has disconnected.
    Disconnected,
}

impl Responder {
    pub(super) fn new(
        common: Arc<Common>,
        cancellation: Arc<Cancellation>,
        ticket: Ticket,
        is_head: bool,
        now: Instant,
    ) -> Self {
        Self {
            common,
            cancellation,
            now,
            ticket: Some(ticket),
            is_head,
            upgrade: None,
            informational: 0,
            timeout_set: None,
        }
    }

    pub(super) fn with_upgrade(mut self, upgrade: UpgradeParts) -> Self {
        self.upgrade = Some(upgrade);
        self
    }

    /// Sets the waker that is called when the client disconnects.
    pub(super) fn watch(&self, waker: &task::Waker) {
        self.cancellation.watch(waker.clone());
    }

    /// Starts the response timeout, when the request or a part of its body is sent. It limits the origin server, and a
    /// client that has more to send.
    pub(super) fn restart_timeout(&mut self, now: Instant) {
        self.now = now;
        if self.timeout_set.is_some_and(|set| now < set + RESTART_EVERY) {
            return;
        }
        self.timeout_set = Some(now);
        if let Some(ticket) = &self.ticket {
            let (cancellation, common) = (self.cancellation.clone(), self.common.clone());
            ticket.fallback(common.config.response_timeout, move |_| {
                cancellation.end();
                common.counters.add(Count::TimedOut);
                Response::text("the origin server does not respond\n").with_status(504)
            });
        }
    }

    /// Forwards a 1xx, except 101, which is a final response in HTTP/1.1 and does not exist in HTTP/2. Returns `false`
    /// if there were too many.
    pub(super) fn send_informational(&mut self, status: u16, fields: &Headers) -> bool {
        self.informational += 1;
        if self.informational > INFORMATIONAL_MAX {
            return false;
        }
        if let Some(ticket) = &self.ticket
            && (102..200).contains(&status)
        {
            ticket.send_informational(status, head::informational_fields(fields));
        }
        true
    }

    /// Begins the response. `version`: the HTTP version of the origin server's response. `ended`: it has no body.
    pub(super) fn begin(mut self, version: &str, status: u16, fields: &Headers, ended: bool) -> Begun {
        let Some(ticket) = self.ticket.take() else { return Begun::Disconnected };
        let via = self.common.via.after(version, fields.get_all("via"));
        if let Some(upgrade) = self.upgrade.take() {
            if (200..300).contains(&status) && !ended {
                return switch(ticket, upgrade, fields, via);
            }
            // The upgrade was declined, so the client sends nothing more to the origin server.
            upgrade.to_origin.finish(None);
            if (200..300).contains(&status) {
                let _ = ticket.respond(Failure::Malformed.response(&self.common.config));
                return Begun::WithoutBody;
            }
        }
        let length = head::length(fields.get("content-length"));
        let bodiless = ended || self.is_head || matches!(status, 204 | 304);
        let (mut response, body) = if !bodiless {
            let (inlet, outlet) = pipe(PIPE);
            (Response::stream(outlet).with_status(status), Begun::Body(inlet))
        } else if self.is_head && length.is_none() {
            // The length is unknown, which is not the same as 0.
            (Response::stream(|_: &mut Tx<'_>| Produced::End).with_status(status), Begun::WithoutBody)
        } else {
            (Response::new(status), Begun::WithoutBody)
        };
        for (name, value) in head::response_fields(fields) {
            response = response.append(name, value);
        }
        match ticket.respond(response.header("Via", via).length(length)) {
            Ok(()) => body,
            Err(_) => Begun::Disconnected,
        }
    }

    /// Responds with an error.
    pub(super) fn fail(mut self, failure: Failure) {
        self.respond_with(failure);
    }

    fn respond_with(&mut self, failure: Failure) {
        // A client that has disconnected, or has got 504, is counted as such.
        if let Some(ticket) = self.ticket.take()
            && !self.cancellation.is_over()
        {
            self.common.counters.add(failure.count());
            let _ = ticket.respond(failure.response(&self.common.config));
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.respond_with(Failure::Lost);
    }
}

/// Switches the client's connection to the other protocol.
fn switch(ticket: Ticket, upgrade: UpgradeParts, fields: &Headers, via: Vec<u8>) -> Begun {
    let UpgradeParts { protocol, accept, to_origin } = upgrade;
    let (inlet, outlet) = pipe(PIPE);
    let mut switch = Switch::to(&protocol, UpgradedStream::new(to_origin, outlet));
    if let Some(accept) = accept {
        switch = switch.header("Sec-WebSocket-Accept", accept);
    }
    let is_proof = |name: &str| name.eq_ignore_ascii_case("sec-websocket-accept");
    for (name, value) in head::response_fields(fields).filter(|(name, _)| !is_proof(name)) {
        switch = switch.append(name, value);
    }
    match ticket.respond(switch.header("Via", via)) {
        Ok(()) => Begun::Body(inlet),
        Err(_) => Begun::Disconnected,
    }
}

impl Failure {
    pub(super) fn response(self, config: &ProxyConfig) -> Response {
        let (status, body, retry) = match self {
            Self::NoOriginServer => (502, "no origin server is connected for this host\n", Some(config.retry_after)),
            Self::Busy => (503, "too many concurrent requests for the origin server\n", Some(Duration::from_secs(1))),
            Self::Share => {
                (503, "too many concurrent requests from your address for this host\n", Some(Duration::from_secs(1)))
            }
            Self::RejectedUnread => (503, "the origin server rejected the request\n", Some(Duration::from_secs(1))),
            Self::Lost => (502, "the origin server disconnected before its response\n", Some(config.retry_after)),
            Self::Malformed => (502, "malformed response of the origin server\n", None),
            Self::NoUpgrade => (501, "the origin server supports no other protocol\n", None),
            Self::TooLarge => (413, "the body is larger than this host allows\n", None),
            Self::HeadTooLarge => (431, "the head is larger than this host allows\n", None),
        };
        let response = Response::text(body).with_status(status);
        match retry {
            Some(after) => response.header("Retry-After", retry_after(after)),
            None => response,
        }
    }

    fn count(self) -> Count {
        match self {
            Self::NoOriginServer => Count::NoOriginServer,
            Self::Busy | Self::Share | Self::RejectedUnread => Count::Rejected,
            Self::Lost | Self::Malformed => Count::Lost,
            Self::NoUpgrade | Self::TooLarge | Self::HeadTooLarge => Count::Unfit,
        }
    }
}
