//! The field by which one node proves to another that it forwards a request, without I/O.
//!
//! ```text
//!   Uncork-Node: 1 1 fra1 ber2 1767225600000 https 192.0.2.7:40312 <MAC>
//!                │ │ from to   sent, in ms    │    the client      over all of it, the method and the target
//!                │ └ hop: only 1 is accepted  └ the scheme that the client uses
//!                └ version
//! ```
//! The MAC covers the request line and this field, but not the other fields and the body: where others can change what
//! nodes send to each other, use TLS. A copy of the field is accepted for a minute, for the same method and target.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use uncork::PeerAddr;

use super::{
    id::Tag,
    key::{Key, MAC},
};

/// The field that a forwarded request carries.
pub(super) const FIELD: &str = "Uncork-Node";

/// The field of a response by which a node's own listener says that it has rejected the request, and why.
/// After [`Rejection::Recipient`] it also has the id of the node.
pub(super) const REJECTED: &str = "Uncork-Node-Rejected";

/// The value of [`REJECTED`] with which a node says that it has no origin server for the host any more. It is no fault
/// of the node that has sent the request.
pub(super) const NO_HOST: &str = "no-host";

/// Maximum difference between the clocks of two nodes, and the time for which a copy of a request is accepted.
const WINDOW: Duration = Duration::from_secs(60);

/// Why a request of another node is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rejection {
    /// It has no proof.
    Unsigned,
    /// Its proof cannot be read, or has another version.
    Malformed,
    /// The MAC is wrong: another key, or another request.
    Signature,
    /// The clocks differ too much, or it is a copy of an old request.
    Clock,
    /// It is meant for another node.
    Recipient,
    /// It was forwarded more than once, or has come back.
    Loop,
    /// Its id belongs to another node, or it names none.
    NotHere,
}

impl Rejection {
    pub(super) const ALL: [Self; 7] =
        [Self::Unsigned, Self::Malformed, Self::Signature, Self::Clock, Self::Recipient, Self::Loop, Self::NotHere];

    /// Returns its name, for metrics and for the other node's log.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unsigned => "unsigned",
            Self::Malformed => "malformed",
            Self::Signature => "signature",
            Self::Clock => "clock",
            Self::Recipient => "recipient",
            Self::Loop => "loop",
            Self::NotHere => "not-here",
        }
    }

    pub(super) fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::Unsigned | Self::Signature | Self::Clock => 403,
            Self::Recipient | Self::NotHere => 421,
            Self::Loop => 508,
        }
    }
}

/// What a node says about a request that it forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Proof {
    pub(super) from: Tag,
    pub(super) to: Tag,
    /// The client.
    pub(super) peer: PeerAddr,
    /// The client uses HTTPS.
    pub(super) https: bool,
}

impl Proof {
    /// Returns the value of [`FIELD`].
    pub(super) fn value(&self, key: &Key, method: &str, target: &str, now: SystemTime) -> String {
        self.with_hop(1, key, method, target, now)
    }

    fn with_hop(&self, hop: u8, key: &Key, method: &str, target: &str, now: SystemTime) -> String {
        let (scheme, peer) = (if self.https { "https" } else { "http" }, peer_text(&self.peer));
        let claims = format!("1 {hop} {} {} {} {scheme} {peer}", self.from, self.to, millis(now));
        let mac = key.sign(&[b"request", method.as_bytes(), target.as_bytes(), claims.as_bytes()]);
        format!("{claims} {}", BASE64.encode(mac))
    }

    /// Checks the value of [`FIELD`], at the node `own`.
    pub(super) fn check(
        value: &[u8],
        key: &Key,
        own: Tag,
        method: &str,
        target: &str,
        now: SystemTime,
    ) -> Result<Self, Rejection> {
        let value = std::str::from_utf8(value).map_err(|_| Rejection::Malformed)?;
        let (claims, mac) = value.rsplit_once(' ').ok_or(Rejection::Malformed)?;
        let mut bytes = [0; MAC];
        if BASE64.decode_slice(mac, &mut bytes) != Ok(MAC) {
            return Err(Rejection::Malformed);
        }
        if !key.verify(&[b"request", method.as_bytes(), target.as_bytes(), claims.as_bytes()], &bytes) {
            return Err(Rejection::Signature);
        }
        let (hop, sent, proof) = read(claims).ok_or(Rejection::Malformed)?;
        match () {
            () if hop != "1" => Err(Rejection::Loop),
            () if proof.to != own => Err(Rejection::Recipient),
            () if millis(now).abs_diff(sent) > WINDOW.as_millis() as u64 => Err(Rejection::Clock),
            () => Ok(proof),
        }
    }
}

/// Reads the claims; `None` if they have another form or version.
fn read(claims: &str) -> Option<(&str, u64, Proof)> {
    let mut parts = claims.split(' ');
    let mut next = || parts.next();
    if next()? != "1" {
        return None;
    }
    let (hop, from, to, sent) = (next()?, Tag::parse(next()?)?, Tag::parse(next()?)?, next()?.parse().ok()?);
    let https = match next()? {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    let peer = match next()? {
        "unix" => PeerAddr::Unix,
        text => PeerAddr::tcp(text.parse().ok()?),
    };
    next().is_none().then_some((hop, sent, Proof { from, to, peer, https }))
}

fn peer_text(peer: &PeerAddr) -> String {
    match peer {
        PeerAddr::Tcp(addr) => addr.to_string(),
        _ => "unix".to_owned(),
    }
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: SystemTime = UNIX_EPOCH;

    fn at(seconds: u64) -> SystemTime {
        NOW + Duration::from_secs(1_800_000_000 + seconds)
    }

    fn tag(text: &str) -> Tag {
        Tag::parse(text).unwrap()
    }

    fn proof(peer: PeerAddr) -> Proof {
        Proof { from: tag("a"), to: tag("b"), peer, https: true }
    }

    #[test]
    fn what_was_signed_is_read() {
        let key = Key::new(&[1; 32]).unwrap();
        for peer in ["192.0.2.7:80", "[2001:db8::1]:65535"].map(|text| PeerAddr::tcp(text.parse().unwrap())) {
            let value = proof(peer).value(&key, "PUT", "/stream/x?y", at(0));
            for later in [0, 60] {
                let read = Proof::check(value.as_bytes(), &key, tag("b"), "PUT", "/stream/x?y", at(later));
                assert_eq!(read, Ok(proof(peer)));
            }
        }
        let value = proof(PeerAddr::Unix).value(&key, "GET", "/", at(100));
        assert_eq!(Proof::check(value.as_bytes(), &key, tag("b"), "GET", "/", at(60)), Ok(proof(PeerAddr::Unix)));
    }

    #[test]
    fn everything_else_is_rejected() {
        let key = Key::new(&[1; 32]).unwrap();
        let value = proof(PeerAddr::Unix).value(&key, "GET", "/a", at(100));
        let check = |value: &str, key: &Key, own: &str, method: &str, target: &str, now: u64| {
            Proof::check(value.as_bytes(), key, tag(own), method, target, at(now)).unwrap_err()
        };
        assert_eq!(check(&value, &Key::new(&[2; 32]).unwrap(), "b", "GET", "/a", 100), Rejection::Signature);
        assert_eq!(check(&value, &key, "b", "PUT", "/a", 100), Rejection::Signature);
        assert_eq!(check(&value, &key, "b", "GET", "/b", 100), Rejection::Signature);
        assert_eq!(check(&value.replace("https", "http"), &key, "b", "GET", "/a", 100), Rejection::Signature);
        assert_eq!(check(&value, &key, "c", "GET", "/a", 100), Rejection::Recipient);
        assert_eq!(check(&value, &key, "b", "GET", "/a", 161), Rejection::Clock);
        assert_eq!(check(&value, &key, "b", "GET", "/a", 39), Rejection::Clock);
        let again = proof(PeerAddr::Unix).with_hop(2, &key, "GET", "/a", at(100));
        assert_eq!(check(&again, &key, "b", "GET", "/a", 100), Rejection::Loop);
        for bad in ["", " ", "1", "1 1 a b 0 https unix", &value[..value.len() - 1], &format!("{value} ")] {
            assert_eq!(check(bad, &key, "b", "GET", "/a", 100), Rejection::Malformed, "{bad:?}");
        }
        assert_eq!(
            Proof::check(b"\xff \xff", &key, tag("b"), "GET", "/a", at(0)),
            Err(Rejection::Malformed),
            "not UTF-8"
        );
    }

    #[test]
    fn no_change_of_a_proof_is_accepted() {
        let key = Key::new(&[1; 32]).unwrap();
        let value = proof(PeerAddr::tcp("192.0.2.7:80".parse().unwrap())).value(&key, "GET", "/a", at(0)).into_bytes();
        let mut state = 1_u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as usize
        };
        for _ in 0..5000 {
            let mut other = value.clone();
            for _ in 0..=random() % 3 {
                let (at, byte) = (random() % other.len(), random() as u8);
                match random() % 3 {
                    0 => other[at] = byte,
                    1 => other.insert(at, byte),
                    _ => drop(other.remove(at)),
                }
            }
            let read = Proof::check(&other, &key, tag("b"), "GET", "/a", at(0));
            assert_eq!(read.is_ok(), other == value, "{}", String::from_utf8_lossy(&other));
        }
    }
}
