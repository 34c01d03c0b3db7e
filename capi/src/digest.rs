//! Digest authentication (RFC 7616): the numbers of the interface, and the functions that only calculate.

use std::ffi::{c_char, c_int, c_uint, c_void};

use libc::size_t;
use uncork::auth::{Algorithm, HashValue, Qops};

use crate::{
    strings::bytes_of,
    types::{NO, Result, YES},
};

/// Bits of `enum MHD_DigestAuthAlgo3` and `enum MHD_DigestAuthMultiAlgo3`.
pub(crate) mod algo3 {
    pub(crate) const NON_SESSION: u32 = 1 << 6;
    pub(crate) const SESSION: u32 = 1 << 7;
}

/// Bits of `enum MHD_DigestAuthQOP` and `enum MHD_DigestAuthMultiQOP`.
pub(crate) mod qop {
    pub(crate) const INVALID: u32 = 0;
    pub(crate) const NONE: u32 = 1;
    pub(crate) const AUTH: u32 = 2;
    pub(crate) const AUTH_INT: u32 = 4;
}

/// Returns the bit of an algorithm, of `enum MHD_DigestBaseAlgo`.
pub(crate) fn base(algorithm: Algorithm) -> u32 {
    match algorithm {
        Algorithm::Md5 => 1,
        Algorithm::Sha256 => 2,
        Algorithm::Sha512_256 => 4,
    }
}

/// Returns the one algorithm that a number means, with or without `-sess`.
fn algorithm(algo3: c_uint) -> Option<Algorithm> {
    let bits = algo3 & !(algo3::NON_SESSION | algo3::SESSION);
    Algorithm::ALL.into_iter().find(|algorithm| base(*algorithm) == bits)
}

/// Returns the algorithms that a set allows, in the order in which the original prefers them. Those with `-sess` are
/// not supported.
pub(crate) fn algorithms(malgo3: c_uint) -> impl Iterator<Item = Algorithm> {
    let is_allowed = move |algorithm: &Algorithm| malgo3 & base(*algorithm) != 0;
    Algorithm::ALL.into_iter().filter(move |_| malgo3 & algo3::NON_SESSION != 0).filter(is_allowed)
}

/// Returns what a set of qualities of protection allows; `None` if it allows nothing that is supported.
pub(crate) fn qops(mqop: c_uint) -> Option<Qops> {
    match (mqop & qop::AUTH != 0, mqop & qop::NONE != 0) {
        (true, false) => Some(Qops::Auth),
        (true, true) => Some(Qops::AuthOrNone),
        (false, true) => Some(Qops::None),
        (false, false) => None,
    }
}

/// The set that means a value of the older `enum MHD_DigestAuthAlgorithm`; `None` if it is invalid.
pub(crate) fn of_older(algorithm: c_int) -> Option<c_uint> {
    match algorithm {
        // "Automatic" has always meant MD5.
        0 | 1 => Some(base(Algorithm::Md5) | algo3::NON_SESSION),
        2 => Some(base(Algorithm::Sha256) | algo3::NON_SESSION),
        _ => None,
    }
}

export! {
    /// Returns the number of bytes of a hash; 0 if the algorithm is unknown.
    fn MHD_digest_get_hash_size(algo3: c_uint) -> size_t, or 0; { algorithm(algo3).map_or(0, Algorithm::size) }
}

/// Writes bytes, if there is room for them.
///
/// # Safety
/// `to` must be NULL, or have room for `room` bytes.
unsafe fn write(bytes: &[u8], to: *mut c_void, room: usize) -> Result {
    if to.is_null() || bytes.len() > room {
        return NO;
    }
    // SAFETY: There is room, as the caller guarantees.
    unsafe { to.cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    YES
}

/// # Safety
/// The strings must be NULL, or end with NUL.
unsafe fn user_hash(algo3: c_uint, username: *const c_char, realm: *const c_char) -> Option<HashValue> {
    // SAFETY: The caller guarantees it.
    let (username, realm) = unsafe { (bytes_of(username)?, bytes_of(realm)?) };
    Some(algorithm(algo3)?.user_hash(username, realm))
}

export! {
    /// Writes the hash of `username:realm`, as bytes.
    fn MHD_digest_auth_calc_userhash(
        algo3: c_uint, username: *const c_char, realm: *const c_char, userhash_bin: *mut c_void, bin_buf_size: size_t,
    ) -> Result, or NO; {
        // SAFETY: By the contract of the interface they are NULL, or strings and a buffer of this size.
        unsafe {
            user_hash(algo3, username, realm).map_or(NO, |hash| write(hash.as_bytes(), userhash_bin, bin_buf_size))
        }
    }
}

export! {
    /// Writes the hash of `username:realm`, as hexadecimal digits that end with NUL.
    fn MHD_digest_auth_calc_userhash_hex(
        algo3: c_uint, username: *const c_char, realm: *const c_char, userhash_hex: *mut c_char, hex_buf_size: size_t,
    ) -> Result, or NO; {
        // SAFETY: By the contract of the interface they are NULL, or strings and a buffer of this size.
        unsafe {
            user_hash(algo3, username, realm).map_or(NO, |hash| {
                write((hash.hex() + "\0").as_bytes(), userhash_hex.cast(), hex_buf_size)
            })
        }
    }
}

export! {
    /// Writes the hash of `username:realm:password`, as bytes.
    fn MHD_digest_auth_calc_userdigest(
        algo3: c_uint, username: *const c_char, realm: *const c_char, password: *const c_char,
        userdigest_bin: *mut c_void, bin_buf_size: size_t,
    ) -> Result, or NO; {
        // SAFETY: By the contract of the interface they are NULL, or strings.
        let arguments = unsafe { (bytes_of(username), bytes_of(realm), bytes_of(password)) };
        let (Some(username), Some(realm), Some(password)) = arguments else { return NO };
        let Some(algorithm) = algorithm(algo3) else { return NO };
        let digest = algorithm.user_digest(username, realm, password);
        // SAFETY: By the contract of the interface it is NULL, or a buffer of this size.
        unsafe { write(digest.as_bytes(), userdigest_bin, bin_buf_size) }
    }
}
