//! Which node has which key: the clients of the gateway, by a directory that all nodes share.
//!
//! ```text
//!   claim, release ──▶ Leases ──commands──▶ Engine ══▶ redis-server
//!                        ▲  every 10 s: renewed, in batches; after a reconnection: all registered again
//!   lookup ──────────────┴──────────────▶ Engine ══▶ who has these keys?
//!   a node is lost ──▶ one survivor claims it ──▶ the close callbacks of its clients
//! ```
//!
//! An entry of the directory is a hint. Only the node itself knows whether it has a session. A node reports a message for
//! a key that it does not have, and the entry is removed.
//!
//! **Without the engine**, sessions go on. Their leases are renewed, or registered again, when it is back. A lookup
//! fails, which is not the same as an unknown key.
//!
//! **A node is lost** if its own entry is missing, although the engine was connected all the time, and it does not
//! respond. One survivor claims it, and reports its clients.
//!
//! | file | content |
//! |---|---|
//! | `holder` | a key, and its holder |
//! | `names` | what is in the directory, by name; the difference between one server and a cluster |
//! | `leases` | the leases of this node, without I/O |
//! | `handle` | the directory, as the gateway and the program hold it |
//! | `renewal` | what is done periodically, and after a reconnection |
//! | `absent`, `lost` | nodes whose entries are missing, without I/O; those that are lost |
//! | `messages` | what nodes tell each other about keys |
//! | `cost` | what many leases cost, measured |
//! | `simulation` | the leases of several nodes, with faults, on a virtual clock |

mod absent;
#[cfg(test)]
mod cost;
mod handle;
mod holder;
mod leases;
mod lost;
mod messages;
mod names;
mod renewal;
#[cfg(test)]
mod simulation;

pub use handle::Directory;
pub(in crate::relay) use handle::{Claimed, KeyOwner, Unreported};
pub(in crate::relay) use holder::Holder;
pub(in crate::relay) use messages::{EPOCH, REPLACED, parse_replaced};
