//! HTTP/2 on the front: the contract, case by case, over real sockets, with prior knowledge and over TLS. What means
//! the same over every transport is in `tests/interop/matrix`; here is what only HTTP/2 has.
//!
//! ```text
//!   test ──▶ http2::Client (the h2 crate, driven by hand) ──▶ server of two loops
//!   test ──▶ raw frames ───────────────────────────────────▶
//! ```

#[path = "../../support/frames.rs"]
#[allow(dead_code, reason = "the WebSocket tests use the rest")]
mod frames;
#[path = "../../support/http2/mod.rs"]
#[allow(dead_code, reason = "the matrix uses the rest")]
mod http2;
#[path = "../../support/wire.rs"]
#[allow(dead_code, reason = "the matrix uses the rest")]
mod wire;
#[macro_use]
#[path = "../../support/world.rs"]
#[allow(dead_code, unused_macros, reason = "the matrix uses the rest")]
mod world;

mod bodies;
mod connection;
mod flow;
mod heads;
mod limits;
mod programs;
mod responses;
mod stopping;
mod upgrades;

use http2::Client;
use world::{Host, Mode, World};

const PLAIN: World = World { mode: Mode::Threads, tls: false, http2: Some(http2::wire::connect) };
const TLS: World = World { tls: true, ..PLAIN };

/// Makes two tests of each function of a [`World`]: with prior knowledge, and by ALPN.
macro_rules! over_both {
    ($($test:ident),+ $(,)?) => {
        mod prior_knowledge {
            $(#[test] fn $test() { super::$test(&crate::PLAIN) })+
        }
        mod tls {
            $(#[test] fn $test() { super::$test(&crate::TLS) })+
        }
    };
}
use over_both;

fn connect(host: &Host) -> Client {
    let tls = host.address().client_config();
    Client::connect(host.addr(), tls).expect("connected")
}
