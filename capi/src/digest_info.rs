//! What the digest credentials of a request say, before anything is verified.

use std::{
    ffi::{c_char, c_uint},
    ptr::null_mut,
};

use libc::size_t;
use uncork::auth::{DigestCredentials, HashValue, Qop, Username};

use crate::{
    authorization::authorization,
    connection::MHD_Connection,
    digest::{algo3, base, qop},
    returned,
};

/// `struct MHD_DigestAuthUsernameInfo`, with which `struct MHD_DigestAuthInfo` begins.
#[repr(C)]
pub struct MHD_DigestAuthUsernameInfo {
    algo3: c_uint,
    uname_type: c_uint,
    username: *mut c_char,
    username_len: size_t,
    userhash_hex: *mut c_char,
    userhash_hex_len: size_t,
    userhash_bin: *mut u8,
}

/// `struct MHD_DigestAuthInfo`.
#[repr(C)]
pub struct MHD_DigestAuthInfo {
    user: MHD_DigestAuthUsernameInfo,
    opaque: *mut c_char,
    opaque_len: size_t,
    realm: *mut c_char,
    realm_len: size_t,
    qop: c_uint,
    cnonce_len: size_t,
    nc: u32,
}

/// `enum MHD_DigestAuthUsernameType`.
mod user_type {
    pub(super) const MISSING: u32 = 0;
    pub(super) const INVALID: u32 = 1;
    pub(super) const USERHASH: u32 = 2;
    pub(super) const STANDARD: u32 = 4;
    pub(super) const EXTENDED: u32 = 8;
}

/// How the user is named.
struct User {
    algo3: u32,
    kind: u32,
    name: Option<Vec<u8>>,
    /// The digits, and what they mean.
    hash: Option<(Vec<u8>, Vec<u8>)>,
}

impl User {
    fn of(credentials: &DigestCredentials<'_>) -> Self {
        let algo3 = credentials.named_algorithm().map_or(0, |(algorithm, is_session)| {
            base(algorithm) | if is_session { algo3::SESSION } else { algo3::NON_SESSION }
        });
        let (kind, name, hash) = match credentials.username() {
            Username::Missing => (user_type::MISSING, None, None),
            Username::Plain(name) => (user_type::STANDARD, Some(name.into_owned()), None),
            Username::Extended(name) => (user_type::EXTENDED, Some(name.into_bytes()), None),
            Username::Hash(hex) => match HashValue::from_hex(hex) {
                Some(hash) => (user_type::USERHASH, None, Some((hex.to_vec(), hash.as_bytes().to_vec()))),
                None => (user_type::INVALID, None, None),
            },
            _ => (user_type::INVALID, None, None),
        };
        Self { algo3, kind, name, hash }
    }

    /// The texts of the structure, in the order of its members.
    fn texts(&self) -> [Option<&[u8]>; 3] {
        let hash = self.hash.as_ref();
        [self.name.as_deref(), hash.map(|(hex, _)| &hex[..]), hash.map(|(_, bytes)| &bytes[..])]
    }

    fn to_c(&self, [name, hex, bytes]: [*mut u8; 3]) -> MHD_DigestAuthUsernameInfo {
        MHD_DigestAuthUsernameInfo {
            algo3: self.algo3,
            uname_type: self.kind,
            username: name.cast(),
            username_len: self.name.as_ref().map_or(0, Vec::len),
            userhash_hex: hex.cast(),
            userhash_hex_len: self.hash.as_ref().map_or(0, |(hex, _)| hex.len()),
            userhash_bin: bytes,
        }
    }
}

export! {
    /// Returns what the credentials say, in memory to be freed by `MHD_free`; NULL if there are none.
    fn MHD_digest_auth_get_request_info3(connection: *const MHD_Connection) -> *mut MHD_DigestAuthInfo,
        or null_mut(); {
        // SAFETY: By the contract of the interface it is NULL or a connection.
        let value = unsafe { MHD_Connection::of_c(connection) }.and_then(|connection| authorization(connection).ok());
        let found = value.as_ref().and_then(|value| DigestCredentials::parse(value).ok());
        let Some(found) = found else { return null_mut() };
        let (user, opaque, realm) = (User::of(&found), found.opaque(), found.realm());
        let [name, hex, bytes] = user.texts();
        returned::with_texts([name, hex, bytes, opaque.as_deref(), realm.as_deref()], |texts| MHD_DigestAuthInfo {
            user: user.to_c([texts[0], texts[1], texts[2]]),
            opaque: texts[3].cast(),
            opaque_len: opaque.as_ref().map_or(0, |text| text.len()),
            realm: texts[4].cast(),
            realm_len: realm.as_ref().map_or(0, |text| text.len()),
            qop: match found.qop() {
                Qop::None => qop::NONE,
                Qop::Auth => qop::AUTH,
                Qop::AuthInt => qop::AUTH_INT,
                _ => qop::INVALID,
            },
            cnonce_len: found.cnonce_len(),
            nc: found.nonce_count().unwrap_or(0),
        })
    }
}

/// Returns how the user is named; `None` if there are no credentials, or none that name one.
fn user(connection: &MHD_Connection) -> Option<User> {
    let value = authorization(connection).ok()?;
    let user = User::of(&DigestCredentials::parse(&value).ok()?);
    (user.kind > user_type::INVALID).then_some(user)
}

export! {
    /// Returns how the user is named, in memory to be freed by `MHD_free`; NULL if no user is.
    fn MHD_digest_auth_get_username3(connection: *const MHD_Connection) -> *mut MHD_DigestAuthUsernameInfo,
        or null_mut(); {
        // SAFETY: By the contract of the interface it is NULL or a connection.
        let user = unsafe { MHD_Connection::of_c(connection) }.and_then(user);
        user.map_or(null_mut(), |user| returned::with_texts(user.texts(), |texts| user.to_c(texts)))
    }
}

export! {
    /// Returns the name of the user, in memory to be freed by `MHD_free`; NULL if there is none, or only its hash.
    fn MHD_digest_auth_get_username(connection: *const MHD_Connection) -> *mut c_char, or null_mut(); {
        // SAFETY: By the contract of the interface it is NULL or a connection.
        let user = unsafe { MHD_Connection::of_c(connection) }.and_then(user);
        user.and_then(|user| user.name).map_or(null_mut(), |name| returned::text(&name))
    }
}
