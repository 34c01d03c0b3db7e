//! A daemon: its start, its end, and what its threads share.

use std::{
    ffi::{c_int, c_uint, c_void},
    io,
    net::TcpStream,
    os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd},
    slice,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering},
    },
    time::Duration,
};

use libc::size_t;
use uncork::{Listen, LoopHandle, Running, Server, h1::Version};

use crate::{
    handler::Bridge,
    info_cell::DaemonInfos,
    listen, logging,
    options::{Callback, OptionItem, Options},
    own_loop::OwnLoop,
    shared::{Gauge, Shared, lock},
    types::{AcceptPolicy, AccessHandler, FromC, NO, YES, flag},
};

/// `struct MHD_Daemon`, which C knows by its address only.
pub struct MHD_Daemon {
    pub(crate) shared: Arc<Shared>,
    running: Mutex<Option<Running>>,
    /// The loop of a daemon without threads.
    own_loop: OnceLock<OwnLoop>,
    /// The loops, for connections that the program adds.
    loops: OnceLock<Vec<LoopHandle>>,
    /// The listening socket; the loops have copies of the descriptor.
    socket: Mutex<Option<OwnedFd>>,
    /// The descriptor of the program's own socket, which stays the program's.
    given: Option<RawFd>,
    pub(crate) port: u16,
    pub(crate) infos: DaemonInfos,
    /// Connections that the program has added: the loops take them in turn.
    added: AtomicUsize,
}

/// Time for idle threads to end after the daemon has. They call nothing of the program any more.
const SLACK: Duration = Duration::from_secs(2);

/// Time for upgraded connections to end: their handlers are told of the stop, and what they send is sent.
const UPGRADE_GRACE: Duration = Duration::from_secs(1);

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text.into())
}

/// The ways to serve, as the flags tell.
enum Mode {
    Threads(usize),
    ThreadPerConnection,
    /// The program's own loop.
    External,
}

fn mode(flags: u32, options: &Options) -> io::Result<Mode> {
    // Some programs pass the second flag without the first.
    if flags & flag::THREAD_PER_CONNECTION != 0 {
        return match options.pool {
            Some(2..) => Err(invalid("a thread pool cannot be combined with a thread for each connection")),
            _ => Ok(Mode::ThreadPerConnection),
        };
    }
    if flags & flag::INTERNAL_POLLING_THREAD == 0 {
        return match options.pool {
            Some(2..) => Err(invalid("a thread pool needs MHD_USE_INTERNAL_POLLING_THREAD")),
            _ => Ok(Mode::External),
        };
    }
    Ok(Mode::Threads(options.pool.unwrap_or(1).max(1) as usize))
}

/// Holds SIGPIPE back in this thread and in those that it starts: a daemon must not end its program because a client
/// has disconnected.
struct WithoutSigpipe(libc::sigset_t);

impl WithoutSigpipe {
    fn begin() -> Self {
        // SAFETY: The sets are plain data, which these functions initialize.
        unsafe {
            let mut old: libc::sigset_t = std::mem::zeroed();
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, libc::SIGPIPE);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, &raw mut old);
            Self(old)
        }
    }
}

impl Drop for WithoutSigpipe {
    fn drop(&mut self) {
        // SAFETY: The set is the one that this thread had.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
    }
}

impl MHD_Daemon {
    /// Returns the daemon of a pointer.
    ///
    /// # Safety
    /// The pointer must be NULL, or a daemon that has not been stopped.
    pub(crate) unsafe fn of_c<'a>(daemon: *const Self) -> Option<&'a Self> {
        // SAFETY: The caller guarantees it.
        unsafe { daemon.as_ref() }
    }

    fn start(
        flags: u32,
        port: u16,
        policy: Callback<AcceptPolicy>,
        handler: (AccessHandler, FromC<c_void>),
        options: Options,
    ) -> io::Result<Arc<Self>> {
        let tls = if flags & flag::TLS != 0 { Some(options.tls.configure(&options.log)?) } else { None };
        let mode = mode(flags, &options)?;
        let socket = listen::open(&options, flags, port)?;
        let port = socket.as_ref().map_or(0, listen::port);
        // The interface has no version behind HTTP/1.1, and programs take all others for HTTP/1.0.
        let mut server = Server::new().limits(options.limits()).versions([Version::Http11]);
        // Connections that the program adds are served as those of the first listener.
        let listen = match &socket {
            Some(socket) => Listen::inherited(socket.try_clone()?)?,
            None => Listen::none(),
        };
        server = server.listen(match tls {
            Some(tls) => listen.tls(tls),
            None => listen,
        });
        let shared = Arc::new(Shared {
            flags,
            log: options.log,
            auth: options.auth,
            timeout: options.timeout.map_or(0, |timeout| u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX)),
            policy,
            handler,
            completed: options.completed,
            notify_connection: options.notify_connection,
            uri_log: options.uri_log,
            unescape: options.unescape,
            connections: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            held_back: Mutex::default(),
            daemon: AtomicPtr::new(std::ptr::null_mut()),
            handlers: Gauge::default(),
            upgraded: Gauge::default(),
            helpers: Gauge::default(),
        });
        let daemon = Arc::new(Self {
            shared: shared.clone(),
            running: Mutex::default(),
            own_loop: OnceLock::new(),
            loops: OnceLock::new(),
            socket: Mutex::new(socket),
            given: options.socket,
            port,
            infos: DaemonInfos::default(),
            added: AtomicUsize::new(0),
        });
        // Callbacks can run, and ask for it, before the start returns.
        shared.daemon.store(Arc::as_ptr(&daemon).cast_mut().cast(), Ordering::Release);
        let _without_sigpipe = WithoutSigpipe::begin();
        logging::enter(&shared);
        let bridge = Bridge::new(shared);
        let running = match mode {
            Mode::Threads(count) => server.threads(count, bridge)?,
            Mode::ThreadPerConnection => server.thread_per_connection(bridge)?,
            Mode::External => {
                let server = server.external(bridge)?;
                let _ = daemon.loops.set(vec![server.loop_handle()]);
                let _ = daemon.own_loop.set(OwnLoop::new(server));
                return Ok(daemon);
            }
        };
        let _ = daemon.loops.set(running.loops());
        *lock(&daemon.running) = Some(running);
        Ok(daemon)
    }

    /// Returns the loop of a daemon without threads.
    pub(crate) fn own_loop(&self) -> Option<&OwnLoop> {
        self.own_loop.get()
    }

    /// Returns the descriptor of the listening socket, as the program knows it.
    pub(crate) fn listen_fd(&self) -> Option<RawFd> {
        let socket = lock(&self.socket);
        socket.as_ref().map(|socket| self.given.unwrap_or(socket.as_raw_fd()))
    }

    /// Serves a connected socket.
    fn add(&self, socket: OwnedFd) -> io::Result<()> {
        let handles = self.loops.get().map(Vec::as_slice).unwrap_or_default();
        let next = self.added.fetch_add(1, Ordering::Relaxed) % handles.len().max(1);
        let handle = handles.get(next).ok_or_else(|| invalid("the daemon has stopped"))?;
        match handle.adopt(TcpStream::from(socket)) {
            Ok(()) => Ok(()),
            Err(_) => Err(invalid("the daemon has stopped")),
        }
    }

    fn quiesce(&self) -> Option<RawFd> {
        if let Some(running) = &*lock(&self.running) {
            // Copies of the socket: closing them does not end it.
            drop(running.quiesce());
        }
        if let Some(own) = self.own_loop() {
            // Not from one of its callbacks.
            drop(own.quiesce()?);
        }
        let socket = lock(&self.socket).take()?;
        Some(self.given.unwrap_or_else(|| socket.into_raw_fd()))
    }

    fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        let running = lock(&self.running).take();
        if let Some(running) = running.as_ref().filter(|_| !self.shared.upgraded.is_zero()) {
            running.stop_handle().shutdown(UPGRADE_GRACE);
            self.shared.upgraded.wait(Some(UPGRADE_GRACE));
        }
        match running.map(Running::stop_now) {
            None => {}
            Some(Ok(())) => self.shared.handlers.wait(Some(SLACK)),
            Some(Err(error)) => {
                self.shared.log.line(&format_args!("while the daemon stops: {error}"));
                // Callbacks that block keep their threads. What they use may be freed once this returns.
                self.shared.handlers.wait(None);
            }
        }
        if let Some(own) = self.own_loop() {
            own.stop(&self.shared.upgraded, UPGRADE_GRACE);
        }
        self.shared.helpers.wait(None);
        let left: Vec<_> = lock(&self.shared.held_back).drain(..).collect();
        for connection in left {
            connection.report_end();
        }
        lock(&self.socket).take();
    }
}

/// Starts a daemon. `variadic.c` has read the options.
///
/// # Safety
/// `items` must point to as many options as `count` says; callbacks must have the types of the interface.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn uncork_mhd_start(
    flags: c_uint,
    port: u16,
    policy: Option<AcceptPolicy>,
    policy_cls: *mut c_void,
    handler: Option<AccessHandler>,
    handler_cls: *mut c_void,
    items: *const OptionItem,
    count: size_t,
) -> *const MHD_Daemon {
    crate::boundary::guard("MHD_start_daemon", std::ptr::null(), || {
        logging::install();
        let mut options = Options::new(flags);
        let items = match count {
            0 => &[],
            // SAFETY: The caller guarantees it.
            _ => unsafe { slice::from_raw_parts(items, count) },
        };
        let read = options.read(items, 0).map_err(|error| invalid(error.to_string()));
        let log = options.log;
        let started = read.and_then(|()| {
            let handler = handler.ok_or_else(|| invalid("the access handler is NULL"))?;
            let policy = policy.map(|policy| (policy, FromC(policy_cls)));
            MHD_Daemon::start(flags, port, policy, (handler, FromC(handler_cls)), options)
        });
        match started {
            Ok(daemon) => Arc::into_raw(daemon),
            Err(error) => {
                log.line(&format_args!("cannot start the daemon: {error}"));
                let code = error.raw_os_error().unwrap_or(match error.kind() {
                    io::ErrorKind::InvalidInput => libc::EINVAL,
                    _ => libc::EIO,
                });
                // SAFETY: The location is this thread's own.
                unsafe { *libc::__errno_location() = code };
                std::ptr::null()
            }
        }
    })
}

export! {
    /// Stops a daemon: ends its connections, waits for its threads, and frees it.
    fn MHD_stop_daemon(daemon: *const MHD_Daemon), or (); {
        if daemon.is_null() {
            return;
        }
        // SAFETY: By the contract of the interface it is a daemon that was not stopped, and this is the last use of it.
        let daemon = unsafe { Arc::from_raw(daemon) };
        daemon.stop();
    }
}

export! {
    /// Stops accepting, and gives the listening socket to the program; -1 if there is none.
    fn MHD_quiesce_daemon(daemon: *const MHD_Daemon) -> c_int, or -1; {
        // SAFETY: By the contract of the interface it is NULL or a daemon.
        unsafe { MHD_Daemon::of_c(daemon) }.and_then(MHD_Daemon::quiesce).unwrap_or(-1)
    }
}

export! {
    /// Serves a connected socket, which it closes in any case. The system knows the address of the peer.
    fn MHD_add_connection(
        daemon: *const MHD_Daemon, socket: c_int, _addr: *const libc::sockaddr, _len: libc::socklen_t,
    ) -> crate::types::Result, or NO; {
        // SAFETY: By the contract of the interface it is NULL or a daemon.
        let daemon = unsafe { MHD_Daemon::of_c(daemon) };
        if socket < 0 {
            return NO;
        }
        // SAFETY: By the contract of the interface the program gives the open descriptor away.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let Some(daemon) = daemon else { return NO };
        match daemon.add(socket) {
            Ok(()) => YES,
            Err(error) => {
                daemon.shared.log.line(&format_args!("cannot add a connection: {error}"));
                NO
            }
        }
    }
}
