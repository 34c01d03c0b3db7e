//! Reads a configuration file: every key of kuiperbelt, and further keys that are new here.
//!
//! Like kuiperbelt, this reader ignores unknown keys; it adds a warning with the line. An invalid value of a known key
//! is an error.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use super::{
    closest::closest,
    duration,
    fault::{Fault, fault},
    template,
    values::{GatewayConfig, OriginPolicy, PORT, check_name, check_value, endpoint},
    yaml::{self, Node, Value},
};
use crate::relay::config::ConfigError;

/// The content of a configuration file: the gateway's configuration, and where the program listens.
///
/// Keys that are missing have the defaults of kuiperbelt ([`GatewayConfig::kuiperbelt`]). The port is open on all
/// addresses, pages of all origins may connect, and nothing has a timeout. On the open internet, set `address`,
/// `origin_policy`, `callback.timeout`, `send_timeout` and `idle_timeout`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayFile {
    /// The TCP port to listen on. Default: 9180.
    pub port: u16,
    /// The address to listen on (key `address`, which kuiperbelt does not have). `None`, the default: all addresses.
    pub address: Option<IpAddr>,
    /// The Unix socket to listen on, instead of TCP.
    pub sock: Option<PathBuf>,
    /// All other settings.
    pub config: GatewayConfig,
    /// Problems that are not errors: unknown keys, and a missing connect callback.
    pub warnings: Vec<ConfigError>,
}

impl GatewayFile {
    /// Parses the text of a file. `variable` returns the value of an environment variable, for
    /// `{{ env "NAME" "default" }}` and `{{ must_env "NAME" }}`.
    ///
    /// ```
    /// use uncork::relay::GatewayFile;
    /// let text = "port: 8080\ncallback:\n  connect: {{ env \"APP\" \"http://localhost\" }}/connect\n  tiemout: 10s\n";
    /// let file = GatewayFile::parse(text, |name| std::env::var(name).ok())?;
    /// assert_eq!(file.port, 8080);
    /// assert_eq!(file.warnings[0].to_string(), "line 4: unknown key callback.tiemout: ignored; the closest known key is callback.timeout");
    /// # Ok::<(), uncork::relay::ConfigError>(())
    /// ```
    ///
    /// # Errors
    /// Returns the first value that is invalid, with its line.
    pub fn parse(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let expanded = template::expand(text, &variable)?;
        let in_file = |fault: Fault| ConfigError::of(Some(expanded.line(fault.line)), fault.what);
        let root = yaml::parse(&expanded.text).map_err(in_file)?;
        let mut reader = Reader::new();
        reader.root(root).map_err(in_file)?;
        let Reader { port, address, sock, mut config, endpoint: named, warnings } = reader;
        config.endpoint = named.unwrap_or_else(|| endpoint(port.unwrap_or(PORT)));
        let mut warnings: Vec<_> = warnings.into_iter().map(in_file).collect();
        if config.callback.connect.is_empty() {
            let what = "callback.connect is not set: no client can connect";
            warnings.push(ConfigError::of(None, what.to_owned()));
        }
        Ok(Self { port: port.unwrap_or(PORT), address, sock, config: config.checked()?, warnings })
    }
}

struct Reader {
    port: Option<u16>,
    address: Option<IpAddr>,
    sock: Option<PathBuf>,
    endpoint: Option<String>,
    config: GatewayConfig,
    warnings: Vec<Fault>,
}

impl Reader {
    fn new() -> Self {
        let config = GatewayConfig::kuiperbelt();
        Self { port: None, address: None, sock: None, endpoint: None, config, warnings: Vec::new() }
    }

    fn root(&mut self, root: Node) -> Result<(), Fault> {
        for (key, node) in entries(root, "configuration")? {
            // A key without a value counts as missing.
            if node.value == Value::Null {
                if !KEYS.contains(&key.name.as_str()) {
                    self.unknown(key.line, &key.name);
                }
                continue;
            }
            let config = &mut self.config;
            let name = key.name.as_str();
            match name {
                "port" => self.port = Some(number(&node, name, u16::MAX.into())?),
                "address" => {
                    let line = node.line;
                    if let Some(address) = non_empty(text(node, name)?) {
                        let ip = address.parse().map_err(|_| {
                            fault(line, format!("invalid address {address:?}: expected an IP address, without a port"))
                        })?;
                        self.address = Some(ip);
                    }
                }
                "sock" => self.sock = non_empty(text(node, name)?).map(PathBuf::from),
                "endpoint" => {
                    let line = node.line;
                    let named = text(node, name)?;
                    check_value(&named).map_err(|what| fault(line, format!("endpoint: {what}")))?;
                    self.endpoint = non_empty(named);
                }
                "session_header" => {
                    let line = node.line;
                    if let Some(header) = non_empty(text(node, name)?) {
                        check_name(&header).map_err(|what| fault(line, format!("session_header: {what}")))?;
                        config.session_header = header;
                    }
                }
                "send_timeout" => config.send_timeout = duration(node, name)?,
                "send_queue_size" => config.send_queue_size = number(&node, name, 1 << 20)?,
                "strict_broadcast" => config.strict_broadcast = boolean(&node, name)?,
                "idle_timeout" => config.idle_timeout = duration(node, name)?,
                "ping_interval" => config.ping_interval = duration(node, name)?,
                "message_timeout" => config.message_timeout = duration(node, name)?,
                "drain_spread" => config.drain_spread = duration(node, name)?.unwrap_or_default(),
                "suppress_access_log" => config.suppress_access_log = boolean(&node, name)?,
                "origin_policy" => {
                    let line = node.line;
                    if let Some(policy) = non_empty(text(node, name)?) {
                        config.origin_policy = OriginPolicy::named(&policy).map_err(|what| fault(line, what))?;
                    }
                }
                "callback" => self.callback(node)?,
                "upstream" => self.upstream(node)?,
                "path" => self.path(node)?,
                "limits" => self.limits(node)?,
                "proxy_set_header" => self.proxy_set_header(node)?,
                _ => self.unknown(key.line, name),
            }
        }
        Ok(())
    }

    fn unknown(&mut self, line: usize, key: &str) {
        let hint = closest(key, KEYS).map(|known| format!("; the closest known key is {known}")).unwrap_or_default();
        self.warnings.push(fault(line, format!("unknown key {key}: ignored{hint}")));
    }

    fn callback(&mut self, node: Node) -> Result<(), Fault> {
        for (key, node) in entries(node, "callback")? {
            let (line, name) = (node.line, format!("callback.{}", key.name));
            let callback = &mut self.config.callback;
            let url = match key.name.as_str() {
                "connect" => &mut callback.connect,
                "establish" => &mut callback.establish,
                "close" => &mut callback.close,
                "receive" => &mut callback.receive,
                "timeout" => {
                    callback.timeout = duration(node, &name)?;
                    continue;
                }
                _ => {
                    self.unknown(key.line, &name);
                    continue;
                }
            };
            *url = text(node, &name)?;
            if !url.is_empty() && !looks_like_a_url(url) {
                return Err(fault(line, format!("invalid {name} {url:?}: must be a URL, http://… or https://…")));
            }
        }
        Ok(())
    }

    fn upstream(&mut self, node: Node) -> Result<(), Fault> {
        for (key, node) in entries(node, "upstream")? {
            let name = format!("upstream.{}", key.name);
            let upstream = &mut self.config.upstream;
            match key.name.as_str() {
                "url" => upstream.url = text(node, &name)?,
                "timeout" => upstream.timeout = duration(node, &name)?.unwrap_or(upstream.timeout),
                _ => self.unknown(key.line, &name),
            }
        }
        Ok(())
    }

    fn path(&mut self, node: Node) -> Result<(), Fault> {
        for (key, node) in entries(node, "path")? {
            let (line, name) = (node.line, format!("path.{}", key.name));
            let path = &mut self.config.path;
            let path = match key.name.as_str() {
                "connect" => &mut path.connect,
                "close" => &mut path.close,
                "stats" => &mut path.stats,
                "send" => &mut path.send,
                "ping" => &mut path.ping,
                "presence" => &mut path.presence,
                _ => {
                    self.unknown(key.line, &name);
                    continue;
                }
            };
            if let Some(given) = non_empty(text(node, &name)?) {
                if !given.starts_with('/') {
                    return Err(fault(line, format!("invalid {name} {given:?}: must begin with a slash")));
                }
                *path = given;
            }
        }
        Ok(())
    }

    fn limits(&mut self, node: Node) -> Result<(), Fault> {
        for (key, node) in entries(node, "limits")? {
            let name = format!("limits.{}", key.name);
            let limits = &mut self.config.limits;
            match key.name.as_str() {
                "message" => limits.message = bytes(&node, &name)?,
                "send" => limits.send = bytes(&node, &name)?,
                "queue" => limits.queue = bytes(&node, &name)?,
                "response" => limits.response = bytes(&node, &name)?,
                "pending" => limits.pending = bytes(&node, &name)?,
                "calls" => limits.calls = number(&node, &name, 1 << 20)?,
                "targets" => limits.targets = number(&node, &name, 1 << 20)?,
                "sessions" => limits.sessions = number(&node, &name, u32::MAX.into())?,
                "upstream_requests" => limits.upstream_requests = number(&node, &name, 1 << 20)?,
                "upstream_body" => limits.upstream_body = bytes(&node, &name)? as u64,
                "sessions_per_address" => limits.sessions_per_address = number(&node, &name, u32::MAX.into())?,
                _ => self.unknown(key.line, &name),
            }
        }
        Ok(())
    }

    fn proxy_set_header(&mut self, node: Node) -> Result<(), Fault> {
        for (key, node) in entries(node, "proxy_set_header")? {
            let (line, name) = (node.line, format!("proxy_set_header.{}", key.name));
            let value = if node.value == Value::Null { String::new() } else { text(node, &name)? };
            check_name(&key.name).map_err(|what| fault(key.line, format!("proxy_set_header: {what}")))?;
            check_value(&value).map_err(|what| fault(line, format!("{name}: {what}")))?;
            self.config.proxy_set_header.push((key.name, value));
        }
        Ok(())
    }
}

/// All keys, but those of `proxy_set_header`, which are names of fields.
const KEYS: &[&str] = &[
    "port",
    "address",
    "sock",
    "endpoint",
    "session_header",
    "callback",
    "callback.connect",
    "callback.establish",
    "callback.receive",
    "callback.close",
    "callback.timeout",
    "proxy_set_header",
    "send_timeout",
    "send_queue_size",
    "strict_broadcast",
    "drain_spread",
    "origin_policy",
    "idle_timeout",
    "ping_interval",
    "message_timeout",
    "suppress_access_log",
    "upstream",
    "upstream.url",
    "upstream.timeout",
    "path",
    "path.connect",
    "path.close",
    "path.stats",
    "path.send",
    "path.ping",
    "path.presence",
    "limits",
    "limits.message",
    "limits.send",
    "limits.queue",
    "limits.response",
    "limits.pending",
    "limits.calls",
    "limits.targets",
    "limits.sessions",
    "limits.sessions_per_address",
    "limits.upstream_requests",
    "limits.upstream_body",
];

/// Returns `false` for a value that is obviously not a URL. Calling it finds all other errors.
fn looks_like_a_url(url: &str) -> bool {
    let rest = url
        .split_once("://")
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"));
    rest.is_some_and(|(_, rest)| {
        !rest.is_empty() && !rest.starts_with('/') && rest.bytes().all(|b| b.is_ascii_graphic())
    })
}

/// Returns `None` for an empty text.
fn non_empty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// The entries of a mapping; nothing has none.
fn entries(node: Node, what: &str) -> Result<Vec<(yaml::Key, Node)>, Fault> {
    match node.value {
        Value::Map(entries) => Ok(entries),
        Value::Null => Ok(Vec::new()),
        other => Err(fault(node.line, format!("invalid {what}: must be a mapping (key: value), not {}", other.kind()))),
    }
}

fn text(node: Node, key: &str) -> Result<String, Fault> {
    match node.value {
        Value::Text(text) => Ok(text),
        Value::Null => Ok(String::new()),
        other => Err(fault(node.line, format!("invalid {key}: must be a single value, not {}", other.kind()))),
    }
}

/// Returns a scalar without white space around it; empty if there is no value.
fn scalar<'n>(node: &'n Node, key: &str) -> Result<&'n str, Fault> {
    match &node.value {
        Value::Text(text) => Ok(text.trim()),
        Value::Null => Ok(""),
        other => Err(fault(node.line, format!("invalid {key}: must be a single value, not {}", other.kind()))),
    }
}

fn number<T: TryFrom<u64>>(node: &Node, key: &str, limit: u64) -> Result<T, Fault> {
    let text = scalar(node, key)?;
    let number = text.parse::<u64>().ok().filter(|n| *n <= limit).and_then(|n| T::try_from(n).ok());
    number.ok_or_else(|| fault(node.line, format!("invalid {key} {text:?}: must be a number from 0 to {limit}")))
}

/// Accepts the spellings of YAML 1.1, which kuiperbelt reads.
fn boolean(node: &Node, key: &str) -> Result<bool, Fault> {
    let text = scalar(node, key)?;
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" => Ok(true),
        "false" | "no" | "off" | "n" | "" => Ok(false),
        _ => Err(fault(node.line, format!("invalid {key} {text:?}: must be true or false"))),
    }
}

/// Returns a duration; `None` if it is 0 or missing.
fn duration(node: Node, key: &str) -> Result<Option<Duration>, Fault> {
    let line = node.line;
    let text = text(node, key)?;
    if text.is_empty() {
        return Ok(None);
    }
    let duration = duration::parse(&text).map_err(|what| fault(line, format!("{key}: {what}")))?;
    Ok(Some(duration).filter(|duration| !duration.is_zero()))
}

/// Parses a size: `512`, `64k`, `1M`, `1G`, with multiples of 1024.
fn bytes(node: &Node, key: &str) -> Result<usize, Fault> {
    let text = scalar(node, key)?;
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" => Some(0),
        "k" | "K" => Some(10),
        "M" => Some(20),
        "G" => Some(30),
        _ => None,
    };
    let number = shift.zip(digits.parse::<usize>().ok()).and_then(|(shift, n)| n.checked_mul(1 << shift));
    // Beyond 1 TiB, a value can only be an error.
    let number = number.filter(|n| *n <= 1 << 40);
    number.ok_or_else(|| fault(node.line, format!("invalid {key} {text:?}: must be a number of bytes (512, 64k, 1M)")))
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
