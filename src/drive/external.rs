//! A server in the application's own loop: one descriptor, one call, and the time of the next call.

use std::{
    fmt, io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    time::Duration,
};

use super::{Clock, Loops, StopHandle, turn_until};
use crate::{
    api::LoopHandle,
    base::{Moment, Wait},
    engine::{Engine, Setup},
};

/// A server that the application drives from its own `select`, `poll` or `epoll` loop.
///
/// There is one descriptor for any number of connections, readable when there is something to do. So a `select` loop
/// serves more connections than `FD_SETSIZE`. Wakes from other threads make it readable too.
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
///     // Or: put `server.as_fd()` (or `as_raw_fd`) into your own poll, sleep for at most the last `Wait`, then `turn`. A
///     // program that has nothing else to do calls `server.run()`.
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

    /// Does the work that is ready, without sleeping. Returns when to call again if the descriptor does not become
    /// readable before.
    ///
    /// # Errors
    /// The system's error if it cannot report events any more. Then nothing can be served.
    pub fn turn(&mut self) -> io::Result<Wait> {
        self.turn_after(Some(Duration::ZERO))
    }

    /// Sleeps until there is something to do, or until `max` has passed, then turns. For a program without a loop of
    /// its own.
    ///
    /// # Errors
    /// As [`turn`](Self::turn).
    pub fn wait(&mut self, max: Option<Duration>) -> io::Result<Wait> {
        let own = self.last.timeout(self.clock.now().mono);
        let timeout = match (own, max) {
            (Some(own), Some(max)) => Some(own.min(max)),
            (own, max) => own.or(max),
        };
        self.turn_after(timeout)
    }

    /// Serves in this thread until the server was [stopped](StopHandle) and has ended: for a program that has nothing
    /// else to do. A process with a single thread is also the cheapest: neither the system nor libc must lock anything.
    ///
    /// ```
    /// use uncork::{Request, Response, Server};
    /// # fn main() -> std::io::Result<()> {
    /// let server = Server::bind("127.0.0.1:0")?.external(|_: &mut Request<'_>| Response::text("Hello!"))?;
    /// let handle = server.stop_handle();
    /// std::thread::spawn(move || handle.stop_now()); // sooner or later
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

    /// Wakes every upgraded connection whose mask has [`EXTERNAL`](crate::EventMask::EXTERNAL), as if its waker was
    /// called. Use it for protocols that need a call at every turn of the application's loop. The next
    /// [`turn`](Self::turn) makes the calls.
    pub fn wake_all(&mut self) {
        self.engine.wake_all();
        self.last = Wait::Now;
    }

    /// Returns the address of the first TCP listener; `None` if there is none.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.addr
    }

    /// Returns a handle that stops the server from any thread.
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle(self.loops.clone())
    }

    /// Stops accepting, and gives the listening sockets back, in the order of the listeners. Connections that were
    /// accepted are served as before; [`stop_handle`](Self::stop_handle) ends them.
    ///
    /// Connections that the system has queued stay in the queues of the sockets: nothing is lost if another server
    /// [inherits](crate::Listen::inherited) these. The descriptors are non-blocking. A second call returns none.
    pub fn quiesce(&mut self) -> Vec<OwnedFd> {
        self.engine.quiesce().into_iter().map(|(_, socket)| socket).collect()
    }

    /// Returns the handle of its loop, which adopts and dials connections from any thread.
    pub fn loop_handle(&self) -> LoopHandle {
        self.engine.handle()
    }

    /// Returns `true` if the server was stopped and no connection is left: it need not be turned any more.
    pub fn is_done(&self) -> bool {
        self.engine.is_done()
    }
}

impl fmt::Debug for ExternalServer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalServer").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl AsFd for ExternalServer<'_> {
    /// Like [`as_raw_fd`](Self::as_raw_fd), but borrowed from the server.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.engine.as_fd()
    }
}

impl AsRawFd for ExternalServer<'_> {
    /// Returns the descriptor to wait for; readable when [`turn`](Self::turn) has something to do. Do not read, write
    /// or close it.
    fn as_raw_fd(&self) -> RawFd {
        self.engine.as_fd().as_raw_fd()
    }
}
