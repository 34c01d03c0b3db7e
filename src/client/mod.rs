//! Outgoing HTTP/1.1, on the same loops as what comes in.
//!
//! ```text
//!   Request ──send──▶ pool: an idle connection? a place for a new one? the queue?
//!                    │                          └─ connect: names, happy eyeballs, TLS
//!                    ▼
//!               connection: an Upgrade around conn::ClientConn ──head──▶ Response ──▶ collect │ pipe │ discard │ switch
//! ```
//!
//! A connection to a server is an [`Upgrade`](crate::Upgrade) like any other on a connection the loop has
//! [dialled](crate::LoopHandle::dial): input and output in memory, an event mask, a deadline. No thread is blocked and nothing
//! is polled; the result comes as a call of a function, on the loop that the call was sent on.
//!
//! It is as strict as the server: conflicting lengths, malformed heads and early ends are typed [errors](Error), never
//! half an answer that looks whole. Nothing an application puts into a [`Request`] can split a request.
//!
//! From a handler, with a [`Ticket`](crate::Ticket) to answer later. The body is passed on as it comes, at the pace of
//! whoever receives it:
//!
//! ```no_run
//! use uncork::{Action, Request, Response, Server, client::{self, Client}};
//!
//! fn main() -> std::io::Result<()> {
//!     let client = Client::new();
//!     let handler = move |req: &mut Request<'_>| {
//!         let ticket = req.ticket();
//!         let mut call = client::Request::get("http://127.0.0.1:9000/").header("Accept", "text/plain");
//!         let cancel = call.cancel_handle();
//!         req.on_end(move |_| cancel.cancel()); // the client may leave before there is a response
//!         client.send(&req.loop_handle(), call, move |result| {
//!             let response = match result {
//!                 Ok(answer) => {
//!                     let (status, length) = (answer.status(), answer.content_length());
//!                     Response::stream(answer.pipe()).with_status(status).length(length)
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
//! From a test or a tool, blocking:
//!
//! ```no_run
//! use uncork::client::{Client, Error, Request};
//! # fn main() -> Result<(), Error> {
//! let answer = Client::new().call_blocking(Request::get("https://example.com/"))?;
//! println!("{}: {} bytes", answer.status, answer.body.len());
//! # Ok(()) }
//! ```
//!
//! | file | what |
//! |---|---|
//! | `call`, `url`, `builder`, `cancel` | what the application says |
//! | `pool`, `seat` | who is served by which connection |
//! | `connect`, `resolve` | new connections |
//! | `connection`, `upload`, `sink` | one connection: what is written, what is read |
//! | `redirect` | where a 3xx leads |
//! | `answer`, `error`, `blocking` | what the application gets |
//!
//! Not here: sockets and TLS (`transport`), HTTP itself (`conn`, `h1`).

mod blocking;
mod builder;
mod cancel;
mod connect;
mod connection;
mod error;
mod idle_slot;
mod pool;
mod redirect;
mod request;
mod resolve;
mod response;
mod sink;
mod upload;
mod url;

use std::{fmt, sync::Arc};

pub use self::{
    blocking::BodyReader,
    builder::ClientBuilder,
    cancel::CancelHandle,
    error::{Deadline, Error, TooLargePart},
    request::Request,
    response::{FullResponse, Response},
};
use self::{pool::Exchange, response::Reply};
use crate::api::LoopHandle;

/// Calls servers, and keeps connections to them. Cheap to clone; all clones are one client, with one pool for all loops.
/// When the last is dropped, idle connections are closed; calls under way are finished.
#[derive(Clone)]
pub struct Client(Arc<pool::Shared>);

impl Client {
    /// With the values of [`ClientBuilder`]'s documentation.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// With other limits and times, other roots.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    /// Calls. `then` is called exactly once, on this loop, when the head of the answer is there, or there will be none;
    /// never within `send`, unless the loop has ended: then it is [`Error::LoopEnded`]. It must not block.
    ///
    /// `on` is [`Request::loop_handle`](crate::Request::loop_handle), or any other [`LoopHandle`]. Connections belong to loops; one that is
    /// idle on this loop is used first.
    pub fn send(&self, on: &LoopHandle, call: Request, then: impl FnOnce(Result<Response, Error>) + Send + 'static) {
        let (shared, here, then) = (self.0.clone(), on.clone(), Reply::new(then));
        // There it has a time. If that loop has ended, dropping `then` says so.
        on.at_once(move |now| match call.ready(&shared.settings) {
            Ok(call) => pool::start(Exchange::new(shared, call, here, then, now), now),
            Err(error) => then.tell(Err(error)),
        });
    }

    /// Calls, and collects the answer's body: [`send`](Self::send) and [`Response::collect`] in one.
    pub fn send_collect(
        &self,
        on: &LoopHandle,
        call: Request,
        limit: usize,
        then: impl FnOnce(Result<FullResponse, Error>) + Send + 'static,
    ) {
        let then = Reply::new(then);
        self.send(on, call, move |result| match result {
            Ok(answer) => answer.collect_for(limit, then),
            Err(error) => then.tell(Err(error)),
        });
    }

    /// How many connections are idle now, on all loops.
    pub fn idle_connections(&self) -> usize {
        self.0.idle_connections()
    }

    /// How many connections there are now, idle or not, or being made.
    pub fn connections(&self) -> usize {
        self.0.connections()
    }

    /// Closes those that are idle.
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
