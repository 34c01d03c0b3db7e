//! The configuration of a session relay: each value with its default and the reason for it.

use std::time::Duration;

#[cfg(feature = "nodes")]
use uncork::Response;

#[cfg(feature = "nodes")]
use crate::relay::nodes::NodeError;
use crate::relay::{
    config::{self as checks, ConfigError},
    service::ServiceConfig,
    wire::CorsPolicy,
};

/// The configuration of a [`SessionRelay`](super::SessionRelay).
///
/// ```
/// use std::time::Duration;
/// use uncork::relay::{SessionConfig, SessionRelay};
/// let config = SessionConfig { request_timeout: Duration::from_secs(30), ..SessionConfig::default() };
/// let relay = SessionRelay::new(config)?;
/// # Ok::<(), uncork::relay::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// Path that the service lives under. With `/cama`, sessions are at `/cama/session/<id>`. A slash at its end is
    /// ignored; empty means the root. Default: `/cama`.
    pub base_path: String,
    /// Value of the `Server` field of every response; empty for none. Default: `cama/1`, as in cama.
    pub server: String,
    /// Lifetime of a session while no request is connected to it, unless `?timeout=N` asks for another. Default: 1
    /// hour.
    pub ttl: Duration,
    /// Longest lifetime of a session until a peer sends or receives on it for the first time. Default: 1 hour, as
    /// `ttl`. A longer lifetime that a client asks for begins with the first use. So unused sessions do not fill the
    /// table for a day.
    pub first_use_timeout: Duration,
    /// Shortest lifetime that a client can ask for. Default: 1 s.
    pub ttl_min: Duration,
    /// Longest lifetime that a client can ask for. Default: 1 day, because a session costs memory and its URL is a
    /// secret that ages.
    pub ttl_max: Duration,
    /// Longest lifetime of a session, however busy it is; then requests get 410. Default: 7 days, so that no URL is
    /// valid forever.
    pub lifetime: Duration,
    /// Timeout of a GET or POST that waits for the other side, unless it asks for another. Default: 300 s.
    pub request_timeout: Duration,
    /// Longest timeout that a GET or POST can ask for. Default: 1 hour. Proxies and NAT on the path usually drop a
    /// silent connection earlier.
    pub request_timeout_max: Duration,
    /// Maximum number of sessions. One more is rejected with 503. Default: 10,000, at about 600 bytes each while no
    /// request waits on them. When the table is full, a session that no peer has ever connected to is removed: the
    /// oldest of the address that has the most. Only an address that has fewer gets its entry.
    pub sessions: usize,
    /// Maximum number of sessions of one address (one /64 network in IPv6). One more is rejected with 429. Default:
    /// 1,000, a tenth of all, which is enough for an office behind one address. Once half of all sessions are taken,
    /// the share of an address shrinks ([`Limits::address_share`](uncork::Limits::address_share)). So neither four
    /// addresses nor a hundred can take all sessions.
    pub sessions_per_address: usize,
    /// Sessions that one address may allocate per minute, on average; 0 for no limit. One more is rejected with 429.
    /// Default: 600, which is more than a person needs and stops a faulty loop.
    pub allocations_per_minute: u32,
    /// Sessions that one address may allocate at once, before the rate applies. Default: 100.
    pub allocation_burst: u32,
    /// Maximum size of a message, in bytes. A larger one is rejected with 413. Default: 1 TiB, because a message is
    /// never stored and costs only time. The engine's own [`Limits::body`](uncork::Limits::body) applies as well; its
    /// default is 1 GiB.
    pub body: u64,
    /// Size of the pipe between sender and receiver, in bytes. Default: 256 KiB. A smaller pipe costs system calls, a
    /// larger one memory.
    pub pipe: usize,
    /// Origins whose pages may use the service from a browser (CORS): `https://example.org`, or `*` for all. With `*`,
    /// pages cannot send cookies, so they are guests. Default: none.
    pub allowed_origins: Vec<String>,
    /// With `true`, the receiver of a chunked message gets a response that ends normally, even if the sender
    /// disconnects during the transfer. Default: `true`, as in cama. With `false`, the connection is aborted, so that a
    /// truncated body never looks complete. A message of known length aborts the connection in both cases.
    pub end_cleanly_if_truncated: bool,
}

impl Default for SessionConfig {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(3600);
        Self {
            base_path: "/cama".into(),
            server: "cama/1".into(),
            ttl: HOUR,
            first_use_timeout: HOUR,
            ttl_min: Duration::from_secs(1),
            ttl_max: 24 * HOUR,
            lifetime: 7 * 24 * HOUR,
            request_timeout: Duration::from_secs(300),
            request_timeout_max: HOUR,
            sessions: 10_000,
            sessions_per_address: 1_000,
            allocations_per_minute: 600,
            allocation_burst: 100,
            body: 1 << 40,
            pipe: 256 * 1024,
            allowed_origins: Vec::new(),
            end_cleanly_if_truncated: true,
        }
    }
}

impl ServiceConfig for SessionConfig {
    fn checked(mut self) -> Result<Self, ConfigError> {
        self.base_path = checks::base_path(&self.base_path)?;
        checks::server(&self.server)?;
        if self.ttl_min > self.ttl_max {
            return Err(ConfigError::new("invalid ttl_min: must not exceed ttl_max"));
        }
        let Self { ttl, ttl_min, ttl_max, first_use_timeout, lifetime, request_timeout, request_timeout_max, .. } =
            &mut self;
        checks::times([ttl, ttl_min, ttl_max, first_use_timeout, lifetime, request_timeout, request_timeout_max]);
        checks::origins(&mut self.allowed_origins)?;
        Ok(self)
    }

    fn base_path(&self) -> &str {
        &self.base_path
    }

    #[cfg(feature = "nodes")]
    fn node_error(error: NodeError) -> Response {
        let response = Response::new(error.status()).header("Content-Type", "text/plain").body(error.message());
        if error == NodeError::Stopping { response.header("Retry-After", "1") } else { response }
    }
}

impl CorsPolicy for SessionConfig {
    const REQUEST_FIELDS: &'static str = "Content-Type, X-Timeout, X-Type, X-Peer-Address";
    const EXPOSED_FIELDS: &'static str = "Location, X-Type, X-Bytes-Delivered, X-Bytes-Relayed";
    const COOKIES: bool = true;

    fn server(&self) -> &str {
        &self.server
    }

    fn allowed_origins(&self) -> &[String] {
        &self.allowed_origins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl FnOnce(&mut SessionConfig)) -> Result<SessionConfig, ConfigError> {
        let mut config = SessionConfig::default();
        change(&mut config);
        config.checked()
    }

    #[test]
    fn what_cannot_work_is_rejected_before_it_runs() {
        for bad in ["cama", "/ca;ma", "/ca ma", "/ca\r\nma"] {
            assert!(with(|c| c.base_path = bad.into()).is_err(), "{bad:?}");
        }
        assert!(with(|c| c.server = "a\r\nb: c".into()).is_err());
        assert!(with(|c| c.ttl_min = Duration::MAX).is_err());
        for bad in ["example.org", "https://example.org/", "", "https://a\r\nb"] {
            assert!(with(|c| c.allowed_origins = vec![bad.into()]).is_err(), "{bad:?}");
        }
        assert!(with(|c| c.allowed_origins = vec!["*".into(), "https://example.org".into()]).is_ok());
    }

    #[test]
    fn a_base_path_has_one_spelling() {
        for (given, path) in [("/cama/", "/cama"), ("/", ""), ("", ""), ("/a/b", "/a/b")] {
            assert_eq!(with(|c| c.base_path = given.into()).map(|c| c.base_path), Ok(path.to_owned()));
        }
    }
}
