//! Transfers a message from the sender's connection to the receiver's.
//!
//! First the receiver gets a response with the outlet of a pipe. That fails if it has just disconnected; then the
//! message waits for the next receiver, and nothing is lost. Only after that the sender's body is read. Both steps
//! happen under the relay's lock, so the end of either request is seen before or after both.

use uncork::{
    Action, Consumed, EndReason, Moment, PipeCounters, PipeIn, RequestEnd, RespondError, Response, Ticket, Upload,
    h1::Headers, pipe,
};

use super::{
    config::SessionConfig,
    requests::{MessageBody, Poll, Sender, Side, Transfer},
    state::Session,
    wire,
};
use crate::relay::wire::{CorsHeaders, neutral};

impl Session {
    /// Hands the message of one side to the receiver of the other side, if both exist. `expire` makes the response to a
    /// sender whose session ends before the message does.
    ///
    /// Returns the response that a receiver could not take, because it had disconnected. The caller drops it after
    /// unlocking.
    pub(super) fn hand_over(
        &mut self,
        from: Side,
        config: &SessionConfig,
        now: Moment,
        expire: impl FnOnce(Moment) -> Response + Send + 'static,
    ) -> Option<RespondError> {
        let to = from.other();
        // A sender that has just disconnected or timed out does not count; the end of its request removes it.
        let ready = |sender: &mut Sender| matches!(sender, Sender::Waiting(poll, _) if !poll.ticket.is_closed());
        self.receivers[to].as_ref()?;
        let Sender::Waiting(sender, message) = self.senders[from].take_if(ready)? else { return None };
        let Poll { id, ticket, cors, .. } = self.receivers[to].take()?;

        let (response, inlet) = match message.body {
            MessageBody::None => (Response::new(200), None),
            MessageBody::Length(_) | MessageBody::Chunked => {
                let (inlet, outlet) = pipe(config.pipe);
                let outlet = if config.end_cleanly_if_truncated { outlet.end_cleanly_if_truncated() } else { outlet };
                (Response::stream(outlet), Some(inlet))
            }
        };
        let length = match message.body {
            MessageBody::Length(n) => Some(n),
            _ => None,
        };
        let response = of_type(response.length(length), message.content_type.as_deref());
        let response = self.renewing(to, cors.apply(response, config), now).wait_for_ack();
        if let Err(unsent) = ticket.respond(response) {
            self.senders[from] = Some(Sender::Waiting(sender, message));
            return Some(unsent);
        }

        // From here on the end of the receiver's request makes the response to the sender; only the end of the session
        // can come before it.
        sender.ticket.fallback(self.remaining(now.mono), expire);
        let counters = inlet.as_ref().map(PipeIn::counters);
        if let Some(inlet) = inlet {
            receive(&sender.ticket, &sender.cors, message.body, inlet, config);
        }
        let transfer = Transfer { receiver: id, body: message.body, counters };
        self.senders[from] = Some(Sender::Sending(sender, transfer));
        None
    }
}

/// Starts to read the sender's body.
fn receive(ticket: &Ticket, cors: &CorsHeaders, body: MessageBody, inlet: PipeIn, config: &SessionConfig) {
    // The request may be over by now. Then the upload is returned and dropped, which truncates the pipe.
    let _ = match body {
        // Its length was checked when the request arrived.
        MessageBody::None | MessageBody::Length(_) => ticket.receive(inlet),
        MessageBody::Chunked => {
            let too_large = cors.apply(too_large(config), config);
            ticket.receive(LimitedUpload { inlet: inlet.limit(config.body), too_large: Some(too_large) })
        }
    };
}

impl Transfer {
    /// Returns the response to the sender, when the receiver's request has ended.
    pub(super) fn report(&self, end: &RequestEnd) -> Response {
        let bytes = end.acked.unwrap_or(end.written);
        let relayed = self.counters.as_ref().map_or(0, PipeCounters::written);
        let response = Response::new(200).header("X-Bytes-Delivered", bytes.to_string());
        let (response, whole) = match self.body {
            MessageBody::None => (response, true),
            MessageBody::Length(n) => (response, relayed == n),
            MessageBody::Chunked => {
                (response.header("X-Bytes-Relayed", relayed.to_string()), end.reason == EndReason::Complete)
            }
        };
        // The rest of the body has no receiver: the client need not send it.
        if whole { response } else { response.close() }
    }
}

pub(super) fn too_large(config: &SessionConfig) -> Response {
    wire::text(413, format!("the message is too large: at most {} bytes", config.body)).close()
}

/// Sets the type that the sender has given. Other fields keep browsers from running the content in this origin, and
/// caches from storing it.
fn of_type(response: Response, content_type: Option<&[u8]>) -> Response {
    let response = match content_type {
        Some(content_type) => response.header("Content-Type", content_type),
        None => response,
    };
    neutral(response)
}

/// Receives a chunked body, whose length is unknown: the engine fills the pipe up to the limit.
struct LimitedUpload {
    inlet: PipeIn,
    too_large: Option<Response>,
}

impl Upload for LimitedUpload {
    /// Called beyond the limit. The pipe is dropped without an end, which truncates it.
    fn data(&mut self, _: &[u8]) -> Consumed {
        Consumed::Stop(self.too_large.take().map_or(Action::Abort, Into::into))
    }

    fn end(self: Box<Self>, trailers: &Headers) -> Action {
        self.inlet.finish(Some(trailers.clone()));
        Action::Suspend
    }

    fn pipe(&mut self) -> Option<&mut PipeIn> {
        Some(&mut self.inlet)
    }
}
