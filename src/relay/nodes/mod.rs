//! Several nodes that serve one session relay and one rendezvous: clients may connect to any of them.
//!
//! ```text
//!   PUT /stream/<id> ──▶ node A ──┐   the id names node C
//!                                 ├──▶ NodeListener of C ─▶ Rendezvous of C: both sides meet here
//!   GET /stream/<id> ──▶ node B ──┘
//! ```
//!
//! Each id of a session or stream names the node that has created it, its *owner*. A node that gets a request for
//! another node's id forwards it there and passes the response back: head, body and trailer fields as they arrive, no
//! faster than the receiver reads. There is no directory and no database. The nodes are a fixed list, the same on all
//! of them, and they share a key.
//!
//! **What is carried over.** The client is asked for its body only when the owner asks for it. If the client
//! disconnects, half-closes or stalls, the owner notices, and if the owner aborts, so does this node: a truncated body
//! is truncated for every receiver. The client's address and scheme are part of a signed field, so the owner's limits
//! apply to the client and not to the node. Timeouts are the owner's.
//!
//! **One hop only.** A node forwards what its clients send, and never what a node has sent. A request that comes back
//! gets 508. A node's own listener ([`NodeListener`]) rejects everything that is not signed for this node, and every id
//! that is not its own.
//!
//! **When a node fails**, its sessions and streams are gone; requests for their ids get 502, at once if the connection
//! is refused. A request that waits on a machine that vanishes gets it after some minutes, by TCP keep-alive. An id
//! that no node has made gets the service's own 404, and no node is asked.
//!
//! **What differs from one node.** `X-Bytes-Delivered` counts what the system of the receiver's node has received. Some
//! megabytes of that may not have reached the receiver (the buffers of two sockets and a pipe). Limits for an address
//! apply on each node: a client can have as many sessions on each.
//!
//! The services must have the same base path on all nodes.
//!
//! ```no_run
//! use uncork::{Server, relay::{Rendezvous, RendezvousConfig, nodes::{NodeListener, Nodes, NodesConfig}}};
//!
//! let nodes = Nodes::new(NodesConfig {
//!     id: "fra1".into(),
//!     key: std::fs::read("/etc/relay/node.key")?,
//!     nodes: vec![("ber2".into(), "http://10.0.0.2:7001".into())],
//!     ..NodesConfig::default()
//! })?;
//! let rendezvous = Rendezvous::with_nodes(RendezvousConfig::default(), nodes.clone())?;
//! let listener = NodeListener::new(nodes).rendezvous(&rendezvous);
//! let internal = Server::bind("10.0.0.1:7001")?.threads(1, listener)?;
//! Server::bind("0.0.0.0:8080")?.threads(2, rendezvous)?.join()?;
//! # internal.stop_now()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | file | content |
//! |---|---|
//! | `config` | the configuration, its defaults and their reasons |
//! | `key`, `id`, `proof` | the shared key; ids and the signed field, without I/O |
//! | `handle` | the nodes, as the services hold them |
//! | `peer`, `counts` | the other nodes; numbers for operators |
//! | `forward`, `pending` | a request that is forwarded; those that have no response yet |
//! | `ask`, `report` | questions to all nodes; what a node tells about itself |
//! | `listener` | the listener for other nodes |
//! | `error` | the responses of this node itself |

mod ask;
mod config;
mod counts;
mod error;
mod forward;
mod handle;
mod id;
mod key;
mod listener;
mod peer;
mod pending;
mod proof;
mod report;

pub use self::{
    config::NodesConfig,
    counts::{NodeCounts, NodeState},
    handle::Nodes,
    listener::NodeListener,
    report::NodeReport,
};
pub(super) use self::{error::NodeError, handle::Located, pending::Pending};
