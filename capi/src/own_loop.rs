//! The engine of a daemon without threads, and the signal that it holds back.

use std::{
    io,
    mem::zeroed,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    sync::{Mutex, MutexGuard, TryLockError},
    time::{Duration, Instant},
};

use uncork::{ExternalServer, Wait};

use crate::shared::Gauge;

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
    pub(crate) fn run(&self, wait: Option<Duration>) -> io::Result<bool> {
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
    pub(crate) fn timeout(&self) -> Option<u64> {
        // A callback has called: there is work.
        let next = self.engine().map_or(Wait::Now, |engine| engine.next);
        u64::try_from(next.poll_millis(Instant::now())).ok()
    }

    /// Wakes the upgraded connections that wait for it. Returns `false` if the engine is at work.
    pub(crate) fn wake_all(&self) -> bool {
        let Some(mut engine) = self.engine() else { return false };
        engine.server.wake_all();
        engine.next = Wait::Now;
        true
    }

    pub(crate) fn quiesce(&self) -> Option<Vec<OwnedFd>> {
        self.engine().map(|mut engine| engine.server.quiesce())
    }

    /// Ends all connections. Those in `upgraded` have the time of the grace period to end.
    #[expect(clippy::disallowed_methods, reason = "the program waits here")]
    pub(crate) fn stop(&self, upgraded: &Gauge, grace: Duration) {
        let Some(mut engine) = self.engine() else { return };
        let _sigpipe = SigpipeHeld::begin();
        if !upgraded.is_zero() {
            engine.server.stop_handle().shutdown(grace);
        }
        let begin = Instant::now();
        while !upgraded.is_zero() && begin.elapsed() < grace && engine.server.wait(Some(STOP_PAUSE)).is_ok() {}
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
