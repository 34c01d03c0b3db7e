//! Outgoing HTTP/1.1 requests, on the same loops as the server's connections.
//!
//! ```text
//!   Request ──send──▶ pool: an idle connection? a new one? the queue?
//!                       │                          └─ connect: names, happy eyeballs, TLS
//!                       ▼
//!                  connection: an Upgrade around conn::ClientConn ─head─▶ Response: collect │ pipe │ discard │ switch
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
//! The handler suspends its own request with a [`Ticket`](crate::Ticket). The body is passed on as it arrives, no
//! faster than its receiver reads:
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
//!         req.on_end(move |_| cancel.cancel()); // the client may disconnect before there is a response
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
//! | `handle`, `builder`, `settings` | the client and its configuration |
//! | `request`, `url`, `cancel` | what the application sends |
//! | `exchange`, `idle_slot`, `pool` | a request in progress; which connection serves it |
//! | `connect`, `resolve`, `race` | new connections |
//! | `connection`, `upload`, `sink` | one connection: what it writes and reads |
//! | `redirect` | the target of a 3xx |
//! | `response`, `error` | what the application receives |
//! | `blocking`, `background`, `intake` | blocking requests |
//!
//! Not here: sockets and TLS (`transport`), HTTP itself (`conn`, `h1`).

mod background;
mod blocking;
mod builder;
mod cancel;
mod connect;
mod connection;
mod error;
mod exchange;
mod handle;
mod idle_slot;
mod intake;
mod pool;
mod race;
mod redirect;
mod request;
mod resolve;
mod response;
mod settings;
mod sink;
mod upload;
mod url;

pub use self::{
    blocking::BodyReader,
    builder::ClientBuilder,
    cancel::CancelHandle,
    error::{Error, TooLargePart},
    handle::Client,
    request::Request,
    response::{FullResponse, Response},
};
