//! The directory: what all nodes must know, in a server of the Redis protocol. It is called the engine here.
//!
//! ```text
//!   any thread                        the engine's loop
//!   Engine::send ──▶ Queue ──wake──▶ Link: an Upgrade on a socket ◀──▶ TCP, TLS, Unix
//!        │            │ full: the oldest     │  ▲
//!        │            ▼ hint is dropped      ▼  │ bytes, time
//!        │         dropped             Connection, without I/O: handshake, commands in flight, PING
//!        │                                   │
//!        └◀── then(replies, or Unavailable) ─┴─▶ EngineEvents: connected, message, lost
//! ```
//! [`Unavailable`](reply::Unavailable) never means "no". There is no connection, a deadline has passed, the queue is
//! full, the connection was lost meanwhile, or the engine says "not now" (`LOADING`, `READONLY`, `CLUSTERDOWN`,
//! `MASTERDOWN`, `BUSY`, `TRYAGAIN`; also `MISCONF`, `NOREPLICAS` and `OOM`, with which it rejects all writes). A command
//! without a reply may have been carried out.
//!
//! **A connection** is used after its handshake: the user is authenticated, the database selected, `ROLE` says `master`,
//! `PING` has its reply, and the channels are subscribed. RESP3 has messages on the connection for commands. If the
//! server does not know `HELLO 3`, a second connection has them, and the loss of either ends both.
//!
//! **It is lost** if the engine closes it, breaks a rule of the protocol, says `READONLY` (it is a replica now), or
//! does not reply to a PING, of which there is one every 5 s, within `command_timeout`. A call that is too slow does not
//! end a connection: its replies are discarded when they arrive, since a slow engine would become slower by nodes that
//! register everything again.
//!
//! **A new one** is made after a random part of 0.1 s, then 0.2 s, 0.4 s … until one has lasted 10 s. Each attempt
//! resolves the name anew and tries all of its addresses. The longest time depends on what the attempts cost:
//!  - up to 2 s while the engine is away: no name, no connection, no reply, a replica, or "not now". That costs it
//!    nothing, and each attempt that has a timeout takes that long anyway. All must be registered again within 5 s of
//!    its return.
//!  - up to 10 s if the engine rejects the connection (the password, one client more), or if the connection is lost
//!    before everything is registered: then the engine is there, and each attempt costs it something.
//!
//! **With Sentinels** the address of the master is asked for, see `sentinel`.
//!
//! **A cluster** has such an engine for each of its masters, see `cluster`. Commands are sent to the masters that have
//! the slots of their keys, and sent on after `MOVED` and `ASK`, see `scatter`. Which masters there are is asked for
//! every 30 s, and when something has changed, see `router`. Without a connection to one of them, the state is
//! "disconnected", and only the keys in its slots are unavailable. A server that is part of a cluster, and was not
//! configured as such, is rejected in the handshake.
//!
//! **Bounds.** 100,000 commands ([`DirectoryConfig::queue`]) and 64 MiB wait at most. A reply has at most 64 MiB, and
//! arrays in 32 others; so have all replies to one pipeline together.
//!
//! | file | content |
//! |---|---|
//! | `engine` | what the rest of the relay holds; status; the state that links and callers share |
//! | `start`, `begin`, `connect` | the start; the connection for commands: attempts, use, loss |
//! | `sentinel` | the connection to a Sentinel |
//! | `cluster` | the engines of a cluster's nodes |
//! | `router` | which nodes of a cluster to connect to and to ask, and when; without I/O |
//! | `scatter` | a pipeline, divided among the nodes of a cluster |
//! | `slots` | the slot of a key, the table of slots, redirections |
//! | `link` | a connection on a socket |
//! | `route` | names and addresses, the time between attempts |
//! | `connection`, `handshake` | one connection without I/O |
//! | `queue` | pipelines that wait to be sent |
//! | `decode`, `reply`, `command` | the protocol |
//! | `config`, `url` | the configuration |
//! | `fuzz`, `fuzz_cluster` | the fuzz target `engine` |
//! | `connection_tests`, `engine_tests` | traces without I/O; tests with real servers |
//! | `cluster_tests`, `redis` | tests with a real cluster; those servers |

mod begin;
mod cluster;
#[cfg(test)]
mod cluster_tests;
mod command;
mod config;
mod connect;
mod connection;
#[cfg(test)]
mod connection_tests;
mod decode;
mod engine;
#[cfg(test)]
mod engine_tests;
#[cfg(any(test, fuzzing, feature = "__internals"))]
pub(crate) mod fuzz;
#[cfg(any(test, fuzzing, feature = "__internals"))]
mod fuzz_cluster;
mod handshake;
mod link;
mod queue;
#[cfg(test)]
mod redis;
mod reply;
mod route;
mod router;
mod scatter;
mod sentinel;
mod slots;
mod start;
mod url;

#[cfg_attr(
    not(any(test, feature = "gateway", feature = "tunnel")),
    allow(unused_imports, reason = "for services")
)]
pub(in crate::relay) use self::{
    command::{Command, decimal},
    engine::{Engine, EngineEvents},
    reply::{Reply, Unavailable},
    slots::crc16,
};
pub use self::{
    config::{DirectoryConfig, SentinelConfig},
    engine::{EngineState, EngineStatus},
};
