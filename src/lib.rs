//! A low-level, embeddable HTTP engine.
#![allow(missing_docs, dead_code, unused)]
pub(crate) mod api;
pub(crate) mod base;
pub(crate) mod conn;
pub(crate) mod drive;
pub(crate) mod engine;
pub mod h1;
pub mod server;
pub(crate) mod transport;
#[doc(hidden)]
pub mod workbench;

pub use api::*;
pub use base::{ConnId, Ended, EventMask, Limits, Moment, PeerAddr, RequestId, Timer, Wait};
pub use drive::external::External;
pub use server::{Running, Server, Stopper};

#[cfg(feature = "tls")]
pub use transport::{Tls, TlsBuilder, TlsError};
