//! Functions that are not available yet: each fails by its documented value, and says so in the log.

use std::{
    ffi::{c_char, c_void},
    ptr::null_mut,
};

use crate::{
    connection::MHD_Connection,
    types::{NO, Result},
};

#[cold]
fn unavailable(connection: *const MHD_Connection, name: &str) {
    // SAFETY: By the contract of the interface it is NULL or a connection.
    if let Some(connection) = unsafe { MHD_Connection::of_c(connection) } {
        connection.log(&format!("{name} is not available yet"));
    }
}

export! {
    /// Would return the name and the password of basic authentication.
    fn MHD_basic_auth_get_username_password(connection: *const MHD_Connection, password: *mut *mut c_char)
        -> *mut c_char, or null_mut(); {
        unavailable(connection, "MHD_basic_auth_get_username_password");
        if !password.is_null() {
            // SAFETY: By the contract of the interface it can be written.
            unsafe { password.write(null_mut()) };
        }
        null_mut()
    }
}

export! {
    /// Would require basic authentication.
    fn MHD_queue_basic_auth_fail_response(
        connection: *const MHD_Connection, _realm: *const c_char, _response: *const c_void,
    ) -> Result, or NO; {
        unavailable(connection, "MHD_queue_basic_auth_fail_response");
        NO
    }
}
