//! The part of a gateway that all its clones share.

use std::{
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::{Duration, Instant},
};

use uncork::{PeerAddr, ws};

use super::{
    application::Application, config::GatewayConfig, counters::Counters, limits::AddressLimits, registry::Registry,
    upstream::Upstream,
};
#[cfg(feature = "directory")]
use crate::relay::nodes::Directory;
use crate::relay::{
    lock::lock,
    repeated::{Repeated, others},
};

/// Shortest time between two log lines about rejected clients.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// The part of a gateway that all its clones share.
pub(super) struct Shared {
    pub(super) config: GatewayConfig,
    pub(super) websocket: ws::Config,
    pub(super) application: Application,
    pub(super) registry: Registry,
    pub(super) session_limits: Arc<AddressLimits>,
    /// Bytes of messages that the application has not responded to.
    pub(super) pending: Arc<AddressLimits>,
    /// It was logged that messages of clients are dropped.
    pub(super) drop_logged: AtomicBool,
    pub(super) counters: Arc<Counters>,
    pub(super) upstream: Option<Arc<Upstream>>,
    #[cfg(feature = "directory")]
    pub(super) directory: Option<Directory>,
    /// Limits the log lines about clients beyond a limit.
    rejected: Mutex<Repeated>,
}

impl Shared {
    /// Creates the state of a gateway without clients, from a configuration that was checked.
    pub(super) fn new(config: GatewayConfig) -> Self {
        let websocket = ws::Config::new()
            .message(config.limits.message as u64)
            .queue(config.limits.queue)
            .queue_messages(config.send_queue_size)
            .message_timeout(config.message_timeout)
            .ping_interval(config.ping_interval)
            .idle_timeout(config.idle_timeout)
            .drain_spread(config.drain_spread);
        if let (Some(ping), Some(idle)) = (config.ping_interval, config.idle_timeout)
            && ping >= idle
        {
            log::warn!(target: "uncork::relay", "ping_interval ({ping:?}) is not shorter than idle_timeout ({idle:?}): live \
                clients will be dropped");
        }
        let websocket = match config.ping_interval {
            Some(interval) => websocket.pong_timeout(interval),
            None => websocket,
        };
        let counters: Arc<Counters> = Arc::default();
        Self {
            websocket,
            application: Application::new(&config),
            registry: Registry::default(),
            session_limits: AddressLimits::new(&config.limits),
            pending: AddressLimits::of(config.limits.pending, config.limits.pending.div_ceil(4)),
            drop_logged: AtomicBool::new(false),
            upstream: Upstream::new(&config, &counters),
            counters,
            #[cfg(feature = "directory")]
            directory: None,
            rejected: Mutex::new(Repeated::new(LOG_EVERY)),
            config,
        }
    }

    /// Returns `true` if other nodes may have keys that this one does not have.
    pub(super) fn has_directory(&self) -> bool {
        #[cfg(feature = "directory")]
        return self.directory.is_some();
        #[cfg(not(feature = "directory"))]
        return false;
    }

    /// Logs that a client was rejected, but not each time.
    pub(super) fn log_rejected(&self, peer: &PeerAddr, limit: &str, now: Instant) {
        if let Some(count) = lock(&self.rejected).happened(now) {
            let others = others(count);
            log::warn!(target: "uncork::relay", "client {peer} rejected: {limit}{others}");
        }
    }
}
