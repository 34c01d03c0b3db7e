//! Responses: the program creates one, queues it any number of times, and destroys it. It is freed when no request uses
//! it.

use std::{
    ffi::{c_int, c_uint, c_void},
    fs::File,
    os::fd::{FromRawFd, OwnedFd},
    ptr::null,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use libc::{off_t, size_t};
use uncork::Response;

use crate::{
    connection::MHD_Connection,
    daemon::lock,
    memory::{self, IoVec, Memory},
    response_fields::Fields,
    stream::{FileStream, MemoryStream, Reader, ReaderStream},
    types::{ContentReader, FromC, NO, Release, Result, YES, response_flag},
};

/// `struct MHD_Response`, which C knows by its address only.
pub struct MHD_Response {
    pub(crate) content: Content,
    pub(crate) fields: Mutex<Fields>,
    pub(crate) flags: AtomicU32,
}

/// The body of a response.
pub(crate) enum Content {
    Empty,
    /// Small: copied once, then shared by all responses in progress. The program's memory is kept as long as the
    /// response, as the program expects.
    Bytes(Arc<[u8]>, #[expect(dead_code, reason = "it is freed with the response")] Option<Memory>),
    Memory(Arc<Memory>),
    Reader(Reader),
    /// `None`: as long as the system's end of the file.
    File(File, u64, Option<u64>),
}

impl Content {
    /// Returns `true` if sending it calls the program.
    pub(crate) fn calls_the_program(&self) -> bool {
        matches!(self, Self::Reader(_))
    }
}

impl MHD_Response {
    /// Returns the response of a pointer.
    ///
    /// # Safety
    /// The pointer must be NULL, or a response that was not destroyed, or is queued.
    pub(crate) unsafe fn of_c<'a>(response: *const Self) -> Option<&'a Self> {
        // SAFETY: The caller guarantees it.
        unsafe { response.as_ref() }
    }

    /// Makes a response that C owns.
    pub(crate) fn to_c(content: Content, flags: u32) -> *const Self {
        Arc::into_raw(Arc::new(Self { content, fields: Mutex::default(), flags: AtomicU32::new(flags) }))
    }

    /// Returns another owner of the response.
    pub(crate) fn shared_owner(&self) -> Arc<Self> {
        // SAFETY: Every response is made by `to_c`, which puts it into an `Arc`.
        unsafe {
            Arc::increment_strong_count(self);
            Arc::from_raw(self)
        }
    }

    /// Returns the response for one request.
    pub(crate) fn send(self: Arc<Self>, status: u16, connection: &Arc<MHD_Connection>) -> Response {
        let (headers, closes) = lock(&self.fields).made();
        let only_1_0 = self.flags.load(Ordering::Relaxed) & response_flag::HTTP_1_0_ONLY != 0;
        let response = match &self.content {
            Content::Empty => Response::new(status),
            Content::Bytes(bytes, _) => Response::new(status).body(bytes.clone()),
            Content::Memory(memory) => {
                let len = memory.len();
                Response::stream(MemoryStream::new(memory.clone())).length(len).with_status(status)
            }
            Content::File(file, offset, len) => match (file.try_clone(), len) {
                (Ok(file), Some(len)) if file.metadata().is_ok_and(|metadata| metadata.is_file()) => {
                    Response::file(file, *offset..offset.saturating_add(*len)).with_status(status)
                }
                (Ok(file), len) => Response::stream(FileStream::new(file, *len)).length(*len).with_status(status),
                (Err(error), _) => {
                    connection.log(&format!("cannot send a file: {error}"));
                    return Response::new(500);
                }
            },
            Content::Reader(reader) => {
                let len = reader.len;
                Response::stream(ReaderStream::new(self.clone(), connection.clone())).length(len).with_status(status)
            }
        };
        let response = response.with_headers(headers);
        if closes || only_1_0 { response.close() } else { response }
    }
}

export! {
    /// Destroys a response. It is freed when no request uses it.
    fn MHD_destroy_response(response: *const MHD_Response), or (); {
        if !response.is_null() {
            // SAFETY: By the contract of the interface it is a response, and the program does not use it any more.
            drop(unsafe { Arc::from_raw(response) });
        }
    }
}

export! {
    /// Sets flags of a response. Its options end at once: there are none yet.
    fn MHD_set_response_options(response: *const MHD_Response, flags: c_uint) -> Result, or NO; {
        // SAFETY: By the contract of the interface it is NULL or a response.
        let Some(response) = (unsafe { MHD_Response::of_c(response) }) else { return NO };
        response.flags.store(flags, Ordering::Relaxed);
        YES
    }
}

/// `enum MHD_ResponseMemoryMode`.
const MUST_FREE: c_int = 1;
const MUST_COPY: c_int = 2;

fn from_buffer(size: size_t, buffer: *const c_void, mode: c_int) -> *const MHD_Response {
    if buffer.is_null() && size > 0 {
        return null();
    }
    // Not `then_some`: an owner that is dropped frees the memory.
    let release = (mode == MUST_FREE && !buffer.is_null()).then(|| memory::Owner::Free(FromC(buffer.cast_mut())));
    // SAFETY: By the contract of the interface the buffer has this size, and stays as the mode tells.
    unsafe { memory::response(buffer, size, release, mode == MUST_COPY) }
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
        let release = free.map(|free| memory::Owner::Callback(free, FromC(buffer)));
        // SAFETY: By the contract of the interface the buffer has this size, and stays until it is freed.
        unsafe { memory::response(buffer, size, release, false) }
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
        let release = free.map(|free| memory::Owner::Callback(free, FromC(cls)));
        // SAFETY: By the contract of the interface the buffer has this size, and stays until it is freed.
        unsafe { memory::response(buffer, size, release, false) }
    }
}

export! {
    /// Creates a response from several pieces of memory, which a function of the program frees.
    fn MHD_create_response_from_iovec(
        pieces: *const IoVec, count: c_uint, free: Option<Release>, cls: *mut c_void,
    ) -> *const MHD_Response, or null(); {
        let release = free.map(|free| memory::Owner::Callback(free, FromC(cls)));
        // SAFETY: By the contract of the interface there are that many pieces, and they stay until they are freed.
        unsafe { memory::response_of_pieces(pieces, count, release) }
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
        let owner = free.map(|free| memory::Owner::Callback(free, FromC(cls)));
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
