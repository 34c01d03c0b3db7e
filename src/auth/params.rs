//! The syntax of credentials and challenges (RFC 9110 §11): a scheme, then parameters in a list.

use crate::h1::{HeadersRef, is_field_value, is_token};

/// Returns the value of the one Authorization field; `None` if there is none, or more than one (RFC 9110 §5.3).
pub(super) fn authorization(headers: HeadersRef<'_>) -> Option<&[u8]> {
    let mut values = headers.get_all("Authorization");
    values.next().filter(|_| values.next().is_none())
}

/// Splits credentials into what follows their scheme; `None` if the scheme is another one. Schemes are compared
/// case-insensitively.
pub(super) fn after_scheme<'a>(value: &'a [u8], scheme: &str) -> Option<&'a [u8]> {
    let value = trim_start(value);
    let (name, rest) = value.split_at_checked(scheme.len())?;
    let is_scheme = name.eq_ignore_ascii_case(scheme.as_bytes()) && matches!(rest.first(), None | Some(b' '));
    is_scheme.then(|| trim_start(rest).trim_ascii_end())
}

fn trim_start(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

/// The value of a parameter: a token, or what stands between the quotation marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value<'a> {
    raw: &'a [u8],
    has_escapes: bool,
}

impl<'a> Value<'a> {
    /// Returns the value as it stands in the field, with backslashes.
    pub(super) fn raw(self) -> &'a [u8] {
        self.raw
    }

    /// Returns the value without the backslashes of a quoted string (RFC 9110 §5.6.4).
    pub(super) fn unescaped(self) -> std::borrow::Cow<'a, [u8]> {
        if !self.has_escapes {
            return self.raw.into();
        }
        let mut text = Vec::with_capacity(self.raw.len());
        let mut bytes = self.raw.iter();
        while let Some(&byte) = bytes.next() {
            // The scanner has checked that a byte follows each backslash.
            text.push(if byte == b'\\' { bytes.next().copied().unwrap_or(byte) } else { byte });
        }
        text.into()
    }
}

/// A parameter's name and value.
type Param<'a> = (&'a [u8], Value<'a>);

/// The parameters of credentials or of a challenge, one after the other. The iterator returns an error, and then ends,
/// where the list does not have the syntax of RFC 9110 §11.2 and §5.6.1.
pub(super) struct Params<'a>(Option<&'a [u8]>);

/// The error of a list that does not have the syntax.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InvalidSyntax;

impl<'a> Params<'a> {
    pub(super) fn new(list: &'a [u8]) -> Self {
        Self(Some(list))
    }

    /// Splits the first parameter off a list that begins with its name.
    fn split_first(list: &'a [u8]) -> Option<(Param<'a>, &'a [u8])> {
        let (name, rest) = list.split_at(list.iter().position(|&b| !is_token(&[b]))?);
        // Spaces around the "=" are allowed for bad old senders.
        let rest = trim_start(trim_start(rest).strip_prefix(b"=")?);
        let (value, rest) = match rest.strip_prefix(b"\"") {
            Some(quoted) => Self::quoted(quoted)?,
            None => {
                let (raw, rest) = rest.split_at(rest.iter().position(|&b| !is_token(&[b])).unwrap_or(rest.len()));
                is_token(raw).then_some((Value { raw, has_escapes: false }, rest))?
            }
        };
        if name.is_empty() {
            return None;
        }
        match trim_start(rest) {
            [] => Some(((name, value), &[])),
            [b',', rest @ ..] => Some(((name, value), rest)),
            _ => None,
        }
    }

    /// Splits a quoted string off, behind its first quotation mark.
    fn quoted(text: &'a [u8]) -> Option<(Value<'a>, &'a [u8])> {
        let mut has_escapes = false;
        let mut at = 0;
        loop {
            match text.get(at)? {
                b'"' => return Some((Value { raw: &text[..at], has_escapes }, &text[at + 1..])),
                b'\\' => {
                    has_escapes = true;
                    at += 1;
                    text.get(at).filter(|b| is_text(**b))?;
                }
                b if !is_text(*b) => return None,
                _ => {}
            }
            at += 1;
        }
    }
}

/// Returns `true` for a byte that a field value may have.
fn is_text(byte: u8) -> bool {
    is_field_value(&[byte])
}

impl<'a> Iterator for Params<'a> {
    type Item = Result<Param<'a>, InvalidSyntax>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut list = self.0.take()?;
        // Empty elements are skipped (RFC 9110 §5.6.1.2).
        while let [b' ' | b'\t' | b',', rest @ ..] = list {
            list = rest;
        }
        if list.is_empty() {
            return None;
        }
        let Some((param, rest)) = Self::split_first(list) else { return Some(Err(InvalidSyntax)) };
        self.0 = Some(rest);
        Some(Ok(param))
    }
}

/// Appends `name="value"` to a challenge, behind a comma if it is not the first parameter.
pub(super) fn push_quoted(challenge: &mut Vec<u8>, name: &str, value: &[u8]) {
    push_name(challenge, name);
    challenge.push(b'"');
    for &byte in value {
        if matches!(byte, b'"' | b'\\') {
            challenge.push(b'\\');
        }
        challenge.push(byte);
    }
    challenge.push(b'"');
}

/// Appends `name=value` to a challenge, behind a comma if it is not the first parameter.
pub(super) fn push_token(challenge: &mut Vec<u8>, name: &str, value: &str) {
    push_name(challenge, name);
    challenge.extend_from_slice(value.as_bytes());
}

fn push_name(challenge: &mut Vec<u8>, name: &str) {
    // A scheme stands alone; behind it, and behind each comma, is one space.
    if challenge.contains(&b' ') {
        challenge.push(b',');
    }
    challenge.push(b' ');
    challenge.extend_from_slice(name.as_bytes());
    challenge.push(b'=');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(list: &str) -> Option<Vec<(String, String)>> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Params::new(list.as_bytes()).map(|p| p.ok().map(|(n, v)| (text(n), text(&v.unescaped())))).collect()
    }

    #[test]
    fn lists_are_read_as_rfc_9110_has_them() {
        /// Names and values.
        type Pairs = &'static [(&'static str, &'static str)];
        #[rustfmt::skip]
        const ROWS: &[(&str, Option<Pairs>)] = &[
            ("",                      Some(&[])),
            (" , ,",                  Some(&[])),
            ("a=b",                   Some(&[("a", "b")])),
            ("a=b,c=d",               Some(&[("a", "b"), ("c", "d")])),
            ("a=b , , c = \"d\" ,",   Some(&[("a", "b"), ("c", "d")])),
            ("a=\"\",b=c",            Some(&[("a", ""), ("b", "c")])),
            ("a=\"x,y=z\"",           Some(&[("a", "x,y=z")])),
            ("a=\"\\\"\\\\\\x\"",     Some(&[("a", "\"\\x")])),
            ("a=\"\u{e4}\t\"",        Some(&[("a", "\u{e4}\t")])),
            ("a",                     None),
            ("a=",                    None),
            ("a=,b=c",                None),
            ("=b",                    None),
            ("a=b c=d",               None),
            ("a=\"b\"c",              None),
            ("a=\"b",                 None),
            ("a=\"b\\",               None),
            ("a=\"b\\\"",             None),
            ("a=b/c",                 None),
            ("a=\"b\u{1}\"",          None),
            ("a\u{e4}=b",             None),
        ];
        for (list, expected) in ROWS {
            let expected = expected.map(|e| e.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect());
            assert_eq!(parsed(list), expected, "{list}");
        }
    }

    #[test]
    fn what_is_quoted_is_read_back() {
        let mut challenge = b"Digest".to_vec();
        push_quoted(&mut challenge, "realm", b"a \"b\" \\ c");
        push_token(&mut challenge, "stale", "true");
        assert_eq!(challenge, b"Digest realm=\"a \\\"b\\\" \\\\ c\", stale=true");
        let list = after_scheme(&challenge, "digest").unwrap();
        let values: Vec<_> = Params::new(list).map(|p| p.unwrap().1.unescaped().into_owned()).collect();
        assert_eq!(values, [&b"a \"b\" \\ c"[..], b"true"]);
    }

    #[test]
    fn a_scheme_is_a_whole_word() {
        assert_eq!(after_scheme(b"bASIC  x ", "Basic"), Some(&b"x"[..]));
        assert_eq!(after_scheme(b"Basic", "Basic"), Some(&b""[..]));
        assert_eq!(after_scheme(b"Basicx", "Basic"), None);
        assert_eq!(after_scheme(b"Bas", "Basic"), None);
    }
}
