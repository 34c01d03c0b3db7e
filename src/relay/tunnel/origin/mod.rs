//! The origin server (C): a server behind NAT, which dials the proxy and serves through that connection.
//!
//! ```text
//!   OriginConnection ──Dial, TLS──▶ Carrier: PUT /tunnel ──101──▶ Http2 ──▶ Stream ══two pipes══▶ the engine
//!    ▲                                                             │         HEADERS, DATA    HTTP/1.1
//!    └──── again, after a backoff ◀──────────── ended ─────────────┘
//! ```
//! Each request becomes a connection of HTTP/1.1 within the process
//! ([`LoopHandle::adopt_pipes`](uncork::LoopHandle::adopt_pipes)), on the loop of the connection to the proxy. So the
//! handler, its limits and its access log are those of any server.
//!
//! | file | contents |
//! |---|---|
//! | `config` | the public builder |
//! | `shared` | what all connections of a tunnel share |
//! | `connection` | a connection that is opened, ends and is opened again |
//! | `targets` | the nodes, and which connection goes to which of them |
//! | `carrier` | one attempt: the request for a tunnel, then a protocol |
//! | `upgrade_request` | the request for a tunnel, and the proxy's response |
//! | `auth_alpn` | identification where ALPN has selected HTTP/2 |
//! | `protocol` | the interface of HTTP/2 and SPDY; pings, silence, draining |
//! | `http2` | the server side of HTTP/2 |
//! | `stream` | one request and its response |
//! | `spdy`, `exchange` | the same for a spdy-proxy |
//! | `parsed_request` | requests into HTTP/1.1 |
//! | `http1`, `http1_exchange` | the server side of HTTP/1.1, one request at a time |
//! | `http1_served` | the same without a dialled connection, for the fuzz target |
//! | `event`, `error` | events, and the reasons why there is no tunnel |
//!
//! A malformed request ends its own stream and nothing else. The proxy is trusted in one thing, the client's address:
//! the last entry of `X-Forwarded-For` is [`Request::peer`](uncork::Request::peer).

mod auth_alpn;
mod carrier;
mod config;
mod connection;
mod error;
mod event;
#[cfg(feature = "spdy")]
mod exchange;
mod http1;
mod http1_exchange;
#[cfg(any(test, fuzzing, feature = "__internals"))]
mod http1_served;
mod http2;
mod parsed_request;
mod protocol;
mod shared;
#[cfg(feature = "spdy")]
mod spdy;
mod stream;
mod targets;
mod upgrade_request;

pub use config::{StartError, Tunnel};
pub use error::TunnelError;
pub use event::TunnelEvent;
#[cfg(any(test, fuzzing, feature = "__internals"))]
pub(super) use http1_served::Http1Served;
