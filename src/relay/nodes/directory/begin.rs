//! The start of the connection to one server.

use std::{sync::Arc, time::Duration};

use super::{
    connect::attempt,
    engine::{Shared, Started},
    sentinel::watch,
};

impl Shared {
    /// A second call has no effect.
    pub(super) fn start(self: &Arc<Self>, started: Started) {
        let on = started.on.clone();
        let mut state = self.lock();
        if state.started.is_some() || state.stopped {
            return;
        }
        let started = state.started.insert(started).clone();
        let generation = state.generation;
        drop(state);
        let shared = self.clone();
        // With Sentinels, the first address that one of them gives begins the first attempt.
        match shared.settings.sentinels.is_some() {
            true => on.clone().after(Duration::ZERO, move |_| watch(shared, on)),
            false => on.after(Duration::ZERO, move |_| attempt(shared, started, generation)),
        }
    }
}
