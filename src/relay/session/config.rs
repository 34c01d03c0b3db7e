//! What can be set about a session relay, each with its default and the reason for it.

use std::time::Duration;

use super::super::config::{self as checks, ConfigError};

/// How a [`SessionRelay`](super::SessionRelay) behaves.
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
    /// Under which path the service lives. `/cama`: sessions are then at `/cama/session/<id>`. A slash at its end is
    /// ignored; empty means the root.
    pub base_path: String,
    /// The `Server` field of every answer; empty for none. `cama/1`, as the original.
    pub server: String,
    /// How long a session lives while nobody is connected to it, unless `?timeout=N` asks for another time. 1 hour.
    pub ttl: Duration,
    /// How long a session lives at most until a peer sends or receives on it for the first time. 1 hour, as `ttl`: a longer
    /// time that a client has asked for begins with the first use, so that unused sessions do not take the places of
    /// others for a day.
    pub first_use_timeout: Duration,
    /// The least time that can be asked for. 1 s.
    pub ttl_min: Duration,
    /// The most time that can be asked for. 1 day: a session costs memory, and its URL is a secret that ages.
    pub ttl_max: Duration,
    /// How long a session lives at most, however busy it is; then it answers 410. 7 days, so that no URL is good for
    /// ever.
    pub lifetime: Duration,
    /// How long a GET or POST waits for its partner, unless it asks for another time. 300 s.
    pub request_timeout: Duration,
    /// The most a GET or POST can ask for. 1 hour: proxies and NAT on the way forget a silent connection before.
    pub request_timeout_max: Duration,
    /// Sessions in all; one more is refused with 503. 10,000, at about 600 bytes each while no request waits on them. When all
    /// are taken, a session that no peer has ever connected to yields: the oldest of the address that has most of
    /// those, and only to an address that has fewer.
    pub sessions: usize,
    /// Sessions allocated by one address (one /64 network in IPv6); one more is refused with 429. 1,000, a tenth of
    /// all: an office behind one address fits. Once half of all sessions are taken, the share of an address shrinks
    /// ([`Limits::address_share`](uncork::Limits::address_share)), so that four addresses, or a hundred, leave some to
    /// others.
    pub sessions_per_address: usize,
    /// Sessions one address may allocate in a minute, over a long time; 0 for no limit. 600: a person clicks slower,
    /// a loop gone wild does not.
    pub allocations_per_minute: u32,
    /// Sessions one address may allocate at once, before the rate applies. 100.
    pub allocation_burst: u32,
    /// Bytes of one message; more is refused with 413. 1 TiB: a message is never held, so it costs time only. The
    /// engine's own [`Limits::body`](uncork::Limits::body) applies as well, and its default is 1 GiB.
    pub body: u64,
    /// Bytes of the pipe between sender and receiver. 256 KiB: smaller costs system calls, larger memory.
    pub pipe: usize,
    /// Origins whose pages may use the service from a browser (CORS): `https://example.org`, or `*` for all of them
    /// but without cookies, which means as guests. None by default.
    pub allow_origins: Vec<String>,
    /// What the receiver of a chunked message sees when the sender is lost half way: `true`, a message that ends in
    /// order, as the original has it; `false`, a broken connection, so that a part is never taken for the whole. A
    /// message of known length breaks the connection either way.
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
            allow_origins: Vec::new(),
            end_cleanly_if_truncated: true,
        }
    }
}

impl SessionConfig {
    /// Checked, and with the base path in its one spelling.
    pub(super) fn checked(mut self) -> Result<Self, ConfigError> {
        self.base_path = checks::base_path(&self.base_path)?;
        checks::server(&self.server)?;
        if self.ttl_min > self.ttl_max {
            return Err(ConfigError("the least time to live must not be above the most"));
        }
        let Self { ttl, ttl_min, ttl_max, first_use_timeout, lifetime, request_timeout, request_timeout_max, .. } =
            &mut self;
        checks::times([ttl, ttl_min, ttl_max, first_use_timeout, lifetime, request_timeout, request_timeout_max]);
        checks::origins(&mut self.allow_origins)?;
        Ok(self)
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
    fn what_cannot_work_is_refused_before_it_runs() {
        for bad in ["cama", "/ca;ma", "/ca ma", "/ca\r\nma"] {
            assert!(with(|c| c.base_path = bad.into()).is_err(), "{bad:?}");
        }
        assert!(with(|c| c.server = "a\r\nb: c".into()).is_err());
        assert!(with(|c| c.ttl_min = Duration::MAX).is_err());
        for bad in ["example.org", "https://example.org/", "", "https://a\r\nb"] {
            assert!(with(|c| c.allow_origins = vec![bad.into()]).is_err(), "{bad:?}");
        }
        assert!(with(|c| c.allow_origins = vec!["*".into(), "https://example.org".into()]).is_ok());
    }

    #[test]
    fn a_base_path_has_one_spelling() {
        for (given, path) in [("/cama/", "/cama"), ("/", ""), ("", ""), ("/a/b", "/a/b")] {
            assert_eq!(with(|c| c.base_path = given.into()).map(|c| c.base_path), Ok(path.to_owned()));
        }
    }
}
