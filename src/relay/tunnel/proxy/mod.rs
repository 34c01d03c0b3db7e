//! The proxy (P): clients ask it, and origins that have dialled it answer.
//!
//! ```text
//!   public listeners                 names                    origins' listener (TLS)
//!   GET / Host: app.example ──▶ app.example ─▶ link 7, 9 ◀── PUT /tunnel, Bearer, Uncork-Hosts: app.example
//!            │                  *.dev.example ▶ link 4                       │ 101, then HTTP/2, this side asks
//!            └── Order ──────────────────────────────▶ link 7 ──▶ Stream ════▶ origin
//! ```
//!
//! | file | knows |
//! |---|---|
//! | `config` | what can be set, and who may be an origin |
//! | `pattern`, `names` | names, whose they are, and where they lead |
//! | `handshake`, `hello` | how a connection becomes a link, by an upgrade or by ALPN |
//! | `doors` | limits of handshakes, by network |
//! | `places` | how many requests there may be, and an address's share of them |
//! | `public` | what clients ask |
//! | `order` | one request, as a carrier sees it |
//! | `link` | one connection, as the rest sees it |
//! | `http2`, `stream` | the carrier, and one request on it |
//! | `slowed` | turns of streams, where a rate holds |
//! | `legacy`, `spdy` | the same for origins of 2014 |
//! | `joint` | a client's connection in another protocol |
//! | `counters` | statistics |
//!
//! **Locking.** One lock around names and links, held for a look at a map; one for each link's queue; one for those who are
//! counted. None is held while anything else is called.
//!
//! **A request that an origin has not begun** goes to another one: it was refused, or the origin has said GOAWAY before
//! it. One that may have been begun is not sent twice, be its method idempotent or not: the client is told.

mod config;
mod counters;
mod handshake;
mod handshake_alpn;
mod handshake_limits;
mod http2;
#[cfg(feature = "spdy")]
mod legacy;
mod link;
mod names;
mod pattern;
mod proxied_request;
mod proxied_stream;
mod public;
mod shares;
mod slowed;
#[cfg(feature = "spdy")]
mod spdy;
mod stream;
mod upgraded_stream;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task,
    time::Instant,
};

use uncork::{Action, Handler, PeerAddr, Request, Upgrade};

pub use self::{
    config::{Balance, Credential, ProxyConfig, Trusted},
    counters::{ConnectionInfo, ProxyCounts},
};
use self::{
    counters::{Count, Counters},
    handshake_alpn::Hello,
    handshake_limits::HandshakeLimits,
    link::{Link, Opening, Rate},
    names::Names,
    pattern::{Pattern, host_of},
    proxied_request::{Failure, ProxiedRequest},
    public::ClientLimits,
    shares::{Full, Places},
};
use crate::relay::{ConfigError, Via};

/// The proxy. Clones are one proxy: an origin that comes in on one loop serves the clients of all.
///
/// It has two sides, each a [`Handler`]: [`public`](Self::public) for clients, on any listeners, and
/// [`origins`](Self::origins) for origins, which must come over TLS. A program that serves both by one
/// [`Server`](uncork::Server) asks [`Request::listener_index`](uncork::Request::listener_index) and calls [`handle`](Self::handle) or
/// [`welcome`](Self::accept_origin_server), and forwards [`stopping`](Self::stopping).
///
/// ```no_run
/// use uncork::{Server, Tls, relay::tunnel::{Credential, Proxy, ProxyConfig}};
///
/// let app = Credential::token("app", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")?.host("*")?;
/// let proxy = Proxy::new(ProxyConfig { credentials: vec![app], ..ProxyConfig::default() })?;
/// let origins = Server::bind("[::]:8443")?.tls(Tls::pem("cert.pem", "key.pem")?).threads(1, proxy.origins())?;
/// Server::bind("[::]:8080")?.threads(2, proxy.public())?.join()?;
/// # drop(origins);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
    /// This clone's server stops. Another clone's may go on.
    stopping: bool,
}

struct Shared {
    config: ProxyConfig,
    via: Via,
    table: Mutex<Table>,
    crowd: Mutex<ClientLimits>,
    doors: Mutex<HandshakeLimits>,
    /// One for each credential.
    rates: Vec<Rate>,
    counters: Counters,
    /// Requests under way.
    active: Arc<AtomicUsize>,
    ids: AtomicU64,
}

struct Table {
    names: Names<Arc<Link>>,
    links: HashMap<u64, Arc<Link>>,
}

impl Proxy {
    /// A proxy without origins.
    ///
    /// # Errors
    /// If the configuration cannot work.
    pub fn new(config: ProxyConfig) -> Result<Self, ConfigError> {
        let config = config.checked()?;
        let most = config.names_per_connection.saturating_mul(config.connections_per_credential);
        let names = Names::new(config.names_kept, most, (config.streams_per_host, config.share_per_address));
        let shared = Shared {
            table: Mutex::new(Table { names, links: HashMap::new() }),
            crowd: Mutex::new(ClientLimits::new(&config)),
            doors: Mutex::new(HandshakeLimits::new(&config)),
            rates: config.credentials.iter().map(|one| Rate::new(one.rate)).collect(),
            counters: Counters::default(),
            active: Arc::default(),
            ids: AtomicU64::new(0),
            via: config.via.clone().unwrap_or_else(Via::random),
            config,
        };
        Ok(Self { shared: Arc::new(shared), stopping: false })
    }

    /// How it was configured.
    pub fn config(&self) -> &ProxyConfig {
        &self.shared.config
    }

    /// The side for clients.
    pub fn public(&self) -> PublicHandler {
        PublicHandler(self.clone())
    }

    /// The side for origins.
    pub fn origins(&self) -> OriginHandler {
        OriginHandler(self.clone())
    }

    /// Answers a client: by an origin's words, or 404, 502, 503, 504.
    pub fn handle(&self, req: &mut Request<'_>) -> Action {
        let trusted = self.shared.config.trusted.has(req.peer());
        self.handle_behind(req, trusted)
    }

    /// The same, where the caller knows whether the request comes by a proxy whose word about its client is believed;
    /// [`ProxyConfig::trusted`] is not asked.
    pub fn handle_behind(&self, req: &mut Request<'_>, trusted: bool) -> Action {
        if self.stopping { public::stopping().into() } else { public::handle(&self.shared, req, trusted) }
    }

    /// Whether a request is for a host and path that an origin has registered, or is to register: to ask before
    /// [`handle`](Self::handle), where there are other things to be served.
    pub fn serves(&self, req: &Request<'_>) -> bool {
        let host = host_of(req.authority().unwrap_or_default());
        let claimed = self.shared.table().names.find(&host, req.path(), req.now().mono).is_some();
        claimed || self.shared.is_known(&host, req.path())
    }

    /// Whether a path is the one where origins ask for a tunnel.
    pub fn is_tunnel_path(&self, path: &str) -> bool {
        path == self.shared.config.path
    }

    /// Lets an origin in, or says why not.
    pub fn accept_origin_server(&self, req: &mut Request<'_>) -> Action {
        if self.stopping { public::stopping().into() } else { handshake::handle(&self.shared, req) }
    }

    /// Who speaks on a connection whose origin has asked, by ALPN, for `rh2`: HTTP/2 with the roles reversed from the first
    /// byte. The listener's [`TlsBuilder::alpn`](uncork::TlsBuilder::alpn) must offer it. To be returned from
    /// [`Handler::alpn`].
    pub fn alpn(&self, protocol: &[u8], peer: &PeerAddr) -> Option<Box<dyn Upgrade>> {
        if protocol != handshake_alpn::PROTOCOL || self.stopping {
            return None;
        }
        Some(Box::new(Hello::new(&self.shared, *peer)?))
    }

    /// The server of this clone stops: what comes from now on is told to come back, what is under way goes on.
    pub fn stopping(&mut self) {
        self.stopping = true;
    }

    /// Lets an origin of 2014 in that speaks SPDY, or says why not. `None`: the request is none of theirs, or the
    /// configuration has no [`Credential::allow_legacy_unauthenticated`].
    #[cfg(feature = "spdy")]
    pub fn accept_legacy(&self, req: &mut Request<'_>) -> Option<Action> {
        let action = legacy::welcome(&self.shared, req)?;
        Some(if self.stopping { public::stopping().into() } else { action })
    }

    /// What was counted so far.
    pub fn counts(&self) -> ProxyCounts {
        let mut counts = self.shared.counters.read();
        counts.links = self.shared.table().links.values().filter(|link| link.has_joined()).count() as u64;
        counts.active = self.shared.active.load(Ordering::Relaxed) as u64;
        counts
    }

    /// The origins that are connected, the oldest first.
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        let mut links: Vec<Arc<Link>> = self.shared.table().links.values().cloned().collect();
        links.retain(|link| link.has_joined());
        links.sort_by_key(|link| link.id);
        let name = |link: &Link| self.shared.config.credentials.get(link.owner).map_or("", |one| one.name.as_str());
        links.iter().map(|link| link.info(name(link))).collect()
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

/// A [`Proxy`], as its clients see it.
#[derive(Clone, Debug)]
pub struct PublicHandler(Proxy);

impl Handler for PublicHandler {
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        self.0.handle(req)
    }

    fn stopping(&mut self) {
        self.0.stopping();
    }
}

/// A [`Proxy`], as origins see it.
#[derive(Clone, Debug)]
pub struct OriginHandler(Proxy);

impl Handler for OriginHandler {
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        #[cfg(feature = "spdy")]
        if let Some(action) = self.0.accept_legacy(req) {
            return action;
        }
        if self.0.is_tunnel_path(req.path()) { self.0.accept_origin_server(req) } else { public::unknown().into() }
    }

    fn alpn(&mut self, protocol: &[u8], peer: &PeerAddr) -> Option<Box<dyn Upgrade>> {
        self.0.alpn(protocol, peer)
    }

    fn stopping(&mut self) {
        self.0.stopping();
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn crowd(&self) -> MutexGuard<'_, ClientLimits> {
        self.crowd.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn doors(&self) -> MutexGuard<'_, HandshakeLimits> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection has become a link; requests come when it has joined.
    fn open(&self, opening: Opening, waker: task::Waker) -> Arc<Link> {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let places = Places::new(self.config.streams_per_connection, self.config.share_per_address);
        let link = Link::new(id, opening, places, waker);
        self.table().links.insert(id, link.clone());
        link
    }

    /// It takes requests.
    fn join(&self, link: &Arc<Link>) {
        self.counters.add(Count::Links);
        self.table().names.join(&link.patterns, link);
        link.set_joined();
    }

    /// It takes no more requests: those that it has not begun go to others.
    fn close(self: &Arc<Self>, link: &Arc<Link>, now: Instant) {
        self.table().names.leave(&link.patterns, |other| other.id == link.id, now);
        for order in link.close() {
            order.again(link.id);
        }
    }

    /// It is no more.
    fn gone(&self, link: &Link) {
        self.table().links.remove(&link.id);
    }

    /// Gives a request to a link that takes it, or answers it.
    fn send(&self, mut order: Box<ProxiedRequest>) {
        let links: Vec<Arc<Link>> = {
            let (host, path) = {
                let uri = order.head.uri();
                (uri.authority().map_or("", |authority| authority.as_str()), uri.path())
            };
            let mut table = self.table();
            match table.names.find(&host_of(host), path, order.reply.now) {
                Some(name) => name.in_turn().cloned().collect(),
                None => Vec::new(),
            }
        };
        let mut links: Vec<Arc<Link>> = links.into_iter().filter(|link| !order.refused_by.contains(&link.id)).collect();
        if links.is_empty() {
            let failure = if order.refused_by.is_empty() { Failure::NoOrigin } else { Failure::Refused };
            return order.reply.fail(failure);
        }
        if self.config.balance == Balance::LeastBusy {
            // In turn among those that are as busy.
            links.sort_by_key(|link| link.active());
        }
        let mut failure = Failure::Busy;
        for link in links {
            match link.offer(order) {
                Ok(()) => return,
                Err((back, full)) => {
                    order = back;
                    if full == Full::Share {
                        failure = Failure::Share;
                    }
                }
            }
        }
        order.reply.fail(failure);
    }

    /// Whether somebody is to have this name, be it registered now or not.
    fn is_known(&self, host: &str, path: &str) -> bool {
        let asked = Pattern { host: host.into(), any: false, path: path.into() };
        let named = |pattern: &Pattern| !pattern.any && pattern.covers(&asked);
        self.config.credentials.iter().any(|one| one.hosts.iter().any(named))
    }
}
