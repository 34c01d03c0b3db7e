//! HTTP/2 (RFC 9113) by the `h2` crate, without I/O of its own: heads in both directions, and the stream of one request.
//!
//! ```text
//!   connection ──bytes──▶ wire ──▶ h2 ──▶ request: parts ──▶ the words of HTTP/1.1 ──▶ RequestHead ──▶ a handler
//!                                  │ ▲
//!                                  │ └── fields: Headers ──▶ HeaderMap ◀── a response
//!                                  └──── stream: bytes of the bodies, flow control, the end, a reset
//! ```
//! | file | contents |
//! |---|---|
//! | `wire` | bytes between a connection and h2 |
//! | `hpack` | compressed fields, for a machine without h2 |
//! | `frames` | the heads of a client's frames: what h2 leaves open |
//! | `wakes` | the streams of a connection that were woken |
//! | `request` | the head of a request, in the words of HTTP/1.1 |
//! | `fields` | fields of responses and trailers |
//! | `priority` | the urgency of a request |
//! | `stream` | a stream as a socket, and as the messages of one exchange |
//!
//! `engine/http2` serves the connection: it reads and writes, calls the handler, and has the clocks.

pub(crate) mod fields;
pub(crate) mod frames;
#[allow(dead_code, unused_imports, reason = "the machine that uses it is being written")]
pub(crate) mod hpack;
pub(crate) mod priority;
pub(crate) mod request;
pub(crate) mod stream;
pub(crate) mod wakes;
pub(crate) mod wire;

/// What a client sends first (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The protocol's name in ALPN (RFC 9113 §3.2).
pub(crate) const ALPN: &[u8] = b"h2";
