//! The outgoing client against servers that do exactly what a test says, and against uncork's own.
#![cfg(feature = "client")]

mod faults;
mod own;
mod pool;
mod scripted;
mod simple;
