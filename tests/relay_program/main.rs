//! The relay as operators run it: its file and flags, listeners, proxies in front, the admin listener, logs, signals, and
//! what systemd is told. The real program, over real sockets.
//!
//! Nothing is waited for by sleeping a fixed time: what it does, the program tells a `NOTIFY_SOCKET` of the test's.
#![cfg(all(feature = "gateway", feature = "tls"))]

#[path = "../support/client.rs"]
#[allow(dead_code, reason = "each test uses its part of it")]
mod client;
#[path = "../support/program.rs"]
#[allow(dead_code, reason = "each test uses its part of it")]
mod program;
// What can be tested without a socket: its unit tests come along.
#[path = "../../examples/relay/main.rs"]
#[allow(dead_code, unreachable_pub, unused_qualifications, reason = "it is a program")]
mod relay;

mod admin;
mod config;
mod harness;
mod life;
mod limits;
mod listeners;
mod nginx;
mod proxies;
mod tunnel;
