//! The outgoing client against scripted servers, and against uncork's own.
#![cfg(feature = "client")]
#![allow(clippy::disallowed_methods, reason = "scripted servers drip, and waits are bounded by the clock")]

mod faults;
mod own;
mod pool;
mod scripted;
mod simple;
