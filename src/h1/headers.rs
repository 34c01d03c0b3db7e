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

use super::{
    grammar::{HeaderName, HeaderValue, InvalidHeader, list, trim},
    write::is_written_here,
};

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
pub struct Headers {
    block: Block,
    /// One of the fields is [written here](is_written_here). Noted when it is added, so that a list that is cloned for
    /// each response is checked once.
    is_reserved: bool,
}

impl Headers {
    /// Creates an empty list, without an allocation.
    pub const fn new() -> Self {
        Self { block: Block::Inline { len: 0, bytes: [0; INLINE] }, is_reserved: false }
    }

    /// Creates a constant from complete lines of at most [`INLINE`] bytes, of which none is written here. More do not
    /// compile.
    pub(crate) const fn constant(wire: &[u8]) -> Self {
        let mut bytes = [0; INLINE];
        bytes.split_at_mut(wire.len()).0.copy_from_slice(wire);
        Self { block: Block::Inline { len: wire.len() as u8, bytes }, is_reserved: false }
    }

    /// Returns `true` if one of the fields is [written here](is_written_here).
    #[inline]
    pub(crate) fn is_reserved(&self) -> bool {
        self.is_reserved
    }

    #[inline]
    pub(crate) fn is_on_heap(&self) -> bool {
        matches!(self.block, Block::Heap(_))
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
        self.is_reserved |= is_written_here(name);
        self.append_line(name, value);
    }

    fn append_line(&mut self, name: &[u8], value: &[u8]) {
        let size = name.len() + value.len() + 4;
        match &mut self.block {
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
                self.block = Block::Heap(heap);
                self.append_line(name, value);
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
        self.lines().map(|(name, value)| (std::str::from_utf8(name).unwrap_or_default(), value))
    }

    /// Like [`iter`](Self::iter), without the check that a name is UTF-8.
    #[inline]
    pub(crate) fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = self.as_wire();
        std::iter::from_fn(move || {
            let colon = rest.iter().position(|&b| b == b':')?;
            let end = colon + rest[colon..].iter().position(|&b| b == b'\r')?;
            let (name, value) = (&rest[..colon], &rest[colon + 2..end]);
            rest = &rest[end + 2..];
            Some((name, value))
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
        match &self.block {
            Block::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Block::Heap(heap) => heap,
        }
    }
}

/// Returns `true` if a message may have this field once: the singleton fields of RFC 9110 and RFC 9111, and a few of
/// other documents that browsers know. Fields that are lists (`Vary`, `Cache-Control`, `Allow`), and `Set-Cookie`, may
/// occur several times, and so may unknown fields.
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
#[path = "headers_tests.rs"]
mod tests;
