//! Forwarded requests that have no response yet. When the server stops, they get one, like those that wait here.

use std::{collections::HashMap, sync::Mutex};

use uncork::RequestId;

use crate::relay::lock::lock;

/// Responds to the request: the server is stopping.
type Stop = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub(in crate::relay) struct Pending(Mutex<HashMap<RequestId, Stop>>);

impl Pending {
    pub(super) fn add(&self, id: RequestId, stop: Stop) {
        lock(&self.0).insert(id, stop);
    }

    pub(super) fn remove(&self, id: RequestId) {
        // It has a ticket: not dropped under the lock.
        let removed = lock(&self.0).remove(&id);
        drop(removed);
    }

    /// Responds to all of them.
    pub(in crate::relay) fn stop(&self) {
        let all = std::mem::take(&mut *lock(&self.0));
        all.into_values().for_each(|stop| stop());
    }
}
