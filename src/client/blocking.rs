//! Blocking requests, for tests and tools: they run on a background loop of the client.

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
        let started = Server::new().threads(1, NoRequests)?;
        let handle = started.loops().into_iter().next().ok_or(io::ErrorKind::NotFound)?;
        *running = Some((handle.clone(), started));
        Ok(handle)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Not joined: this may run on that thread.
        if let Some((_, running)) = self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            running.stop_handle().stop_now();
        }
    }
}

impl Client {
    fn background(&self) -> Result<LoopHandle, Error> {
        self.0.background.loop_handle().map_err(|error| {
            log::warn!(target: "uncork::client", "cannot start the loop for blocking requests: {error}");
            Error::LoopEnded
        })
    }

    /// Sends `request` and blocks until the whole response has been received. For tests, tools, and handlers that may
    /// block.
    ///
    /// # Errors
    /// Any [`Error`]. A body beyond [`body_limit`](super::ClientBuilder::body_limit) is [`Error::TooLarge`].
    pub fn call_blocking(&self, request: super::Request) -> Result<FullResponse, Error> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.send_collect(&self.background()?, request, self.0.settings.body_limit, move |result| {
            drop(sender.send(result));
        });
        receiver.recv().unwrap_or(Err(Error::LoopEnded))
    }

    /// Sends `request` and blocks until the head of the response has been received. Read the body from the result.
    ///
    /// # Errors
    /// Any [`Error`] up to the end of the head.
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

/// A response whose body is read with [`Read`], which blocks until more data arrives.
///
/// At most 64 KiB are buffered: the server must wait for the reader. If the body is truncated, reading fails; the
/// [`io::Error`] contains the [`Error`]. Dropping it before the end closes the connection.
pub struct BodyReader {
    head: ResponseHead,
    intake: Arc<Intake>,
}

impl BodyReader {
    /// Returns the status code.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// Returns the header fields.
    pub fn headers(&self) -> &Headers {
        &self.head.headers
    }

    /// Returns the announced length of the body in bytes, if there is one.
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
        f.debug_struct("BodyReader").field("status", &self.head.status).finish_non_exhaustive()
    }
}
