//! Strings of C, percent-encoding, and the functions of the interface that are about text only.

use std::{
    ffi::{CStr, CString, c_char, c_int, c_uint, c_void},
    sync::OnceLock,
};

use libc::size_t;

use crate::types::{NO, Result, VERSION, YES};

/// Returns the bytes of a C string; `None` for NULL.
///
/// # Safety
/// A pointer that is not NULL must point to a string that ends with NUL and lives for `'a`.
pub(crate) unsafe fn bytes_of<'a>(text: *const c_char) -> Option<&'a [u8]> {
    // SAFETY: The caller guarantees a pointer that is not NULL.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_bytes())
}

/// Decodes percent-encoding in place and returns the new length. What is not two hexadecimal digits stays as it is.
pub(crate) fn unescape_in_place(text: &mut [u8]) -> usize {
    let decoded: Vec<u8> = percent_encoding::percent_decode(text).collect();
    // Decoding makes nothing longer.
    text.iter_mut().zip(&decoded).for_each(|(place, byte)| *place = *byte);
    decoded.len()
}

export! {
    /// Decodes percent-encoding in place and returns the new length.
    fn MHD_http_unescape(text: *mut c_char) -> size_t, or 0; {
        if text.is_null() {
            return 0;
        }
        // SAFETY: By the contract of the interface this is a string that ends with NUL, and the caller lets us change
        // it.
        let bytes = unsafe { std::slice::from_raw_parts_mut(text.cast::<u8>(), libc::strlen(text) + 1) };
        let Some((end, text)) = bytes.split_last_mut() else { return 0 };
        let len = unescape_in_place(text);
        *text.get_mut(len).unwrap_or(end) = 0;
        len
    }
}

export! {
    /// Frees memory that a function of the library has returned.
    fn MHD_free(memory: *mut c_void), or (); {
        // SAFETY: What the library returns to be freed was allocated by malloc; NULL is allowed.
        unsafe { libc::free(memory) };
    }
}

export! {
    /// Returns the version of the interface as text.
    fn MHD_get_version() -> *const c_char, or std::ptr::null(); { c"1.0.1".as_ptr() }
}

export! {
    /// Returns the version of the interface as a number.
    fn MHD_get_version_bin() -> u32, or 0; { VERSION }
}

/// Returns the reason phrase of each status, as strings of C that live as long as the process.
fn reason(status: c_uint) -> Option<&'static CStr> {
    static PHRASES: OnceLock<Vec<CString>> = OnceLock::new();
    let phrases = PHRASES.get_or_init(|| {
        let phrase = |status| match status {
            306 => "Switch Proxy",
            449 => "Reply With",
            450 => "Blocked by Windows Parental Controls",
            509 => "Bandwidth Limit Exceeded",
            _ => uncork::h1::reason(status),
        };
        (100..600).map(|status| CString::new(phrase(status)).unwrap_or_default()).collect()
    });
    // The highest bit, `MHD_ICY_FLAG`, is no part of the status.
    let index = usize::try_from(status & !(1 << 31)).ok()?.checked_sub(100)?;
    phrases.get(index).map(CString::as_c_str).filter(|phrase| !phrase.is_empty())
}

export! {
    /// Returns the reason phrase of a status; "Unknown" if it has none.
    fn MHD_get_reason_phrase_for(status: c_uint) -> *const c_char, or c"Unknown".as_ptr(); {
        reason(status).unwrap_or(c"Unknown").as_ptr()
    }
}

export! {
    /// Returns the length of the reason phrase of a status; 0 if it has none.
    fn MHD_get_reason_phrase_len_for(status: c_uint) -> size_t, or 0; {
        reason(status).map_or(0, |phrase| phrase.to_bytes().len())
    }
}

export! {
    /// Returns `MHD_YES` if the library has this feature.
    fn MHD_is_feature_supported(feature: c_int) -> Result, or NO; {
        // Messages, TLS, keys with a password, IPv6 and IPv6 only, poll, epoll, basic and digest authentication, the
        // post processor, large files, names of threads, upgrades, one descriptor for many responses, the port that was
        // chosen, SIGPIPE suppressed, sendfile, threads, cookies, digests as in RFC 2069, by MD5, SHA-256 and
        // SHA-512/256, user hashes, descriptors above FD_SETSIZE.
        match feature {
            1 | 2 | 4..=7 | 11..=22 | 24..=28 | 31 | 34 => YES,
            _ => NO,
        }
    }
}
