//! Against the software of others: another WebSocket, and a reader of QR codes. (`browser` is a test of its own.)

#[path = "../support/frames.rs"]
mod frames;
#[path = "../support/wire.rs"]
#[allow(dead_code, reason = "the matrix uses the rest")]
mod wire;
#[macro_use]
#[path = "../support/world.rs"]
#[allow(dead_code, unused_macros, reason = "the matrix uses the rest")]
mod world;

mod other_websocket;
#[path = "../../examples/relay/page/mod.rs"]
#[allow(dead_code, unused_imports, reason = "`tests/page.rs` tests the rest")]
mod page;
#[path = "websocket/peer.rs"]
#[allow(dead_code, unused_imports, reason = "the tests of WebSocket use the rest")]
mod peer;
mod qr;
