//! What the tests of the services share: a client that hides nothing, and a server that can be waited for.

pub(crate) mod bodies;
#[allow(dead_code, reason = "each test uses its part of it")]
pub(crate) mod client;
pub(crate) mod server;

pub(crate) use client::{Answer, Client};
pub(crate) use server::{Setup, TestServer};
