//! Verifying the digest credentials of a request.

use std::{
    ffi::{c_char, c_int, c_uint, c_void},
    slice,
    time::{Duration, Instant},
};

use libc::size_t;
use uncork::auth::{Account, Algorithm, Digest, DigestCredentials, DigestError, DigestTarget, HashValue};

use crate::{
    authorization::authorization,
    connection::MHD_Connection,
    digest::{algorithms, of_older, qop, qops},
    strings::bytes_of,
    types::{NO, YES},
};

/// `enum MHD_DigestAuthResult`.
mod result {
    pub(super) const OK: i32 = 1;
    pub(super) const ERROR: i32 = 0;
    pub(super) const WRONG_HEADER: i32 = -1;
    pub(super) const WRONG_USERNAME: i32 = -2;
    pub(super) const WRONG_REALM: i32 = -3;
    pub(super) const WRONG_URI: i32 = -4;
    pub(super) const WRONG_QOP: i32 = -5;
    pub(super) const WRONG_ALGO: i32 = -6;
    pub(super) const TOO_LARGE: i32 = -15;
    pub(super) const NONCE_STALE: i32 = -17;
    pub(super) const NONCE_OTHER_COND: i32 = -18;
    pub(super) const NONCE_WRONG: i32 = -33;
    pub(super) const RESPONSE_WRONG: i32 = -34;
}

/// What the older functions return for a nonce that is not accepted.
const INVALID_NONCE: c_int = -1;

fn number(result: Result<(), DigestError>) -> c_int {
    match result {
        Ok(()) => result::OK,
        Err(error) => match error {
            DigestError::NoCredentials | DigestError::Malformed => result::WRONG_HEADER,
            DigestError::TooLarge => result::TOO_LARGE,
            DigestError::WrongUser => result::WRONG_USERNAME,
            DigestError::WrongRealm => result::WRONG_REALM,
            DigestError::WrongUri => result::WRONG_URI,
            DigestError::WrongQop => result::WRONG_QOP,
            DigestError::WrongAlgorithm => result::WRONG_ALGO,
            DigestError::NonceStale => result::NONCE_STALE,
            DigestError::NonceOtherConditions => result::NONCE_OTHER_COND,
            DigestError::NonceWrong => result::NONCE_WRONG,
            DigestError::ResponseWrong => result::RESPONSE_WRONG,
            _ => result::ERROR,
        },
    }
}

/// What a program accepts.
struct Accepted<'a> {
    realm: &'a [u8],
    account: Account,
    /// Seconds, and uses, of a nonce; 0 for the daemon's default.
    nonce_timeout: c_uint,
    max_nc: u32,
    mqop: c_uint,
    malgo3: c_uint,
}

/// Verifies the credentials of the request.
fn check(connection: &MHD_Connection, accepted: &Accepted<'_>) -> c_int {
    let Some(nonces) = connection.shared.auth.nonces() else {
        connection.log("cannot verify a nonce: there are no random bytes for its key");
        return result::ERROR;
    };
    if algorithms(accepted.malgo3).next().is_none() {
        return result::WRONG_ALGO;
    }
    let Some(qops) = qops(accepted.mqop) else { return result::WRONG_QOP };
    let or = |number: u32, default: u32| if number == 0 { default } else { number };
    let auth = &connection.shared.auth;
    let digest = Digest::with_nonces(accepted.realm, nonces)
        .algorithms(algorithms(accepted.malgo3))
        .qops(qops)
        .nonce_timeout(Duration::from_secs(or(accepted.nonce_timeout, auth.nonce_timeout).into()))
        .max_nonce_count(or(accepted.max_nc, auth.max_nonce_count));
    let verified = authorization(connection).and_then(|value| {
        let credentials = DigestCredentials::parse(&value)?;
        let state = connection.state();
        let verified = state.with_target(|method, target| {
            let (method, target) = (method.as_bytes(), target.as_bytes());
            let target = DigestTarget { method, target, address: connection.peer.ip() };
            digest.verify(&credentials, &target, &accepted.account, now())
        });
        verified.unwrap_or(Err(DigestError::NoCredentials))
    });
    number(verified)
}

#[expect(clippy::disallowed_methods, reason = "a nonce is valid until an instant of this clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

export! {
    /// Verifies the credentials of the request against a password.
    fn MHD_digest_auth_check3(
        connection: *const MHD_Connection, realm: *const c_char, username: *const c_char, password: *const c_char,
        nonce_timeout: c_uint, max_nc: u32, mqop: c_uint, malgo3: c_uint,
    ) -> c_int, or result::ERROR; {
        // SAFETY: By the contract of the interface they are NULL, or a connection and strings.
        let arguments = unsafe {
            (MHD_Connection::of_c(connection), bytes_of(realm), bytes_of(username), bytes_of(password))
        };
        let (Some(connection), Some(realm), Some(username), Some(password)) = arguments else {
            return result::ERROR;
        };
        let account = Account::with_password(username, password);
        check(connection, &Accepted { realm, account, nonce_timeout, max_nc, mqop, malgo3 })
    }
}

export! {
    /// Verifies the credentials of the request against a user digest.
    fn MHD_digest_auth_check_digest3(
        connection: *const MHD_Connection, realm: *const c_char, username: *const c_char, userdigest: *const c_void,
        userdigest_size: size_t, nonce_timeout: c_uint, max_nc: u32, mqop: c_uint, malgo3: c_uint,
    ) -> c_int, or result::ERROR; {
        // SAFETY: By the contract of the interface they are NULL, or a connection and strings.
        let arguments = unsafe { (MHD_Connection::of_c(connection), bytes_of(realm), bytes_of(username)) };
        let (Some(connection), Some(realm), Some(username)) = arguments else { return result::ERROR };
        // A digest is for one algorithm.
        let only: Vec<Algorithm> = algorithms(malgo3).collect();
        let [only] = only[..] else {
            connection.log("cannot verify by a user digest: expected one algorithm");
            return result::ERROR;
        };
        if userdigest.is_null() || userdigest_size != only.size() {
            connection.log(&format!("cannot verify by a user digest: expected {} bytes", only.size()));
            return result::ERROR;
        }
        // SAFETY: By the contract of the interface it has as many bytes.
        let digest = unsafe { slice::from_raw_parts(userdigest.cast::<u8>(), userdigest_size) };
        let Some(digest) = HashValue::from_bytes(digest) else { return result::ERROR };
        let account = Account::with_digest(username, digest);
        check(connection, &Accepted { realm, account, nonce_timeout, max_nc, mqop, malgo3 })
    }
}

/// Returns a result as the older functions do.
fn older(result: c_int) -> c_int {
    match result {
        result::OK => YES,
        result::NONCE_STALE | result::NONCE_OTHER_COND | result::NONCE_WRONG => INVALID_NONCE,
        _ => NO,
    }
}

/// What the older functions accept: as they always did, clients without `qop`, too.
const OLDER_QOPS: c_uint = qop::AUTH | qop::NONE;

export! {
    /// Like `MHD_digest_auth_check3`, with the defaults of the daemon, and an algorithm.
    fn MHD_digest_auth_check2(
        connection: *const MHD_Connection, realm: *const c_char, username: *const c_char, password: *const c_char,
        nonce_timeout: c_uint, algo: c_int,
    ) -> c_int, or NO; {
        let Some(malgo3) = of_older(algo) else { return NO };
        // SAFETY: By the contract of the interface they are NULL, or a connection and strings.
        older(unsafe {
            MHD_digest_auth_check3(connection, realm, username, password, nonce_timeout, 0, OLDER_QOPS, malgo3)
        })
    }
}

export! {
    /// Like `MHD_digest_auth_check2`, with MD5.
    fn MHD_digest_auth_check(
        connection: *const MHD_Connection, realm: *const c_char, username: *const c_char, password: *const c_char,
        nonce_timeout: c_uint,
    ) -> c_int, or NO; {
        // SAFETY: By the contract of the interface they are NULL, or a connection and strings.
        unsafe { MHD_digest_auth_check2(connection, realm, username, password, nonce_timeout, 1) }
    }
}

export! {
    /// Like `MHD_digest_auth_check_digest3`, with the defaults of the daemon, and an algorithm.
    fn MHD_digest_auth_check_digest2(
        connection: *const MHD_Connection, realm: *const c_char, username: *const c_char, digest: *const u8,
        digest_size: size_t, nonce_timeout: c_uint, algo: c_int,
    ) -> c_int, or NO; {
        let Some(malgo3) = of_older(algo) else { return NO };
        let digest = digest.cast();
        // SAFETY: By the contract of the interface they are NULL, or a connection, strings and as many bytes.
        older(unsafe {
            MHD_digest_auth_check_digest3(
                connection, realm, username, digest, digest_size, nonce_timeout, 0, OLDER_QOPS, malgo3,
            )
        })
    }
}

export! {
    /// Like `MHD_digest_auth_check_digest2`, with MD5.
    fn MHD_digest_auth_check_digest(
        connection: *const MHD_Connection, realm: *const c_char, username: *const c_char, digest: *const u8,
        nonce_timeout: c_uint,
    ) -> c_int, or NO; {
        let size = Algorithm::Md5.size();
        // SAFETY: By the contract of the interface they are NULL, or a connection, strings and as many bytes.
        unsafe { MHD_digest_auth_check_digest2(connection, realm, username, digest, size, nonce_timeout, 1) }
    }
}
