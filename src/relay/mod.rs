//! Services on the public face of the engine: written as an outsider would, with `use uncork::…` and nothing else.
//!
//! ```text
//!                       ┌──────────────── SessionRelay ────────────────┐
//!   PUT  /cama/session  │  allocate: an id for the URL, a token for    │
//!     ─────────────────▶│  the cookie. Who has the token is the host,  │
//!                       │  who has only the URL is the guest.          │
//!                       │                                              │
//!   POST ──ticket──▶ sender waits ─┐                                   │
//!                       │          ├─ both there: one pipe of 256 KiB  │
//!   GET  ──ticket──▶ receiver waits┘    POST body ══pipe══▶ GET answer │
//!                       └──────────────────────────────────────────────┘
//! ```
//!
//! The [`Rendezvous`] is simpler, and needs no cookie: what one PUTs at `/stream/<id>` another GETs from it, once, or
//! several do at the same time.
//!
//! Behind a `Gateway` (feature `gateway`), an application that speaks nothing but HTTP has clients that stay connected, by
//! WebSocket: it is asked who may come in, is posted what they say, and posts what it has to say to any number of them.
//!
//! By a reverse tunnel (feature `tunnel`), a server behind NAT that dials the relay is reached through it.
//!
//! A service is a [`Handler`](crate::Handler) that is `Clone` around an `Arc`: it can be served alone, or mounted in
//! a program beside other things. A relay never holds a message whole. The sender is read as fast as the receiver takes it,
//! and asked for its body (`100 Continue`) only once somebody is there to take it.
//!
//! **What a receiver can rely on.** A download whose length is known is whole if it has that length. A download of
//! unknown length is whole if it ends in order: with the last chunk, or in HTTP/1.0 with an orderly end of the
//! connection. By default this holds for the rendezvous, whose receivers see an aborted connection if the source is lost.
//! The session relay ends a chunked message in order even if its sender is lost, as cama documents it. There the sender's
//! response counts the bytes, but no receiver sees that. [`SessionConfig::end_cleanly_if_truncated`] and
//! [`RendezvousConfig::strict`] are the two switches.
//!
//! ```no_run
//! use uncork::{Action, Handler, Request, Response, Server, relay::SessionRelay};
//!
//! // Alone:
//! Server::bind("127.0.0.1:8080")?.threads(2, SessionRelay::default())?.join()?;
//!
//! // Beside other things. Whoever mounts a handler forwards every method of it.
//! #[derive(Clone, Default)]
//! struct Site {
//!     relay: SessionRelay,
//! }
//! impl Handler for Site {
//!     fn request(&mut self, req: &mut Request<'_>) -> Action {
//!         match req.path() {
//!             path if self.relay.serves(path) => self.relay.handle(req),
//!             "/" => Response::text("Hello!").into(),
//!             _ => Response::new(404).into(),
//!         }
//!     }
//!     fn stopping(&mut self) {
//!         self.relay.stopping();
//!     }
//! }
//! Server::bind("127.0.0.1:8080")?.threads(2, Site::default())?.join()?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Not here: users, persistence (a restart forgets every session), clusters.

mod addresses;
mod config;
#[cfg(any(feature = "gateway", feature = "tunnel"))]
mod fields;
#[cfg(feature = "gateway")]
mod gateway;
mod json;
mod rendezvous;
mod repeated;
mod service;
mod session;
#[cfg(feature = "tunnel")]
pub mod tunnel;
mod unused;
#[cfg(feature = "tunnel")]
mod via;
mod wire;

pub use config::ConfigError;
#[cfg(feature = "gateway")]
pub use gateway::{
    Gateway, GatewayCallbacks, GatewayConfig, GatewayFile, GatewayLimits, GatewayPaths, GatewayStats, OriginPolicy,
};
pub use rendezvous::{Rendezvous, RendezvousConfig, RendezvousCounts};
pub use session::{SessionConfig, SessionCounts, SessionInfo, SessionRelay};
#[cfg(feature = "tunnel")]
pub use via::{Via, max_forwards};
