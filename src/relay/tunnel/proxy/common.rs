//! The state that every request of a proxy needs: the configuration, the name in `Via`, and the counters.

use super::{config::ProxyConfig, counters::Counters};
use crate::relay::Via;

pub(super) struct Common {
    pub(super) config: ProxyConfig,
    pub(super) via: Via,
    pub(super) counters: Counters,
    /// What origin servers are told about the nodes: the value of `Uncork-Nodes`.
    pub(super) nodes: Option<String>,
}

impl Common {
    pub(super) fn new(config: ProxyConfig) -> Self {
        Self {
            via: config.via.clone().unwrap_or_else(Via::random),
            // The configuration was checked.
            nodes: config.nodes().ok().and_then(|nodes| nodes.value()),
            config,
            counters: Counters::default(),
        }
    }
}
