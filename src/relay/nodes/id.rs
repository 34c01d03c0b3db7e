//! Ids that name their node, without I/O.
//!
//! ```text
//!   base64url( tag, 6 bytes │ random, 16 bytes │ MAC over both, 8 bytes )      40 letters
//! ```
//! The tag is padded with zeros. All three parts end at a letter: the first 8 letters are the tag, and the next ones
//! are those that the id has without nodes. Without the key, no id can be made that is forwarded: a node asks
//! another one only about ids that a node has made.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};

use super::key::Key;

const TAG: usize = 6;
const RANDOM: usize = 16;
const MAC: usize = 8;
const BYTES: usize = TAG + RANDOM + MAC;
/// The number of letters of an id.
const LETTERS: usize = BYTES / 3 * 4;

/// The name of a node in ids: 1 to 6 letters, digits, `-` or `_`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Tag([u8; TAG]);

impl Tag {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_valid = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if text.is_empty() || text.len() > TAG || !text.bytes().all(is_valid) {
            return None;
        }
        let mut tag = [0; TAG];
        tag[..text.len()].copy_from_slice(text.as_bytes());
        Some(Self(tag))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = self.0.iter().take_while(|b| **b != 0);
        letters.map(|b| char::from(*b)).try_for_each(|letter| fmt::Write::write_char(f, letter))
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag({self})")
    }
}

/// What the text of an id says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// An id of this node, with its random part.
    Ours(u128),
    /// An id of another node.
    Foreign(Tag),
    /// No node has made it.
    Invalid,
}

/// Makes and reads the ids of one node.
#[derive(Clone)]
pub(super) struct Ids {
    own: Tag,
    key: Key,
}

impl Ids {
    pub(super) fn new(own: Tag, key: Key) -> Self {
        Self { own, key }
    }

    /// Returns the id of this node with this random part.
    pub(super) fn text(&self, random: u128) -> String {
        let random = random.to_be_bytes();
        let mac = self.key.sign(&[b"id", &self.own.0, &random]);
        let mut bytes = [0; BYTES];
        bytes[..TAG].copy_from_slice(&self.own.0);
        bytes[TAG..TAG + RANDOM].copy_from_slice(&random);
        bytes[TAG + RANDOM..].copy_from_slice(&mac[..MAC]);
        BASE64.encode(bytes)
    }

    /// Reads an id in its one spelling.
    pub(super) fn parse(&self, text: &str) -> Parsed {
        let mut bytes = [0; BYTES];
        if text.len() != LETTERS || BASE64.decode_slice(text, &mut bytes) != Ok(BYTES) {
            return Parsed::Invalid;
        }
        let (Some((tag, rest)), mut random) = (bytes.split_first_chunk::<TAG>(), [0; RANDOM]) else {
            return Parsed::Invalid;
        };
        let (middle, mac) = rest.split_at(RANDOM);
        random.copy_from_slice(middle);
        match self.key.verify(&[b"id", tag, &random], mac) {
            false => Parsed::Invalid,
            true if *tag == self.own.0 => Parsed::Ours(u128::from_be_bytes(random)),
            true => Parsed::Foreign(Tag(*tag)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(tag: &str, key: u8) -> Ids {
        Ids::new(Tag::parse(tag).unwrap(), Key::new(&[key; 32]).unwrap())
    }

    /// Numbers that differ, the same in each run.
    fn numbers() -> impl Iterator<Item = u128> {
        let mut state = 1_u128;
        std::iter::repeat_with(move || {
            state = state.wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645).wrapping_add(0x5851_f42d);
            state
        })
    }

    #[test]
    fn an_id_says_whose_it_is() {
        let (a, b, stranger) = (ids("a", 1), ids("node-b", 1), ids("a", 2));
        for random in numbers().take(2000).chain([0, u128::MAX]) {
            let text = a.text(random);
            assert!(
                text.len() == 40 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)),
                "{text}"
            );
            assert_eq!(a.parse(&text), Parsed::Ours(random));
            assert_eq!(b.parse(&text), Parsed::Foreign(Tag::parse("a").unwrap()));
            assert_eq!(stranger.parse(&text), Parsed::Invalid);
        }
    }

    #[test]
    fn no_change_of_an_id_is_accepted() {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let ids = ids("fra1", 3);
        for random in numbers().take(500) {
            let text = ids.text(random);
            let (at, with) = ((random >> 64) as usize % text.len(), LETTERS[(random >> 90) as usize % 64]);
            let mut other = text.clone().into_bytes();
            other[at] = with;
            let other = String::from_utf8(other).unwrap();
            let want = if other == text { Parsed::Ours(random) } else { Parsed::Invalid };
            assert_eq!(ids.parse(&other), want, "{text} with {} at {at}", char::from(with));
            for bad in [&text[1..], &text[..39], &format!("{text}A"), &format!("{text}="), &format!("+{}", &text[1..])]
            {
                assert_eq!(ids.parse(bad), Parsed::Invalid, "{bad}");
            }
        }
        assert_eq!(ids.parse(""), Parsed::Invalid);
    }

    #[test]
    fn tags() {
        for good in ["a", "fra1", "n_1-23"] {
            assert_eq!(Tag::parse(good).unwrap().to_string(), good);
        }
        for bad in ["", "toolong", "a b", "a.b", "ä", "a\0"] {
            assert_eq!(Tag::parse(bad), None, "{bad:?}");
        }
    }
}
