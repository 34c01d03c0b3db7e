//! The known key that is closest to an unknown one.
//!
//! ```text
//!   callback.recieve ──▶ callback.receive      a few letters are wrong
//!   establish        ──▶ callback.establish    it stands in the wrong place
//! ```

/// Letters that may be wrong, missing or too many in a key: one in three of its last part, and at most this many.
const MOST: usize = 3;

/// Returns the key that is meant by `given`; `None` if there is none that is close.
pub(super) fn closest<'k>(given: &str, keys: &[&'k str]) -> Option<&'k str> {
    let most = (last(given).len() / 3).clamp(1, MOST);
    // A long key is not compared: the time would be in proportion to its length.
    let near = keys.iter().filter(|key| given.len().abs_diff(key.len()) <= MOST);
    let near = near.map(|key| (distance(given, key), *key)).filter(|(distance, _)| *distance <= most);
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

/// Returns how many letters must be inserted, removed, replaced or exchanged with their neighbour, to get from one to
/// the other: the distance of Damerau and Levenshtein, in its form of optimal string alignment.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    // The rows of the last two letters of `one`, and the next.
    let mut before = Vec::new();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let mut least = (row[j] + usize::from(a != b)).min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b {
                let before: &Vec<usize> = &before;
                least = least.min(before[j - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_is_the_number_of_letters_that_differ() {
        for (one, other, want) in [
            ("", "", 0),
            ("port", "port", 0),
            ("", "port", 4),
            ("port", "", 4),
            ("prot", "port", 1),
            ("recieve", "receive", 1),
            ("ports", "port", 1),
            ("prt", "port", 1),
            ("part", "port", 1),
            ("sock", "port", 3),
            ("äport", "port", 1),
        ] {
            assert_eq!(distance(one, other), want, "{one} {other}");
            assert_eq!(distance(other, one), want, "{other} {one}");
        }
    }

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
