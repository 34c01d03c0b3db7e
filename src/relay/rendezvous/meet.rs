//! Requests that wait for each other: how they begin to wait, and what happens when all have connected, a side has
//! left, or the time is over. Each function here locks the state itself, unless it gets a stream.

use std::{sync::Arc, time::Duration};

use uncork::{Moment, Request, RequestEnd, RequestId, Response, h1::Headers};

use super::{
    super::{
        addresses::Refused,
        json::JsonObject,
        unused::NoRoom,
        wire::{CorsHeaders, retry_after},
    },
    SOON, Shared, Side,
    faults::{self, Fault},
    id::Id,
    state::{CreateRequest, Full},
    stream::{Stream, Waiter},
    transfer::{FirstByte, Inlets},
};

impl Shared {
    pub(super) fn create(&self, request: CreateRequest, now: Moment) -> Response {
        let id = match Id::generate() {
            Ok(id) => id,
            Err(error) => {
                log::error!(target: "uncork::relay", "cannot read random bytes: {error}");
                return faults::NO_RANDOM.response();
            }
        };
        let config = self.config();
        let created = self.lock().create(id, request, &config, now);
        let (fault, after) = match created {
            Ok(()) => {
                let location = format!("{}/stream/{id}", config.base_path);
                return faults::json(201, JsonObject::new().member("stream", id.to_string()).end())
                    .header("Location", location);
            }
            Err(Full::Room(NoRoom::Full)) => (faults::too_many(config.streams), config.ttl),
            Err(Full::Room(NoRoom::Share(share))) => (faults::too_many_of_address(share), config.ttl),
            Err(Full::AddressFields) => (faults::too_many_fields_of_address(), config.ttl),
            Err(Full::Fields) => (faults::too_many_fields(config.json_total), config.ttl),
            Err(Full::Address(Refused::TooMany)) => {
                (faults::too_many_of_address(config.streams_per_address), config.ttl)
            }
            Err(Full::Address(Refused::TooFast(after))) => (faults::too_fast(config.creations_per_minute), after),
            Err(Full::Address(Refused::Crowded)) => (faults::CROWDED, SOON),
        };
        fault.response().header("Retry-After", retry_after(after))
    }

    /// Suspends a request until the other sides have connected.
    pub(super) fn await_partners(
        self: &Arc<Self>,
        req: &mut Request<'_>,
        id: Id,
        side: Side,
        cors: &CorsHeaders,
        left: Duration,
    ) -> Waiter {
        let request = req.id();
        let shared = self.clone();
        req.on_end(move |end| shared.ended(id, side, request, end));
        let ticket = req.ticket();
        let (shared, its_cors) = (self.clone(), cors.clone());
        ticket.fallback(left, move |now| shared.expired(id, &its_cors, now));
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
        // An error means that the source has left; the end of its request follows.
        let _ = source.waiter.ticket.receive(FirstByte { shared: self.clone(), id, too_large: Some(too_large) });
    }

    /// Begins the responses to the receivers, at the first byte of the source, or at its end.
    pub(super) fn begin(&self, id: Id, empty: bool) -> Option<Inlets> {
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
    pub(super) fn expired(&self, id: Id, cors: &CorsHeaders, now: Moment) -> Response {
        let config = self.config();
        self.lock().with(id, &config, now, |stream| match stream.is_waiting() {
            true => stream.expire(&config, now),
            // All sides have connected at this moment; but this request gets its response now.
            false => stream.exceed_lifetime(&config, now),
        });
        cors.apply(faults::TIMED_OUT.response(), &config)
    }

    /// Ends a stream that has exceeded the lifetime, and returns the response to this request.
    pub(super) fn exceeded_lifetime(&self, id: Id, cors: &CorsHeaders, now: Moment) -> Response {
        let config = self.config();
        self.lock().with(id, &config, now, |stream| stream.exceed_lifetime(&config, now));
        cors.apply(faults::STREAM_ERROR.response().close(), &config)
    }

    /// Handles the end of a request.
    pub(super) fn ended(&self, id: Id, side: Side, request: RequestId, end: &RequestEnd) {
        let config = self.config();
        let mut state = self.lock();
        let now = state.at(end.now);
        state.with(id, &config, now, |stream| match side {
            Side::Source => stream.source_ended(request, end.reason, &config, now),
            Side::Destination => stream.receiver_ended(request, end.reason, &config, now),
        });
    }
}
