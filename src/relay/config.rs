//! Checks that the configurations of all services have in common, and their error.

use std::{
    borrow::Cow,
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use uncork::h1::Headers;

/// Describes why a configuration cannot work.
///
/// `Display` writes the message, and `line N: ` before it if the error concerns a line of a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    message: Cow<'static, str>,
    line: Option<usize>,
}

impl ConfigError {
    pub(super) const fn new(message: &'static str) -> Self {
        Self { message: Cow::Borrowed(message), line: None }
    }

    #[cfg(any(feature = "gateway", feature = "tunnel", feature = "nodes"))]
    pub(super) fn of(line: Option<usize>, message: String) -> Self {
        Self { message: Cow::Owned(message), line }
    }

    /// Returns the description, for users.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the line of the configuration file, from 1. `None` if the configuration does not come from a file, or if
    /// the error concerns the whole file.
    pub fn line(&self) -> Option<usize> {
        self.line
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Returns a base path in its one spelling: empty, or with a slash in front and none at the end.
pub(super) fn base_path(given: &str) -> Result<String, ConfigError> {
    let path = given.trim_end_matches('/');
    // The path may go into a cookie, where a ";" would begin an attribute.
    let is_valid = |b: u8| b.is_ascii_alphanumeric() || b"/-._~!$&'()*+,=:@%".contains(&b);
    if !(path.is_empty() || path.starts_with('/')) || !path.bytes().all(is_valid) {
        return Err(ConfigError::new(
            "invalid base path: must begin with a slash, and have only characters of a URL path",
        ));
    }
    Ok(path.to_owned())
}

/// Checks the value of the `Server` field.
pub(super) fn server(name: &str) -> Result<(), ConfigError> {
    let is_valid = Headers::new().append("Server", name).is_ok();
    is_valid.then_some(()).ok_or(ConfigError::new("invalid Server field: must be printable"))
}

/// Checks origins whose pages may use a service, and spells them as browsers do (RFC 6454 §6.2).
pub(super) fn origins(origins: &mut [String]) -> Result<(), ConfigError> {
    const INVALID: ConfigError =
        ConfigError::new("invalid origin: must be \"*\" or look like https://example.org, in ASCII and without a path");
    for given in origins.iter_mut().filter(|given| *given != "*") {
        *given = origin(given).ok_or(INVALID)?;
    }
    Ok(())
}

/// Returns an origin in its one spelling: in lower case, without the default port of its scheme. Returns `None` for one
/// that no browser sends.
fn origin(given: &str) -> Option<String> {
    let (scheme, authority) = given.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let mut letters = scheme.bytes();
    let is_scheme = letters.next().is_some_and(|b| b.is_ascii_alphabetic())
        && letters.all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(v6) => format!("[{}]", v6_as_sent(v6.parse().ok()?)),
        None => name_as_sent(host)?,
    };
    if !is_scheme {
        return None;
    }
    let default = match scheme.as_str() {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    };
    let digits = |port: &&str| port.bytes().all(|b| b.is_ascii_digit());
    let port = port.map(|port| Some(port).filter(digits)?.parse::<u16>().ok());
    match port {
        Some(None) => None,
        Some(Some(port)) if Some(port) != default => Some(format!("{scheme}://{host}:{port}")),
        _ => Some(format!("{scheme}://{host}")),
    }
}

/// Browsers write an IPv4-mapped address in hexadecimal digits.
fn v6_as_sent(ip: Ipv6Addr) -> String {
    match (ip.to_ipv4_mapped(), ip.segments()) {
        (Some(_), [.., high, low]) => format!("::ffff:{high:x}:{low:x}"),
        (None, _) => ip.to_string(),
    }
}

/// Returns a host name as browsers send it. They send a name that is not ASCII in another form (IDNA), which they also
/// display. A name whose last label is a number must be an IPv4 address, which has one spelling.
fn name_as_sent(host: &str) -> Option<String> {
    let is_label =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let mut labels = host.strip_suffix('.').unwrap_or(host).split('.');
    let last = labels.clone().next_back()?;
    let is_number = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") || last.starts_with("0X");
    match is_number {
        true => host.parse::<Ipv4Addr>().ok().map(|ip| ip.to_string()),
        false => labels.all(is_label).then(|| host.to_ascii_lowercase()),
    }
}

/// Limits durations to a century: adding one to a clock must not overflow.
pub(super) fn times<'a>(durations: impl IntoIterator<Item = &'a mut Duration>) {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    for duration in durations {
        *duration = CENTURY.min(*duration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_taken_as_browsers_write_it() {
        for (given, sent) in [
            ("https://a.example", "https://a.example"),
            ("https://a.example:443", "https://a.example"),
            ("HTTPS://A.example", "https://a.example"),
            ("http://a.example:080", "http://a.example"),
            ("http://a.example:443", "http://a.example:443"),
            ("https://[2001:DB8:0::1]:8443", "https://[2001:db8::1]:8443"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://[::ffff:1.2.3.4]", "http://[::ffff:102:304]"),
            ("http://my_pc.A.Example.", "http://my_pc.a.example."),
            ("http://0x1.example", "http://0x1.example"),
            ("moz-extension://0a1b2c3d-0000", "moz-extension://0a1b2c3d-0000"),
        ] {
            assert_eq!(origin(given).as_deref(), Some(sent), "{given}");
        }
        for wrong in [
            "a.example",
            "null",
            "",
            "://a",
            "https://",
            "https://a.example/",
            "https://a.example/path",
            "https://u@a.example",
            "https://b\u{fc}cher.example",
            "https://a.example:https",
            "https://a.example:99999",
            "https://a.example:",
            "https://[::1",
            "https://[x]",
            "https://a b",
            "https://*.example",
            "https://a..example",
            "https://.example",
            "https://.",
            "http://127.1",
            "http://127.0.0.0x1",
            "http://1.2.3.4.5",
            "http://127.0.0.1.",
        ] {
            assert_eq!(origin(wrong), None, "{wrong}");
        }
    }
}
