//! A whole request that is passed on to another server, by this side's client: what nodes, the tunnel and the gateway
//! have in common.
//!
//! ```text
//!   client ─head─▶ Exchange ─────────────head, fields────────────▶ node, or application
//!     ◀─100─ ticket.receive ◀─on_continue──────────────────100─┘ │
//!     ─body, trailers─▶ pipe ────────────────────────────────────▶
//!     ◀──────────────────────── pipe ◀───────── response, trailers┘
//!     ◀══════════ UpgradedStream ◀══════ 101 ══════▶ UpgradedStream
//! ```
//! Both pipes are bounded, and large enough to splice: a body of known length between plain connections does not enter
//! the process. No side is read faster than the other one takes the bytes. An abort goes through in both directions: a
//! pipe that is dropped truncates the other connection, and a client that disconnects before the response cancels the
//! call. A body that was truncated is never passed on as a whole one.
//!
//! Fields are end-to-end or for one hop (RFC 9110 §7.6.1). Those of one hop, and those that `Connection` lists, end here.
//! Nodes are one intermediary, so they add no fields about the client. The tunnel and the gateway's upstream are
//! intermediaries: they write `Via` and the fields about the client, and drop what a client says about itself.
//!
//! | file | content |
//! |---|---|
//! | `exchange` | one request: from the client's head to the response of the other server |
//! | `carried` | the bodies in both directions, the response, and bytes of another protocol |
//! | `target` | the request target, the protocol and the version that a client has sent |
//! | `about_client` | the fields about the client; names that could be mistaken for them |

#[cfg(any(feature = "tunnel", feature = "gateway"))]
pub(super) mod about_client;
#[cfg(any(feature = "nodes", feature = "gateway"))]
mod carried;
#[cfg(any(feature = "nodes", feature = "gateway"))]
mod exchange;
#[cfg(any(feature = "tunnel", feature = "gateway"))]
pub(super) mod target;

#[cfg(feature = "gateway")]
pub(super) use self::carried::Limit;
#[cfg(feature = "nodes")]
pub(super) use self::exchange::is_unsent;
#[cfg(any(feature = "nodes", feature = "gateway"))]
pub(super) use self::{
    carried::Passing,
    exchange::{Asking, Exchange},
};
