//! The origin (C): a server behind NAT, which dials the proxy and serves through what it has dialled.
//!
//! ```text
//!   Line ──Dial, TLS──▶ Carrier: PUT /tunnel ──101──▶ Http2 ──request──▶ Stream ══two pipes══▶ the engine ──▶ Handler
//!    ▲                                                 │                   HEADERS, DATA   HTTP/1.1
//!    └──── again, after a pause ◀────────── lost ──────┘
//! ```
//! Each request becomes a connection of HTTP/1.1 within the process ([`LoopHandle::adopt_pipes`](uncork::LoopHandle::adopt_pipes)), on
//! the loop that has the connection to the proxy: the handler, its limits and its access log are those of any server.
//!
//! | file | knows |
//! |---|---|
//! | `config` | what a tunnel is told |
//! | `line` | a connection that is made, lost and made again |
//! | `carrier` | how the proxy is asked to be let in |
//! | `gate` | who we are, where HTTP/2 was agreed upon by ALPN |
//! | `http2` | HTTP/2's server; pings, silence, leaving |
//! | `stream` | one request and its answer |
//! | `spdy`, `exchange` | the same to a proxy of 2014 |
//! | `asked`, `answer` | requests into HTTP/1.1, answers out of it |
//! | `error` | why there is no tunnel |
//!
//! Whatever a request looks like, it costs its own stream and nothing else. The proxy is believed in one thing: who its
//! client is (the last of `X-Forwarded-For` is [`Request::peer`](uncork::Request::peer)).

mod auth_alpn;
mod carrier;
mod config;
mod connection;
mod error;
mod event;
#[cfg(feature = "spdy")]
mod exchange;
mod http2;
mod parsed_request;
mod protocol;
mod response;
mod shared;
#[cfg(feature = "spdy")]
mod spdy;
mod stream;
mod upgrade_request;

pub use config::{Tunnel, TunnelConfigError};
pub use error::TunnelError;
pub use event::TunnelEvent;
