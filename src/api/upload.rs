//! Streamed bodies: [`Upload`] receives a request's, [`Produce`] makes a response's.

use std::time::Duration;

use super::{Action, PipeIn, PipeOut, Tx};
use crate::h1::Headers;

/// Receives the body of one request, piece by piece, with back-pressure.
///
/// Its methods are called on the loop of the connection. It is `Send` in every mode, because a
/// [`Ticket`](crate::Ticket) can pass it to that loop from another thread: see
/// [`Server::external`](crate::Server::external). Code that needs a [`Read`](std::io::Read) gets one from
/// [`PipeOut::reader`].
///
/// If it is dropped without [`end`](Self::end), the body is incomplete;
/// [`Request::on_end`](crate::Request::on_end) reports the reason. If the reason is a rule that the client broke, a
/// [`Ticket`](crate::Ticket) can still respond while the upload is dropped; otherwise the engine responds.
pub trait Upload: Send {
    /// Receives the next piece of the body. It is decoded, and never empty.
    fn data(&mut self, chunk: &[u8]) -> Consumed;

    /// Receives the end of the body. The returned action is performed if no ticket has responded yet.
    fn end(self: Box<Self>, trailers: &Headers) -> Action;

    /// Returns how long the body may pause, instead of [`Limits::body_timeout`](crate::Limits::body_timeout). Called
    /// once.
    ///
    /// The timeout restarts with every byte, and [`Limits::min_rate`](crate::Limits::min_rate) is not enforced. A
    /// client can then keep its connection with very few bytes. Bound the total time yourself, for example with
    /// [`Ticket::fallback`](crate::Ticket::fallback).
    fn body_timeout(&self) -> Option<Duration> {
        None
    }

    /// Returns the pipe, if this upload is one end of a [`pipe`](crate::pipe). The engine then fills it directly, and
    /// calls [`data`](Self::data) only with bytes beyond the pipe's [limit](PipeIn::limit).
    fn pipe(&mut self) -> Option<&mut PipeIn> {
        None
    }
}

/// The part of a piece that an [`Upload`] has taken.
#[derive(Debug)]
#[must_use]
pub enum Consumed {
    /// All of it.
    All,
    /// This many bytes from the start (all of them, if the number is larger). The rest is offered again, together with
    /// later bytes, after a wake by this request's [`Waker`](crate::Waker). Until then nothing more is read: the client
    /// is under back-pressure.
    Partial(usize),
    /// Stops receiving: the rest of the body is dropped, and this action is performed.
    Stop(Action),
}

/// Produces the body of one response, piece by piece, as the client takes it. It is called on the loop of the
/// connection. Like an [`Upload`], it is `Send` in every mode.
pub trait Produce: Send {
    /// Writes the bytes that are ready, as far as there is room. Called when there is room, never re-entrantly. It is
    /// also called once without a wake, before end-of-file from the client ends the request.
    fn produce(&mut self, out: &mut Tx<'_>) -> Produced;

    /// Returns the pipe, if this producer is one end of a [`pipe`](crate::pipe). The engine then drains it directly,
    /// and does not call [`produce`](Self::produce).
    fn pipe(&mut self) -> Option<&mut PipeOut> {
        None
    }
}

/// The state of a streamed body after a call of [`Produce::produce`].
#[derive(Debug)]
#[must_use]
pub enum Produced {
    /// There is more: call again when there is room. Written bytes can be held back until a segment is full.
    More,
    /// Nothing to send now. What was written is sent; call again after a wake by this request's
    /// [`Waker`](crate::Waker). End-of-file from the client meanwhile means that it has disconnected, unless the
    /// response [allows half-close](crate::Response::allow_half_close).
    Pending,
    /// The end of the body.
    End,
    /// The end of the body, with trailers. They are sent if the body is chunked, dropped otherwise.
    Trailers(Headers),
    /// Aborts the connection, so that a truncated body never looks complete.
    Abort,
}

/// A closure is a producer.
impl<F: FnMut(&mut Tx<'_>) -> Produced + Send> Produce for F {
    fn produce(&mut self, out: &mut Tx<'_>) -> Produced {
        self(out)
    }
}
