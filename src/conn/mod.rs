//! State machines of HTTP/1.1 connections, without I/O.
//!
//! ```text
//!              rx: Buf                                   out: Out
//!   bytes ───▶ [ ... ] ──poll_head──▶ RequestHead   ┌──respond──▶ [ head | body ] ───▶ bytes
//!                      ──poll_body──▶ Data/End      ├──begin_chunk … end_chunk
//!                           ServerConn ─────────────┴──end_body
//!                               │
//!                             Halves: all transitions, one file
//! ```
//!
//! `message` is where heads go that are not text: on a stream of HTTP/2.
//! `client` is the client's side: it writes requests and reads responses, with the same halves.
//!
//! Tests and fuzz targets drive these as the engine does. Call `poll_head` until it has a head, `begin` with it, then
//! `poll_body`/`took` and `respond_with`/… in any interleaving. Stop at [`ServerConn::is_idle`] (the next request) or
//! [`ServerConn::must_close`].
//!
//! Not here: sockets, TLS (`transport`), the application (`engine::dispatch`), the clock (`drive`).

#[cfg(any(test, fuzzing, feature = "__internals", feature = "client"))]
pub(crate) mod client;
#[cfg(any(test, fuzzing, feature = "__internals"))]
pub(crate) mod client_harness;
#[cfg(any(test, fuzzing, feature = "__internals"))]
pub(crate) mod fuzz;
#[cfg(any(test, fuzzing, feature = "__internals"))]
mod fuzz_input;
pub(crate) mod halves;
pub(crate) mod message;
pub(crate) mod server;
#[cfg(any(test, fuzzing, feature = "__internals"))]
pub(crate) mod server_harness;
#[cfg(test)]
mod traces;

pub(crate) use message::BodyOut;
pub(crate) use server::{BodyEvent, ServerConn};
