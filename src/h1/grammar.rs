//! The small grammar of fields: tokens, values, lists (RFC 9110 §5.5, §5.6), and names and values checked by it.

use std::fmt;

/// The classes of each byte, by the constants below.
const CLASS: [u8; 256] = classes();
const TOKEN: u8 = 1;
const VALUE: u8 = 2;
const REG_NAME: u8 = 4;
const TARGET: u8 = 8;
const PLAIN_HOST: u8 = 16;

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        let mut class = 0;
        // RFC 9110 §5.6.2: tchar.
        if b.is_ascii_alphanumeric() || in_set(b, b"!#$%&'*+-.^_`|~") {
            class |= TOKEN;
        }
        // RFC 9110 §5.5: VCHAR, obs-text, SP, HTAB.
        if b == b'\t' || (b >= b' ' && b != 0x7f) {
            class |= VALUE;
        }
        // RFC 3986 §3.2.2: unreserved, sub-delims, and the percent sign of pct-encoded.
        if b.is_ascii_alphanumeric() || in_set(b, b"-._~!$&'()*+,;=%") {
            class |= REG_NAME;
        }
        // Visible ASCII without `#`, which a client never sends (RFC 9112 §3.2). This is wider than RFC 3986: browsers
        // send `|` and `^` unescaped, and no framing depends on them.
        if b > b' ' && b < 0x7f && b != b'#' {
            class |= TARGET;
        }
        // The bytes of nearly all names and all IPv4 addresses.
        if b.is_ascii_alphanumeric() || in_set(b, b".-") {
            class |= PLAIN_HOST;
        }
        table[i] = class;
        i += 1;
    }
    table
}

const fn in_set(b: u8, set: &[u8]) -> bool {
    let mut i = 0;
    while i < set.len() {
        if set[i] == b {
            return true;
        }
        i += 1;
    }
    false
}

#[inline]
fn all(bytes: &[u8], class: u8) -> bool {
    bytes.iter().all(|&b| CLASS[usize::from(b)] & class != 0)
}

/// Returns `true` if these bytes are a token (RFC 9110 §5.6.2): one or more of `A-Z a-z 0-9` and ``!#$%&'*+-.^_`|~``.
#[inline]
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && all(bytes, TOKEN)
}

/// Returns `true` if these bytes are allowed in a field value (RFC 9110 §5.5): visible ASCII, SP, HTAB, and bytes from
/// 0x80 up; so neither CR, LF, NUL nor any other control byte. Whitespace at the ends is ignored.
#[inline]
pub fn is_field_value(bytes: &[u8]) -> bool {
    all(bytes, VALUE)
}

#[inline]
pub(crate) fn is_reg_name(bytes: &[u8]) -> bool {
    all(bytes, REG_NAME)
}

#[inline]
pub(crate) fn is_target(bytes: &[u8]) -> bool {
    all(bytes, TARGET)
}

/// Returns how many of the first bytes are letters, digits, dots and hyphens.
#[inline]
pub(crate) fn plain_host(bytes: &[u8]) -> usize {
    let (words, tail) = bytes.as_chunks::<8>();
    let mut at = 0;
    for word in words {
        let others = not_plain_host(u64::from_le_bytes(*word));
        if others != 0 {
            return at + (others.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at + tail.iter().take_while(|&&b| CLASS[usize::from(b)] & PLAIN_HOST != 0).count()
}

/// Returns eight bytes of which bit 7 is set where the byte is not a letter, digit, dot or hyphen.
#[inline]
fn not_plain_host(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const TOPS: u64 = ONES * 0x80;
    // For bytes below 0x80: sets bit 7 of each that is at least `from`. No sum reaches the next byte.
    let at_least = |bytes: u64, from: u8| bytes + ONES * (0x80 - u64::from(from));
    let low = word & !TOPS;
    let lower = low | (ONES * 0x20);
    let letter = at_least(lower, b'a') & !at_least(lower, b'z' + 1);
    // `-`, `.`, and the digits; not the slash between them.
    let rest = at_least(low, b'-') & !at_least(low, b'9' + 1) & at_least(low ^ (ONES * u64::from(b'/')), 1);
    (!(letter | rest) | word) & TOPS
}

/// Returns the value without optional whitespace (SP and HTAB) at its ends.
#[inline]
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Returns the elements of a comma-separated list, including empty ones (RFC 9110 §5.6.1). Not for lists of quoted
/// strings.
#[inline]
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(trim)
}

/// The error of an invalid field name or value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InvalidHeader {
    /// The name is empty.
    EmptyName,
    /// The name has this byte, which is not allowed in a token (RFC 9110 §5.6.2).
    Name(u8),
    /// The value has this byte, which is not allowed in a field value (RFC 9110 §5.5). With CR and LF a value could end
    /// its line and start another line, or a whole response.
    Value(u8),
}

impl InvalidHeader {
    #[inline]
    pub(crate) fn check_name(name: &[u8]) -> Result<(), Self> {
        if is_token(name) {
            Ok(())
        } else {
            Err(name.iter().find(|&&b| !is_token(&[b])).map_or(Self::EmptyName, |&b| Self::Name(b)))
        }
    }

    #[inline]
    pub(crate) fn check_value(value: &[u8]) -> Result<(), Self> {
        value.iter().find(|&&b| CLASS[usize::from(b)] & VALUE == 0).map_or(Ok(()), |&b| Err(Self::Value(b)))
    }
}

impl fmt::Display for InvalidHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyName => f.write_str("a field name must not be empty"),
            Self::Name(b) => write!(f, "'{}' is not allowed in a field name", b.escape_ascii()),
            Self::Value(b) => write!(f, "'{}' is not allowed in a field value", b.escape_ascii()),
        }
    }
}

impl std::error::Error for InvalidHeader {}

/// The name of a field: a token, checked on creation.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HeaderName(Box<str>);

impl HeaderName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`InvalidHeader::EmptyName`], or [`InvalidHeader::Name`] with the first byte that a token must not have.
    pub fn new(name: impl AsRef<[u8]>) -> Result<Self, InvalidHeader> {
        let name = name.as_ref();
        InvalidHeader::check_name(name)?;
        // A token is ASCII, so this changes nothing.
        Ok(Self(String::from_utf8_lossy(name).into()))
    }

    /// Returns the name in its original case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The value of a field: no control bytes, no whitespace at its ends, checked on creation.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HeaderValue(Box<[u8]>);

impl HeaderValue {
    /// Checks a value and trims it.
    ///
    /// # Errors
    /// [`InvalidHeader::Value`] with the first byte that a field value must not have.
    pub fn new(value: impl AsRef<[u8]>) -> Result<Self, InvalidHeader> {
        let value = trim(value.as_ref());
        InvalidHeader::check_value(value)?;
        Ok(Self(value.into()))
    }

    /// Returns the trimmed value.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for HeaderValue {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_classified_as_in_the_rfc() {
        for b in 0..=255u8 {
            let token = b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            assert_eq!(is_token(&[b]), token, "{b:#x}");
            assert_eq!(is_field_value(&[b]), b == 9 || (b >= 32 && b != 127), "{b:#x}");
            assert_eq!(is_target(&[b]), b.is_ascii_graphic() && b != b'#', "{b:#x}");
        }
        assert!(!is_token(b"") && is_field_value(b""));
    }

    #[test]
    fn eight_bytes_at_a_time_or_one_the_host_is_the_same() {
        for around in [*b"a-Z.09zA", [b'/'; 8], [0xff; 8], [b':'; 8]] {
            for (place, b) in (0..17).flat_map(|place| (0..=255u8).map(move |b| (place, b))) {
                let mut bytes = [around, around, around].concat();
                bytes[place] = b;
                let plain = |b: &&u8| b.is_ascii_alphanumeric() || b".-".contains(b);
                assert_eq!(plain_host(&bytes), bytes.iter().take_while(plain).count(), "{}", bytes.escape_ascii());
            }
        }
    }

    #[test]
    fn names_and_values_are_checked_when_made() {
        assert_eq!(HeaderName::new("X-A").map(|n| n.as_str().to_owned()), Ok("X-A".into()));
        assert_eq!(HeaderName::new(""), Err(InvalidHeader::EmptyName));
        assert_eq!(HeaderName::new("X A"), Err(InvalidHeader::Name(b' ')));
        assert_eq!(HeaderName::new("X:"), Err(InvalidHeader::Name(b':')));
        assert_eq!(HeaderValue::new(" \ta\tb ").map(|v| v.as_bytes().to_vec()), Ok(b"a\tb".to_vec()));
        for (value, byte) in [("a\r\nb", b'\r'), ("a\nb", b'\n'), ("a\0", 0), ("\x0ba", 11), ("\x7f", 127)] {
            assert_eq!(HeaderValue::new(value), Err(InvalidHeader::Value(byte)));
        }
        assert_eq!(InvalidHeader::Value(b'\r').to_string(), "'\\r' is not allowed in a field value");
    }

    #[test]
    fn lists_keep_their_empty_elements() {
        let elements: Vec<_> = list(b" a ,\tb,,c d").collect();
        assert_eq!(elements, [&b"a"[..], b"b", b"", b"c d"]);
    }
}
