//! The opening handshake (RFC 6455 §4).
//!
//! ```text
//!   client                                                     server
//!   Offer::headers ── GET, Upgrade, key, version 13 ─────────▶ check ─▶ Accept │ 400, 403, 426
//!   Offer::accept  ◀── 101, Sec-WebSocket-Accept ───────────── Accept::switch ─▶ Switch, Sender
//! ```

mod client;
mod extension;
mod origin;
mod server;

use base64::{Engine, prelude::BASE64_STANDARD};
use sha1::{Digest, Sha1};

pub use client::{HandshakeError, Offer};
pub use origin::{same_hostname, same_origin};
pub use server::{Accept, check, check_from};

use super::Deflate;

/// The agreed compression, from this side's point of view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Agreed(pub(super) Deflate);

/// Returns the value of `Sec-WebSocket-Accept` for a key (§4.2.2, item 5.4).
fn accept_value(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64_STANDARD.encode(hash.finalize())
}

/// Returns `true` if this is the base64 of 16 bytes.
fn is_key(key: &[u8]) -> bool {
    key.len() == 24 && BASE64_STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16)
}
