//! What of a URL concerns a client: scheme, host, port, target (RFC 9110 §4.2, RFC 3986 §5).
//!
//! ```text
//!   https://example.com:8443/a/b?c=d#e
//!   └─┬─┘   └────┬────┘ └┬─┘└──┬───┘└┴─ stays at home
//!   scheme     host    port  target
//! ```
//!
//! Strict: what is not by the grammar is refused, not repaired. No percent-encoding is added or taken away, userinfo is
//! refused (RFC 9110 §4.2.4).

use super::Error;
use crate::h1::{grammar, target};

/// A URL of `http` or `https`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Url {
    pub(super) https: bool,
    /// In lower case; an IPv6 address with its brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Path and query; begins with `/`.
    pub(super) target: String,
}

const fn default_port(https: bool) -> u16 {
    if https { 443 } else { 80 }
}

impl Url {
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let (scheme, rest) = text.split_once("://").ok_or(Error::Url("it has no scheme"))?;
        let https = match () {
            () if scheme.eq_ignore_ascii_case("http") => false,
            () if scheme.eq_ignore_ascii_case("https") => true,
            () => return Err(Error::Url("its scheme is neither http nor https")),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(Error::Url("it has user information in it"));
        }
        if !target::is_host(authority.as_bytes()) {
            return Err(Error::Url("its host is malformed"));
        }
        let (host, port) = target::split_port(authority).ok_or(Error::Url("its host is malformed"))?;
        let port = match port.unwrap_or_default() {
            "" => default_port(https),
            digits => digits.parse().ok().filter(|port| *port > 0).ok_or(Error::Url("its port is malformed"))?,
        };
        let target = checked(if path.starts_with('/') { path.to_owned() } else { format!("/{path}") })?;
        Ok(Self { https, host: host.to_ascii_lowercase(), port, target })
    }

    /// What stands in the Host field.
    pub(super) fn authority(&self) -> String {
        match self.port {
            port if port == default_port(self.https) => self.host.clone(),
            port => format!("{}:{port}", self.host),
        }
    }

    /// The host without the brackets of an IPv6 address.
    pub(super) fn bare_host(&self) -> &str {
        self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&self.host)
    }

    pub(super) fn same_origin(&self, other: &Self) -> bool {
        (self.https, &self.host, self.port) == (other.https, &other.host, other.port)
    }

    /// The URL a Location field leads to (RFC 9110 §10.2.2, RFC 3986 §5.2).
    pub(super) fn join(&self, reference: &str) -> Result<Self, Error> {
        let reference = reference.split('#').next().unwrap_or_default();
        // A scheme, if what stands before the first colon can be one.
        let scheme = reference.split_once(':').map(|(scheme, _)| scheme).filter(|scheme| {
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
        });
        if scheme.is_some() {
            return Self::parse(reference);
        }
        if reference.starts_with("//") {
            return Self::parse(&format!("{}:{reference}", if self.https { "https" } else { "http" }));
        }
        let (path, query) = reference.split_at(reference.find('?').unwrap_or(reference.len()));
        let base = self.target.split('?').next().unwrap_or_default();
        let target = match path {
            "" if query.is_empty() => self.target.clone(),
            "" => format!("{base}{query}"),
            path if path.starts_with('/') => format!("{}{query}", without_dots(path)),
            path => {
                let folder = &base[..=base.rfind('/').unwrap_or(0)];
                format!("{}{query}", without_dots(&format!("{folder}{path}")))
            }
        };
        Ok(Self { target: checked(target)?, ..self.clone() })
    }
}

fn checked(target: String) -> Result<String, Error> {
    match grammar::is_target(target.as_bytes()) {
        true => Ok(target),
        false => Err(Error::Url("its path or query has characters that must be percent-encoded")),
    }
}

/// RFC 3986 §5.2.4.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." if last => kept.push(""),
            ".." => {
                kept.pop();
                if last {
                    kept.push("");
                }
            }
            "." => {}
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_ones() {
        #[rustfmt::skip]
        const ROWS: &[(&str, bool, &str, u16, &str, &str)] = &[
            ("http://x",                    false, "x",            80,   "/",        "x"),
            ("HTTP://Example.COM/A?b=C#d",  false, "example.com",  80,   "/A?b=C",   "example.com"),
            ("https://x:8443/a/",           true,  "x",            8443, "/a/",      "x:8443"),
            ("https://x:443?q",             true,  "x",            443,  "/?q",      "x"),
            ("http://x:443/",               false, "x",            443,  "/",        "x:443"),
            ("http://x:/",                  false, "x",            80,   "/",        "x"),
            ("http://[::1]:8080/",          false, "[::1]",        8080, "/",        "[::1]:8080"),
            ("http://127.0.0.1/a%20b|c",    false, "127.0.0.1",    80,   "/a%20b|c", "127.0.0.1"),
            ("http://x/a@b:c//d/../e",      false, "x",            80,   "/a@b:c//d/../e", "x"),
            ("http://x#f",                  false, "x",            80,   "/",        "x"),
        ];
        for (text, https, host, port, target, authority) in ROWS {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.https, &*url.host, url.port, &*url.target), (*https, *host, *port, *target), "{text}");
            assert_eq!(url.authority(), *authority, "{text}");
        }
        assert_eq!(Url::parse("http://[::1]/").unwrap().bare_host(), "::1");
    }

    #[test]
    fn bad_ones() {
        for text in [
            "",
            "x",
            "/x",
            "x:80",
            "ftp://x/",
            "http:/x",
            "http:x",
            "http://",
            "http:///a",
            "http://?a",
            "http://:80/",
            "http://a@x/",
            "http://a:b@x/",
            "http://x:65536/",
            "http://x:0/",
            "http://x:1a/",
            "http://[::1",
            "http://[x]/",
            "http://x y/",
            "http://x/a b",
            "http://x/\r\nGET",
            "http://x/\u{e9}",
            "http://\u{e9}/",
            "http://x\r\n/",
            " http://x/",
            "http://x/\u{7f}",
            "http://x\\y/",
            "http://x/\t",
        ] {
            assert!(matches!(Url::parse(text), Err(Error::Url(_))), "{text:?}");
        }
    }

    /// RFC 3986 §5.4, as far as it concerns http; and the rest.
    #[test]
    fn references() {
        let base = Url::parse("http://a/b/c/d;p?q").unwrap();
        #[rustfmt::skip]
        const ROWS: &[(&str, &str)] = &[
            ("g", "/b/c/g"),           ("./g", "/b/c/g"),        ("g/", "/b/c/g/"),       ("/g", "/g"),
            ("?y", "/b/c/d;p?y"),      ("g?y", "/b/c/g?y"),      ("#s", "/b/c/d;p?q"),    ("g#s", "/b/c/g"),
            ("", "/b/c/d;p?q"),        (".", "/b/c/"),           ("./", "/b/c/"),         ("..", "/b/"),
            ("../g", "/b/g"),          ("../..", "/"),           ("../../g", "/g"),       ("../../../g", "/g"),
            ("/./g", "/g"),            ("/../g", "/g"),          ("g.", "/b/c/g."),       ("..g", "/b/c/..g"),
            ("./../g", "/b/g"),        ("./g/.", "/b/c/g/"),     ("g/../h", "/b/c/h"),    ("g?y/../x", "/b/c/g?y/../x"),
            ("/a:b", "/a:b"),
        ];
        for (reference, target) in ROWS {
            let url = base.join(reference).unwrap();
            assert_eq!((&*url.target, url.same_origin(&base)), (*target, true), "{reference}");
        }
        assert_eq!(base.join("//g").unwrap(), Url::parse("http://g").unwrap());
        assert_eq!(base.join("HTTPS://x:1/y").unwrap(), Url::parse("https://x:1/y").unwrap());
        // What is private stays at its origin: scheme, host and port.
        let https = Url::parse("https://a/").unwrap();
        for other in ["http://a/", "http://a:443/", "https://a:80/", "https://b/"] {
            assert!(!https.join(other).unwrap().same_origin(&https), "{other}");
        }
        for bad in ["javascript:x", "ftp://x", "//", "http://u@x/", "a b", "mailto:x@y"] {
            assert!(base.join(bad).is_err(), "{bad}");
        }
    }
}
