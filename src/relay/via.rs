//! `Via`: which intermediaries a message has passed (RFC 9110 §7.6.3), and whether it goes in a circle.
//!
//! ```text
//!   GET / HTTP/1.1              Via: 1.1 one             Via: 1.1 one, 1.1 two          back at "one": 508
//!   client ─────────▶ "one" ───────────────────▶ "two" ────────────────────────▶ "one"
//! ```
//! The tunnel's proxy is an intermediary, and so is a program that forwards what comes through a tunnel. The services
//! beside it (gateway, session relay, rendezvous) are not: each is the origin server of its own resources, and what it
//! sends to an application is a new request.

use std::{
    fmt,
    hash::{BuildHasher, Hasher},
    sync::Arc,
};

use uncork::{Request, Response};

use super::ConfigError;

/// Intermediaries one request may have passed. One more is taken for a loop: an intermediary may hide the names of
/// others, but each adds an entry. Chains that exist are shorter than ten.
const HOPS: usize = 32;

/// Bytes of a pseudonym.
const LONGEST: usize = 64;

/// The name under which an intermediary signs the messages it forwards.
///
/// ```
/// use uncork::relay::Via;
/// let (one, two) = (Via::named("one")?, Via::named("two")?);
/// let list = one.after("1.1", []);
/// assert_eq!(list, b"1.1 one");
/// assert!(one.is_loop([&list[..]]) && !two.is_loop([&list[..]]));
/// assert_eq!(two.after("1.1", [&list[..]]), b"1.1 one, 1.1 two");
/// # Ok::<(), uncork::relay::ConfigError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Via(Arc<str>);

impl Via {
    /// Makes a random name: `uncork-` and 16 hexadecimal digits. Two programs never have the same, so they may forward to each
    /// other, and it tells nothing about the machine.
    pub fn random() -> Self {
        // Seeded by the system, and never the same twice in one process.
        let number = std::hash::RandomState::new().build_hasher().finish();
        Self(format!("uncork-{number:016x}").into())
    }

    /// Takes this name: 1 to 64 letters, digits and `-._~:[]`, as a pseudonym or a host and port. It must be the name of one
    /// program only: where two in a chain have the same, every request is taken for a loop.
    ///
    /// # Errors
    /// If the name is none of these.
    pub fn named(name: &str) -> Result<Self, ConfigError> {
        let fine = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~:[]".contains(&b));
        if name.is_empty() || name.len() > LONGEST || !fine {
            return Err(ConfigError("a name for Via has 1 to 64 letters, digits and -._~:[]"));
        }
        Ok(Self(name.into()))
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Tells whether a request with these `Via` fields was here before, or has passed more than 32 intermediaries. The response
    /// is then 508 (Loop Detected).
    pub fn is_loop<'a>(&self, fields: impl IntoIterator<Item = &'a [u8]>) -> bool {
        let mut hops = 0;
        for entry in fields.into_iter().flat_map(|value| value.split(|&b| b == b',')) {
            let mut words = entry.split(|&b| b == b' ' || b == b'\t').filter(|word| !word.is_empty());
            hops += usize::from(words.next().is_some());
            // A comment may have commas in it, and look like entries. That can only be a client's own request.
            if words.next().is_some_and(|name| name.eq_ignore_ascii_case(self.0.as_bytes())) {
                return true;
            }
        }
        hops > HOPS
    }

    /// Returns the value of `Via` with this program behind those in `fields`. `version`: of the HTTP message as it was received,
    /// as in `1.1`.
    pub fn after<'a>(&self, version: &str, fields: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut list = Vec::new();
        for value in fields.into_iter().filter(|value| !value.is_empty()) {
            list.extend_from_slice(value);
            list.extend_from_slice(b", ");
        }
        list.extend_from_slice(version.as_bytes());
        list.push(b' ');
        list.extend_from_slice(self.0.as_bytes());
        list
    }
}

/// Counts `Max-Forwards`, which OPTIONS and TRACE may have (RFC 9110 §7.6.2). Returns the value to forward in its place;
/// `None` if there is none, or none that counts: such a field is forwarded as it is.
///
/// # Errors
/// If the request is to go no further, with the response: 204 to OPTIONS, 405 to TRACE, which would repeat the client's
/// cookies.
pub fn max_forwards(req: &Request<'_>) -> Result<Option<u64>, Response> {
    let counts = matches!(req.method(), "OPTIONS" | "TRACE");
    let Some(left) = req.header_str("max-forwards").filter(|_| counts) else { return Ok(None) };
    if left.is_empty() || !left.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    // One that is too large for a number is far from its end.
    match left.parse::<u64>().unwrap_or(u64::MAX).checked_sub(1) {
        Some(left) => Ok(Some(left)),
        None if req.method() == "OPTIONS" => Err(Response::new(204).header("Allow", "OPTIONS")),
        None => Err(Response::new(405).header("Allow", "OPTIONS")),
    }
}

impl fmt::Debug for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Via({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_comes_back_is_known() {
        let via = Via::named("a.example:8080").expect("a name");
        for (fields, want) in [
            (&[][..], false),
            (&[&b""[..]], false),
            (&[&b"1.1 b"[..], b"1.0 fred"], false),
            (&[&b"1.1 b, 1.1 a.example:8080"[..]], true),
            (&[&b"1.1 b"[..], b" HTTP/1.1\tA.EXAMPLE:8080 (note)"], true),
            (&[&b"1.1 b,1.1 a.example:8080,1.1 c"[..]], true),
            (&[&b"1.1 b (1.1 a.example:8080)"[..]], false),
            (&[&b"a.example:8080 b"[..]], false),
            (&[&b"1.1 a.example:80801"[..]], false),
        ] {
            assert_eq!(via.is_loop(fields.iter().copied()), want, "{fields:?}");
        }
    }

    #[test]
    fn a_chain_has_an_end_even_if_names_are_hidden() {
        let via = Via::named("a").expect("a name");
        let chain = |n: usize| vec!["1.1 x"; n].join(", ");
        assert!(!via.is_loop([chain(32).as_bytes()]));
        assert!(via.is_loop([chain(33).as_bytes()]) && via.is_loop([chain(20).as_bytes(), chain(13).as_bytes()]));
    }

    #[test]
    fn what_was_signed_is_found_again_behind_anything() {
        let via = Via::named("us").expect("a name");
        let mut state = 1u32;
        for round in 0..2000 {
            let mut values: Vec<Vec<u8>> = Vec::new();
            for _ in 0..round % 4 {
                let mut value = Vec::new();
                for _ in 0..round % 23 {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    value.push(b", \t()\"\\1.u\xff/"[(state >> 24) as usize % 12]);
                }
                values.push(value);
            }
            let signed = via.after("1.1", values.iter().map(Vec::as_slice));
            assert!(via.is_loop([&signed[..]]), "{values:?}");
        }
    }

    #[test]
    fn names_are_checked_and_random_ones_differ() {
        for bad in ["", "a b", "a,b", "a\r\nb", "(a)", &"a".repeat(65)] {
            assert!(Via::named(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "[::1]:80", "relay-1.example", &"a".repeat(64)] {
            assert_eq!(Via::named(good).expect(good).name(), good);
        }
        assert!(Via::random() != Via::random());
        assert!(Via::named(Via::random().name()).is_ok());
    }
}
