//! The handler of the public listeners: the enabled services and the web page.

use std::{
    os::fd::BorrowedFd,
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use uncork::{AccessRecord, Action, ConnId, EndReason, Handler, PeerAddr, Request, Response, Upgrade, relay::Gateway};

use super::{
    Failure,
    access::AccessLines,
    addresses::{self, Network},
    lock::{read, write},
    metrics::Metrics,
    page::Page,
    services::Services,
    settings::{Proxies, Settings},
    values::ForwardedField,
};

/// State that all loops and the admin listener share.
pub(crate) struct Shared {
    pub(crate) metrics: Metrics,
    pub(crate) access: AccessLines,
    /// `true` once the program is stopping; /ready reports it.
    draining: AtomicBool,
    trust: RwLock<Trust>,
}

/// The proxies whose fields are trusted.
struct Trust {
    networks: Vec<Network>,
    field: ForwardedField,
}

impl Trust {
    fn new(proxies: &Proxies) -> Self {
        Self { networks: proxies.trusted.clone(), field: proxies.field }
    }
}

impl Shared {
    pub(crate) fn new(settings: &Settings, metrics: Metrics) -> Result<Self, Failure> {
        Ok(Self {
            metrics,
            access: AccessLines::open(&settings.access_log)?,
            draining: AtomicBool::new(false),
            trust: RwLock::new(Trust::new(&settings.proxies)),
        })
    }

    pub(crate) fn set_trusted(&self, proxies: &Proxies) {
        *write(&self.trust) = Trust::new(proxies);
    }

    /// Returns `true` if the peer may send a header of the PROXY protocol.
    pub(crate) fn is_proxy(&self, peer: &PeerAddr) -> bool {
        let trust = read(&self.trust);
        addresses::is_trusted(&trust.networks, peer)
    }

    /// Returns what a trusted proxy states about its client.
    fn client(&self, req: &Request<'_>) -> addresses::Client {
        let trust = read(&self.trust);
        let headers = req.headers();
        addresses::client(req.peer(), |name| headers.get_all(name).collect(), &trust.networks, trust.field)
    }

    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_ready(&self) -> bool {
        !self.draining.load(Ordering::Relaxed)
    }

    /// Records a request that has ended.
    pub(crate) fn ended(&self, access: &AccessRecord<'_>) {
        self.metrics.request(access);
        self.access.write(access);
    }
}

/// Everything on the public listeners.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) shared: Arc<Shared>,
    pub(crate) services: Services,
    /// The web page, if it is enabled.
    pub(crate) page: Option<Page>,
}

impl Handler for Site {
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        let client = self.shared.client(req);
        if let Some(peer) = client.peer {
            req.set_peer(peer);
        }
        if let Some(https) = client.https {
            req.set_https(https);
        }
        // A tunnel serves whole hosts, whatever the path, so it goes first; it needs the client's address and scheme.
        if let Some(tunnel) = &self.services.tunnel {
            #[cfg(feature = "spdy")]
            if let Some(action) = tunnel.accept_legacy(req) {
                return action;
            }
            let is_tunnel = tunnel.is_tunnel_path(req.path());
            match (is_tunnel && req.wants_upgrade("ptth"), tunnel.serves(req)) {
                (true, _) => return tunnel.accept_origin_server(req),
                (false, true) => return tunnel.handle_behind(req, false),
                (false, false) if is_tunnel => return tunnel.accept_origin_server(req),
                _ => {}
            }
        }
        if let Some(action) = self.page.as_ref().and_then(|page| page.respond(req)) {
            return action;
        }
        let (path, services) = (req.path(), &self.services);
        if let Some(sessions) = services.sessions.as_ref().filter(|sessions| sessions.serves(path)) {
            return sessions.handle(req);
        }
        if let Some(rendezvous) = services.rendezvous.as_ref().filter(|rendezvous| rendezvous.serves(path)) {
            return rendezvous.handle(req);
        }
        let is_gateways = |gateway: &&Gateway| {
            gateway.config().path.connect == path || (services.gateway_is_open && gateway.serves(path))
        };
        if let Some(gateway) = services.gateway.as_ref().filter(is_gateways) {
            return gateway.handle(req);
        }
        match services.gateway.as_ref().and_then(|gateway| gateway.forward(req)) {
            Some(action) => action,
            None => Response::text("Not found.\n").with_status(404).into(),
        }
    }

    /// Accepts origin servers of the tunnel by ALPN, and no other protocol.
    fn alpn(&mut self, protocol: &[u8], peer: &PeerAddr) -> Option<Box<dyn Upgrade>> {
        self.services.tunnel.as_ref()?.alpn(protocol, peer)
    }

    fn opened(&mut self, _: ConnId, _: &PeerAddr, _: Option<BorrowedFd<'_>>) {
        self.shared.metrics.opened();
    }

    fn closed(&mut self, _: ConnId, reason: &EndReason) {
        self.shared.metrics.closed(reason);
    }

    fn rejected(&mut self, _: &PeerAddr, reason: &EndReason) {
        self.shared.metrics.rejected(reason);
    }

    fn stopping(&mut self) {
        let Services { sessions, rendezvous, gateway, tunnel, .. } = &mut self.services;
        if let Some(sessions) = sessions {
            sessions.stopping();
        }
        if let Some(rendezvous) = rendezvous {
            rendezvous.stopping();
        }
        if let Some(gateway) = gateway {
            gateway.stopping();
        }
        if let Some(tunnel) = tunnel {
            tunnel.stopping();
        }
    }
}
