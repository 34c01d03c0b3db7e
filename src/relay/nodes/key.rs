//! The secret that all nodes share: it signs ids, and requests between nodes.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// The length of a whole MAC, in bytes.
pub(super) const MAC: usize = 32;

/// A key for HMAC-SHA-256 (RFC 2104).
#[derive(Clone)]
pub(super) struct Key(Hmac<Sha256>);

impl Key {
    /// Creates a key. Returns `None` only for a length that the algorithm does not take; HMAC takes all.
    pub(super) fn new(secret: &[u8]) -> Option<Self> {
        Hmac::new_from_slice(secret).ok().map(Self)
    }

    /// Returns the MAC over these parts. The length of each is part of it, so that no byte can move from one part to
    /// the next. The first part says what is signed: a MAC over an id is of no use for a request.
    pub(super) fn sign(&self, parts: &[&[u8]]) -> [u8; MAC] {
        self.over(parts).finalize().into_bytes().into()
    }

    /// Returns `true` if `mac` is the beginning of the MAC over these parts. The comparison takes constant time.
    pub(super) fn verify(&self, parts: &[&[u8]], mac: &[u8]) -> bool {
        self.over(parts).verify_truncated_left(mac).is_ok()
    }

    fn over(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_counts_and_so_does_where_it_ends() {
        let key = Key::new(&[7; 32]).unwrap();
        let mac = key.sign(&[b"id", b"ab", b"c"]);
        assert!(key.verify(&[b"id", b"ab", b"c"], &mac) && key.verify(&[b"id", b"ab", b"c"], &mac[..8]));
        for other in [&[&b"id"[..], b"a", b"bc"][..], &[b"id", b"abc"], &[b"request", b"ab", b"c"]] {
            assert!(!key.verify(other, &mac));
        }
        assert!(!Key::new(&[8; 32]).unwrap().verify(&[b"id", b"ab", b"c"], &mac));
    }
}
