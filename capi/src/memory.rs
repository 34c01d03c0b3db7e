//! Memory of the program that is sent as a body, and its release.

use std::{ffi::c_void, slice};

use libc::size_t;

use crate::types::{FromC, Release};

/// `struct MHD_IoVec`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct IoVec {
    pub(crate) base: *const c_void,
    pub(crate) len: size_t,
}

/// How the memory is released.
pub(crate) enum Owner {
    Free(FromC<c_void>),
    Callback(Release, FromC<c_void>),
}

impl Drop for Owner {
    fn drop(&mut self) {
        match *self {
            // SAFETY: The program has passed memory of malloc, to be freed once.
            Self::Free(memory) => unsafe { libc::free(memory.0) },
            // SAFETY: The program has passed this function with this pointer, to be called once.
            Self::Callback(release, cls) => unsafe { release(cls.0) },
        }
    }
}

/// Pieces of memory that stay until this is dropped.
pub(crate) struct Memory {
    pub(crate) pieces: Vec<(FromC<c_void>, usize)>,
    pub(crate) _owner: Option<Owner>,
}

impl Memory {
    pub(crate) fn len(&self) -> u64 {
        self.pieces.iter().map(|(_, len)| *len as u64).sum()
    }

    /// Returns a piece by its number.
    pub(crate) fn piece(&self, index: usize) -> Option<&[u8]> {
        // SAFETY: The program has promised that the memory stays until it is released, which `Drop` does.
        self.pieces.get(index).map(|(base, len)| unsafe { slice::from_raw_parts(base.0.cast_const().cast(), *len) })
    }
}
