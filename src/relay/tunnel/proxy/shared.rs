//! The state that all clones of a proxy share: names, connections, limits and counters.

#[cfg(feature = "nodes")]
use std::sync::atomic::AtomicBool;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task,
    time::Instant,
};

use super::{
    client_limits::ClientLimits,
    common::Common,
    config::{Balance, ProxyConfig},
    connection::{OriginConnection, Registration},
    counters::{ConnectionInfo, Count},
    handshake_limits::HandshakeLimits,
    names::Names,
    proxied_request::{Failure, ProxiedRequest},
    proxied_stream::Turn,
    rate::Rate,
    shares::{PermitError, Permits},
};
#[cfg(feature = "nodes")]
use crate::relay::nodes::{HostDirectory, HostState};
use crate::relay::{
    lock::lock,
    tunnel::pattern::{Pattern, host_of},
};

/// Connections that one request is tried on.
const TRIES: usize = 3;

pub(super) struct Shared {
    pub(super) common: Arc<Common>,
    table: Mutex<Table>,
    clients: Mutex<ClientLimits>,
    handshakes: Mutex<HandshakeLimits>,
    /// One for each credential.
    pub(super) rates: Vec<Rate>,
    /// Requests in progress.
    pub(super) active: Arc<AtomicUsize>,
    ids: AtomicU64,
    /// The hosts of other nodes.
    #[cfg(feature = "nodes")]
    pub(super) hosts: Option<HostDirectory>,
    /// The numbers of connections are compared with those of other nodes.
    #[cfg(feature = "nodes")]
    pub(super) compares: AtomicBool,
}

pub(super) struct Table {
    pub(super) names: Names<Arc<OriginConnection>>,
    pub(super) connections: HashMap<u64, Arc<OriginConnection>>,
}

impl Shared {
    pub(super) fn new(config: ProxyConfig) -> Self {
        let max_names = config.names_per_connection.saturating_mul(config.connections_per_credential);
        let names = Names::new(config.name_timeout, max_names, (config.streams_per_host, config.share_per_address));
        Self {
            table: Mutex::new(Table { names, connections: HashMap::new() }),
            clients: Mutex::new(ClientLimits::new(&config)),
            handshakes: Mutex::new(HandshakeLimits::new(&config)),
            rates: config.credentials.iter().map(|one| Rate::new(one.rate)).collect(),
            active: Arc::default(),
            ids: AtomicU64::new(0),
            common: Arc::new(Common::new(config)),
            #[cfg(feature = "nodes")]
            hosts: None,
            #[cfg(feature = "nodes")]
            compares: AtomicBool::new(false),
        }
    }

    /// Forwards requests for hosts of other nodes.
    #[cfg(feature = "nodes")]
    pub(super) fn with_hosts(self, hosts: HostDirectory) -> Self {
        Self { hosts: Some(hosts), ..self }
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }

    pub(super) fn clients(&self) -> MutexGuard<'_, ClientLimits> {
        lock(&self.clients)
    }

    pub(super) fn handshakes(&self) -> MutexGuard<'_, HandshakeLimits> {
        lock(&self.handshakes)
    }

    /// Adds a connection. It gets requests when it has joined.
    pub(super) fn open(&self, registration: Registration, waker: task::Waker) -> Arc<OriginConnection> {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let permits = Permits::new(self.common.config.streams_per_connection, self.common.config.share_per_address);
        let connection = OriginConnection::new(id, registration, permits, waker);
        self.table().connections.insert(id, connection.clone());
        connection
    }

    /// The connection takes requests from now on.
    pub(super) fn join(&self, connection: &Arc<OriginConnection>) {
        self.common.counters.add(Count::Connections);
        self.table().names.join(&connection.patterns, connection);
        connection.set_joined();
        #[cfg(feature = "nodes")]
        if let Some(hosts) = self.hosts.as_ref().filter(|_| connection.announces()) {
            connection.hosts().for_each(|host| hosts.announce(&host));
        }
        let ConnectionInfo { credential, hosts, peer, .. } = self.info(connection);
        let (id, hosts) = (connection.id, hosts.join(", "));
        log::info!(target: "uncork::relay", "tunnel {id}: origin server {peer} connected with {credential}, for {hosts}");
    }

    fn info(&self, connection: &OriginConnection) -> ConnectionInfo {
        connection.info(&self.common.config.credentials[connection.owner].name)
    }

    /// The connection takes no more requests. Those that it has not begun are retried on others.
    pub(super) fn close(&self, connection: &Arc<OriginConnection>, now: Instant) {
        self.table().names.leave(&connection.patterns, |other| other.id == connection.id, now);
        #[cfg(feature = "nodes")]
        if let Some(hosts) = self.hosts.as_ref().filter(|_| connection.withdraws()) {
            connection.hosts().for_each(|host| hosts.withdraw(&host));
        }
        for request in connection.close() {
            self.retry(request, connection.id);
        }
    }

    /// The connection has ended.
    pub(super) fn remove(&self, connection: &OriginConnection) {
        self.table().connections.remove(&connection.id);
        if connection.has_joined() {
            let (id, info) = (connection.id, self.info(connection));
            log::info!(target: "uncork::relay", "tunnel {id}: origin server disconnected: {info}");
        }
    }

    /// Counts the bytes that one look at a stream has moved.
    pub(super) fn count_bytes(&self, origin: &OriginConnection, turn: &Turn) {
        let Turn { request_bytes, response_bytes, .. } = *turn;
        origin.count_bytes(request_bytes, response_bytes);
        self.common.counters.add_many(Count::RequestBytes, request_bytes as u64);
        self.common.counters.add_many(Count::ResponseBytes, response_bytes as u64);
    }

    /// Gives a request to a connection with capacity for it, or responds with an error.
    pub(super) fn send(&self, mut request: Box<ProxiedRequest>) {
        let connections: Vec<Arc<OriginConnection>> = {
            let (host, path) = {
                let uri = request.head.uri();
                (uri.authority().map_or("", |authority| authority.as_str()), uri.path())
            };
            let mut table = self.table();
            match table.names.find(&host_of(host), path, request.responder.now) {
                Some(name) => name.in_turn().cloned().collect(),
                None => Vec::new(),
            }
        };
        let mut connections: Vec<Arc<OriginConnection>> =
            connections.into_iter().filter(|connection| !request.rejected_by.contains(&connection.id)).collect();
        if connections.is_empty() {
            let failure =
                if request.rejected_by.is_empty() { Failure::NoOriginServer } else { Failure::RejectedUnread };
            return request.responder.fail(failure);
        }
        // A request waits only if all connections are in use.
        connections.sort_by_key(|connection| connection.is_serial() && connection.active() > 0);
        if self.common.config.balance == Balance::LeastBusy {
            // Connections with the same number of requests take turns.
            connections.sort_by_key(|connection| connection.active());
        }
        let mut failure = Failure::Busy;
        for connection in connections {
            match connection.offer(request) {
                Ok(()) => return,
                Err((back, error)) => {
                    request = back;
                    if error == PermitError::ShareUsed {
                        failure = Failure::Share;
                    }
                }
            }
        }
        request.responder.fail(failure);
    }

    /// Takes a request that waits at another connection of HTTP/1.1 with the same names.
    pub(super) fn take_over(&self, connection: &OriginConnection) -> Option<Box<ProxiedRequest>> {
        let is_like = |other: &OriginConnection| {
            let same = other.owner == connection.owner && other.patterns == connection.patterns;
            same && other.is_serial() && other.id != connection.id
        };
        let others: Vec<Arc<OriginConnection>> =
            self.table().connections.values().filter(|other| is_like(other)).cloned().collect();
        for other in others {
            let Some(mut request) = other.next() else { continue };
            match connection.permits.take(request.share.address) {
                Ok(permit) => {
                    request.permit = Some(permit);
                    return Some(request);
                }
                Err(_) => other.put_back(request),
            }
        }
        None
    }

    /// Retries a request that a connection has not begun, if nothing of the body was taken out. `rejected_by`: the
    /// connection.
    pub(super) fn retry(&self, mut request: Box<ProxiedRequest>, rejected_by: u64) {
        let untouched = request.body.as_ref().is_none_or(|body| body.counters().read() == 0);
        request.rejected_by.push(rejected_by);
        request.permit = None;
        if untouched && request.rejected_by.len() < TRIES {
            self.common.counters.add(Count::Retried);
            self.send(request);
        } else {
            request.responder.fail(Failure::RejectedUnread);
        }
    }

    /// Returns `true` if a credential may register this name, be it registered now or not.
    pub(super) fn is_known(&self, host: &str, path: &str) -> bool {
        let requested = Pattern { host: host.into(), any: false, path: path.into() };
        let named = |pattern: &Pattern| !pattern.any && pattern.covers(&requested);
        self.common.config.credentials.iter().any(|one| one.hosts.iter().any(named))
    }

    /// Returns `true` if a credential may register this host or a path of it, by its name or by a pattern.
    #[cfg(feature = "nodes")]
    pub(super) fn is_allowed(&self, host: &str, patterns: impl Fn(&Pattern) -> bool) -> bool {
        let requested = Pattern { host: host.into(), any: false, path: "".into() };
        let covers =
            |allowed: &Pattern| patterns(allowed) && Pattern { path: "".into(), ..allowed.clone() }.covers(&requested);
        self.common.config.credentials.iter().any(|one| one.hosts.iter().any(covers))
    }

    /// Returns what this node knows about a host.
    #[cfg(feature = "nodes")]
    pub(super) fn host_state(&self, host: &str, now: Instant) -> HostState {
        match self.table().names.has(host, now) {
            Some(true) => HostState::Connected,
            Some(false) => HostState::Known,
            None if self.is_allowed(host, |allowed| !allowed.any) => HostState::Known,
            None => HostState::Unknown,
        }
    }
}
