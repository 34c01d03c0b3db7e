//! The gateway's contract, case by case, over real sockets: real WebSocket clients, and a real application server
//! that does what the test requires. It can also hang, send garbage, and be down.
//!
//! A test is a function of a [`World`](world::World); `worlds!` makes four tests of it. No test sleeps a fixed time
//! to wait for an event; all waits have a timeout that only a hang reaches.

#![allow(clippy::duplicate_mod, reason = "both clients include the response that they receive")]
#![cfg(all(feature = "gateway", feature = "tls"))]

#[path = "../support/client.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod client;
#[path = "../support/frames.rs"]
mod frames;
#[path = "../support/program.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod program;
#[path = "../support/wire.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod wire;
#[path = "../support/world.rs"]
#[allow(dead_code, unused_imports, unused_macros, reason = "each test uses a part of it")]
mod world;

mod app;
mod gateway;
mod socket;

/// Makes every test for two loops, plain and over TLS, for the application's own loop, and for one thread per
/// connection. Slow tests run in the first and the last of these.
macro_rules! worlds {
    ($($test:ident),+ $(,)? $(; slow: $($slow:ident),+ $(,)?)?) => {
        worlds!(@world threads, Threads, false, $($test)+ $($($slow)+)?);
        worlds!(@world tls, Threads, true, $($test)+);
        worlds!(@world external, External, false, $($test)+);
        worlds!(@world thread_per_connection, ThreadPerConnection, true, $($test)+ $($($slow)+)?);
    };
    (@world $name:ident, $mode:ident, $tls:literal, $($test:ident)+) => {
        mod $name {
            const WORLD: $crate::world::World = $crate::world::World { mode: $crate::world::Mode::$mode, tls: $tls, http2: None };
            $(#[test] fn $test() { super::$test(&WORLD) })+
        }
    };
}

mod connect;
mod counted;
mod establish;
mod life;
mod manual;
mod programs;
mod receive;
mod send;
mod upstream;
