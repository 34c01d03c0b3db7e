//! Daemons without threads: the program waits for one descriptor in its own loop, and has the daemon do what is ready.
//!
//! The descriptor is that of the engine's selector. It is readable when there is something to do, also after a wake
//! from another thread, and it stays readable until that is done. So `select` serves more connections than
//! `FD_SETSIZE`.

use std::{
    ffi::{c_int, c_uint, c_ulong, c_void},
    time::Duration,
};

use crate::{
    daemon::MHD_Daemon,
    own_loop::OwnLoop,
    types::{NO, Result, YES},
};

/// Returns the loop of a daemon; `None` if it has threads, which is logged.
///
/// # Safety
/// The pointer must be NULL or a daemon.
unsafe fn own_loop<'a>(daemon: *const MHD_Daemon, name: &str) -> Option<&'a OwnLoop> {
    // SAFETY: The caller guarantees it.
    let daemon = unsafe { MHD_Daemon::of_c(daemon) }?;
    if daemon.own_loop().is_none() {
        daemon.shared.log.line(&format_args!("{name}: the daemon has threads of its own"));
    }
    daemon.own_loop()
}

/// # Safety
/// The pointer must be NULL or a daemon.
unsafe fn run(daemon: *const MHD_Daemon, name: &str, wait: Option<Duration>) -> Result {
    // SAFETY: The caller guarantees it.
    let Some(own) = (unsafe { own_loop(daemon, name) }) else { return NO };
    match own.run(wait) {
        Ok(true) => YES,
        Ok(false) => NO,
        Err(error) => {
            // SAFETY: As above.
            if let Some(daemon) = unsafe { MHD_Daemon::of_c(daemon) } {
                daemon.shared.log.line(&format_args!("{name}: {error}"));
            }
            NO
        }
    }
}

export! {
    /// Does what is ready, without waiting.
    fn MHD_run(daemon: *const MHD_Daemon) -> Result, or NO; {
        // SAFETY: By the contract of the interface it is NULL or a daemon.
        unsafe { run(daemon, "MHD_run", Some(Duration::ZERO)) }
    }
}

export! {
    /// Waits until something is ready, at most for this time (forever, if it is negative), and does it.
    fn MHD_run_wait(daemon: *const MHD_Daemon, milliseconds: i32) -> Result, or NO; {
        let wait = u64::try_from(milliseconds).ok().map(Duration::from_millis);
        // SAFETY: By the contract of the interface it is NULL or a daemon.
        unsafe { run(daemon, "MHD_run_wait", wait) }
    }
}

export! {
    /// Like `MHD_run`: the engine knows itself what is ready.
    fn MHD_run_from_select(
        daemon: *const MHD_Daemon, _read: *const c_void, _write: *const c_void, _except: *const c_void,
    ) -> Result, or NO; {
        // SAFETY: By the contract of the interface it is NULL or a daemon.
        unsafe { run(daemon, "MHD_run_from_select", Some(Duration::ZERO)) }
    }
}

export! {
    /// Like `MHD_run`.
    fn MHD_run_from_select2(
        daemon: *const MHD_Daemon, _read: *const c_void, _write: *const c_void, _except: *const c_void, _size: c_uint,
    ) -> Result, or NO; {
        // SAFETY: By the contract of the interface it is NULL or a daemon.
        unsafe { run(daemon, "MHD_run_from_select2", Some(Duration::ZERO)) }
    }
}

export! {
    /// Has the handlers of all upgraded connections called that wait for a wake. The program calls it between two runs.
    fn MHD_upgrade_wake_all(daemon: *const MHD_Daemon) -> Result, or NO; {
        // SAFETY: By the contract of the interface it is NULL or a daemon.
        let own = unsafe { own_loop(daemon, "MHD_upgrade_wake_all") };
        if own.is_some_and(OwnLoop::wake_all) { YES } else { NO }
    }
}

/// Adds the descriptor to a set of that many descriptors.
///
/// # Safety
/// `daemon` must be NULL or a daemon, `read` NULL or a set of this size, `max` NULL or a number.
unsafe fn get_fdset(daemon: *const MHD_Daemon, read: *mut c_void, max: *mut c_int, size: c_uint) -> Result {
    // SAFETY: The caller guarantees it.
    let Some(own) = (unsafe { own_loop(daemon, "MHD_get_fdset") }) else { return NO };
    let Some(fd) = usize::try_from(own.fd).ok().filter(|fd| *fd < size as usize && !read.is_null()) else { return NO };
    let bits = c_ulong::BITS as usize;
    // SAFETY: A set is an array of words, and has the bit of every descriptor below its size.
    unsafe {
        let word = read.cast::<c_ulong>().add(fd / bits);
        word.write(word.read() | 1 << (fd % bits));
    }
    if !max.is_null() {
        // SAFETY: The caller guarantees it.
        unsafe { max.write(max.read().max(own.fd)) };
    }
    YES
}

export! {
    /// Adds the daemon's descriptor to the sets of `select`, which have the usual size.
    fn MHD_get_fdset(
        daemon: *const MHD_Daemon, read: *mut c_void, _write: *mut c_void, _except: *mut c_void, max: *mut c_int,
    ) -> Result, or NO; {
        // SAFETY: By the contract of the interface the pointers are NULL, or what they are called.
        unsafe { get_fdset(daemon, read, max, libc::FD_SETSIZE as c_uint) }
    }
}

export! {
    /// Like `MHD_get_fdset`, but with sets of another size.
    fn MHD_get_fdset2(
        daemon: *const MHD_Daemon, read: *mut c_void, _write: *mut c_void, _except: *mut c_void, max: *mut c_int,
        size: c_uint,
    ) -> Result, or NO; {
        // SAFETY: By the contract of the interface the pointers are NULL, or what they are called.
        unsafe { get_fdset(daemon, read, max, size) }
    }
}

/// # Safety
/// `daemon` must be NULL or a daemon, `timeout` NULL or a number.
unsafe fn get_timeout(daemon: *const MHD_Daemon, timeout: *mut u64) -> Result {
    // SAFETY: The caller guarantees it.
    let left = unsafe { own_loop(daemon, "MHD_get_timeout") }.and_then(OwnLoop::timeout);
    match left {
        Some(left) if !timeout.is_null() => {
            // SAFETY: The caller guarantees it.
            unsafe { timeout.write(left) };
            YES
        }
        _ => NO,
    }
}

export! {
    /// Tells how many milliseconds the program may wait; `MHD_NO` if it may wait as long as it likes.
    fn MHD_get_timeout(daemon: *const MHD_Daemon, timeout: *mut u64) -> Result, or NO; {
        // SAFETY: By the contract of the interface the pointers are NULL, or what they are called.
        unsafe { get_timeout(daemon, timeout) }
    }
}

export! {
    /// Like `MHD_get_timeout`.
    fn MHD_get_timeout64(daemon: *const MHD_Daemon, timeout: *mut u64) -> Result, or NO; {
        // SAFETY: By the contract of the interface the pointers are NULL, or what they are called.
        unsafe { get_timeout(daemon, timeout) }
    }
}

export! {
    /// Returns how many milliseconds the program may wait; -1 for as long as it likes.
    fn MHD_get_timeout64s(daemon: *const MHD_Daemon) -> i64, or -1; {
        // SAFETY: By the contract of the interface it is NULL or a daemon.
        let left = unsafe { own_loop(daemon, "MHD_get_timeout64s") }.and_then(OwnLoop::timeout);
        left.map_or(-1, |left| i64::try_from(left).unwrap_or(i64::MAX))
    }
}

export! {
    /// Like `MHD_get_timeout64s`, for `poll`.
    fn MHD_get_timeout_i(daemon: *const MHD_Daemon) -> c_int, or -1; {
        // SAFETY: By the contract of the interface it is NULL or a daemon.
        let left = unsafe { own_loop(daemon, "MHD_get_timeout_i") }.and_then(OwnLoop::timeout);
        left.map_or(-1, |left| c_int::try_from(left).unwrap_or(c_int::MAX))
    }
}
