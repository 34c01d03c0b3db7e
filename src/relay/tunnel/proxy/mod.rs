//! The proxy (P): clients send requests to it, and origin servers that have dialled it respond.
//!
//! ```text
//!   public listeners                 names                    listener for origin servers (TLS)
//!   GET / Host: app.example ──▶ app.example ─▶ no. 7, 9 ◀─── PUT /tunnel, Bearer, Uncork-Hosts: app.example
//!            │                  *.dev.example ▶ no. 4                        │ 101, then HTTP/2 with P as client
//!            └── ProxiedRequest ─────────────────────▶ no. 7 ───▶ Stream ════▶ origin server
//! ```
//!
//! | file | contents |
//! |---|---|
//! | `config`, `credential`, `trusted` | settings |
//! | `names` | names, their owners, and the connections that serve them |
//! | `handshake`, `handshake_alpn` | how an origin server registers its names, by an upgrade or by ALPN |
//! | `question_http2`, `question_http1` | the question for the credential after ALPN |
//! | `handshake_limits`, `handshake_permit` | limits of handshakes, by network |
//! | `shares` | how many requests there may be, and an address's share of them |
//! | `admission` | who has sent a request; rejections |
//! | `public`, `client_limits` | requests of clients, and how many each address may have |
//! | `elsewhere`, `shedding` | requests for hosts of other nodes; too many connections, compared to other nodes |
//! | `proxied_request` | one request, as a carrier gets it |
//! | `connection`, `rate` | one connection, as the rest of the proxy sees it; and its rate limit |
//! | `http2`, `stream` | the carrier in HTTP/2, and one request on it |
//! | `http1`, `http1_exchange` | the same in HTTP/1.1, one request at a time |
//! | `legacy`, `spdy` | the same for an origin server of spdy-proxy |
//! | `legacy_handshake` | the handshake of such an origin server |
//! | `proxied_stream` | the shared half of `stream` and `spdy` |
//! | `slowed` | the order of streams under a rate limit |
//! | `counters` | statistics |
//! | `shared`, `common` | the state of all clones; the part of it that each request needs |
//!
//! **Locking.** There is one lock around names and connections, held for a lookup; one for each connection's queue; one
//! for the counters of clients. No lock is held while other code is called.
//!
//! **A request that an origin server has not begun** is retried on another one: the first one has rejected it
//! (REFUSED_STREAM), or has sent GOAWAY before it. A request that may have been begun is never sent twice, idempotent
//! or not; the client gets an error.

mod admission;
mod client_limits;
mod common;
mod config;
mod connection;
mod counters;
mod credential;
#[cfg(feature = "nodes")]
mod elsewhere;
mod handshake;
mod handshake_alpn;
mod handshake_limits;
mod handshake_permit;
mod http1;
mod http1_exchange;
mod http2;
#[cfg(feature = "spdy")]
mod legacy;
#[cfg(feature = "spdy")]
mod legacy_handshake;
mod names;
mod proxied_request;
mod proxied_stream;
mod public;
mod question_http1;
mod question_http2;
mod rate;
mod shared;
mod shares;
#[cfg(feature = "nodes")]
mod shedding;
mod slowed;
#[cfg(feature = "spdy")]
mod spdy;
mod stream;
mod trusted;

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

#[cfg(feature = "nodes")]
use uncork::Moment;
use uncork::{Action, Handler, PeerAddr, Request, Upgrade};

/// What a request says that one node forwards to another for the tunnel.
#[cfg(feature = "nodes")]
pub(in crate::relay) use self::elsewhere::SERVICE;
pub use self::{
    config::{Balance, ProxyConfig},
    counters::{ConnectionInfo, ProxyCounts},
    credential::Credential,
    trusted::Trusted,
};
use self::{
    connection::OriginConnection, handshake_alpn::AlpnHandshake, question_http1::Http1Question,
    question_http2::Http2Question, shared::Shared,
};
use super::labels::{ALPN, Inner};
#[cfg(feature = "directory")]
use crate::relay::nodes::{DirectoryConfig, EngineStatus};
#[cfg(feature = "nodes")]
use crate::relay::nodes::{HostDirectory, HostState, Nodes};
use crate::relay::{ConfigError, tunnel::pattern::host_of};

/// The proxy. Clones share one state: an origin server that connects on one loop serves the clients of all loops.
///
/// It has two sides, each a [`Handler`]: [`public`](Self::public) for clients, on any listener, and
/// [`origin_servers`](Self::origin_servers) for origin servers, which must use TLS. A program that serves both sides
/// with one [`Server`](uncork::Server) looks at [`Request::listener_index`](uncork::Request::listener_index), calls
/// [`handle`](Self::handle) or [`accept_origin_server`](Self::accept_origin_server), and forwards
/// [`stopping`](Self::stopping) and, if a listener offers [`ALPN`](Self::ALPN), [`alpn`](Self::alpn).
///
/// ```no_run
/// use uncork::{Listen, Server, Tls, relay::tunnel::{Credential, Proxy, ProxyConfig}};
///
/// let app = Credential::token("app", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")?.host("*")?;
/// let proxy = Proxy::new(ProxyConfig { credentials: vec![app], ..ProxyConfig::default() })?;
/// let listen = Listen::tcp("[::]:8443")?.tls(Tls::pem("cert.pem", "key.pem")?);
/// let origins = Server::new().listen(listen).threads(1, proxy.origin_servers())?;
/// Server::bind("[::]:8080")?.threads(2, proxy.public())?.join()?;
/// # drop(origins);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
    /// The server of this clone stops; the servers of other clones may go on.
    stopping: bool,
}

impl Proxy {
    /// The protocols by which origin servers may connect without an upgrade: the names that a listener for them offers
    /// by ALPN ([`TlsBuilder::alpn`](uncork::TlsBuilder::alpn)), the preferred one first. They are those of the drafts
    /// of the IETF working group PTTH, so another version of this crate may have others.
    pub const ALPN: &'static [&'static str] = &ALPN;

    /// Creates a proxy without origin servers.
    ///
    /// # Errors
    /// Returns an error if the configuration is invalid.
    pub fn new(config: ProxyConfig) -> Result<Self, ConfigError> {
        Ok(Self { shared: Arc::new(Shared::new(config.checked()?)), stopping: false })
    }

    /// Creates a proxy that also serves the hosts of other nodes: a request for a host without an origin server here is
    /// forwarded to a node that has one, once. The other nodes need a
    /// [`NodeListener`](crate::relay::nodes::NodeListener) with this proxy, and the same credentials.
    ///
    /// Only hosts that a credential allows are looked up. A node is asked at most once a second for each host. If no
    /// node has the host, the response is that of a proxy without nodes. It is 502 if the node that has it does not
    /// respond, and 503 if a node that may have it does not.
    ///
    /// A node prefers its own origin servers, and a name belongs to its credential on each node. So names that include
    /// one another (a host and a path of it, a host and a pattern) should be registered on all nodes: see
    /// [`Tunnel::connections`](super::Tunnel::connections).
    ///
    /// # Errors
    /// Returns an error if the configuration is invalid.
    #[cfg(feature = "nodes")]
    pub fn with_nodes(config: ProxyConfig, nodes: Nodes) -> Result<Self, ConfigError> {
        let shared = Shared::new(config.checked()?).with_hosts(HostDirectory::new(nodes));
        Ok(Self { shared: Arc::new(shared), stopping: false })
    }

    /// Like [`with_nodes`](Self::with_nodes), but the nodes register their hosts at an engine: a server of the Redis
    /// protocol. A host that is registered there need not be asked about, and the other nodes know of a new one at
    /// once. Without the engine, or if it does not know a host, the nodes are asked. Connects to nothing yet: see
    /// [`start_directory`](Self::start_directory).
    ///
    /// # Errors
    /// Returns an error if one of the configurations is invalid.
    #[cfg(feature = "directory")]
    pub fn with_directory(config: ProxyConfig, nodes: Nodes, directory: DirectoryConfig) -> Result<Self, ConfigError> {
        let hosts = HostDirectory::with_engine(nodes, directory)?;
        Ok(Self { shared: Arc::new(Shared::new(config.checked()?).with_hosts(hosts)), stopping: false })
    }

    /// Connects to the engine on this loop, and keeps connecting until [`stop_directory`](Self::stop_directory) or the
    /// end of the loop. Only the first call counts. Nothing happens without an engine.
    #[cfg(feature = "directory")]
    pub fn start_directory(&self, on: &uncork::LoopHandle) {
        self.shared.hosts.iter().for_each(|hosts| hosts.start(on));
    }

    /// Ends the connection to the engine. The hosts of this node expire there within 30 s.
    #[cfg(feature = "directory")]
    pub fn stop_directory(&self) {
        self.shared.hosts.iter().for_each(HostDirectory::stop);
    }

    /// Returns the state of the connection to the engine. `None` if there is no engine.
    #[cfg(feature = "directory")]
    pub fn directory_status(&self) -> Option<EngineStatus> {
        self.shared.hosts.as_ref().and_then(HostDirectory::status)
    }

    /// Returns the configuration.
    pub fn config(&self) -> &ProxyConfig {
        &self.shared.common.config
    }

    /// Returns the handler for clients.
    pub fn public(&self) -> PublicHandler {
        PublicHandler(self.clone())
    }

    /// Returns the handler for origin servers.
    pub fn origin_servers(&self) -> OriginHandler {
        OriginHandler(self.clone())
    }

    /// Handles a client's request: with the response of an origin server, or with 404, 502, 503 or 504.
    pub fn handle(&self, req: &mut Request<'_>) -> Action {
        let trusted = self.shared.common.config.trusted.has(req.peer());
        self.handle_behind(req, trusted)
    }

    /// Like [`handle`](Self::handle), but the caller decides whether the peer is a trusted proxy;
    /// [`ProxyConfig::trusted`] is not used.
    pub fn handle_behind(&self, req: &mut Request<'_>, trusted: bool) -> Action {
        if self.stopping {
            return admission::stopping().into();
        }
        public::handle(&self.shared, req, admission::Sender::Client { trusted })
    }

    /// Handles a request that another node has forwarded.
    #[cfg(feature = "nodes")]
    pub(in crate::relay) fn handle_for_node(&self, req: &mut Request<'_>) -> Action {
        match self.stopping {
            // The other node may know a third one.
            true => Nodes::without_host(admission::stopping()).into(),
            false => public::handle(&self.shared, req, admission::Sender::Node),
        }
    }

    /// Returns what this node answers to others about a host.
    #[cfg(feature = "nodes")]
    pub(in crate::relay) fn host_state(&self, host: &str, now: Moment) -> HostState {
        match self.shared.host_state(&host.to_ascii_lowercase(), now.mono) {
            HostState::Connected if self.stopping => HostState::Known,
            state => state,
        }
    }

    /// Returns `true` if an origin server has registered the request's host and path, or may register them. For
    /// programs that serve other things too, before [`handle`](Self::handle).
    ///
    /// With other nodes, all hosts are included that a credential allows by a name or a pattern, since any node may
    /// have them. With the pattern `*` that is every host, so it is not counted: such a host is included only while a
    /// node is known to have it.
    pub fn serves(&self, req: &Request<'_>) -> bool {
        let host = host_of(req.authority().unwrap_or_default());
        let claimed = self.shared.table().names.find(&host, req.path(), req.now().mono).is_some();
        #[cfg(feature = "nodes")]
        if let Some(hosts) = &self.shared.hosts
            && (hosts.has(&host, req) || self.shared.is_allowed(&host, |allowed| !allowed.is_all()))
        {
            return true;
        }
        claimed || self.shared.is_known(&host, req.path())
    }

    /// Returns `true` if this is the path where origin servers request a tunnel.
    pub fn is_tunnel_path(&self, path: &str) -> bool {
        path == self.shared.common.config.path
    }

    /// Accepts an origin server, or rejects it with a status code and the reason.
    pub fn accept_origin_server(&self, req: &mut Request<'_>) -> Action {
        if self.stopping { admission::stopping().into() } else { handshake::handle(&self.shared, req) }
    }

    /// Returns the `Upgrade` for a connection on which ALPN has selected one of [`ALPN`](Self::ALPN): HTTP with the
    /// roles reversed from the first byte. For [`Handler::alpn`]. Returns `None` for other protocols, and while the
    /// server stops.
    pub fn alpn(&self, protocol: &[u8], peer: &PeerAddr) -> Option<Box<dyn Upgrade>> {
        let inner = Inner::of_alpn(protocol).filter(|_| !self.stopping)?;
        match inner {
            Inner::Http2 => Some(Box::new(AlpnHandshake::new(&self.shared, *peer, Http2Question::new(&self.shared)))),
            Inner::Http1 => Some(Box::new(AlpnHandshake::new(&self.shared, *peer, Http1Question::new()))),
        }
    }

    /// Stops this clone, with its server: new requests get 503 with `Retry-After`, those in progress go on.
    pub fn stopping(&mut self) {
        self.stopping = true;
    }

    /// Accepts an origin server of spdy-proxy, or rejects it. Returns `None` if the request is not from one, or if the
    /// configuration has no [`Credential::allow_legacy_unauthenticated`].
    #[cfg(feature = "spdy")]
    pub fn accept_legacy(&self, req: &mut Request<'_>) -> Option<Action> {
        let action = legacy_handshake::accept(&self.shared, req)?;
        Some(if self.stopping { admission::stopping().into() } else { action })
    }

    /// Returns the counters.
    pub fn counts(&self) -> ProxyCounts {
        let mut counts = self.shared.common.counters.read();
        counts.connections =
            self.shared.table().connections.values().filter(|connection| connection.has_joined()).count() as u64;
        counts.active = self.shared.active.load(Ordering::Relaxed) as u64;
        counts
    }

    /// Returns the connected origin servers, the oldest first.
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        let mut connections: Vec<Arc<OriginConnection>> = self.shared.table().connections.values().cloned().collect();
        connections.retain(|connection| connection.has_joined());
        connections.sort_by_key(|connection| connection.id);
        let name = |connection: &OriginConnection| {
            self.shared.common.config.credentials.get(connection.owner).map_or("", |one| one.name.as_str())
        };
        connections.iter().map(|connection| connection.info(name(connection))).collect()
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

/// The handler of a [`Proxy`] for clients.
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

/// The handler of a [`Proxy`] for origin servers.
#[derive(Clone, Debug)]
pub struct OriginHandler(Proxy);

impl Handler for OriginHandler {
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        #[cfg(feature = "spdy")]
        if let Some(action) = self.0.accept_legacy(req) {
            return action;
        }
        if self.0.is_tunnel_path(req.path()) { self.0.accept_origin_server(req) } else { admission::unknown().into() }
    }

    fn alpn(&mut self, protocol: &[u8], peer: &PeerAddr) -> Option<Box<dyn Upgrade>> {
        self.0.alpn(protocol, peer)
    }

    fn stopping(&mut self) {
        self.0.stopping();
    }
}
