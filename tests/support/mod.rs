//! What the tests of the services share: a client that hides nothing, and a server that can be waited for.

pub mod client;
pub mod server;

pub use client::{Answer, Client};
pub use server::{Setup, TestServer};
