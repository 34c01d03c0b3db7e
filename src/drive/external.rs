//! Inside the application's own loop: one descriptor, one call, and when to make it.

use std::{
    fmt, io,
    net::SocketAddr,
    os::fd::{AsRawFd, RawFd},
    time::Duration,
};

use super::{Clock, Loops, StopHandle, turn_until};
use crate::{
    api::LoopHandle,
    base::{Moment, Wait},
    engine::{Engine, Setup},
};

/// A server that the application drives, from within its own `select`, `poll` or `epoll` loop.
///
/// There is one descriptor, however many connections: it is readable when there is something to do, so a `select` loop
/// serves more connections than `FD_SETSIZE`. Wakes from other threads show on it as well.
///
/// ```no_run
/// use uncork::{Request, Response, Server};
/// # fn main() -> std::io::Result<()> {
/// let mut count = 0; // the handler may borrow: it needs neither Send nor 'static
/// let mut server = Server::bind("127.0.0.1:8080")?.external(|_: &mut Request<'_>| {
///     count += 1;
///     Response::text(format!("request {count}\n"))
/// })?;
/// while !server.is_done() {
///     // Or: put server.as_raw_fd() into your own poll, sleep as long as the last `Wait` says, then `turn`. A program that
///     // has nothing else to do calls `server.run()`.
///     server.wait(None)?;
/// }
/// # Ok(()) }
/// ```
pub struct ExternalServer<'h> {
    engine: Engine<'h>,
    clock: Clock,
    now: Moment,
    last: Wait,
    loops: Loops,
    addr: Option<SocketAddr>,
}

impl<'h> ExternalServer<'h> {
    pub(crate) fn new(setup: Setup<'h>, addr: Option<SocketAddr>) -> io::Result<Self> {
        let mut clock = Clock::new();
        let now = clock.now();
        let engine = Engine::new(setup, now)?;
        let loops = Loops::default();
        loops.add(engine.handle());
        Ok(Self { engine, clock, now, last: Wait::Now, loops, addr })
    }

    /// Does what there is to do, without sleeping; returns when to come back if the descriptor does not become
    /// readable before.
    ///
    /// # Errors
    /// What the system says when it can't tell of events any more; nothing can be served then.
    pub fn turn(&mut self) -> io::Result<Wait> {
        self.turn_after(Some(Duration::ZERO))
    }

    /// Sleeps until there is something to do, or for `at_most`; then turns. For a program without a loop of its own.
    ///
    /// # Errors
    /// As [`turn`](Self::turn).
    pub fn wait(&mut self, at_most: Option<Duration>) -> io::Result<Wait> {
        let own = self.last.timeout(self.clock.now().mono);
        let timeout = match (own, at_most) {
            (Some(own), Some(most)) => Some(own.min(most)),
            (own, most) => own.or(most),
        };
        self.turn_after(timeout)
    }

    /// Serves in this thread until it was [stopped](StopHandle) and has ended: for a program that has nothing else to do. A
    /// process of a single thread is also the cheapest, as neither the system nor libc has to guard what it has from others.
    ///
    /// ```
    /// use uncork::{Request, Response, Server};
    /// # fn main() -> std::io::Result<()> {
    /// let server = Server::bind("127.0.0.1:0")?.external(|_: &mut Request<'_>| Response::text("Hello!"))?;
    /// let stopper = server.stop_handle();
    /// std::thread::spawn(move || stopper.stop_now()); // sooner or later
    /// server.run()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`turn`](Self::turn).
    pub fn run(mut self) -> io::Result<()> {
        turn_until(&mut self.engine, Engine::is_done)
    }

    fn turn_after(&mut self, timeout: Option<Duration>) -> io::Result<Wait> {
        self.engine.poll(timeout)?;
        self.now = self.clock.now();
        let due = self.engine.turn(self.now);
        self.last = self.engine.wait_until(due);
        Ok(self.last)
    }

    /// Wakes every upgraded connection whose mask has [`EXTERNAL`](crate::EventMask::EXTERNAL), as if each one's
    /// waker had been called: for protocols that want a call at every turn of the application's loop. The next
    /// [`turn`](Self::turn) makes the calls.
    pub fn wake_all(&mut self) {
        self.engine.wake_all();
        self.last = Wait::Now;
    }

    /// The address of the first listener; `None` if it is none of TCP.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.addr
    }

    /// Stops it, from any thread.
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle(self.loops.clone())
    }

    /// Its loop, to hand it streams from any thread.
    pub fn loop_handle(&self) -> LoopHandle {
        self.engine.handle()
    }

    /// It was stopped, and no connection is left: there is no need to call it any more.
    pub fn is_done(&self) -> bool {
        self.engine.is_done()
    }
}

impl fmt::Debug for ExternalServer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("External").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl AsRawFd for ExternalServer<'_> {
    /// The descriptor to wait for; readable when [`turn`](Self::turn) has something to do. Not to be read, written or
    /// closed.
    fn as_raw_fd(&self) -> RawFd {
        self.engine.as_raw_fd()
    }
}
