//! The hash functions of digest authentication (RFC 7616 §3.4), and what is made of them.

use std::fmt;

use md5::Md5;
use sha2::{Sha256, Sha512_256};

use crate::auth::compare::constant_time_eq;

/// A hash function of digest authentication. Its variants with `-sess` are not supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// `MD5`, which all clients have. MD5 is broken for signatures; against it here, only guessing passwords is known,
    /// which it makes cheap.
    Md5,
    /// `SHA-256`, which browsers and curl have.
    Sha256,
    /// `SHA-512-256`: SHA-512/256 of FIPS 180-4, which few clients have.
    Sha512_256,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Md5, Self::Sha256, Self::Sha512_256];

    /// Returns the name in challenges and credentials.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
            Self::Sha512_256 => "SHA-512-256",
        }
    }

    /// Returns the number of bytes of a hash: 16 or 32.
    pub const fn size(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha256 | Self::Sha512_256 => 32,
        }
    }

    /// Returns the user digest, the hash of `name:realm:password`. With it, a server can verify a user without knowing
    /// the password. But a client can use it like the password in this realm, so keep it as secret.
    ///
    /// ```
    /// use uncork::auth::Algorithm;
    /// // The example of RFC 2617 §3.5.
    /// let digest = Algorithm::Md5.user_digest("Mufasa", "testrealm@host.com", "Circle Of Life");
    /// assert_eq!(digest.hex(), "939e7578ed9e3c518a452acee763bce9");
    /// ```
    pub fn user_digest(self, name: impl AsRef<[u8]>, realm: impl AsRef<[u8]>, password: impl AsRef<[u8]>) -> HashValue {
        self.hash(&[name.as_ref(), b":", realm.as_ref(), b":", password.as_ref()])
    }

    /// Returns the user hash, the hash of `name:realm`, by which a client may name its user (RFC 7616 §3.4.4).
    pub fn user_hash(self, name: impl AsRef<[u8]>, realm: impl AsRef<[u8]>) -> HashValue {
        self.hash(&[name.as_ref(), b":", realm.as_ref()])
    }

    /// Returns the hash of these bytes, one after the other.
    pub(super) fn hash(self, parts: &[&[u8]]) -> HashValue {
        match self {
            Self::Md5 => HashValue::made_by::<Md5>(parts),
            Self::Sha256 => HashValue::made_by::<Sha256>(parts),
            Self::Sha512_256 => HashValue::made_by::<Sha512_256>(parts),
        }
    }

    /// Returns the response of RFC 7616 §3.4.1, which a client computes with the user digest.
    pub(super) fn response(self, user_digest: &HashValue, input: &ResponseInput<'_>) -> HashValue {
        let (a1, a2) = (user_digest.hex(), self.hash(&[input.method, b":", input.uri]).hex());
        let (a1, a2) = (a1.as_bytes(), a2.as_bytes());
        match input.protection {
            Some(Protection { nc, cnonce, qop }) => {
                self.hash(&[a1, b":", input.nonce, b":", nc, b":", cnonce, b":", qop, b":", a2])
            }
            // RFC 2069.
            None => self.hash(&[a1, b":", input.nonce, b":", a2]),
        }
    }
}

/// What a response is made of, besides the user digest.
pub(super) struct ResponseInput<'a> {
    pub(super) method: &'a [u8],
    pub(super) uri: &'a [u8],
    pub(super) nonce: &'a [u8],
    /// The parameters that RFC 2069 did not have.
    pub(super) protection: Option<Protection<'a>>,
}

/// The parameters that come with `qop`, as they stand in the field.
#[derive(Clone, Copy)]
pub(super) struct Protection<'a> {
    pub(super) nc: &'a [u8],
    pub(super) cnonce: &'a [u8],
    pub(super) qop: &'a [u8],
}

/// A hash: a user digest or a user hash. `==` takes the same time for all values, and `Debug` does not print the value,
/// since a user digest is a secret.
#[derive(Clone, Copy)]
pub struct HashValue {
    bytes: [u8; 32],
    size: usize,
}

impl HashValue {
    fn made_by<H: sha2::Digest>(parts: &[&[u8]]) -> Self {
        let mut hasher = H::new();
        for part in parts {
            hasher.update(part);
        }
        let (hash, mut bytes) = (hasher.finalize(), [0; 32]);
        bytes[..hash.len()].copy_from_slice(&hash);
        Self { bytes, size: hash.len() }
    }

    /// Creates it from the bytes of a stored hash; `None` if there are more than 32.
    pub fn from_bytes(hash: &[u8]) -> Option<Self> {
        let mut bytes = [0; 32];
        bytes.get_mut(..hash.len())?.copy_from_slice(hash);
        Some(Self { bytes, size: hash.len() })
    }

    /// Creates it from hexadecimal digits, of either case; `None` if they are anything else, or more than 64.
    pub fn from_hex(hex: impl AsRef<[u8]>) -> Option<Self> {
        Self::from_bytes(&decode_hex(hex.as_ref())?)
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.size]
    }

    /// Returns two hexadecimal digits for each byte, in lower case.
    pub fn hex(&self) -> String {
        encode_hex(self.as_bytes())
    }
}

impl PartialEq for HashValue {
    fn eq(&self, other: &Self) -> bool {
        constant_time_eq(self.as_bytes(), other.as_bytes())
    }
}

impl Eq for HashValue {}

impl fmt::Debug for HashValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HashValue({} bytes)", self.size)
    }
}

/// Returns two hexadecimal digits for each byte, in lower case.
pub(super) fn encode_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// Decodes hexadecimal digits of either case; `None` if there are others, or an odd number.
pub(super) fn decode_hex(hex: &[u8]) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = hex.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_the_algorithms() {
        // RFC 1321 §A.5 and the examples of FIPS 180-4.
        let rows = [
            (Algorithm::Md5, "900150983cd24fb0d6963f7d28e17f72"),
            (Algorithm::Sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (Algorithm::Sha512_256, "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23"),
        ];
        for (algorithm, expected) in rows {
            let hash = algorithm.hash(&[b"a", b"", b"bc"]);
            assert_eq!((hash.hex().as_str(), hash.as_bytes().len()), (expected, algorithm.size()), "{algorithm:?}");
            assert_eq!(HashValue::from_hex(expected.to_uppercase()), Some(hash));
        }
    }

    #[test]
    fn the_responses_of_the_rfcs() {
        // RFC 2617 §3.5.
        let digest = Algorithm::Md5.user_digest("Mufasa", "testrealm@host.com", "Circle Of Life");
        let protection = Protection { nc: b"00000001", cnonce: b"0a4f113b", qop: b"auth" };
        let nonce = b"dcd98b7102dd2f0e8b11d0f600bfb0c093";
        let input = ResponseInput { method: b"GET", uri: b"/dir/index.html", nonce, protection: Some(protection) };
        assert_eq!(Algorithm::Md5.response(&digest, &input).hex(), "6629fae49393a05397450978507c4ef1");
        // The example of RFC 2069 §2.4, by the erratum that corrects it.
        let digest = Algorithm::Md5.user_digest("Mufasa", "testrealm@host.com", "CircleOfLife");
        let input = ResponseInput { method: b"GET", uri: b"/dir/index.html", nonce, protection: None };
        assert_eq!(Algorithm::Md5.response(&digest, &input).hex(), "1949323746fe6a43ef61f9606e7febea");
        // RFC 7616 §3.9.1.
        let protection =
            Protection { nc: b"00000001", cnonce: b"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", qop: b"auth" };
        let nonce = b"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
        let input = ResponseInput { method: b"GET", uri: b"/dir/index.html", nonce, protection: Some(protection) };
        let rows = [
            (Algorithm::Md5, "8ca523f5e9506fed4657c9700eebdbec"),
            (Algorithm::Sha256, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ];
        for (algorithm, expected) in rows {
            let digest = algorithm.user_digest("Mufasa", "http-auth@example.org", "Circle of Life");
            assert_eq!(algorithm.response(&digest, &input).hex(), expected, "{algorithm:?}");
        }
    }

    #[test]
    fn hexadecimal_digits() {
        assert_eq!(encode_hex(&[0, 0x9f, 0xff]), "009fff");
        assert_eq!(decode_hex(b"009FfF"), Some(vec![0, 0x9f, 0xff]));
        assert_eq!(decode_hex(b"0"), None);
        assert_eq!(decode_hex(b"0g"), None);
        assert!(HashValue::from_hex([b'0'; 66]).is_none());
        assert_eq!(format!("{:?}", Algorithm::Md5.user_hash("a", "b")), "HashValue(16 bytes)");
    }
}
