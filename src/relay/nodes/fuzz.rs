//! What must hold for every id and for every signed field.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use uncork::PeerAddr;

use super::{
    id::{Ids, Parsed, Tag},
    key::Key,
    proof::{Proof, Rejection},
};

/// The time of the fuzz target's node, in seconds since 1970.
const NOW: u64 = 1_800_000_000;

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Reads `data` as an id and as a signed field. Signs it, and reads that. Makes ids and signed fields of it, and changes
/// them.
///
/// # Panics
/// If something does not hold.
pub fn node(data: &[u8]) {
    let (Some(key), Some(own)) = (Key::new(&[7; 32]), Tag::parse("fra1")) else { return };
    let now = UNIX_EPOCH + Duration::from_secs(NOW);
    let ids = Ids::new(own, key.clone());

    let text = String::from_utf8_lossy(data);
    whatever_is_an_id_was_made(&ids, &key, &text);
    if Proof::check(data, &key, own, "GET", "/a", now).is_ok() {
        let (claims, mac) = text.rsplit_once(' ').unwrap_or_default();
        assert_eq!(mac, BASE64.encode(signed(&key, claims)), "accepted without a signature");
    }
    // Only nodes can sign, so that a wrong signature hides everything behind it from other input.
    let whole = format!("{text} {}", BASE64.encode(signed(&key, &text)));
    match Proof::check(whole.as_bytes(), &key, own, "GET", "/a", now) {
        Err(reason) => assert!(reason != Rejection::Signature && reason != Rejection::Unsigned, "{whole}"),
        Ok(proof) => {
            assert_eq!(proof.to, own);
            let again = proof.value(&key, "GET", "/a", now);
            assert_eq!(Proof::check(again.as_bytes(), &key, own, "GET", "/a", now), Ok(proof), "{whole}");
        }
    }

    let mut input = Input(data);
    what_was_made_is_read(&mut input, &ids, &key);
    what_was_signed_is_read(&mut input, &key, now);
}

fn signed(key: &Key, claims: &str) -> [u8; 32] {
    key.sign(&[b"request", b"GET", b"/a", claims.as_bytes()])
}

/// An id is accepted only in the spelling that its node has made.
fn whatever_is_an_id_was_made(ids: &Ids, key: &Key, text: &str) {
    let made = match ids.parse(text) {
        Parsed::Ours(random) => ids.text(random),
        Parsed::Foreign(tag) => {
            let theirs = Ids::new(tag, key.clone());
            let Parsed::Ours(random) = theirs.parse(text) else { panic!("{text}: whose is it?") };
            theirs.text(random)
        }
        Parsed::Invalid => return,
    };
    assert_eq!(made, text);
}

fn what_was_made_is_read(input: &mut Input<'_>, ids: &Ids, key: &Key) {
    let random = u128::from_be_bytes(input.array());
    let (tag, at, letter) = (input.tag(), usize::from(input.byte()), LETTERS[usize::from(input.byte() % 64)]);
    let theirs = Ids::new(tag, key.clone());
    let text = theirs.text(random);
    assert_eq!(theirs.parse(&text), Parsed::Ours(random));
    let foreign = ids.parse(&text);
    assert!(foreign == Parsed::Foreign(tag) || foreign == Parsed::Ours(random) && theirs.text(1) == ids.text(1));
    let mut other = text.clone().into_bytes();
    let at = at % other.len();
    other[at] = letter;
    let other = String::from_utf8_lossy(&other);
    assert_eq!(theirs.parse(&other) == Parsed::Invalid, other != text, "{text} and {other}");
}

fn what_was_signed_is_read(input: &mut Input<'_>, key: &Key, now: SystemTime) {
    let (from, to, https) = (input.tag(), input.tag(), input.byte() % 2 == 1);
    let port = u16::from_be_bytes(input.array());
    let ip = match input.byte() % 3 {
        0 => None,
        1 => Some(IpAddr::V4(Ipv4Addr::from(input.array::<4>()))),
        _ => Some(IpAddr::V6(Ipv6Addr::from(input.array::<16>()))),
    };
    let peer = ip.map_or(PeerAddr::Unix, |ip| PeerAddr::tcp(SocketAddr::new(ip, port)));
    let (at, change) = (usize::from(u16::from_be_bytes(input.array())), input.byte());
    let later = Duration::from_secs(input.byte().into());
    let target = String::from_utf8_lossy(input.0);
    let proof = Proof { from, to, peer, https };
    let value = proof.value(key, "PUT", &target, now);
    let check = |value: &[u8], method: &str, target: &str, now| Proof::check(value, key, to, method, target, now);
    let read = check(value.as_bytes(), "PUT", &target, now + later);
    assert_eq!(read, if later.as_secs() <= 60 { Ok(proof) } else { Err(Rejection::Clock) }, "{value}");
    let longer = format!("{target}x");
    for (method, target) in [("PUS", &*target), ("PUT", &longer)] {
        assert_eq!(check(value.as_bytes(), method, target, now), Err(Rejection::Signature), "{value}");
    }
    let mut other = value.clone().into_bytes();
    let at = at % other.len();
    other[at] ^= change;
    assert_eq!(check(&other, "PUT", &target, now).is_ok(), change == 0, "{value}: byte {at} ^ {change}");
}

/// Takes values from the beginning of the data; zeros behind its end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        [(); N].map(|()| self.byte())
    }

    /// Returns a tag of 1 to 6 letters.
    fn tag(&mut self) -> Tag {
        let length = usize::from(self.byte() % 6) + 1;
        let text: String = (0..length).map(|_| char::from(LETTERS[usize::from(self.byte() % 64)])).collect();
        Tag::parse(&text).unwrap_or_else(|| panic!("{text}: a tag of letters"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims made of pieces that mean something, put together at random, for machines without a fuzzer.
    #[test]
    fn it_holds_for_random_claims() {
        const PIECES: [&str; 16] = [
            "1",
            "2",
            "0",
            "fra1",
            "b",
            "too-long",
            "1800000000000",
            "1799999940000",
            "18446744073709551616",
            "https",
            "http",
            "unix",
            "192.0.2.7:80",
            "[2001:db8::1]:65535",
            "[::1%1]:1",
            "",
        ];
        let mut state = 1_u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as usize
        };
        for _ in 0..3000 {
            let mut pieces = ["1", "1", "b", "fra1", "1800000000000", "https", "unix"];
            for _ in 0..random() % 4 {
                pieces[random() % 7] = PIECES[random() % PIECES.len()];
            }
            node(pieces[..7 - random() % 2].join(" ").as_bytes());
            let bytes: Vec<u8> = (0..random() % 80).map(|_| random() as u8).collect();
            node(&bytes);
        }
    }
}
