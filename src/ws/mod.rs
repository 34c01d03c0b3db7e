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
//! Nothing here knows of sockets or TLS: a session is an [`Upgrade`](crate::Upgrade) like any other, and means the same
//! over HTTP and HTTPS, in every drive mode.
//!
//! # A server
//!
//! [`check`] holds a request against every rule of RFC 6455 §4.2.1, and gives an [`Accept`], or the answer that says
//! which rule was broken. [`Accept::switch`] takes a [`Handler`], who hears what the peer says, and gives the
//! [`Sender`] by which any thread may speak to it.
//!
//! ```
//! use uncork::{Action, Request, ws};
//!
//! struct Echo(Option<ws::Sender>);
//!
//! impl ws::Handler for Echo {
//!     fn open(&mut self, sender: &ws::Sender) {
//!         self.0 = Some(sender.clone());
//!     }
//!
//!     fn message(&mut self, message: ws::Message<'_>, done: ws::Done) {
//!         let Some(sender) = &self.0 else { return };
//!         let _ = sender.message(message); // an error says that it is closing: nobody is left to be told
//!         sender.on_room(move || done.next()); // a peer that doesn't read is not read from
//!     }
//! }
//!
//! let handler = |req: &mut Request<'_>| -> Action {
//!     match ws::check(req) {
//!         Ok(accept) => accept.switch(Echo(None)).0.into(),
//!         Err(refusal) => refusal.into(),
//!     }
//! };
//! # fn check(_: impl uncork::Handler) {}
//! # check(handler);
//! ```
//!
//! # A client
//!
//! An [`Offer`] has the fields of the request, and turns the answer, if it is what RFC 6455 §4.1 asks for, into an
//! upgrade for the stream it came on: with this crate's client, by `Call::upgrade_with` and `Answer::switch`; the README
//! has it in full.
//!
//! # What is bounded
//!
//! Everything; [`Config`] has the limits. Input is held once: a message that arrives whole and is neither compressed
//! nor in fragments is delivered where it lies, in a buffer of the loop's. Output waits in the [`Sender`]'s queue, which
//! says so when it is full. Both are empty when the connection is idle. A message that arrives in pieces is put together in
//! memory of the session's own. It has a clock ([`Config::message_timeout`]), and counts towards the loop's
//! [`Limits::buffers`](crate::Limits::buffers) with what inflates it: where all of them together have half of that, the
//! largest of the client that holds most is refused with 1013. The next message is delivered when the speaker
//! is done with the last ([`Done`]); until then the peer is not read from.
//!
//! Not here: rooms, topics, sub-protocols. That is for what is built on it.

mod clocks;
mod config;
mod deflate;
pub(crate) mod frame;
pub(crate) mod fuzz;
mod handler;
mod handshake;
mod keys;
mod outgoing;
mod queue;
mod reader;
mod sender;
pub(crate) mod server_harness;
mod session;
mod utf8;

pub use config::Config;
pub use deflate::Deflate;
pub use frame::Frame;
pub use handler::{CloseCause, Closed, Done, Handler, Message, MessageKind, MessagePart};
pub use handshake::{Accept, HandshakeError, Offer, check, check_from, same_hostname, same_origin};
pub use sender::{SendError, Sender};
