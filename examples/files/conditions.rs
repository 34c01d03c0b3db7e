//! Conditional requests (RFC 9110 §13) and ranges (§14), as pure functions of a request's fields and a file's metadata.

use std::time::{Duration, SystemTime};

use uncork::h1::HeadersRef;

/// Validators of a representation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Validators {
    /// In quotes, with `W/` in front if it is weak. `None` for a listing.
    pub(crate) etag: Option<String>,
    /// In whole seconds, as it is sent. `None` if there is none, or HTTP cannot express it.
    pub(crate) modified: Option<SystemTime>,
}

impl Validators {
    /// Makes the validators of a file from its size, modification time and inode.
    ///
    /// A file may change twice within one tick of its clock. For 2 s after a change the entity tag is therefore weak:
    /// good enough for a cache, but not for combining ranges (RFC 9110 §8.8.1).
    pub(crate) fn new(len: u64, modified: Option<SystemTime>, inode: u64, now: SystemTime) -> Self {
        let since = |time: SystemTime| match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => after.as_nanos() as i128,
            Err(before) => -(before.duration().as_nanos() as i128),
        };
        let settled = |time| now.duration_since(time).is_ok_and(|age| age >= Duration::from_secs(2));
        let weak = if modified.is_some_and(settled) { "" } else { "W/" };
        let etag = format!("{weak}\"{len:x}-{:x}-{inode:x}\"", modified.map_or(0, since));
        // §8.8.2.1: never in the future.
        Self { etag: Some(etag), modified: modified.and_then(|time| whole_second(time.min(now))) }
    }

    fn is_strong(&self) -> bool {
        self.etag.as_ref().is_some_and(|etag| etag.starts_with('"'))
    }

    /// Returns `true` if a list of entity tags contains the file's.
    fn listed(&self, values: impl Iterator<Item = impl AsRef<[u8]>>, strongly: bool) -> bool {
        let ours = self.etag.as_deref();
        let opaque = ours.map(|tag| tag.strip_prefix("W/").unwrap_or(tag).as_bytes());
        for value in values {
            let value = value.as_ref();
            if value == b"*" {
                return true;
            }
            for (weak, tag) in Tags(value) {
                if Some(tag) == opaque && !(strongly && (weak || !self.is_strong())) {
                    return true;
                }
            }
        }
        false
    }
}

/// Rounds down to a second; `None` if HTTP has no date for it (before 1970, or after the year 9999).
fn whole_second(time: SystemTime) -> Option<SystemTime> {
    const END: u64 = 253_402_300_800;
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    (since < END).then(|| SystemTime::UNIX_EPOCH + Duration::from_secs(since))
}

/// Returns a time as an HTTP date, if HTTP can express it.
pub(crate) fn http_date(time: SystemTime) -> Option<String> {
    whole_second(time).map(httpdate::fmt_http_date)
}

/// Iterates over the entity tags of a list, each with its quotes, which may contain a comma. Ends at a syntax error.
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

/// Result of the request's conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The file, or a range of it, is sent.
    Go,
    /// 304
    NotModified,
    /// 412
    Failed,
}

/// Evaluates the conditions of a GET or HEAD, in the order of §13.2.2.
pub(crate) fn judge(fields: HeadersRef<'_>, file: &Validators) -> Verdict {
    // "MUST ignore … if the resource does not have a modification date available" (§13.1.3, §13.1.4).
    let dates = |name| single(fields, name).and_then(date).zip(file.modified);
    if fields.get("if-match").is_some() {
        if !file.listed(fields.get_all("if-match"), true) {
            return Verdict::Failed;
        }
    } else if dates("if-unmodified-since").is_some_and(|(date, modified)| modified > date) {
        return Verdict::Failed;
    }
    let unchanged = if fields.get("if-none-match").is_some() {
        file.listed(fields.get_all("if-none-match"), false)
    } else {
        dates("if-modified-since").is_some_and(|(date, modified)| modified <= date)
    };
    if unchanged { Verdict::NotModified } else { Verdict::Go }
}

/// Returns the value of a field that may occur once. Two fields are not a valid HTTP-date, so they must be ignored
/// (§13.1.3, §13.1.4).
fn single<'b>(fields: HeadersRef<'b>, name: &str) -> Option<&'b [u8]> {
    let mut values = fields.get_all(name);
    let first = values.next();
    first.filter(|_| values.next().is_none())
}

fn date(value: &[u8]) -> Option<SystemTime> {
    httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok()
}

/// The part of the file to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Whole,
    /// 206: from the first offset to before the second.
    Range(u64, u64),
    /// 416
    None,
}

/// Returns the range of a GET. Unknown units and invalid ranges are ignored (§14.2). So are several ranges, as §14.2
/// allows: requests for `multipart/byteranges` are mostly attacks.
pub(crate) fn part(fields: HeadersRef<'_>, file: &Validators, len: u64) -> Part {
    let Some(range) = single(fields, "range") else { return Part::Whole };
    if fields.get("if-range").is_some() && !single(fields, "if-range").is_some_and(|value| holds(value, file)) {
        return Part::Whole;
    }
    std::str::from_utf8(range).ok().and_then(|range| parse(range, len)).unwrap_or(Part::Whole)
}

/// Evaluates If-Range (§13.1.5): it holds only for a strong validator that is identical.
fn holds(value: &[u8], file: &Validators) -> bool {
    let same_tag = || file.etag.as_ref().is_some_and(|etag| value == etag.as_bytes());
    // A date covers a whole second. A client must not use one that it got within that second (§8.8.2.2), and the server
    // does not accept one until then.
    let same_date = || file.modified.is_some() && date(value) == file.modified;
    file.is_strong() && (same_tag() || same_date())
}

/// Parses a range; `None` if it is ignored.
fn parse(range: &str, len: u64) -> Option<Part> {
    let (unit, set) = range.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    // Empty list elements are ignored (§5.6.1).
    let mut specs = set.split(',').map(|spec| spec.trim_matches([' ', '\t'])).filter(|spec| !spec.is_empty());
    let (Some(spec), None) = (specs.next(), specs.next()) else { return None };
    let (first, last) = match spec.split_once('-')? {
        ("", suffix) => match number(suffix)? {
            0 => return Some(Part::None),
            // The last bytes of an empty file are all of it, and Content-Range cannot express that.
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

/// Parses digits; numbers above `u64::MAX` are clamped.
fn number(digits: &str) -> Option<u64> {
    let is_valid = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    is_valid.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_range_is_parsed() {
        for (range, expected) in [
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
            assert_eq!(parse(range, 100), Some(expected), "{range}");
        }
    }

    #[test]
    fn other_ranges_are_ignored() {
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
        Validators::new(16, Some(now - Duration::from_secs(age)), 7, now)
    }

    fn tag(age: u64) -> String {
        file(age).etag.expect("a tag")
    }

    fn listed(list: &str, age: u64, strongly: bool) -> bool {
        file(age).listed([list].iter(), strongly)
    }

    #[test]
    fn a_tag_is_found_in_a_list() {
        let ours = tag(10);
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
        let ours = tag(10);
        assert!(listed(&format!("W/{ours}"), 10, false) && !listed(&format!("W/{ours}"), 10, true));
        assert!(!listed(&format!("w/{ours}"), 10, false));
        let fresh = tag(1);
        assert!(fresh.starts_with("W/\""));
        assert!(listed(&fresh, 1, false) && !listed(&fresh, 1, true));
        assert!(listed(fresh.trim_start_matches("W/"), 1, false) && !listed(fresh.trim_start_matches("W/"), 1, true));
    }

    #[test]
    fn only_a_star_matches_a_file_without_a_tag() {
        let none = Validators::default();
        assert!(none.listed(["*"].iter(), true) && none.listed(["*"].iter(), false));
        assert!(!none.listed(["\"x\", W/\"\""].iter(), false) && !holds(b"\"x\"", &none) && !holds(b"", &none));
    }

    #[test]
    fn if_range_needs_the_identical_strong_validator() {
        let ours = file(10);
        let date = http_date(ours.modified.expect("a time")).expect("a date");
        assert!(holds(tag(10).as_bytes(), &ours) && holds(date.as_bytes(), &ours));
        assert!(!holds(format!("W/{}", tag(10)).as_bytes(), &ours) && !holds(b"*", &ours) && !holds(b"", &ours));
        assert!(!holds(http_date(file(9).modified.expect("a time")).expect("a date").as_bytes(), &ours));
        let fresh = file(1);
        assert!(!holds(tag(1).as_bytes(), &fresh), "weak");
        assert!(!holds(http_date(fresh.modified.expect("a time")).expect("a date").as_bytes(), &fresh), "weak");
    }

    #[test]
    fn a_future_time_is_not_sent() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_500);
        let file = Validators::new(0, Some(now + Duration::from_secs(9)), 0, now);
        assert_eq!(file.modified, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1)));
        assert!(!file.is_strong() && !Validators::new(0, None, 0, now).is_strong());
    }

    #[test]
    fn a_time_before_1970_has_a_tag_and_no_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(10);
        let old = |nanos| Validators::new(0, Some(SystemTime::UNIX_EPOCH - Duration::from_nanos(nanos)), 0, now);
        assert_eq!(old(1).modified, None);
        assert!(old(1).is_strong());
        assert_ne!(old(1).etag, old(2).etag);
        assert_eq!(http_date(SystemTime::UNIX_EPOCH - Duration::from_nanos(1)), None);
        let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
        assert_eq!(http_date(last).as_deref(), Some("Fri, 31 Dec 9999 23:59:59 GMT"));
        assert_eq!(http_date(last + Duration::from_secs(1)), None);
    }
}
