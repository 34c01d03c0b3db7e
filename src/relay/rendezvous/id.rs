//! The ids of streams: each is a secret, and part of a URL.

use std::fmt;

use crate::relay::service::ServiceId;

/// The id of a stream: random bits from the operating system. Without nodes, it is a UUID of version 4 (RFC 9562), and
/// 122 of its bits are random.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id(u128);

impl Id {
    pub(super) fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(u128::from_be_bytes(bytes)))
    }

    /// Returns the id as a UUID of version 4, which has 6 fixed bits.
    pub(super) fn as_uuid(self) -> Self {
        Self(self.0 & !(0xf << 76) & !(0b11 << 62) | 4 << 76 | 0b10 << 62)
    }

    /// Returns the first eight digits, for the log: enough to distinguish streams, and too few to use one.
    pub(super) fn short(self) -> String {
        format!("{:08x}", self.0 >> 96)
    }
}

impl ServiceId for Id {
    /// Reads a UUID in its one spelling: lower case, with hyphens.
    fn parse(text: &str) -> Option<Self> {
        let plain = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-');
        if text.len() != 36 || !text.bytes().all(plain) {
            return None;
        }
        let digits: String = text.split('-').collect();
        let id = Self(u128::from_str_radix(&digits, 16).ok()?);
        (id.to_string() == text).then_some(id)
    }

    fn text(self) -> String {
        self.to_string()
    }

    #[cfg(feature = "nodes")]
    fn of_bits(bits: u128) -> Self {
        Self(bits)
    }

    #[cfg(feature = "nodes")]
    fn bits(self) -> u128 {
        self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0;
        let (a, b, c) = (n >> 96, n >> 80 & 0xffff, n >> 64 & 0xffff);
        write!(f, "{a:08x}-{b:04x}-{c:04x}-{:04x}-{:012x}", n >> 48 & 0xffff, n & 0xffff_ffff_ffff)
    }
}

/// Writes the first eight digits only: the whole id is a secret.
impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({})", self.short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid_in_its_one_spelling() {
        let id = Id::generate().unwrap().as_uuid();
        let text = id.to_string();
        assert_eq!((text.len(), &text[14..15]), (36, "4"));
        assert!("89ab".contains(&text[19..20]), "{text}");
        assert!(Id::parse(&text) == Some(id));
        assert!(Id::parse(&text.to_uppercase()).is_none_or(|_| text == text.to_uppercase()));
        for bad in ["", "x", &text[1..], &text.replace('-', ""), &format!("{text}0"), &format!("+{}", &text[1..])] {
            assert!(Id::parse(bad).is_none(), "{bad}");
        }
        assert_eq!(format!("{id:?}"), format!("Id({})", &text[..8]));
    }
}
