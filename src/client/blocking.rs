//! Blocking requests, for tests and tools: they run on a background loop of the client.

use std::{
    fmt,
    io::{self, Read},
    sync::{Arc, mpsc::sync_channel},
};

use super::{
    background::Background,
    error::Error,
    handle::Client,
    intake::Intake,
    request::Request,
    response::{FullResponse, Response, ResponseHead},
};
use crate::{api::LoopHandle, h1::Headers};

impl Client {
    fn background_loop(&self) -> Result<LoopHandle, Error> {
        self.background().loop_handle().map_err(|error| {
            log::warn!(target: "uncork::client", "cannot start the loop for blocking requests: {error}");
            Error::LoopEnded
        })
    }

    /// Sends `request` and blocks until the whole response has been received. For tests, tools, and handlers that may
    /// block.
    ///
    /// # Errors
    /// Any [`Error`]. A body beyond [`body_limit`](super::ClientBuilder::body_limit) is [`Error::TooLarge`].
    pub fn call_blocking(&self, request: Request) -> Result<FullResponse, Error> {
        let (sender, receiver) = sync_channel(1);
        self.send_collect(&self.background_loop()?, request, self.pool().settings.body_limit, move |result| {
            drop(sender.send(result));
        });
        receiver.recv().unwrap_or(Err(Error::LoopEnded))
    }

    /// Sends `request` and blocks until the head of the response has been received. Read the body from the result.
    ///
    /// # Errors
    /// Any [`Error`] up to the end of the head.
    pub fn open_blocking(&self, request: Request) -> Result<BodyReader, Error> {
        let (sender, receiver) = sync_channel(1);
        self.send(&self.background_loop()?, request, move |result: Result<Response, Error>| drop(sender.send(result)));
        let response = receiver.recv().unwrap_or(Err(Error::LoopEnded))?;
        let intake = Arc::new(Intake::default());
        let head = response.head().clone();
        response.feed(intake.clone());
        Ok(BodyReader { head, intake, _background: self.background().clone() })
    }
}

/// A response whose body is read with [`Read`], which blocks until more data arrives.
///
/// At most 64 KiB are buffered: the server must wait for the reader. If the body is truncated, reading fails; the
/// [`io::Error`] contains the [`Error`]. Dropping it before the end closes the connection.
pub struct BodyReader {
    head: ResponseHead,
    intake: Arc<Intake>,
    /// The connection runs on its loop.
    _background: Arc<Background>,
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

impl fmt::Debug for BodyReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyReader").field("status", &self.head.status).finish_non_exhaustive()
    }
}
