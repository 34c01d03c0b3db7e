//! Parameters of a field value: `form-data; name="a"` (RFC 9110 §5.6.6).

use crate::h1::grammar::{is_token, trim};

/// Splits a value into its first part and its parameters.
pub(super) fn split(value: &[u8]) -> (&[u8], Parameters<'_>) {
    let end = value.iter().position(|&b| is_separator(b)).unwrap_or(value.len());
    (trim(&value[..end]), Parameters(&value[end..]))
}

/// RFC 1867 has a comma before the boundary, and so have clients that were written to its examples.
fn is_separator(b: u8) -> bool {
    matches!(b, b';' | b',')
}

/// A name and its value.
type Parameter<'a> = (&'a [u8], Vec<u8>);

/// The parameters that are left. Malformed ones end with an error.
pub(super) struct Parameters<'a>(&'a [u8]);

impl<'a> Parameters<'a> {
    /// Returns the next name and its value; `None` after the last.
    pub(super) fn next(&mut self) -> Result<Option<Parameter<'a>>, Malformed> {
        loop {
            self.0 = trim(self.0);
            match self.0 {
                [] => return Ok(None),
                // A parameter may be missing between two separators.
                [b, rest @ ..] if is_separator(*b) => self.0 = trim(rest),
                _ => return Err(Malformed),
            }
            if self.0.first().is_some_and(|&b| !is_separator(b)) {
                return self.parameter().map(Some);
            }
        }
    }

    fn parameter(&mut self) -> Result<Parameter<'a>, Malformed> {
        let equals = self.0.iter().position(|&b| b == b'=').ok_or(Malformed)?;
        let (name, rest) = (&self.0[..equals], &self.0[equals + 1..]);
        if !is_token(name) {
            return Err(Malformed);
        }
        let value = match rest {
            [b'"', quoted @ ..] => {
                let (value, length) = unquote(quoted)?;
                self.0 = &quoted[length..];
                value
            }
            _ => {
                let end = rest.iter().position(|&b| is_separator(b) || b == b' ' || b == b'\t').unwrap_or(rest.len());
                if !is_token(&rest[..end]) {
                    return Err(Malformed);
                }
                self.0 = &rest[end..];
                rest[..end].to_vec()
            }
        };
        Ok((name, value))
    }

    /// Returns the value of a parameter that must occur at most once; names are compared case-insensitively.
    pub(super) fn only(mut self, wanted: &str) -> Result<Option<Vec<u8>>, Malformed> {
        let mut found = None;
        while let Some((name, value)) = self.next()? {
            if name.eq_ignore_ascii_case(wanted.as_bytes()) && found.replace(value).is_some() {
                return Err(Malformed);
            }
        }
        Ok(found)
    }
}

/// Returns what is between the quotation marks, and its length with the second mark.
///
/// A backslash escapes a quotation mark or a backslash only. Browsers escape neither, and some send a path of Windows.
fn unquote(quoted: &[u8]) -> Result<(Vec<u8>, usize), Malformed> {
    let mut value = Vec::new();
    let mut at = 0;
    loop {
        match quoted[at..] {
            [] => return Err(Malformed),
            [b'"', ..] => return Ok((value, at + 1)),
            [b'\\', b @ (b'"' | b'\\'), ..] => {
                value.push(b);
                at += 2;
            }
            [b, ..] => {
                value.push(b);
                at += 1;
            }
        }
    }
}

/// The error of a value that is not a list of parameters.
#[derive(Debug, PartialEq)]
pub(super) struct Malformed;

#[cfg(test)]
mod tests {
    use super::*;

    fn all(value: &str) -> Result<Vec<(String, String)>, Malformed> {
        let (_, mut parameters) = split(value.as_bytes());
        let mut found = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        while let Some((name, value)) = parameters.next()? {
            found.push((text(name), text(&value)));
        }
        Ok(found)
    }

    #[test]
    fn parameters_are_split() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(split(b" form-data ; a=b").0, b"form-data");
        for (value, expected) in [
            ("x", vec![]),
            ("x;", vec![]),
            ("x ; ;; ", vec![]),
            ("x;a=b", vec![pair("a", "b")]),
            ("x ;\ta=b ; c=\"d;e\" ", vec![pair("a", "b"), pair("c", "d;e")]),
            ("x, boundary=AaB03x", vec![pair("boundary", "AaB03x")]),
            (r#"x; a="" ;b="q\"\\q""#, vec![pair("a", ""), pair("b", r#"q"\q"#)]),
            (r#"x; a="C:\dir\new.txt""#, vec![pair("a", r"C:\dir\new.txt")]),
            ("x; a=\"\u{fc} = b\"", vec![pair("a", "\u{fc} = b")]),
        ] {
            assert_eq!(all(value), Ok(expected), "{value}");
        }
        for value in [
            "x;a",
            "x; =b",
            "x; a=",
            "x; a =b",
            "x; a= b",
            "x; a=b c",
            "x; a=\"b",
            "x; a=\"b\"c",
            "x; a=b\"c\"",
            r#"x; a="b\"#,
            r#"x; a="b\""#,
            "x; a=(b)",
            "x; \u{fc}=b",
            "x; a=\u{fc}",
        ] {
            assert_eq!(all(value), Err(Malformed), "{value}");
        }
    }

    #[test]
    fn a_parameter_that_occurs_twice_is_rejected() {
        assert_eq!(split(b"x; a=1; B=2").1.only("b"), Ok(Some(b"2".to_vec())));
        assert_eq!(split(b"x; a=1").1.only("b"), Ok(None));
        assert_eq!(split(b"x; a=1; A=1").1.only("a"), Err(Malformed));
    }
}
