//! The id of a session: a secret, and part of a URL.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};

use crate::relay::service::ServiceId;

/// The id of a session: 128 random bits from the operating system, 22 letters of base64url in the URL.
/// (With nodes, there are more: [`Service::text`](crate::relay::service::Service::text).)
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key([u8; 16]);

impl Key {
    /// Creates a key, and a token of 192 bits.
    pub(super) fn generate() -> Result<(Self, Box<str>), getrandom::Error> {
        let (mut key, mut token) = ([0; 16], [0; 24]);
        getrandom::fill(&mut key)?;
        getrandom::fill(&mut token)?;
        Ok((Self(key), BASE64.encode(token).into()))
    }
}

impl ServiceId for Key {
    fn parse(text: &str) -> Option<Self> {
        let mut key = [0; 16];
        let n = BASE64.decode_slice(text, &mut key).ok()?;
        (n == key.len()).then_some(Self(key))
    }

    fn text(self) -> String {
        BASE64.encode(self.0)
    }

    #[cfg(feature = "nodes")]
    fn of_bits(bits: u128) -> Self {
        Self(bits.to_be_bytes())
    }

    #[cfg(feature = "nodes")]
    fn bits(self) -> u128 {
        u128::from_be_bytes(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_spelling() {
        let (key, token) = Key::generate().unwrap();
        let text = key.text();
        assert_eq!((text.len(), token.len()), (22, 32));
        assert!(Key::parse(&text) == Some(key));
        for bad in ["", "x", &text[1..], &format!("{text}=="), &format!("{text}A"), &format!("{}!", &text[1..])] {
            assert!(Key::parse(bad).is_none(), "{bad}");
        }
    }
}
