//! How a client behaves: every limit, its value, and the reason for it.

use std::{sync::Arc, time::Duration};

use super::{Client, pool::Shared, settings::Settings};
use crate::{
    h1::{HeadLimits, HeaderValue, MAX_FIELDS},
    transport::TlsClient,
};

/// A client to be.
///
/// ```
/// use std::time::Duration;
/// use uncork::client::Client;
/// let client = Client::builder().max_connections(8).pool_idle_timeout(Duration::from_secs(30)).max_redirects(5).build();
/// # let _ = client;
/// ```
#[derive(Clone, Debug)]
#[must_use = "build makes a client of it"]
pub struct ClientBuilder(pub(super) Settings);

impl ClientBuilder {
    pub(super) fn new() -> Self {
        Self(Settings::default())
    }

    /// Connections to one origin (scheme, host and port, or Unix socket), over all loops. 64. Calls beyond it wait.
    pub fn max_connections(mut self, most: usize) -> Self {
        self.0.max_connections = most.max(1);
        self
    }

    /// Calls that may wait for a connection to one origin, their deadlines running. 1,024. Beyond it:
    /// [`Error::QueueFull`](super::Error::QueueFull). 0: none waits, and at the limit of
    /// [`connections`](Self::max_connections) a call fails at once. That suits an intermediary, whose clients can try again.
    pub fn max_queued(mut self, most: usize) -> Self {
        self.0.max_queued = most;
        self
    }

    /// Idle connections kept for one origin. 32.
    pub fn max_idle(mut self, most: usize) -> Self {
        self.0.max_idle = most;
        self
    }

    /// How long an idle connection is kept. 10 s: below what most servers allow (nginx 75 s, Apache and node 5 s),
    /// so that stale ones are rare.
    pub fn pool_idle_timeout(mut self, time: Duration) -> Self {
        self.0.pool_idle_timeout = time;
        self
    }

    /// One call in each `every` and origin goes with `Connection: close`, so that a load balancer in front of many
    /// servers can spread connections anew. Off.
    pub fn rotate(mut self, every: Duration) -> Self {
        self.0.rotate = Some(every);
        self
    }

    /// As [`Request::connect_timeout`](super::Request::connect_timeout), for all calls that don't say otherwise. 10 s.
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.0.connect_timeout = time;
        self
    }

    /// As [`Request::head_timeout`](super::Request::head_timeout). 30 s.
    pub fn head_timeout(mut self, time: Duration) -> Self {
        self.0.head_timeout = time;
        self
    }

    /// As [`Request::idle_timeout`](super::Request::idle_timeout). 30 s.
    pub fn idle_timeout(mut self, time: Duration) -> Self {
        self.0.idle_timeout = time;
        self
    }

    /// As [`Request::deadline`](super::Request::timeout). None.
    pub fn timeout(mut self, whole: Duration) -> Self {
        self.0.total_timeout = Some(whole);
        self
    }

    /// Bytes of an answer's head. 32 KiB; cookies make them longer than requests' heads.
    pub fn head_limit(mut self, bytes: usize) -> Self {
        self.0.head_limits = HeadLimits { head: bytes, target: bytes, ..self.0.head_limits };
        self
    }

    /// Header fields of an answer. 128; at most 256.
    pub fn fields_limit(mut self, most: usize) -> Self {
        self.0.head_limits.fields = most.min(MAX_FIELDS);
        self
    }

    /// Bytes of an answer's body that [`Client::call_blocking`] holds in memory. 16 MiB. Others say their limit where they
    /// ask for a whole body.
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.0.body_limit = bytes;
        self
    }

    /// Redirects that are followed. 0: none, the 3xx is the answer.
    pub fn max_redirects(mut self, most: u8) -> Self {
        self.0.max_redirects = most;
        self
    }

    /// What calls without a User-Agent field say. Nothing; nor if the value has control bytes in it.
    pub fn user_agent(mut self, value: &str) -> Self {
        self.0.user_agent = HeaderValue::new(value).ok();
        self
    }

    /// Whose certificates are believed. The system's, which are read when they are first needed.
    pub fn tls(mut self, tls: TlsClient) -> Self {
        self.0.tls = Some(tls);
        self
    }

    /// The client.
    pub fn build(self) -> Client {
        Client(Arc::new(Shared::new(self.0)))
    }
}
