//! A low-level, embeddable HTTP engine.
#![allow(missing_docs, dead_code, unused)]
pub(crate) mod base;
pub mod h1;
pub(crate) mod transport;

pub use base::{ConnId, Ended, EventMask, Limits, Moment, PeerAddr, RequestId, Timer, Wait};
