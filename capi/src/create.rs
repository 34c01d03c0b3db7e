//! Creates responses: from memory, content readers, files and pipes.

use std::{
    ffi::{c_int, c_uint, c_void},
    fs::File,
    os::fd::{FromRawFd, OwnedFd},
    ptr::null,
    slice,
    sync::Arc,
};

use libc::{off_t, size_t};

use crate::{
    memory::{IoVec, Memory, Owner},
    response::{Content, MHD_Response, Reader},
    types::{ContentReader, FromC, Release},
};

/// Up to this size the bytes are copied when the response is created, and then shared: sending them costs no call, and
/// no reference to the program's memory is left.
const SMALL: u64 = 64 * 1024;

/// Creates a response from one piece.
///
/// # Safety
/// The buffer must have `size` bytes, which stay until they are released unless they are copied.
unsafe fn of_memory(buffer: *const c_void, size: usize, owner: Option<Owner>, copy: bool) -> *const MHD_Response {
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
unsafe fn of_pieces(pieces: *const IoVec, count: c_uint, owner: Option<Owner>) -> *const MHD_Response {
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

/// `enum MHD_ResponseMemoryMode`.
const MUST_FREE: c_int = 1;
const MUST_COPY: c_int = 2;

fn from_buffer(size: size_t, buffer: *const c_void, mode: c_int) -> *const MHD_Response {
    if buffer.is_null() && size > 0 {
        return null();
    }
    // Not `then_some`: an owner that is dropped frees the memory.
    let release = (mode == MUST_FREE && !buffer.is_null()).then(|| Owner::Free(FromC(buffer.cast_mut())));
    // SAFETY: By the contract of the interface the buffer has this size, and stays as the mode tells.
    unsafe { of_memory(buffer, size, release, mode == MUST_COPY) }
}

export! {
    /// Creates a response from memory, which stays, is freed by `free`, or is copied.
    fn MHD_create_response_from_buffer(size: size_t, buffer: *mut c_void, mode: c_int) -> *const MHD_Response,
        or null(); {
        from_buffer(size, buffer, mode)
    }
}

export! {
    /// The older form of `MHD_create_response_from_buffer`.
    fn MHD_create_response_from_data(size: size_t, data: *mut c_void, must_free: c_int, must_copy: c_int)
        -> *const MHD_Response, or null(); {
        let mode = match (must_copy, must_free) {
            (0, 0) => 0,
            (0, _) => MUST_FREE,
            _ => MUST_COPY,
        };
        from_buffer(size, data, mode)
    }
}

export! {
    /// Creates a response from memory that stays and does not change.
    fn MHD_create_response_from_buffer_static(size: size_t, buffer: *const c_void) -> *const MHD_Response, or null(); {
        from_buffer(size, buffer, 0)
    }
}

export! {
    /// Creates a response from a copy of memory.
    fn MHD_create_response_from_buffer_copy(size: size_t, buffer: *const c_void) -> *const MHD_Response, or null(); {
        from_buffer(size, buffer, MUST_COPY)
    }
}

export! {
    /// Creates a response from memory that a function of the program frees: it gets the buffer.
    fn MHD_create_response_from_buffer_with_free_callback(
        size: size_t, buffer: *mut c_void, free: Option<Release>,
    ) -> *const MHD_Response, or null(); {
        if buffer.is_null() && size > 0 {
            return null();
        }
        let release = free.map(|free| Owner::Callback(free, FromC(buffer)));
        // SAFETY: By the contract of the interface the buffer has this size, and stays until it is freed.
        unsafe { of_memory(buffer, size, release, false) }
    }
}

export! {
    /// Creates a response from memory that a function of the program frees: it gets `cls`.
    fn MHD_create_response_from_buffer_with_free_callback_cls(
        size: size_t, buffer: *const c_void, free: Option<Release>, cls: *mut c_void,
    ) -> *const MHD_Response, or null(); {
        if buffer.is_null() && size > 0 {
            return null();
        }
        let release = free.map(|free| Owner::Callback(free, FromC(cls)));
        // SAFETY: By the contract of the interface the buffer has this size, and stays until it is freed.
        unsafe { of_memory(buffer, size, release, false) }
    }
}

export! {
    /// Creates a response from several pieces of memory, which a function of the program frees.
    fn MHD_create_response_from_iovec(
        pieces: *const IoVec, count: c_uint, free: Option<Release>, cls: *mut c_void,
    ) -> *const MHD_Response, or null(); {
        let release = free.map(|free| Owner::Callback(free, FromC(cls)));
        // SAFETY: By the contract of the interface there are that many pieces, and they stay until they are freed.
        unsafe { of_pieces(pieces, count, release) }
    }
}

export! {
    /// Creates a response without a body.
    fn MHD_create_response_empty(flags: c_uint) -> *const MHD_Response, or null(); {
        MHD_Response::to_c(Content::Empty, flags)
    }
}

/// `MHD_SIZE_UNKNOWN`.
const UNKNOWN: u64 = u64::MAX;

export! {
    /// Creates a response that a function of the program writes, piece by piece.
    fn MHD_create_response_from_callback(
        size: u64, block_size: size_t, read: Option<ContentReader>, cls: *mut c_void, free: Option<Release>,
    ) -> *const MHD_Response, or null(); {
        let Some(read) = read.filter(|_| block_size > 0) else { return null() };
        let owner = free.map(|free| Owner::Callback(free, FromC(cls)));
        let len = (size != UNKNOWN).then_some(size);
        MHD_Response::to_c(Content::Reader(Reader::new(read, FromC(cls), len, block_size, owner)), 0)
    }
}

fn from_fd(fd: c_int, offset: u64, size: Option<u64>) -> *const MHD_Response {
    if fd < 0 || size.is_some_and(|size| offset.checked_add(size).is_none_or(|end| i64::try_from(end).is_err())) {
        return null();
    }
    // SAFETY: By the contract of the interface the program gives the open descriptor away.
    let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    MHD_Response::to_c(Content::File(file, offset, size), 0)
}

export! {
    /// Creates a response from a file, and takes the descriptor.
    fn MHD_create_response_from_fd(size: size_t, fd: c_int) -> *const MHD_Response, or null(); {
        from_fd(fd, 0, Some(size as u64))
    }
}

export! {
    /// Like `MHD_create_response_from_fd`, but with a size of 64 bits.
    fn MHD_create_response_from_fd64(size: u64, fd: c_int) -> *const MHD_Response, or null(); {
        from_fd(fd, 0, Some(size))
    }
}

export! {
    /// Creates a response from a part of a file, and takes the descriptor.
    fn MHD_create_response_from_fd_at_offset(size: size_t, fd: c_int, offset: off_t) -> *const MHD_Response,
        or null(); {
        u64::try_from(offset).map_or(null(), |offset| from_fd(fd, offset, Some(size as u64)))
    }
}

export! {
    /// Like `MHD_create_response_from_fd_at_offset`, but with 64 bits.
    fn MHD_create_response_from_fd_at_offset64(size: u64, fd: c_int, offset: u64) -> *const MHD_Response, or null(); {
        from_fd(fd, offset, Some(size))
    }
}

export! {
    /// Creates a response from what can be read from a pipe, and takes the descriptor.
    fn MHD_create_response_from_pipe(fd: c_int) -> *const MHD_Response, or null(); {
        from_fd(fd, 0, None)
    }
}
