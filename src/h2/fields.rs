//! The fields of a header block that has arrived.
//!
//! ```text
//!   hpack::Decoder ─▶ Fields   [ :method GET :path / … ]      one block of bytes, and where each name and value ends
//! ```

use super::hpack::{Known, Valid};
use crate::h1::{Headers, is_field_value, is_hop_by_hop, is_token};

/// The most bytes of text that an idle connection keeps.
const SMALL: usize = 512;

/// Fields of the request line that precede the others.
const PSEUDO: usize = 5;

const STATUS: &[u8] = b":status";

/// The fields of a header block, in order. What exceeds the limits is not kept.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    text: Vec<u8>,
    /// Where each name, and each value, ends in `text`.
    ends: Vec<(u32, u32)>,
    /// Bytes that a head of HTTP/1.1 would have.
    size: usize,
    /// The number of `Cookie` fields.
    crumbs: usize,
    /// A field breaks a rule.
    is_malformed: bool,
    count: usize,
    size_limit: usize,
    count_limit: usize,
}

impl Fields {
    /// Returns an empty list for heads of at most so many bytes, and so many fields.
    pub(super) fn new(size_limit: usize, count_limit: usize) -> Self {
        // Where a field ends is a number of 32 bits.
        Self { size_limit: size_limit.min(u32::MAX as usize), count_limit, ..Self::default() }
    }

    /// Removes all fields.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
        (self.size, self.crumbs, self.count, self.is_malformed) = (0, 0, 0, false);
    }

    /// Makes a list of no fields that is too large.
    pub(super) fn exceed(&mut self) {
        self.clear();
        self.size = usize::MAX;
    }

    /// Adds a field, unless the limits are exceeded. `known`: what this has returned before, for the same field or for
    /// another one of that name. Returns whether the field is valid.
    #[inline]
    pub(super) fn add(&mut self, name: &[u8], value: &[u8], known: Known) -> Valid {
        let valid = match known {
            Known::Field(field) => Valid { name: field, field },
            Known::Name(name_is_valid) => checked(name_is_valid, name, value),
            Known::Nothing => checked(is_name(name), name, value),
        };
        self.is_malformed |= !valid.field;
        self.size += name.len() + value.len() + 4;
        self.count += 1;
        if !self.is_too_large() && !self.has_too_many() {
            self.keep(name, value);
        }
        valid
    }

    fn keep(&mut self, name: &[u8], value: &[u8]) {
        self.crumbs += usize::from(name == b"cookie");
        self.text.extend_from_slice(name);
        let name_end = self.text.len() as u32;
        self.text.extend_from_slice(value);
        self.ends.push((name_end, self.text.len() as u32));
    }

    /// Returns `true` if there are more bytes than the limit.
    pub(super) fn is_too_large(&self) -> bool {
        self.size > self.size_limit
    }

    /// Returns `true` if a field breaks a rule, whichever message it is in.
    pub(super) fn is_malformed(&self) -> bool {
        self.is_malformed
    }

    /// Returns `true` if there are more fields than the limit, and those of a request line.
    pub(super) fn has_too_many(&self) -> bool {
        self.count > self.count_limit.saturating_add(PSEUDO)
    }

    /// Returns the number of `Cookie` fields.
    pub(super) fn crumbs(&self) -> usize {
        self.crumbs
    }

    /// Returns the number of fields that were kept.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns the fields that were kept, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut from = 0;
        self.ends.iter().map(move |&(name_end, value_end)| {
            let (name_end, value_end) = (name_end as usize, value_end as usize);
            let name = &self.text[from..name_end];
            from = value_end;
            (name, &self.text[name_end..value_end])
        })
    }

    /// Returns the fields of a response behind its status, without those that end at the next hop. `None`: they break a
    /// rule (RFC 9113 §8.1 and §8.2), or exceed the limits.
    pub(super) fn behind_status(&self) -> Option<Headers> {
        self.behind(1)
    }

    /// Returns the fields as trailers, like [`behind_status`](Self::behind_status).
    pub(super) fn trailers(&self) -> Option<Option<Box<Headers>>> {
        let headers = self.behind(0)?;
        Some((!headers.is_empty()).then(|| Box::new(headers)))
    }

    fn behind(&self, first: usize) -> Option<Headers> {
        let mut headers = Headers::new();
        let is_plain = self.iter().skip(first).all(|(name, value)| {
            let name = std::str::from_utf8(name).unwrap_or_default();
            if !is_hop_by_hop(name) {
                // What HTTP/1.1 would reject is left out.
                let _ = headers.append(name, value);
            }
            !name.starts_with(':')
        });
        let is_whole = !self.is_malformed && !self.is_too_large() && !self.has_too_many();
        (is_plain && is_whole).then_some(headers)
    }

    /// Returns the status of a response, if the fields begin with one.
    pub(super) fn status(&self) -> Option<u16> {
        let (name, value) = self.iter().next()?;
        let &[a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] = value else { return None };
        (name == STATUS).then(|| 100 * u16::from(a - b'0') + 10 * u16::from(b - b'0') + u16::from(c - b'0'))
    }

    /// Frees what an idle connection does not need. Little memory stays for the next request.
    pub(super) fn rest(&mut self) {
        if self.text.capacity() > SMALL {
            (self.text, self.ends) = (Vec::new(), Vec::new());
        }
    }
}

/// Returns `true` for a token without capital letters (RFC 9113 §8.2.1).
fn is_name(name: &[u8]) -> bool {
    let own = name.strip_prefix(b":").unwrap_or(name);
    is_token(own) && !own.iter().any(u8::is_ascii_uppercase)
}

/// Checks a field, except for its name. Those of a request line are checked where they are known.
///
/// A value does not begin or end with whitespace (RFC 9113 §8.2.1); and the field is none that belongs to a connection
/// of HTTP/1.1 (§8.2.2).
fn checked(name_is_valid: bool, name: &[u8], value: &[u8]) -> Valid {
    let is_of_connection = match name {
        b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding" | b"upgrade" => true,
        b"te" => !value.eq_ignore_ascii_case(b"trailers"),
        _ => false,
    };
    let field = name_is_valid
        && !matches!(value, [b' ' | b'\t', ..] | [.., b' ' | b'\t'])
        && is_field_value(value)
        && !is_of_connection;
    Valid { name: name_is_valid, field }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_are_checked() {
        for (fields, want) in [
            (&[][..], Some("")),
            (&[("x-sum", "7"), ("y", "")], Some("x-sum: 7\r\ny: \r\n")),
            (&[("te", "trailers"), ("x", "1")], Some("x: 1\r\n")),
            (&[(":path", "/")], None),
            (&[(":status", "200")], None),
            (&[(":status", "2")], None),
            (&[("X", "1")], None),
            (&[("", "1")], None),
            (&[("x", " 1")], None),
            (&[("x", "a\nb")], None),
            (&[("connection", "x")], None),
            (&[("te", "gzip")], None),
        ] {
            let mut list = Fields::new(1000, 10);
            for (name, value) in fields {
                list.add(name.as_bytes(), value.as_bytes(), Known::Nothing);
            }
            let text = |headers: Option<Box<Headers>>| {
                String::from_utf8_lossy(headers.as_ref().map_or(&[], |headers| headers.as_wire())).into_owned()
            };
            assert_eq!(list.trailers().map(text), want.map(str::to_owned), "{fields:?}");
        }
    }

    #[test]
    fn what_exceeds_the_limits_is_not_kept() {
        let mut fields = Fields::new(100, 3);
        for _ in 0..1000 {
            fields.add(b"x", &[b'y'; 20], Known::Nothing);
        }
        assert!(fields.is_too_large() && fields.len() == 4 && fields.trailers().is_none());
        fields.clear();
        for _ in 0..9 {
            fields.add(b"x", b"", Known::Nothing);
        }
        assert!(!fields.is_too_large() && fields.has_too_many() && fields.len() == 8);
    }
}
