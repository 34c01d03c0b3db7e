//! Compares names of fields as applications do.
//!
//! CGI and similar interfaces (WSGI, Rack, PHP) turn `X-Forwarded-For` and `X_Forwarded_For` into one variable,
//! `HTTP_X_FORWARDED_FOR`. A proxy sets the first; a client that also sends the second could override it. So a field
//! that a service sets is dropped in every spelling when it comes from a client.

/// Returns `true` if an application may take the names `a` and `b` for the same: `-` equals `_`, and case does not
/// matter.
pub(super) fn same_field(a: &str, b: &str) -> bool {
    a.len() == b.len() && starts_as(a, b)
}

/// Returns `true` if `name` begins with `prefix`, by the rule of [`same_field`].
pub(super) fn starts_as(name: &str, prefix: &str) -> bool {
    let key = |b: u8| if b == b'_' { b'-' } else { b.to_ascii_lowercase() };
    name.len() >= prefix.len() && name.bytes().zip(prefix.bytes()).all(|(a, b)| key(a) == key(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_same_in_every_spelling() {
        for name in ["X-Forwarded-For", "X_Forwarded_For", "x-forwarded_for", "X_FORWARDED-FOR"] {
            assert!(same_field(name, "x-forwarded-for"), "{name}");
            assert!(same_field("X_Forwarded-For", name), "{name}");
            assert!(starts_as(name, "x-forwarded-"), "{name}");
        }
        for name in ["X-Forwarded", "X-Forwarded-Fo", "X-Forwarded-For-", "XForwardedFor", "X.Forwarded.For", ""] {
            assert!(!same_field(name, "x-forwarded-for"), "{name}");
        }
        assert!(!starts_as("x-forward", "x-forwarded-"));
    }
}
