//! The gateway's contract, case by case, over real sockets: real WebSocket clients, and a real application server that
//! does what the test tells it to, also hang, talk nonsense and be down.
//!
//! A test is a function of a [`World`](world::World); `worlds!` makes four of it. Nothing is waited for by sleeping a
//! fixed time; whatever is to happen is waited for with a bound that only a hang reaches.
#![cfg(all(feature = "gateway", feature = "tls"))]

#[path = "../support/client.rs"]
#[allow(dead_code, reason = "each test uses its part of it")]
mod client;
#[path = "../support/frames.rs"]
mod frames;
#[path = "../support/program.rs"]
#[allow(dead_code, reason = "each test uses its part of it")]
mod program;
#[path = "../support/wire.rs"]
#[allow(dead_code, reason = "each test uses its part of it")]
mod wire;
#[path = "../matrix/world.rs"]
#[allow(dead_code, unused_macros, reason = "each test uses its part of it")]
mod world;

mod app;
mod gate;
mod socket;

/// Every test in two loops, plain and over TLS, in the application's own loop, and with a thread for each connection;
/// those that take their time in the first and the last of these.
macro_rules! worlds {
    ($($test:ident),+ $(,)? $(; slow: $($slow:ident),+ $(,)?)?) => {
        worlds!(@world threads, Threads, false, $($test)+ $($($slow)+)?);
        worlds!(@world tls, Threads, true, $($test)+);
        worlds!(@world external, External, false, $($test)+);
        worlds!(@world thread_per_connection, ThreadPerConnection, true, $($test)+ $($($slow)+)?);
    };
    (@world $name:ident, $mode:ident, $tls:literal, $($test:ident)+) => {
        mod $name {
            const WORLD: $crate::world::World = $crate::world::World { mode: $crate::world::Mode::$mode, tls: $tls };
            $(#[test] fn $test() { super::$test(&WORLD) })+
        }
    };
}

mod connect;
mod counted;
mod life;
mod programs;
mod receive;
mod send;
