//! The response to a request: its head, and the choice of what happens to its body.
//!
//! ```text
//!   connection ──head──▶ Response ──collect─▶ FullResponse, when it is complete
//!                                 ├─pipe────▶ PipeOut: the receiver sets the pace
//!                                 ├─discard
//!                                 ├─switch──▶ the stream of another protocol (101, CONNECT)
//!                                 └─dropped: the connection is closed
//! ```
//!
//! The connection reads nothing more until the application has chosen. It may choose at once, or later from any thread.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard},
};

use super::{error::Error, intake::Intake};
use crate::{
    api::{LoopHandle, PipeIn, PipeOut, Upgrade, Waker, pipe},
    base::lock,
    h1::{Headers, Version},
};

/// Bytes of a pipe made by [`Response::pipe`].
const PIPE_BUFFER: usize = 256 * 1024;

/// A callback for a result. Called exactly once; with [`Error::LoopEnded`] if it is dropped uncalled.
pub(super) struct Completion<T>(Option<Then<T>>);

type Then<T> = Box<dyn FnOnce(Result<T, Error>) + Send>;

impl<T> Completion<T> {
    pub(super) fn new(f: impl FnOnce(Result<T, Error>) + Send + 'static) -> Self {
        Self(Some(Box::new(f)))
    }

    /// Drops the callback without a call.
    pub(super) fn forget(mut self) {
        self.0 = None;
    }

    pub(super) fn complete(mut self, result: Result<T, Error>) {
        if let Some(f) = self.0.take() {
            f(result);
        }
    }
}

impl<T> Drop for Completion<T> {
    fn drop(&mut self) {
        if let Some(f) = self.0.take() {
            // Application code in a destructor, perhaps of an engine that unwinds: a panic must not continue.
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| f(Err(Error::LoopEnded))));
            if result.is_err() {
                log::error!(target: "uncork::client", "the application panicked in a callback about the end of its loop");
            }
        }
    }
}

/// A complete response.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FullResponse {
    /// The status code.
    pub status: u16,
    /// The header fields.
    pub headers: Headers,
    /// The body, without its transfer coding.
    pub body: Vec<u8>,
    /// The trailer fields of a chunked body, without those that RFC 9110 §6.5.1 forbids.
    pub trailers: Headers,
}

/// The head of a response.
#[derive(Clone, Debug)]
pub(super) struct ResponseHead {
    pub(super) status: u16,
    pub(super) version: Version,
    pub(super) headers: Headers,
    pub(super) length: Option<u64>,
}

/// The response to a request: its head, and methods that decide about its body.
///
/// Dropping it closes the connection; [`discard`](Self::discard) may keep the connection.
#[must_use = "dropping it closes the connection: collect, pipe or discard its body"]
pub struct Response {
    head: ResponseHead,
    channel: Arc<ResponseChannel>,
    decided: bool,
}

impl Response {
    pub(super) fn new(head: ResponseHead, channel: Arc<ResponseChannel>) -> Self {
        Self { head, channel, decided: false }
    }

    /// Returns the status code: 200 to 999, or 101 if the request [offered an upgrade](super::Request::upgrade).
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// Returns the header fields.
    pub fn headers(&self) -> &Headers {
        &self.head.headers
    }

    /// Returns the HTTP version.
    pub fn version(&self) -> Version {
        self.head.version
    }

    /// Returns the value of Content-Length: the body's length in bytes. For HEAD it is the length that GET would have.
    pub fn content_length(&self) -> Option<u64> {
        self.head.length
    }

    /// Returns `true` after a 101, or a 2xx to CONNECT: the stream is no longer HTTP. Call [`switch`](Self::switch)
    /// then.
    pub fn is_switched(&self) -> bool {
        self.channel.switched
    }

    /// Collects the body and calls `then` with the complete response, on the request's loop. A body of more than
    /// `limit` bytes is [`Error::TooLarge`], and closes the connection.
    pub fn collect(self, limit: usize, then: impl FnOnce(Result<FullResponse, Error>) + Send + 'static) {
        self.collect_for(limit, Completion::new(then));
    }

    pub(super) fn collect_for(mut self, limit: usize, then: Completion<FullResponse>) {
        let headers = std::mem::take(&mut self.head.headers);
        let full = FullResponse { status: self.head.status, headers, body: Vec::new(), trailers: Headers::new() };
        self.decide(Choice::Collect { full: Box::new(full), limit, then });
    }

    pub(super) fn head(&self) -> &ResponseHead {
        &self.head
    }

    /// Returns the body as a pipe, which can be the body of a server's [`Response`](crate::Response::stream) or of
    /// another request.
    ///
    /// The body is read as fast as the pipe is read. If the body is truncated, so is the pipe. If the pipe's end is
    /// dropped, the connection is closed. Trailer fields arrive with the end of the pipe.
    ///
    /// As the body of a [`Response`](crate::Response) of known length between plain connections, it does not enter the
    /// process: the system moves the bytes (splice(2) on Linux). So does [`Request::stream`](super::Request::stream).
    pub fn pipe(mut self) -> PipeOut {
        let (inlet, outlet) = pipe(PIPE_BUFFER);
        self.decide(Choice::Pipe(inlet));
        outlet
    }

    /// Reads and drops the body, so that the connection can be used again. If the body is longer than 64 KiB, or takes
    /// longer in total than [`Request::idle_timeout`](super::Request::idle_timeout), the connection is closed.
    pub fn discard(mut self) {
        self.decide(Choice::Discard);
    }

    /// Hands the stream over to `upgrade`, whose input begins with the bytes behind the response's head. If the
    /// response is [not a switch](Self::is_switched), the connection is closed and `upgrade` dropped.
    pub fn switch(mut self, upgrade: impl Upgrade + 'static) {
        if self.channel.switched {
            self.decide(Choice::Switch(Box::new(upgrade)));
        }
    }

    /// Calls `f` at the end of the response, on the request's loop: with `Ok` if its body was received completely (also
    /// by a pipe or [`discard`](Self::discard)), or with the error. It is not called for a response that is dropped, or
    /// for a stream that is handed over.
    pub fn on_end(self, f: impl FnOnce(Result<(), Error>) + Send + 'static) -> Self {
        self.channel.state().on_end = Some(Completion::new(f));
        self
    }

    pub(super) fn feed(mut self, intake: Arc<Intake>) {
        self.decide(Choice::Feed(intake));
    }

    fn decide(&mut self, choice: Choice) {
        self.decided = true;
        self.channel.decide(choice);
    }
}

impl Drop for Response {
    fn drop(&mut self) {
        if !self.decided {
            self.channel.decide(Choice::Close);
        }
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("status", &self.head.status).field("headers", &self.head.headers).finish()
    }
}

/// The application's choice for the body.
pub(super) enum Choice {
    Collect { full: Box<FullResponse>, limit: usize, then: Completion<FullResponse> },
    Pipe(PipeIn),
    Feed(Arc<Intake>),
    Discard,
    Switch(Box<dyn Upgrade>),
    Close,
}

impl Choice {
    /// Returns `true` if the end of the response will be reported.
    pub(super) fn has_end(&self) -> bool {
        !matches!(self, Self::Switch(_) | Self::Close)
    }

    /// Reports `error` to the receiver of the body.
    pub(super) fn fail(self, error: Error) {
        match self {
            Self::Collect { then, .. } => then.complete(Err(error)),
            Self::Feed(intake) => intake.end(Err(error)),
            // Dropping a pipe truncates it.
            Self::Pipe(_) | Self::Discard | Self::Switch(_) | Self::Close => {}
        }
    }
}

/// The channel by which a [`Response`] sends its choice to its connection.
pub(super) struct ResponseChannel {
    state: Mutex<ChannelState>,
    waker: Waker,
    loop_handle: LoopHandle,
    switched: bool,
}

pub(super) struct ChannelState {
    choice: Option<Choice>,
    /// The connection has found no choice yet, and must be woken when there is one.
    waiting: bool,
    /// The error that ended the connection.
    over: Option<Error>,
    pub(super) on_end: Option<Completion<()>>,
}

impl ResponseChannel {
    pub(super) fn new(waker: Waker, loop_handle: LoopHandle, switched: bool) -> Arc<Self> {
        let state = ChannelState { choice: None, waiting: false, over: None, on_end: None };
        Arc::new(Self { state: Mutex::new(state), waker, loop_handle, switched })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, ChannelState> {
        lock(&self.state)
    }

    fn decide(&self, choice: Choice) {
        if !choice.has_end()
            && let Some(on_end) = self.take_on_end()
        {
            on_end.forget();
        }
        let (late, on_end) = {
            let mut state = self.state();
            match state.over.clone() {
                None => {
                    state.choice = Some(choice);
                    if state.waiting {
                        self.waker.wake();
                    }
                    return;
                }
                Some(error) => ((choice, error), state.on_end.take()),
            }
        };
        // Reported on the loop, not within the application's own call.
        self.loop_handle.at_once(move |_| {
            let (choice, error) = late;
            if let Some(on_end) = on_end {
                on_end.complete(Err(error.clone()));
            }
            choice.fail(error);
        });
    }

    /// Returns the choice. If there is none yet, the connection will be woken.
    pub(super) fn chosen(&self) -> Option<Choice> {
        let mut state = self.state();
        state.waiting = state.choice.is_none();
        state.choice.take()
    }

    /// Records that the connection ended with `error`. Returns a choice that it has not seen.
    pub(super) fn is_over(&self, error: Error) -> Option<Choice> {
        let mut state = self.state();
        state.over = Some(error);
        state.choice.take()
    }

    pub(super) fn take_on_end(&self) -> Option<Completion<()>> {
        self.state().on_end.take()
    }
}
