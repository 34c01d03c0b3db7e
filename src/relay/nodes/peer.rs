//! Another node: its address, and whether it responds.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use super::{counts::NodeState, id::Tag, times::Times};
use crate::relay::lock::lock;

pub(super) struct Peer {
    pub(super) tag: Tag,
    pub(super) url: String,
    /// Of questions.
    pub(super) times: Times,
    forwarded: AtomicU64,
    failed: AtomicU64,
    /// The error of the last request.
    error: Mutex<Option<String>>,
}

impl Peer {
    pub(super) fn new(tag: Tag, url: String) -> Self {
        let (forwarded, failed) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { tag, url, times: Times::default(), forwarded, failed, error: Mutex::new(None) }
    }

    pub(super) fn state(&self) -> NodeState {
        NodeState {
            id: self.tag.to_string(),
            url: self.url.clone(),
            forwarded: self.forwarded.load(Relaxed),
            failed: self.failed.load(Relaxed),
            error: lock(&self.error).clone(),
            times: self.times.times(),
            report: None,
        }
    }

    pub(super) fn forwarded(&self) {
        self.forwarded.fetch_add(1, Relaxed);
    }

    /// Returns `true` if the last request got no response.
    #[cfg(feature = "tunnel")]
    pub(super) fn is_failing(&self) -> bool {
        lock(&self.error).is_some()
    }

    /// Records that the node has responded. Logs it after a failure only.
    pub(super) fn responded(&self) {
        if lock(&self.error).take().is_some() {
            log::info!(target: "uncork::relay", "node {} responds again", self.tag);
        }
    }

    pub(super) fn failed(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    /// Records why the node has not responded. The log has the first of several failures: a node that is down would
    /// fill it.
    pub(super) fn silent(&self, error: &str) {
        // It may contain text of the other side.
        let error: String = error.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
        let before = lock(&self.error).replace(error.clone());
        if before.is_none() {
            log::warn!(target: "uncork::relay", "node {} at {}: {error}", self.tag, self.url);
        }
    }
}
