//! Several nodes that serve one session relay, one rendezvous and one tunnel: clients may connect to any of them.
//!
//! ```text
//!   PUT /stream/<id> ──▶ node A ──┐   the id names node C
//!                                 ├──▶ NodeListener of C ─▶ Rendezvous of C: both sides meet here
//!   GET /stream/<id> ──▶ node B ──┘
//! ```
//!
//! Each id of a session or stream names the node that has created it, its *owner*. A node that gets a request for
//! another node's id forwards it there and passes the response back: head, body and trailer fields as they arrive, no
//! faster than the receiver reads. That needs no directory and no database. The nodes are a fixed list, the same on all
//! of them, and they share a key.
//!
//! **The tunnel.** A host has no id that could name a node. A node without an origin server for the host asks the
//! others, keeps their answers for a second, and forwards the request to one that has it. If that node cannot be
//! reached, or has just lost its origin server, the next one that has the host gets the request. Origin servers keep
//! connections to several nodes: see [`ProxyConfig::other_addresses`](super::tunnel::ProxyConfig::other_addresses) and
//! [`Proxy::with_nodes`](super::tunnel::Proxy::with_nodes).
//!
//! **The gateway** needs a directory, because the application chooses the keys of its clients: a server of the Redis
//! protocol, with which each node keeps a connection (feature `directory`). It tells which node has a client; messages go
//! from node to node. Without it, every node serves its own clients, and no client is called unknown that may be
//! connected elsewhere. See `Gateway::with_directory`.
//!
//! **What is carried over.** The client is asked for its body only when the owner asks for it. If the client
//! disconnects, half-closes or stalls, the owner notices, and if the owner aborts, so does this node: a truncated body
//! is truncated for every receiver. The client's address and scheme are part of a signed field, so the owner's limits
//! apply to the client and not to the node. Timeouts are the owner's.
//!
//! **One hop only.** A node forwards what its clients send, and never what a node has sent. A request that comes back
//! gets 508. A node's own listener ([`NodeListener`]) rejects everything that is not signed for this node, every id
//! that is not its own, and every host without an origin server there.
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
//! | `forward`, `held` | a request that is forwarded: to its owner, or to one of several nodes |
//! | `pending` | forwarded requests that have no response yet |
//! | `hosts`, `host_cache` | which nodes have an origin server for a host; the answers, without I/O |
//! | `host_engine`, `host_entries` | the hosts of all nodes at an engine; the commands, without I/O |
//! | `ask`, `report` | questions to all nodes; what a node tells about itself |
//! | `times` | how long a node takes to respond to a question |
//! | `listener` | the listener for other nodes |
//! | `directory` | the connection to a server of the Redis protocol, for what all nodes must know |
//! | `keys`, `post` | which node has which client of the gateway; messages of this node to another one |
//! | `fuzz` | what must hold for every id and signed field |
//! | `error` | the responses of this node itself |

mod ask;
mod config;
mod counts;
#[cfg(feature = "directory")]
#[cfg_attr(not(any(test, feature = "gateway")), allow(dead_code, unused_imports, reason = "not all services use all"))]
pub(crate) mod directory;
mod error;
mod forward;
#[cfg(any(test, fuzzing, feature = "__internals"))]
pub(crate) mod fuzz;
mod handle;
mod held;
#[cfg(feature = "tunnel")]
mod host_cache;
#[cfg(all(feature = "directory", feature = "tunnel"))]
mod host_engine;
#[cfg(all(feature = "directory", feature = "tunnel"))]
mod host_entries;
#[cfg(feature = "tunnel")]
mod hosts;
mod id;
mod key;
#[cfg(all(feature = "directory", feature = "gateway"))]
mod keys;
mod listener;
mod peer;
mod pending;
#[cfg(all(feature = "directory", feature = "gateway"))]
mod post;
mod proof;
mod report;
mod times;

#[cfg(feature = "directory")]
pub use self::directory::{DirectoryConfig, EngineState, EngineStatus, SentinelConfig};
#[cfg(any(feature = "tunnel", all(feature = "directory", feature = "gateway")))]
pub(super) use self::handle::Asker;
#[cfg(all(feature = "directory", feature = "gateway"))]
pub use self::keys::Directory;
#[cfg(all(feature = "directory", feature = "gateway"))]
pub(super) use self::keys::{Claimed, EPOCH, Holder, KeyOwner, REPLACED, Unreported, parse_replaced};
pub use self::{
    config::NodesConfig,
    counts::{NodeCounts, NodeState},
    handle::Nodes,
    listener::NodeListener,
    report::NodeReport,
    times::NodeTimes,
};
pub(super) use self::{error::NodeError, handle::Located, pending::Pending};
#[cfg(feature = "tunnel")]
pub(super) use self::{
    held::{FIELDS, Forwarding},
    host_cache::{Found, HostState},
    hosts::HostDirectory,
};
