//! The relay as operators run it: its file and flags, listeners, proxies in front, the admin listener, logs, signals,
//! and its messages to systemd. The real program, over real sockets.
//!
//! No test sleeps a fixed time to wait: the program reports its state to a `NOTIFY_SOCKET` of the test.

#[path = "../support/client.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod client;
#[path = "../support/program.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod program;
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
mod proxies;
#[path = "../directory/redis.rs"]
#[allow(dead_code, clippy::disallowed_methods, reason = "each test uses a part of it; it waits for the program")]
mod redis;
mod tunnel;
mod upstream;
