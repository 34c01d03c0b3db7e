//! TLS, by rustls: the only module that names it.
//!
//! ```text
//!              into (the engine's)            rx (lent)
//!   read   ◀── plaintext ◀── one record ◀──── ciphertext ◀── recv, at most one a call
//!                              │ rustls, unbuffered: it owns keys and the handshake, no buffers
//!   write  ──▶ pieces ───────▶ up to 4 records ─▶ ciphertext ──▶ send
//!                                             tx (lent)
//! ```
//!
//! [`config`]: the application's interface: certificates and keys, shared by all loops and replaceable while they run.
//! [`pem`] reads them, [`error`] has the errors.
//! [`client`]: the same for outbound connections: the trusted certificates; [`pinned`]: or the trusted keys.
//! [`conn`]: one connection, translated into the four verbs of [`Transport`](super::Transport).
//! [`records`]: the states that rustls returns in between, common to both sides.
//!
//! rustls is used by its *unbuffered* connections. Its buffered ones keep a buffer for incoming ciphertext of up to 64
//! KiB each, and never shrink it. Here the loop's pool lends both ciphertext buffers while bytes are in flight, so an
//! idle connection consists of keys and little else.

mod client;
mod config;
mod conn;
mod error;
mod pem;
mod pinned;
mod records;
#[cfg(test)]
mod tests;

pub use client::{TlsClient, TlsClientBuilder};
pub use config::{Tls, TlsBuilder, TlsVersion};
pub(crate) use conn::TlsConn;
pub use error::TlsError;
