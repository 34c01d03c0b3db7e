//! The state that every request of a proxy needs: the configuration, the name in `Via`, and the counters.

use super::{config::ProxyConfig, counters::Counters};
use crate::relay::Via;

pub(super) struct Common {
    pub(super) config: ProxyConfig,
    pub(super) via: Via,
    pub(super) counters: Counters,
}

impl Common {
    pub(super) fn new(config: ProxyConfig) -> Self {
        Self { via: config.via.clone().unwrap_or_else(Via::random), config, counters: Counters::default() }
    }
}
