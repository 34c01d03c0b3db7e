//! The listener for other nodes.

use uncork::{Action, Handler, Moment, Request, Response};

use super::{
    handle::Nodes,
    proof::{REJECTED, Rejection},
    report::{self, NodeReport},
};
#[cfg(feature = "tunnel")]
use super::{held::SERVICE, host_cache::HostState, hosts};
#[cfg(all(feature = "directory", feature = "gateway"))]
use crate::relay::Gateway;
#[cfg(feature = "tunnel")]
use crate::relay::tunnel::{self, Proxy};
use crate::relay::{Rendezvous, SessionRelay};

/// Handles the requests that other nodes forward to this one: a [`Handler`] for a server of its own.
///
/// It accepts only requests that a node with the same key has signed for this node within the last minute, and only for
/// ids of this node, for hosts of the tunnel that it has, or for questions about these and its numbers. Everything else
/// is rejected with 400, 403, 421 or 508, and counted ([`NodeCounts::rejected`](super::NodeCounts::rejected)). Nothing
/// is forwarded from here.
///
/// Its server should listen on an address that only the nodes can reach, or use TLS with client certificates
/// ([`TlsBuilder::client_certificates`](crate::TlsBuilder::client_certificates)): the signature covers the request
/// line, but neither the other header fields nor the body. All requests come from a few addresses, so
/// [`Limits::connections_per_address`](crate::Limits::connections_per_address) must allow as many connections as the
/// nodes open.
#[derive(Clone, Debug)]
pub struct NodeListener {
    nodes: Nodes,
    sessions: Option<SessionRelay>,
    rendezvous: Option<Rendezvous>,
    #[cfg(all(feature = "directory", feature = "gateway"))]
    gateway: Option<Gateway>,
    #[cfg(feature = "tunnel")]
    tunnel: Option<Proxy>,
}

impl NodeListener {
    /// Creates a listener without services.
    pub fn new(nodes: Nodes) -> Self {
        Self {
            nodes,
            sessions: None,
            rendezvous: None,
            #[cfg(all(feature = "directory", feature = "gateway"))]
            gateway: None,
            #[cfg(feature = "tunnel")]
            tunnel: None,
        }
    }

    /// Adds the session relay that was created with the same [`Nodes`].
    #[must_use]
    pub fn sessions(self, sessions: &SessionRelay) -> Self {
        Self { sessions: Some(sessions.for_nodes()), ..self }
    }

    /// Adds the rendezvous that was created with the same [`Nodes`].
    #[must_use]
    pub fn rendezvous(self, rendezvous: &Rendezvous) -> Self {
        Self { rendezvous: Some(rendezvous.for_nodes()), ..self }
    }

    /// Adds the gateway whose directory was created with the same [`Nodes`].
    #[cfg(all(feature = "directory", feature = "gateway"))]
    #[must_use]
    pub fn gateway(self, gateway: &Gateway) -> Self {
        Self { gateway: Some(gateway.clone()), ..self }
    }

    /// Adds the tunnel's proxy that was created with the same [`Nodes`].
    #[cfg(feature = "tunnel")]
    #[must_use]
    pub fn tunnel(self, proxy: &Proxy) -> Self {
        Self { tunnel: Some(proxy.clone()), ..self }
    }
}

impl Handler for NodeListener {
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        if let Err(reason) = self.nodes.admit(req) {
            return self.reject(reason);
        }
        #[cfg(feature = "tunnel")]
        if let Some(action) = self.handle_tunnel(req) {
            self.nodes.0.counters.accepted();
            return action;
        }
        let path = req.path();
        if path == report::PATH && req.method() == "GET" {
            return Response::json(self.report(req.now())).into();
        }
        self.nodes.0.counters.accepted();
        if let Some(sessions) = self.sessions.as_ref().filter(|sessions| sessions.serves(path)) {
            return sessions.handle(req);
        }
        if let Some(rendezvous) = self.rendezvous.as_ref().filter(|rendezvous| rendezvous.serves(path)) {
            return rendezvous.handle(req);
        }
        #[cfg(all(feature = "directory", feature = "gateway"))]
        if let Some(action) = self.gateway.as_ref().and_then(|own| own.handle_node(req)) {
            return action;
        }
        self.reject(Rejection::NotHere)
    }

    fn stopping(&mut self) {
        if let Some(sessions) = &mut self.sessions {
            sessions.stopping();
        }
        if let Some(rendezvous) = &mut self.rendezvous {
            rendezvous.stopping();
        }
        #[cfg(feature = "tunnel")]
        if let Some(tunnel) = &mut self.tunnel {
            tunnel.stopping();
        }
    }
}

impl NodeListener {
    /// Handles what concerns the tunnel: requests of clients, whose paths are those of any server, and questions.
    #[cfg(feature = "tunnel")]
    fn handle_tunnel(&self, req: &mut Request<'_>) -> Option<Action> {
        if req.header(SERVICE).is_some_and(|service| service == tunnel::SERVICE.as_bytes()) {
            return Some(match &self.tunnel {
                Some(tunnel) => tunnel.handle_for_node(req),
                None => Nodes::without_host(Response::text("there is no tunnel\n").with_status(421)).into(),
            });
        }
        if req.path() != hosts::PATH || req.method() != "GET" {
            return None;
        }
        let state = match (&self.tunnel, hosts::asked(req)) {
            (Some(tunnel), Some(host)) => tunnel.host_state(&host, req.now()),
            _ => HostState::Unknown,
        };
        Some(Response::json(state.json()).into())
    }

    fn report(&self, now: Moment) -> String {
        let sessions = self.sessions.as_ref().map_or(0, |sessions| sessions.counts(now).sessions);
        let streams = self.rendezvous.as_ref().map(|rendezvous| rendezvous.counts(now));
        #[cfg(feature = "tunnel")]
        let origins = self.tunnel.as_ref().map(|tunnel| tunnel.counts().connections);
        #[cfg(not(feature = "tunnel"))]
        let origins = None;
        NodeReport::json(sessions, streams.map_or(0, |counts| counts.waiting + counts.running), origins, now.wall)
    }

    fn reject(&self, reason: Rejection) -> Action {
        self.nodes.0.counters.rejected(reason);
        let response = Response::text(format!("rejected: {}\n", reason.name())).with_status(reason.status());
        match reason {
            // The sender has the key, and its log is to say which node it has reached.
            Rejection::Recipient => response.header(REJECTED, format!("{} {}", reason.name(), self.nodes.id())),
            _ => response.header(REJECTED, reason.name()),
        }
        .into()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpStream,
        time::{Duration, SystemTime},
    };

    use uncork::{PeerAddr, Server};

    use super::{
        super::{
            config::NodesConfig,
            id::{Ids, Tag},
            key::Key,
            proof::{FIELD, Proof},
        },
        *,
    };
    use crate::relay::{RendezvousConfig, SessionConfig};

    /// A node that signs correctly, but forwards what it should not.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "the other node's clock")]
    fn a_signed_request_must_have_an_id_of_this_node() {
        let tag = |text| Tag::parse(text).unwrap();
        let key = Key::new(&[7; 32]).unwrap();
        let nodes = Nodes::new(NodesConfig { id: "b".into(), key: vec![7; 32], ..NodesConfig::default() }).unwrap();
        let sessions = SessionRelay::with_nodes(SessionConfig::default(), nodes.clone()).unwrap();
        let rendezvous = Rendezvous::with_nodes(RendezvousConfig::default(), nodes.clone()).unwrap();
        let listener = NodeListener::new(nodes.clone()).sessions(&sessions).rendezvous(&rendezvous);
        let server = Server::bind("127.0.0.1:0").unwrap().threads(1, listener).unwrap();
        let addr = server.local_addr().unwrap();
        let ask = |method: &str, target: &str| {
            let proof = Proof { from: tag("a"), to: tag("b"), peer: PeerAddr::Unix, https: false };
            let proof = proof.value(&key, method, target, SystemTime::now());
            let mut stream = TcpStream::connect(addr).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let fields = format!("Host: b\r\n{FIELD}: {proof}\r\nConnection: close\r\nContent-Length: 0\r\n");
            write!(stream, "{method} {target} HTTP/1.1\r\n{fields}\r\n").unwrap();
            let mut response = String::new();
            stream.read_to_string(&mut response).unwrap();
            (response[9..12].parse::<u16>().unwrap(), response.contains("\r\nUncork-Node-Rejected: not-here\r\n"))
        };
        let (own, other) = (Ids::new(tag("b"), key.clone()).text(1), Ids::new(tag("c"), key.clone()).text(1));
        for (method, target) in [
            ("GET", format!("/stream/{other}")),
            ("PUT", format!("/stream/{other}")),
            ("GET", format!("/stream/{other}/status")),
            ("POST", format!("/stream/{other}/error")),
            ("GET", format!("/cama/session/{other}")),
            ("DELETE", format!("/cama/session/{other}")),
            ("POST", "/stream".to_owned()),
            ("PUT", "/cama/session".to_owned()),
            ("GET", "/".to_owned()),
        ] {
            assert_eq!(ask(method, &target), (421, true), "{method} {target}");
        }
        // Its own ids: these do not exist.
        for target in [format!("/stream/{own}"), format!("/cama/session/{own}"), "/stream/x".to_owned()] {
            assert_eq!(ask("GET", &target), (404, false), "{target}");
        }
        assert_eq!(ask("GET", "/node"), (200, false));
        let counts = nodes.counts();
        assert_eq!((counts.accepted, counts.forwarded), (12, 0));
        assert!(counts.rejected.contains(&("not-here", 9)), "{counts:?}");
        server.stop_now().unwrap();
    }
}
