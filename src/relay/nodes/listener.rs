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
/// ids of this node, or for its numbers of sessions and streams. Everything else is rejected with 400, 403, 421 or 508, and counted
/// ([`NodeCounts::rejected`](super::NodeCounts::rejected)). Nothing is forwarded from here.
///
/// Its server should listen on an address that only the nodes can reach, or use TLS with client certificates
/// ([`TlsBuilder::client_certificates`](crate::TlsBuilder::client_certificates)): the signature covers the request line,
/// but neither the other header fields nor the body. All requests come from a few addresses, so
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
