//! Requests that wait for each other: how they begin to wait, and what happens when all have connected, a side has
//! ended, or a timeout has passed. Each function here locks the state itself, unless it gets a stream.

use std::{sync::Arc, time::Duration};

use uncork::{Action, Consumed, Moment, Request, RequestEnd, RequestId, Response, Upload, h1::Headers};

use super::{
    faults::{self, Fault, SOON},
    id::Id,
    state::{CreateError, CreateRequest, State},
    stream::{Stream, Waiter},
    transfer::Inlets,
};
use crate::relay::{
    addresses::Rejected,
    json::JsonObject,
    service::Service,
    unused::NoFreeSlot,
    wire::{CorsHeaders, retry_after},
};

/// The part that all clones of a rendezvous share.
pub(super) type Shared = Service<State>;

/// The side of a stream that a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Destination,
}

impl Shared {
    pub(super) fn create(&self, request: CreateRequest, now: Moment) -> Response {
        let id = match Id::generate() {
            Ok(id) if self.has_nodes() => id,
            Ok(id) => id.as_uuid(),
            Err(error) => {
                log::error!(target: "uncork::relay", "cannot read random bytes: {error}");
                return faults::NO_RANDOM.response();
            }
        };
        let config = self.config();
        let created = self.lock().create(id, request, &config, now);
        let (fault, after) = match created {
            Ok(()) => {
                let text = self.text(id);
                let location = format!("{}/stream/{text}", config.base_path);
                return faults::json(201, JsonObject::new().member("stream", text).end()).header("Location", location);
            }
            Err(CreateError::NoFreeSlot(NoFreeSlot::Full)) => (faults::too_many(config.streams), config.ttl),
            Err(CreateError::NoFreeSlot(NoFreeSlot::Share(share))) => (faults::too_many_of_address(share), config.ttl),
            Err(CreateError::AddressFields) => (faults::too_many_fields_of_address(), config.ttl),
            Err(CreateError::Fields) => (faults::too_many_fields(config.json_total), config.ttl),
            Err(CreateError::Address(Rejected::TooMany)) => {
                (faults::too_many_of_address(config.streams_per_address), config.ttl)
            }
            Err(CreateError::Address(Rejected::TooFast(after))) => {
                (faults::too_fast(config.creations_per_minute), after)
            }
            Err(CreateError::Address(Rejected::AddressTableFull)) => (faults::TOO_MANY_ADDRESSES, SOON),
        };
        fault.response().header("Retry-After", retry_after(after))
    }

    /// Suspends a request until the other sides have connected.
    pub(super) fn suspend(
        self: &Arc<Self>,
        req: &mut Request<'_>,
        id: Id,
        side: Side,
        cors: &CorsHeaders,
        remaining: Duration,
    ) -> Waiter {
        let request = req.id();
        let shared = self.clone();
        req.on_end(move |end| shared.ended(id, side, request, end));
        let ticket = req.ticket();
        let (shared, its_cors) = (self.clone(), cors.clone());
        ticket.fallback(remaining, move |now| shared.expired(id, &its_cors, now));
        if side == Side::Source && req.expects_continue() {
            ticket.send_informational(100, Headers::new());
        }
        Waiter { id: request, ticket, cors: cors.clone() }
    }

    /// Starts the stream, if all sides have connected.
    pub(super) fn start(self: &Arc<Self>, id: Id, stream: &mut Stream, now: Moment) {
        let Some((source, receivers)) = stream.start() else { return };
        let config = self.config();
        for waiter in receivers.chain([&source.waiter]) {
            // Replaces the deadline for connecting.
            let (shared, cors) = (self.clone(), waiter.cors.clone());
            waiter.ticket.fallback(config.lifetime, move |now| shared.exceeded_lifetime(id, &cors, now));
        }
        if source.length == Some(0) {
            stream.begin(true, &config, now);
            return;
        }
        let too_large = source.waiter.cors.apply(faults::stream_too_large(config.body).response().close(), &config);
        // An error means that the source has disconnected; the end of its request follows.
        let _ = source.waiter.ticket.receive(FirstByte { shared: self.clone(), id, too_large: Some(too_large) });
    }

    /// Begins the responses to the receivers, at the first byte of the source, or at its end.
    fn begin(&self, id: Id, empty: bool) -> Option<Inlets> {
        let config = self.config();
        let mut state = self.lock();
        let now = state.latest()?;
        state.with(id, &config, now, |stream| stream.begin(empty, &config, now))?
    }

    pub(super) fn post(&self, id: Id, fault: Fault, now: Moment) -> Response {
        let config = self.config();
        match self.lock().with(id, &config, now, |stream| stream.post(fault, &config, now)) {
            Some(true) => Response::new(200),
            Some(false) => faults::STARTED.response(),
            None => faults::NOT_FOUND.response(),
        }
    }

    /// Returns the response to a request whose timeout has passed. Runs on the request's loop.
    fn expired(&self, id: Id, cors: &CorsHeaders, now: Moment) -> Response {
        let config = self.config();
        self.lock().with(id, &config, now, |stream| match stream.is_waiting() {
            true => stream.expire(&config, now),
            // All sides have connected at this moment; but this request gets its response now.
            false => stream.exceed_lifetime(&config, now),
        });
        cors.apply(faults::TIMED_OUT.response(), &config)
    }

    /// Ends a stream that has exceeded the lifetime, and returns the response to this request.
    fn exceeded_lifetime(&self, id: Id, cors: &CorsHeaders, now: Moment) -> Response {
        let config = self.config();
        self.lock().with(id, &config, now, |stream| stream.exceed_lifetime(&config, now));
        cors.apply(faults::STREAM_ERROR.response().close(), &config)
    }

    /// Handles the end of a request.
    fn ended(&self, id: Id, side: Side, request: RequestId, end: &RequestEnd) {
        let config = self.config();
        let mut state = self.lock();
        let now = state.at(end.now);
        state.with(id, &config, now, |stream| match side {
            Side::Source => stream.source_ended(request, end.reason, &config, now),
            Side::Destination => stream.receiver_ended(request, end.reason, &config, now),
        });
    }
}

/// Waits for the first byte of the source's body, or its end: only then the responses to the receivers begin.
struct FirstByte {
    shared: Arc<Shared>,
    id: Id,
    /// The response to the source if its body exceeds the limit.
    too_large: Option<Response>,
}

impl Upload for FirstByte {
    fn data(&mut self, _: &[u8]) -> Consumed {
        let inlets = self.shared.begin(self.id, false);
        Consumed::Stop(match (inlets, self.too_large.take()) {
            // The new upload gets the same bytes again.
            (Some(inlets), Some(too_large)) => Action::Receive(inlets.into_upload(&self.shared.config(), too_large)),
            // The stream has ended, and the source has its response.
            _ => Action::Suspend,
        })
    }

    fn end(self: Box<Self>, _: &Headers) -> Action {
        self.shared.begin(self.id, true);
        Action::Suspend
    }

    fn body_timeout(&self) -> Option<Duration> {
        Some(self.shared.config().body_timeout)
    }
}
