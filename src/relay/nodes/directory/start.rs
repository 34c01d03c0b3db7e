//! The start of an engine.

use std::sync::Arc;

use uncork::LoopHandle;

use super::{
    cluster::Cluster,
    config::DirectoryConfig,
    engine::{Engine, EngineEvents, Kind, Shared, Started},
};
use crate::relay::ConfigError;

impl Engine {
    /// Checks the configuration. Connects to nothing yet.
    pub(in crate::relay) fn new(config: DirectoryConfig) -> Result<Self, ConfigError> {
        let settings = config.checked()?;
        Ok(Self(match settings.cluster.is_empty() {
            true => Kind::One(Shared::new(settings)),
            false => Kind::Cluster(Cluster::new(settings)),
        }))
    }

    /// Begins to connect on this loop, and keeps connecting until [`stop`](Self::stop) or the end of the loop. When the
    /// loop's server stops, the connection ends after it was not used for `command_timeout`: what ends with the server
    /// can be unregistered. `channels` (without the prefix) are subscribed before `connected`.
    ///
    /// A second call has no effect.
    pub(in crate::relay) fn start(&self, on: &LoopHandle, events: Arc<dyn EngineEvents>, channels: Vec<String>) {
        match &self.0 {
            Kind::One(shared) => {
                let prefix = &shared.settings.prefix;
                let channels = channels.iter().map(|name| format!("{prefix}{name}").into_bytes()).collect();
                shared.start(Started { on: on.clone(), events, channels });
            }
            Kind::Cluster(cluster) => cluster.clone().start(on, events, channels),
        }
    }
}
