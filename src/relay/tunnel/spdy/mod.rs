//! SPDY/3.1, as much of it as programs of 2014 speak through the tunnel: sans-IO, for both ends.
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
//! | file | what |
//! |---|---|
//! | `frame` | frames: taken apart piece by piece, and written |
//! | `headers` | header blocks; why none is compressed |
//! | `head` | what a block means as HTTP |
//! | `stream` | one stream: windows, and which of its ends are open |
//! | `session`, `session/hear` | the connection: its verbs, its events, its limits; what the peer says |
//! | `pump` | a session on an upgraded connection |
//!
//! # What is bounded
//!
//! Everything: a frame's length when its head is here, a block's size before and after it is inflated, the number of
//! streams and of fields, events not yet polled, and output not yet taken. A peer that does not read what we say is not
//! read either. A stream has what it received in [`WINDOW`](stream::WINDOW) bytes at most, and gets more room when its
//! reader [releases](Session::release) some. A client that opens streams only to reset them is shown the door.
//!
//! # What the originals need
//!
//! They have no session window, break down on HEADERS, and their proxy drops a response of which more than five data
//! frames are on the way: a server's stream waits for WINDOW_UPDATE then. An origin ends its streams with an empty
//! frame, as theirs does. SPDY 3.1 itself asks for no more than that, so one behaviour serves all peers.
//!
//! # What does not go through
//!
//! Trailers, interim answers and other protocols have no form in SPDY, nor has a CONNECT. A body is passed on as it comes;
//! an original loses one that stands still for 3 s in the middle.

mod dictionary;
mod frame;
#[cfg(any(test, fuzzing, feature = "__internals"))]
pub(crate) mod fuzz;
mod head;
mod headers;
mod original;
mod pump;
mod session;
mod stream;

pub(crate) use frame::Code;
pub(crate) use head::{ReplyHead, RequestHead};
pub(super) use pump::{SessionPump, User};
pub(crate) use session::{Event, NotOpened, Role, Session};

/// A rule that the peer broke, after which nothing it says can be understood: the session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Which one, in words.
    pub(crate) rule: &'static str,
}

impl Fault {
    const fn protocol(rule: &'static str) -> Self {
        Self { rule }
    }
}
