//! The reverse tunnel: a server behind NAT, reached through the relay.
//!
//! ```text
//!   client ──HTTP──▶ ┌───┐                                      ┌───┐
//!   client ──HTTP──▶ │ P │ ◀══ one connection, dialled by C ════ │ C │ ──▶ a handler, as any server has
//!   client ──HTTP──▶ └───┘ ══ HTTP/2, with P as the client ═══▶ └───┘
//! ```
//! The origin server (C) dials the proxy (P) over TLS and registers names. From then on it serves, through that
//! connection, the requests of P's public clients for those names.
//!
//! P is an intermediary (RFC 9110 §7.6). Fields of one hop end there in both directions, also in trailers. P adds
//! itself to `Via` in requests and responses, and responds with 508 to a request that it has forwarded before. It
//! forwards every 1xx but 100, which it sends itself, and 101, which is a final response here. Fields that it sets are
//! dropped from requests in every spelling. SPDY has neither 1xx nor trailers, so they end at P.
//!
//! | file | contents |
//! |---|---|
//! | `proxy` | P: clients, origin servers, and the way from one to the other |
//! | `origin` | C: dials a proxy, and serves through that connection |
//! | `address` | addresses of proxies, and the field that names those of all nodes |
//! | `head` | heads between HTTP/1.1 and HTTP/2 |
//! | `labels` | the names under which an origin server requests a tunnel |
//! | `pattern` | the names that an origin server registers |
//! | `printable` | text of a peer, for logs and errors |
//! | `pump`, `wakes` | the loop that moves a connection's bytes through a protocol, and what wakes it |
//! | `wire` | HTTP/2 on an upgraded connection |
//! | `http1`, `response` | bytes of HTTP/1.1 on such a connection, and responses out of them |
//! | `http1_fuzz` | what must hold for any input in HTTP/1.1, of either end |
//! | `spdy` | SPDY/3.1, the protocol of spdy-proxy |

mod address;
mod head;
mod http1;
#[cfg(any(test, fuzzing, feature = "__internals"))]
pub(crate) mod http1_fuzz;
mod labels;
mod origin;
mod pattern;
mod printable;
mod proxy;
mod pump;
mod response;
#[cfg(feature = "spdy")]
pub(crate) mod spdy;
mod wakes;
mod wire;

#[cfg(feature = "nodes")]
pub(super) use self::proxy::SERVICE;
pub use origin::{StartError, Tunnel, TunnelError, TunnelEvent};
pub use proxy::{
    Balance, ConnectionInfo, Credential, OriginHandler, Proxy, ProxyConfig, ProxyCounts, PublicHandler, Trusted,
};
