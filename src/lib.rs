//! A low-level HTTP/1.1 engine to embed: no runtime, three ways to drive it, and an upgrade callback that means the
//! same over HTTP and HTTPS.
//!
//! # In short
//!
//! ```no_run
//! use uncork::{Request, Response, Server};
//!
//! fn main() -> std::io::Result<()> {
//!     env_logger::init(); // or another logger: what the application does wrong is said there
//!     Server::bind("127.0.0.1:8080")?
//!         .threads(2, |req: &mut Request<'_>| match req.path() {
//!             "/" => Response::text("Hello, world!\n"),
//!             _ => Response::new(404),
//!         })?
//!         .join()
//! }
//! ```
//!
//! A [`Handler`] is called once for each request, when its head is complete, and *returns* what shall happen: an
//! [`Action`]. It never calls it, so nothing can happen at the wrong time. What may be done later, from any thread, is
//! a value: a [`Ticket`] answers a request, a [`Waker`] has it called again, a [`pipe`] joins two connections, a
//! [`LoopHandle`] calls back after a while, [dials](LoopHandle::dial) and hands the connection over, or
//! [serves one](LoopHandle::adopt_pipes) that never leaves the process. A `Client` (feature `client`) calls other servers from
//! the same loops.
//!
//! # How a byte travels
//!
//! ```text
//!               drive/        who waits: own threads │ the application's loop │ one thread per connection
//!                 │           the only code that reads the clock
//!                 ▼ turn(now)                                    Wait ▲
//!   ┌───────────────────────────── engine/ ───────────────────────────┴──────────────────────────┐
//!   │  ready bits + run queue      slots      deadlines       mailbox ◀── Ticket, Waker (any thread)
//!   │                                │                                                            │
//!   │  socket ─▶ transport ─▶ rx Buf ─▶ conn::ServerConn ─▶ http.rs ─▶ dispatch ─▶ Handler::request
//!   │            plain│TLS            (h1: head, framing, chunked)              │                 │
//!   │  socket ◀─ transport ◀─ Out ◀──── conn::ServerConn ◀─ job.rs ◀───────── Action              │
//!   │                                │                                                            │
//!   │                                └─ Switched ─▶ upgraded.rs ─▶ Upgrade::ready(Io) ─▶ EventMask│
//!   └─────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! 1. Everything between the two buffers is sans-IO ([`h1`], `conn`): no socket, no TLS, no clock, no callback. Tests
//!    and fuzzers drive it as the engine does.
//! 2. TLS ends in `transport`. Above it there is only plaintext, hence the same masks for HTTP and HTTPS.
//! 3. Application code is called from exactly one file, `engine/dispatch.rs`: re-entrancy, panics and "who may be
//!    called when" are questions about one file.
//! 4. The three modes are one engine and three ways to turn it.
//! 5. Wake-ups are messages: a mailbox for each engine, and one bell. A message names connection, generation and
//!    request; one that comes late finds nobody. No lock is held around connection state.
//! 6. Idle costs almost nothing: buffers belong to the loop and are lent to a connection while it has bytes in flight.
//!
//! # Rooms
//!
//! | room | what | may know |
//! |---|---|---|
//! | `base` | vocabulary: buffers, masks, time, ids, limits, ends, mailbox | nothing |
//! | [`h1`] | HTTP/1.1 codec, sans-IO, public as a toolbox | `base` |
//! | `conn` | connection machines, sans-IO; every transition is in `halves` | `base h1` |
//! | `api` | what applications implement and return | `base h1 transport` |
//! | `transport` | bytes on and off sockets; rustls in `tls`, unsafe in `sys` | `base` |
//! | `engine` | one event loop | `base h1 conn api transport` |
//! | `drive` | who waits; the only room that reads the clocks | `base api engine` |
//! | `server` | [`Server`], [`Running`] | `base api transport engine drive` |
//! | `ws` | WebSocket, server and client, as an [`Upgrade`] | `base h1 api` |
//! | `client` | outgoing HTTP/1.1 on the same loops | `base h1 conn api transport engine drive` |
#![cfg_attr(feature = "relay", doc = "| [`relay`] | services, written as an outsider would | the public face |")]
#![cfg_attr(not(feature = "relay"), doc = "| `relay` | services, written as an outsider would | the public face |")]
//!
//! `tests/layering.rs` holds this table and fails when a room imports what it may not.
//!
//! # The upgrade callback
//!
//! After `101` the application speaks any protocol through in-memory input and output, and steers by an
//! [`EventMask`]: `READ`, `WRITE`, `EXTERNAL`, `CORK`. There is no socket to be had, and that is the point.
//!
//! ```
//! use uncork::{Action, EventMask, Io, Request, Response, Switch};
//!
//! fn shout(io: &mut Io<'_>) -> EventMask {
//!     let loud = io.rx.bytes().to_ascii_uppercase();
//!     let n = io.tx.write(&loud);
//!     io.rx.consume(n);
//!     if n < loud.len() {
//!         return EventMask::WRITE; // the peer does not read: nor do we
//!     }
//!     if io.rx.state() == uncork::ReadState::Open { EventMask::READ } else { EventMask::TERMINATE }
//! }
//!
//! let handler = |req: &mut Request<'_>| -> Action {
//!     match req.wants_upgrade("shout") {
//!         true => Switch::to("shout", shout).into(),
//!         false => Response::new(426).header("Upgrade", "shout").into(),
//!     }
//! };
//! # fn check(_: impl uncork::Handler) {}
//! # check(handler);
//! ```
//!
//! # A client that leaves
//!
//! Closing and half-closing look alike on the wire: both are end-of-file. What it means depends on what is under way.
//!
//! | under way | end-of-file means | the other meaning, by |
//! |---|---|---|
//! | a request's body is still coming | an incomplete request: the client left | |
//! | the response is all there (bytes, a file) | a half-close: the client gets the response | |
//! | a [`Ticket`] is to answer | the client left | [`Ticket::allow_half_close`] |
//! | a [stream](Response::stream) or pipe pauses | the client left | [`Response::allow_half_close`] |
//! | after `101` | what the [`Upgrade`] takes it for ([`ReadState`]) | |
//!
//! A client that left is noticed at once, in every mode: over plain connections and TLS, and also while another loop
//! writes to its socket. To find out, no more than 4 KiB is read ahead of the next request. Two things hide the end of a
//! client that does not reset its connection: a body that is pushed back, until there is room for it again, and more than
//! those 4 KiB in front of a close_notify that no FIN follows. A reset ends everything.
//!
//! # What is logged
//!
//! Through `log`, one target for each room: `uncork::engine` (what the application did wrong: error; what the system
//! refuses: warn; who was turned away: debug), `uncork::conn` (what peers did wrong: debug), `uncork::transport`
//! (socket and TLS trouble: debug), `uncork::client` (what servers did wrong: debug), `uncork::drive`,
//! `uncork::relay`. A mistake of the application's, such as a response that breaks a rule, becomes a 500: the log says
//! why, and in debug builds so does the body. Requests are not logged: [`Server::access_log`] is for that. `ws` logs nothing: how a WebSocket
//! ended is told to its speaker.
//!
//! # Where the plan was changed
//!
//! The house was planned before it was built. Building it taught: there is one type of transport with an optional TLS
//! part rather than an enum; deadlines are 64-bit milliseconds, since 32 bits wrap after 49 days; the mask is written
//! by hand, since a flags macro brings a second spelling of 0; `Upload` and `Produce` ends of a [`pipe`] take its block
//! out rather than lock it; `api` knows `transport`, because whom to believe is part of what is [dialled](Dial).
//! Splicing asks the system how much is left in a socket, since neither a short splice nor one that moves nothing says;
//! a chunked body is read into the block of a pipe with its framing, and sorted out there.
//! [`Server::unbound`] has one listener, which listens nowhere, so that what is adopted can
//! have TLS. [A connection that is two pipes](LoopHandle::adopt_pipes) is no third kind of transport but of socket, one that
//! `transport` knows by a trait of `base` only: pipes are in `api`, and behave as a socket does, blocking and reset
//! included.

#[cfg(feature = "relay")]
extern crate self as uncork;

pub(crate) mod api;
pub(crate) mod base;
#[cfg(feature = "client")]
pub mod client;
pub(crate) mod conn;
pub(crate) mod drive;
pub(crate) mod engine;
pub mod h1;
#[cfg(feature = "relay")]
pub mod relay;
pub(crate) mod server;
pub(crate) mod transport;
#[doc(hidden)]
pub mod workbench;
#[cfg(feature = "ws")]
pub mod ws;

pub use api::{
    AccessRecord, Action, Body, ConnectedSocket, Consumed, Dial, DialError, Dialed, Events, Handler, Head, Io,
    LoopHandle, PipeCounters, PipeIn, PipeOut, Produce, Produced, ReadState, Request, RequestEnd, RespondError,
    Response, Rx, Switch, Ticket, TlsInfo, Tx, Upgrade, Upload, Waker, pipe, pipe_memory, set_pipe_memory_limit,
};
pub use base::{ConnId, EndReason, EventMask, Limits, Moment, PeerAddr, RequestId, Timeout, Wait};
pub use drive::{StopHandle, external::ExternalServer};
pub use h1::Headers;
pub use server::{Running, Server};
#[cfg(feature = "tls")]
pub use transport::{Tls, TlsBuilder, TlsClient, TlsClientBuilder, TlsError};

/// The README's examples are tests.
#[cfg(all(doctest, feature = "client", feature = "ws"))]
#[doc = include_str!("../README.md")]
struct Readme;
