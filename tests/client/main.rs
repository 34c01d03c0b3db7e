//! Tests of the client against scripted servers and against uncork's own.
#![cfg(feature = "client")]
#![allow(clippy::disallowed_methods, reason = "scripted servers send slowly, and waits are bounded by the clock")]

mod faults;
mod own;
mod pool;
mod scripted;
mod simple;
mod targets;
mod timeouts;
