//! WebSocket (RFC 6455), server and client, with permessage-deflate (RFC 7692).
//!
//! ```text
//!            ┌───────────────────────────── Session: an Upgrade ─────────────────────────────┐
//!   peer ──▶ │ rx ─▶ Reader: head ─▶ unmask ─▶ (inflate) ─▶ UTF-8 ─▶ message ─▶ Handler      │
//!            │                  sans-IO: bytes in, events out              Done ─▶ the next  │
//!   peer ◀── │ tx ◀──────────── (deflate) ◀─ (mask) ◀─ Queue ◀─ Sender, from any thread      │
//!            └───────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A session is an [`Upgrade`](crate::Upgrade) and knows neither sockets nor TLS. It behaves the same over HTTP and
//! HTTPS, in every mode.
//!
//! # A server
//!
//! [`check`] applies every rule of RFC 6455 §4.2.1 to a request. It returns an [`Accept`], or a response that names the
//! violated rule. [`Accept::switch`] takes a [`Handler`], which receives the peer's messages, and returns the
//! [`Sender`], which sends messages to the peer from any thread.
//!
//! ```no_run
//! use uncork::{Action, Request, Server, ws};
//!
//! #[derive(Clone, Default)]
//! struct Echo(Option<ws::Sender>);
//!
//! impl ws::Handler for Echo {
//!     fn open(&mut self, sender: &ws::Sender) {
//!         self.0 = Some(sender.clone());
//!     }
//!
//!     fn message(&mut self, message: ws::Message<'_>, done: ws::Done) {
//!         let Some(sender) = &self.0 else { return };
//!         let _ = sender.message(message); // an error means that the connection is closing
//!         sender.on_room(move || done.next()); // reads no faster than the peer reads
//!     }
//! }
//!
//! fn main() -> std::io::Result<()> {
//!     let handler = |req: &mut Request<'_>| -> Action {
//!         match ws::check(req) {
//!             Ok(accept) => accept.switch(Echo::default()).0.into(),
//!             Err(rejection) => rejection.into(),
//!         }
//!     };
//!     Server::bind("127.0.0.1:8080")?.threads(2, handler)?.join()
//! }
//! ```
//!
//! A server that trusts cookies must check the Origin too: [`check_from`].
//!
//! # A client
//!
//! An [`Offer`] has the fields of the request. [`Offer::accept`] checks the response by RFC 6455 §4.1 and returns the
//! upgrade for its stream. With this crate's client:
//!
#![cfg_attr(feature = "client", doc = "```no_run")]
#![cfg_attr(not(feature = "client"), doc = "```ignore")]
//! use uncork::{client, ws};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let running = uncork::Server::bind("127.0.0.1:0")?.threads(1, |_: &mut uncork::Request<'_>| uncork::Response::new(500))?;
//! # let on = running.loops().remove(0);
//! // `on` is a loop: `Request::loop_handle` in a handler, or one of `Running::loops`.
//! let client = client::Client::new();
//! let offer = ws::Offer::new()?;
//! let request = client::Request::get("http://127.0.0.1:8080/").upgrade_with(&offer.headers());
//! client.send(&on, request, move |result| {
//!     let Ok(response) = result else { return };
//!     let received = |message: ws::Message<'_>, _: ws::Done| println!("{message:?}");
//!     match offer.accept(response.status(), response.headers(), received) {
//!         Ok((upgrade, sender)) => {
//!             response.switch(upgrade);
//!             let _ = sender.text("hello");
//!         }
//!         Err(error) => eprintln!("{error}"),
//!     }
//! });
//! # Ok(()) }
//! ```
//!
//! # Limits
//!
//! Everything is bounded; [`Config`] has the limits.
//!
//! - Input is held once. A message that arrives in one piece, uncompressed and unfragmented, is delivered from the
//!   loop's receive buffer.
//! - Output waits in the [`Sender`]'s queue, which returns an error when it is full. Input and output buffers are empty
//!   when the connection is idle.
//! - A message that arrives in pieces is assembled in the session's own memory. It has a timeout
//!   ([`Config::message_timeout`]). Its memory, with the state that inflates it, counts towards the loop's
//!   [`Limits::buffers`](crate::Limits::buffers). If all such messages together exceed half of that limit, the largest
//!   one of the client that holds most is rejected with 1013.
//! - The next message is delivered when the handler is done with the last one ([`Done`]). Until then nothing is read
//!   from the peer.
//!
//! Not here: rooms, topics, sub-protocols. Applications add them.

mod clocks;
mod config;
mod deflate;
pub(crate) mod frame;
#[cfg(any(test, fuzzing, feature = "__internals"))]
pub(crate) mod fuzz;
mod handler;
mod handshake;
mod keys;
mod outgoing;
mod queue;
mod reader;
mod sender;
#[cfg(any(test, fuzzing, feature = "__internals"))]
pub(crate) mod server_harness;
mod session;
mod utf8;

pub use config::Config;
pub use deflate::Deflate;
pub use frame::Frame;
pub use handler::{CloseCause, Closed, Done, Handler, Message, MessageKind, MessagePart};
pub use handshake::{Accept, HandshakeError, Offer, check, check_from, same_hostname, same_origin};
pub use sender::{SendError, Sender};
