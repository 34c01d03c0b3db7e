//! What the directory tells the gateway about its keys.

use std::sync::{Arc, Weak};

use uncork::Request;

use super::{calls::Caller, delivery::Delivery, key::Key, shared::Shared};
use crate::relay::nodes::{Directory, KeyOwner};

/// The gateway, as the owner of its keys.
pub(super) struct Owner {
    pub(super) shared: Weak<Shared>,
    pub(super) directory: Directory,
}

impl KeyOwner for Owner {
    fn replaced(&self, key: &Key, number: u64) {
        if let Some(shared) = self.shared.upgrade() {
            shared.replaced_elsewhere(key, number);
        }
    }

    fn lost(&self, key: &Key, done: Box<dyn FnOnce() + Send>) {
        let (Some(shared), Some(loop_handle)) = (self.shared.upgrade(), self.directory.loop_handle()) else { return };
        if shared.config.callback.close.is_empty() {
            return done();
        }
        let counted = shared.counters.closing();
        let done = || {
            drop(counted);
            done();
        };
        shared.call_close(key, &Caller { loop_handle, network: None }, done);
    }
}

impl Shared {
    /// The session with this lease ends: another node has its key.
    pub(super) fn replaced_elsewhere(&self, key: &[u8], number: u64) {
        if let Some(session) = self.registry.with_lease(key, number) {
            log::debug!(target: "uncork::relay", "session {}: replaced on another node", super::printable::Printable(key));
            session.replace();
        }
    }

    /// Returns the delivery of a message that another node passes on.
    pub(super) fn receive_for_node(self: &Arc<Self>, req: &mut Request<'_>) -> Arc<Delivery> {
        Delivery::of(self, None, req)
    }
}
