//! The listener for other nodes.

use uncork::{Action, Handler, Moment, Request, Response};

use super::{
    handle::Nodes,
    proof::{REJECTED, Rejection},
    report::{self, NodeReport},
};
use crate::relay::{Rendezvous, SessionRelay};

/// Handles the requests that other nodes forward to this one: a [`Handler`] for a server of its own.
///
/// It accepts only requests that a node with the same key has signed for this node within the last minute, and only for
/// ids of this node, or for its numbers of sessions and streams. Everything else is rejected with 400, 403, 421 or 508,
/// and counted ([`NodeCounts::rejected`](super::NodeCounts::rejected)). Nothing is forwarded from here.
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
}

impl NodeListener {
    /// Creates a listener without services.
    pub fn new(nodes: Nodes) -> Self {
        Self { nodes, sessions: None, rendezvous: None }
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
}

impl Handler for NodeListener {
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        if let Err(reason) = self.nodes.admit(req) {
            return self.reject(reason);
        }
        let path = req.path();
        if path == report::PATH && req.method() == "GET" {
            return Response::json(self.report(req.now())).into();
        }
        if let Some(sessions) = self.sessions.as_ref().filter(|sessions| sessions.serves(path)) {
            return sessions.handle(req);
        }
        if let Some(rendezvous) = self.rendezvous.as_ref().filter(|rendezvous| rendezvous.serves(path)) {
            return rendezvous.handle(req);
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
    }
}

impl NodeListener {
    fn report(&self, now: Moment) -> String {
        let sessions = self.sessions.as_ref().map_or(0, |sessions| sessions.counts(now).sessions);
        let streams = self.rendezvous.as_ref().map(|rendezvous| rendezvous.counts(now));
        NodeReport::json(sessions, streams.map_or(0, |counts| counts.waiting + counts.running), now.wall)
    }

    fn reject(&self, reason: Rejection) -> Action {
        self.nodes.0.counters.rejected(reason);
        let response = Response::text(format!("rejected: {}\n", reason.name())).with_status(reason.status());
        response.header(REJECTED, reason.name()).into()
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
        assert_eq!((counts.accepted, counts.forwarded), (13, 0));
        assert!(counts.rejected.contains(&("not-here", 9)), "{counts:?}");
        server.stop_now().unwrap();
    }
}
