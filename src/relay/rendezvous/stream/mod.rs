//! One stream: its requests, its transfer and its end. Every transition is in this file. The submodules have the names
//! of its ends (`outcome`), the responses of a successful stream (`response`), and its status (`status`). Nothing in
//! here locks, reads a clock or calls application code. Under the rendezvous' lock, tickets only post messages.
//!
//! ```text
//!             all connected            first byte            last receiver's end
//!   Waiting ─────────────────▶ Meeting ──────────▶ Streaming ──────────────────▶ Over(Finished)
//!      │ a side ends, an error is posted,   │ one disconnects  │
//!      ▼ the deadline has passed            ▼                  ▼
//!   Over(…)                              Over(…)            Over(…)
//! ```
//!
//! The responses to the receivers begin with the first byte (or the end) of the source. Until then they can still be an
//! error.

mod outcome;
mod response;
mod status;

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use uncork::{EndReason, Moment, PipeCounters, RequestId, Response, Ticket, pipe};

use self::outcome::Outcome;
use super::{
    body::CreateOptions,
    config::RendezvousConfig,
    faults::{self, Fault},
    transfer::Inlets,
};
use crate::relay::wire::CorsHeaders;

/// The deadline of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The sides must connect by then.
    Connect(Instant),
    /// Its requests have timeouts of their own.
    Never,
    /// Its record is removed then.
    Remove(Instant),
}

/// A suspended request.
pub(super) struct Waiter {
    pub(super) id: RequestId,
    pub(super) ticket: Ticket,
    pub(super) cors: CorsHeaders,
}

impl Waiter {
    /// Responds to the request. An error means that its client has disconnected, or that it has a response already; its
    /// end follows.
    fn respond(self, response: Response, config: &RendezvousConfig) {
        let _ = self.ticket.respond(self.cors.apply(response, config));
    }
}

/// The request that sends.
pub(super) struct Source {
    pub(super) waiter: Waiter,
    /// Length of its body; `None` if it is chunked.
    pub(super) length: Option<u64>,
}

/// A request that receives.
pub(super) struct Receiver {
    pub(super) waiter: Waiter,
    /// The receiver's `?strict=`: a source that disconnects aborts its download.
    pub(super) strict: Option<bool>,
}

enum Phase {
    /// Not all sides have connected.
    Waiting,
    /// All sides have connected; the source's first byte is awaited.
    Meeting,
    Streaming(Flow),
    Over {
        outcome: Outcome,
        at: SystemTime,
        until: Instant,
        /// An error that was posted before any side connected.
        posted: Option<Fault>,
    },
}

impl Phase {
    fn is_waiting(&self) -> bool {
        matches!(self, Self::Waiting)
    }
}

/// A stream that is being transferred.
struct Flow {
    /// The receivers' requests that have not ended.
    receivers: Vec<RequestId>,
    /// The outcome of a receiver that has disconnected, if the source's end was not the reason.
    lost: Option<Outcome>,
    /// The source's body was received completely. Set before the pipes are finished.
    whole: Arc<AtomicBool>,
    /// Length of the body, if it is known.
    length: Option<u64>,
    /// The body does not have the length that the creator declared for the download.
    wrong_length: Arc<AtomicBool>,
    /// A receiver's connection was aborted because the source has disconnected.
    aborted: bool,
}

impl Flow {
    fn is_whole(&self) -> bool {
        self.whole.load(Ordering::Acquire)
    }
}

pub(super) struct Stream {
    options: CreateOptions,
    /// Number of receivers that it starts with.
    pub(super) receivers_wanted: usize,
    strict: Option<bool>,
    pub(super) owner: Option<IpAddr>,
    created: Moment,
    expires: Instant,
    /// Time at which it ends if no peer is connected to it.
    unused_until: Instant,
    phase: Phase,
    source: Option<Source>,
    receivers: Vec<Receiver>,
    counters: Vec<PipeCounters>,
}

impl Stream {
    pub(super) fn new(
        options: CreateOptions,
        receivers: usize,
        strict: Option<bool>,
        owner: Option<IpAddr>,
        now: Moment,
        ttl: Duration,
        first_use_timeout: Duration,
    ) -> Self {
        Self {
            options,
            receivers_wanted: receivers,
            strict,
            owner,
            created: now,
            expires: now.mono + ttl,
            unused_until: now.mono + ttl.min(first_use_timeout),
            phase: Phase::Waiting,
            source: None,
            receivers: Vec::new(),
            counters: Vec::new(),
        }
    }

    pub(super) fn due(&self) -> Due {
        match self.phase {
            Phase::Waiting if self.is_unused() => Due::Connect(self.unused_until),
            Phase::Waiting => Due::Connect(self.expires),
            Phase::Meeting | Phase::Streaming(_) => Due::Never,
            Phase::Over { until, .. } => Due::Remove(until),
        }
    }

    /// Returns `true` if it waits, and no peer is connected to it.
    fn is_unused(&self) -> bool {
        self.is_waiting() && self.source.is_none() && self.receivers.is_empty()
    }

    /// Returns the address of an [unused](Self::is_unused) stream, and its creation time.
    pub(super) fn unused(&self) -> Option<(Option<IpAddr>, Instant)> {
        self.is_unused().then_some((self.owner, self.created.mono))
    }

    pub(super) fn weight(&self) -> usize {
        self.options.weight()
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over { .. })
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.phase.is_waiting()
    }

    /// Returns how long the sides still have to connect.
    pub(super) fn remaining(&self, now: Moment) -> Duration {
        self.expires.saturating_duration_since(now.mono)
    }

    // Connecting.

    /// Removes requests whose client has disconnected, or that have a response, also if their ends are not known here
    /// yet.
    pub(super) fn prune(&mut self, config: &RendezvousConfig, now: Moment) {
        let is_over = |waiter: &Waiter| self.phase.is_waiting() && waiter.ticket.is_closed();
        let source =
            self.source.iter().map(|source| &source.waiter).find(|waiter| is_over(waiter)).map(|waiter| waiter.id);
        let receivers = self.receivers.iter().map(|receiver| &receiver.waiter).filter(|waiter| is_over(waiter));
        let receivers: Vec<RequestId> = receivers.map(|waiter| waiter.id).collect();
        for id in receivers {
            self.receiver_ended(id, EndReason::PeerClosed, config, now);
        }
        if let Some(id) = source {
            self.source_ended(id, EndReason::PeerClosed, config, now);
        }
    }

    /// Returns the error for a new source, if none can connect now.
    pub(super) fn reject_source(&self) -> Option<Fault> {
        match &self.phase {
            Phase::Over { posted, .. } => Some(posted.clone().unwrap_or(faults::NOT_FOUND)),
            _ => self.source.is_some().then_some(faults::SOURCE_TAKEN),
        }
    }

    /// Returns the error for a new receiver, if none can connect now.
    pub(super) fn reject_receiver(&self) -> Option<Fault> {
        match &self.phase {
            Phase::Over { posted, .. } => Some(posted.clone().unwrap_or(faults::NOT_FOUND)),
            Phase::Waiting if self.receivers.len() < self.receivers_wanted => None,
            _ => Some(faults::DESTINATION_TAKEN),
        }
    }

    pub(super) fn connect_source(&mut self, source: Source) {
        self.source = Some(source);
    }

    pub(super) fn connect_receiver(&mut self, receiver: Receiver) {
        self.receivers.push(receiver);
    }

    /// Starts the stream, if all sides have connected. Then returns the source and the receivers.
    pub(super) fn start(&mut self) -> Option<(&Source, impl Iterator<Item = &Waiter>)> {
        let source = self.source.as_ref()?;
        if !matches!(self.phase, Phase::Waiting) || self.receivers.len() < self.receivers_wanted {
            return None;
        }
        self.phase = Phase::Meeting;
        Some((source, self.receivers.iter().map(|receiver| &receiver.waiter)))
    }

    // Transfer.

    /// Begins the responses to the receivers. `empty`: the source's body has ended without a byte. Returns `None` if no
    /// receiver needs the body.
    pub(super) fn begin(&mut self, empty: bool, config: &RendezvousConfig, now: Moment) -> Option<Inlets> {
        if !matches!(self.phase, Phase::Meeting) {
            return None;
        }
        let length = if empty { Some(0) } else { self.source.as_ref()?.length };
        let (whole, wrong_length) = (Arc::new(AtomicBool::new(empty)), Arc::<AtomicBool>::default());
        let (mut receivers, mut inlets, mut counters, mut lost) = (Vec::new(), Vec::new(), Vec::new(), None);
        for receiver in std::mem::take(&mut self.receivers) {
            let (mut inlet, outlet) = pipe(config.pipe);
            if let Some(source) = &self.source {
                inlet.on_room(source.waiter.ticket.waker());
            }
            let its_counters = inlet.counters();
            let response = self.download_response(&receiver, outlet, length, &wrong_length, config);
            let Receiver { waiter, .. } = receiver;
            match waiter.ticket.respond(response) {
                Ok(()) => {
                    receivers.push(waiter.id);
                    inlets.push(inlet);
                    counters.push(its_counters);
                }
                Err(_) => lost = Some(Outcome::DestinationClosed),
            }
        }
        if receivers.is_empty() {
            self.conclude(Outcome::DestinationClosed, config, now);
            return None;
        }
        self.counters = counters;
        self.phase =
            Phase::Streaming(Flow { receivers, lost, whole: whole.clone(), length, wrong_length, aborted: false });
        if empty {
            inlets.drain(..).for_each(|inlet| inlet.finish(None));
            return None;
        }
        Some(Inlets { inlets, whole })
    }

    // End.

    /// Handles the end of the source's request.
    pub(super) fn source_ended(&mut self, id: RequestId, reason: EndReason, config: &RendezvousConfig, now: Moment) {
        if self.source.as_ref().is_none_or(|source| source.waiter.id != id) {
            return;
        }
        match &self.phase {
            Phase::Over { .. } => {}
            // The whole body is in the pipes; the receivers' requests determine the outcome.
            Phase::Streaming(flow) if flow.is_whole() => {}
            Phase::Waiting | Phase::Meeting | Phase::Streaming(_) => {
                self.conclude(Outcome::of_source(reason), config, now);
            }
        }
    }

    /// Handles the end of a receiver's request.
    pub(super) fn receiver_ended(&mut self, id: RequestId, reason: EndReason, config: &RendezvousConfig, now: Moment) {
        match &mut self.phase {
            Phase::Over { .. } => {}
            // If there are several, another one can take its part.
            Phase::Waiting | Phase::Meeting => {
                let before = self.receivers.len();
                self.receivers.retain(|receiver| receiver.waiter.id != id);
                let meeting = matches!(self.phase, Phase::Meeting);
                let over = if meeting { self.receivers.is_empty() } else { self.receivers_wanted == 1 };
                if before > self.receivers.len() && over {
                    self.conclude(Outcome::of_destination(reason), config, now);
                }
            }
            Phase::Streaming(flow) => {
                let before = flow.receivers.len();
                flow.receivers.retain(|receiver| *receiver != id);
                if flow.receivers.len() == before {
                    return;
                }
                match reason {
                    EndReason::Complete => {}
                    // The source has sent another length than was declared: that is an error of the source.
                    EndReason::Aborted if flow.wrong_length.load(Ordering::Acquire) => {
                        flow.lost = Some(Outcome::SourceFailed);
                    }
                    EndReason::Aborted => flow.aborted = true,
                    _ => _ = flow.lost.get_or_insert(Outcome::of_destination(reason)),
                }
                if !flow.receivers.is_empty() {
                    return;
                }
                match flow.lost {
                    Some(lost) => self.conclude(lost, config, now),
                    // A body of known length is complete with its last byte, even if the source's end is not known yet.
                    None if !flow.aborted && (flow.length.is_some() || flow.is_whole()) => {
                        self.conclude(Outcome::Finished, config, now);
                    }
                    // They have got all bytes that the source has sent, but not all of the body. The end of the
                    // source's request follows, and has the reason.
                    None => {}
                }
            }
        }
    }

    /// Ends a stream whose sides have not connected before its deadline.
    pub(super) fn expire(&mut self, config: &RendezvousConfig, now: Moment) {
        if !self.is_waiting() {
            return;
        }
        let outcome = match (self.source.is_some(), self.receivers.len() >= self.receivers_wanted) {
            (false, false) => Outcome::NeitherConnected,
            (true, _) => Outcome::NoDestination,
            (false, true) => Outcome::NoSource,
        };
        // The end has the time of the deadline, also if it is noticed later.
        let then = if self.is_unused() { self.unused_until } else { self.expires };
        let late = now.mono.saturating_duration_since(then);
        let then = Moment { mono: now.mono - late, wall: now.wall.checked_sub(late).unwrap_or(now.wall) };
        self.conclude(outcome, config, then);
    }

    /// Ends a stream that has exceeded the lifetime.
    pub(super) fn exceed_lifetime(&mut self, config: &RendezvousConfig, now: Moment) {
        if !self.is_over() {
            self.conclude(Outcome::SourceFailed, config, now);
        }
    }

    /// Posts an error of a client. Returns `false` if the stream has started or ended already.
    pub(super) fn post(&mut self, fault: Fault, config: &RendezvousConfig, now: Moment) -> bool {
        if !self.is_waiting() {
            return false;
        }
        let unused = self.source.is_none() && self.receivers.is_empty();
        for waiter in self.take_waiters() {
            waiter.respond(fault.response(), config);
        }
        let (keep, posted) = if unused { (config.ttl, Some(fault)) } else { (config.status_ttl, None) };
        self.end(Outcome::ClientError, now, keep, posted);
        true
    }

    /// Responds to the requests that wait, because the server is stopping.
    pub(super) fn stop(&mut self, config: &RendezvousConfig) {
        if self.is_waiting() {
            for waiter in self.take_waiters() {
                waiter.respond(faults::stopping(), config);
            }
        }
    }

    /// Removes and returns all suspended requests.
    fn take_waiters(&mut self) -> impl Iterator<Item = Waiter> + use<> {
        let receivers = std::mem::take(&mut self.receivers).into_iter().map(|receiver| receiver.waiter);
        self.source.take().map(|source| source.waiter).into_iter().chain(receivers)
    }

    fn end(&mut self, outcome: Outcome, now: Moment, keep: Duration, posted: Option<Fault>) {
        self.phase = Phase::Over { outcome, at: now.wall, until: now.mono + keep, posted };
    }

    /// Ends the stream, and responds to all suspended requests.
    fn conclude(&mut self, outcome: Outcome, config: &RendezvousConfig, now: Moment) {
        let begun = !self.is_waiting();
        let fault = outcome.fault().unwrap_or(faults::TIMED_OUT);
        let closing = |response: Response| if begun { response.close() } else { response };
        if let Some(Source { waiter, .. }) = self.source.take() {
            let response = match outcome {
                Outcome::Finished => self.upload_response(config),
                _ => closing(fault.response()),
            };
            waiter.respond(response, config);
        }
        for Receiver { waiter, .. } in std::mem::take(&mut self.receivers) {
            waiter.respond(closing(fault.response()), config);
        }
        self.end(outcome, now, config.status_ttl, None);
    }
}
