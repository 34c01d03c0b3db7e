//! A proxy that runs during a test: a plain and a TLS listener for clients, one for origin servers.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustls::{ClientConfig, RootCertStore};
use sha2::{Digest, Sha256};
use uncork::{
    Action, ConnId, EndReason, Handler, Limits, Listen, LoopHandle, PeerAddr, Request, Server, StopHandle, Tls,
    Upgrade,
    relay::tunnel::{Credential, OriginHandler, Proxy, ProxyConfig, ProxyCounts, PublicHandler},
};

use super::client::{Client, TIMEOUT};

/// The listeners by their use.
const PLAIN: usize = 0;
const SECURE: usize = 1;

/// Both sides of a proxy on one server, as a program mounts them.
#[derive(Clone)]
struct Both {
    public: PublicHandler,
    origins: OriginHandler,
}

impl Handler for Both {
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        match req.listener_index() {
            PLAIN | SECURE => self.public.request(req),
            _ => self.origins.request(req),
        }
    }

    fn accept(&mut self, peer: &PeerAddr) -> bool {
        self.public.accept(peer)
    }

    /// ALPN for a tunnel is offered only where origin servers connect.
    fn alpn(&mut self, protocol: &[u8], peer: &PeerAddr) -> Option<Box<dyn Upgrade>> {
        self.origins.alpn(protocol, peer)
    }

    fn closed(&mut self, conn: ConnId, reason: &EndReason) {
        self.public.closed(conn, reason);
    }

    fn stopping(&mut self) {
        self.public.stopping();
        self.origins.stopping();
    }
}

pub(crate) struct World {
    pub(crate) proxy: Proxy,
    pub(crate) plain: SocketAddr,
    pub(crate) secure: SocketAddr,
    /// Where origin servers connect.
    pub(crate) origins: SocketAddr,
    pub(crate) stopper: StopHandle,
    pub(crate) loops: Vec<LoopHandle>,
    thread: Option<JoinHandle<()>>,
}

/// Returns the SHA-256 of a token, in hexadecimal.
pub(crate) fn hash(token: &str) -> String {
    Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns a credential whose token is its name.
pub(crate) fn credential(name: &str, hosts: &[&str]) -> Credential {
    let credential = Credential::token(name, &hash(name)).expect("a hash");
    hosts.iter().fold(credential, |one, host| one.host(host).expect("a name"))
}

/// Returns a configuration in which the token "app" is for `app.example`, "other" for `other.example`, and both are for
/// names below `dev.example`.
pub(crate) fn config() -> ProxyConfig {
    let credentials = vec![
        credential("app", &["app.example", "*.dev.example"]),
        credential("other", &["other.example", "*.dev.example"]),
    ];
    ProxyConfig { credentials, ..ProxyConfig::default() }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(config())
    }

    pub(crate) fn with(config: ProxyConfig) -> Self {
        Self::on(config, 2, "127.0.0.1:0")
    }

    pub(crate) fn on(config: ProxyConfig, threads: usize, origins: &str) -> Self {
        let origins = Listen::tcp(origins).expect("bound").tls(identity().reversed.clone());
        Self::of(Proxy::new(config).expect("a valid configuration"), threads, origins)
    }

    pub(crate) fn of(proxy: Proxy, threads: usize, origins: Listen) -> Self {
        let both = Both { public: proxy.public(), origins: proxy.origin_servers() };
        let listen = |addr: &str| Listen::tcp(addr).expect("bound");
        let bound = Server::new()
            .listen(listen("127.0.0.1:0"))
            .listen(listen("127.0.0.1:0").tls(identity().server.clone()))
            .listen(origins);
        let addrs: Vec<SocketAddr> = bound.local_addrs().collect();
        let running =
            bound.limits(Limits { body: 1 << 40, ..Limits::default() }).threads(threads, both).expect("running");
        let (stopper, loops) = (running.stop_handle(), running.loops());
        let thread = Some(std::thread::spawn(move || running.join().expect("ended normally")));
        Self { proxy, plain: addrs[0], secure: addrs[1], origins: addrs[2], stopper, loops, thread }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.plain, None)
    }

    /// Connects a client, if the server still listens.
    pub(crate) fn client_if_any(&self) -> Option<Client> {
        Client::try_connect_from(None, self.plain, None).ok()
    }

    pub(crate) fn secure_client(&self) -> Client {
        Client::connect(self.secure, Some(identity().client.clone()))
    }

    /// Connects a client from 127.0.0.`last`.
    pub(crate) fn client_from(&self, last: u8) -> Client {
        Client::connect_from(Some([127, 0, 0, last].into()), self.plain, None)
    }

    /// Like [`origin`](Self::origin), but by ALPN `rh2`.
    pub(crate) fn rh2(&self) -> Client {
        self.rh2_from(1)
    }

    /// Like [`rh2`](Self::rh2), but from 127.0.0.`last`.
    pub(crate) fn rh2_from(&self, last: u8) -> Client {
        self.alpn_from(last, b"rh2")
    }

    /// Like [`origin`](Self::origin), but from 127.0.0.`last`, and by ALPN with this name.
    pub(crate) fn alpn_from(&self, last: u8, label: &[u8]) -> Client {
        let mut tls = ClientConfig::clone(&identity().client);
        tls.alpn_protocols = vec![label.to_vec(), b"http/1.1".to_vec()];
        Client::connect_from(Some([127, 0, 0, last].into()), self.origins, Some(Arc::new(tls)))
    }

    /// Connects to where origin servers connect.
    pub(crate) fn origin(&self) -> Client {
        Client::connect(self.origins, Some(identity().client.clone()))
    }

    /// Waits until the counters satisfy the condition.
    #[track_caller]
    pub(crate) fn wait_until(&self, what: &str, is: impl Fn(&ProxyCounts) -> bool) {
        let end = Instant::now() + TIMEOUT;
        while !is(&self.proxy.counts()) {
            assert!(Instant::now() < end, "not in time: {what}; {:?}", self.proxy.counts());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stopper.stop_now();
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(ended.is_none_or(|result| result.is_ok()), "the server has panicked");
        }
    }
}

pub(crate) struct Identity {
    pub(crate) server: Tls,
    /// Like the first, but also offers `rh2`.
    pub(crate) reversed: Tls,
    /// The certificate.
    pub(crate) pem: String,
    pub(crate) client: Arc<ClientConfig>,
}

/// Returns a certificate for `localhost`, made once, which the proxy shows, and clients and origin servers trust.
pub(crate) fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let pair = || Tls::builder().pem_bytes(pem.as_bytes(), key.as_bytes()).expect("a valid pair");
        let server = pair().build().expect("usable");
        let reversed = pair().alpn(Proxy::ALPN.iter().copied()).build().expect("usable");
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a root");
        let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Identity { server, reversed, pem, client: Arc::new(client) }
    })
}
