//! The only module with `unsafe` code: system calls that no safe crate offers.
#![allow(unsafe_code)]

use std::{
    fs::File,
    io::{self, IoSlice},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use super::Socket;
use super::kernel_pipe::{Ends, KERNEL_PIPE};

/// Returns the bytes in the send queue that the peer's TCP has not acknowledged (Linux `SIOCOUTQ`). `None` if the
/// system cannot report it.
#[cfg(target_os = "linux")]
pub(crate) fn unacknowledged(socket: &Socket) -> Option<u64> {
    if !socket.is_tcp() {
        return None;
    }
    let fd = socket.fd().ok()?.as_raw_fd();
    let mut queued: libc::c_int = 0;
    // SAFETY: the descriptor is open for as long as `socket` is borrowed; TIOCOUTQ (which SIOCOUTQ is by value) writes
    // one int, and `queued` is one.
    let result = unsafe { libc::ioctl(fd, libc::TIOCOUTQ, &raw mut queued) };
    if result == 0 { u64::try_from(queued).ok() } else { None }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn unacknowledged(_: &Socket) -> Option<u64> {
    None
}

/// Returns the number of the network interface of this name.
#[cfg(feature = "client")]
pub(crate) fn interface_index(name: &str) -> Option<u32> {
    let name = std::ffi::CString::new(name).ok()?;
    // SAFETY: `name` ends with a NUL and outlives the call, which only reads it.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}

/// Returns the descriptor of a selector, which is readable when one of its sockets is ready.
pub(crate) fn selector_fd(poll: &mio::Poll) -> BorrowedFd<'_> {
    // SAFETY: `poll` owns the descriptor, and closes it only when it is dropped: not for as long as it is borrowed.
    unsafe { BorrowedFd::borrow_raw(poll.as_raw_fd()) }
}

/// Reads once.
///
/// It makes the system call itself. libc's `recv` and `send` are cancellation points: in a program with threads, that
/// costs two locked instructions and fifty others around each call.
#[cfg(target_os = "linux")]
#[inline]
pub(crate) fn read(socket: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<usize> {
    let no_address = std::ptr::null::<u8>();
    let (fd, at, room) = (socket.as_raw_fd(), into.as_mut_ptr(), into.len());
    // SAFETY: the descriptor is open for as long as it is borrowed; the call writes at most `room` bytes to `at`, which
    // is borrowed mutably for that long, and the peer's address nowhere.
    let n = unsafe { libc::syscall(libc::SYS_recvfrom, fd, at, room, 0, no_address, no_address) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// Writes once. If the peer has disconnected it returns an error and never raises SIGPIPE, which the program may not
/// ignore.
#[cfg(target_os = "linux")]
#[inline]
pub(crate) fn write(socket: BorrowedFd<'_>, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    let (fd, flags) = (socket.as_raw_fd(), libc::MSG_NOSIGNAL);
    let n = if let [one] = pieces {
        // SAFETY: the descriptor is open for as long as it is borrowed; the call reads `one.len()` bytes of `one`, and
        // of an address there is none: null and 0.
        unsafe { libc::syscall(libc::SYS_sendto, fd, one.as_ptr(), one.len(), flags, std::ptr::null::<u8>(), 0) }
    } else {
        // SAFETY: a msghdr of zeros is a valid one, without an address, pieces or control data.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        // The call only reads them; an IoSlice is an iovec, by its documentation.
        message.msg_iov = pieces.as_ptr().cast_mut().cast();
        message.msg_iovlen = pieces.len() as _;
        // SAFETY: the descriptor is open for as long as it is borrowed; `message` names `pieces`, of which each is
        // initialised for its length, and nothing else.
        unsafe { libc::syscall(libc::SYS_sendmsg, fd, &raw const message, flags) }
    };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// Sets how many bytes make a TCP socket readable (`SO_RCVLOWAT`). A hint: the caller must also read by a timer.
pub(crate) fn set_low_water(socket: &Socket, bytes: usize) {
    let Ok(fd) = socket.fd() else { return };
    let (bytes, size) = (libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX), size_of::<libc::c_int>());
    // SAFETY: the descriptor is open for as long as `socket` is borrowed; the option takes one int, and `bytes` is one.
    let _ = unsafe {
        libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVLOWAT, (&raw const bytes).cast(), size as _)
    };
}

/// Copies bytes that wait in the socket, without taking them out. Returns 0 if the peer has ended its side.
pub(crate) fn peek(socket: &Socket, into: &mut [u8]) -> io::Result<usize> {
    let fd = socket.fd()?.as_raw_fd();
    loop {
        // SAFETY: the descriptor is open for as long as `socket` is borrowed; the call writes at most `into.len()`
        // bytes to `into`, which is borrowed mutably.
        let n = unsafe { libc::recv(fd, into.as_mut_ptr().cast(), into.len(), libc::MSG_PEEK) };
        if let Ok(n) = usize::try_from(n) {
            return Ok(n);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Sends bytes of `file` from `offset` directly to the socket.
#[cfg(target_os = "linux")]
pub(crate) fn sendfile(socket: &Socket, file: &File, offset: u64, most: u64) -> io::Result<u64> {
    // One call moves at most 2 GiB; a smaller bound keeps one connection from blocking the loop.
    let count = usize::try_from(most.min(1 << 20)).unwrap_or(1 << 20);
    let mut from = libc::off_t::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let fd = socket.fd()?.as_raw_fd();
    loop {
        // SAFETY: both descriptors are open for as long as they are borrowed; `from` is a valid off_t the call may
        // write to.
        let sent = unsafe { libc::sendfile(fd, file.as_fd().as_raw_fd(), &raw mut from, count) };
        if let Ok(sent) = u64::try_from(sent) {
            return Ok(sent);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// On other systems the bytes pass through the process: the same meaning, with one copy more.
#[cfg(not(target_os = "linux"))]
pub(crate) fn sendfile(socket: &Socket, file: &File, offset: u64, most: u64) -> io::Result<u64> {
    use std::os::unix::fs::FileExt;
    let mut block = [0; 16 * 1024];
    let count = usize::try_from(most).unwrap_or(usize::MAX).min(block.len());
    let read = file.read_at(&mut block[..count], offset)?;
    let fd = socket.fd()?.as_raw_fd();
    // SAFETY: the descriptor is open while borrowed; the pointer and length are those of an initialised slice.
    let sent = unsafe { libc::send(fd, block.as_ptr().cast(), read, 0) };
    u64::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Makes a kernel pipe of [`KERNEL_PIPE`] bytes.
///
/// Only this process has its ends, and it never reads from an empty pipe: they need not be non-blocking.
#[cfg(target_os = "linux")]
pub(crate) fn kernel_pipe() -> io::Result<Ends> {
    let (read, write) = io::pipe()?;
    let size = libc::c_int::try_from(KERNEL_PIPE).unwrap_or(libc::c_int::MAX);
    // SAFETY: the descriptor is open for as long as `write` is borrowed; F_SETPIPE_SZ takes an int and touches no
    // memory.
    let got = unsafe { libc::fcntl(write.as_raw_fd(), libc::F_SETPIPE_SZ, size) };
    // A user who has used up the system's memory for pipes gets very small ones: then copying is better.
    if got < size { Err(io::Error::last_os_error()) } else { Ok(Ends { read, write }) }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn kernel_pipe() -> io::Result<Ends> {
    let _ = KERNEL_PIPE;
    Err(io::ErrorKind::Unsupported.into())
}

/// Moves at most `most` bytes from one descriptor to another, without blocking. One of them must be a pipe. Returns 0
/// at the end of the stream.
#[cfg(target_os = "linux")]
pub(crate) fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    loop {
        let (from, to, nowhere) = (from.as_raw_fd(), to.as_raw_fd(), std::ptr::null::<libc::loff_t>());
        // SAFETY: both descriptors are open for as long as they are borrowed; without offsets (null is allowed: neither
        // has a position) the call touches no memory of this process.
        let moved = unsafe { libc::syscall(libc::SYS_splice, from, nowhere, to, nowhere, most, flags) };
        if let Ok(moved) = usize::try_from(moved) {
            return Ok(moved);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn splice(_: BorrowedFd<'_>, _: BorrowedFd<'_>, _: usize) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Makes glibc's allocator return free pages of all its arenas to the system. It keeps them otherwise: of 230 MB in
/// unfinished messages, 120 MB stayed resident. Takes milliseconds; has no effect on another allocator.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn give_back_memory() {
    // SAFETY: it takes a number and may be called at any time, from any thread.
    let _ = unsafe { libc::malloc_trim(0) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn give_back_memory() {}
