//! The lease of a session's key, if the gateway has a directory, and its end. Without one, a session has nothing of it.

#[cfg(feature = "directory")]
use std::sync::Mutex;

#[cfg(feature = "directory")]
use crate::relay::{
    lock::lock,
    nodes::{Claimed, Holder},
};

/// The lease of a session's key. Empty without the feature `directory`.
#[derive(Default)]
pub(super) struct Lease {
    /// 0 without a directory.
    #[cfg(feature = "directory")]
    pub(super) number: u64,
    /// The node that had the key before, until the application agrees to this session.
    #[cfg(feature = "directory")]
    before: Mutex<Option<Holder>>,
}

/// The end of a session that the application was not told of: if this node is lost meanwhile, another one tells it.
#[cfg(feature = "directory")]
pub(super) struct Unreported(
    #[expect(dead_code, reason = "dropped")] pub(super) Option<crate::relay::nodes::Unreported>,
);

/// Nothing: there is no other node.
#[cfg(not(feature = "directory"))]
pub(super) struct Unreported;

#[cfg(feature = "directory")]
impl Lease {
    pub(super) fn new(claimed: Claimed) -> Self {
        Self { number: claimed.number, before: Mutex::new(claimed.before) }
    }

    pub(super) fn take_before(&self) -> Option<Holder> {
        lock(&self.before).take()
    }
}
