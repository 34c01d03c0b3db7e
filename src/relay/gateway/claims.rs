//! What the life of a session means for the directory: its key is claimed before it is registered here, and released at
//! its end. Without a directory, all of this does nothing.

use std::sync::Arc;

use uncork::LoopHandle;

use super::{
    calls::Caller,
    key::Key,
    lease::{Lease, Unreported},
    session::Session,
    shared::Shared,
};

#[cfg(not(feature = "directory"))]
impl Shared {
    pub(super) fn claim(self: &Arc<Self>, _key: &Key, _on: &LoopHandle, then: impl FnOnce(Lease) + Send + 'static) {
        then(Lease::default());
    }

    pub(super) fn settled(&self, _session: &Session) {}

    pub(super) fn release(&self, _session: &Session) -> Unreported {
        Unreported
    }

    pub(super) fn if_gone(&self, _key: &Key, caller: &Caller, then: impl FnOnce(Caller) + Send + 'static) {
        then(caller.clone());
    }
}

#[cfg(feature = "directory")]
impl Shared {
    /// Claims a key for a new session, on a loop. Messages for it come to this node from now on.
    pub(super) fn claim(self: &Arc<Self>, key: &Key, on: &LoopHandle, then: impl FnOnce(Lease) + Send + 'static) {
        let Some(directory) = self.directory.clone() else { return then(Lease::default()) };
        let key = key.clone();
        // In the same turn of the loop, which knows the time.
        on.after(std::time::Duration::ZERO, move |now| {
            directory.claim(&key, now.wall, |claimed| then(Lease::new(claimed)));
        });
    }

    /// The application has agreed to a session: one with the same key on another node ends.
    pub(super) fn settled(&self, session: &Session) {
        if let (Some(directory), Some(before)) = (&self.directory, session.lease().take_before()) {
            directory.tell_replaced(session.key(), &before);
        }
    }

    /// A session has ended. If the application has not agreed to it, the one on another node goes on.
    /// What is returned is dropped when the application was told, or is not to be told.
    pub(super) fn release(&self, session: &Session) -> Unreported {
        let Some(directory) = &self.directory else { return Unreported(None) };
        let unreported = directory.unreported(session.key(), session.lease().number);
        directory.release(session.key(), session.lease().number, session.lease().take_before());
        Unreported(unreported)
    }

    /// Calls `then` unless another node has the key. Its argument has the loop for the call of the application: with a
    /// directory that is the directory's, since the loop of a client that was the last one may have ended meanwhile.
    pub(super) fn if_gone(&self, key: &Key, caller: &Caller, then: impl FnOnce(Caller) + Send + 'static) {
        let mut caller = caller.clone();
        let Some(directory) = &self.directory else { return then(caller) };
        if let Some(on) = directory.loop_handle() {
            caller.loop_handle = on;
        }
        directory.lookup(std::slice::from_ref(key), move |result| {
            // Without the engine, this node believes that the client is gone.
            if !result.is_ok_and(|holders| holders.iter().any(Option::is_some)) {
                then(caller);
            }
        });
    }
}
