//! The state of one request on its connection.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::super::{
    error::Error, exchange::Exchange, pool::ConnPermit, response::ResponseChannel, sink::Sink, upload::Upload,
};
use crate::{api::Upgrade, base::Timeout};

/// The state of one request.
pub(super) struct Work {
    pub(super) permit: ConnPermit,
    /// Until the response's head has been received.
    pub(super) exchange: Option<Box<Exchange>>,
    /// The connection has served another request before.
    pub(super) reused: bool,
    /// Bytes of the response have been received.
    pub(super) received: bool,
    pub(super) upload: Upload,
    /// The request's body is a stream.
    pub(super) streams: bool,
    pub(super) to: Destination,
    pub(super) channel: Option<Arc<ResponseChannel>>,
    /// Names that the response's `Connection` lists: trailers of these names end here.
    pub(super) listed: Vec<Box<str>>,
    /// The redirected or repeated request, to be sent at the end of this response.
    pub(super) next: Option<Box<Exchange>>,
    pub(super) deadline: Option<Instant>,
    pub(super) head_timeout: Duration,
    pub(super) idle_timeout: Duration,
    /// The running timeout and its deadline.
    pub(super) clock: Option<(Timeout, Instant)>,
}

/// The destination of the response's body.
pub(super) enum Destination {
    /// None yet: there is no head, or the application has not chosen.
    Undecided,
    Sink(Sink),
    /// None: the connection is closed.
    Close,
    Switch(Box<dyn Upgrade>),
}

/// Reports the error to the receiver of the rest of a response.
pub(super) fn fail_receiver(to: Destination, channel: Option<Arc<ResponseChannel>>, error: Error) {
    let choice = channel.as_ref().and_then(|channel| channel.is_over(error.clone()));
    if let Some(on_end) = channel.and_then(|channel| channel.take_on_end()) {
        on_end.complete(Err(error.clone()));
    }
    match (to, choice) {
        (Destination::Sink(sink), _) => sink.end(Err(error)),
        (_, Some(choice)) => choice.fail(error),
        (Destination::Undecided | Destination::Close | Destination::Switch(_), None) => {}
    }
}
