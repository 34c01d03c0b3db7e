//! Shared by the tests of the services: a client that shows all bytes, and a server that counts events.

pub(crate) mod bodies;
#[allow(dead_code, reason = "each test uses a part of it")]
pub(crate) mod client;
pub(crate) mod server;

pub(crate) use client::{Client, TestResponse};
pub(crate) use server::{Setup, TestServer};
