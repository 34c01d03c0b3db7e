//! TLS, by rustls: the one place that names it.
//!
//! ```text
//!              into (the engine's)            rx (lent)
//!   read   ◀── plaintext ◀── one record ◀──── ciphertext ◀── recv, at most one a call
//!                              │ rustls, unbuffered: it owns keys and the handshake, no buffers
//!   write  ──▶ pieces ───────▶ up to 4 records ─▶ ciphertext ──▶ send
//!                                             tx (lent)
//! ```
//!
//! [`config`]: what the application sees, certificates and keys, shared by all loops and replaceable while they run.
//! [`client`]: the same for outgoing connections: which certificates are believed; [`pinned`]: or which keys.
//! [`conn`]: one connection, translated into the four verbs of [`Transport`](super::Transport).
//! [`records`]: what rustls asks for on the way, the same for both sides.
//!
//! rustls is used by its *unbuffered* connections. Its buffered ones keep a buffer for incoming ciphertext of up to
//! 64 KiB each, and never shrink it; here both ciphertext buffers are lent by the loop's pool while bytes are in
//! flight, so that an idle connection consists of keys and little else.

mod client;
mod config;
mod conn;
mod pinned;
mod records;
#[cfg(test)]
mod tests;

pub use client::{TlsClient, TlsClientBuilder};
pub use config::{Tls, TlsBuilder, TlsError};
pub(crate) use conn::TlsConn;
