//! A server: its listeners, the ways to drive it, and its end.

#[cfg(all(feature = "http2", any(test, fuzzing, feature = "__internals")))]
pub(crate) mod http2_fuzz;
mod listen;
#[cfg(all(feature = "tunnel", any(test, fuzzing, feature = "__internals")))]
pub(crate) mod manual;
mod running;

use std::{
    fmt, io,
    net::{SocketAddr, ToSocketAddrs},
    sync::{Arc, Mutex},
};

use self::listen::ConnSetup;
pub use self::{listen::Listen, running::Running};
use crate::{
    api::{AccessRecord, Handler},
    base::{Limits, lock},
    drive::{Loops, external::ExternalServer, per_conn, threads},
    engine::{AccessLog, Admission, LoopListener, Setup, Versions},
    h1::Version,
};

/// A server that is being configured: listeners, limits, and then one of three ways to drive it.
///
/// ```no_run
/// use uncork::{Request, Response, Server};
/// # fn main() -> std::io::Result<()> {
/// Server::bind("127.0.0.1:8080")?
///     .threads(4, |_: &mut Request<'_>| Response::text("Hello, world!\n"))?
///     .join()
/// # }
/// ```
#[derive(Default)]
#[must_use = "a server serves when it is driven: `threads`, `thread_per_connection` or `external`"]
pub struct Server {
    listeners: Vec<Listen>,
    limits: Limits,
    access_log: Option<Arc<AccessLog>>,
    versions: Versions,
}

impl Server {
    /// Creates a server without a listener. It serves what [`LoopHandle::adopt`](crate::LoopHandle::adopt) passes to
    /// it, without TLS, until listeners are [added](Self::listen).
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a server with one plain TCP listener: the short form of `Server::new().listen(Listen::tcp(addr)?)`.
    /// For HTTPS, see [`Listen::tls`].
    ///
    /// # Errors
    /// As [`Listen::tcp`].
    pub fn bind(addr: impl ToSocketAddrs + fmt::Debug) -> io::Result<Self> {
        Ok(Self::new().listen(Listen::tcp(addr)?))
    }

    /// Adds a listener. Its index, which [`Request::listener_index`](crate::Request::listener_index) returns, is the
    /// number of listeners added before it.
    pub fn listen(mut self, listen: Listen) -> Self {
        self.listeners.push(listen);
        self
    }

    /// Sets the limits, instead of [`Limits::default`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Calls `log` once for each request that has ended, on the loop of its connection. `log` must not block: it delays
    /// all connections of that loop. The `Display` of the record is the combined log format.
    pub fn access_log(mut self, log: impl Fn(&AccessRecord<'_>) + Send + Sync + 'static) -> Self {
        self.access_log = Some(Arc::new(log));
        self
    }

    /// Sets the versions of HTTP that clients may use, for all listeners. By default these are HTTP/1.1 and HTTP/1.0, and
    /// with the feature `http2` also HTTP/2 (without the feature, [`Version::Http2`] has no effect). HTTP/1.0 and
    /// HTTP/1.1 belong together: either allows both.
    ///
    /// Over TLS, a client and the server agree on the version by ALPN; without TLS, a client of HTTP/2 begins with its
    /// preface (RFC 9113 §3). A request in a version that is not allowed gets a 505. A request without TLS at a port of
    /// HTTPS gets a 400, over HTTP/2 as well.
    ///
    /// ```no_run
    /// use uncork::{Server, h1::Version};
    /// # fn main() -> std::io::Result<()> {
    /// let server = Server::bind("127.0.0.1:8080")?.versions([Version::Http11]);
    /// # Ok(()) }
    /// ```
    pub fn versions(mut self, versions: impl IntoIterator<Item = Version>) -> Self {
        self.versions = Versions { http1: false, http2: false };
        for version in versions {
            match version {
                Version::Http10 | Version::Http11 => self.versions.http1 = true,
                Version::Http2 => self.versions.http2 = cfg!(feature = "http2"),
            }
        }
        self
    }

    /// Returns the address of the first TCP listener; `None` if there is none.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addrs().next()
    }

    /// Returns the addresses of all TCP listeners.
    pub fn local_addrs(&self) -> impl Iterator<Item = SocketAddr> {
        self.listeners.iter().filter_map(Listen::local_addr)
    }

    /// Runs `count` loops (at least one), each in a thread of its own, with a clone of `handler`. Each loop has its own
    /// listening sockets where the system distributes connections among them (SO_REUSEPORT).
    ///
    /// # Errors
    /// The system's error if it cannot create a socket, a selector or a thread.
    pub fn threads<H>(mut self, count: usize, handler: H) -> io::Result<Running>
    where
        H: Handler + Clone + Send + 'static,
    {
        let (count, addr, admission) = (count.max(1), self.local_addr(), Arc::new(Admission::new(&self.limits)));
        if count > 1 {
            self.listeners.iter().try_for_each(Listen::allow_more)?;
        }
        let mut setups = Vec::with_capacity(count);
        for _ in 1..count {
            let listeners: io::Result<_> = self.listeners.iter().map(Listen::for_another_loop).collect();
            setups.push(self.setup(listeners?, handler.clone(), &admission));
        }
        let shared = self.listeners.iter().map(Listen::is_shared).collect();
        let listeners = self.take_listeners();
        setups.push(self.setup(listeners, handler, &admission));
        let loops = Loops::default();
        let threads = threads::start(setups, &loops)?;
        Ok(Running { threads, accepting: loops.all(), loops, addr, shared })
    }

    /// Serves each connection in a thread of its own, with a clone of `handler`, which may block. Use it for handlers
    /// that must block: each connection costs a thread and three descriptors.
    ///
    /// While a handler blocks, its connection and its loop do nothing else: no deadline fires, no wake arrives. Between
    /// two connections a thread keeps turning its [`LoopHandle`](crate::LoopHandle), so connections dialled there
    /// continue.
    ///
    /// A body arrives after the handler has returned, as in the other modes. The methods of its
    /// [`Upload`](crate::Upload) may block, too: write each piece to a file in [`data`](crate::Upload::data), for
    /// example. Code that needs a [`Read`](std::io::Read) runs in another thread, with
    /// [`PipeOut::reader`](crate::PipeOut::reader).
    ///
    /// # Errors
    /// The system's error if it cannot create a selector or a thread.
    pub fn thread_per_connection<H>(mut self, handler: H) -> io::Result<Running>
    where
        H: Handler + Clone + Send + 'static,
    {
        let (addr, admission) = (self.local_addr(), Arc::new(Admission::new(&self.limits)));
        let loops = Loops::default();
        // From the listeners, the engine of a connection needs only their `ConnSetup`.
        let conn_setups: Vec<ConnSetup> = self.listeners.iter().map(Listen::setup).collect();
        let shared = self.listeners.iter().map(Listen::is_shared).collect();
        let listeners = self.take_listeners();
        let acceptor = self.setup(listeners, handler.clone(), &admission);
        let (limits, access_log, versions) = (self.limits, self.access_log, self.versions);
        let prototype = Mutex::new(handler);
        let make = move || Setup {
            handler: Box::new(lock(&prototype).clone()),
            listeners: conn_setups.iter().map(ConnSetup::without_socket).collect(),
            limits: limits.clone(),
            admission: admission.clone(),
            access_log: access_log.clone(),
            versions,
            hand_off: None,
        };
        let workers = per_conn::Threads::new(make, loops.clone());
        let threads = workers.clone();
        let acceptor = move || Setup { hand_off: Some(Box::new(move |arrival| threads.take(arrival))), ..acceptor() };
        let stopped = loops.clone();
        let (thread, accepting) = per_conn::start(acceptor, workers, move || stopped.grace())?;
        Ok(Running { threads: vec![thread], accepting: vec![accepting], loops, addr, shared })
    }

    /// Serves inside the application's own event loop. The handler can borrow, and needs neither `Send` nor `'static`.
    ///
    /// What it returns must be both: an [`Upload`](crate::Upload), a [`Produce`](crate::Produce), an
    /// [`Upgrade`](crate::Upgrade), and the functions that become one. Like the handler, they are called by
    /// [`turn`](ExternalServer::turn) only. But they are parts of an [`Action`](crate::Action), which a
    /// [`Ticket`](crate::Ticket) can also pass to the loop from another thread, in each of the three modes. They reach
    /// the state of the program by a channel, or share it in an `Arc<Mutex<_>>`, whose lock is never contended if all
    /// of the program is one thread.
    ///
    /// ```
    /// use std::{cell::RefCell, sync::mpsc};
    /// use uncork::{Action, Request, Response, Server};
    /// # fn main() -> std::io::Result<()> {
    /// let notes = RefCell::new(Vec::new()); // the handler borrows it
    /// let (sender, bodies) = mpsc::channel();
    /// let mut server = Server::bind("127.0.0.1:0")?.external(|req: &mut Request<'_>| {
    ///     if req.method() != "POST" {
    ///         return Action::from(Response::text(format!("{} notes\n", notes.borrow().len())));
    ///     }
    ///     let sender = sender.clone(); // the function below cannot borrow `notes`
    ///     Action::receive_whole(1000, move |body| match sender.send(body) {
    ///         Ok(()) => Response::new(204),
    ///         Err(_) => Response::new(500),
    ///     })
    /// })?;
    /// # server.stop_handle().stop_now();
    /// while !server.is_done() {
    ///     server.wait(None)?;
    ///     notes.borrow_mut().extend(bodies.try_iter());
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The system's error if it cannot create a selector.
    pub fn external<'h, H>(self, handler: H) -> io::Result<ExternalServer<'h>>
    where
        H: Handler + 'h,
    {
        let (addr, admission) = (self.local_addr(), Arc::new(Admission::new(&self.limits)));
        let setup = Setup {
            handler: Box::new(handler),
            listeners: self.listeners.into_iter().map(Listen::into_loop_listener).collect(),
            limits: self.limits,
            admission,
            access_log: self.access_log,
            versions: self.versions,
            hand_off: None,
        };
        ExternalServer::new(setup, addr)
    }

    fn take_listeners(&mut self) -> Vec<LoopListener> {
        std::mem::take(&mut self.listeners).into_iter().map(Listen::into_loop_listener).collect()
    }

    fn setup<H: Handler + Send + 'static>(
        &self,
        listeners: Vec<LoopListener>,
        handler: H,
        admission: &Arc<Admission>,
    ) -> impl FnOnce() -> Setup<'static> + Send + use<H> {
        let (limits, admission, access_log) = (self.limits.clone(), admission.clone(), self.access_log.clone());
        let versions = self.versions;
        move || Setup { handler: Box::new(handler), listeners, limits, admission, access_log, versions, hand_off: None }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addrs", &self.local_addrs().collect::<Vec<_>>()).finish_non_exhaustive()
    }
}
