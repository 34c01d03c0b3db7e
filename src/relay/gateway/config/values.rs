//! The configuration of a gateway: each value with its default and the reason for it.

use std::time::Duration;

use uncork::{
    Limits,
    h1::{HeaderName, HeaderValue},
};

use crate::relay::{config::ConfigError, fields::same_field};

/// The configuration of a [`Gateway`](crate::relay::Gateway).
///
/// The defaults are for the open internet: only pages of the same origin can connect, and every wait has a timeout. A
/// [configuration file](crate::relay::GatewayFile) begins with those of kuiperbelt, which
/// [`kuiperbelt`](Self::kuiperbelt) returns.
///
/// ```
/// use uncork::relay::{Gateway, GatewayConfig};
/// let mut config = GatewayConfig::default();
/// config.callback.connect = "http://localhost:12346/connect".into();
/// let gateway = Gateway::new(config)?;
/// # Ok::<(), uncork::relay::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayConfig {
    /// Authority at which applications reach this gateway: the value of `X-Kuiperbelt-Endpoint` in its callbacks.
    /// Default: the host's name and port 9180.
    pub endpoint: String,
    /// Header field that names sessions, in callbacks, their responses, and requests of the application. Default:
    /// `X-Kuiperbelt-Session`.
    pub session_header: String,
    /// URLs at which the gateway calls the application.
    pub callback: GatewayCallbacks,
    /// Fields that are set in connect, establish and close callbacks, or removed if the value is empty. Default: none.
    pub proxy_set_header: Vec<(String, String)>,
    /// Timeout of `/send` and `/close` for putting a message into a session's queue. Default: 10 s. `None`: as long as
    /// the session and the request live.
    pub send_timeout: Option<Duration>,
    /// Messages queued for a session, besides the one that is being written. Default: 0.
    pub send_queue_size: usize,
    /// With `true`, `/send` and `/close` send nothing if one of the sessions that they name does not exist. Default:
    /// `false`.
    pub strict_broadcast: bool,
    /// Web pages that may connect. Default: those of the same origin, [`OriginPolicy::SameOrigin`].
    pub origin_policy: OriginPolicy,
    /// Longest silence of a session. The timeout restarts with everything the client sends, and with every message
    /// that was written. Default: 75 s, three times `ping_interval`, so that a live client never reaches it. `None`: no
    /// limit.
    pub idle_timeout: Option<Duration>,
    /// Interval of pings to a silent client. The session of a client that does not respond for as long again is closed.
    /// Default: 25 s, because proxies and NAT on the path drop a silent connection after 30 s or more. `None`: never.
    pub ping_interval: Option<Duration>,
    /// Timeout of a message from a client, from its first frame to its last. Each byte prolongs it, at a rate of 240
    /// bytes/s or more; it does not run while the application handles a message. Beyond it, the session is closed with
    /// 1008. Default: 30 s. See [`ws::Config::message_timeout`](uncork::ws::Config::message_timeout). `None`: no limit.
    pub message_timeout: Option<Duration>,
    /// A server that stops gracefully closes its clients' connections with 1001, spread over this time: each at a random
    /// point of it. Until then the client's messages go to the application, and messages for it are sent. Default: 0, all
    /// at once. The server's grace period must be longer, so that the close callbacks run within it: connections that are
    /// left at its end have none.
    ///
    /// The stopping server takes no new connections: the application must reach `/send` by another server with a clone of
    /// the gateway, which stops later, or by another node.
    pub drain_spread: Duration,
    /// With `true`, no log line is written for requests of the application. Default: `false`.
    pub suppress_access_log: bool,
    /// The application that gets all other requests.
    pub upstream: GatewayUpstream,
    /// Paths of the gateway.
    pub path: GatewayPaths,
    /// Limits of the gateway.
    pub limits: GatewayLimits,
}

/// URLs of the application, `http://` or `https://`. One that is empty is not called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayCallbacks {
    /// Decides whether a client may connect, and with which key. Without it no client can connect.
    pub connect: String,
    /// Called when a client has connected.
    pub establish: String,
    /// Called when a client's connection has ended.
    pub close: String,
    /// Receives what a client sends. If it is empty, messages of clients are dropped, which is logged once.
    pub receive: String,
    /// Timeout of a call, including the whole response. Default: 10 s. The close callback has 60 s at least, because
    /// that of kuiperbelt has no limit. `None`: an hour, so that no call lasts forever.
    pub timeout: Option<Duration>,
}

/// The application that gets the requests which are not the gateway's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayUpstream {
    /// Its URL, `http://` or `https://`, with host and port only. Default: empty, and then these requests get 404. The
    /// certificate must be trusted by the system.
    pub url: String,
    /// Timeout of its response, from the end of the request to the head of the response, and of a pause in a body while
    /// it is waited for. Default: 60 s, as in other proxies. Beyond it: 504, or a truncated response. A connection in
    /// another protocol has none.
    pub timeout: Duration,
}

/// Paths of the gateway itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayPaths {
    /// Path at which clients connect. Default: `/connect`.
    pub connect: String,
    /// Path at which the application closes sessions. Default: `/close`.
    pub close: String,
    /// Path of the statistics. Default: `/stats`.
    pub stats: String,
    /// Path at which the application sends messages. Default: `/send`.
    pub send: String,
    /// Path of the health check. Default: `/ping`.
    pub ping: String,
    /// Path at which the application asks which clients are connected. Default: `/presence`.
    pub presence: String,
}

/// Limits of a gateway. kuiperbelt has none of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayLimits {
    /// Maximum size of one message from a client, in bytes, all fragments together. Beyond it, the session is closed
    /// with 1009. Default: 1 MiB.
    pub message: usize,
    /// Maximum size of the body of `/send` and `/close`, in bytes, and so of a message to clients. Beyond it: 413.
    /// Default: 16 MiB.
    pub send: usize,
    /// Number of sessions that one `/send`, `/close` or `/presence` can name; see [`GatewayConfig::server_limits`]. Default: 4,096.
    pub targets: usize,
    /// Bytes queued for one session, besides the message that is being written. A message that finds more there waits,
    /// as it does for a full queue. Default: 4 MiB.
    pub queue: usize,
    /// Maximum size of the connect callback's response, in bytes, whether it rejects the client or is the first
    /// message. Beyond it: 502. Default: 1 MiB.
    pub response: usize,
    /// Bytes of messages from clients that the application has not responded to. One address has a quarter of it at
    /// most. Beyond it, the session is closed with 1013. Default: 256 MiB.
    pub pending: usize,
    /// Number of calls of the application at the same time. The clients of one address have a quarter of them at most.
    /// Further calls wait in one queue per address. Default: 4,096.
    pub calls: usize,
    /// Maximum number of sessions. One more is rejected with 503. Default: 60,000, a few less than the server's
    /// [connections](Limits::connections), so that the application can still connect.
    pub sessions: usize,
    /// Maximum number of sessions from one address (one /64 network in IPv6). One more is rejected with 429. Default:
    /// 16,000, a few less than the server's [own limit](Limits::connections_per_address). Once half of all sessions are
    /// taken, it shrinks ([`Limits::address_share`]), so that a few addresses cannot take all. The shares of `pending`
    /// and `calls` shrink as well. Unix sockets are exempt. Behind a proxy all clients have one address.
    pub sessions_per_address: usize,
    /// Requests for the [upstream](GatewayUpstream) at the same time, connections in other protocols included. One
    /// address has a quarter of them at most. Beyond it: 503; beyond an address's share: 429. Default: 4,096.
    pub upstream_requests: usize,
    /// Maximum size of the body of a request for the [upstream](GatewayUpstream), in bytes. Beyond it: 413. Default:
    /// 1 TiB, since it is not held here; the server's [own limit](Limits::body) applies as well.
    pub upstream_body: u64,
}

/// Web pages that may connect. Browsers send the origin of a page in `Origin`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OriginPolicy {
    /// All pages. Then a cookie alone must not give access to a secret.
    None,
    /// Pages of the same host and port as in the `Host` field, but not pages over HTTP if the client uses HTTPS.
    /// Clients without `Origin`, which are not browsers, may connect too. A proxy in front must pass `Host` on
    /// unchanged.
    #[default]
    SameOrigin,
    /// Pages of the same host, whatever the port. Clients without `Origin` may not connect.
    SameHostname,
}

impl OriginPolicy {
    /// Returns the policy with this name in the configuration.
    pub(super) fn named(name: &str) -> Result<Self, String> {
        Ok(match name {
            "none" => Self::None,
            "same_origin" => Self::SameOrigin,
            "same_hostname" => Self::SameHostname,
            _ => {
                return Err(format!("invalid origin_policy {name:?}: must be same_origin, same_hostname or none"));
            }
        })
    }
}

/// Default port of the gateway.
pub(super) const PORT: u16 = 9180;

/// Default timeout of a callback, and of a message that waits for a session's queue.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Fields that the HTTP client writes, and that cannot be set.
const RESERVED_FIELDS: &[&str] =
    &["host", "connection", "content-length", "transfer-encoding", "upgrade", "expect", "te", "trailer"];

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            endpoint: endpoint(PORT),
            session_header: "X-Kuiperbelt-Session".into(),
            callback: GatewayCallbacks::default(),
            proxy_set_header: Vec::new(),
            send_timeout: Some(TIMEOUT),
            send_queue_size: 0,
            strict_broadcast: false,
            origin_policy: OriginPolicy::default(),
            idle_timeout: Some(Duration::from_secs(75)),
            ping_interval: Some(Duration::from_secs(25)),
            message_timeout: Some(Duration::from_secs(30)),
            drain_spread: Duration::ZERO,
            suppress_access_log: false,
            upstream: GatewayUpstream::default(),
            path: GatewayPaths::default(),
            limits: GatewayLimits::default(),
        }
    }
}

impl Default for GatewayUpstream {
    fn default() -> Self {
        Self { url: String::new(), timeout: Duration::from_secs(60) }
    }
}

impl Default for GatewayCallbacks {
    fn default() -> Self {
        let (connect, establish, close, receive) = Default::default();
        Self { connect, establish, close, receive, timeout: Some(TIMEOUT) }
    }
}

impl Default for GatewayPaths {
    fn default() -> Self {
        Self {
            connect: "/connect".into(),
            close: "/close".into(),
            stats: "/stats".into(),
            send: "/send".into(),
            ping: "/ping".into(),
            presence: "/presence".into(),
        }
    }
}

impl Default for GatewayLimits {
    fn default() -> Self {
        Self {
            message: 1 << 20,
            send: 16 << 20,
            targets: 4096,
            queue: 4 << 20,
            response: 1 << 20,
            pending: 256 << 20,
            calls: 4096,
            sessions: 60_000,
            sessions_per_address: 16_000,
            upstream_requests: 4096,
            upstream_body: 1 << 40,
        }
    }
}

impl GatewayConfig {
    /// Returns the defaults of kuiperbelt: pages of all origins may connect, and nothing has a timeout. A
    /// [configuration file](crate::relay::GatewayFile) begins with them, so that a file of kuiperbelt has the same
    /// meaning here.
    ///
    /// ```
    /// use uncork::relay::{GatewayConfig, OriginPolicy};
    /// let config = GatewayConfig::kuiperbelt();
    /// assert_eq!((config.origin_policy, config.callback.timeout), (OriginPolicy::None, None));
    /// ```
    pub fn kuiperbelt() -> Self {
        Self {
            callback: GatewayCallbacks { timeout: None, ..GatewayCallbacks::default() },
            send_timeout: None,
            origin_policy: OriginPolicy::None,
            idle_timeout: None,
            ..Self::default()
        }
    }

    /// Returns `limits` raised to what a server of this gateway needs: heads that name
    /// [`targets`](GatewayLimits::targets) sessions, and bodies of [`send`](GatewayLimits::send) bytes.
    pub fn server_limits(&self, limits: Limits) -> Limits {
        // A session's key has about 40 bytes.
        let line = self.session_header.len() + 4 + 40;
        Limits {
            fields: limits.fields.saturating_add(self.limits.targets),
            head: limits.head.saturating_add(self.limits.targets.saturating_mul(line)),
            body: limits.body.max(self.limits.send as u64),
            ..limits
        }
    }

    /// Checks that all values are valid in header fields, and that no path is used twice.
    pub(in crate::relay::gateway) fn checked(self) -> Result<Self, ConfigError> {
        let invalid = |what: String| Err(ConfigError::of(None, what));
        if let Err(what) = check_name(&self.session_header) {
            return invalid(format!("session_header: {what}"));
        }
        if let Err(error) = HeaderValue::new(&self.endpoint) {
            return invalid(format!("endpoint: {error}"));
        }
        for (name, value) in &self.proxy_set_header {
            if let Err(what) = check_name(name).and_then(|()| check_value(value)) {
                return invalid(format!("proxy_set_header: {what}"));
            }
        }
        if !self.upstream.url.is_empty() && !is_origin(&self.upstream.url) {
            let url = &self.upstream.url;
            return invalid(format!("invalid upstream.url {url:?}: expected http://HOST:PORT or https://HOST:PORT"));
        }
        for (what, path) in self.path.named() {
            if !path.starts_with('/') || !path.bytes().all(|b| b.is_ascii_graphic() && !b"?#".contains(&b)) {
                return invalid(format!(
                    "invalid path.{what} {path:?}: must begin with a slash, and have only characters of a URL path"
                ));
            }
            if self.path.named().iter().any(|(other, same)| *other != what && *same == path) {
                return invalid(format!("invalid path.{what} {path:?}: another path is the same"));
            }
        }
        Ok(self)
    }
}

impl GatewayPaths {
    pub(in crate::relay::gateway) fn named(&self) -> [(&'static str, &str); 6] {
        [
            ("connect", &self.connect),
            ("close", &self.close),
            ("stats", &self.stats),
            ("send", &self.send),
            ("ping", &self.ping),
            ("presence", &self.presence),
        ]
    }
}

/// Returns `true` for the URL of a server, without a path.
fn is_origin(url: &str) -> bool {
    let authority = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    authority.map(|rest| rest.strip_suffix('/').unwrap_or(rest)).is_some_and(|authority| {
        !authority.is_empty() && authority.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~:[]%".contains(&b))
    })
}

/// Checks that a field of that name can be set in a callback.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    HeaderName::new(name).map_err(|error| format!("{name:?}: {error}"))?;
    match RESERVED_FIELDS.iter().any(|other| same_field(name, other)) {
        true => Err(format!("invalid field {name}: it cannot be set, because each request has its own")),
        false => Ok(()),
    }
}

/// Checks the value of a field.
pub(super) fn check_value(value: &str) -> Result<(), String> {
    HeaderValue::new(value).map(drop).map_err(|error| format!("{value:?}: {error}"))
}

/// Returns `<hostname>:<port>`, or only the host name if the port is a well-known one (up to 1023).
pub(super) fn endpoint(port: u16) -> String {
    let host = gethostname::gethostname();
    match (host.to_string_lossy(), port) {
        (host, ..=1023) => host.into_owned(),
        (host, port) => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl FnOnce(&mut GatewayConfig)) -> Result<GatewayConfig, ConfigError> {
        let mut config = GatewayConfig::default();
        change(&mut config);
        config.checked()
    }

    #[test]
    fn what_cannot_work_is_rejected_before_it_runs() {
        assert!(with(|_| {}).is_ok());
        assert!(with(|c| c.session_header = "X Session".into()).is_err());
        assert!(with(|c| c.session_header = "content-LENGTH".into()).is_err());
        assert!(with(|c| c.session_header = "Content_Length".into()).is_err());
        assert!(with(|c| c.endpoint = "a\r\nb: c".into()).is_err());
        assert!(with(|c| c.proxy_set_header = vec![("X-A".into(), "b\nc".into())]).is_err());
        assert!(with(|c| c.proxy_set_header = vec![("Host".into(), "x".into())]).is_err());
        assert!(with(|c| c.proxy_set_header = vec![("X-A".into(), String::new())]).is_ok());
        for bad in ["localhost:80", "ftp://a", "http://", "http://a/b", "http://a?b", "http://u@a", "http://a b"] {
            assert!(with(|c| c.upstream.url = bad.into()).is_err(), "{bad:?}");
        }
        for good in ["http://localhost:80", "https://a.example/", "http://[::1]:80", ""] {
            assert!(with(|c| c.upstream.url = good.into()).is_ok(), "{good:?}");
        }
        for bad in ["", "send", "/a b", "/a?b", "/a#b", "/send"] {
            assert!(with(|c| c.path.ping = bad.into()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_endpoint_has_a_port_unless_everybody_knows_it() {
        let host = gethostname::gethostname();
        let host = host.to_string_lossy();
        assert_eq!((endpoint(1024), endpoint(1023)), (format!("{host}:1024"), host.to_string()));
    }

    #[test]
    fn a_server_lets_in_what_the_gateway_takes() {
        let config = GatewayConfig::default();
        let limits = config.server_limits(Limits::default());
        assert!(limits.fields >= 4096 && limits.head > 4096 * "X-Kuiperbelt-Session: 0123456789abcdef\r\n".len());
        assert!(limits.body >= 16 << 20);
    }
}
