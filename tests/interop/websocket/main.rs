//! WebSocket over real sockets. Promises for one mode and transport hold for all six (`matrix!`); limits, timeouts,
//! and parts that do not depend on the engine are tested in one.
//!
//! Nothing here sleeps for its result: tests wait for the server's reports, with a timeout that only a hang reaches.

#[path = "../../support/frames.rs"]
mod frames;
#[path = "../../support/http2/mod.rs"]
#[allow(dead_code, reason = "the tests of HTTP/2 use the rest")]
mod http2;
#[path = "../../support/wire.rs"]
#[allow(dead_code, reason = "the matrix uses the rest")]
mod wire;
#[macro_use]
#[path = "../../support/world.rs"]
#[allow(dead_code, reason = "the matrix uses the rest")]
mod world;

mod deflate;
mod echo;
mod handshake;
mod limits;
mod peer;
mod sender;
