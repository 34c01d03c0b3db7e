//! Basic authentication (RFC 7617).

use std::{
    ffi::{c_char, c_int, c_uint},
    ptr::null_mut,
};

use libc::size_t;
use uncork::auth::{Basic, BasicCredentials};

use crate::{
    authorization::authorization,
    connection::MHD_Connection,
    request::queue,
    response::MHD_Response,
    response_headers::set_challenge,
    returned,
    strings::bytes_of,
    types::{NO, Result},
};

const UNAUTHORIZED: c_uint = 401;

/// `struct MHD_BasicAuthInfo`.
#[repr(C)]
pub struct MHD_BasicAuthInfo {
    username: *mut c_char,
    username_len: size_t,
    password: *mut c_char,
    password_len: size_t,
}

fn credentials(connection: &MHD_Connection) -> Option<BasicCredentials> {
    BasicCredentials::parse(&authorization(connection).ok()?)
}

export! {
    /// Returns name and password, in memory to be freed by `MHD_free`; NULL if the request has none.
    fn MHD_basic_auth_get_username_password3(connection: *const MHD_Connection) -> *mut MHD_BasicAuthInfo,
        or null_mut(); {
        // SAFETY: By the contract of the interface it is NULL or a connection.
        let found = unsafe { MHD_Connection::of_c(connection) }.and_then(credentials);
        let Some(found) = found else { return null_mut() };
        returned::with_texts([Some(found.name()), found.password()], |[username, password]| MHD_BasicAuthInfo {
            username: username.cast(),
            username_len: found.name().len(),
            password: password.cast(),
            password_len: found.password().map_or(0, <[u8]>::len),
        })
    }
}

export! {
    /// Returns the name, and writes the password to `*password`, each to be freed by `MHD_free`. NULL if the request
    /// does not have both.
    fn MHD_basic_auth_get_username_password(connection: *const MHD_Connection, password: *mut *mut c_char)
        -> *mut c_char, or null_mut(); {
        let write = |text| {
            if !password.is_null() {
                // SAFETY: By the contract of the interface it can be written.
                unsafe { password.write(text) };
            }
        };
        write(null_mut());
        // SAFETY: By the contract of the interface it is NULL or a connection.
        let found = unsafe { MHD_Connection::of_c(connection) }.and_then(credentials);
        // A program that gets a name compares the password without asking whether there is one.
        let Some((found, own)) = found.as_ref().and_then(|found| Some((found, found.password()?))) else {
            return null_mut();
        };
        let name = returned::text(found.name());
        if !name.is_null() && !password.is_null() {
            let text = returned::text(own);
            if text.is_null() {
                // SAFETY: It was allocated above, and not given away.
                unsafe { libc::free(name.cast()) };
                return null_mut();
            }
            write(text);
        }
        name
    }
}

/// Adds the challenge to a response, and queues it as a 401.
///
/// # Safety
/// The pointers must be NULL, or a connection, a string that ends with NUL and a response.
unsafe fn require(
    connection: *const MHD_Connection,
    realm: *const c_char,
    utf8: bool,
    response: *const MHD_Response,
) -> Result {
    // SAFETY: The caller guarantees it.
    let arguments = unsafe { (MHD_Connection::of_c(connection), bytes_of(realm), MHD_Response::of_c(response)) };
    let (Some(connection), Some(realm), Some(response)) = arguments else { return NO };
    if set_challenge(response, &Basic::new(realm).utf8(utf8).challenge()) == NO {
        connection.log("cannot ask for a password: invalid realm: expected no control bytes");
        return NO;
    }
    queue(connection, UNAUTHORIZED, response)
}

export! {
    /// Queues a response as a 401 that asks for name and password.
    fn MHD_queue_basic_auth_required_response3(
        connection: *const MHD_Connection, realm: *const c_char, prefer_utf8: c_int, response: *const MHD_Response,
    ) -> Result, or NO; {
        // SAFETY: By the contract of the interface they are NULL, or a connection, a string and a response.
        unsafe { require(connection, realm, prefer_utf8 != NO, response) }
    }
}

export! {
    /// Like `MHD_queue_basic_auth_required_response3`, without asking for UTF-8.
    fn MHD_queue_basic_auth_fail_response(
        connection: *const MHD_Connection, realm: *const c_char, response: *const MHD_Response,
    ) -> Result, or NO; {
        // SAFETY: By the contract of the interface they are NULL, or a connection, a string and a response.
        unsafe { require(connection, realm, false, response) }
    }
}
