//! SPDY/3.1, as far as spdy-proxy uses it through the tunnel: sans-IO, for both ends.
//!
//! ```text
//!   public client ─▶ P: SPDY's client ══ one TLS connection, dialled by C ══ C: SPDY's server ─▶ handler
//!
//!                     ┌─────────────────────────── Session ───────────────────────────┐
//!   bytes ──handle_input──▶ Decoder ─▶ Inflater ─▶ heads ─┐                            │
//!                     │        └─────────▶ data ──────────┴▶ streams ─▶ events ──poll_event──▶
//!   bytes ◀──output, consume── frames ◀── Stored ◀──────────── open, reply, data, reset, release
//!                     └────────────────────────────────────────────────────────────────┘
//! ```
//!
//! | file | contents |
//! |---|---|
//! | `frame`, `write` | frames: decoded piece by piece, and encoded |
//! | `fault` | the error that ends a session |
//! | `headers` | header blocks; why none is compressed |
//! | `head` | the meaning of a block in HTTP |
//! | `stream` | one stream: windows, and which of its ends are open |
//! | `session`, `session/receive` | the connection: operations, events and limits; the peer's frames |
//! | `pump` | a session on an upgraded connection |
//!
//! # Limits
//!
//! Everything has a limit. A frame's length is checked when its head is read, a block's size before and after it is
//! inflated. The numbers of streams and fields are limited, and so are events that are not polled and output that is
//! not taken. A peer that does not read our output is not read either. A stream holds at most
//! [`WINDOW`](stream::WINDOW) received bytes, and gets more window when its reader [releases](Session::release) some. A
//! client may reset any number of streams: they use no memory afterwards.
//!
//! # Requirements of spdy-proxy
//!
//! It has no session window, and crashes on HEADERS. Its proxy drops a response of which more than five data frames are
//! in flight, so a server's stream waits for WINDOW_UPDATE then. Our origin server ends its streams with an empty
//! frame, like spdy-proxy's. SPDY 3.1 itself needs no more than that, so one behaviour serves all peers.
//!
//! # Limits of SPDY
//!
//! SPDY has no form for trailers, informational responses (1xx), other protocols and CONNECT. A body is
//! forwarded as it comes; a spdy-proxy loses one that pauses for 3 s.

#[cfg(any(test, fuzzing, feature = "__internals"))]
mod deflater;
mod dictionary;
mod fault;
mod frame;
#[cfg(any(test, fuzzing, feature = "__internals"))]
pub(crate) mod fuzz;
mod head;
mod headers;
mod pump;
mod session;
mod stream;
mod write;

pub(crate) use fault::Fault;
pub(crate) use frame::Code;
pub(crate) use head::{ReplyHead, RequestHead};
pub(super) use pump::{SessionPump, User};
pub(crate) use session::{Event, OpenError, Role, Session};
