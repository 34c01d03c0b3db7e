//! For tests and tools: calls that block, on a loop of their own in the background.

use std::{
    io::{self, Read},
    sync::{Arc, Mutex, PoisonError},
};

use super::{Client, Error, FullResponse, Response, intake::Intake, response::ResponseHead};
use crate::{
    api::{Action, Handler, LoopHandle, Request},
    h1::Headers,
    server::{Running, Server},
};

/// The loop of blocking requests, in a thread of its own: started by the first one, stopped with the client.
#[derive(Default)]
pub(super) struct Background(Mutex<Option<(LoopHandle, Running)>>);

/// A handler without connections: the loop has no listener.
#[derive(Clone)]
struct NoRequests;

impl Handler for NoRequests {
    fn request(&mut self, _: &mut Request<'_>) -> Action {
        Action::Abort
    }
}

impl Background {
    fn loop_handle(&self) -> io::Result<LoopHandle> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((handle, _)) = &*running {
            return Ok(handle.clone());
        }
        let started = Server::unbound().threads(1, NoRequests)?;
        let handle = started.loops().into_iter().next().ok_or(io::ErrorKind::NotFound)?;
        *running = Some((handle.clone(), started));
        Ok(handle)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Not joined: this may be that very thread.
        if let Some((_, running)) = self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            running.stop_handle().stop_now();
        }
    }
}

impl Client {
    fn background(&self) -> Result<LoopHandle, Error> {
        self.0.background.loop_handle().map_err(|error| {
            log::warn!(target: "uncork::client", "no loop for calls that block: {error}");
            Error::LoopEnded
        })
    }

    /// Calls and waits for the whole answer. Blocks: for tests and tools, and handlers that may block.
    ///
    /// # Errors
    /// All that can happen to a call; a body beyond [`body_limit`](super::ClientBuilder::body_limit) is
    /// [`Error::TooLarge`].
    pub fn call_blocking(&self, request: super::Request) -> Result<FullResponse, Error> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.send_collect(&self.background()?, request, self.0.settings.body_limit, move |result| drop(sender.send(result)));
        receiver.recv().unwrap_or(Err(Error::LoopEnded))
    }

    /// Calls and waits for the head of the answer; its body is read as it comes. Blocks.
    ///
    /// # Errors
    /// All that can happen to a call until then.
    pub fn open_blocking(&self, request: super::Request) -> Result<BodyReader, Error> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.send(&self.background()?, request, move |result: Result<Response, Error>| drop(sender.send(result)));
        let response = receiver.recv().unwrap_or(Err(Error::LoopEnded))?;
        let intake = Arc::new(Intake::default());
        let head = response.head().clone();
        response.feed(intake.clone());
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
