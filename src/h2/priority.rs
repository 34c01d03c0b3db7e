//! The urgency of a request (RFC 9218 §4.1).
//!
//! ```text
//!   priority: u=1, i      0: most urgent │ 3: without the field │ 7: in the background
//! ```

/// The urgency of a request without the field, or with one that is not understood.
pub(super) const DEFAULT: u8 = 3;

/// Returns the urgency that a client gives a request by this value of `Priority`: 0 is the most urgent, 7 the least.
pub(super) fn urgency(value: &[u8]) -> u8 {
    let members = value.split(|b| *b == b',');
    // RFC 8941 §3.2: of a key that occurs twice, the last counts.
    let last = members.filter_map(|member| member.trim_ascii().strip_prefix(b"u=")).next_back();
    match last {
        Some([digit @ b'0'..=b'7']) | Some([digit @ b'0'..=b'7', b';', ..]) => digit - b'0',
        _ => DEFAULT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_urgency_is_read_from_the_field() {
        for (value, want) in [
            ("u=0", 0),
            ("u=7, i", 7),
            ("i, u=5", 5),
            ("u=1, u=6", 6),
            ("u=2;x=y", 2),
            ("i", 3),
            ("u=8", 3),
            ("u=-1", 3),
            ("u=12", 3),
            ("", 3),
        ] {
            assert_eq!(urgency(value.as_bytes()), want, "{value:?}");
        }
    }
}
