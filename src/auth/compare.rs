//! Comparing secrets.

use subtle::ConstantTimeEq;

/// Returns `true` if the two are equal, in a time that depends on the lengths only: by measuring it, a client learns
/// nothing about a secret but its length.
///
/// ```
/// use uncork::auth::constant_time_eq;
/// assert!(constant_time_eq(b"secret", b"secret") && !constant_time_eq(b"secret", b"Secret"));
/// ```
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}
