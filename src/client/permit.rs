//! The permit to hold one connection of an origin's limit.

use std::sync::{Arc, Weak};

use super::{exchange::Key, pool::Shared};

/// One connection of an origin's limit. When dropped, it passes to the next queued request.
pub(super) struct ConnPermit(Option<(Weak<Shared>, Key)>);

impl ConnPermit {
    pub(super) fn new(shared: &Arc<Shared>, key: &Key) -> Self {
        Self(Some((Arc::downgrade(shared), key.clone())))
    }

    pub(super) fn whose(&self) -> Option<(Weak<Shared>, Key)> {
        self.0.clone()
    }

    /// Drops the permit without a release, because another one counts the same connection.
    pub(super) fn void(mut self) {
        self.0 = None;
    }
}

impl Drop for ConnPermit {
    fn drop(&mut self) {
        if let Some((shared, key)) = self.0.take()
            && let Some(shared) = shared.upgrade()
        {
            shared.free(&key);
        }
    }
}
