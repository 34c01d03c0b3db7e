//! The URL of a server of the Redis protocol.
//!
//! ```text
//!   redis://[user[:password]@]host[:port][/database]      rediss: with TLS
//!   unix:/path[?db=database]
//! ```

use std::{path::PathBuf, str::FromStr};

use percent_encoding::percent_decode_str;

/// The parts of a URL.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct EngineUrl {
    pub(super) place: Place,
    pub(super) tls: bool,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: u32,
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// A name or an address, without brackets, and a port.
    Tcp(String, u16),
    Unix(PathBuf),
    /// The URL names no host: a Sentinel knows it.
    Unknown,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

impl EngineUrl {
    /// Parses a URL. Returns `None` if it is invalid: what is wrong cannot be quoted, since it may be a password.
    pub(super) fn parse(url: &str, default_port: u16) -> Option<Self> {
        if let Some(rest) = url.strip_prefix("unix:") {
            let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
            // `unix:///path` is written, too.
            let path = path.strip_prefix("//").unwrap_or(path);
            let database = query.map_or(Some(0), |query| decimal(query.strip_prefix("db=")?))?;
            let place = Place::Unix(decoded(path).filter(|path| path.starts_with('/'))?.into());
            return Some(Self { place, tls: false, user: None, password: None, database });
        }
        let (rest, tls) = match url.strip_prefix("redis://") {
            Some(rest) => (rest, false),
            None => (url.strip_prefix("rediss://")?, true),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let database = if path.is_empty() { 0 } else { decimal(path)? };
        let (credentials, host) = match authority.rsplit_once('@') {
            Some((credentials, host)) => (Some(credentials), host),
            None => (None, authority),
        };
        let (user, password) = match credentials.map(|text| text.split_once(':').unwrap_or((text, ""))) {
            Some((user, password)) => (Some(decoded(user)?), Some(decoded(password)?)),
            None => (None, None),
        };
        let place = if host.is_empty() { Place::Unknown } else { tcp(host, default_port)? };
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        Some(Self { place, tls, user: given(user), password: given(password), database })
    }
}

/// Parses `host[:port]`, where an IPv6 address has brackets.
pub(super) fn tcp(authority: &str, default_port: u16) -> Option<Place> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let is_valid = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
    if host.is_empty() || !host.bytes().all(is_valid) {
        return None;
    }
    let port = port.map_or(Some(default_port), decimal)?;
    (port > 0).then(|| Place::Tcp(host.to_owned(), port))
}

fn decimal<T: FromStr>(digits: &str) -> Option<T> {
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// Decodes percent-encoding. Returns `None` if the result is not UTF-8.
fn decoded(text: &str) -> Option<String> {
    Some(percent_decode_str(text).decode_utf8().ok()?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::{EngineUrl, Place};

    fn tcp(host: &str, port: u16) -> Place {
        Place::Tcp(host.into(), port)
    }

    #[test]
    fn urls() {
        #[rustfmt::skip]
        let rows = [
            ("redis://a",                       tcp("a", 6379),             false, "",    "",     0),
            ("redis://a.example:1/",            tcp("a.example", 1),        false, "",    "",     0),
            ("rediss://u:p%40%3A@10.0.0.1:2/15", tcp("10.0.0.1", 2),        true,  "u",   "p@:",  15),
            ("redis://:p@[::1]:3/1",            tcp("::1", 3),              false, "",    "p",    1),
            ("redis://u@[fe80::1]",             tcp("fe80::1", 6379),       false, "u",   "",     0),
            ("redis://a%2Fb:c@d@h",             tcp("h", 6379),             false, "a/b", "c@d",  0),
            ("redis:///2",                      Place::Unknown,             false, "",    "",     2),
            ("redis://:p@",                     Place::Unknown,             false, "",    "p",    0),
            ("unix:/run/r.sock",                Place::Unix("/run/r.sock".into()), false, "", "", 0),
            ("unix:///run/a%20b?db=3",          Place::Unix("/run/a b".into()), false, "", "",    3),
        ];
        for (url, place, tls, user, password, database) in rows {
            let found = EngineUrl::parse(url, 6379).expect(url);
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            assert_eq!((found.place, found.tls, found.database), (place, tls, database), "{url}");
            assert_eq!((&*text(&found.user), &*text(&found.password)), (user, password), "{url}");
        }
        for url in [
            "",
            "a:1",
            "http://a",
            "redis:a",
            "redis://a:",
            "redis://a:0",
            "redis://a:65536",
            "redis://a:+1",
            "redis://a/x",
            "redis://a/1/2",
            "redis://a/4294967296",
            "redis://[::1",
            "redis://[x]:1",
            "redis://a b",
            "redis://::1",
            "redis://%ff@a",
            "unix:r.sock",
            "unix:",
            "unix:/a?db=",
            "unix:/a?x=1",
            "redis://a?db=1",
        ] {
            assert!(EngineUrl::parse(url, 6379).is_none(), "{url}");
        }
    }

    #[test]
    fn places_are_written_as_in_a_url() {
        assert_eq!(tcp("::1", 5).to_string(), "[::1]:5");
        assert_eq!(tcp("a", 5).to_string(), "a:5");
        assert_eq!(Place::Unix("/r".into()).to_string(), "/r");
    }
}
