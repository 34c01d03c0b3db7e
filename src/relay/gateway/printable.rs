//! Text of a peer, for the log.

use std::fmt::{self, Write as _};

/// Maximum number of characters. Real keys and errors are shorter.
const LIMIT: usize = 200;

/// Writes text of a peer, escaped, so that it cannot end the line, and cut after 200 characters.
pub(super) struct Printable<'a>(pub(super) &'a [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = LIMIT;
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if left == 0 {
                    return f.write_str("…");
                }
                left -= 1;
                match c {
                    '"' | '\'' => f.write_char(c)?,
                    c => write!(f, "{}", c.escape_debug())?,
                }
            }
            for byte in chunk.invalid() {
                if left == 0 {
                    return f.write_str("…");
                }
                left -= 1;
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_cut() {
        for (text, want) in [
            (&b"bob"[..], "bob"),
            ("gr\u{fc}n".as_bytes(), "gr\u{fc}n"),
            (b"a\r\nb \"c\"", "a\\r\\nb \"c\""),
            (b"a\xff\x00", "a\\xff\\0"),
            ("\u{2028}".as_bytes(), "\\u{2028}"),
            (b"", ""),
        ] {
            assert_eq!(Printable(text).to_string(), want);
        }
        assert_eq!(Printable(&[b'x'; LIMIT]).to_string(), "x".repeat(LIMIT));
        assert_eq!(Printable(&[b'x'; 100_000]).to_string(), "x".repeat(LIMIT) + "…");
        assert_eq!(Printable(&[0xff; 100_000]).to_string(), "\\xff".repeat(LIMIT) + "…");
    }
}
