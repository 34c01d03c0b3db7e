//! Outgoing HTTP/1.1 requests, on the same loops as the server's connections.
//!
//! ```text
//!   Request ──send──▶ pool: an idle connection? a new one? the queue?
//!                       │                          └─ connect: names, happy eyeballs, TLS
//!                       ▼
//!                  connection: an Upgrade around conn::ClientConn ──head──▶ Response ──▶ collect │ pipe │ discard │ switch
//! ```
//!
//! A connection to a server is an [`Upgrade`](crate::Upgrade) on a connection that the loop has
//! [dialled](crate::LoopHandle::dial): input and output in memory, an event mask, a deadline. It blocks no thread. The
//! result arrives as a function call on the loop that the request was sent on.
//!
//! The client is as strict as the server. Conflicting lengths, malformed heads and early ends are typed
//! [errors](Error); a truncated response never looks complete. Nothing that an application puts into a [`Request`] can
//! split a request.
//!
//! # In a handler
//!
//! The handler suspends its own request with a [`Ticket`](crate::Ticket). The body is passed on as it arrives, no faster
//! than its receiver reads:
//!
//! ```no_run
//! use uncork::{Action, Request, Response, Server, client};
//!
//! fn main() -> std::io::Result<()> {
//!     let client = client::Client::new();
//!     let handler = move |req: &mut Request<'_>| {
//!         let ticket = req.ticket();
//!         let mut request = client::Request::get("http://127.0.0.1:9000/").header("Accept", "text/plain");
//!         let cancel = request.cancel_handle();
//!         req.on_end(move |_| cancel.cancel()); // the client may leave before there is a response
//!         client.send(&req.loop_handle(), request, move |result| {
//!             let response = match result {
//!                 Ok(response) => {
//!                     let (status, length) = (response.status(), response.content_length());
//!                     Response::stream(response.pipe()).with_status(status).length(length)
//!                 }
//!                 Err(error) => Response::text(format!("{error}\n")).with_status(502),
//!             };
//!             let _ = ticket.respond(response);
//!         });
//!         Action::Suspend
//!     };
//!     Server::bind("127.0.0.1:8080")?.threads(2, handler)?.join()
//! }
//! ```
//!
//! # In a test or a tool
//!
//! [`Client::call_blocking`] waits for the whole response:
//!
//! ```no_run
//! use uncork::client::{Client, Error, Request};
//! # fn main() -> Result<(), Error> {
//! let response = Client::new().call_blocking(Request::get("https://example.com/"))?;
//! println!("{}: {} bytes", response.status, response.body.len());
//! # Ok(()) }
//! ```
//!
//! # Files
//!
//! | file | content |
//! |---|---|
//! | `request`, `url`, `builder`, `settings`, `cancel` | what the application configures and sends |
//! | `pool`, `exchange`, `permit`, `idle_slot` | which connection serves which request |
//! | `connect`, `resolve` | new connections |
//! | `connection`, `upload`, `sink` | one connection: what it writes and reads |
//! | `redirect` | the target of a 3xx |
//! | `response`, `error`, `blocking`, `intake` | what the application receives |
//!
//! Not here: sockets and TLS (`transport`), HTTP itself (`conn`, `h1`).

mod blocking;
mod builder;
mod cancel;
mod connect;
mod connection;
mod error;
mod exchange;
mod idle_slot;
mod intake;
mod permit;
mod pool;
mod redirect;
mod request;
mod resolve;
mod response;
mod settings;
mod sink;
mod upload;
mod url;

use std::{fmt, sync::Arc};

pub use self::{
    blocking::BodyReader,
    builder::ClientBuilder,
    cancel::CancelHandle,
    error::{Error, TooLargePart},
    request::Request,
    response::{FullResponse, Response},
};
use self::{exchange::Exchange, response::Completion};
use crate::{api::LoopHandle, base::Timeout};

/// An HTTP client with a pool of connections.
///
/// Cheap to clone: all clones share one pool, for all loops. When the last clone is dropped, idle connections are closed
/// and requests in progress are completed.
#[derive(Clone)]
pub struct Client(Arc<pool::Shared>);

impl Client {
    /// Creates a client with the defaults that [`ClientBuilder`] documents.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Returns a builder for a client with other limits, timeouts or root certificates.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    /// Sends `request` and calls `then` with the head of the response, or with an error.
    ///
    /// `then` is called exactly once, on the loop `on`. It must not block. It is never called within `send`, except with
    /// [`Error::LoopEnded`] if the loop has ended.
    ///
    /// `on` is [`Request::loop_handle`](crate::Request::loop_handle), or any other [`LoopHandle`]. Connections belong to
    /// loops; an idle connection of this loop is used first.
    pub fn send(&self, on: &LoopHandle, request: Request, then: impl FnOnce(Result<Response, Error>) + Send + 'static) {
        let (shared, loop_handle, then) = (self.0.clone(), on.clone(), Completion::new(then));
        // The loop knows the time. If it has ended, dropping `then` reports that.
        on.at_once(move |now| match request.ready(&shared.settings) {
            Ok(request) => pool::start(Exchange::new(shared, request, loop_handle, then, now), now),
            Err(error) => then.complete(Err(error)),
        });
    }

    /// Sends `request` and collects the response's body, up to `limit` bytes: [`send`](Self::send), then
    /// [`Response::collect`].
    pub fn send_collect(
        &self,
        on: &LoopHandle,
        request: Request,
        limit: usize,
        then: impl FnOnce(Result<FullResponse, Error>) + Send + 'static,
    ) {
        let then = Completion::new(then);
        self.send(on, request, move |result| match result {
            Ok(response) => response.collect_for(limit, then),
            Err(error) => then.complete(Err(error)),
        });
    }

    /// Returns the number of idle connections, over all loops.
    pub fn idle_connections(&self) -> usize {
        self.0.idle_connections()
    }

    /// Returns the number of connections, over all loops: idle, in use, or being opened.
    pub fn connections(&self) -> usize {
        self.0.connections()
    }

    /// Closes all idle connections.
    pub fn close_idle(&self) {
        self.0.close_idle();
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("connections", &self.connections())
            .field("idle", &self.idle_connections())
            .finish_non_exhaustive()
    }
}
