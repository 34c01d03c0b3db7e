//! Memory of the program that is sent as a body, and its release.

use std::{
    ffi::{c_uint, c_void},
    ptr::null,
    slice,
    sync::Arc,
};

use libc::size_t;

use crate::{
    response::{Content, MHD_Response},
    types::{FromC, Release},
};

/// `struct MHD_IoVec`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct IoVec {
    base: *const c_void,
    len: size_t,
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
    pieces: Vec<(FromC<c_void>, usize)>,
    _owner: Option<Owner>,
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

/// Up to this size the bytes are copied when the response is created, and then shared: sending them costs no call, and
/// no reference to the program's memory is left.
const SMALL: u64 = 64 * 1024;

/// Creates a response from one piece.
///
/// # Safety
/// The buffer must have `size` bytes, which stay until they are released unless they are copied.
pub(crate) unsafe fn response(
    buffer: *const c_void,
    size: usize,
    owner: Option<Owner>,
    copy: bool,
) -> *const MHD_Response {
    let pieces = if size == 0 { Vec::new() } else { vec![(FromC(buffer.cast_mut()), size)] };
    respond_with(Memory { pieces, _owner: owner }, copy)
}

fn respond_with(memory: Memory, copy: bool) -> *const MHD_Response {
    let small = memory.len() <= SMALL;
    if !small && !copy {
        return MHD_Response::to_c(Content::Memory(Arc::new(memory)), 0);
    }
    let all: Vec<u8> = (0..memory.pieces.len()).filter_map(|index| memory.piece(index)).flatten().copied().collect();
    let kept = if copy { None } else { Some(memory) };
    MHD_Response::to_c(Content::Bytes(all.into(), kept), 0)
}

/// Creates a response from pieces.
///
/// # Safety
/// There must be `count` pieces, whose memory stays until it is released.
pub(crate) unsafe fn response_of_pieces(
    pieces: *const IoVec,
    count: c_uint,
    owner: Option<Owner>,
) -> *const MHD_Response {
    let pieces = match (pieces.is_null(), count) {
        (_, 0) => &[],
        (true, _) => return discard(owner),
        // SAFETY: The caller guarantees it.
        (false, count) => unsafe { slice::from_raw_parts(pieces, count as usize) },
    };
    let total = pieces.iter().try_fold(0_i64, |total, piece| total.checked_add(i64::try_from(piece.len).ok()?));
    if total.is_none() || pieces.iter().any(|piece| piece.base.is_null() && piece.len > 0) {
        return discard(owner);
    }
    let pieces = pieces.iter().filter(|piece| piece.len > 0).map(|piece| (FromC(piece.base.cast_mut()), piece.len));
    respond_with(Memory { pieces: pieces.collect(), _owner: owner }, false)
}

/// Returns NULL. Nothing is released: a response that was not created has taken nothing.
#[expect(clippy::mem_forget, reason = "dropping it would release the program's memory")]
fn discard(owner: Option<Owner>) -> *const MHD_Response {
    std::mem::forget(owner);
    null()
}
