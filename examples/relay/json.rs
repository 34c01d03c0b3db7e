//! JSON of the log, the access log and the admin listener.

use std::time::Duration;

use serde::Serialize;

/// Returns a value as one line of JSON, without the end of line.
///
/// Control characters that JSON allows in strings (DEL, C1, and the separators of lines and paragraphs) are escaped,
/// too. A terminal that shows the line must not act on text from a peer.
pub(crate) fn line(value: &impl Serialize) -> String {
    // Structs with named fields and plain values always serialize.
    let text = serde_json::to_string(value).unwrap_or_default();
    let is_plain = |c: char| !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}');
    if text.chars().all(is_plain) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match is_plain(c) {
            true => out.push(c),
            false => out += &format!("\\u{:04x}", u32::from(c)),
        }
    }
    out
}

/// Returns an array with one element per line.
pub(crate) fn list<T: Serialize>(items: impl Iterator<Item = T>) -> String {
    let lines: Vec<String> = items.map(|item| format!("\n{}", line(&item))).collect();
    format!("[{}\n]\n", lines.join(","))
}

/// Returns a duration in seconds, with so many decimal places.
pub(crate) fn rounded(time: Duration, places: i32) -> f64 {
    let scale = 10_f64.powi(places);
    (time.as_secs_f64() * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(line(&"a\"\u{1b}\u{7f}\u{9b}\u{2028}\u{e9}"), "\"a\\\"\\u001b\\u007f\\u009b\\u2028\u{e9}\"");
    }

    #[test]
    fn a_list_has_a_line_for_each_element() {
        assert_eq!(list([1, 2].iter()), "[\n1,\n2\n]\n");
        assert_eq!(list([0; 0].iter()), "[\n]\n");
    }

    #[test]
    fn durations_are_rounded() {
        assert_eq!(line(&rounded(Duration::from_micros(1_234_567), 3)), "1.235");
        assert_eq!(line(&rounded(Duration::from_nanos(1_234_567_890), 6)), "1.234568");
    }
}
