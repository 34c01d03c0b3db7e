//! Header fields: owned and ready for the wire, or borrowed as they were parsed.
//!
//! ```text
//!   Headers      Content-Type: text/plain␍␊Vary: Accept␍␊…     one block of bytes, copied out as it is
//!   HeadersRef   [(name, value), (name, value), …]             points into the caller's buffer
//! ```
//!
//! [`Headers`] checks names and values when they are added, so that none can end a line: an application cannot split a
//! response.

use std::fmt;

use super::grammar::{HeaderName, HeaderValue, InvalidHeader, list, trim};

/// Bytes held without an allocation: about `Content-Type: text/html; charset=utf-8` and one more short line.
const INLINE: usize = 62;

#[derive(Clone)]
enum Block {
    Inline { len: u8, bytes: [u8; INLINE] },
    Heap(Vec<u8>),
}

/// An owned, ordered list of header fields. Names may repeat; they are compared case-insensitively.
///
/// ```
/// use uncork::h1::Headers;
/// let mut headers = Headers::new();
/// headers.append("Content-Type", "text/plain")?;
/// assert_eq!(headers.get("content-type"), Some(&b"text/plain"[..]));
/// assert!(headers.append("X", "a\r\nSet-Cookie: b").is_err());
/// # Ok::<(), uncork::h1::InvalidHeader>(())
/// ```
#[derive(Clone)]
pub struct Headers(Block);

impl Headers {
    /// Creates an empty list, without an allocation.
    pub const fn new() -> Self {
        Self(Block::Inline { len: 0, bytes: [0; INLINE] })
    }

    /// Creates a constant from complete lines of at most [`INLINE`] bytes. More do not compile.
    pub(crate) const fn constant(wire: &[u8]) -> Self {
        let mut bytes = [0; INLINE];
        bytes.split_at_mut(wire.len()).0.copy_from_slice(wire);
        Self(Block::Inline { len: wire.len() as u8, bytes })
    }

    #[inline]
    pub(crate) fn is_on_heap(&self) -> bool {
        matches!(self.0, Block::Heap(_))
    }

    /// Appends a field, even if there is one of that name. The value is trimmed.
    ///
    /// # Errors
    /// If the name is not a token, or the value has a control byte. Nothing is added then.
    pub fn append(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), InvalidHeader> {
        let value = trim(value.as_ref());
        InvalidHeader::check_name(name.as_bytes())?;
        InvalidHeader::check_value(value)?;
        self.append_checked(name.as_bytes(), value);
        Ok(())
    }

    /// Sets a field: it replaces all others of that name.
    ///
    /// # Errors
    /// Like those of [`append`](Self::append). Nothing is changed then.
    pub fn insert(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), InvalidHeader> {
        let value = trim(value.as_ref());
        InvalidHeader::check_name(name.as_bytes())?;
        InvalidHeader::check_value(value)?;
        self.remove(name);
        self.append_checked(name.as_bytes(), value);
        Ok(())
    }

    /// Adds a field: a [singleton](is_singleton) replaces all others of that name, any other field is appended.
    ///
    /// # Errors
    /// Like those of [`append`](Self::append). Nothing is changed then.
    pub fn put(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), InvalidHeader> {
        if is_singleton(name) { self.insert(name, value) } else { self.append(name, value) }
    }

    /// Adds a field whose parts were checked before; this cannot fail.
    pub fn push(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.append_checked(name.as_str().as_bytes(), value.as_bytes());
    }

    /// Removes all fields of that name.
    pub fn remove(&mut self, name: &str) {
        if self.get(name).is_none() {
            return;
        }
        let mut kept = Self::new();
        for (other, value) in self.iter().filter(|(other, _)| !other.eq_ignore_ascii_case(name)) {
            kept.append_checked(other.as_bytes(), value);
        }
        *self = kept;
    }

    /// Appends a field whose name and value the caller has checked.
    pub(crate) fn append_checked(&mut self, name: &[u8], value: &[u8]) {
        let size = name.len() + value.len() + 4;
        match &mut self.0 {
            Block::Inline { len, bytes } => {
                let from = usize::from(*len);
                if let Some(line) = bytes.get_mut(from..from + size) {
                    let (a, rest) = line.split_at_mut(name.len());
                    let (b, rest) = rest.split_at_mut(2);
                    let (c, d) = rest.split_at_mut(value.len());
                    a.copy_from_slice(name);
                    b.copy_from_slice(b": ");
                    c.copy_from_slice(value);
                    d.copy_from_slice(b"\r\n");
                    *len = (from + size) as u8; // at most INLINE
                    return;
                }
                let mut heap = Vec::with_capacity((from + size).max(2 * INLINE));
                heap.extend_from_slice(&bytes[..from]);
                self.0 = Block::Heap(heap);
                self.append_checked(name, value);
            }
            Block::Heap(heap) => {
                for part in [name, b": ", value, b"\r\n"] {
                    heap.extend_from_slice(part);
                }
            }
        }
    }

    /// Returns the first value of that name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Returns all values of that name, in order.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Returns all fields, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut rest = self.as_wire();
        std::iter::from_fn(move || {
            let colon = rest.iter().position(|&b| b == b':')?;
            let end = colon + rest[colon..].iter().position(|&b| b == b'\r')?;
            let (name, value) = (&rest[..colon], &rest[colon + 2..end]);
            rest = &rest[end + 2..];
            Some((std::str::from_utf8(name).unwrap_or_default(), value))
        })
    }

    /// Returns `true` if a list in the fields of that name has this token, case-insensitively: `contains_token(
    /// "connection", "close")`.
    pub fn contains_token(&self, name: &str, token: &str) -> bool {
        self.get_all(name).any(|value| has_token(value, token))
    }

    /// Returns the number of fields.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Returns `true` if there are no fields.
    pub fn is_empty(&self) -> bool {
        self.as_wire().is_empty()
    }

    /// Returns the lines, `name: value CR LF` each, without the empty line behind them: the `fields` of
    /// [`RequestLine`](super::RequestLine) and [`ResponseHead`](super::ResponseHead).
    #[inline]
    pub fn as_wire(&self) -> &[u8] {
        match &self.0 {
            Block::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Block::Heap(heap) => heap,
        }
    }
}

/// Returns `true` if a message may have this field once: the singleton fields of RFC 9110 and RFC 9111, and a few of other
/// documents that browsers know. Fields that are lists (`Vary`, `Cache-Control`, `Allow`), and `Set-Cookie`, may occur
/// several times, and so may unknown fields.
///
/// ```
/// use uncork::h1::is_singleton;
/// assert!(is_singleton("content-type") && !is_singleton("Set-Cookie"));
/// ```
#[cold]
pub fn is_singleton(name: &str) -> bool {
    let names: &[&str] = match name.len() {
        3 => &["Age"],
        4 => &["Date", "ETag", "From", "Host"],
        5 => &["Range"],
        6 => &["Origin", "Server"],
        7 => &["Expires", "Referer"],
        8 => &["If-Range", "Location"],
        10 => &["User-Agent"],
        11 => &["Retry-After"],
        12 => &["Content-Type", "Max-Forwards"],
        13 => &["Authorization", "Content-Range", "Last-Modified"],
        14 => &["Content-Length"],
        16 => &["Content-Location"],
        17 => &["If-Modified-Since", "Sec-WebSocket-Key"],
        19 => &["Content-Disposition", "If-Unmodified-Since", "Proxy-Authorization"],
        20 => &["Sec-WebSocket-Accept"],
        22 => &["Access-Control-Max-Age"],
        25 => &["Strict-Transport-Security"],
        27 => &["Access-Control-Allow-Origin"],
        32 => &["Access-Control-Allow-Credentials"],
        _ => &[],
    };
    names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

impl Default for Headers {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for Headers {
    /// Returns `true` if the lines are equal, in order and spelling.
    fn eq(&self, other: &Self) -> bool {
        self.as_wire() == other.as_wire()
    }
}

impl Eq for Headers {}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_fields(self.iter(), f)
    }
}

/// Parsed header fields, borrowed from the input.
#[derive(Clone, Copy)]
pub struct HeadersRef<'b>(&'b [httparse::Header<'b>]);

impl<'b> HeadersRef<'b> {
    /// Creates a view of parsed fields. Names and values must have been checked, as those of httparse are.
    #[inline]
    pub(crate) fn new(fields: &'b [httparse::Header<'b>]) -> Self {
        Self(fields)
    }

    /// Returns the first value of that name.
    pub fn get(&self, name: &str) -> Option<&'b [u8]> {
        self.0.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// Returns all values of that name, in order.
    pub fn get_all<'a>(&self, name: &'a str) -> impl Iterator<Item = &'b [u8]> + use<'a, 'b> {
        self.0.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// Returns all fields, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'b str, &'b [u8])> + use<'b> {
        self.0.iter().map(|field| (field.name, field.value))
    }

    /// Like [`Headers::contains_token`].
    pub fn contains_token(&self, name: &str, token: &str) -> bool {
        self.get_all(name).any(|value| has_token(value, token))
    }

    /// Returns the number of fields.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns `true` if there are no fields.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns an owned copy.
    pub fn to_owned(&self) -> Headers {
        let mut headers = Headers::new();
        for field in self.0 {
            headers.append_checked(field.name.as_bytes(), field.value);
        }
        headers
    }
}

impl fmt::Debug for HeadersRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_fields(self.iter(), f)
    }
}

fn has_token(value: &[u8], token: &str) -> bool {
    list(value).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
}

fn debug_fields<'a>(fields: impl Iterator<Item = (&'a str, &'a [u8])>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.debug_map().entries(fields.map(|(name, value)| (name, String::from_utf8_lossy(value)))).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Headers {
        let mut headers = Headers::new();
        headers.append("Vary", "Accept").unwrap();
        headers.append("Connection", "Keep-Alive, Upgrade ").unwrap();
        headers.append("vary", "\tOrigin").unwrap();
        headers
    }

    #[test]
    fn it_is_small_and_short_content_stays_inline() {
        assert!(size_of::<Headers>() <= 80, "{}", size_of::<Headers>());
        let mut headers = Headers::new();
        headers.append("Content-Type", "text/html; charset=utf-8").unwrap();
        assert!(matches!(headers.0, Block::Inline { .. }));
        headers.append("X-More", "0123456789012345678901234567890123456789").unwrap();
        assert!(matches!(headers.0, Block::Heap(_)));
        assert_eq!(headers.len(), 2);
        assert_eq!(headers.get("content-type"), Some(&b"text/html; charset=utf-8"[..]));
    }

    #[test]
    fn every_length_survives_the_step_from_inline_to_heap() {
        for n in 0..100 {
            let value = "v".repeat(n);
            let mut headers = Headers::new();
            headers.append("A", &value).unwrap();
            headers.append("B", "").unwrap();
            assert_eq!(headers.as_wire(), format!("A: {value}\r\nB: \r\n").as_bytes());
            assert_eq!(headers.iter().map(|(_, v)| v.len()).collect::<Vec<_>>(), [n, 0]);
        }
    }

    #[test]
    fn reads_back_what_was_put_in() {
        let headers = three();
        assert_eq!(headers.as_wire(), b"Vary: Accept\r\nConnection: Keep-Alive, Upgrade\r\nvary: Origin\r\n");
        assert_eq!(headers.get("VARY"), Some(&b"Accept"[..]));
        assert_eq!(headers.get_all("vary").collect::<Vec<_>>(), [&b"Accept"[..], b"Origin"]);
        assert!(headers.contains_token("connection", "upgrade") && headers.contains_token("vary", "ORIGIN"));
        assert!(!headers.contains_token("connection", "keep") && headers.get("X").is_none());
        assert_eq!(
            format!("{headers:?}"),
            r#"{"Vary": "Accept", "Connection": "Keep-Alive, Upgrade", "vary": "Origin"}"#
        );
    }

    #[test]
    fn insert_replaces_and_remove_removes() {
        let mut headers = three();
        headers.insert("VARY", "*").unwrap();
        assert_eq!(headers.as_wire(), b"Connection: Keep-Alive, Upgrade\r\nVARY: *\r\n");
        assert_eq!(headers.insert("Vary", "a\nb"), Err(InvalidHeader::Value(b'\n')));
        assert_eq!(headers.len(), 2, "an error changes nothing");
        headers.remove("connection");
        headers.remove("vary");
        assert!(headers.is_empty() && headers == Headers::default());
    }

    #[test]
    fn a_singleton_replaces_and_other_fields_are_added() {
        // Every singleton field of RFC 9110, and Age and Expires of RFC 9111.
        for name in [
            "Age",
            "Authorization",
            "Content-Length",
            "Content-Location",
            "Content-Range",
            "Content-Type",
            "Date",
            "ETag",
            "Expires",
            "From",
            "Host",
            "If-Modified-Since",
            "If-Range",
            "If-Unmodified-Since",
            "Last-Modified",
            "Location",
            "Max-Forwards",
            "Proxy-Authorization",
            "Range",
            "Referer",
            "Retry-After",
            "Server",
            "User-Agent",
        ] {
            let mut headers = three();
            headers.put(name, "a").unwrap();
            headers.put(&name.to_ascii_uppercase(), "b").unwrap();
            headers.put(&name.to_ascii_lowercase(), "c").unwrap();
            assert_eq!((headers.get_all(name).collect::<Vec<_>>(), headers.len()), (vec![&b"c"[..]], 4), "{name}");
            assert!(headers.put(name, "a\nb").is_err() && headers.get(name) == Some(b"c"), "{name}");
        }
        for name in [
            "Accept",
            "Allow",
            "Cache-Control",
            "Connection",
            "Content-Encoding",
            "Content-Language",
            "Cookie",
            "If-Match",
            "If-None-Match",
            "Link",
            "Proxy-Authenticate",
            "Set-Cookie",
            "Trailer",
            "Upgrade",
            "Via",
            "WWW-Authenticate",
            "X-Own",
            "",
        ] {
            assert!(!is_singleton(name), "{name}");
        }
        let mut headers = Headers::new();
        headers.put("Set-Cookie", "a=1").and(headers.put("set-cookie", "b=2")).unwrap();
        assert_eq!(headers.get_all("set-cookie").count(), 2);
    }

    #[test]
    fn no_value_can_end_its_line() {
        // Every pair of bytes, in name and in value: an accepted field is one line, and reads back unchanged.
        for pair in 0..=u16::MAX {
            let [a, b] = pair.to_be_bytes();
            let mut headers = Headers::new();
            if headers.append("N", [b'x', a, b, b'x']).is_ok() {
                let wire = headers.as_wire();
                assert_eq!(wire.iter().filter(|b| matches!(b, b'\r' | b'\n' | 0)).count(), 2, "{a:#x} {b:#x}");
                assert_eq!(headers.get("n"), Some(&[b'x', a, b, b'x'][..]));
            }
            if let Ok(name) = std::str::from_utf8(&[a, b])
                && headers.append(name, "v").is_ok()
            {
                assert!(super::super::is_token(name.as_bytes()));
            }
        }
    }

    #[test]
    fn a_borrowed_view_reads_the_same() {
        let fields = [
            httparse::Header { name: "Vary", value: b"Accept" },
            httparse::Header { name: "Connection", value: b"Keep-Alive, Upgrade" },
            httparse::Header { name: "vary", value: b"Origin" },
        ];
        let view = HeadersRef::new(&fields);
        assert_eq!(view.to_owned(), three());
        assert_eq!((view.len(), view.is_empty()), (3, false));
        assert_eq!(view.get("vary"), Some(&b"Accept"[..]));
        assert!(view.contains_token("VARY", "origin"));
        assert!(view.iter().eq(three().iter()));
    }
}
