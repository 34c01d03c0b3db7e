//! A low-level HTTP engine that you embed in your own program: no async runtime, three ways to drive it, and an
//! upgrade callback that behaves the same over HTTP and HTTPS.
//!
//! # In short
//!
//! ```no_run
//! use uncork::{Request, Response, Server};
//!
//! fn main() -> std::io::Result<()> {
//!     env_logger::init(); // or another logger: the engine logs mistakes of the application
//!     Server::bind("127.0.0.1:8080")?
//!         .threads(2, |req: &mut Request<'_>| match req.path() {
//!             "/" => Response::text("Hello, world!\n"),
//!             _ => Response::new(404),
//!         })?
//!         .join()
//! }
//! ```
//!
//! A [`Handler`] is called once for each request, when its head is complete, and *returns* an [`Action`]. It never
//! performs one itself, so there is no wrong moment to call anything. Things that can be done later, from any thread,
//! are values:
//!
//! - A [`Ticket`] responds to a request.
//! - A [`Waker`] has a request's upload, producer or upgrade called again.
//! - A [`pipe`] joins two connections.
//! - A [`LoopHandle`] calls a function after a delay, [dials](LoopHandle::dial), and
//!   [serves connections](LoopHandle::adopt_pipes) that never leave the process.
//!
//! A `Client` (feature `client`) sends requests to other servers from the same loops.
//!
//! # First programs
//!
//! A JSON API: the query is decoded, the body of a POST is received as a whole.
//!
//! ```
//! use std::sync::{Arc, Mutex};
//!
//! use uncork::{Action, Request, Response};
//!
//! /// The loops share it.
//! type Notes = Arc<Mutex<Vec<String>>>;
//!
//! fn api(req: &mut Request<'_>, notes: &Notes) -> Action {
//!     match (req.method(), req.path()) {
//!         ("GET", "/notes") => {
//!             let word = req.query_pairs().find(|(name, _)| name == "word").map(|(_, word)| word).unwrap_or_default();
//!             let notes = notes.lock().unwrap();
//!             let found: Vec<&String> = notes.iter().filter(|note| note.contains(&*word)).collect();
//!             Response::json(serde_json::json!(found).to_string()).into()
//!         }
//!         ("POST", "/notes") => {
//!             let notes = notes.clone();
//!             Action::receive_whole(64 * 1024, move |body| match serde_json::from_slice(&body) {
//!                 Ok(note) => {
//!                     notes.lock().unwrap().push(note);
//!                     Response::new(201)
//!                 }
//!                 Err(error) => Response::text(format!("invalid note: {error}\n")).with_status(400),
//!             })
//!         }
//!         (_, "/notes") => Response::new(405).header("Allow", "GET, POST").into(),
//!         _ => Response::text("not found\n").with_status(404).into(),
//!     }
//! }
//!
//! let notes = Notes::default();
//! let handler = move |req: &mut Request<'_>| api(req, &notes);
//! # fn check(_: impl uncork::Handler + Clone + Send) {}
//! # check(handler);
//! ```
//!
//! | program | shows | explained at |
//! |---|---|---|
//! | `examples/json_api.rs` | queries, whole bodies, JSON, state | [`Action::receive_whole`], [`Request::query_pairs`] |
//! | `examples/events.rs` | server-sent events from another thread | [`Response::stream`] |
//! | `examples/upload.rs` | files from a browser, streamed, by a thread that may block | [`form`], [`PipeOut::reader`] |
//!
//! # How a byte travels
//!
//! ```text
//!               drive/        own threads │ the application's loop │ one thread per connection
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
//! 2. TLS ends in `transport`. Above it there is only plaintext, so the same masks work for HTTP and HTTPS.
//! 3. The engine calls handlers, uploads, producers and upgrades in one file, `engine/dispatch.rs`: re-entrancy, panics
//!    and the order of calls are questions about that file. Two calls are made elsewhere: the wakers of a [`pipe`]
//!    (`api/pipe`), and callbacks that are dropped because their loop has ended.
//! 4. The three modes are one engine and three ways to turn it.
//! 5. Wake-ups are messages: one mailbox and one notifier for each engine. A message names connection, generation and
//!    request; one that comes too late has no effect. No lock is held around connection state.
//! 6. An idle connection costs almost nothing: buffers belong to the loop, which lends them to a connection while it
//!    has bytes in flight.
//!
//! # Modules
//!
//! | module | contents | may import |
//! |---|---|---|
//! | `base` | vocabulary: buffers, masks, time, ids, limits, end reasons, mailbox | nothing |
//! | [`h1`] | HTTP/1.1 codec, sans-IO, public as a toolbox | `base` |
//! | `conn` | connection state machines, sans-IO; every transition is in `halves` | `base h1` |
//! | `api` | traits that applications implement, and values they return | `base h1 transport` |
//! | `transport` | bytes on and off sockets; rustls in `tls`, unsafe code in `sys` | `base` |
//! | [`form`] | HTML forms: urlencoded and multipart, sans-IO | `h1 api` |
//! | [`cookie`] | cookies of a request, `Set-Cookie` of a response | `h1 api` |
//! | `h2` | HTTP/2, sans-IO: frames, HPACK, flow control, streams | `base h1 conn api` |
//! | `engine` | one event loop | `base h1 h2 conn api transport` |
//! | `drive` | the three modes; the only module that reads the clocks | `base api engine` |
//! | `server` | [`Server`], [`Listen`], [`Running`] | `base h1 api transport engine drive` |
//! | `auth` | Basic and Digest authentication, sans-IO | `base h1 api` |
//! | `ws` | WebSocket, server and client, as an [`Upgrade`] | `base h1 api` |
//! | `client` | outgoing HTTP/1.1 on the same loops | `base h1 conn api transport server` |
#![cfg_attr(
    feature = "relay",
    doc = "| [`relay`] | services, written with the public API only | the public API `h2` |"
)]
#![cfg_attr(
    not(feature = "relay"),
    doc = "| `relay` | services, written with the public API only | the public API `h2` |"
)]
//!
//! `tests/layering` checks this table, and fails if a module imports another that it may not import.
//!
//! # The upgrade callback
//!
//! After `101` the application speaks any protocol through in-memory input and output. It returns an [`EventMask`] from
//! each call: `READ`, `WRITE`, `EXTERNAL`, `CORK`. It never gets the socket, so the same code runs over TLS.
//!
//! ```
//! use uncork::{Action, EventMask, Io, ReadState, Request, Response, Switch};
//!
//! fn shout(io: &mut Io<'_>) -> EventMask {
//!     let loud = io.rx.bytes().to_ascii_uppercase();
//!     let n = io.tx.write(&loud);
//!     io.rx.consume(n);
//!     if n < loud.len() {
//!         return EventMask::WRITE; // the peer does not read, so neither do we
//!     }
//!     if io.rx.state() == ReadState::Open { EventMask::READ } else { EventMask::TERMINATE }
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
//! # HTTP/2
//!
//! With the feature `http2`, clients may speak HTTP/2 (RFC 9113) as well, to the same handlers: over TLS, ALPN selects
//! it; without TLS, a client begins with its preface. A request has the method and the fields that it would have in
//! HTTP/1.1, `Host` among them; only [`Request::version`] differs. An extended CONNECT (RFC 8441) is an upgrade, and its
//! stream has the event masks, the half-close and the abort of a connection. The limits of a connection hold for each
//! stream; [`Limits::streams`] bounds their number. [`Switch::without_response`] is not possible there: it gets a 426.
//!
//! A body that the handler does not take stops its sender by HTTP/2's windows, which grow from 64 KiB to 1 MiB as it is
//! taken, and no other stream waits for it. A response that is aborted, or shorter than announced, resets its stream.
//! [`Response::close`] ends its stream only. [`Server::versions`] switches HTTP/2 off, or HTTP/1.1.
//!
//! # A client that disconnects
//!
//! Closing and half-closing look alike on the wire: both are end-of-file. Its meaning depends on what is in progress.
//!
//! | in progress | end-of-file means | to get the other meaning |
//! |---|---|---|
//! | a request's body is still coming | an incomplete request: the client has disconnected | |
//! | the response is all there (bytes, a file) | a half-close: the client gets the response | |
//! | a [`Ticket`] has not responded yet | the client has disconnected | [`Ticket::allow_half_close`] |
//! | a [stream](Response::stream) or pipe pauses | the client has disconnected | [`Response::allow_half_close`] |
//! | after `101` | the [`Upgrade`] decides ([`ReadState`]) | |
//!
//! Over HTTP/2 this holds for each request of the connection. An upgrade that its client has not half-closed is
//! truncated, and so is a response that waits for the client's windows: they do not open again.
//!
//! The engine notices at once that a client has disconnected, in every mode: over plain connections and TLS, and also
//! while another loop writes to its socket. While a request is in progress, at most 4 KiB of later input are read for
//! that; what was read together with its head (up to 16 KiB) is kept.
//!
//! The disconnect of a client that sends no reset is hidden in two cases. First, while its body is under back-pressure.
//! Second, if more than those 4 KiB precede a close_notify that no FIN follows. A reset ends everything.
//!
//! # Logging
//!
//! The crate logs through `log`, with one target for each module:
//!
//! - `uncork::engine`: mistakes of the application (error), errors of the system (warn), rejected peers (debug).
//! - `uncork::conn`: rules that peers broke (debug).
//! - `uncork::transport`: trouble with sockets and TLS (debug).
//! - `uncork::client`: rules that servers broke (debug).
//! - `uncork::drive`, `uncork::relay`.
//!
//! A mistake of the application, such as a response that breaks a rule, becomes a 500. The log contains the reason, and
//! in debug builds the body does too. Requests are not logged: use [`Server::access_log`]. `ws` logs nothing: its
//! handler is told how a WebSocket ended.
//!
//! # Platforms
//!
//! Unix, 64 bit; tuned on Linux. On systems where `sendfile` raises `SIGPIPE`, a program in another language that
//! embeds the engine must ignore that signal. Rust's runtime ignores it.
//!
//! # Decisions
//!
//! - One type of transport with an optional TLS part. A [connection of two pipes](LoopHandle::adopt_pipes) is another
//!   kind of socket: it blocks, half-closes and resets as a socket does.
//! - Deadlines are 64-bit milliseconds: 32 bits wrap after 49 days.
//! - [`EventMask`] has one spelling of 0 and no unchecked way from an integer: a mask that is 0 by accident would end a
//!   connection.
//! - The ends of a [`pipe`] take its block out to work on it, so no lock is held during a system call.
//! - A handler cannot block until its body arrives, not even in thread-per-connection mode: the engine would have to
//!   turn inside the call, and call the application again, which may hold a lock. [`PipeOut::reader`] blocks in another
//!   thread.
//! - Splicing asks the system how many bytes are left in a socket: a short splice, or one that moves nothing, does not
//!   tell why.
//! - A chunked body is read into the block of a pipe together with its framing, and decoded there.
//! - A stream of HTTP/2 is a connection with one request: the same code serves both, down to the upgrade callback. Its
//!   socket is the stream, and its heads are not made into text and parsed again. A request that gets its response at
//!   once has no such connection.
//! - `api` imports `transport`, because a [dialled connection](Dial) includes the certificates to trust.

// On docs.rs, which builds with nightly, each item says which feature it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "relay")]
extern crate self as uncork;

#[cfg(any(test, fuzzing, feature = "__internals"))]
#[doc(hidden)]
pub mod __fuzzing;
pub(crate) mod api;
#[cfg(feature = "auth")]
pub mod auth;
pub(crate) mod base;
#[cfg(feature = "client")]
pub mod client;
pub(crate) mod conn;
pub mod cookie;
pub(crate) mod drive;
pub(crate) mod engine;
pub mod form;
pub mod h1;
#[cfg(feature = "http2")]
pub(crate) mod h2;
#[cfg(feature = "relay")]
pub mod relay;
pub(crate) mod server;
pub(crate) mod transport;
#[cfg(feature = "ws")]
pub mod ws;

pub use api::{
    AccessRecord, Action, Body, ConnectedSocket, Consumed, Dial, DialError, Dialed, Events, Handler, Head, Io,
    LoopHandle, PipeCounters, PipeIn, PipeOut, PipeReader, Produce, Produced, ReadState, Request, RequestEnd,
    RespondError, Response, Rx, Switch, Ticket, TlsInfo, Tx, Upgrade, Upload, Waker, pipe, pipe_memory,
    set_pipe_memory_limit,
};
pub use base::{ConnId, EndReason, EventMask, Limits, Moment, PeerAddr, RequestId, Timeout, Wait};
pub use drive::{StopHandle, external::ExternalServer};
pub use h1::Headers;
/// The TLS library, in the version whose types [`Tls`] and [`TlsClient`] convert from.
#[cfg(feature = "tls")]
pub use rustls;
pub use server::{Listen, Running, Server};
#[cfg(feature = "tls")]
pub use transport::{Tls, TlsBuilder, TlsClient, TlsClientBuilder, TlsError, TlsVersion};

/// Compiles the examples of the README as tests.
#[cfg(all(doctest, feature = "client", feature = "ws"))]
#[doc = include_str!("../README.md")]
struct Readme;
