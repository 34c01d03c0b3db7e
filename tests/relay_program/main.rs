//! The relay as operators run it: its file and flags, listeners, proxies in front, the admin listener, logs, signals,
//! and its messages to systemd. The real program, over real sockets.
//!
//! No test sleeps a fixed time to wait: the program reports its state to a `NOTIFY_SOCKET` of the test.
#![allow(clippy::duplicate_mod, reason = "both clients include the response that they receive")]
#![cfg(all(feature = "gateway", feature = "tls"))]

#[path = "../support/client.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod client;
#[path = "../support/http2/mod.rs"]
#[allow(dead_code, reason = "tests/http2 uses the rest")]
mod http2;
#[path = "../support/program.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod program;
#[path = "../support/wire.rs"]
#[allow(dead_code, reason = "its HTTP/2 is used without it")]
mod wire;
// The parts that can be tested without a socket: their unit tests run here, too.
#[path = "../../examples/relay/main.rs"]
#[allow(dead_code, unreachable_pub, unused_qualifications, reason = "it is a program")]
mod relay;

mod admin;
mod config;
mod drain;
mod harness;
mod life;
mod limits;
mod listeners;
mod nginx;
mod nodes;
#[path = "http2.rs"]
mod over_http2;
mod proxies;
#[path = "../directory/redis.rs"]
#[allow(dead_code, clippy::disallowed_methods, reason = "each test uses a part of it; it waits for the program")]
mod redis;
mod tunnel;
mod upstream;
