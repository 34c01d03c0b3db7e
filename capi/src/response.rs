//! Responses: the program creates one, queues it any number of times, and destroys it. It is freed when no request uses
//! it.

use std::{
    ffi::{c_uint, c_void},
    fs::File,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::{
    memory::{Memory, Owner},
    response_fields::{Field, Fields},
    shared::lock,
    types::{ContentReader, FromC, NO, Result, UpgradeEventHandler, UpgradeHandler, YES, kind},
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
    /// The connection changes to another protocol.
    Upgrade(Protocol),
}

/// The function of the program that speaks another protocol.
#[derive(Clone, Copy)]
pub(crate) enum Protocol {
    Events(UpgradeEventHandler, FromC<c_void>),
    Socket(UpgradeHandler, FromC<c_void>),
}

impl Content {
    /// Returns `true` if sending it calls the program.
    pub(crate) fn calls_the_program(&self) -> bool {
        matches!(self, Self::Reader(_) | Self::Upgrade(_))
    }
}

/// Bytes that a content reader is asked for at once, at most.
const LARGEST_BLOCK: usize = 32 * 1024;

/// A content reader of the program.
pub(crate) struct Reader {
    pub(crate) read: ContentReader,
    pub(crate) cls: FromC<c_void>,
    pub(crate) len: Option<u64>,
    pub(crate) block: usize,
    _owner: Option<Owner>,
}

impl Reader {
    pub(crate) fn new(
        read: ContentReader,
        cls: FromC<c_void>,
        len: Option<u64>,
        block: usize,
        owner: Option<Owner>,
    ) -> Self {
        Self { read, cls, len, block: block.min(LARGEST_BLOCK), _owner: owner }
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

    /// Makes a response that changes to another protocol. The engine sends `Connection`; the program can see it.
    pub(crate) fn upgrade_to_c(protocol: Protocol) -> *const Self {
        let response = Self::to_c(Content::Upgrade(protocol), 0);
        // SAFETY: It was made just now.
        if let Some(response) = unsafe { Self::of_c(response) } {
            lock(&response.fields).list.extend(Field::new(kind::HEADER, "Connection", b"Upgrade"));
        }
        response
    }

    /// Returns another owner of the response.
    pub(crate) fn shared_owner(&self) -> Arc<Self> {
        // SAFETY: Every response is made by `to_c`, which puts it into an `Arc`.
        unsafe {
            Arc::increment_strong_count(self);
            Arc::from_raw(self)
        }
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
