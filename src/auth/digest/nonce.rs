//! The server's nonces: when each was made and for what, in the nonce itself, with a MAC that only this process can
//! make.

use std::{
    fmt, io,
    net::IpAddr,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    algorithm::{Algorithm, decode_hex, encode_hex},
    error::DigestError,
    replay::ReplayTable,
    target::DigestTarget,
};
use crate::{auth::compare::constant_time_eq, base::lock::lock};

/// The conditions under which a nonce is valid, besides the time. Default: none.
///
/// RFC 7616 §3.3 lets a client use a nonce for all of a realm, and clients do. Each condition costs them one more
/// request whenever it changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Binding {
    /// For one realm.
    pub realm: bool,
    /// For one method, and one target without its query.
    pub path: bool,
    /// For one method, and one target with its query.
    pub query: bool,
    /// For one IP address of the client, which mobile clients change.
    pub address: bool,
}

/// Makes and verifies nonces, and notes the uses of each. Share one between all realms and all loops of a server.
///
/// A nonce is 48 hexadecimal digits, or 80 with a [`Binding`]. Nothing is stored for it until a request with it has
/// succeeded.
pub struct Nonces {
    key: [u8; 32],
    binding: Binding,
    /// The time that stamps count from: that of the first call.
    origin: OnceLock<Instant>,
    /// The last stamp that was issued.
    last: AtomicU64,
    replays: Mutex<ReplayTable>,
}

/// The bytes of a stamp, and of a MAC.
const STAMP: usize = 8;
const MAC: usize = 16;

/// A nonce that was made here and has not expired.
#[derive(Clone, Copy)]
pub(super) struct Opened(u64);

impl Nonces {
    /// The default number of slots, 1024: that many clients can use nonces at the same time. They take 28 KiB.
    pub const DEFAULT_SLOTS: usize = 1024;

    /// The largest number of slots, 1,048,576. They take 28 MiB.
    pub const MAX_SLOTS: usize = 1 << 20;

    /// Creates it with `slots` slots for nonces in use: 4 to [`MAX_SLOTS`](Self::MAX_SLOTS), or the nearest of these.
    /// See [`DEFAULT_SLOTS`](Self::DEFAULT_SLOTS). With fewer slots than clients, some clients have to send a request
    /// again with a new nonce, which they do without asking their users.
    ///
    /// # Errors
    /// If the system cannot give random bytes.
    pub fn new(slots: usize) -> io::Result<Self> {
        Self::with_entropy(slots, &[])
    }

    /// Like [`new`](Self::new), but mixes bytes of the application into the key, which is random in any case.
    ///
    /// # Errors
    /// Like [`new`](Self::new).
    pub fn with_entropy(slots: usize, entropy: &[u8]) -> io::Result<Self> {
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(format!("cannot read random bytes: {error}")))?;
        let mut key = [0; 32];
        key.copy_from_slice(Algorithm::Sha512_256.hash(&[&random, entropy]).as_bytes());
        Ok(Self {
            key,
            binding: Binding::default(),
            origin: OnceLock::new(),
            last: AtomicU64::new(0),
            replays: Mutex::new(ReplayTable::new(slots.min(Self::MAX_SLOTS))),
        })
    }

    /// Sets the conditions under which nonces are valid.
    pub fn bound_to(self, binding: Binding) -> Self {
        Self { binding, ..self }
    }

    /// Makes a nonce.
    pub(super) fn issue(&self, realm: &[u8], target: &DigestTarget<'_>, now: Instant) -> String {
        // Milliseconds, and 16 bits that tell the nonces of one millisecond apart.
        let least = self.millis(now) << 16;
        let next = |last: u64| Some(least.max(last.saturating_add(1)));
        let previous = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        let stamp = next(previous.unwrap_or_else(|last| last)).unwrap_or(least).to_be_bytes();
        let mut nonce = encode_hex(&stamp);
        nonce.push_str(&encode_hex(&self.mac(&[&stamp])));
        if self.binding != Binding::default() {
            nonce.push_str(&encode_hex(&self.conditions(&stamp, realm, target)));
        }
        nonce
    }

    /// Opens a nonce: verifies that it was made here, at most `timeout` ago, and for these conditions.
    pub(super) fn open(
        &self,
        nonce: &[u8],
        realm: &[u8],
        target: &DigestTarget<'_>,
        timeout: Duration,
        now: Instant,
    ) -> Result<Opened, DigestError> {
        let bytes = decode_hex(nonce).ok_or(DigestError::NonceWrong)?;
        let (stamp, rest) = bytes.split_first_chunk::<STAMP>().ok_or(DigestError::NonceWrong)?;
        let (mac, conditions) = rest.split_first_chunk::<MAC>().ok_or(DigestError::NonceWrong)?;
        let is_bound = self.binding != Binding::default();
        if !constant_time_eq(mac, &self.mac(&[stamp])) || conditions.len() != if is_bound { MAC } else { 0 } {
            return Err(DigestError::NonceWrong);
        }
        let stamp = u64::from_be_bytes(*stamp);
        // Another loop's time may be a little earlier than the stamp.
        let age = self.millis(now).saturating_sub(stamp >> 16);
        if u128::from(age) > timeout.as_millis() {
            return Err(DigestError::NonceStale);
        }
        if is_bound && !constant_time_eq(conditions, &self.conditions(&stamp.to_be_bytes(), realm, target)) {
            return Err(DigestError::NonceOtherConditions);
        }
        Ok(Opened(stamp))
    }

    /// Notes a use of a nonce, with its count, or its only use.
    pub(super) fn claim(&self, nonce: Opened, count: Option<u32>) -> Result<(), DigestError> {
        let mut replays = lock(&self.replays);
        let is_new = match count {
            Some(count) => replays.claim(nonce.0, count),
            None => replays.claim_once(nonce.0),
        };
        if is_new { Ok(()) } else { Err(DigestError::NonceStale) }
    }

    fn millis(&self, now: Instant) -> u64 {
        let origin = *self.origin.get_or_init(|| now);
        // From 1, so that no stamp is 0.
        u64::try_from(now.saturating_duration_since(origin).as_millis()).unwrap_or(u64::MAX >> 17).min(u64::MAX >> 17)
            + 1
    }

    /// Returns the MAC of the conditions that the binding names.
    fn conditions(&self, stamp: &[u8; STAMP], realm: &[u8], target: &DigestTarget<'_>) -> [u8; MAC] {
        let Binding { realm: by_realm, path: by_path, query: by_query, address: by_address } = self.binding;
        let path = target.target.split(|&b| b == b'?').next().unwrap_or_default();
        let address = match target.address {
            Some(IpAddr::V4(ip)) => ip.to_ipv6_mapped().octets(),
            Some(IpAddr::V6(ip)) => ip.octets(),
            None => [0; 16],
        };
        let when = |on: bool, bytes| if on { bytes } else { &[][..] };
        self.mac(&[
            stamp,
            when(by_realm, realm),
            when(by_path || by_query, target.method),
            when(by_path && !by_query, path),
            when(by_query, target.target),
            when(by_address, &address),
        ])
    }

    /// Returns the MAC of a list of byte strings. SHA-512/256 gives out half of its state, so a hash whose
    /// beginning is secret cannot be extended. The length of each string keeps the strings apart.
    fn mac(&self, parts: &[&[u8]]) -> [u8; MAC] {
        let lengths: Vec<[u8; 8]> = parts.iter().map(|part| (part.len() as u64).to_be_bytes()).collect();
        let mut input: Vec<&[u8]> = vec![&self.key];
        parts.iter().zip(&lengths).for_each(|(part, length)| input.extend([&length[..], part]));
        let mut mac = [0; MAC];
        mac.copy_from_slice(&Algorithm::Sha512_256.hash(&input).as_bytes()[..MAC]);
        mac
    }
}

impl fmt::Debug for Nonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nonces").field("binding", &self.binding).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the time does not matter")]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(90);

    fn target<'a>(method: &'a str, target: &'a str, address: &str) -> DigestTarget<'a> {
        DigestTarget { method: method.as_bytes(), target: target.as_bytes(), address: address.parse().ok() }
    }

    #[test]
    fn a_nonce_expires() {
        let (nonces, now) = (Nonces::new(4).unwrap(), Instant::now());
        let at = target("GET", "/", "192.0.2.1");
        let open = |nonce: &str, after| nonces.open(nonce.as_bytes(), b"r", &at, TIMEOUT, now + after).map(|n| n.0);
        let nonce = nonces.issue(b"r", &at, now);
        assert_eq!(nonce.len(), 48);
        assert!(open(&nonce, Duration::ZERO).is_ok() && open(&nonce, TIMEOUT).is_ok());
        assert_eq!(open(&nonce, TIMEOUT + Duration::from_millis(1)), Err(DigestError::NonceStale));
        // A loop whose time is behind.
        let later = nonces.issue(b"r", &at, now + Duration::from_secs(1));
        assert!(open(&later, Duration::ZERO).is_ok());
    }

    #[test]
    fn nonces_differ_and_grow() {
        let (nonces, now) = (Nonces::new(4).unwrap(), Instant::now());
        let at = target("GET", "/", "");
        let mut all: Vec<String> = (0..1000).map(|_| nonces.issue(b"r", &at, now)).collect();
        assert!(all.is_sorted());
        all.dedup();
        assert_eq!(all.len(), 1000);
    }

    #[test]
    fn a_nonce_of_another_server_is_wrong() {
        let (nonces, now) = (Nonces::new(4).unwrap(), Instant::now());
        let at = target("GET", "/", "");
        let good = nonces.issue(b"r", &at, now);
        let mut bad = vec![String::new(), "x".repeat(48), good[..46].to_owned(), format!("{good}00")];
        bad.push(Nonces::new(4).unwrap().issue(b"r", &at, now));
        bad.push(Nonces::with_entropy(4, b"same").unwrap().issue(b"r", &at, now));
        for at in 0..good.len() {
            let digit = if good.as_bytes()[at] == b'0' { "1" } else { "0" };
            bad.push(format!("{}{digit}{}", &good[..at], &good[at + 1..]));
        }
        for nonce in bad {
            let opened = nonces.open(nonce.as_bytes(), b"r", &at, TIMEOUT, now).map(|n| n.0);
            assert_eq!(opened, Err(DigestError::NonceWrong), "{nonce}");
        }
    }

    #[test]
    fn a_nonce_is_bound_to_what_was_chosen() {
        let unbound = Binding::default();
        // What it is bound to, and whether it holds for: another realm, method, path, query, address.
        let rows = [
            (unbound, [true; 5]),
            (Binding { realm: true, ..unbound }, [false, true, true, true, true]),
            (Binding { path: true, ..unbound }, [true, false, false, true, true]),
            (Binding { query: true, ..unbound }, [true, false, false, false, true]),
            (Binding { path: true, query: true, ..unbound }, [true, false, false, false, true]),
            (Binding { address: true, ..unbound }, [true, true, true, true, false]),
            (Binding { realm: true, path: true, address: true, ..unbound }, [false, false, false, true, false]),
        ];
        for (binding, expected) in rows {
            let (nonces, now) = (Nonces::new(4).unwrap().bound_to(binding), Instant::now());
            let nonce = nonces.issue(b"r", &target("GET", "/a?b", "192.0.2.1"), now);
            let others: [(&[u8], DigestTarget<'_>); 5] = [
                (b"other", target("GET", "/a?b", "192.0.2.1")),
                (b"r", target("PUT", "/a?b", "192.0.2.1")),
                (b"r", target("GET", "/b?b", "192.0.2.1")),
                (b"r", target("GET", "/a?c", "192.0.2.1")),
                (b"r", target("GET", "/a?b", "192.0.2.2")),
            ];
            let opened = others.map(|(realm, at)| match nonces.open(nonce.as_bytes(), realm, &at, TIMEOUT, now) {
                Ok(_) => true,
                Err(error) => {
                    assert_eq!(error, DigestError::NonceOtherConditions);
                    false
                }
            });
            assert_eq!(opened, expected, "{binding:?}");
            let same = target("GET", "/a?b", "192.0.2.1");
            assert!(nonces.open(nonce.as_bytes(), b"r", &same, TIMEOUT, now).is_ok());
        }
    }
}
