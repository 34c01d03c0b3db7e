//! A relay that runs during a test. It counts events, so that the test can wait for them without sleeping.

use std::{
    net::SocketAddr,
    sync::{Arc, Condvar, Mutex, OnceLock},
    thread::JoinHandle,
};

use rustls::{ClientConfig, RootCertStore};
use uncork::{
    Action, EndReason, Handler, Limits, Listen, Request, Server, StopHandle, Tls,
    relay::{Rendezvous, RendezvousConfig, SessionConfig, SessionRelay},
};

use super::client::{Client, TIMEOUT};

/// The transport and the threads of a test server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setup {
    pub(crate) tls: bool,
    /// Number of loops; 0 is one thread per connection.
    pub(crate) threads: usize,
}

/// A counter that tests can wait for.
#[derive(Clone, Default)]
struct Counter(Arc<(Mutex<usize>, Condvar)>);

impl Counter {
    fn add(&self) {
        *self.0.0.lock().expect("no panic") += 1;
        self.0.1.notify_all();
    }

    fn get(&self) -> usize {
        *self.0.0.lock().expect("no panic")
    }

    #[track_caller]
    fn reach(&self, n: usize) {
        let guard = self.0.0.lock().expect("no panic");
        let (guard, timeout) = self.0.1.wait_timeout_while(guard, TIMEOUT, |count| *count < n).expect("no panic");
        assert!(!timeout.timed_out(), "only {} of {n}", *guard);
    }
}

/// A service that can be mounted.
pub(crate) trait Service: Handler + Clone + Send + 'static {
    fn serves(&self, path: &str) -> bool;
    fn handle(&self, req: &mut Request<'_>) -> Action;
}

impl Service for SessionRelay {
    fn serves(&self, path: &str) -> bool {
        self.serves(path)
    }
    fn handle(&self, req: &mut Request<'_>) -> Action {
        self.handle(req)
    }
}

impl Service for Rendezvous {
    fn serves(&self, path: &str) -> bool {
        self.serves(path)
    }
    fn handle(&self, req: &mut Request<'_>) -> Action {
        self.handle(req)
    }
}

/// Makes a service of a configuration.
pub(crate) trait Config {
    type Service: Service;
    fn service(self) -> Self::Service;
}

impl Config for SessionConfig {
    type Service = SessionRelay;
    fn service(self) -> SessionRelay {
        SessionRelay::new(self).expect("a valid configuration")
    }
}

impl Config for RendezvousConfig {
    type Service = Rendezvous;
    fn service(self) -> Rendezvous {
        Rendezvous::new(self).expect("a valid configuration")
    }
}

#[derive(Clone, Default)]
struct Counters {
    requests: Counter,
    /// Requests that did not end normally.
    disconnects: Counter,
}

/// The relay, mounted in a program that counts events.
#[derive(Clone)]
struct Counting<S> {
    relay: S,
    counters: Counters,
}

impl<S: Service> Handler for Counting<S> {
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        let action = if self.relay.serves(req.path()) { self.relay.handle(req) } else { self.relay.request(req) };
        let disconnects = self.counters.disconnects.clone();
        req.on_end(move |end| {
            if end.reason != EndReason::Complete {
                disconnects.add();
            }
        });
        self.counters.requests.add();
        action
    }

    fn stopping(&mut self) {
        self.relay.stopping();
    }
}

pub(crate) struct TestServer {
    pub(crate) addr: SocketAddr,
    pub(crate) stopper: StopHandle,
    setup: Setup,
    counting: Counters,
    thread: Option<JoinHandle<()>>,
}

impl TestServer {
    pub(crate) fn start(setup: Setup, config: impl Config) -> Self {
        Self::start_with(setup, config, Limits { body: 1 << 40, ..Limits::default() })
    }

    pub(crate) fn start_with(setup: Setup, config: impl Config, limits: Limits) -> Self {
        let counting = Counting { relay: config.service(), counters: Counters::default() };
        let mut listen = Listen::tcp("127.0.0.1:0").expect("bound");
        if setup.tls {
            listen = listen.tls(identity().server.clone());
        }
        let server = Server::new().listen(listen).limits(limits);
        let running = match setup.threads {
            0 => server.thread_per_connection(counting.clone()),
            n => server.threads(n, counting.clone()),
        }
        .expect("running");
        let (addr, stopper) = (running.local_addr().expect("an address"), running.stop_handle());
        let thread = Some(std::thread::spawn(move || running.join().expect("ended normally")));
        Self { addr, stopper, setup, counting: counting.counters, thread }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.addr, self.setup.tls.then(|| identity().client.clone()))
    }

    /// Calls `f`, and waits until the server has counted one more request.
    #[track_caller]
    pub(crate) fn until_requested<T>(&self, f: impl FnOnce() -> T) -> T {
        let before = self.counting.requests.get();
        let result = f();
        self.counting.requests.reach(before + 1);
        result
    }

    /// Calls `f`, and waits until the server has counted one more disconnected client. Not for a client that received
    /// its response: its end is counted a moment later, and would be mistaken for this one.
    #[track_caller]
    pub(crate) fn until_disconnected<T>(&self, f: impl FnOnce() -> T) -> T {
        let before = self.counting.disconnects.get();
        let result = f();
        self.counting.disconnects.reach(before + 1);
        result
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stopper.stop_now();
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(ended.is_none_or(|result| result.is_ok()), "the server has panicked");
        }
    }
}

struct Identity {
    server: Tls,
    client: Arc<ClientConfig>,
}

/// Returns a certificate for `localhost`, made once, which the server presents and the client trusts.
fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let server = Tls::pem_bytes(cert.as_bytes(), key.as_bytes()).expect("a valid pair");
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a root");
        let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Identity { server, client: Arc::new(client) }
    })
}
