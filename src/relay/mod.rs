//! Services on the public API of the engine: they are written as a user would write them, with `use uncork::…` only.
//!
//! ```text
//!                       ┌──────────────── SessionRelay ────────────────┐
//!   PUT  /cama/session  │  allocate: an id for the URL, and a token    │
//!     ─────────────────▶│  for the cookie. A client with the token is  │
//!                       │  the host, one with only the URL is a guest. │
//!                       │                                              │
//!   POST ─suspended─▶ sender ───┐                                      │
//!                       │       ├─ both connected: a pipe of 256 KiB   │
//!   GET  ─suspended─▶ receiver ─┘  POST body ══pipe══▶ GET response    │
//!                       └──────────────────────────────────────────────┘
//! ```
//!
//! The [`Rendezvous`] is simpler, and needs no cookie. One client PUTs a body to `/stream/<id>`, and one or several
//! others GET it from there at the same time.
//!
//! A `Gateway` (feature `gateway`) keeps WebSocket clients connected for an application that speaks only HTTP. It asks
//! the application which clients may connect, and posts their messages to it. The application posts messages to any
//! number of clients. All other requests can be passed on to the application.
//!
//! A reverse tunnel (feature `tunnel`) makes a server behind NAT reachable: the server connects out to the relay.
//!
//! Several machines can serve one session relay, one rendezvous and one tunnel (feature `nodes`): an id names the node
//! that it belongs to, and the other nodes forward its requests there; a host behind the tunnel is looked up.
//!
//! A service is a [`Handler`](crate::Handler) that is `Clone` around an `Arc`: it can be served alone, or mounted in
//! another handler. A relay never stores a whole message. It reads the sender as fast as the receiver takes the bytes,
//! and asks for the body (`100 Continue`) only after a receiver has connected.
//!
//! **What a receiver can rely on.** A download whose length is known is complete if it has that length. A download of
//! unknown length is complete if it ends normally: with the last chunk, or in HTTP/1.0 with a normal end of the
//! connection. By default this holds for the rendezvous, whose receivers see an aborted connection if the source
//! disconnects. The session relay ends a chunked message normally even if its sender disconnects, as cama documents it.
//! There the sender's response counts the bytes, but no receiver sees that. [`SessionConfig::end_cleanly_if_truncated`]
//! and [`RendezvousConfig::strict`] are the two switches.
//!
//! ```no_run
//! use uncork::{Action, Handler, Request, Response, Server, relay::SessionRelay};
//!
//! // Alone:
//! Server::bind("127.0.0.1:8080")?.threads(2, SessionRelay::default())?.join()?;
//!
//! // Mounted in another handler. SessionRelay has its own `request` and `stopping` only; other services may need more:
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
//! Not included: user accounts, persistence (a restart loses every session).

mod addresses;
mod config;
#[cfg(any(feature = "gateway", feature = "tunnel", feature = "nodes"))]
mod fields;
#[cfg(any(feature = "gateway", feature = "tunnel", feature = "nodes"))]
mod forward;
#[cfg(feature = "gateway")]
mod gateway;
mod json;
mod lock;
#[cfg(feature = "nodes")]
pub mod nodes;
mod rendezvous;
mod repeated;
mod service;
mod session;
#[cfg(feature = "tunnel")]
pub mod tunnel;
mod unused;
#[cfg(any(feature = "gateway", feature = "tunnel", feature = "nodes"))]
mod upgraded_stream;
#[cfg(any(feature = "gateway", feature = "tunnel"))]
mod via;
mod wire;

pub use config::ConfigError;
#[cfg(feature = "gateway")]
pub use gateway::{
    Gateway, GatewayCallbacks, GatewayConfig, GatewayFile, GatewayLimits, GatewayPaths, GatewayStats, GatewayUpstream,
    OriginPolicy,
};
pub use rendezvous::{Rendezvous, RendezvousConfig, RendezvousCounts};
pub use session::{SessionConfig, SessionCounts, SessionInfo, SessionRelay};
#[cfg(any(feature = "gateway", feature = "tunnel"))]
pub use via::{Via, max_forwards};
