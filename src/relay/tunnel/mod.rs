//! The reverse tunnel: a server behind NAT, reached through the relay.
//!
//! ```text
//!   client ──HTTP──▶ ┌───┐                                      ┌───┐
//!   client ──HTTP──▶ │ P │ ◀══ one connection, dialled by C ════ │ C │ ──▶ a handler, as any server has
//!   client ──HTTP──▶ └───┘ ══ HTTP/2, with P as the client ═══▶ └───┘
//! ```
//! The origin (C) dials the proxy (P), over TLS, and asks for names; from then on it serves, through that connection,
//! what P's public clients ask of those names.
//!
//! P is an intermediary (RFC 9110 §7.6): fields of one hop end there in both directions, trailers too; it signs requests and
//! responses in `Via`, and answers 508 to a request that was there before; it forwards every 1xx but 100, which it answers
//! itself, and 101, which is a response. Fields that it sets are dropped from requests in every spelling. SPDY has neither
//! 1xx nor trailers: there they end.
//!
//! | file | knows |
//! |---|---|
//! | `proxy` | P: clients, origins, and what leads from one to the other |
//! | `origin` | C: what dials a proxy, and serves through that |
//! | `head` | heads between HTTP/1.1 and HTTP/2 |
//! | `gathered` | bytes of a body that wait for room |
//! | `wire` | how the `h2` crate runs on an upgraded connection |
//! | `spdy` | SPDY/3.1, which programs of 2014 speak instead |
//! | `wakes` | which of a connection's streams are to be looked at again |

mod gathered;
mod head;
mod origin;
mod proxy;
mod pump;
#[cfg(feature = "spdy")]
pub(crate) mod spdy;
mod wakes;
mod wire;

pub use origin::{Tunnel, TunnelConfigError, TunnelError, TunnelEvent};
pub use proxy::{
    Balance, ConnectionInfo, Credential, OriginHandler, Proxy, ProxyConfig, ProxyCounts, PublicHandler, Trusted,
};
