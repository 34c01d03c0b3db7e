//! Hop-by-hop and end-to-end fields (RFC 9110 §7.6.1).
//!
//! ```text
//!   Connection: close, X-A    ─┐
//!   X-A: secret                ├─ for the next program only: an intermediary removes them
//!   Keep-Alive: timeout=5     ─┘
//!   Content-Type: text/html   ─── end to end: an intermediary forwards it
//! ```
//! The rule is the same in requests and in responses, and it is a MUST.

use super::{Headers, HeadersRef, grammar::list};

/// The names of the hop-by-hop fields.
const HOP: [&[u8]; 7] =
    [b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade", b"http2-settings"];

/// Options that most messages have in `Connection`. If they name a field, it is in [`HOP`].
const COMMON: [&[u8]; 4] = [b"", b"close", b"keep-alive", b"upgrade"];

/// Returns `true` if a field of this name is always for one hop, with or without `Connection`: `Connection`,
/// `Keep-Alive`, `Proxy-Connection`, `TE`, `Transfer-Encoding`, `Upgrade`, `HTTP2-Settings`.
#[inline]
pub fn is_hop_by_hop(name: impl AsRef<[u8]>) -> bool {
    let name = name.as_ref();
    // The length first: most names have another one.
    matches!(name.len(), 2 | 7 | 10 | 14 | 16 | 17) && is_one_of(&HOP, name)
}

/// Returns the names that the `Connection` fields with these values list, without the common options.
fn named<'a>(values: impl Iterator<Item = &'a [u8]>) -> Vec<&'a [u8]> {
    let names = values.flat_map(list);
    names.filter(|name| !COMMON.iter().any(|common| common.eq_ignore_ascii_case(name))).collect()
}

fn is_one_of(names: &[&[u8]], name: &[u8]) -> bool {
    names.iter().any(|named| named.eq_ignore_ascii_case(name))
}

impl Headers {
    /// Returns the fields that an intermediary may forward, in order: without those of one hop ([`is_hop_by_hop`]) and
    /// those that `Connection` lists.
    ///
    /// ```
    /// use uncork::h1::Headers;
    /// let mut headers = Headers::new();
    /// for (name, value) in [("Connection", "X-A"), ("X-A", "secret"), ("Keep-Alive", "5"), ("Vary", "Accept")] {
    ///     headers.append(name, value)?;
    /// }
    /// assert_eq!(headers.end_to_end().collect::<Vec<_>>(), [("Vary", &b"Accept"[..])]);
    /// # Ok::<(), uncork::h1::InvalidHeader>(())
    /// ```
    pub fn end_to_end(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.end_to_end_lines().map(|(name, value)| (std::str::from_utf8(name).unwrap_or_default(), value))
    }

    /// Like [`end_to_end`](Self::end_to_end), without the check that a name is UTF-8.
    #[inline]
    pub(crate) fn end_to_end_lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        // `Connection` is one of the reserved names.
        let names = if self.is_reserved() { named(self.get_all("connection")) } else { Vec::new() };
        self.lines().filter(move |(name, _)| !is_hop_by_hop(name) && !is_one_of(&names, name))
    }
}

impl<'b> HeadersRef<'b> {
    /// Like [`Headers::end_to_end`].
    pub fn end_to_end(&self) -> impl Iterator<Item = (&'b str, &'b [u8])> + use<'b> {
        let names = named(self.get_all("connection"));
        self.iter().filter(move |(name, _)| !is_hop_by_hop(name) && !is_one_of(&names, name.as_bytes()))
    }

    /// Returns the names that `Connection` lists, without its common options. A trailer field of such a name ends at
    /// this hop as well.
    pub fn connection_names(&self) -> Vec<Box<str>> {
        let names = named(self.get_all("connection"));
        names.into_iter().map(|name| String::from_utf8_lossy(name).into()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_connection_lists_ends_here() {
        let mut headers = Headers::new();
        for (name, value) in [
            ("Connection", "close, X-A , ,keep-alive"),
            ("X-A", "secret"),
            ("x-b", "1"),
            ("connection", "X-B"),
            ("TE", "trailers"),
            ("Proxy-Connection", "keep-alive"),
            ("Upgrade", "h2c"),
            ("HTTP2-Settings", "x"),
            ("Transfer-Encoding", "chunked"),
            ("X-AA", "stays"),
            ("x-a", "secret too"),
            ("Keep-Alive", "timeout=5"),
            ("Set-Cookie", "a=1"),
            ("Set-Cookie", "b=2"),
        ] {
            headers.append(name, value).expect("a field");
        }
        let want = [("X-AA", &b"stays"[..]), ("Set-Cookie", b"a=1"), ("Set-Cookie", b"b=2")];
        assert_eq!(headers.end_to_end().collect::<Vec<_>>(), want);
        let slots: Vec<httparse::Header<'_>> =
            headers.iter().map(|(name, value)| httparse::Header { name, value }).collect();
        let borrowed = HeadersRef::new(&slots);
        assert_eq!(borrowed.end_to_end().collect::<Vec<_>>(), want);
        assert_eq!(borrowed.connection_names(), ["X-A".into(), "X-B".into()]);
    }
}
