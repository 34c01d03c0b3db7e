//! A message on its way from the sender's connection to the receiver's.
//!
//! The receiver comes first: it is answered with the outlet of a pipe, which fails at once if it has just left; then
//! the message waits on for the next one, and nothing is lost. Only when the receiver has been told, the sender is
//! asked for its body. All of it happens under the relay's lock, so neither request's end can be seen half way.

use uncork::{
    Action, Consumed, EndReason, Moment, PipeCounters, PipeIn, RequestEnd, RespondError, Response, Ticket, Upload,
    h1::Headers, pipe,
};

use super::{
    SessionConfig,
    state::{MessageBody, Poll, Sender, Session, Side, Transfer},
    wire::{self, CorsHeaders},
};

impl Session {
    /// Hands the message of that side over to the other side's receiver, if both are there. `expire` is the answer to
    /// a sender whose session ends before the message does.
    ///
    /// What a receiver that had left gives back is for the caller to drop, after unlocking.
    pub(super) fn hand_over(
        &mut self,
        from: Side,
        config: &SessionConfig,
        now: Moment,
        expire: impl FnOnce(Moment) -> Response + Send + 'static,
    ) -> Option<RespondError> {
        let to = from.other();
        // A sender that has just left or timed out has nothing to give; its request's end frees the place.
        let ready = |sender: &mut Sender| matches!(sender, Sender::Waiting(poll, _) if !poll.ticket.is_gone());
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

        // From here on the receiver's end answers the sender. What ends the wait is only the session's own end.
        sender.ticket.fallback(self.left(now.mono), expire);
        let moved = inlet.as_ref().map(PipeIn::counters);
        if let Some(inlet) = inlet {
            receive(&sender.ticket, &sender.cors, message.body, inlet, config);
        }
        let transfer = Transfer { receiver: id, body: message.body, moved };
        self.senders[from] = Some(Sender::Sending(sender, transfer));
        None
    }
}

/// Asks the sender for its body.
fn receive(ticket: &Ticket, cors: &CorsHeaders, body: MessageBody, inlet: PipeIn, config: &SessionConfig) {
    // The request may be over by now: then the upload is given back and dropped, which cuts the pipe off.
    let _ = match body {
        // Its length was checked before it could wait.
        MessageBody::None | MessageBody::Length(_) => ticket.receive(inlet),
        MessageBody::Chunked => {
            let too_large = cors.apply(too_large(config), config);
            ticket.receive(Metered { inlet: inlet.limit(config.body), too_large: Some(too_large) })
        }
    };
}

impl Transfer {
    /// What the sender is told when the receiver's request has ended.
    pub(super) fn report(&self, end: &RequestEnd) -> Response {
        let bytes = end.acked.unwrap_or(end.written);
        let relayed = self.moved.as_ref().map_or(0, PipeCounters::written);
        let response = Response::new(200).header("X-Bytes-Delivered", bytes.to_string());
        let (response, whole) = match self.body {
            MessageBody::None => (response, true),
            MessageBody::Length(n) => (response, relayed == n),
            MessageBody::Chunked => {
                (response.header("X-Bytes-Relayed", relayed.to_string()), end.reason == EndReason::Complete)
            }
        };
        // The rest of the body has no place to go: nobody shall be made to send it.
        if whole { response } else { response.close() }
    }
}

pub(super) fn too_large(config: &SessionConfig) -> Response {
    wire::text(413, format!("the message is too large: at most {} bytes", config.body)).close()
}

/// What somebody else has sent is of the type he says, but nothing a browser should run in this origin's name, or
/// anybody keep.
fn of_type(response: Response, content_type: Option<&[u8]>) -> Response {
    let response = match content_type {
        Some(content_type) => response.header("Content-Type", content_type),
        None => response,
    };
    super::super::wire::neutral(response)
}

/// A chunked body does not say how long it is: up to what is allowed the engine puts it into the pipe.
struct Metered {
    inlet: PipeIn,
    too_large: Option<Response>,
}

impl Upload for Metered {
    /// This is beyond it. Dropped without an end, the pipe is cut off.
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
