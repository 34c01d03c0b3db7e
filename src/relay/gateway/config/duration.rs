//! Parses durations in Go's syntax: `10s`, `1m30s`, `500ms`, `1.5h`, `0`.

use std::time::Duration;

/// Units and their length in nanoseconds.
const UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
];

/// Parses a duration. The error describes the problem. Negative durations are errors: no setting can use one.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let bad = |reason: &str| Err(format!("invalid duration {text:?}: {reason}"));
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    match unsigned {
        "0" => return Ok(Duration::ZERO),
        "" => return bad("it is empty"),
        _ if unsigned.starts_with('-') => return bad("it is negative"),
        _ => {}
    }
    let (mut rest, mut nanos) = (unsigned, 0_u64);
    while !rest.is_empty() {
        let number = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let (digits, behind) = rest.split_at(rest.len() - number.len());
        let unit_len = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, more) = behind.split_at(unit_len);
        let Some((_, size)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return match unit {
                "" => bad("a unit is missing, as in 10s"),
                _ => bad(&format!("unknown unit {unit:?}, expected ns, us, ms, s, m or h")),
            };
        };
        let Some(part) = amount(digits, *size) else { return bad("expected a number before the unit") };
        match part.and_then(|part| nanos.checked_add(part)) {
            // Go's durations are signed.
            Some(sum) if i64::try_from(sum).is_ok() => nanos = sum,
            _ => return bad("it is too long, at most 292 years"),
        }
        rest = more;
    }
    Ok(Duration::from_nanos(nanos))
}

/// Returns an amount of a unit in nanoseconds, rounded down. The outer `None` means "not a number", the inner one "too
/// large".
fn amount(digits: &str, size: u64) -> Option<Option<u64>> {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole = if whole.is_empty() { Some(0) } else { whole.parse::<u64>().ok() };
    // The digits behind the 18th are less than a nanosecond of any unit.
    let fraction = &fraction[..fraction.len().min(18)];
    let tenths = fraction.parse::<u128>().unwrap_or(0) * u128::from(size) / 10_u128.pow(fraction.len() as u32);
    let parts = whole.and_then(|whole| whole.checked_mul(size)).zip(u64::try_from(tenths).ok());
    Some(parts.and_then(|(whole, tenths)| whole.checked_add(tenths)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_reads_them() {
        for (text, nanos) in [
            ("0", 0),
            ("+0", 0),
            ("0s", 0),
            ("10s", 10_000_000_000),
            ("1m30s", 90_000_000_000),
            ("500ms", 500_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("3us", 3_000),
            ("3\u{b5}s", 3_000),
            ("7ns", 7),
            ("0.1ns", 0),
            ("1h1m1s1ms1us1ns", 3_661_001_001_001),
            ("0.123456789012345678901234567890s", 123_456_789),
            ("2562047h47m16.854775807s", i64::MAX as u64),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn what_is_invalid_is_rejected_with_the_reason() {
        for (text, reason) in [
            ("", "empty"),
            ("10", "a unit is missing"),
            ("-1s", "negative"),
            ("-0", "negative"),
            ("s", "a number"),
            (".s", "a number"),
            ("1.2.3s", "a number"),
            ("1d", "unknown unit"),
            ("1 s", "unknown unit"),
            ("1s 2s", "unknown unit"),
            ("1S", "unknown unit"),
            ("abc", "unknown unit"),
            ("1s2", "a unit is missing"),
            ("2562047h47m16.854775808s", "too long"),
            ("99999999999999999999h", "too long"),
        ] {
            assert!(parse(text).is_err_and(|e| e.contains(reason)), "{text:?}: {:?}", parse(text));
        }
    }
}
