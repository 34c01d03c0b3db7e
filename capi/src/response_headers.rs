//! The functions for the header and trailer fields of a response.

use std::{
    ffi::{CString, c_char, c_int, c_void},
    ptr::null,
    sync::atomic::Ordering,
};

use uncork::h1::{is_field_value, is_token, write::is_written_here};

use crate::{
    response::MHD_Response,
    response_fields::Field,
    shared::lock,
    strings::bytes_of,
    types::{KeyValueIterator, NO, Result, YES, kind, response_flag, to_int},
};

/// Adds a field, if it is one that a response may have.
///
/// # Safety
/// The pointers must be NULL, or a response and strings that end with NUL.
unsafe fn add(response: *const MHD_Response, kind: c_int, name: *const c_char, value: *const c_char) -> Result {
    // SAFETY: The caller guarantees it.
    let arguments = unsafe { (MHD_Response::of_c(response), bytes_of(name), bytes_of(value)) };
    let (Some(response), Some(name), Some(value)) = arguments else { return NO };
    match checked(response, kind, name, value) {
        Some(field) => push(response, field, |_| false),
        None => NO,
    }
}

/// Adds a challenge, in place of an earlier one of the same scheme: a program may queue one response several times.
pub(crate) fn set_challenge(response: &MHD_Response, challenge: &[u8]) -> Result {
    const NAME: &str = "WWW-Authenticate";
    let scheme = |value: &[u8]| value.split(|byte| *byte == b' ').next().map(<[u8]>::to_ascii_lowercase);
    let is_earlier = |field: &Field| {
        field.kind == kind::HEADER
            && field.text.eq_ignore_ascii_case(NAME)
            && scheme(field.value.as_bytes()) == scheme(challenge)
    };
    match checked(response, kind::HEADER, NAME.as_bytes(), challenge) {
        Some(field) => push(response, field, is_earlier),
        None => NO,
    }
}

/// Returns a field if a response may have it.
fn checked(response: &MHD_Response, kind: c_int, name: &[u8], value: &[u8]) -> Option<Field> {
    let is_valid = |name: &str| is_token(name.as_bytes()) && !value.is_empty() && is_field_value(value.trim_ascii());
    let name = std::str::from_utf8(name).ok().filter(|name| is_valid(name))?;
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    let allows_length = response.flags.load(Ordering::Relaxed) & response_flag::INSANE_LENGTH != 0;
    if (is("content-length") && !allows_length)
        || (is("transfer-encoding") && !value.trim_ascii().eq_ignore_ascii_case(b"chunked"))
        || (kind == kind::FOOTER && is_written_here(name))
    {
        return None;
    }
    Field::new(kind, name, value)
}

/// Adds a field in place of those that `replaces` names, and of an earlier date.
fn push(response: &MHD_Response, field: Field, replaces: impl Fn(&Field) -> bool) -> Result {
    let mut fields = lock(&response.fields);
    let is_date = |field: &Field| field.text.eq_ignore_ascii_case("date");
    let is_new_date = is_date(&field);
    fields.list.retain(|other| !(replaces(other) || (is_new_date && is_date(other))));
    fields.list.push(field);
    fields.made = None;
    YES
}

export! {
    /// Adds a header field.
    fn MHD_add_response_header(response: *const MHD_Response, name: *const c_char, value: *const c_char) -> Result,
        or NO; {
        // SAFETY: By the contract of the interface they are NULL, or a response and strings.
        unsafe { add(response, kind::HEADER, name, value) }
    }
}

export! {
    /// Adds a trailer field, which is sent behind a chunked body.
    fn MHD_add_response_footer(response: *const MHD_Response, name: *const c_char, value: *const c_char) -> Result,
        or NO; {
        // SAFETY: By the contract of the interface they are NULL, or a response and strings.
        unsafe { add(response, kind::FOOTER, name, value) }
    }
}

export! {
    /// Removes the first field with this name and value.
    fn MHD_del_response_header(response: *const MHD_Response, name: *const c_char, value: *const c_char) -> Result,
        or NO; {
        // SAFETY: By the contract of the interface they are NULL, or a response and strings.
        let arguments = unsafe { (MHD_Response::of_c(response), bytes_of(name), bytes_of(value)) };
        let (Some(response), Some(name), Some(value)) = arguments else { return NO };
        let mut fields = lock(&response.fields);
        let is_it = |field: &Field| field.name.as_bytes().eq_ignore_ascii_case(name) && field.value.as_bytes() == value;
        let Some(index) = fields.list.iter().position(is_it) else { return NO };
        fields.list.remove(index);
        fields.made = None;
        YES
    }
}

export! {
    /// Calls a function with each field; returns how many there were.
    fn MHD_get_response_headers(response: *const MHD_Response, iterator: Option<KeyValueIterator>, cls: *mut c_void)
        -> c_int, or 0; {
        // SAFETY: By the contract of the interface it is NULL or a response.
        let Some(response) = (unsafe { MHD_Response::of_c(response) }) else { return 0 };
        // Copies: the function may change the fields.
        let copy = |field: &Field| (field.kind, field.name.clone(), field.value.clone());
        let fields: Vec<(c_int, CString, CString)> = lock(&response.fields).list.iter().map(copy).collect();
        let Some(iterator) = iterator else { return to_int(fields.len()) };
        let goes_on = |(kind, name, value): &(c_int, CString, CString)| {
            // SAFETY: The program has passed this function with this pointer. The strings live during the call.
            unsafe { iterator(cls, *kind, name.as_ptr(), value.as_ptr()) != NO }
        };
        to_int(fields.iter().position(|field| !goes_on(field)).map_or(fields.len(), |last| last + 1))
    }
}

export! {
    /// Returns the value of the first field with this name; NULL if there is none.
    fn MHD_get_response_header(response: *const MHD_Response, name: *const c_char) -> *const c_char, or null(); {
        // SAFETY: By the contract of the interface they are NULL, or a response and a string.
        let (Some(response), Some(name)) = (unsafe { (MHD_Response::of_c(response), bytes_of(name)) }) else {
            return null();
        };
        let fields = lock(&response.fields);
        // The value does not move when others are added; it is freed when the program removes it.
        let found = fields.list.iter().find(|field| field.name.as_bytes().eq_ignore_ascii_case(name));
        found.map_or(null(), |field| field.value.as_ptr())
    }
}
