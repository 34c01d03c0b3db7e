//! The answer to a call, when its head is there; and what is to become of its body.
//!
//! ```text
//!   connection ──head──▶ Response ──collect─▶ FullResponse, when it is there
//!                               ├─pipe────▶ PipeOut: the receiver sets the pace
//!                               ├─discard
//!                               ├─switch──▶ the stream is another protocol's (101, CONNECT)
//!                               └─dropped: the connection is closed
//! ```
//!
//! Until the application has decided, nothing more is read. It may decide at once, or later from any thread.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Error, blocking::Intake};
use crate::{
    api::{LoopHandle, PipeIn, PipeOut, Upgrade, Waker, pipe},
    h1::Headers,
};

/// Bytes of a pipe made by [`Response::pipe`].
const PIPE_ROOM: usize = 64 * 1024;

/// What somebody waits for. Told exactly once; if it is dropped untold, the loop has ended.
pub(super) struct Reply<T>(Option<Then<T>>);

type Then<T> = Box<dyn FnOnce(Result<T, Error>) + Send>;

impl<T> Reply<T> {
    pub(super) fn new(f: impl FnOnce(Result<T, Error>) + Send + 'static) -> Self {
        Self(Some(Box::new(f)))
    }

    /// Nobody is to know.
    pub(super) fn forget(mut self) {
        self.0 = None;
    }

    pub(super) fn tell(mut self, result: Result<T, Error>) {
        if let Some(f) = self.0.take() {
            f(result);
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(f) = self.0.take() {
            // Application code in a destructor, perhaps of an engine that unwinds: a panic ends here.
            let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| f(Err(Error::LoopEnded))));
            if told.is_err() {
                log::error!(target: "uncork::client", "the application panicked when told that its loop has ended");
            }
        }
    }
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FullResponse {
    /// The status.
    pub status: u16,
    /// The header fields.
    pub headers: Headers,
    /// The body, without its transfer coding.
    pub body: Vec<u8>,
    /// Fields behind a chunked body, without those that must not be there (RFC 9110 §6.5.1).
    pub trailers: Headers,
}

/// The head of an answer.
#[derive(Clone, Debug)]
pub(super) struct ResponseHead {
    pub(super) status: u16,
    pub(super) minor_version: u8,
    pub(super) headers: Headers,
    pub(super) length: Option<u64>,
}

/// The answer to a call: its head, and the right to its body.
///
/// Dropped without a word about the body, it closes the connection; [`discard`](Self::discard) may keep it.
#[must_use = "dropping it closes the connection: collect, pipe or discard its body"]
pub struct Response {
    head: ResponseHead,
    line: Arc<ResponseChannel>,
    decided: bool,
}

impl Response {
    pub(super) fn new(head: ResponseHead, line: Arc<ResponseChannel>) -> Self {
        Self { head, line, decided: false }
    }

    /// The status, 100 to 999: 101 only to a call that [offered an upgrade](super::Request::upgrade), and no other 1xx.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// The header fields.
    pub fn headers(&self) -> &Headers {
        &self.head.headers
    }

    /// 1 for HTTP/1.1, 0 for HTTP/1.0.
    pub fn minor_version(&self) -> u8 {
        self.head.minor_version
    }

    /// What Content-Length says: the body's length; of the answer to a HEAD, that which GET would have.
    pub fn content_length(&self) -> Option<u64> {
        self.head.length
    }

    /// Whether the stream is no longer HTTP: 101, or 2xx to CONNECT. Then [`switch`](Self::switch) takes it over.
    pub fn is_switched(&self) -> bool {
        self.line.switched
    }

    /// Waits for the body, and gives the whole; on the loop that serves the call. A body longer than `limit` bytes is
    /// [`Error::TooLarge`], and closes the connection.
    pub fn collect(self, limit: usize, then: impl FnOnce(Result<FullResponse, Error>) + Send + 'static) {
        self.collect_for(limit, Reply::new(then));
    }

    pub(super) fn collect_for(mut self, limit: usize, then: Reply<FullResponse>) {
        let headers = std::mem::take(&mut self.head.headers);
        let whole = FullResponse { status: self.head.status, headers, body: Vec::new(), trailers: Headers::new() };
        self.decide(Choice::Collect { whole: Box::new(whole), limit, then });
    }

    pub(super) fn head(&self) -> &ResponseHead {
        &self.head
    }

    /// The body as a stream, which can be the body of a [`Response`](crate::Response::stream), or of another call: who
    /// takes it out sets the pace at which it is read. If the body does not come whole, the pipe is cut off; if the
    /// pipe's end is dropped, the connection is closed. Trailers come with its end.
    pub fn pipe(mut self) -> PipeOut {
        let (inlet, outlet) = pipe(PIPE_ROOM);
        self.decide(Choice::Pipe(inlet));
        outlet
    }

    /// Reads the body and throws it away, so that the connection can be used again; unless it is long, or takes longer
    /// than [`Request::idle_timeout`](super::Request::idle_timeout) as a whole: then the connection is closed.
    pub fn discard(mut self) {
        self.decide(Choice::Discard);
    }

    /// Hands the stream over: from here on `upgrade` is called for it, as if it had been upgraded here. What the server
    /// has sent behind its answer is in its input. Of an answer that is [no switch](Self::is_switched), the connection
    /// is closed and `upgrade` dropped.
    pub fn switch(mut self, upgrade: impl Upgrade + 'static) {
        if self.line.switched {
            self.decide(Choice::Switch(Box::new(upgrade)));
        }
    }

    /// Calls `f` when the answer is over, on the loop that serves the call: `Ok` if its body was received whole, be it
    /// by a pipe or to be thrown away; else why not. Not called for an answer that is dropped, nor for a stream that is
    /// handed over.
    pub fn on_end(self, f: impl FnOnce(Result<(), Error>) + Send + 'static) -> Self {
        self.line.state().on_end = Some(Reply::new(f));
        self
    }

    pub(super) fn feed(mut self, intake: Arc<Intake>) {
        self.decide(Choice::Feed(intake));
    }

    fn decide(&mut self, choice: Choice) {
        self.decided = true;
        self.line.decide(choice);
    }
}

impl Drop for Response {
    fn drop(&mut self) {
        if !self.decided {
            self.line.decide(Choice::Close);
        }
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("status", &self.head.status).field("headers", &self.head.headers).finish()
    }
}

/// What shall become of the body.
pub(super) enum Choice {
    Collect { whole: Box<FullResponse>, limit: usize, then: Reply<FullResponse> },
    Pipe(PipeIn),
    Feed(Arc<Intake>),
    Discard,
    Switch(Box<dyn Upgrade>),
    Close,
}

impl Choice {
    /// Whether there is an end of the answer to be told of.
    pub(super) fn has_end(&self) -> bool {
        !matches!(self, Self::Switch(_) | Self::Close)
    }

    /// It can't be: whoever waits is told.
    pub(super) fn fail(self, error: Error) {
        match self {
            Self::Collect { then, .. } => then.tell(Err(error)),
            Self::Feed(intake) => intake.end(Err(error)),
            // A pipe that is dropped is cut off.
            Self::Pipe(_) | Self::Discard | Self::Switch(_) | Self::Close => {}
        }
    }
}

/// What an [`Response`] says to its connection.
pub(super) struct ResponseChannel {
    state: Mutex<ChannelState>,
    waker: Waker,
    here: LoopHandle,
    switched: bool,
}

pub(super) struct ChannelState {
    choice: Option<Choice>,
    /// The connection has looked for a choice, and must be woken when there is one.
    waits: bool,
    /// The connection is over, and this is why.
    over: Option<Error>,
    pub(super) on_end: Option<Reply<()>>,
}

impl ResponseChannel {
    pub(super) fn new(waker: Waker, here: LoopHandle, switched: bool) -> Arc<Self> {
        let state = ChannelState { choice: None, waits: false, over: None, on_end: None };
        Arc::new(Self { state: Mutex::new(state), waker, here, switched })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, ChannelState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
                    if state.waits {
                        self.waker.wake();
                    }
                    return;
                }
                Some(error) => ((choice, error), state.on_end.take()),
            }
        };
        // Told on the loop, not within the application's own call.
        self.here.at_once(move |_| {
            let (choice, error) = late;
            if let Some(on_end) = on_end {
                on_end.tell(Err(error.clone()));
            }
            choice.fail(error);
        });
    }

    /// What was chosen; if nothing yet, the connection is woken when it is.
    pub(super) fn chosen(&self) -> Option<Choice> {
        let mut state = self.state();
        state.waits = state.choice.is_none();
        state.choice.take()
    }

    /// The connection is over before anything was chosen, or was looked at.
    pub(super) fn is_over(&self, error: Error) -> Option<Choice> {
        let mut state = self.state();
        state.over = Some(error);
        state.choice.take()
    }

    pub(super) fn take_on_end(&self) -> Option<Reply<()>> {
        self.state().on_end.take()
    }
}
