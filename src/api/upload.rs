//! Bodies on the move: [`Upload`] takes a request's, [`Produce`] makes a response's.

use std::time::Duration;

use super::{Action, PipeIn, PipeOut, Tx};
use crate::h1::Headers;

/// Takes the body of one request, piece by piece, with back-pressure. Dropped without [`end`](Self::end): the body
/// did not come whole; [`Request::on_end`](crate::Request::on_end) says why. If that is because the peer broke a rule
/// within it, a [`Ticket`](crate::Ticket) can still answer, while the upload is dropped; else the engine does.
pub trait Upload: Send {
    /// The next piece of the body, never empty; already decoded.
    fn data(&mut self, chunk: &[u8]) -> Consumed;

    /// The body is whole. What is returned answers the request, if no ticket has yet.
    fn end(self: Box<Self>, trailers: &Headers) -> Action;

    /// How long the body may pause, if that is another time than [`Limits::body_timeout`](crate::Limits::body_timeout). Asked
    /// once. Each byte grants it anew, at whatever rate they come: [`Limits::min_rate`](crate::Limits::min_rate) does
    /// not apply. A peer may then hold its connection with next to nothing for as long as the application lets it: see
    /// to another end, by a [fallback](crate::Ticket::fallback) for instance.
    fn body_timeout(&self) -> Option<Duration> {
        None
    }

    /// If this upload is one end of a [`pipe`](crate::pipe): then the engine fills it directly, and
    /// [`data`](Self::data) is called with nothing but what is beyond the pipe's [limit](PipeIn::limit).
    fn pipe(&mut self) -> Option<&mut PipeIn> {
        None
    }
}

/// How much of a piece was taken.
#[derive(Debug)]
#[must_use]
pub enum Consumed {
    /// All of it.
    All,
    /// The first so many bytes (more than there are means all). The rest is offered again, together with what came
    /// since, after a wake by this request's [`Waker`](crate::Waker); until then nothing more is read: the peer is
    /// pushed back.
    Partial(usize),
    /// No more of it: this is what shall happen instead.
    Stop(Action),
}

/// Makes the body of one response, piece by piece, as the peer takes it.
pub trait Produce: Send {
    /// Writes what is there and fits. Called when there is room, never re-entrantly; also without a wake, once, before
    /// end-of-file from the client ends the request.
    fn produce(&mut self, out: &mut Tx<'_>) -> Produced;

    /// If this producer is one end of a [`pipe`](crate::pipe): then the engine drains it directly, and
    /// [`produce`](Self::produce) is not called.
    fn pipe(&mut self) -> Option<&mut PipeOut> {
        None
    }
}

/// How a streamed body goes on.
#[derive(Debug)]
#[must_use]
pub enum Produced {
    /// There is more: call again when there is room. What was written may be held back until a segment is full.
    More,
    /// Nothing for now: send what was written, and call again after a wake by this request's
    /// [`Waker`](crate::Waker). A client that half-closes meanwhile has left, unless the response
    /// [allows](crate::Response::allow_half_close) that.
    Pending,
    /// That was all.
    End,
    /// That was all, and these are the trailers (sent if the body is chunked, dropped otherwise).
    Trailers(Headers),
    /// Break off: the peer must not take what it got for the whole.
    Abort,
}

/// A closure is a producer.
impl<F: FnMut(&mut Tx<'_>) -> Produced + Send> Produce for F {
    fn produce(&mut self, out: &mut Tx<'_>) -> Produced {
        self(out)
    }
}
