//! Numbers for operators.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{proof::Rejection, report::NodeReport, times::NodeTimes};

/// What a node has forwarded to other nodes, and rejected on its own listener, since it started. Questions of nodes
/// about each other are not included: see [`NodeTimes`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeCounts {
    /// Requests that were forwarded.
    pub forwarded: u64,
    /// Forwarded requests that got no response of the other node.
    pub failed: u64,
    /// Bytes of the bodies of forwarded requests and of their responses. Counted at the end of each.
    pub bytes: u64,
    /// Requests of other nodes that were accepted.
    pub accepted: u64,
    /// Requests that were rejected because a node should not have sent them, by the reason: `unsigned`, `malformed`,
    /// `signature`, `clock`, `recipient`, `loop`, `not-here`.
    pub rejected: Vec<(&'static str, u64)>,
}

/// Another node, as this one knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeState {
    /// Its id.
    pub id: String,
    /// The URL of its listener for nodes.
    pub url: String,
    /// Requests that were forwarded to it.
    pub forwarded: u64,
    /// Those that got no response of it.
    pub failed: u64,
    /// The error of the last request that was forwarded to it, or of the last question. `None` if it got a response, or
    /// if there was none yet.
    pub error: Option<String>,
    /// How long it has taken to respond to questions about itself.
    pub times: NodeTimes,
    /// What it has said about itself, if it was [asked](super::Nodes::ask) and has responded.
    pub report: Option<NodeReport>,
}

#[derive(Default)]
pub(super) struct Counters {
    forwarded: AtomicU64,
    failed: AtomicU64,
    bytes: AtomicU64,
    accepted: AtomicU64,
    rejected: [AtomicU64; Rejection::ALL.len()],
}

impl Counters {
    pub(super) fn forwarded(&self) {
        self.forwarded.fetch_add(1, Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    pub(super) fn bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Relaxed);
    }

    pub(super) fn accepted(&self) {
        self.accepted.fetch_add(1, Relaxed);
    }

    pub(super) fn rejected(&self, reason: Rejection) {
        let counter = Rejection::ALL.iter().position(|one| *one == reason).and_then(|at| self.rejected.get(at));
        if let Some(counter) = counter {
            counter.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn counts(&self) -> NodeCounts {
        let rejected = Rejection::ALL.iter().zip(&self.rejected);
        NodeCounts {
            forwarded: self.forwarded.load(Relaxed),
            failed: self.failed.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            accepted: self.accepted.load(Relaxed),
            rejected: rejected.map(|(reason, n)| (reason.name(), n.load(Relaxed))).collect(),
        }
    }
}
