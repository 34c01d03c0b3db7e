//! One stream: who waits, what moves, how it ended. Every transition is in this file; beside it are what a stream's end is
//! called (`outcome`), what both sides are answered if all goes well (`answer`), and what is told of it (`status`).
//! Nothing in here locks, reads a clock or calls application code; under the rendezvous' lock, tickets are only spoken to.
//!
//! ```text
//!             everybody there          first byte            last receiver's end
//!   Waiting ─────────────────▶ Meeting ──────────▶ Streaming ──────────────────▶ Over(Finished)
//!      │ a side drops, an error is posted,  │ a side is lost   │
//!      ▼ time is over                       ▼                  ▼
//!   Over(…)                              Over(…)            Over(…)
//! ```
//!
//! The receivers' answers begin with the first byte (or the end) of the source: until then there is still a way to
//! tell them that it failed.

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
    super::wire::CorsHeaders,
    RendezvousConfig,
    body::CreateOptions,
    faults::{self, Fault},
    transfer::Inlets,
};

/// When something is to be done about a stream, if nobody comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The sides have to meet by then.
    Meet(Instant),
    /// Its requests have clocks of their own.
    Never,
    /// Its record is forgotten then.
    Forget(Instant),
}

/// A request that waits for its answer.
pub(super) struct Waiter {
    pub(super) id: RequestId,
    pub(super) ticket: Ticket,
    pub(super) face: CorsHeaders,
}

impl Waiter {
    /// Gone: it was answered otherwise, or has left; its end says so.
    fn tell(self, response: Response, config: &RendezvousConfig) {
        let _ = self.ticket.respond(self.face.apply(response, config));
    }
}

/// Whoever sends.
pub(super) struct Source {
    pub(super) seat: Waiter,
    /// How long its body is; `None` if it is chunked.
    pub(super) length: Option<u64>,
}

/// Whoever receives.
pub(super) struct Receiver {
    pub(super) seat: Waiter,
    /// Whether a lost source breaks its download, if it has said so.
    pub(super) strict: Option<bool>,
}

enum Life {
    /// Not everybody is there.
    Waiting,
    /// Everybody is there; the source is asked for its body.
    Meeting,
    Streaming(Flow),
    Over {
        outcome: Outcome,
        at: SystemTime,
        until: Instant,
        /// An error that was posted before anybody was there to hear it.
        posted: Option<Fault>,
    },
}

impl Life {
    fn is_waiting(&self) -> bool {
        matches!(self, Self::Waiting)
    }
}

/// A stream that moves.
struct Flow {
    /// The receivers' requests that are not over.
    receivers: Vec<RequestId>,
    /// Why a receiver has not got everything, if that was not for the source's end.
    lost: Option<Outcome>,
    /// The source's body was received whole. Set before the pipes are finished.
    whole: Arc<AtomicBool>,
    /// How long it is, if that is known.
    length: Option<u64>,
    /// It does not have the length that the stream's creator declared for the download.
    misfit: Arc<AtomicBool>,
    /// A receiver was broken off because the source was.
    cut: bool,
}

impl Flow {
    fn is_whole(&self) -> bool {
        self.whole.load(Ordering::Acquire)
    }
}

pub(super) struct Stream {
    wish: CreateOptions,
    /// How many receivers it starts with.
    pub(super) receivers_wanted: usize,
    strict: Option<bool>,
    pub(super) owner: Option<IpAddr>,
    created: Moment,
    expires: Instant,
    /// When it is over if no peer is connected to it.
    unused_until: Instant,
    life: Life,
    source: Option<Source>,
    receivers: Vec<Receiver>,
    moved: Vec<PipeCounters>,
}

impl Stream {
    pub(super) fn new(
        wish: CreateOptions,
        receivers: usize,
        strict: Option<bool>,
        owner: Option<IpAddr>,
        now: Moment,
        ttl: Duration,
        first_use_timeout: Duration,
    ) -> Self {
        Self {
            wish,
            receivers_wanted: receivers,
            strict,
            owner,
            created: now,
            expires: now.mono + ttl,
            unused_until: now.mono + ttl.min(first_use_timeout),
            life: Life::Waiting,
            source: None,
            receivers: Vec::new(),
            moved: Vec::new(),
        }
    }

    pub(super) fn due(&self) -> Due {
        match self.life {
            Life::Waiting if self.is_unused() => Due::Meet(self.unused_until),
            Life::Waiting => Due::Meet(self.expires),
            Life::Meeting | Life::Streaming(_) => Due::Never,
            Life::Over { until, .. } => Due::Forget(until),
        }
    }

    /// Returns `true` if it waits, and no peer is connected to it.
    fn is_unused(&self) -> bool {
        self.is_waiting() && self.source.is_none() && self.receivers.is_empty()
    }

    /// For which address, and since when, it is [unused](Self::is_unused).
    pub(super) fn unused(&self) -> Option<(Option<IpAddr>, Instant)> {
        self.is_unused().then_some((self.owner, self.created.mono))
    }

    pub(super) fn weight(&self) -> usize {
        self.wish.weight()
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.life, Life::Over { .. })
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.life.is_waiting()
    }

    /// How long the sides have left to meet.
    pub(super) fn left(&self, now: Moment) -> Duration {
        self.expires.saturating_duration_since(now.mono)
    }

    // Who comes.

    /// One who waits and is answered or gone has left, even if its loop has not told us yet.
    pub(super) fn prune(&mut self, config: &RendezvousConfig, now: Moment) {
        let left = |seat: &Waiter| self.life.is_waiting() && seat.ticket.is_gone();
        let source = self.source.iter().map(|source| &source.seat).find(|seat| left(seat)).map(|seat| seat.id);
        let receivers = self.receivers.iter().map(|receiver| &receiver.seat).filter(|seat| left(seat));
        let receivers: Vec<RequestId> = receivers.map(|seat| seat.id).collect();
        for id in receivers {
            self.receiver_ended(id, EndReason::PeerClosed, config, now);
        }
        if let Some(id) = source {
            self.source_ended(id, EndReason::PeerClosed, config, now);
        }
    }

    /// Why no source can come now, if none can. A place whose holder has left is free.
    pub(super) fn refuses_source(&self) -> Option<Fault> {
        match &self.life {
            Life::Over { posted, .. } => Some(posted.clone().unwrap_or(faults::NOT_FOUND)),
            _ => self.source.is_some().then_some(faults::SOURCE_TAKEN),
        }
    }

    /// The same of a receiver.
    pub(super) fn refuses_receiver(&self) -> Option<Fault> {
        match &self.life {
            Life::Over { posted, .. } => Some(posted.clone().unwrap_or(faults::NOT_FOUND)),
            Life::Waiting if self.receivers.len() < self.receivers_wanted => None,
            _ => Some(faults::DESTINATION_TAKEN),
        }
    }

    pub(super) fn connect_source(&mut self, source: Source) {
        self.source = Some(source);
    }

    pub(super) fn connect_receiver(&mut self, receiver: Receiver) {
        self.receivers.push(receiver);
    }

    /// If everybody is there, the stream starts: then this is whom to ask for the body.
    pub(super) fn start(&mut self) -> Option<(&Source, impl Iterator<Item = &Waiter>)> {
        let source = self.source.as_ref()?;
        if !matches!(self.life, Life::Waiting) || self.receivers.len() < self.receivers_wanted {
            return None;
        }
        self.life = Life::Meeting;
        Some((source, self.receivers.iter().map(|receiver| &receiver.seat)))
    }

    // What moves.

    /// The source has something to say: answers the receivers. `empty`: that was all, and there was nothing. `None`:
    /// there is nobody to take it.
    pub(super) fn begin(&mut self, empty: bool, config: &RendezvousConfig, now: Moment) -> Option<Inlets> {
        if !matches!(self.life, Life::Meeting) {
            return None;
        }
        let length = if empty { Some(0) } else { self.source.as_ref()?.length };
        let (whole, misfit) = (Arc::new(AtomicBool::new(empty)), Arc::<AtomicBool>::default());
        let (mut receivers, mut inlets, mut moved, mut lost) = (Vec::new(), Vec::new(), Vec::new(), None);
        for receiver in std::mem::take(&mut self.receivers) {
            let (mut inlet, outlet) = pipe(config.pipe);
            if let Some(source) = &self.source {
                inlet.on_room(source.seat.ticket.waker());
            }
            let counters = inlet.counters();
            let answer = self.download(&receiver, outlet, length, &misfit, config);
            let Receiver { seat, .. } = receiver;
            match seat.ticket.respond(answer) {
                Ok(()) => {
                    receivers.push(seat.id);
                    inlets.push(inlet);
                    moved.push(counters);
                }
                Err(_) => lost = Some(Outcome::DestinationClosed),
            }
        }
        if receivers.is_empty() {
            self.conclude(Outcome::DestinationClosed, config, now);
            return None;
        }
        self.moved = moved;
        self.life = Life::Streaming(Flow { receivers, lost, whole: whole.clone(), length, misfit, cut: false });
        if empty {
            inlets.drain(..).for_each(|inlet| inlet.finish(None));
            return None;
        }
        Some(Inlets { inlets, whole })
    }

    // How it ends.

    /// The source's request is over, however that came.
    pub(super) fn source_ended(&mut self, id: RequestId, why: EndReason, config: &RendezvousConfig, now: Moment) {
        if self.source.as_ref().is_none_or(|source| source.seat.id != id) {
            return;
        }
        match &self.life {
            Life::Over { .. } => {}
            // Everything it had is on its way; whether it arrives is the receivers' affair.
            Life::Streaming(flow) if flow.is_whole() => {}
            Life::Waiting | Life::Meeting | Life::Streaming(_) => {
                self.conclude(Outcome::of_source(why), config, now);
            }
        }
    }

    /// A receiver's request is over.
    pub(super) fn receiver_ended(&mut self, id: RequestId, why: EndReason, config: &RendezvousConfig, now: Moment) {
        match &mut self.life {
            Life::Over { .. } => {}
            // Of several, one that leaves makes room for another.
            Life::Waiting | Life::Meeting => {
                let before = self.receivers.len();
                self.receivers.retain(|receiver| receiver.seat.id != id);
                let meeting = matches!(self.life, Life::Meeting);
                let over = if meeting { self.receivers.is_empty() } else { self.receivers_wanted == 1 };
                if before > self.receivers.len() && over {
                    self.conclude(Outcome::of_destination(why), config, now);
                }
            }
            Life::Streaming(flow) => {
                let before = flow.receivers.len();
                flow.receivers.retain(|receiver| *receiver != id);
                if flow.receivers.len() == before {
                    return;
                }
                match why {
                    EndReason::Complete => {}
                    // The receiver was promised another length than the source has sent: that is the source's fault.
                    EndReason::Aborted if flow.misfit.load(Ordering::Acquire) => {
                        flow.lost = Some(Outcome::SourceFailed)
                    }
                    EndReason::Aborted => flow.cut = true,
                    _ => _ = flow.lost.get_or_insert(Outcome::of_destination(why)),
                }
                if !flow.receivers.is_empty() {
                    return;
                }
                match flow.lost {
                    Some(lost) => self.conclude(lost, config, now),
                    // One of known length is complete with its last byte, be the source's end noticed or not.
                    None if !flow.cut && (flow.length.is_some() || flow.is_whole()) => {
                        self.conclude(Outcome::Finished, config, now);
                    }
                    // They have got all there was, and that was not all: the source's own end, which is on its way,
                    // says why.
                    None => {}
                }
            }
        }
    }

    /// Time is over: the sides have not met.
    pub(super) fn expire(&mut self, config: &RendezvousConfig, now: Moment) {
        if !self.is_waiting() {
            return;
        }
        let outcome = match (self.source.is_some(), self.receivers.len() >= self.receivers_wanted) {
            (false, false) => Outcome::NobodyCame,
            (true, _) => Outcome::NoDestination,
            (false, true) => Outcome::NoSource,
        };
        // Whenever this is noticed: it happened then.
        let then = if self.is_unused() { self.unused_until } else { self.expires };
        let late = now.mono.saturating_duration_since(then);
        let then = Moment { mono: now.mono - late, wall: now.wall.checked_sub(late).unwrap_or(now.wall) };
        self.conclude(outcome, config, then);
    }

    /// It has run for longer than anything may.
    pub(super) fn outlive(&mut self, config: &RendezvousConfig, now: Moment) {
        if !self.is_over() {
            self.conclude(Outcome::SourceFailed, config, now);
        }
    }

    /// A client reports an error: `false` if it is too late for that.
    pub(super) fn post(&mut self, fault: Fault, config: &RendezvousConfig, now: Moment) -> bool {
        if !self.is_waiting() {
            return false;
        }
        let nobody = self.source.is_none() && self.receivers.is_empty();
        for seat in self.leave() {
            seat.tell(fault.response(), config);
        }
        let (keep, posted) = if nobody { (config.ttl, Some(fault)) } else { (config.status_ttl, None) };
        self.end(Outcome::ClientError, now, keep, posted);
        true
    }

    /// The server stops: whoever waits is told.
    pub(super) fn stop(&mut self, config: &RendezvousConfig) {
        if self.is_waiting() {
            for seat in self.leave() {
                let retry = faults::STOPPING.response().header("Retry-After", "1");
                seat.tell(retry, config);
            }
        }
    }

    /// Everybody who is owed an answer.
    fn leave(&mut self) -> impl Iterator<Item = Waiter> + use<> {
        let receivers = std::mem::take(&mut self.receivers).into_iter().map(|receiver| receiver.seat);
        self.source.take().map(|source| source.seat).into_iter().chain(receivers)
    }

    fn end(&mut self, outcome: Outcome, now: Moment, keep: Duration, posted: Option<Fault>) {
        self.life = Life::Over { outcome, at: now.wall, until: now.mono + keep, posted };
    }

    /// It is over: tells everybody who is owed an answer.
    fn conclude(&mut self, outcome: Outcome, config: &RendezvousConfig, now: Moment) {
        let begun = !self.is_waiting();
        let fault = outcome.fault().unwrap_or(faults::TIMED_OUT);
        let told = |response: Response| if begun { response.close() } else { response };
        if let Some(Source { seat, .. }) = self.source.take() {
            let response = match outcome {
                Outcome::Finished => self.thanks(config),
                _ => told(fault.response()),
            };
            seat.tell(response, config);
        }
        for Receiver { seat, .. } in std::mem::take(&mut self.receivers) {
            seat.tell(told(fault.response()), config);
        }
        self.end(outcome, now, config.status_ttl, None);
    }
}
