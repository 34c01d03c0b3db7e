//! The start of an engine.

use std::{sync::Arc, time::Duration};

use uncork::LoopHandle;

use super::{
    connect::attempt,
    engine::{Engine, EngineEvents, Started},
    sentinel::watch,
};

impl Engine {
    /// Begins to connect on this loop, and keeps connecting until [`stop`](Self::stop) or the end of the loop. When the
    /// loop's server stops, the connection ends after it was not used for `command_timeout`: what ends with the server
    /// can be unregistered. `channels` (without the prefix) are subscribed before `connected`.
    ///
    /// A second call has no effect.
    pub(in crate::relay) fn start(&self, on: &LoopHandle, events: Arc<dyn EngineEvents>, channels: Vec<String>) {
        let prefix = &self.0.settings.prefix;
        let channels = channels.iter().map(|name| format!("{prefix}{name}").into_bytes()).collect();
        let mut state = self.0.lock();
        if state.started.is_some() || state.stopped {
            return;
        }
        let started = state.started.insert(Started { on: on.clone(), events, channels }).clone();
        let generation = state.generation;
        drop(state);
        let (shared, on) = (self.0.clone(), on.clone());
        // With Sentinels, the first address that one of them gives begins the first attempt.
        match shared.settings.sentinels.is_some() {
            true => on.clone().after(Duration::ZERO, move |_| watch(shared, on)),
            false => on.after(Duration::ZERO, move |_| attempt(shared, started, generation)),
        }
    }
}
