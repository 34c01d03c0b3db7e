//! Types and constants of the interface: the numbers are facts of its ABI.

use std::ffi::{c_char, c_int, c_uint, c_void};

use libc::{size_t, sockaddr, socklen_t, ssize_t};

/// `enum MHD_Result`.
pub(crate) type Result = c_int;
pub(crate) const NO: Result = 0;
pub(crate) const YES: Result = 1;

/// A pointer of the program, which the library only gives back to it.
#[derive(Debug)]
pub(crate) struct FromC<T>(pub(crate) *mut T);

impl<T> Clone for FromC<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for FromC<T> {}

// SAFETY: The library does not look through the pointer. The interface requires of the program that what it points to
// may be used by the threads of the daemon.
unsafe impl<T> Send for FromC<T> {}
// SAFETY: As above: a shared reference gives a copy of the pointer, and nothing else.
unsafe impl<T> Sync for FromC<T> {}

/// Returns a number that fits, or the largest one.
pub(crate) fn to_int(n: usize) -> c_int {
    c_int::try_from(n).unwrap_or(c_int::MAX)
}

/// A connection, as a callback gets it: C knows it by its address only.
pub(crate) type ConnectionAddress = *const c_void;
pub(crate) type PanicCallback = unsafe extern "C" fn(*mut c_void, *const c_char, c_uint, *const c_char);
pub(crate) type AcceptPolicy = unsafe extern "C" fn(*mut c_void, *const sockaddr, socklen_t) -> Result;
pub(crate) type AccessHandler = unsafe extern "C" fn(
    *mut c_void,
    ConnectionAddress,
    *const c_char,
    *const c_char,
    *const c_char,
    *const c_char,
    *mut size_t,
    *mut *mut c_void,
) -> Result;
pub(crate) type RequestCompleted = unsafe extern "C" fn(*mut c_void, ConnectionAddress, *mut *mut c_void, c_int);
pub(crate) type NotifyConnection = RequestCompleted;
pub(crate) type UriLog = unsafe extern "C" fn(*mut c_void, *const c_char, ConnectionAddress) -> *mut c_void;
pub(crate) type Unescape = unsafe extern "C" fn(*mut c_void, ConnectionAddress, *mut c_char) -> size_t;
/// Its last argument is a `va_list`: only `variadic.c` calls it.
pub(crate) type Logger = unsafe extern "C" fn(*mut c_void, *const c_char, *mut c_void);
pub(crate) type KeyValueIterator = unsafe extern "C" fn(*mut c_void, c_int, *const c_char, *const c_char) -> Result;
pub(crate) type KeyValueIteratorN =
    unsafe extern "C" fn(*mut c_void, c_int, *const c_char, size_t, *const c_char, size_t) -> Result;
pub(crate) type PostDataIterator = unsafe extern "C" fn(
    *mut c_void,
    c_int,
    *const c_char,
    *const c_char,
    *const c_char,
    *const c_char,
    *const c_char,
    u64,
    size_t,
) -> Result;
pub(crate) type ContentReader = unsafe extern "C" fn(*mut c_void, u64, *mut c_char, size_t) -> ssize_t;
pub(crate) type Release = unsafe extern "C" fn(*mut c_void);
/// The callback of 2012. It returns the events to wait for.
pub(crate) type UpgradeEventHandler = unsafe extern "C" fn(
    *mut c_void,
    ConnectionAddress,
    *mut *mut c_void,
    *mut size_t,
    *const c_char,
    *mut size_t,
    *mut c_char,
) -> c_uint;
pub(crate) type UpgradeHandler =
    unsafe extern "C" fn(*mut c_void, ConnectionAddress, *mut c_void, *const c_char, size_t, c_int, UpgradeHandle);
/// `struct MHD_UpgradeResponseHandle *`: a number, which C only gives back. So a wrong one does no harm.
pub(crate) type UpgradeHandle = *mut c_void;

/// `enum MHD_FLAG`.
pub(crate) mod flag {
    pub(crate) const ERROR_LOG: u32 = 1;
    pub(crate) const TLS: u32 = 2;
    pub(crate) const THREAD_PER_CONNECTION: u32 = 4;
    pub(crate) const INTERNAL_POLLING_THREAD: u32 = 8;
    pub(crate) const IPV6: u32 = 16;
    pub(crate) const NO_LISTEN_SOCKET: u32 = 256;
    pub(crate) const DUAL_STACK: u32 = IPV6 | 2048;
    pub(crate) const SUSPEND_RESUME: u32 = 8192;
    pub(crate) const ALLOW_UPGRADE: u32 = 32768;
}

/// `enum MHD_ValueKind`.
pub(crate) mod kind {
    pub(crate) const HEADER: i32 = 1;
    pub(crate) const COOKIE: i32 = 2;
    pub(crate) const POSTDATA: i32 = 4;
    pub(crate) const GET_ARGUMENT: i32 = 8;
    pub(crate) const FOOTER: i32 = 16;
}

/// `enum MHD_RequestTerminationCode`.
pub(crate) mod ended {
    pub(crate) const COMPLETED: i32 = 0;
    pub(crate) const WITH_ERROR: i32 = 1;
    pub(crate) const TIMEOUT: i32 = 2;
    pub(crate) const SHUTDOWN: i32 = 3;
    pub(crate) const READ_ERROR: i32 = 4;
    pub(crate) const CLIENT_ABORT: i32 = 5;
}

/// `enum MHD_ResponseFlags`.
pub(crate) mod response_flag {
    /// The response is for an HTTP/1.0 client: it is not chunked, and the connection closes.
    pub(crate) const HTTP_1_0_ONLY: u32 = 1;
    pub(crate) const INSANE_LENGTH: u32 = 4;
}

/// The version of the interface: 1.0.1.
pub(crate) const VERSION: u32 = 0x0100_0100;
