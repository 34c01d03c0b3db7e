//! What must hold for every Authorization field.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use super::{Account, Algorithm, BasicCredentials, Digest, DigestCredentials, DigestTarget, Nonces, Qops, params};
use crate::h1::is_field_value;

/// Reads `data` as an Authorization field, and as a value to be quoted.
///
/// # Panics
/// If something does not hold.
pub fn auth(data: &[u8], now: Instant) {
    static NONCES: OnceLock<Option<Arc<Nonces>>> = OnceLock::new();
    let Some(nonces) = NONCES.get_or_init(|| Nonces::new(16).ok().map(Arc::new)) else { return };

    if let Some(found) = BasicCredentials::parse(data) {
        let name = found.name().len() + found.password().map_or(0, |password| password.len() + 1);
        assert!(name * 4 <= data.len() * 3, "decoded from nothing");
        assert!(found.password().is_none_or(|password| found.is(found.name(), password)));
        assert!(!found.name().contains(&b':'));
    }

    if let Ok(found) = DigestCredentials::parse(data) {
        let _ = (found.username(), found.user(), found.realm(), found.opaque(), found.qop(), format!("{found:?}"));
        assert!(found.nonce_count() != Some(0) && found.cnonce_len() <= data.len());
        assert!(found.algorithm().is_none() || found.named_algorithm().is_some());
        // Its realm and name are the server's, but its nonce was not made here.
        let realm = found.realm().unwrap_or_default();
        let user = found.user().unwrap_or_default();
        let target = DigestTarget { method: b"GET", target: b"/", address: None };
        let digest = Digest::with_nonces(realm, nonces.clone()).algorithms(Algorithm::ALL).qops(Qops::AuthOrNone);
        let account = Account::with_password(user.as_bytes(), "secret");
        assert!(digest.verify(&found, &target, &account, now).is_err(), "accepted: {}", data.escape_ascii());
    }

    // What is quoted is read back, and a challenge is a field value if its parts are.
    let mut challenge = b"Digest".to_vec();
    params::push_quoted(&mut challenge, "realm", data);
    params::push_token(&mut challenge, "stale", "true");
    assert_eq!(is_field_value(&challenge), is_field_value(data));
    let list = params::after_scheme(&challenge, "Digest").unwrap_or_default();
    let values: Result<Vec<_>, _> = params::Params::new(list).collect();
    match values {
        Ok(values) => assert!(values.len() == 2 && *values[0].1.unescaped() == *data && values[1].1.raw() == b"true"),
        Err(_) => assert!(!is_field_value(data), "not read back: {}", data.escape_ascii()),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the time does not matter")]
mod tests {
    use super::*;

    /// Fields made of pieces that mean something, put together at random, for machines without a fuzzer.
    #[test]
    fn it_holds_for_random_fields() {
        const PIECES: &[&[u8]] = &[
            b"Digest ",
            b"Basic ",
            b"username",
            b"username*",
            b"userhash",
            b"realm",
            b"opaque",
            b"algorithm",
            b"qop",
            b"nc",
            b"cnonce",
            b"nonce",
            b"uri",
            b"response",
            b"=",
            b"=",
            b"=",
            b",",
            b", ",
            b"\"",
            b"\"",
            b"\\",
            b" ",
            b"\t",
            b"a",
            b"true",
            b"auth",
            b"MD5",
            b"SHA-256-sess",
            b"00000001",
            b"UTF-8''%C3%A4",
            b"%",
            b"'",
            b"*",
            b"/",
            b"QTpC",
            b"QQ==",
            b":",
            b"\0",
            b"\xff",
            b"\xc3\xa4",
            b"0123456789abcdef0123456789abcdef",
        ];
        let (mut state, now) = (1_u64, Instant::now());
        let mut random = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % n
        };
        for _ in 0..20_000 {
            let mut field = PIECES[random(2)].to_vec();
            for _ in 0..random(40) {
                field.extend_from_slice(PIECES[random(PIECES.len())]);
            }
            auth(&field, now);
        }
    }
}
