//! Host names as origin servers register them: `app.example`, `*.dev.example`, `*`, each with or without a path. An
//! origin server checks its own before it connects; a proxy checks those of all.

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
    /// Case is ignored, as in DNS. An error says what was expected.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.contains("://") {
            return Err("expected a host without a scheme, as in app.example");
        }
        if text.contains([' ', ',']) {
            return Err("expected one host, without spaces and commas");
        }
        let (host, path) = match text.find('/') {
            Some(at) => (&text[..at], text[at..].trim_end_matches('/')),
            None => (text, ""),
        };
        let is_all = host == "*";
        let (host, any) = match host.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (if is_all { "" } else { host }, is_all),
        };
        if !is_all {
            check_host(host)?;
        }
        // Characters of a path in a URL, without query and fragment.
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%".contains(&b);
        if !path.bytes().all(is_allowed) {
            return Err("expected the path as in a URL, without query and fragment");
        }
        Ok(Self { host: host.to_ascii_lowercase().into(), any, path: path.into() })
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

/// Accepts a DNS name or an IPv4 address without a port, and an IPv6 address in brackets.
fn check_host(host: &str) -> Result<(), &'static str> {
    use std::net::Ipv6Addr;
    if let Some(rest) = host.strip_prefix('[') {
        return match rest.split_once(']') {
            Some((inner, "")) if inner.parse::<Ipv6Addr>().is_ok() => Ok(()),
            Some((_, port)) if port.starts_with(':') => Err("expected a host without a port"),
            _ => Err("expected an IPv6 address in the brackets, as in [2001:db8::1]"),
        };
    }
    let label = |label: &str| {
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(is_allowed)
    };
    match host {
        "" => Err("expected a host like app.example or a pattern like *.dev.example"),
        _ if host.parse::<Ipv6Addr>().is_ok() => Err("expected an IPv6 address in brackets, as in [2001:db8::1]"),
        _ if host.contains(':') => Err("expected a host without a port"),
        _ if host.contains('*') => Err("expected * only as the first part of a name, as in *.dev.example"),
        _ if !host.is_ascii() => Err("expected ASCII letters; other names have a form in ASCII that begins with xn--"),
        _ if host.len() > 253 => Err("expected at most 253 characters"),
        _ if !host.split('.').all(label) => {
            Err("expected a name of parts with dots between them, each of 1 to 63 letters, digits, - and _")
        }
        _ => Ok(()),
    }
}

/// Returns `true` if `host` is a name below `domain`: something, a dot, and `domain`.
fn is_below(host: &str, domain: &str) -> bool {
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
        Pattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn invalid_names_and_patterns_are_rejected_with_a_reason() {
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
        let long = "a".repeat(64);
        let longer = ["a".repeat(50).as_str(); 6].join(".");
        for (text, reason) in [
            ("", "a host like app.example"),
            ("/x", "a host like app.example"),
            ("*.", "a host like app.example"),
            ("http://a", "without a scheme"),
            ("a:80", "without a port"),
            ("a:80/x", "without a port"),
            ("[::1]:80", "without a port"),
            ("::1", "in brackets"),
            ("[::1", "in the brackets"),
            ("[::1]x", "in the brackets"),
            ("[x]", "in the brackets"),
            ("*a.example", "* only as the first part"),
            ("**", "* only as the first part"),
            ("a.*.example", "* only as the first part"),
            ("*.*.example", "* only as the first part"),
            ("a b", "without spaces"),
            ("a/b c", "without spaces"),
            ("a,b", "without spaces and commas"),
            ("a\u{e9}.example", "xn--"),
            (".", "parts with dots between them"),
            ("a..b", "parts with dots between them"),
            (".a", "parts with dots between them"),
            ("a.", "parts with dots between them"),
            ("a\nb", "parts with dots between them"),
            (&long, "1 to 63"),
            (&longer, "at most 253"),
            ("a/?q", "without query and fragment"),
            ("a/b#c", "without query and fragment"),
        ] {
            let error = Pattern::parse(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
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
