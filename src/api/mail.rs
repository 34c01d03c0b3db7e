//! What other threads (and the application, at any time) say to a loop.

use std::{sync::Arc, time::Duration};

use super::{Response, Upload, ticket::TicketCore, wake::WakeCore};
use crate::{
    base::{Moment, mailbox::Mailbox},
    h1::Headers,
};

pub(crate) type Later = Box<dyn FnOnce(Moment) + Send>;
pub(crate) type Fallback = Box<dyn FnOnce(Moment) -> Response + Send>;

pub(crate) enum Mail {
    Wake(Arc<WakeCore>),
    Ticket(Arc<TicketCore>, Word),
    /// A stream to be served as if it had come in on the listener of that number.
    Adopt(Stream, usize),
    After(Duration, Later),
    /// Stop: within the grace, or at once (`None`).
    Stop(Option<Duration>),
}

/// What a ticket says.
pub(crate) enum Word {
    /// The answer lies in the ticket's core.
    Answer,
    Receive(Box<dyn Upload>),
    Inform(u16, Headers),
    Fallback(Duration, Fallback),
    /// The last ticket was dropped.
    Dropped,
}

/// A connected stream the application hands over.
#[derive(Debug)]
#[non_exhaustive]
pub enum Stream {
    /// A TCP stream.
    Tcp(std::net::TcpStream),
    /// A Unix stream.
    Unix(std::os::unix::net::UnixStream),
}

impl From<std::net::TcpStream> for Stream {
    fn from(stream: std::net::TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl From<std::os::unix::net::UnixStream> for Stream {
    fn from(stream: std::os::unix::net::UnixStream) -> Self {
        Self::Unix(stream)
    }
}

/// A loop, from outside: any thread may hand it streams and have it call functions later.
#[derive(Clone)]
pub struct Loop(pub(crate) Arc<Mailbox<Mail>>);

impl Loop {
    /// Serves a connected stream as if it had come in on the first listener, with its TLS if it has any.
    ///
    /// # Errors
    /// Gives the stream back if the loop has ended.
    pub fn adopt(&self, stream: impl Into<Stream>) -> Result<(), Stream> {
        self.adopt_as(stream, 0)
    }

    /// The same, as if it had come in on the listener of this number (see [`Request::listener`](crate::Request::listener)).
    ///
    /// # Errors
    /// Gives the stream back if the loop has ended.
    pub fn adopt_as(&self, stream: impl Into<Stream>, listener: usize) -> Result<(), Stream> {
        self.0.post(Mail::Adopt(stream.into(), listener)).map_err(|mail| match mail {
            Mail::Adopt(stream, _) => stream,
            _ => unreachable!("a mailbox gives back what was posted"),
        })
    }

    /// Calls `f` on the loop after `delay`. Not called at all if the loop ends before. A panic in it is logged.
    pub fn after(&self, delay: Duration, f: impl FnOnce(Moment) + Send + 'static) {
        let _ = self.0.post(Mail::After(delay, Box::new(f)));
    }
}

impl std::fmt::Debug for Loop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Loop(..)")
    }
}
