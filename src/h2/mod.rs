//! HTTP/2 (RFC 9113), without I/O: the frames of a connection, its streams, and heads in both directions.
//!
//! ```text
//!   bytes ──▶ connection ──Fields──▶ request: the words of HTTP/1.1 ──▶ RequestHead ──▶ a handler
//!                 ▲  │
//!                 │  └── DATA ──▶ stream: bytes of the bodies, flow control, the end, a reset
//!   Out ◀── frames ◀──────────── fields: a response
//! ```
//! | file | contents |
//! |---|---|
//! | `frame` | the heads of frames, and frames that are written whole |
//! | `hpack` | compressed fields (RFC 7541) |
//! | `settings`, `windows` | the parameters of a connection; flow control of what arrives |
//! | `connection`, `blocks` | the frames that arrive, and their header blocks |
//! | `ends`, `resets` | RST_STREAM, GOAWAY, PING; late frames |
//! | `budget` | what a peer may not do too often |
//! | `client`, `direct` | for the tunnel: the client's side, and a connection without the engine |
//! | `streams`, `state` | the streams, and the state of each |
//! | `fields`, `request`, `priority` | fields that have arrived, and the head of a request |
//! | `response` | header blocks that are sent |
//! | `stream` | a stream as a socket, and as the messages of one exchange |
//!
//! `engine/http2` serves the connection: it reads and writes, calls the handler, and has the clocks.
//!
//! Either end of a tunnel uses the same machine, the proxy as the client.
//!
//! Over TCP, a client may half-close: its complete requests get their responses, as over HTTP/1.1. nginx, nghttp2 and
//! hyper end the connection then.
//!
//! The `h2` crate does what this does, and is what the tests compare it with. It allocates 28 KiB for each connection, idle
//! or not, reads a frame only as a whole, and takes four times as many instructions for a request: it serves programs
//! whose tasks and I/O are elsewhere, and a machine within the engine needs no such parts.

mod blocks;
mod budget;
#[cfg_attr(not(feature = "tunnel"), allow(dead_code, reason = "only the tunnel is a client"))]
pub(crate) mod client;
pub(crate) mod connection;
#[cfg(any(test, feature = "tunnel"))]
mod direct;
mod ends;
pub(crate) mod fields;
pub(crate) mod frame;
#[cfg(any(test, all(feature = "tunnel", any(fuzzing, feature = "__internals"))))]
pub(crate) mod fuzz;
pub(crate) mod hpack;
pub(crate) mod priority;
pub(crate) mod request;
mod resets;
mod response;
pub(crate) mod settings;
pub(crate) mod state;
pub(crate) mod stream;
mod streams;
mod windows;

/// What a client sends first (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The protocol's name in ALPN (RFC 9113 §3.2).
pub(crate) const ALPN: &[u8] = b"h2";

#[cfg(test)]
mod tests;
