//! Text of a peer for logs and errors: short, on one line, and without characters that control a terminal.

/// Limit in bytes. The reasons that our proxy gives are shorter.
pub(super) const MAX: usize = 300;

/// Returns the start of a text. Characters that are not printable become spaces.
pub(super) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX)]);
    text.trim().chars().map(|c| if is_printable(c) { c } else { ' ' }).collect()
}

fn is_printable(c: char) -> bool {
    matches!(c, '\'' | '"' | '\\') || c.escape_debug().len() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_peer_is_one_short_line() {
        for (text, want) in [
            ("unknown token\n", "unknown token"),
            ("a\r\nb\tc", "a  b c"),
            ("\u{1b}[31mred\u{7}", "[31mred"),
            ("it's \"fine\" \\ gr\u{fc}n \u{4f60}", "it's \"fine\" \\ gr\u{fc}n \u{4f60}"),
            ("a\u{202e}b\u{2028}c\u{9b}d", "a b c d"),
        ] {
            assert_eq!(printable(text.as_bytes()).trim(), want);
        }
        assert_eq!(printable(&[b'x'; 10_000]).len(), MAX);
        assert_eq!(printable(b"a\xffb"), "a\u{fffd}b");
    }
}
