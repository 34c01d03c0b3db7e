//! The nodes, as the services hold them.

use std::{fmt, sync::Arc, time::Duration};

use uncork::{Moment, PeerAddr, Request, client::Client};

use super::{
    config::NodesConfig,
    counts::{Counters, NodeCounts, NodeState},
    id::{Ids, Parsed, Tag},
    key::Key,
    peer::Peer,
    proof::{FIELD, Proof, Rejection},
};
use crate::relay::ConfigError;

/// The longest pause of a forwarded request or response. The owner has the timeouts; a connection to a node that has
/// vanished is found by TCP keep-alive, in minutes.
pub(super) const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// The nodes that serve the same sessions and streams: this one, and the others.
///
/// Pass it to [`SessionRelay::with_nodes`](crate::relay::SessionRelay::with_nodes),
/// [`Rendezvous::with_nodes`](crate::relay::Rendezvous::with_nodes) and
/// [`NodeListener::new`](super::NodeListener::new). All clones are the same.
#[derive(Clone)]
pub struct Nodes(pub(super) Arc<Inner>);

pub(super) struct Inner {
    own: Tag,
    key: Key,
    ids: Ids,
    pub(super) others: Vec<Peer>,
    pub(super) client: Client,
    pub(super) counters: Counters,
}

/// For whom another node is asked, and when: the proof has it.
#[derive(Clone, Copy)]
pub(in crate::relay) struct Asker {
    /// The client.
    pub(super) peer: PeerAddr,
    pub(super) https: bool,
    pub(super) asked: Moment,
}

impl Asker {
    /// Returns the client of a request, and the time of the request.
    pub(in crate::relay) fn of(req: &Request<'_>) -> Self {
        Self { peer: *req.peer(), https: req.scheme() == "https", asked: req.now() }
    }

    /// Returns this node itself.
    pub(in crate::relay) fn own(now: Moment) -> Self {
        Self { peer: PeerAddr::Unix, https: false, asked: now }
    }
}

/// Where the session or stream of an id is.
pub(in crate::relay) enum Located {
    /// Here, with the random part of the id.
    Here(u128),
    /// On the node with this number, or on one that is not in the list.
    Elsewhere(Option<usize>),
    /// Nowhere: no node has made the id.
    Unknown,
}

impl Nodes {
    /// Checks the configuration. Connects to no node: they may start in any order.
    ///
    /// # Errors
    /// Returns an error if the configuration is invalid.
    pub fn new(config: NodesConfig) -> Result<Self, ConfigError> {
        let checked = config.checked()?;
        let mut client = Client::builder()
            .connect_timeout(config.connect_timeout)
            .max_connections(config.connections)
            .max_queued(0)
            .head_timeout(LONGEST)
            .idle_timeout(LONGEST);
        if let Some(tls) = config.tls {
            client = client.tls(tls);
        }
        Ok(Self(Arc::new(Inner {
            own: checked.own,
            ids: Ids::new(checked.own, checked.key.clone()),
            key: checked.key,
            others: checked.others.into_iter().map(|(tag, url)| Peer::new(tag, url)).collect(),
            client: client.build(),
            counters: Counters::default(),
        })))
    }

    /// Returns the id of this node.
    pub fn id(&self) -> String {
        self.0.own.to_string()
    }

    /// Returns what this node has forwarded and rejected so far.
    pub fn counts(&self) -> NodeCounts {
        self.0.counters.counts()
    }

    /// Returns the other nodes, in the order of the configuration. Asks none of them: see [`ask`](Self::ask).
    pub fn others(&self) -> Vec<NodeState> {
        self.0.others.iter().map(Peer::state).collect()
    }

    /// Closes the idle connections to other nodes. New ones are made when they are needed, with the current
    /// configuration of [`NodesConfig::tls`]: call this after [`TlsClient::replace`](crate::TlsClient::replace).
    /// Requests in progress keep their connections.
    pub fn close_idle(&self) {
        self.0.client.close_idle();
    }

    #[cfg(all(feature = "directory", feature = "gateway"))]
    pub(super) fn tag(&self) -> Tag {
        self.0.own
    }

    #[cfg(all(feature = "directory", feature = "gateway"))]
    pub(super) fn key(&self) -> &Key {
        &self.0.key
    }

    /// Returns the id of this node with this random part.
    pub(in crate::relay) fn text(&self, random: u128) -> String {
        self.0.ids.text(random)
    }

    /// Returns where the session or stream of an id is.
    pub(in crate::relay) fn locate(&self, id: &str) -> Located {
        match self.0.ids.parse(id) {
            Parsed::Ours(random) => Located::Here(random),
            Parsed::Foreign(tag) => Located::Elsewhere(self.0.others.iter().position(|peer| peer.tag == tag)),
            Parsed::Invalid => Located::Unknown,
        }
    }

    /// Checks that another node has sent this request, and that its client's request may be handled here. Sets the
    /// address and the scheme of that client.
    pub(super) fn admit(&self, req: &mut Request<'_>) -> Result<(), Rejection> {
        let value = req.header(FIELD).ok_or(Rejection::Unsigned)?;
        let (method, target) = (req.method(), req.target());
        let proof = Proof::check(value, &self.0.key, self.0.own, method, target, req.now().wall)?;
        req.set_peer(proof.peer);
        req.set_https(proof.https);
        Ok(())
    }

    /// Returns the proof for a request to another node, as the field's value.
    pub(super) fn proof(&self, to: Tag, method: &str, target: &str, asker: &Asker) -> String {
        let Asker { peer, https, asked } = *asker;
        Proof { from: self.0.own, to, peer, https }.value(&self.0.key, method, target, asked.wall)
    }
}

/// Without the key.
impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nodes").field("id", &self.id()).field("others", &self.0.others.len()).finish_non_exhaustive()
    }
}
