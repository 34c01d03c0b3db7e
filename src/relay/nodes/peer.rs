//! Another node: its address, and whether it responds.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use super::{counts::NodeState, id::Tag};
use crate::relay::lock::lock;

pub(super) struct Peer {
    pub(super) tag: Tag,
    pub(super) url: String,
    forwarded: AtomicU64,
    failed: AtomicU64,
    /// The error of the last request.
    error: Mutex<Option<String>>,
}

impl Peer {
    pub(super) fn new(tag: Tag, url: String) -> Self {
        Self { tag, url, forwarded: AtomicU64::new(0), failed: AtomicU64::new(0), error: Mutex::new(None) }
    }

    pub(super) fn state(&self) -> NodeState {
        NodeState {
            id: self.tag.to_string(),
            url: self.url.clone(),
            forwarded: self.forwarded.load(Relaxed),
            failed: self.failed.load(Relaxed),
            error: lock(&self.error).clone(),
            report: None,
        }
    }

    pub(super) fn forwarded(&self) {
        self.forwarded.fetch_add(1, Relaxed);
    }

    /// Records that the node has responded. Logs it after a failure only.
    pub(super) fn responded(&self) {
        if lock(&self.error).take().is_some() {
            log::info!(target: "uncork::relay", "node {} responds again", self.tag);
        }
    }

    /// Records that the node has not responded. The log has the first of several failures: a node that is down would
    /// fill it.
    pub(super) fn failed(&self, error: &str) {
        self.failed.fetch_add(1, Relaxed);
        // It may contain text of the other side.
        let error: String = error.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
        let before = lock(&self.error).replace(error.clone());
        if before.is_none() {
            log::warn!(target: "uncork::relay", "node {} at {}: {error}", self.tag, self.url);
        }
    }
}
