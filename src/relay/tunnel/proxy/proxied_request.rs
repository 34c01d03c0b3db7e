//! One request on its way to an origin: what a carrier is given, be it HTTP/2 or another.
//!
//! ```text
//!   client ──▶ Request ──┬─ head ───────────────────────▶ Order { head, body, reply } ──▶ carrier ══▶ origin
//!                        └─ Upload ──PipeIn══PipeOut────▶          │
//!   client ◀── Response ◀─ Ticket ◀──────────────────────── reply.begin(status, fields) ──▶ PipeIn
//!                        └─ stream ◀─PipeOut═════════════════════════════════════════════════┘
//! ```
//! A carrier takes the body out of one pipe and puts the answer's into the other; both are bounded, so whoever is slow is
//! waited for, and nobody else. It learns by a [`task::Waker`] that there is something to do, or that the client has
//! left, and by dropping a pipe's end it breaks off.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task,
    time::{Duration, Instant},
};

use http::HeaderMap;
use uncork::{PipeIn, PipeOut, Produced, Response, Switch, Ticket, Tx, pipe};

use super::{Shared, counters::Count, shares::Place, upgraded_stream::UpgradedStream};
use crate::relay::{tunnel::head, wire::retry_after};

/// Bytes between a client and its stream, in each direction.
pub(super) const PIPE: usize = 64 * 1024;

/// How many 1xx are passed on for one request. Some servers send a few 103; no client wants hundreds.
const INTERIM: u32 = 16;

/// How often the clock of an upload that moves is set anew, at the most.
const CLOCK_EVERY: Duration = Duration::from_secs(5);

/// Connections one request is tried on.
const TRIES: usize = 3;

/// A request for an origin.
pub(super) struct ProxiedRequest {
    pub(super) head: http::Request<()>,
    /// The protocol to go on in after a 2xx to an extended CONNECT (RFC 8441).
    pub(super) protocol: Option<Box<str>>,
    /// The body; of an extended CONNECT, what the client says.
    pub(super) body: Option<PipeOut>,
    /// Names that its `Connection` lists: trailers of these names end here.
    pub(super) listed: Vec<Box<str>>,
    pub(super) reply: Reply,
    pub(super) share: Share,
    /// Links that have refused it.
    pub(super) refused_by: Vec<u64>,
    /// Its place on the link that has it.
    pub(super) place: Option<Place>,
}

impl ProxiedRequest {
    /// An origin has not even looked at it: another may have it, if nothing of the body was taken out.
    pub(super) fn again(mut self: Box<Self>, refused_by: u64) {
        let untouched = self.body.as_ref().is_none_or(|body| body.counters().read() == 0);
        self.refused_by.push(refused_by);
        self.place = None;
        if untouched && self.refused_by.len() < TRIES {
            self.reply.shared.counters.add(Count::Retried);
            let shared = self.reply.shared.clone();
            shared.send(self);
        } else {
            self.reply.fail(Failure::Refused);
        }
    }
}

/// Shares that a request takes a part of, until its carrier is done with it.
pub(super) struct Share {
    /// The address that has the share of a link's places.
    pub(super) address: Option<IpAddr>,
    /// One of its name's places. Not held until the client has gone: one that was refused may go on with its body.
    pub(super) _name: Place,
}

/// What the client's side and the carrier's know of each other.
#[derive(Default)]
pub(super) struct Call {
    over: AtomicBool,
    carrier: Mutex<Option<task::Waker>>,
}

impl Call {
    /// The client has left, or was answered otherwise.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Release);
        let carrier = self.carrier.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(carrier) = carrier {
            carrier.wake();
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    fn watch(&self, waker: task::Waker) {
        let mut carrier = self.carrier.lock().unwrap_or_else(PoisonError::into_inner);
        *carrier = Some(waker);
    }
}

/// The right to answer. Dropped without an answer, it says that the origin was lost.
pub(super) struct Reply {
    pub(super) shared: Arc<Shared>,
    pub(super) call: Arc<Call>,
    /// The time when it was last known.
    pub(super) now: Instant,
    ticket: Option<Ticket>,
    is_head: bool,
    /// Of an extended CONNECT.
    joined: Option<Joined>,
    interim: u32,
    /// When the clock was set.
    clock: Option<Instant>,
}

/// What is needed to switch the client's connection.
pub(super) struct Joined {
    pub(super) protocol: Box<str>,
    /// Of a WebSocket.
    pub(super) accept: Option<String>,
    pub(super) up: PipeIn,
}

/// Why there is no answer of an origin's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The name is known, but no origin is connected.
    NoOrigin,
    /// All that are there have as much to do as they may.
    Busy,
    /// They have places left, but this client's address has its share of them.
    Share,
    /// It refused the request.
    Refused,
    /// It was lost, or broke the exchange off.
    Lost,
    /// What it said makes no sense.
    Senseless,
    /// It takes no protocol by extended CONNECT.
    NoUpgrade,
    /// The body is larger than it may be.
    TooLarge,
    /// The head is larger than an origin server takes.
    HeadTooLarge,
}

/// What becomes of an answer.
pub(super) enum Begun {
    /// Its body goes here.
    Body(PipeIn),
    /// It has none, or none that is wanted.
    Whole,
    /// Nobody is there to hear it.
    Gone,
}

impl Reply {
    pub(super) fn new(shared: Arc<Shared>, call: Arc<Call>, ticket: Ticket, is_head: bool, now: Instant) -> Self {
        Self { shared, call, now, ticket: Some(ticket), is_head, joined: None, interim: 0, clock: None }
    }

    pub(super) fn joined(mut self, joined: Joined) -> Self {
        self.joined = Some(joined);
        self
    }

    /// Whom to wake when the client leaves.
    pub(super) fn watch(&self, waker: &task::Waker) {
        self.call.watch(waker.clone());
    }

    /// The request is on its way, or a part more of its body: from now on the origin may take its time, and the client
    /// if it has more to send, but not for ever.
    pub(super) fn set_clock(&mut self, now: Instant) {
        self.now = now;
        if self.clock.is_some_and(|set| now < set + CLOCK_EVERY) {
            return;
        }
        self.clock = Some(now);
        if let Some(ticket) = &self.ticket {
            let (call, shared) = (self.call.clone(), self.shared.clone());
            ticket.fallback(shared.config.response_timeout, move |_| {
                call.end();
                shared.counters.add(Count::TimedOut);
                Response::text("The origin does not answer.\n").with_status(504)
            });
        }
    }

    /// Passes a 1xx on; not 101, which is an answer in HTTP/1.1, and none in HTTP/2. Whether it may go on like that.
    pub(super) fn inform(&mut self, status: u16, fields: &HeaderMap) -> bool {
        self.interim += 1;
        if let Some(ticket) = &self.ticket
            && (102..200).contains(&status)
        {
            ticket.send_informational(status, head::interim_fields(fields));
        }
        self.interim <= INTERIM
    }

    /// The origin answers. `version`: of HTTP, in which it does. `ended`: there is no body.
    pub(super) fn begin(mut self, version: &str, status: u16, fields: &HeaderMap, ended: bool) -> Begun {
        let Some(ticket) = self.ticket.take() else { return Begun::Gone };
        let via = head::via(fields, version, &self.shared.via);
        if let Some(joined) = self.joined.take() {
            if (200..300).contains(&status) && !ended {
                return join(ticket, joined, fields, via);
            }
            // No other protocol after all: that was all the client has to say in it.
            joined.up.finish(None);
            if (200..300).contains(&status) {
                let _ = ticket.respond(Failure::Senseless.answer(&self.shared));
                return Begun::Whole;
            }
        }
        let length = head::length(fields);
        let bodiless = ended || self.is_head || matches!(status, 204 | 304);
        let (mut response, body) = if !bodiless {
            let (inlet, outlet) = pipe(PIPE);
            (Response::stream(outlet).with_status(status), Begun::Body(inlet))
        } else if self.is_head && length.is_none() {
            // Of a length that nobody knows: not of none.
            (Response::stream(|_: &mut Tx<'_>| Produced::End).with_status(status), Begun::Whole)
        } else {
            (Response::new(status), Begun::Whole)
        };
        for (name, value) in head::answer_fields(fields) {
            response = response.append(name, value);
        }
        match ticket.respond(response.header("Via", via).length(length)) {
            Ok(()) => body,
            Err(_) => Begun::Gone,
        }
    }

    /// There is no answer of an origin's.
    pub(super) fn fail(mut self, failure: Failure) {
        self.give(failure);
    }

    fn give(&mut self, failure: Failure) {
        // A client that has left, or was told 504, is counted as that.
        if let Some(ticket) = self.ticket.take()
            && !self.call.is_over()
        {
            self.shared.counters.add(failure.count());
            let _ = ticket.respond(failure.answer(&self.shared));
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.give(Failure::Lost);
    }
}

/// The client's connection goes on in the other protocol.
fn join(ticket: Ticket, joined: Joined, fields: &HeaderMap, via: Vec<u8>) -> Begun {
    let Joined { protocol, accept, up } = joined;
    let (inlet, outlet) = pipe(PIPE);
    let mut switch = Switch::to(&protocol, UpgradedStream::new(up, outlet));
    if let Some(accept) = accept {
        switch = switch.header("Sec-WebSocket-Accept", accept);
    }
    for (name, value) in head::answer_fields(fields).filter(|(name, _)| *name != "sec-websocket-accept") {
        switch = switch.append(name, value);
    }
    match ticket.respond(switch.header("Via", via)) {
        Ok(()) => Begun::Body(inlet),
        Err(_) => Begun::Gone,
    }
}

impl Failure {
    pub(super) fn answer(self, shared: &Shared) -> Response {
        let (status, words, again) = match self {
            Self::NoOrigin => (502, "No origin is connected for this host.\n", Some(shared.config.retry_after)),
            Self::Busy => (503, "The origin has too many requests under way.\n", Some(Duration::from_secs(1))),
            Self::Share => (503, "Your address has too many requests under way here.\n", Some(Duration::from_secs(1))),
            Self::Refused => (503, "The origin has refused the request.\n", Some(Duration::from_secs(1))),
            Self::Lost => (502, "The origin was lost before it had answered.\n", Some(shared.config.retry_after)),
            Self::Senseless => (502, "The origin's answer makes no sense.\n", None),
            Self::NoUpgrade => (501, "The origin speaks no other protocol.\n", None),
            Self::TooLarge => (413, "The body is larger than this host allows.\n", None),
            Self::HeadTooLarge => (431, "The head is larger than this host allows.\n", None),
        };
        let response = Response::text(words).with_status(status);
        match again {
            Some(after) => response.header("Retry-After", retry_after(after)),
            None => response,
        }
    }

    fn count(self) -> Count {
        match self {
            Self::NoOrigin => Count::NoOrigin,
            Self::Busy | Self::Share | Self::Refused => Count::Refused,
            Self::Lost | Self::Senseless => Count::Lost,
            Self::NoUpgrade | Self::TooLarge | Self::HeadTooLarge => Count::Unfit,
        }
    }
}
