//! The known key that is closest to an unknown one.
//!
//! ```text
//!   callback.recieve ──▶ callback.receive      a few letters are wrong
//!   establish        ──▶ callback.establish    it stands in the wrong place
//! ```

use strsim::osa_distance;

/// Letters that may be wrong, missing or too many in a key: one in three of its last part, and at most this many.
const MOST: usize = 3;

/// Returns the key that is meant by `given`; `None` if there is none that is close.
pub(super) fn closest<'k>(given: &str, keys: &[&'k str]) -> Option<&'k str> {
    let most = (last(given).len() / 3).clamp(1, MOST);
    // A long key is not compared: the time would be in proportion to its length.
    let near = keys.iter().filter(|key| given.len().abs_diff(key.len()) <= MOST);
    let near = near.map(|key| (osa_distance(given, key), *key)).filter(|(distance, _)| *distance <= most);
    if let Some((_, key)) = near.min() {
        return Some(key);
    }
    let mut elsewhere = keys.iter().filter(|key| last(key) == last(given));
    match (elsewhere.next(), elsewhere.next()) {
        (Some(key), None) => Some(key),
        _ => None,
    }
}

/// Returns the part of a key behind its section.
fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_proposed_only_if_it_is_close() {
        let keys = ["port", "path", "path.connect", "callback", "callback.connect", "callback.receive", "send_timeout"];
        for (given, want) in [
            ("prot", Some("port")),
            ("callback.recieve", Some("callback.receive")),
            ("callback.conect", Some("callback.connect")),
            ("path.connct", Some("path.connect")),
            ("sendtimeout", Some("send_timeout")),
            ("send-timeout", Some("send_timeout")),
            ("receive", Some("callback.receive")),
            ("limits.receive", Some("callback.receive")),
            // Two keys end so.
            ("connect", None),
            ("sock", None),
            ("a", None),
            ("", None),
        ] {
            assert_eq!(closest(given, &keys), want, "{given}");
        }
        assert_eq!(closest(&"a".repeat(1 << 20), &keys), None);
    }
}
