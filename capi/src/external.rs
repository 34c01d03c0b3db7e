//! Daemons without threads: the program waits for one descriptor in its own loop, and has the daemon do what is ready.
//!
//! The descriptor is that of the engine's selector. It is readable when there is something to do, also after a wake
//! from another thread, and it stays readable until that is done. So `select` serves more connections than
//! `FD_SETSIZE`.

use std::{
    ffi::{c_int, c_uint, c_ulong, c_void},
    io,
    mem::zeroed,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    sync::{Mutex, MutexGuard, TryLockError},
    time::{Duration, Instant},
};

use uncork::{ExternalServer, Wait};

use crate::{
    daemon::MHD_Daemon,
    types::{NO, Result, YES},
};

/// The engine of a daemon without threads.
pub(crate) struct OwnLoop {
    pub(crate) fd: RawFd,
    engine: Mutex<OneThread>,
}

struct OneThread {
    server: ExternalServer<'static>,
    next: Wait,
}

// SAFETY: The server is not bound to a thread: it has descriptors, buffers and our handler, which is `Send`. It cannot
// say so, since other handlers are not. The lock lets one thread have it at a time.
unsafe impl Send for OneThread {}

/// Turns of the engine in one call of the program. More would keep the program from its other work.
const TURNS: usize = 16;
/// Pauses while the daemon stops, and their number: its connections are ended, which takes one or two turns.
const STOP_PAUSE: Duration = Duration::from_millis(10);
const STOP_TURNS: usize = 200;

impl OwnLoop {
    pub(crate) fn new(server: ExternalServer<'static>) -> Self {
        Self { fd: server.as_raw_fd(), engine: Mutex::new(OneThread { server, next: Wait::Now }) }
    }

    /// Returns the engine, unless it is at work: a callback has called.
    fn engine(&self) -> Option<MutexGuard<'_, OneThread>> {
        match self.engine.try_lock() {
            Ok(engine) => Some(engine),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Does what is ready. `wait`: first waits for that long at most; `None` for as long as it takes.
    fn run(&self, wait: Option<Duration>) -> io::Result<bool> {
        let Some(mut engine) = self.engine() else { return Ok(false) };
        let _sigpipe = SigpipeHeld::begin();
        engine.next = match wait {
            Some(Duration::ZERO) => engine.server.turn()?,
            wait => engine.server.wait(wait)?,
        };
        for _ in 1..TURNS {
            if engine.next != Wait::Now {
                break;
            }
            engine.next = engine.server.turn()?;
        }
        Ok(true)
    }

    /// Returns how long the program may wait, in milliseconds; `None` for as long as it likes.
    #[expect(clippy::disallowed_methods, reason = "the program waits until an instant of this clock")]
    fn timeout(&self) -> Option<u64> {
        // A callback has called: there is work.
        let next = self.engine().map_or(Wait::Now, |engine| engine.next);
        u64::try_from(next.poll_millis(Instant::now())).ok()
    }

    pub(crate) fn quiesce(&self) -> Option<Vec<OwnedFd>> {
        self.engine().map(|mut engine| engine.server.quiesce())
    }

    /// Ends all connections.
    pub(crate) fn stop(&self) {
        let Some(mut engine) = self.engine() else { return };
        let _sigpipe = SigpipeHeld::begin();
        engine.server.stop_handle().stop_now();
        for _ in 0..STOP_TURNS {
            if engine.server.is_done() || engine.server.wait(Some(STOP_PAUSE)).is_err() {
                break;
            }
        }
    }
}

/// SIGPIPE held back in the program's own thread while the engine runs: sending a file can raise it.
struct SigpipeHeld {
    /// The mask before; `None` if the program had blocked the signal itself, or one is pending already.
    old: Option<libc::sigset_t>,
}

fn sigpipe() -> libc::sigset_t {
    // SAFETY: The set is plain data, which these functions initialize.
    unsafe {
        let mut set: libc::sigset_t = zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGPIPE);
        set
    }
}

impl SigpipeHeld {
    fn begin() -> Self {
        let set = sigpipe();
        // SAFETY: The sets are valid for the calls.
        let old = unsafe {
            let mut old: libc::sigset_t = zeroed();
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, &raw mut old);
            (libc::sigismember(&raw const old, libc::SIGPIPE) == 0).then_some(old)
        };
        Self { old }
    }
}

impl Drop for SigpipeHeld {
    fn drop(&mut self) {
        let Some(old) = self.old else { return };
        // SAFETY: The sets are valid for the calls. The signal that is taken is the one that was raised here, since the
        // program had not blocked it before.
        unsafe {
            let mut pending: libc::sigset_t = zeroed();
            if libc::sigpending(&raw mut pending) == 0 && libc::sigismember(&raw const pending, libc::SIGPIPE) == 1 {
                let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
                let set = sigpipe();
                libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const none);
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const old, std::ptr::null_mut());
        }
    }
}

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
