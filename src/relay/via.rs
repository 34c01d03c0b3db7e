//! `Via`: the intermediaries that a message has passed (RFC 9110 §7.6.3), and the detection of loops.
//!
//! ```text
//!   GET / HTTP/1.1              Via: 1.1 one             Via: 1.1 one, 1.1 two          again at "one": 508
//!   client ─────────▶ "one" ───────────────────▶ "two" ────────────────────────▶ "one"
//! ```
//! The tunnel's proxy is an intermediary, and so are the gateway's upstream and a program that forwards the requests of a
//! tunnel. The other services (gateway, session relay, rendezvous) are not. Each is the origin server of its own
//! resources, and its calls of an application are new requests.

use std::{
    fmt,
    hash::{BuildHasher, Hasher},
    sync::Arc,
};

use uncork::{Request, Response};

use super::ConfigError;

/// Maximum number of intermediaries that a request may have passed. One more is taken for a loop: an intermediary may
/// hide the names of others, but each adds an entry. Real chains are shorter than ten.
const HOPS: usize = 32;

/// Maximum length of a pseudonym, in bytes.
const LONGEST: usize = 64;

/// The name that an intermediary adds to the messages that it forwards.
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
    /// Creates a random name: `uncork-` and 16 hexadecimal digits. Two programs never have the same name, so they may
    /// forward to each other. The name reveals nothing about the machine.
    pub fn random() -> Self {
        // The system seeds it, and its values differ within one process.
        let number = std::hash::RandomState::new().build_hasher().finish();
        Self(format!("uncork-{number:016x}").into())
    }

    /// Creates a `Via` with this name: 1 to 64 letters, digits and `-._~:[]`, as a pseudonym or a host and port. Only
    /// one program may have the name: if two in a chain have the same, every request is taken for a loop.
    ///
    /// # Errors
    /// Returns an error if the name is invalid.
    pub fn named(name: &str) -> Result<Self, ConfigError> {
        let is_valid = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~:[]".contains(&b));
        if name.is_empty() || name.len() > LONGEST || !is_valid {
            return Err(ConfigError::new("invalid name for Via: must have 1 to 64 letters, digits or -._~:[]"));
        }
        Ok(Self(name.into()))
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Returns `true` if a request with these `Via` fields has passed this program before, or more than 32
    /// intermediaries. Then respond with 508 (Loop Detected).
    pub fn is_loop<'a>(&self, fields: impl IntoIterator<Item = &'a [u8]>) -> bool {
        let mut hops = 0;
        for entry in fields.into_iter().flat_map(|value| value.split(|&b| b == b',')) {
            let mut parts = entry.split(|&b| b == b' ' || b == b'\t').filter(|part| !part.is_empty());
            hops += usize::from(parts.next().is_some());
            // A comment may contain commas and look like entries. Only a client's own request can do that.
            if parts.next().is_some_and(|name| name.eq_ignore_ascii_case(self.0.as_bytes())) {
                return true;
            }
        }
        hops > HOPS
    }

    /// Returns the value of `Via` with this program appended to those in `fields`. `version` is that of the received
    /// HTTP message, such as `1.1`.
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

/// Decrements `Max-Forwards`, which OPTIONS and TRACE may have (RFC 9110 §7.6.2). Returns the value to forward. Returns
/// `None` if the field is missing, or invalid; an invalid one is forwarded unchanged.
///
/// # Errors
/// Returns the response if the request must not be forwarded: 204 to OPTIONS, 405 to TRACE, which would repeat the
/// client's cookies.
pub fn max_forwards(req: &Request<'_>) -> Result<Option<u64>, Response> {
    let counts = matches!(req.method(), "OPTIONS" | "TRACE");
    let Some(left) = req.header_str("max-forwards").filter(|_| counts) else { return Ok(None) };
    if left.is_empty() || !left.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    // A value that is too large for a number is far from 0.
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
    fn an_added_name_is_found_behind_any_value() {
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
            let value = via.after("1.1", values.iter().map(Vec::as_slice));
            assert!(via.is_loop([&value[..]]), "{values:?}");
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
