//! A C-like application that calls the interface in random order, and its clients, all in one thread.
//!
//! ```text
//!   bytes ──▶ the next call: of the application, of a client, or what a callback does
//! ```
//!
//! It keeps the rules that the interface has for pointers, and no others: a connection is used from its first report to
//! its last, a response until it was destroyed. At the end, what was begun has ended: each connection, each request, each
//! memory that was given away. `fuzz/fuzz_targets/capi.rs` runs it, too.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    ffi::{c_char, c_int, c_uint, c_void},
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    os::fd::IntoRawFd as _,
    ptr::{null, null_mut},
};

// The functions are exported by name.
use microhttpd as _;

type Daemon = c_void;
type Connection = c_void;
type Response = c_void;

type AccessHandler = unsafe extern "C" fn(
    *mut c_void,
    *mut Connection,
    *const c_char,
    *const c_char,
    *const c_char,
    *const c_char,
    *mut usize,
    *mut *mut c_void,
) -> c_int;
type Notify = unsafe extern "C" fn(*mut c_void, *mut Connection, *mut *mut c_void, c_int);
type Reader = unsafe extern "C" fn(*mut c_void, u64, *mut c_char, usize) -> isize;
type Free = unsafe extern "C" fn(*mut c_void);
type Field = unsafe extern "C" fn(
    *mut c_void,
    c_int,
    *const c_char,
    *const c_char,
    *const c_char,
    *const c_char,
    *const c_char,
    u64,
    usize,
) -> c_int;
type Each = unsafe extern "C" fn(*mut c_void, c_int, *const c_char, *const c_char) -> c_int;

type Events = unsafe extern "C" fn(
    *mut c_void,
    *mut Connection,
    *mut *mut c_void,
    *mut usize,
    *const c_char,
    *mut usize,
    *mut c_char,
) -> c_uint;
type Upgraded =
    unsafe extern "C" fn(*mut c_void, *mut Connection, *mut c_void, *const c_char, usize, c_int, *mut c_void);

unsafe extern "C" {
    fn MHD_start_daemon(
        flags: c_uint,
        port: u16,
        apc: *const c_void,
        apc_cls: *mut c_void,
        dh: Option<AccessHandler>,
        dh_cls: *mut c_void,
        ...
    ) -> *mut Daemon;
    fn MHD_stop_daemon(daemon: *mut Daemon);
    fn MHD_quiesce_daemon(daemon: *mut Daemon) -> c_int;
    fn MHD_add_connection(daemon: *mut Daemon, fd: c_int, addr: *const c_void, len: c_uint) -> c_int;
    fn MHD_run(daemon: *mut Daemon) -> c_int;
    fn MHD_run_wait(daemon: *mut Daemon, millis: i32) -> c_int;
    fn MHD_get_timeout(daemon: *mut Daemon, timeout: *mut u64) -> c_int;
    fn MHD_get_timeout64s(daemon: *mut Daemon) -> i64;
    fn MHD_get_fdset2(
        daemon: *mut Daemon,
        read: *mut c_void,
        write: *mut c_void,
        except: *mut c_void,
        max: *mut c_int,
        size: c_uint,
    ) -> c_int;
    fn MHD_get_daemon_info(daemon: *mut Daemon, info: c_int, ...) -> *const c_void;
    fn MHD_get_connection_info(connection: *mut Connection, info: c_int, ...) -> *const c_void;
    fn MHD_set_connection_option(connection: *mut Connection, option: c_int, ...) -> c_int;
    fn MHD_queue_response(connection: *mut Connection, status: c_uint, response: *mut Response) -> c_int;
    fn MHD_suspend_connection(connection: *mut Connection);
    fn MHD_resume_connection(connection: *mut Connection);
    fn MHD_lookup_connection_value(connection: *mut Connection, kind: c_int, key: *const c_char) -> *const c_char;
    fn MHD_get_connection_values(
        connection: *mut Connection,
        kind: c_int,
        each: Option<Each>,
        cls: *mut c_void,
    ) -> c_int;
    fn MHD_set_connection_value(
        connection: *mut Connection,
        kind: c_int,
        key: *const c_char,
        value: *const c_char,
    ) -> c_int;
    fn MHD_create_post_processor(
        connection: *mut Connection,
        size: usize,
        field: Option<Field>,
        cls: *mut c_void,
    ) -> *mut c_void;
    fn MHD_post_process(processor: *mut c_void, data: *const c_char, size: usize) -> c_int;
    fn MHD_destroy_post_processor(processor: *mut c_void) -> c_int;
    fn MHD_create_response_from_buffer(size: usize, buffer: *mut c_void, mode: c_int) -> *mut Response;
    fn MHD_create_response_from_buffer_with_free_callback_cls(
        size: usize,
        buffer: *const c_void,
        free: Option<Free>,
        cls: *mut c_void,
    ) -> *mut Response;
    fn MHD_create_response_from_callback(
        size: u64,
        block: usize,
        read: Option<Reader>,
        cls: *mut c_void,
        free: Option<Free>,
    ) -> *mut Response;
    fn MHD_create_response_for_upgrade_events(handler: Option<Events>, cls: *mut c_void) -> *mut Response;
    fn MHD_create_response_for_upgrade(handler: Option<Upgraded>, cls: *mut c_void) -> *mut Response;
    fn MHD_upgrade_action(handle: *mut c_void, action: c_int, ...) -> c_int;
    fn MHD_upgrade_events(connection: *mut Connection) -> c_uint;
    fn MHD_upgrade_finish(connection: *mut Connection) -> c_int;
    fn MHD_upgrade_abort(connection: *mut Connection) -> c_int;
    fn MHD_upgrade_set_deadline(connection: *mut Connection, milliseconds: i64) -> c_int;
    fn MHD_upgrade_wake(connection: *mut Connection) -> c_int;
    fn MHD_upgrade_wake_all(daemon: *mut Daemon) -> c_int;
    fn MHD_create_response_empty(flags: c_uint) -> *mut Response;
    fn MHD_destroy_response(response: *mut Response);
    fn MHD_set_response_options(response: *mut Response, flags: c_uint, ...) -> c_int;
    fn MHD_add_response_header(response: *mut Response, name: *const c_char, value: *const c_char) -> c_int;
    fn MHD_add_response_footer(response: *mut Response, name: *const c_char, value: *const c_char) -> c_int;
    fn MHD_del_response_header(response: *mut Response, name: *const c_char, value: *const c_char) -> c_int;
    fn MHD_get_response_header(response: *mut Response, name: *const c_char) -> *const c_char;
    fn MHD_get_response_headers(response: *mut Response, each: Option<Each>, cls: *mut c_void) -> c_int;
    fn MHD_basic_auth_get_username_password3(connection: *mut Connection) -> *mut c_void;
    fn MHD_queue_basic_auth_fail_response(
        connection: *mut Connection,
        realm: *const c_char,
        response: *mut Response,
    ) -> c_int;
    fn MHD_digest_auth_get_request_info3(connection: *mut Connection) -> *mut c_void;
    fn MHD_digest_auth_check3(
        connection: *mut Connection,
        realm: *const c_char,
        username: *const c_char,
        password: *const c_char,
        nonce_timeout: c_uint,
        max_nc: u32,
        mqop: c_uint,
        malgo3: c_uint,
    ) -> c_int;
    fn MHD_queue_auth_fail_response2(
        connection: *mut Connection,
        realm: *const c_char,
        opaque: *const c_char,
        response: *mut Response,
        signal_stale: c_int,
        algo: c_int,
    ) -> c_int;
    fn MHD_free(memory: *mut c_void);
}

const ALLOW_SUSPEND_RESUME: c_uint = 8192;
const NO_LISTEN_SOCKET: c_uint = 256;
const ALLOW_UPGRADE: c_uint = 32768;
const OPTION_TIMEOUT: c_int = 3;
const OPTION_MEMORY_LIMIT: c_int = 1;
const OPTION_NOTIFY_COMPLETED: c_int = 4;
const OPTION_NOTIFY_CONNECTION: c_int = 27;

/// Requests of the clients; each may be sent in parts.
const REQUESTS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /path%20x?a=b&c=%41&d HTTP/1.1\r\nHost: a\r\nCookie: k=v; l=\"w\"\r\n\r\n",
    b"POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n01234567890123456789",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Trailer: y\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 3\r\n\r\nabc",
    b"HEAD / HTTP/1.0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"nonsense\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Digest username=\"12\", realm=\"close\", uri=\"/\", nonce=\"00\", \
      qop=auth, nc=00000001, cnonce=a, response=\"0123456789abcdef0123456789abcdef\", opaque=o\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: a\r\n\r\nearly",
    b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: a\r\n\r\n",
    b"GET /b HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
];

const NAMES: [&[u8]; 8] = [
    b"Content-Type\0",
    b"Date\0",
    b"Connection\0",
    b"Transfer-Encoding\0",
    b"Content-Length\0",
    b"X-Name\0",
    b"not a token\0",
    b"\0",
];
const VALUES: [&[u8]; 6] = [b"close\0", b"chunked\0", b"text/plain\0", b"a\r\nb\0", b"\0", b"12\0"];

/// The application, with what its callbacks share.
struct App<'d> {
    data: Cell<&'d [u8]>,
    daemon: Cell<*mut Daemon>,
    /// Between their first and their last report.
    connections: RefCell<Vec<*mut Connection>>,
    responses: RefCell<Vec<*mut Response>>,
    clients: RefCell<Vec<TcpStream>>,
    listener: TcpListener,
    /// Requests in progress, by the address of what the application keeps for each.
    requests: RefCell<HashMap<usize, *mut Connection>>,
    given: Cell<usize>,
    freed: Cell<usize>,
    in_callback: Cell<bool>,
    /// Sockets of upgraded connections that the application has not closed, with their handles.
    sockets: RefCell<Vec<(c_int, *mut c_void)>>,
}

fn text(bytes: &'static [u8]) -> *const c_char {
    bytes.as_ptr().cast()
}

impl App<'_> {
    fn byte(&self) -> u8 {
        let Some((first, rest)) = self.data.get().split_first() else { return 0 };
        self.data.set(rest);
        *first
    }

    fn pick<T: Copy>(&self, from: &[T]) -> Option<T> {
        let index = usize::from(self.byte());
        from.get(index.checked_rem(from.len())?).copied()
    }

    fn cls(&self) -> *mut c_void {
        (&raw const *self).cast_mut().cast()
    }

    fn start(&self) {
        let choice = self.byte();
        let flags = NO_LISTEN_SOCKET | if choice & 1 == 0 { ALLOW_SUSPEND_RESUME | ALLOW_UPGRADE } else { 0 };
        let (timeout, memory) = (c_uint::from(choice & 2), usize::from(choice >> 2) * 100);
        let cls = self.cls();
        // SAFETY: The arguments have the types of the interface, and the application outlives the daemon.
        let daemon = unsafe {
            MHD_start_daemon(
                flags,
                0,
                null(),
                null_mut(),
                Some(handle),
                cls,
                OPTION_TIMEOUT,
                timeout,
                OPTION_MEMORY_LIMIT,
                memory,
                OPTION_NOTIFY_COMPLETED,
                completed as Notify,
                cls,
                OPTION_NOTIFY_CONNECTION,
                notify as Notify,
                cls,
                0 as c_int,
            )
        };
        assert!(!daemon.is_null(), "a daemon without a socket starts");
        self.daemon.set(daemon);
    }

    fn stop(&self) {
        // The stop would wait for their ends.
        for (_, handle) in self.sockets.take() {
            // SAFETY: Any handle may be passed.
            assert_eq!(unsafe { MHD_upgrade_action(handle, 0) }, 1);
        }
        // SAFETY: The daemon was not stopped.
        unsafe { MHD_stop_daemon(self.daemon.replace(null_mut())) };
        assert!(self.connections.borrow().is_empty(), "each connection was reported as closed");
        assert!(self.requests.borrow().is_empty(), "each request has ended");
        self.clients.borrow_mut().clear();
    }

    fn connect(&self) {
        if self.clients.borrow().len() >= 8 {
            return;
        }
        let address = self.listener.local_addr().expect("an address");
        let client = TcpStream::connect(address).expect("connected");
        client.set_nonblocking(true).expect("non-blocking");
        let (socket, _) = self.listener.accept().expect("accepted");
        self.clients.borrow_mut().push(client);
        // SAFETY: The daemon runs, and takes the descriptor.
        unsafe { MHD_add_connection(self.daemon.get(), socket.into_raw_fd(), null(), 0) };
    }

    /// What a client does.
    fn client(&self) {
        let (index, what) = (usize::from(self.byte()), self.byte());
        if self.clients.borrow().is_empty() {
            return self.connect();
        }
        // No callback runs within these calls.
        let mut clients = self.clients.borrow_mut();
        let index = index % clients.len();
        let mut scratch = [0; 4096];
        match what % 8 {
            0..=3 => {
                let request = self.pick(REQUESTS).unwrap_or_default();
                let part = usize::from(self.byte());
                let end = if part >= 128 { request.len() } else { part.min(request.len()) };
                let _ = clients[index].write(&request[..end]);
            }
            4 => {
                let junk = [self.byte(), self.byte(), b'\r', b'\n'];
                let _ = clients[index].write(&junk);
            }
            5 => {
                let _ = clients[index].read(&mut scratch);
            }
            6 => {
                let _ = clients[index].shutdown(Shutdown::Write);
            }
            _ => drop(clients.swap_remove(index)),
        }
    }

    fn response(&self) -> Option<*mut Response> {
        let mut body = *b"twelve bytes";
        let (kind, size) = (self.byte(), usize::from(self.byte()));
        let cls = self.cls();
        // SAFETY: Each buffer has the size that is said, and stays as its mode requires.
        let response = unsafe {
            match kind % 8 {
                0 => MHD_create_response_from_buffer(12, body.as_mut_ptr().cast(), 2),
                1 => MHD_create_response_from_buffer(12, text(b"twelve bytes").cast_mut().cast(), 0),
                2 => {
                    let memory = libc::calloc(1, size + 1);
                    MHD_create_response_from_buffer(size, memory, 1)
                }
                3 => MHD_create_response_from_buffer_with_free_callback_cls(4, text(b"free").cast(), Some(freed), cls),
                4 => {
                    let size = if size < 100 { u64::MAX } else { size as u64 };
                    MHD_create_response_from_callback(size, 64, Some(read), cls, Some(freed))
                }
                5 => MHD_create_response_empty(c_uint::from(kind & 1)),
                n => {
                    let response = match n {
                        6 => MHD_create_response_for_upgrade_events(Some(events), cls),
                        _ => MHD_create_response_for_upgrade(Some(upgraded), cls),
                    };
                    if size % 4 > 0 {
                        MHD_add_response_header(response, text(b"Upgrade\0"), text(b"a\0"));
                    }
                    response
                }
            }
        };
        if response.is_null() {
            return None;
        }
        self.given.update(|given| given + usize::from(matches!(kind % 8, 3 | 4)));
        Some(response)
    }

    /// Calls a function of the interface. Those that a callback may call, too.
    fn call(&self) {
        let (what, name, value) = (self.byte(), self.pick(&NAMES), self.pick(&VALUES));
        let (name, value) = (text(name.unwrap_or(b"\0")), text(value.unwrap_or(b"\0")));
        let response = self.pick(&self.responses.borrow().clone()).unwrap_or(null_mut());
        let connection = self.pick(&self.connections.borrow().clone()).unwrap_or(null_mut());
        let kind = c_int::from(self.byte());
        // SAFETY: Each pointer is NULL or valid, as the head of this file says.
        unsafe {
            match what % 26 {
                0 => {
                    if self.responses.borrow().len() < 8
                        && let Some(response) = self.response()
                    {
                        self.responses.borrow_mut().push(response);
                    }
                }
                1 => drop(MHD_add_response_header(response, name, value)),
                2 => drop(MHD_add_response_footer(response, name, value)),
                3 => drop(MHD_del_response_header(response, name, value)),
                4 => drop(MHD_get_response_headers(response, Some(each), null_mut())),
                5 => drop(MHD_get_response_header(response, name)),
                6 => drop(MHD_set_response_options(response, c_uint::try_from(kind).unwrap_or_default(), 0 as c_int)),
                7 => {
                    if !response.is_null() {
                        self.responses.borrow_mut().retain(|other| *other != response);
                        MHD_destroy_response(response);
                    }
                }
                8 => MHD_resume_connection(connection),
                9 => drop(MHD_queue_response(connection, 100 + 4 * kind.unsigned_abs(), response)),
                10 => drop(MHD_get_connection_info(connection, kind % 14)),
                11 => drop(MHD_get_daemon_info(self.daemon.get(), kind % 9)),
                12 => drop(MHD_get_connection_values(connection, kind % 32, Some(each), null_mut())),
                13 => drop(MHD_set_connection_value(connection, 1 << (kind % 6), name, value)),
                14 => drop(MHD_set_connection_option(connection, kind % 2, 1 as c_uint)),
                15 => MHD_free(MHD_basic_auth_get_username_password3(connection)),
                16 => drop(MHD_queue_basic_auth_fail_response(connection, value, response)),
                17 => MHD_free(MHD_digest_auth_get_request_info3(connection)),
                18 => drop(MHD_queue_auth_fail_response2(connection, value, name, response, kind % 2, kind % 4)),
                19 => {
                    let (realm, qop) = (text(b"close\0"), kind.unsigned_abs() % 8);
                    let result = MHD_digest_auth_check3(connection, realm, text(b"12\0"), value, 0, 0, qop, 0x7f);
                    assert_ne!(result, 1, "its nonce is made up");
                }
                20 => drop(MHD_upgrade_wake(connection)),
                21 => drop(MHD_upgrade_wake_all(self.daemon.get())),
                22 => self.socket(kind),
                23 => {
                    // A number that is no handle, or not any more.
                    MHD_upgrade_action(std::ptr::without_provenance_mut(usize::from(self.byte()) << 32), kind % 4);
                    MHD_upgrade_action(null_mut(), 0);
                }
                24 => self.form(connection),
                _ => drop(MHD_lookup_connection_value(connection, kind % 32, name)),
            }
        }
    }

    /// Processes a form in pieces. It may remain unfinished.
    fn form(&self, connection: *mut Connection) {
        const PIECES: [&[u8]; 6] = [
            b"--b\r\nContent-Disposition: form-data; name=a\r\n",
            b"\r\nvalue\r\n",
            b"\r\n",
            b"--b--",
            b"Content-Type: multipart/mixed; boundary=i\r\n",
            b"a=%41&b\n",
        ];
        let cls = self.cls();
        // SAFETY: The pointers are NULL or valid; a piece has its length.
        unsafe {
            let processor = MHD_create_post_processor(connection, 4 * usize::from(self.byte()), Some(field), cls);
            for _ in 0..self.byte() % 8 {
                let piece = self.pick(&PIECES).unwrap_or_default();
                MHD_post_process(processor, piece.as_ptr().cast(), piece.len());
            }
            MHD_destroy_post_processor(processor);
        }
    }

    /// What the application does with a socket.
    fn socket(&self, what: c_int) {
        let index = usize::from(self.byte());
        let mut sockets = self.sockets.borrow_mut();
        let Some(index) = index.checked_rem(sockets.len()) else { return };
        let (fd, handle) = sockets[index];
        let mut bytes = [b's'; 300];
        // SAFETY: The descriptor is open until it is closed by its handle; the bytes live during the calls.
        unsafe {
            match what % 6 {
                0 => drop(libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL)),
                1 => drop(libc::recv(fd, bytes.as_mut_ptr().cast(), bytes.len(), 0)),
                2 => drop(libc::shutdown(fd, what & 1)),
                3 => assert_eq!(MHD_upgrade_action(handle, 1 + (what & 1)), 1),
                4 => assert_eq!(MHD_upgrade_action(handle, 7), 0),
                _ => {
                    sockets.swap_remove(index);
                    assert_eq!(MHD_upgrade_action(handle, 0), 1);
                    assert_eq!(MHD_upgrade_action(handle, 0), 0, "a handle ends");
                }
            }
        }
    }

    /// Drives the daemon, or asks about it.
    fn run(&self) {
        let what = self.byte();
        let (mut set, mut max, mut timeout) = ([0_u64; 16], 0, 0);
        // SAFETY: The daemon runs; the set has room for that many descriptors.
        unsafe {
            match what % 8 {
                0..=4 => drop(MHD_run(self.daemon.get())),
                5 => drop(MHD_run_wait(self.daemon.get(), 1)),
                6 => {
                    let sets = set.as_mut_ptr().cast();
                    MHD_get_fdset2(self.daemon.get(), sets, null_mut(), null_mut(), &raw mut max, 1024);
                }
                _ => {
                    MHD_get_timeout(self.daemon.get(), &raw mut timeout);
                    MHD_get_timeout64s(self.daemon.get());
                }
            }
        }
    }

    /// What a callback does besides its own work.
    fn within(&self) {
        if self.in_callback.replace(true) {
            return;
        }
        for _ in 0..self.byte() % 3 {
            match self.byte() % 4 {
                // The daemon is at work: this fails.
                0 => self.run(),
                _ => self.call(),
            }
        }
        self.in_callback.set(false);
    }
}

/// # Safety
/// `cls` must be the application.
unsafe fn app<'a>(cls: *mut c_void) -> &'a App<'a> {
    // SAFETY: The caller guarantees it.
    unsafe { &*cls.cast() }
}

unsafe extern "C" fn handle(
    cls: *mut c_void,
    connection: *mut Connection,
    path: *const c_char,
    method: *const c_char,
    version: *const c_char,
    _data: *const c_char,
    size: *mut usize,
    request: *mut *mut c_void,
) -> c_int {
    // SAFETY: These are the arguments that the interface promises.
    unsafe {
        let app = app(cls);
        assert!(app.connections.borrow().contains(&connection), "the connection was reported");
        assert!(libc::strlen(path) < 1 << 16 && libc::strlen(method) > 0 && libc::strlen(version) == 8);
        if (*request).is_null() {
            *request = libc::malloc(1);
            app.requests.borrow_mut().insert((*request).addr(), connection);
        }
        assert_eq!(app.requests.borrow().get(&(*request).addr()), Some(&connection), "a request keeps its pointer");
        app.within();
        match app.byte() % 8 {
            0 => return 0,
            1 => MHD_suspend_connection(connection),
            2 => {
                MHD_suspend_connection(connection);
                MHD_resume_connection(connection);
            }
            3 | 4 => {
                if let Some(response) = app.pick(&app.responses.borrow().clone())
                    && MHD_queue_response(connection, 101, response) == 0
                {
                    MHD_queue_response(connection, 200 + c_uint::from(app.byte() % 8) * 40, response);
                }
            }
            5 => return 1,
            6 => {
                let response = match app.byte() & 1 {
                    0 => MHD_create_response_for_upgrade_events(Some(events), cls),
                    _ => MHD_create_response_for_upgrade(Some(upgraded), cls),
                };
                MHD_add_response_header(response, text(b"Upgrade\0"), text(b"a\0"));
                MHD_queue_response(connection, 101, response);
                MHD_destroy_response(response);
            }
            _ => {}
        }
        *size = match app.byte() % 4 {
            0 => *size,
            1 => *size / 2,
            _ => 0,
        };
        1
    }
}

unsafe extern "C" fn field(
    cls: *mut c_void,
    kind: c_int,
    key: *const c_char,
    _filename: *const c_char,
    _content_type: *const c_char,
    _encoding: *const c_char,
    data: *const c_char,
    offset: u64,
    size: usize,
) -> c_int {
    // SAFETY: These are the arguments that the interface promises.
    unsafe {
        assert!(kind == 4 && libc::strlen(key) < 100 && *data.add(size) == 0 && (offset == 0 || size > 0));
        let app = app(cls);
        app.within();
        c_int::from(app.byte() % 8 != 0)
    }
}

unsafe extern "C" fn completed(cls: *mut c_void, connection: *mut Connection, request: *mut *mut c_void, code: c_int) {
    // SAFETY: These are the arguments that the interface promises.
    unsafe {
        let app = app(cls);
        assert!((0..=5).contains(&code));
        let begun = app.requests.borrow_mut().remove(&(*request).addr());
        assert_eq!(begun, Some(connection), "a request ends once");
        libc::free(*request);
        app.within();
    }
}

unsafe extern "C" fn notify(cls: *mut c_void, connection: *mut Connection, _context: *mut *mut c_void, code: c_int) {
    // SAFETY: These are the arguments that the interface promises.
    unsafe {
        let app = app(cls);
        if code == 0 {
            assert!(!app.connections.borrow().contains(&connection), "a connection begins once");
            app.connections.borrow_mut().push(connection);
            app.within();
        } else {
            app.within();
            let before = app.connections.borrow().len();
            app.connections.borrow_mut().retain(|other| *other != connection);
            assert_eq!(app.connections.borrow().len() + 1, before, "a connection ends once");
        }
    }
}

unsafe extern "C" fn read(cls: *mut c_void, _position: u64, to: *mut c_char, most: usize) -> isize {
    // SAFETY: These are the arguments that the interface promises.
    unsafe {
        let app = app(cls);
        app.within();
        match app.byte() % 8 {
            0 => -1,
            1 => -2,
            2 => 0,
            3 => isize::try_from(most).unwrap_or_default() + 1,
            n => {
                let n = most.min(usize::from(n) * 9);
                to.write_bytes(b'r', n);
                isize::try_from(n).unwrap_or_default()
            }
        }
    }
}

unsafe extern "C" fn events(
    cls: *mut c_void,
    connection: *mut Connection,
    request: *mut *mut c_void,
    in_size: *mut usize,
    input: *const c_char,
    out_size: *mut usize,
    output: *mut c_char,
) -> c_uint {
    // SAFETY: These are the arguments that the interface promises.
    unsafe {
        let app = app(cls);
        assert_eq!(app.requests.borrow().get(&(*request).addr()), Some(&connection), "a request keeps its pointer");
        let reasons = MHD_upgrade_events(connection);
        assert!(reasons < 256 && !input.is_null());
        app.within();
        let choice = app.byte();
        output.write_bytes(b'u', *out_size);
        *out_size = (*out_size).min(usize::from(choice) * 400);
        *in_size /= 1 + usize::from(choice % 3);
        match app.byte() {
            0..=15 => drop(MHD_upgrade_finish(connection)),
            16..=23 => drop(MHD_upgrade_abort(connection)),
            24..=39 => drop(MHD_upgrade_set_deadline(connection, i64::from(choice) - 99)),
            40..=47 => *in_size = usize::MAX,
            48..=55 => *out_size = usize::MAX,
            _ => {}
        }
        // The daemon stops: it waits for the connection.
        if reasons & 32 > 0 { 0 } else { c_uint::from(app.byte() % 18) }
    }
}

unsafe extern "C" fn upgraded(
    cls: *mut c_void,
    connection: *mut Connection,
    request: *mut c_void,
    _extra: *const c_char,
    extra_size: usize,
    socket: c_int,
    handle: *mut c_void,
) {
    // SAFETY: It is the application.
    let app = unsafe { app(cls) };
    assert_eq!(app.requests.borrow().get(&request.addr()), Some(&connection), "a request keeps its pointer");
    assert_eq!(extra_size, 0);
    app.sockets.borrow_mut().push((socket, handle));
    app.within();
}

unsafe extern "C" fn freed(cls: *mut c_void) {
    // SAFETY: It is the application.
    unsafe { app(cls) }.freed.update(|freed| freed + 1);
}

unsafe extern "C" fn each(_: *mut c_void, _: c_int, name: *const c_char, _: *const c_char) -> c_int {
    // SAFETY: A name is a string.
    c_int::from(unsafe { libc::strlen(name) } != 6)
}

/// Makes the calls that `data` means.
pub fn drive(data: &[u8]) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let app = App {
        data: Cell::new(data),
        daemon: Cell::new(null_mut()),
        connections: RefCell::default(),
        responses: RefCell::default(),
        clients: RefCell::default(),
        listener,
        requests: RefCell::default(),
        given: Cell::new(0),
        freed: Cell::new(0),
        in_callback: Cell::new(false),
        sockets: RefCell::default(),
    };
    app.start();
    while !app.data.get().is_empty() {
        match app.byte() % 16 {
            0 => app.connect(),
            1..=4 => app.client(),
            5..=9 => app.run(),
            10..=14 => app.call(),
            _ => match app.byte() % 16 {
                0 => {
                    app.stop();
                    app.start();
                }
                // SAFETY: The daemon runs. It has no socket to give back.
                1 => assert_eq!(unsafe { MHD_quiesce_daemon(app.daemon.get()) }, -1),
                _ => app.run(),
            },
        }
    }
    app.stop();
    for response in app.responses.take() {
        // SAFETY: It was not destroyed.
        unsafe { MHD_destroy_response(response) };
    }
    assert_eq!(app.given.get(), app.freed.get(), "memory is given back once");
}

/// Bytes that look random, the same at each run.
#[cfg(test)]
#[test]
fn calls_in_any_order_are_survived() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..400 {
        let data: Vec<u8> = (0..600)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            })
            .collect();
        drive(&data);
    }
}
