//! The reverse tunnel over real sockets: a proxy, clients on plain and TLS listeners, and origin servers, correct and
//! hostile.

#![expect(clippy::disallowed_methods, reason = "tests wait for a proxy in other threads")]

mod alpn;
#[path = "../../support/client.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod client;
mod disconnects;
mod extended_connect;
mod handshake;
mod handshake_slots;
mod heads;
mod hostile;
mod http1;
mod intermediary;
#[cfg(feature = "spdy")]
mod legacy_proxy;
mod load;
mod nodes;
mod nodes_directory;
mod origin;
mod origin_hostile;
mod origin_life;
mod origin_program;
mod origin_server;
#[path = "../../support/program.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod program;
mod proxy;
mod raw;
#[path = "../../directory/redis.rs"]
mod redis;
mod retry;
mod shares;
#[path = "../../support/site.rs"]
mod site;
#[cfg(feature = "spdy")]
mod spdy;
#[cfg(feature = "spdy")]
mod spdy_hostile;
#[cfg(feature = "spdy")]
mod spdy_origin;
#[cfg(feature = "spdy")]
mod spdy_peer;
mod world;
