//! WebSocket over real sockets. What holds for one mode and transport must hold for all six (`matrix!`); limits, times
//! and what is not the engine's affair are tried in one.
//!
//! Nothing here sleeps for its result: tests wait for what the server tells them, with a bound that only a hang reaches.
#![cfg(all(feature = "ws", feature = "client"))]

#[path = "../support/frames.rs"]
mod frames;
#[path = "../support/wire.rs"]
#[allow(dead_code, reason = "the matrix uses the rest")]
mod wire;
#[macro_use]
#[path = "../matrix/world.rs"]
#[allow(dead_code, reason = "the matrix uses the rest")]
mod world;

mod deflate;
mod echo;
mod handshake;
mod interop;
mod limits;
mod peer;
mod sender;
