//! The builder of a client: every limit and timeout, its default, and the reason for it.

use std::time::Duration;

use super::{connect::Connector, handle::Client, pool::Pool, settings::Settings};
use crate::{
    h1::{HeadLimits, HeaderValue, MAX_FIELDS},
    transport::TlsClient,
};

/// Builds a [`Client`].
///
/// ```
/// use std::time::Duration;
/// use uncork::client::Client;
/// let idle = Duration::from_secs(30);
/// let client = Client::builder().max_connections(8).pool_idle_timeout(idle).max_redirects(5).build();
/// # let _ = client;
/// ```
#[derive(Clone, Debug)]
#[must_use = "call build to create the client"]
pub struct ClientBuilder(pub(super) Settings);

impl ClientBuilder {
    pub(super) fn new() -> Self {
        Self(Settings::default())
    }

    /// Limits the connections to one origin (scheme, host and port, or Unix socket), over all loops. Default: 64,
    /// never less than 1. Requests beyond it are [queued](Self::max_queued).
    pub fn max_connections(mut self, max: usize) -> Self {
        self.0.max_connections = max.max(1);
        self
    }

    /// Limits the requests that are queued for a connection to one origin. Default: 1,024. Their timeouts run while
    /// they are queued. Beyond it, a request fails with [`Error::QueueFull`](super::Error::QueueFull).
    ///
    /// With 0, a request fails at once if all [connections](Self::max_connections) are in use. That suits an
    /// intermediary, whose clients can try again.
    pub fn max_queued(mut self, max: usize) -> Self {
        self.0.max_queued = max;
        self
    }

    /// Limits the idle connections that are kept for one origin. Default: 32.
    pub fn max_idle(mut self, max: usize) -> Self {
        self.0.max_idle = max;
        self
    }

    /// Sets how long an idle connection is kept in the pool. Default: 10 s. Many servers close idle connections too
    /// (nginx after 75 s, Apache and Node.js after 5 s); a short timeout makes stale connections rare.
    ///
    /// See also [`idle_timeout`](Self::idle_timeout), which limits pauses in a body.
    pub fn pool_idle_timeout(mut self, timeout: Duration) -> Self {
        self.0.pool_idle_timeout = timeout;
        self
    }

    /// Sends one request per `interval` and origin with `Connection: close`. Default: off. A load balancer can then
    /// spread new connections over its servers.
    pub fn rotate(mut self, interval: Duration) -> Self {
        self.0.rotate = Some(interval);
        self
    }

    /// Sets the default of [`Request::connect_timeout`](super::Request::connect_timeout): 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.0.connect_timeout = timeout;
        self
    }

    /// Sets the default of [`Request::head_timeout`](super::Request::head_timeout): 30 s.
    pub fn head_timeout(mut self, timeout: Duration) -> Self {
        self.0.head_timeout = timeout;
        self
    }

    /// Sets the default of [`Request::idle_timeout`](super::Request::idle_timeout): 30 s.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.0.idle_timeout = timeout;
        self
    }

    /// Sets the default of [`Request::timeout`](super::Request::timeout): none.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.0.total_timeout = Some(timeout);
        self
    }

    /// Limits the bytes of a response's head. Default: 32 KiB; cookies make it longer than a request's head. Beyond it,
    /// the request fails with [`Error::TooLarge`](super::Error::TooLarge).
    pub fn head_limit(mut self, bytes: usize) -> Self {
        self.0.head_limits = HeadLimits { head: bytes, target: bytes, ..self.0.head_limits };
        self
    }

    /// Limits the header fields of a response. Default: 128; at most 256. Beyond it, the request fails with
    /// [`Error::TooLarge`](super::Error::TooLarge).
    pub fn fields_limit(mut self, max: usize) -> Self {
        self.0.head_limits.fields = max.min(MAX_FIELDS);
        self
    }

    /// Limits the bytes of a body that [`Client::call_blocking`] collects in memory. Default: 16 MiB. The other methods
    /// that collect a body take a limit as an argument.
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.0.body_limit = bytes;
        self
    }

    /// Sets the default of [`Request::max_redirects`](super::Request::max_redirects): 0, which returns the 3xx itself.
    pub fn max_redirects(mut self, max: u8) -> Self {
        self.0.max_redirects = max;
        self
    }

    /// Sets the User-Agent field of requests that have none. Default: no field. A value with control bytes is ignored.
    pub fn user_agent(mut self, value: &str) -> Self {
        self.0.user_agent = HeaderValue::new(value).ok();
        self
    }

    /// Sets the trusted root certificates. Default: the system's, which are read when they are first needed.
    pub fn tls(mut self, tls: TlsClient) -> Self {
        self.0.tls = Some(tls);
        self
    }

    /// Creates the client.
    pub fn build(self) -> Client {
        let connector = Connector::new(self.0.tls.clone());
        Client::with_pool(Pool::new(self.0, move |pending, permit, now| connector.open(pending, permit, now)))
    }
}

impl Client {
    /// Creates a client with the defaults that [`ClientBuilder`] documents.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Returns a builder for a client with other limits, timeouts or root certificates.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}
