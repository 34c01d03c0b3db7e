//! The setting of a test: one of three modes, one of four transports, and a server that must end without leaks.

use std::{
    io::{self, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::BorrowedFd,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::Duration,
};

use rustls::{ClientConfig, RootCertStore, version::TLS12};
use socket2::SockRef;
use uncork::{
    AccessRecord, Action, ConnId, EndReason, Handler, Limits, Listen, PeerAddr, Request, RequestEnd, Server,
    StopHandle, Tls, Upgrade,
};

#[path = "site.rs"]
pub(crate) mod site;

pub(crate) use self::site::bytes;

use crate::wire::{TIMEOUT, Wire};

/// Expands to `mod {threads, external, thread_per_connection} { mod {plain, tls, http2, http2_tls} }`, with the tests
/// of `everywhere` in each, and those of `http1` in the first two: they concern the text of HTTP/1.1, or a socket.
macro_rules! matrix {
    ($(everywhere { $($both:ident),+ $(,)? })? $(http1 { $($one:ident),+ $(,)? })?) => {
        matrix!(@mode threads Threads ($($($both)+)?) ($($($one)+)?));
        matrix!(@mode external External ($($($both)+)?) ($($($one)+)?));
        matrix!(@mode thread_per_connection ThreadPerConnection ($($($both)+)?) ($($($one)+)?));
    };
    (@mode $mode:ident $variant:ident ($($both:ident)*) ($($one:ident)*)) => {
        mod $mode {
            matrix!(@transport plain $variant (false, None) $($both)* $($one)*);
            matrix!(@transport tls $variant (true, None) $($both)* $($one)*);
            matrix!(@transport http2 $variant (false, Some($crate::http2::wire::connect)) $($both)*);
            matrix!(@transport http2_tls $variant (true, Some($crate::http2::wire::connect)) $($both)*);
        }
    };
    (@transport $name:ident $variant:ident ($tls:expr, $http2:expr)) => {};
    (@transport $name:ident $variant:ident ($tls:expr, $http2:expr) $($test:ident)+) => {
        mod $name {
            const WORLD: $crate::world::World =
                $crate::world::World { mode: $crate::world::Mode::$variant, tls: $tls, http2: $http2 };
            $(#[test] fn $test() { super::super::$test(&WORLD) })+
        }
    };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Two loops.
    Threads,
    External,
    ThreadPerConnection,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct World {
    pub(crate) mode: Mode,
    pub(crate) tls: bool,
    /// Connects over HTTP/2 (`support/http2`); `None`: over HTTP/1.1.
    pub(crate) http2: Option<Connect>,
}

/// Connects over HTTP/2, with this window for each stream.
pub(crate) type Connect = fn(SocketAddr, Option<Arc<ClientConfig>>, Option<u32>) -> io::Result<Wire>;

impl World {
    #[allow(dead_code, reason = "each test uses a part of it")]
    pub(crate) const fn plain(mode: Mode) -> Self {
        Self { mode, tls: false, http2: None }
    }

    #[allow(dead_code, reason = "each test uses a part of it")]
    pub(crate) const fn tls(mode: Mode) -> Self {
        Self { mode, tls: true, http2: None }
    }

    pub(crate) const fn is_http2(&self) -> bool {
        self.http2.is_some()
    }

    pub(crate) fn serve<H: Handler + Clone + Send + 'static>(&self, handler: H) -> Host {
        self.serve_within(Limits::default(), handler)
    }

    pub(crate) fn serve_within<H: Handler + Clone + Send + 'static>(&self, limits: Limits, handler: H) -> Host {
        self.run(Listen::tcp("127.0.0.1:0").expect("bound"), limits, handler)
    }

    /// Serves on sockets with the smallest buffers that the system allows.
    pub(crate) fn serve_narrow<H: Handler + Clone + Send + 'static>(&self, handler: H) -> Host {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        // Accepted sockets inherit the size from their listener.
        SockRef::from(&listener).set_send_buffer_size(1).expect("set");
        self.run(Listen::inherited(listener).expect("a listener"), Limits::default(), handler)
    }

    /// Serves clients behind a proxy on this machine.
    pub(crate) fn serve_proxies<H: Handler + Clone + Send + 'static>(&self, limits: Limits, handler: H) -> Host {
        let listen = Listen::tcp("127.0.0.1:0").expect("bound");
        self.run(listen.proxy_protocol(|peer| peer.ip() == Some([127, 0, 0, 1].into())), limits, handler)
    }

    /// Serves clients behind a trusted proxy.
    pub(crate) fn serve_trusting<H: Handler + Clone + Send + 'static>(
        &self,
        trusted: fn(&PeerAddr) -> bool,
        handler: H,
    ) -> Host {
        self.run(Listen::tcp("127.0.0.1:0").expect("bound").proxy_protocol(trusted), Limits::default(), handler)
    }

    /// Serves on sockets whose buffers do not grow, so that a sender stops soon.
    pub(crate) fn serve_measured<H: Handler + Clone + Send + 'static>(&self, limits: Limits, handler: H) -> Host {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        SockRef::from(&listener).set_send_buffer_size(128 * 1024).expect("set");
        SockRef::from(&listener).set_recv_buffer_size(128 * 1024).expect("set");
        self.run(Listen::inherited(listener).expect("a listener"), limits, handler)
    }

    /// Serves with a preference for `x-test`, over TLS.
    pub(crate) fn serve_test_protocol<H: Handler + Clone + Send + 'static>(&self, limits: Limits, handler: H) -> Host {
        let listen = Listen::tcp("127.0.0.1:0").expect("bound");
        self.run_by(&identity().prefers_test, listen, limits, handler)
    }

    fn run<H: Handler + Clone + Send + 'static>(&self, listen: Listen, limits: Limits, handler: H) -> Host {
        self.run_by(&identity().server, listen, limits, handler)
    }

    /// Serves with an access log.
    #[allow(dead_code, reason = "the tests of HTTP/2 do")]
    pub(crate) fn serve_logged<H: Handler + Clone + Send + 'static>(
        &self,
        log: impl Fn(&AccessRecord<'_>) + Send + Sync + 'static,
        handler: H,
    ) -> Host {
        let listen = Listen::tcp("127.0.0.1:0").expect("bound");
        self.run_with(&identity().server, listen, |server| server.access_log(log), handler)
    }

    fn run_by<H: Handler + Clone + Send + 'static>(
        &self,
        tls: &Tls,
        listen: Listen,
        limits: Limits,
        handler: H,
    ) -> Host {
        self.run_with(tls, listen, |server| server.limits(limits), handler)
    }

    fn run_with<H: Handler + Clone + Send + 'static>(
        &self,
        tls: &Tls,
        mut listen: Listen,
        set: impl FnOnce(Server) -> Server,
        handler: H,
    ) -> Host {
        if self.tls {
            listen = listen.tls(tls.clone());
        }
        let server = set(Server::new().listen(listen));
        let addr = server.local_addr().expect("an address");
        let (clone_guard, clones) = channel();
        let handler = Traced { handler, _clone: clone_guard };
        let ((report, ended), turns) = (channel(), Arc::new(AtomicUsize::new(0)));
        let stopper = match self.mode {
            Mode::Threads => join_on_a_thread(server.threads(2, handler).expect("running"), report),
            Mode::ThreadPerConnection => {
                join_on_a_thread(server.thread_per_connection(handler).expect("running"), report)
            }
            Mode::External => drive_on_a_thread(server, handler, report, turns.clone()),
        };
        Host {
            turns,
            address: Address { addr, tls: self.tls, http2: self.http2 },
            stopper,
            ended,
            clones: Some(clones),
        }
    }
}

fn join_on_a_thread(running: uncork::Running, report: Sender<io::Result<()>>) -> StopHandle {
    let stopper = running.stop_handle();
    std::thread::spawn(move || report.send(running.join()));
    stopper
}

fn drive_on_a_thread(
    server: Server,
    handler: impl Handler + Send + 'static,
    report: Sender<io::Result<()>>,
    turns: Arc<AtomicUsize>,
) -> StopHandle {
    let (give, get) = channel();
    std::thread::spawn(move || {
        let result = (|| {
            let mut server = server.external(handler)?;
            give.send(server.stop_handle()).expect("a receiver");
            while !server.is_done() {
                let _ = server.wait(None)?;
                turns.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        })();
        report.send(result)
    });
    get.recv_timeout(TIMEOUT).expect("running")
}

/// A running server. Dropping it stops it, and fails the test if a handler outlives it.
pub(crate) struct Host {
    address: Address,
    turns: Arc<AtomicUsize>,
    ended: Receiver<io::Result<()>>,
    /// Every clone of the handler holds the other end.
    clones: Option<Receiver<()>>,
    pub(crate) stopper: StopHandle,
}

/// The address of a server.
#[derive(Clone, Copy)]
pub(crate) struct Address {
    addr: SocketAddr,
    tls: bool,
    http2: Option<Connect>,
}

impl Address {
    pub(crate) fn connect(self) -> Wire {
        self.try_connect().expect("connected")
    }

    pub(crate) fn try_connect(self) -> io::Result<Wire> {
        match self.http2 {
            Some(connect) => connect(self.addr, self.client_config(), None),
            None => Wire::connect(self.addr, self.client_config(), None),
        }
    }

    pub(crate) fn client_config(self) -> Option<Arc<ClientConfig>> {
        let identity = identity();
        self.tls.then(|| if self.http2.is_some() { identity.http2_client.clone() } else { identity.client.clone() })
    }
}

impl Host {
    /// Returns the number of turns of the loop, in external mode only. It shows a loop that spins.
    pub(crate) fn turns(&self) -> usize {
        self.turns.load(Ordering::Relaxed)
    }

    #[allow(dead_code, reason = "the tests of WebSocket do")]
    pub(crate) fn addr(&self) -> SocketAddr {
        self.address.addr
    }

    pub(crate) fn address(&self) -> Address {
        self.address
    }

    pub(crate) fn connect(&self) -> Wire {
        self.address.connect()
    }

    pub(crate) fn try_connect(&self) -> io::Result<Wire> {
        self.address.try_connect()
    }

    /// Connects with a small receive buffer or window: unread data stays with the server.
    pub(crate) fn connect_narrow(&self) -> Wire {
        if let Some(connect) = self.address.http2 {
            return connect(self.address.addr, self.address.client_config(), Some(4096)).expect("connected");
        }
        Wire::connect(self.address.addr, self.address.client_config(), Some(4096)).expect("connected")
    }

    /// Connects with TLS 1.2 at most.
    pub(crate) fn connect_older(&self) -> Wire {
        if self.address.http2.is_some() {
            return self.connect();
        }
        let config = self.address.tls.then(|| identity().older.clone());
        Wire::connect(self.address.addr, config, None).expect("connected")
    }

    /// Connects from another address of the loopback network, which Linux has without configuration.
    #[allow(dead_code, reason = "the limits' tests do")]
    pub(crate) fn try_connect_from(&self, source: [u8; 4]) -> io::Result<Wire> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        socket.connect(&self.address.addr.into())?;
        Wire::over(socket.into(), self.address.client_config())
    }

    /// Connects over another transport of the same server.
    #[allow(dead_code, reason = "the tests of HTTP/2 do")]
    pub(crate) fn connect_over(&self, world: &World) -> Wire {
        Address { addr: self.address.addr, tls: world.tls, http2: world.http2 }.connect()
    }

    /// Connects without TLS, independent of the server.
    pub(crate) fn connect_plain(&self) -> Wire {
        Wire::connect(self.address.addr, None, None).expect("connected")
    }

    /// Connects, and sends `first` in pieces of `size` bytes before TLS.
    pub(crate) fn connect_with_prefix(&self, first: &[u8], size: usize) -> io::Result<Wire> {
        let mut tcp = TcpStream::connect(self.addr())?;
        tcp.set_nodelay(true)?;
        first.chunks(size).try_for_each(|piece| tcp.write_all(piece))?;
        Wire::over(tcp, self.address.client_config())
    }

    /// Waits for an end that was requested.
    #[track_caller]
    pub(crate) fn ends(mut self) {
        self.ends_without_leaks();
    }

    #[track_caller]
    fn ends_without_leaks(&mut self) {
        let Some(clones) = self.clones.take() else { return };
        self.result().expect("ended normally");
        let last = clones.recv_timeout(TIMEOUT);
        assert_eq!(last, Err(RecvTimeoutError::Disconnected), "a handler outlives its server");
    }

    /// Waits for the end, and returns the result of `join`.
    #[track_caller]
    pub(crate) fn result(&mut self) -> io::Result<()> {
        self.clones = None;
        self.ended.recv_timeout(TIMEOUT).expect("the server ends")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stopper.stop_now();
        if !std::thread::panicking() {
            self.ends_without_leaks();
        }
    }
}

/// A handler whose clones can be counted.
#[derive(Clone)]
struct Traced<H> {
    handler: H,
    _clone: Sender<()>,
}

impl<H: Handler> Handler for Traced<H> {
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        self.handler.request(req)
    }
    fn accept(&mut self, peer: &PeerAddr) -> bool {
        self.handler.accept(peer)
    }
    fn alpn(&mut self, protocol: &[u8], peer: &PeerAddr) -> Option<Box<dyn Upgrade>> {
        self.handler.alpn(protocol, peer)
    }
    fn opened(&mut self, conn: ConnId, peer: &PeerAddr, socket: Option<BorrowedFd<'_>>) {
        self.handler.opened(conn, peer, socket);
    }
    fn closed(&mut self, conn: ConnId, reason: &EndReason) {
        self.handler.closed(conn, reason);
    }
    fn rejected(&mut self, peer: &PeerAddr, reason: &EndReason) {
        self.handler.rejected(peer, reason);
    }
    fn stopping(&mut self) {
        self.handler.stopping();
    }
}

/// Reports from the server's threads to the test.
pub(crate) struct Reports<T>(Receiver<T>);

pub(crate) fn report_channel<T>() -> (Sender<T>, Reports<T>) {
    let (report, reports) = channel();
    (report, Reports(reports))
}

impl<T> Reports<T> {
    /// Receives the next report. Panics after a timeout.
    #[track_caller]
    pub(crate) fn next(&self) -> T {
        self.0.recv_timeout(TIMEOUT).expect("a report of the server")
    }

    /// Waits until all senders are dropped. Returns `false` if a report comes first.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.0.recv_timeout(TIMEOUT), Err(RecvTimeoutError::Disconnected))
    }

    /// Returns the reports that were not read.
    pub(crate) fn rest(&self) -> Vec<T> {
        self.0.try_iter().collect()
    }

    /// Returns `true` if there is no report for `time`.
    pub(crate) fn is_silent(&self, time: Duration) -> bool {
        self.0.recv_timeout(time).is_err()
    }
}

/// Reports the end of a request.
pub(crate) fn report_end(req: &mut Request<'_>, report: &Sender<RequestEnd>) {
    let report = report.clone();
    req.on_end(move |end| {
        let _ = report.send(*end);
    });
}

pub(crate) struct Identity {
    pub(crate) server: Tls,
    /// Prefers `x-test` to HTTP/1.1, and has no HTTP/2.
    pub(crate) prefers_test: Tls,
    /// The certificate, in PEM.
    pub(crate) cert: String,
    pub(crate) client: Arc<ClientConfig>,
    /// A client that offers HTTP/2 only.
    pub(crate) http2_client: Arc<ClientConfig>,
    /// A client that supports TLS 1.2 only.
    pub(crate) older: Arc<ClientConfig>,
}

/// Returns a certificate for `localhost`, made once, which servers present and clients trust.
pub(crate) fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let builder = || Tls::builder().pem_bytes(cert.as_bytes(), key.as_bytes()).expect("a valid pair");
        let server = builder().build().expect("TLS");
        let prefers_test = builder().alpn(["x-test", "x-unsupported"]).build().expect("TLS");
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a root");
        let older = ClientConfig::builder_with_protocol_versions(&[&TLS12]).with_root_certificates(roots.clone());
        let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let mut http2 = client.clone();
        http2.alpn_protocols = vec![b"h2".to_vec()];
        Identity {
            server,
            prefers_test,
            cert,
            client: Arc::new(client),
            http2_client: Arc::new(http2),
            older: Arc::new(older.with_no_client_auth()),
        }
    })
}
