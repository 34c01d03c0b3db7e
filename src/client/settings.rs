//! The limits and timeouts of a client, with their defaults.

use std::time::Duration;

use crate::{
    h1::{HeadLimits, HeaderValue},
    transport::TlsClient,
};

/// What a [`ClientBuilder`](super::ClientBuilder) sets; its methods explain the values.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) max_connections: usize,
    pub(super) max_queued: usize,
    pub(super) max_idle: usize,
    pub(super) pool_idle_timeout: Duration,
    pub(super) rotate: Option<Duration>,
    pub(super) connect_timeout: Duration,
    pub(super) head_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) total_timeout: Option<Duration>,
    pub(super) head_limits: HeadLimits,
    pub(super) body_limit: usize,
    pub(super) max_redirects: u8,
    pub(super) user_agent: Option<HeaderValue>,
    pub(super) tls: Option<TlsClient>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_connections: 64,
            max_queued: 1024,
            max_idle: 32,
            pool_idle_timeout: Duration::from_secs(10),
            rotate: None,
            connect_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(30),
            total_timeout: None,
            head_limits: HeadLimits { head: 32 * 1024, target: 32 * 1024, fields: 128 },
            body_limit: 16 * 1024 * 1024,
            max_redirects: 0,
            user_agent: None,
            tls: None,
        }
    }
}
