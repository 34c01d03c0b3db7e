//! Host names as origin servers register them: `app.example`, `*.dev.example`, `*`, each with or without a path.

use std::fmt;

/// A host name, or a pattern of names, with a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pattern {
    /// In lower case. For a pattern, the part behind `*.`; empty for `*`.
    pub(super) host: Box<str>,
    pub(super) any: bool,
    /// Without a slash at its end; empty for the root.
    pub(super) path: Box<str>,
}

impl Pattern {
    /// Returns `None` for an invalid pattern. Case is ignored, as in DNS.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, path) = match text.find('/') {
            Some(at) => (&text[..at], text[at..].trim_end_matches('/')),
            None => (text, ""),
        };
        let (host, any) = match host.strip_prefix('*') {
            Some("") => ("", true),
            Some(rest) => (rest.strip_prefix('.').filter(|rest| !rest.is_empty())?, true),
            None => (host, false),
        };
        // Characters of a path in a URL, without query and fragment.
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%".contains(&b);
        if !(is_host(host) || (any && host.is_empty())) || !path.bytes().all(is_allowed) {
            return None;
        }
        Some(Self { host: host.to_ascii_lowercase().into(), any, path: path.into() })
    }

    /// Returns `true` for `*`, with or without a path.
    #[cfg(feature = "nodes")]
    pub(super) fn is_all(&self) -> bool {
        self.any && self.host.is_empty()
    }

    /// Returns `true` if this pattern includes everything that `other` does.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let host = if self.any {
            self.host.is_empty() || is_below(&other.host, &self.host) || (other.any && other.host == self.host)
        } else {
            !other.any && other.host == self.host
        };
        host && is_within(&other.path, &self.path)
    }
}

/// Returns `true` for a DNS name or an IPv4 address without a port, and for an IPv6 address in brackets.
fn is_host(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let label = |label: &str| {
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(is_allowed)
    };
    host.len() <= 253 && host.split('.').all(label)
}

/// Returns `true` if `host` is a name below `domain`: something, a dot, and `domain`.
pub(super) fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).and_then(|front| front.strip_suffix('.')).is_some_and(|front| !front.is_empty())
}

/// Returns `true` if a path is `prefix`, or below it by whole segments.
pub(super) fn is_within(path: &str, prefix: &str) -> bool {
    // Every request target lies below the root, "*" as well.
    path.strip_prefix(prefix).is_some_and(|rest| prefix.is_empty() || rest.is_empty() || rest.starts_with('/'))
}

/// Returns the host of an authority for comparison: without the port and the root's dot, in lower case.
pub(super) fn host_of(authority: &str) -> String {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.find(']').map_or(authority, |end| &authority[..end + 2]),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.any, self.host.is_empty()) {
            (true, true) => f.write_str("*")?,
            (true, false) => write!(f, "*.{}", self.host)?,
            (false, _) => f.write_str(&self.host)?,
        }
        f.write_str(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap_or_else(|| panic!("{text} is a pattern"))
    }

    #[test]
    fn invalid_names_and_patterns_are_rejected() {
        for (text, want) in [
            ("App.Example", "app.example"),
            ("*.Dev.example/", "*.dev.example"),
            ("*", "*"),
            ("a_b.example/api/v1/", "a_b.example/api/v1"),
            ("192.0.2.1", "192.0.2.1"),
            ("[2001:db8::1]", "[2001:db8::1]"),
        ] {
            assert_eq!(pattern(text).to_string(), want);
        }
        for text in [
            "",
            ".",
            "a..b",
            ".a",
            "a.",
            "*a.example",
            "*.",
            "**",
            "a.*.example",
            "a b",
            "a:80",
            "[::1",
            "[x]",
            "/x",
            "a/?q",
            "a/b#c",
            "a/b c",
            "a\u{e9}.example",
            "a,b",
        ] {
            assert_eq!(Pattern::parse(text), None, "{text}");
        }
        assert!(Pattern::parse(&"a".repeat(64)).is_none());
    }

    #[test]
    fn a_pattern_covers_narrower_patterns() {
        #[rustfmt::skip]
        let rows = [
            ("app.example",     "app.example",       true),
            ("app.example",     "app.example/api",   true),
            ("app.example/api", "app.example",       false),
            ("app.example/api", "app.example/api/x", true),
            ("app.example/api", "app.example/apix",  false),
            ("app.example",     "x.app.example",     false),
            ("app.example",     "*.app.example",     false),
            ("*.app.example",   "app.example",       false),
            ("*.app.example",   "x.app.example",     true),
            ("*.app.example",   "y.x.app.example",   true),
            ("*.app.example",   "xapp.example",      false),
            ("*.app.example",   "*.app.example",     true),
            ("*.app.example",   "*.x.app.example",   true),
            ("*.x.app.example", "*.app.example",     false),
            ("*.app.example",   "*",                 false),
            ("*",               "*",                 true),
            ("*",               "anything.example",  true),
        ];
        for (one, other, want) in rows {
            assert_eq!(pattern(one).covers(&pattern(other)), want, "{one} covers {other}");
        }
    }

    #[test]
    fn hosts_are_compared_without_port_dot_and_case() {
        for (authority, want) in [
            ("app.example", "app.example"),
            ("App.Example:8080", "app.example"),
            ("app.example.:80", "app.example"),
            ("[2001:DB8::1]:80", "[2001:db8::1]"),
            ("[::1]", "[::1]"),
            ("", ""),
        ] {
            assert_eq!(host_of(authority), want);
        }
    }
}
