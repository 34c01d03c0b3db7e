//! Memory that a function returns, for the program to free it by `MHD_free`.

use std::{ffi::c_char, ptr::null_mut};

/// Returns a structure in memory of malloc, and behind it, in the same memory, the texts that it points to, each with a
/// NUL; NULL if there is no memory. `make` gets the addresses of the texts, NULL for `None`.
pub(crate) fn with_texts<T, const N: usize>(texts: [Option<&[u8]>; N], make: impl FnOnce([*mut u8; N]) -> T) -> *mut T {
    let len: usize = texts.iter().flatten().map(|text| text.len() + 1).sum();
    // SAFETY: It allocates memory, which is aligned for any type of C.
    let block = unsafe { libc::malloc(size_of::<T>() + len) }.cast::<u8>();
    if block.is_null() {
        return null_mut();
    }
    let mut at = size_of::<T>();
    let places = texts.map(|text| {
        let Some(text) = text else { return null_mut() };
        // SAFETY: The memory has room for the structure and for each text with its NUL, one behind the other.
        let place = unsafe {
            let place = block.add(at);
            place.copy_from_nonoverlapping(text.as_ptr(), text.len());
            place.add(text.len()).write(0);
            place
        };
        at += text.len() + 1;
        place
    });
    // SAFETY: The memory begins with room for the structure.
    unsafe { block.cast::<T>().write(make(places)) };
    block.cast()
}

/// Returns a text with a NUL in memory of malloc; NULL if there is no memory.
pub(crate) fn text(text: &[u8]) -> *mut c_char {
    // A structure of no size: the text begins where the memory does.
    with_texts([Some(text)], |_| ()).cast()
}
