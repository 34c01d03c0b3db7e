//! Conditional requests (RFC 9110 §13) and ranges (§14): pure functions of a request's fields and a file's facts.

use std::time::{Duration, SystemTime};

use uncork::h1::HeadersRef;

/// What a file is recognised by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Validators {
    /// In quotes, perhaps with `W/` in front.
    pub(crate) etag: String,
    /// In whole seconds, as it is sent.
    pub(crate) modified: SystemTime,
}

impl Validators {
    /// Of a file of this size, time of change and number, now.
    ///
    /// A file that was changed just now may be changed again within the same tick of its clock. Until then the entity
    /// tag is weak: good enough for a cache, not for putting pieces together (§8.8.1).
    pub(crate) fn new(len: u64, modified: SystemTime, inode: u64, now: SystemTime) -> Self {
        let since = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let settled = now.duration_since(modified).is_ok_and(|age| age >= Duration::from_secs(2));
        let weak = if settled { "" } else { "W/" };
        let etag = format!("{weak}\"{len:x}-{:x}-{inode:x}\"", since(modified).as_nanos());
        // §8.8.2.1: never in the future.
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(since(modified.min(now)).as_secs());
        Self { etag, modified }
    }

    fn is_strong(&self) -> bool {
        self.etag.starts_with('"')
    }

    /// Whether a list of entity tags has ours in it.
    fn listed(&self, values: impl Iterator<Item = impl AsRef<[u8]>>, strongly: bool) -> bool {
        let opaque = self.etag.strip_prefix("W/").unwrap_or(&self.etag).as_bytes();
        for value in values {
            let value = value.as_ref();
            if value == b"*" {
                return true;
            }
            for (weak, tag) in Tags(value) {
                if tag == opaque && !(strongly && (weak || !self.is_strong())) {
                    return true;
                }
            }
        }
        false
    }
}

/// The entity tags of a list, each with its quotes; a comma may stand inside of them. Ends where the grammar is broken.
struct Tags<'a>(&'a [u8]);

impl<'a> Iterator for Tags<'a> {
    type Item = (bool, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.0.iter().position(|b| !matches!(b, b' ' | b'\t' | b','))?;
        let rest = &self.0[start..];
        let (weak, rest) = rest.strip_prefix(b"W/").map_or((false, rest), |rest| (true, rest));
        let inner = rest.strip_prefix(b"\"")?;
        let end = inner.iter().position(|&b| b == b'"')?;
        let (tag, rest) = rest.split_at(end + 2);
        self.0 = rest;
        Some((weak, tag))
    }
}

/// What the request's conditions ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The file, or a range of it.
    Go,
    /// 304
    NotModified,
    /// 412
    Failed,
}

/// Judges the conditions of a GET or HEAD, in the order of §13.2.2.
pub(crate) fn judge(fields: HeadersRef<'_>, file: &Validators) -> Verdict {
    let date = |name| fields.get(name).and_then(date);
    if fields.get("if-match").is_some() {
        if !file.listed(fields.get_all("if-match"), true) {
            return Verdict::Failed;
        }
    } else if date("if-unmodified-since").is_some_and(|date| file.modified > date) {
        return Verdict::Failed;
    }
    let unchanged = if fields.get("if-none-match").is_some() {
        file.listed(fields.get_all("if-none-match"), false)
    } else {
        date("if-modified-since").is_some_and(|date| file.modified <= date)
    };
    if unchanged { Verdict::NotModified } else { Verdict::Go }
}

fn date(value: &[u8]) -> Option<SystemTime> {
    httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok()
}

/// Which part of the file to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Whole,
    /// 206: from the first of these bytes to before the second.
    Range(u64, u64),
    /// 416
    None,
}

/// The range a GET asks for. Whatever is not understood is ignored, as §14.2 wants it; so are several ranges, which it
/// allows: their answer, `multipart/byteranges`, is more often an attack than a wish.
pub(crate) fn part(fields: HeadersRef<'_>, file: &Validators, len: u64) -> Part {
    let mut ranges = fields.get_all("range");
    let (Some(range), None) = (ranges.next(), ranges.next()) else { return Part::Whole };
    match fields.get("if-range") {
        Some(value) if !holds(value, file) => Part::Whole,
        _ => std::str::from_utf8(range).ok().and_then(|range| parse(range, len)).unwrap_or(Part::Whole),
    }
}

/// If-Range (§13.1.5): only a strong validator, and exactly that one.
fn holds(value: &[u8], file: &Validators) -> bool {
    let same_date = || date(value).is_some_and(|date| date == file.modified);
    file.is_strong() && (value == file.etag.as_bytes() || same_date())
}

/// `None`: no range we understand.
fn parse(range: &str, len: u64) -> Option<Part> {
    let (unit, set) = range.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    // It is a list, and of a list's elements empty ones don't count.
    let mut specs = set.split(',').map(|spec| spec.trim_matches([' ', '\t'])).filter(|spec| !spec.is_empty());
    let (Some(spec), None) = (specs.next(), specs.next()) else { return None };
    let (first, last) = match spec.split_once('-')? {
        ("", suffix) => match number(suffix)? {
            0 => return Some(Part::None),
            // Of an empty file, its last bytes are all of it, and no Content-Range can say so.
            _ if len == 0 => return None,
            n => (len.saturating_sub(n), len - 1),
        },
        (first, "") => (number(first)?, u64::MAX),
        (first, last) => (number(first)?, number(last)?),
    };
    if first > last {
        return None;
    }
    if first >= len {
        return Some(Part::None);
    }
    Some(Part::Range(first, last.min(len - 1) + 1))
}

/// Digits only. As large as we can count is as good as larger.
fn number(digits: &str) -> Option<u64> {
    let fine = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    fine.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_range_is_understood() {
        for (range, want) in [
            ("bytes=0-0", Part::Range(0, 1)),
            ("bytes=0-99", Part::Range(0, 100)),
            ("bytes=10-19", Part::Range(10, 20)),
            ("bytes=10-", Part::Range(10, 100)),
            ("bytes=99-", Part::Range(99, 100)),
            ("bytes=90-1000", Part::Range(90, 100)),
            ("bytes=0-18446744073709551615", Part::Range(0, 100)),
            ("bytes=0-99999999999999999999999", Part::Range(0, 100)),
            ("bytes=-1", Part::Range(99, 100)),
            ("bytes=-100", Part::Range(0, 100)),
            ("bytes=-999", Part::Range(0, 100)),
            ("BYTES=5-6", Part::Range(5, 7)),
            ("bytes=, 5-6 ,", Part::Range(5, 7)),
            ("bytes=100-", Part::None),
            ("bytes=100-200", Part::None),
            ("bytes=99999999999999999999999-", Part::None),
            ("bytes=-0", Part::None),
        ] {
            assert_eq!(parse(range, 100), Some(want), "{range}");
        }
    }

    #[test]
    fn any_other_is_ignored() {
        for range in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=,",
            "bytes=a-b",
            "bytes=1",
            "bytes=5-4",
            "bytes=+1-2",
            "bytes=1--2",
            "bytes=0x1-2",
            "bytes= 1 - 2",
            "bytes=1-2-3",
            "lines=1-2",
            "bytes 1-2",
            "bytes=0-1,5-6",
            "bytes=0-,-1",
        ] {
            assert_eq!(parse(range, 100), None, "{range}");
        }
    }

    #[test]
    fn an_empty_file_has_no_range() {
        assert_eq!(parse("bytes=0-", 0), Some(Part::None));
        assert_eq!(parse("bytes=-5", 0), None);
    }

    fn file(age: u64) -> Validators {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        Validators::new(16, now - Duration::from_secs(age), 7, now)
    }

    fn listed(list: &str, age: u64, strongly: bool) -> bool {
        file(age).listed([list].iter(), strongly)
    }

    #[test]
    fn a_tag_is_found_in_a_list() {
        let ours = file(10).etag;
        assert_eq!(ours, format!("\"10-{:x}-7\"", 999_990_u64 * 1_000_000_000));
        for list in [&*ours, "*", &format!("\"a,b\", {ours}"), &format!(" ,,{ours} , \"x\""), &format!("\"\",{ours}")] {
            assert!(listed(list, 10, true) && listed(list, 10, false), "{list}");
        }
        for list in ["", "x", "\"x\"", "\"", ours.trim_matches('"'), &format!("x, {ours}"), &format!("\"{ours}\"")] {
            assert!(!listed(list, 10, false), "{list}");
        }
    }

    #[test]
    fn a_weak_tag_is_for_caches_only() {
        let ours = file(10).etag;
        assert!(listed(&format!("W/{ours}"), 10, false) && !listed(&format!("W/{ours}"), 10, true));
        assert!(!listed(&format!("w/{ours}"), 10, false));
        let fresh = file(1).etag;
        assert!(fresh.starts_with("W/\""));
        assert!(listed(&fresh, 1, false) && !listed(&fresh, 1, true));
        assert!(listed(fresh.trim_start_matches("W/"), 1, false) && !listed(fresh.trim_start_matches("W/"), 1, true));
    }

    #[test]
    fn if_range_wants_exactly_the_strong_one() {
        let ours = file(10);
        let date = httpdate::fmt_http_date(ours.modified);
        assert!(holds(ours.etag.as_bytes(), &ours) && holds(date.as_bytes(), &ours));
        assert!(!holds(format!("W/{}", ours.etag).as_bytes(), &ours) && !holds(b"*", &ours) && !holds(b"", &ours));
        assert!(!holds(httpdate::fmt_http_date(file(9).modified).as_bytes(), &ours));
        let fresh = file(1);
        assert!(!holds(fresh.etag.as_bytes(), &fresh), "weak");
        assert!(!holds(httpdate::fmt_http_date(fresh.modified).as_bytes(), &fresh), "weak");
    }

    #[test]
    fn a_time_to_come_is_not_told() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_500);
        let file = Validators::new(0, now + Duration::from_secs(9), 0, now);
        assert_eq!(file.modified, SystemTime::UNIX_EPOCH + Duration::from_secs(1));
        assert!(!file.is_strong());
    }
}
