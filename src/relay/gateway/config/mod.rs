//! What can be set about a gateway, each with its default and the reason for it; and the file it is read from.
//!
//! ```text
//!   config.yml ──▶ template ──▶ yaml ──▶ file ──▶ GatewayFile { port, sock, config: GatewayConfig, warnings }
//!                  {{ env … }}  lines    every key                          │
//!                                                                           ▼
//!                                                                    Gateway::new
//! ```

mod duration;
mod file;
mod template;
mod yaml;

use std::{fmt, time::Duration};

use uncork::{
    Limits,
    h1::{HeaderName, HeaderValue},
};

pub use file::GatewayFile;

use crate::relay::fields::same_field;

/// How a [`Gateway`](super::Gateway) behaves.
///
/// The defaults are meant for the open internet: pages of the same origin connect, and every wait has an end. What
/// kuiperbelt has instead, and so a [configuration file](GatewayFile) that says nothing else, is
/// [`kuiperbelt`](Self::kuiperbelt).
///
/// ```
/// use uncork::relay::{Gateway, GatewayConfig};
/// let mut config = GatewayConfig::default();
/// config.callback.connect = "http://localhost:12346/connect".into();
/// let gateway = Gateway::new(config)?;
/// # Ok::<(), uncork::relay::GatewayConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayConfig {
    /// Where applications reach this gateway: the value of `X-Kuiperbelt-Endpoint` in its callbacks. The host's name and
    /// port 9180.
    pub endpoint: String,
    /// The header field that names sessions, in callbacks, their answers and requests. `X-Kuiperbelt-Session`.
    pub session_header: String,
    /// Where the application is called.
    pub callback: GatewayCallbacks,
    /// Fields that are set (or, if the value is empty, left out) in connect, establish and close callbacks. None.
    pub proxy_set_header: Vec<(String, String)>,
    /// How long `/send` and `/close` wait to put a message into a session's queue. 10 s. `None`: as long as the
    /// session and the sender live.
    pub send_timeout: Option<Duration>,
    /// Messages queued for a session beside the one that is being written. 0.
    pub send_queue_size: usize,
    /// Whether `/send` and `/close` send nothing at all if they name one session that is not there. No.
    pub strict_broadcast: bool,
    /// Which web pages may connect. Those of the same origin: [`OriginPolicy::SameOrigin`].
    pub origin_policy: OriginPolicy,
    /// How long a session may be silent. Renewed by everything the client sends, and whenever a message was written.
    /// 75 s, three times `ping_interval`, so that a living client never runs into it. `None`: for ever.
    pub idle_timeout: Option<Duration>,
    /// How often a silent client is pinged; one that does not answer for as long again is gone. 25 s: proxies and NAT
    /// on the way forget a silent connection after 30 s or more. `None`: never.
    pub ping_interval: Option<Duration>,
    /// How long a message from a client may take to arrive, from its first frame to its last. 30 s, prolonged by each byte
    /// at a rate of 240 bytes/s or more, and standing still while the application is asked; beyond it, the session is
    /// closed with 1008. See [`ws::Config::message_timeout`](uncork::ws::Config::message_timeout). `None`: for ever.
    pub message_timeout: Option<Duration>,
    /// No log line for each request of the application's. Lines are written.
    pub suppress_access_log: bool,
    /// Where the gateway is reached.
    pub path: GatewayPaths,
    /// How much at most.
    pub limits: GatewayLimits,
}

/// URLs of the application, `http://` or `https://`; empty means that it is not called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayCallbacks {
    /// Asked whether a client may connect, and under which key. Without it nobody can.
    pub connect: String,
    /// Told when a client is connected.
    pub establish: String,
    /// Told when a client is gone.
    pub close: String,
    /// Given what a client sends. If it is empty, messages of clients are dropped, which the log says once.
    pub receive: String,
    /// How long a call may take, with the whole of its answer. 10 s. The close callback has 60 s at the least, since
    /// kuiperbelt's has no limit. `None`: an hour, so that nothing stays for ever.
    pub timeout: Option<Duration>,
}

/// Paths of the gateway itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayPaths {
    /// Where clients connect. `/connect`
    pub connect: String,
    /// Where the application closes sessions. `/close`
    pub close: String,
    /// What was counted. `/stats`
    pub stats: String,
    /// Where the application sends messages. `/send`
    pub send: String,
    /// Whether anybody is there. `/ping`
    pub ping: String,
}

/// How much at most. The original has none of these limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayLimits {
    /// Bytes of one message from a client, its fragments together; beyond it, the session is closed with 1009. 1 MiB.
    pub message: usize,
    /// Bytes of the body of `/send` and `/close`, so of a message to clients; beyond it: 413. 16 MiB.
    pub send: usize,
    /// Sessions one `/send` or `/close` can name; see [`GatewayConfig::server_limits`]. 4,096.
    pub targets: usize,
    /// Bytes queued for one session beside the message that is being written; a message that finds more there waits as
    /// it does in a full queue. 4 MiB.
    pub queue: usize,
    /// Bytes of the connect callback's answer, be it a refusal or the first message; beyond it: 502. 1 MiB.
    pub answer: usize,
    /// Bytes of messages from clients that the application has not answered for yet; one address has a quarter of it at
    /// the most. Beyond it, the session is closed with 1013. 256 MiB.
    pub pending: usize,
    /// Calls of the application that run at the same time; the clients of one address have a quarter of them at the
    /// most. Others wait in a queue for each address. 4,096.
    pub calls: usize,
    /// Sessions in all; one more is refused with 503. 60,000: a few less than the server's
    /// [connections](Limits::connections), so that the application still gets through.
    pub sessions: usize,
    /// Sessions from one address (one /64 network in IPv6); one more is refused with 429. 16,000, a few less than the
    /// server's [own](Limits::connections_per_address). Once half of all places are taken, it shrinks
    /// ([`Limits::address_share`]), as the shares of `pending` and `calls` do: so a few addresses cannot take all. Unix
    /// sockets are exempt. Behind a proxy all clients come from one address.
    pub sessions_per_address: usize,
}

/// Which web pages may connect: browsers tell by `Origin` which one it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OriginPolicy {
    /// All of them. Then what is secret must not hang on a cookie alone.
    None,
    /// Those of the same host and port, as the `Host` field names it, and not by HTTP if the client came by HTTPS; and
    /// clients without `Origin`, which are not browsers. A proxy in front must pass `Host` on as it came.
    #[default]
    SameOrigin,
    /// Those of the same host, whatever the port. Who sends no `Origin` may not.
    SameHostname,
}

impl OriginPolicy {
    /// By its name in the configuration.
    fn named(name: &str) -> Result<Self, String> {
        Ok(match name {
            "none" => Self::None,
            "same_origin" => Self::SameOrigin,
            "same_hostname" => Self::SameHostname,
            _ => {
                return Err(format!(
                    "origin_policy is invalid. availables: [same_origin, same_hostname, none] got: {name}"
                ));
            }
        })
    }
}

/// Which port the gateway has if nobody says otherwise.
const PORT: u16 = 9180;

/// The time for a callback, and for a place in a session's queue.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The fields that are the client's affair, and cannot be set.
const WRITTEN_FOR_US: &[&str] =
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
            suppress_access_log: false,
            path: GatewayPaths::default(),
            limits: GatewayLimits::default(),
        }
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
            answer: 1 << 20,
            pending: 256 << 20,
            calls: 4096,
            sessions: 60_000,
            sessions_per_address: 16_000,
        }
    }
}

impl GatewayConfig {
    /// Returns what kuiperbelt has by default: pages of all origins may connect, and nothing has a time limit. A
    /// [configuration file](GatewayFile) begins with it, so that a file of kuiperbelt's means here what it means there.
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

    /// The limits of a server that serves this gateway: heads are let in that name
    /// [`targets`](GatewayLimits::targets) sessions, and bodies of [`send`](GatewayLimits::send) bytes.
    pub fn server_limits(&self, limits: Limits) -> Limits {
        // A session's key is a word of 40 bytes or so; one more line and a half for each other field.
        let line = self.session_header.len() + 4 + 40;
        Limits {
            fields: limits.fields.saturating_add(self.limits.targets),
            head: limits.head.saturating_add(self.limits.targets.saturating_mul(line)),
            body: limits.body.max(self.limits.send as u64),
            ..limits
        }
    }

    /// Checked: what goes into header fields can stand there, and no path is there twice.
    pub(super) fn checked(self) -> Result<Self, GatewayConfigError> {
        let no = |what: String| Err(GatewayConfigError { line: None, what });
        if let Err(what) = settable(&self.session_header) {
            return no(format!("session_header: {what}"));
        }
        if let Err(error) = HeaderValue::new(&self.endpoint) {
            return no(format!("endpoint: {error}"));
        }
        for (name, value) in &self.proxy_set_header {
            if let Err(what) = settable(name).and_then(|()| valuable(value)) {
                return no(format!("proxy_set_header: {what}"));
            }
        }
        for (what, path) in self.path.named() {
            if !path.starts_with('/') || !path.bytes().all(|b| b.is_ascii_graphic() && !b"?#".contains(&b)) {
                return no(format!("path.{what} must begin with a slash, and be a path as it stands in a URL: {path}"));
            }
            if self.path.named().iter().any(|(other, same)| *other != what && *same == path) {
                return no(format!("path.{what} is the path of something else, too: {path}"));
            }
        }
        Ok(self)
    }
}

impl GatewayPaths {
    fn named(&self) -> [(&'static str, &str); 5] {
        [
            ("connect", &self.connect),
            ("close", &self.close),
            ("stats", &self.stats),
            ("send", &self.send),
            ("ping", &self.ping),
        ]
    }
}

/// Whether a field of that name can be set in a callback.
fn settable(name: &str) -> Result<(), String> {
    HeaderName::new(name).map_err(|error| format!("{name:?}: {error}"))?;
    match WRITTEN_FOR_US.iter().any(|other| same_field(name, other)) {
        true => Err(format!("{name} is written for each request, and cannot be set")),
        false => Ok(()),
    }
}

fn valuable(value: &str) -> Result<(), String> {
    HeaderValue::new(value).map(drop).map_err(|error| format!("{value:?}: {error}"))
}

/// `<hostname>:<port>`, without the port if it is a well-known one.
fn endpoint(port: u16) -> String {
    let host = gethostname::gethostname();
    match (host.to_string_lossy(), port) {
        (host, ..=1023) => host.into_owned(),
        (host, port) => format!("{host}:{port}"),
    }
}

/// What is wrong with a configuration, or strange about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayConfigError {
    /// The line of the file, from 1; `None` if it came from no file, or concerns the whole of it.
    pub line: Option<usize>,
    /// What it is, for people.
    pub what: String,
}

impl fmt::Display for GatewayConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl std::error::Error for GatewayConfigError {}

/// A fault in a line of a text.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    line: usize,
    what: String,
}

fn fault(line: usize, what: impl Into<String>) -> Fault {
    Fault { line, what: what.into() }
}

impl From<Fault> for GatewayConfigError {
    fn from(Fault { line, what }: Fault) -> Self {
        Self { line: Some(line), what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl FnOnce(&mut GatewayConfig)) -> Result<GatewayConfig, GatewayConfigError> {
        let mut config = GatewayConfig::default();
        change(&mut config);
        config.checked()
    }

    #[test]
    fn what_cannot_work_is_refused_before_it_runs() {
        assert!(with(|_| {}).is_ok());
        assert!(with(|c| c.session_header = "X Session".into()).is_err());
        assert!(with(|c| c.session_header = "content-LENGTH".into()).is_err());
        assert!(with(|c| c.session_header = "Content_Length".into()).is_err());
        assert!(with(|c| c.endpoint = "a\r\nb: c".into()).is_err());
        assert!(with(|c| c.proxy_set_header = vec![("X-A".into(), "b\nc".into())]).is_err());
        assert!(with(|c| c.proxy_set_header = vec![("Host".into(), "x".into())]).is_err());
        assert!(with(|c| c.proxy_set_header = vec![("X-A".into(), String::new())]).is_ok());
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
