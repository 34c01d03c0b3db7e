//! For tests and tools: calls that block, on a loop of their own in the background.

use std::{
    collections::VecDeque,
    io::{self, Read},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use super::{Client, Error, FullResponse, Response, response::ResponseHead};
use crate::{
    api::{Action, Handler, LoopHandle, Request, Waker},
    base::Limits,
    drive::{Loops, threads},
    engine::{Admission, Setup},
    h1::Headers,
};

/// Bytes held for a reader.
const ROOM: usize = 64 * 1024;

/// A loop for calls that block, in a thread of its own: begun with the first one, ended with the client.
#[derive(Default)]
pub(super) struct Background(Mutex<Option<(LoopHandle, Loops)>>);

/// The loop serves nobody.
struct Nobody;

impl Handler for Nobody {
    fn request(&mut self, _: &mut Request<'_>) -> Action {
        Action::Abort
    }
}

impl Background {
    fn here(&self) -> io::Result<LoopHandle> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((here, _)) = &*running {
            return Ok(here.clone());
        }
        let limits = Limits::default();
        let admission = Arc::new(Admission::new(&limits));
        let setup = move || Setup {
            handler: Box::new(Nobody),
            ports: Vec::new(),
            limits,
            admission,
            access_log: None,
            elsewhere: None,
        };
        let loops = Loops::default();
        threads::start(vec![setup], &loops)?;
        let here = loops.all().into_iter().next().ok_or(io::ErrorKind::NotFound)?;
        *running = Some((here.clone(), loops));
        Ok(here)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Not joined: this may be that very thread.
        if let Some((_, loops)) = self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            loops.stop(None);
        }
    }
}

impl Client {
    fn background(&self) -> Result<LoopHandle, Error> {
        self.0.background.here().map_err(|error| {
            log::warn!(target: "uncork::client", "no loop for calls that block: {error}");
            Error::LoopEnded
        })
    }

    /// Calls and waits for the whole answer. Blocks: for tests and tools, and handlers that may block.
    ///
    /// # Errors
    /// All that can happen to a call; a body beyond [`body_limit`](super::ClientBuilder::body_limit) is
    /// [`Error::TooLarge`].
    pub fn call_blocking(&self, call: super::Request) -> Result<FullResponse, Error> {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        self.send_collect(&self.background()?, call, self.0.settings.body, move |result| drop(tell.send(result)));
        told.recv().unwrap_or(Err(Error::LoopEnded))
    }

    /// Calls and waits for the head of the answer; its body is read as it comes. Blocks.
    ///
    /// # Errors
    /// All that can happen to a call until then.
    pub fn open_blocking(&self, call: super::Request) -> Result<BodyReader, Error> {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        self.send(&self.background()?, call, move |result: Result<Response, Error>| drop(tell.send(result)));
        let answer = told.recv().unwrap_or(Err(Error::LoopEnded))?;
        let intake = Arc::new(Intake::default());
        let head = answer.head().clone();
        answer.feed(intake.clone());
        Ok(BodyReader { head, intake })
    }
}

/// An answer whose body is read by a thread, which blocks until there is more of it. The server is pushed back while
/// nobody reads. If the body does not come whole, reading fails; the error has the [`Error`] in it. Dropped early, it
/// closes the connection.
pub struct BodyReader {
    head: ResponseHead,
    intake: Arc<Intake>,
}

impl BodyReader {
    /// The status.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// The header fields.
    pub fn headers(&self) -> &Headers {
        &self.head.headers
    }

    /// The body's length, if it was announced and there is a body.
    pub fn content_length(&self) -> Option<u64> {
        self.head.length
    }
}

impl Read for BodyReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.intake.take(buf).map_err(io::Error::from)
    }
}

impl Drop for BodyReader {
    fn drop(&mut self) {
        self.intake.abandon();
    }
}

impl std::fmt::Debug for BodyReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading").field("status", &self.head.status).finish_non_exhaustive()
    }
}

/// Between a connection and a thread that reads.
#[derive(Default)]
pub(super) struct Intake {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    bytes: VecDeque<u8>,
    end: Option<Result<(), Error>>,
    gone: bool,
    /// The connection, if it waits for room.
    waits: Option<Waker>,
}

impl Intake {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts in what there is room for; how much that was, `None` if nobody reads any more. When there was not room for all
    /// of it, the waker is called when there is; in any case when the reader goes.
    pub(super) fn put(&self, bytes: &[u8], waker: &Waker) -> Option<usize> {
        let mut state = self.state();
        if state.gone {
            return None;
        }
        let n = bytes.len().min(ROOM.saturating_sub(state.bytes.len()));
        state.bytes.extend(&bytes[..n]);
        state.waits = Some(waker.clone());
        self.bell.notify_all();
        Some(n)
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.state().gone
    }

    pub(super) fn end(&self, result: Result<(), Error>) {
        self.state().end.get_or_insert(result);
        self.bell.notify_all();
    }

    fn take(&self, buf: &mut [u8]) -> Result<usize, Error> {
        let mut state = self.state();
        loop {
            if !state.bytes.is_empty() || buf.is_empty() {
                let was_full = state.bytes.len() >= ROOM;
                let n = state.bytes.read(buf).unwrap_or(0);
                if was_full && let Some(waker) = state.waits.take() {
                    waker.wake();
                }
                return Ok(n);
            }
            match &state.end {
                Some(Ok(())) => return Ok(0),
                Some(Err(error)) => return Err(error.clone()),
                None => state = self.bell.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn abandon(&self) {
        let mut state = self.state();
        state.gone = true;
        if let Some(waker) = state.waits.take() {
            waker.wake();
        }
    }
}
