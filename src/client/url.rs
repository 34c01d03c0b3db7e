//! The parts of a URL that a client needs: scheme, host, port, target (RFC 9110 §4.2, RFC 3986 §5).
//!
//! ```text
//!   https://example.com:8443/a/b?c=d#e
//!   └─┬─┘   └────┬────┘ └┬─┘└──┬───┘└┴─ not sent
//!   scheme     host    port  target
//! ```
//!
//! The crate `url` is not used: it repairs invalid URLs, and brings in IDNA.
//!
//! Strict: a URL that violates the grammar is rejected, not repaired. Percent-encoding is neither added nor removed,
//! and userinfo is rejected (RFC 9110 §4.2.4). There are two exceptions:
//!
//!  - A `Location` with spaces or bytes beyond ASCII in its path or query is percent-encoded, as every other client
//!    does: servers send file names unencoded. A URL of the caller is not, since only the caller knows its meaning.
//!    Control bytes are rejected in both.
//!  - The zone of an IPv6 address (RFC 4007 §11), as in `http://[fe80::1%eth0]/`: the form of RFC 9844. The
//!    obsolete form of RFC 6874 (`%25eth0`) is accepted as well. A zone is a name or number of this machine. It selects
//!    the interface and is never sent. A `Location` cannot contain one.

use std::borrow::Cow;

use crate::h1::{grammar, target};

/// A URL of `http` or `https`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Url {
    pub(super) https: bool,
    /// In lower case; an IPv6 address with its brackets.
    pub(super) host: String,
    /// The interface through which an IPv6 address is reached, by its name or number on this machine.
    pub(super) zone: Option<String>,
    pub(super) port: u16,
    /// Path and query; begins with `/`.
    pub(super) target: String,
}

const fn default_port(https: bool) -> u16 {
    if https { 443 } else { 80 }
}

impl Url {
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.split_once("://").ok_or("expected http:// or https://")?;
        let https = match () {
            () if scheme.eq_ignore_ascii_case("http") => false,
            () if scheme.eq_ignore_ascii_case("https") => true,
            () => return Err("unknown scheme: expected http or https"),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("user information is not allowed");
        }
        let (authority, zone) = without_zone(authority)?;
        if !target::is_authority(authority.as_bytes()) {
            return Err("invalid host");
        }
        let (host, port) = target::split_port(&authority).ok_or("invalid host")?;
        let port = match port.unwrap_or_default() {
            "" => default_port(https),
            digits => digits.parse().ok().filter(|port| *port > 0).ok_or("invalid port")?,
        };
        let target = checked(if path.starts_with('/') { path.to_owned() } else { format!("/{path}") })?;
        Ok(Self { https, host: host.to_ascii_lowercase(), zone, port, target })
    }

    /// Returns the value of the Host field, without a zone.
    pub(super) fn authority(&self) -> String {
        match self.port {
            port if port == default_port(self.https) => self.host.clone(),
            port => format!("{}:{port}", self.host),
        }
    }

    /// Returns the host without the brackets of an IPv6 address.
    pub(super) fn bare_host(&self) -> &str {
        self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&self.host)
    }

    pub(super) fn same_origin(&self, other: &Self) -> bool {
        let (ours, theirs) = ((&self.host, &self.zone), (&other.host, &other.zone));
        (self.https, ours, self.port) == (other.https, theirs, other.port)
    }

    /// Returns the URL of a Location field (RFC 9110 §10.2.2, RFC 3986 §5.2).
    pub(super) fn join(&self, reference: &[u8]) -> Result<Self, &'static str> {
        let reference = encoded(reference)?;
        let reference = reference.split('#').next().unwrap_or_default();
        // The text before the first colon, if it can be a scheme.
        let scheme = reference.split_once(':').map(|(scheme, _)| scheme).filter(|scheme| {
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
        });
        if scheme.is_some() {
            return self.join_absolute(reference);
        }
        if reference.starts_with("//") {
            return self.join_absolute(&format!("{}:{reference}", if self.https { "https" } else { "http" }));
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

    /// Parses the absolute URL of a Location field. A server does not know zones: the same address keeps its zone.
    fn join_absolute(&self, url: &str) -> Result<Self, &'static str> {
        let authority = url.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?']).next().unwrap_or_default());
        // Either `encoded` has added it, so the host was invalid, or it begins a zone.
        if authority.contains('%') {
            return Err("invalid host");
        }
        let url = Self::parse(url)?;
        let zone = if url.host == self.host { self.zone.clone() } else { None };
        Ok(Self { zone, ..url })
    }
}

/// Splits the zone of an IPv6 address off an authority.
fn without_zone(authority: &str) -> Result<(Cow<'_, str>, Option<String>), &'static str> {
    let zoned = authority.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let Some(((address, zone), port)) = zoned.and_then(|(inner, port)| Some((inner.split_once('%')?, port))) else {
        return Ok((authority.into(), None));
    };
    let zone = zone.strip_prefix("25").filter(|zone| !zone.is_empty()).unwrap_or(zone);
    // RFC 6874 §2: unreserved characters, as in the names of all interfaces.
    if zone.is_empty() || !zone.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~')) {
        return Err("invalid zone");
    }
    Ok((format!("[{address}]{port}").into(), Some(zone.to_owned())))
}

/// Returns a reference with spaces and bytes beyond ASCII percent-encoded.
fn encoded(reference: &[u8]) -> Result<String, &'static str> {
    let mut text = String::with_capacity(reference.len());
    for &b in reference {
        match b {
            b'!'..=b'~' => text.push(char::from(b)),
            b' ' | 0x80.. => text += &format!("%{b:02X}"),
            _ => return Err("it has a control byte"),
        }
    }
    Ok(text)
}

fn checked(target: String) -> Result<String, &'static str> {
    match grammar::is_target(target.as_bytes()) {
        true => Ok(target),
        false => Err("its path or query has a character that must be percent-encoded"),
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
    fn valid_urls() {
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
    fn invalid_urls() {
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
            "http://[fe80::1%]/",
            "http://[fe80::1%eth 0]/",
            "http://[fe80::1%eth0/",
            "http://[fe80::1%eth0]x/",
            "http://[fe80::1%e%41]/",
            "http://[fe80::1%a\r\nX: y]/",
            "http://[%eth0]/",
            "http://[127.0.0.1%eth0]/",
            "http://fe80::1%eth0/",
        ] {
            assert!(Url::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_zone_selects_the_interface_and_is_not_sent() {
        for (text, zone, authority) in [
            ("http://[fe80::1%eth0]/", "eth0", "[fe80::1]"),
            ("http://[FE80::1%25eth0.7]:8080/x", "eth0.7", "[fe80::1]:8080"),
            ("https://[fe80::1%2]/", "2", "[fe80::1]"),
            ("https://[fe80::1%25]/", "25", "[fe80::1]"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.zone.as_deref(), &*url.authority(), url.bare_host()), (Some(zone), authority, "fe80::1"));
        }
        let url = |text| Url::parse(text).unwrap();
        let base = url("http://[fe80::1%a]/");
        assert!(!base.same_origin(&url("http://[fe80::1%b]/")) && !base.same_origin(&url("http://[fe80::1]/")));
        // A redirect to the same address keeps the zone. Another address has none, and a Location cannot contain one.
        for (to, zone) in [("/x", Some("a")), ("http://[fe80::1]/x", Some("a")), ("http://[fe80::2]/", None)] {
            assert_eq!(base.join(to.as_bytes()).unwrap().zone.as_deref(), zone, "{to}");
        }
        assert!(base.join(b"http://[fe80::2%25a]/").is_err() && base.join(b"//[fe80::2%a]/").is_err());
    }

    #[test]
    fn a_location_that_is_not_encoded_is_encoded() {
        let base = Url::parse("http://a/b/c").unwrap();
        for (reference, target) in [
            ("/\u{e9}t\u{e9}.txt".as_bytes(), "/%C3%A9t%C3%A9.txt"),
            (b"/\xe9", "/%E9"),
            (b"my file.txt?q=a b#c d", "/b/my%20file.txt?q=a%20b"),
            (b"/a%20b c", "/a%20b%20c"),
            ("http://a/\u{65e5}\u{672c}".as_bytes(), "/%E6%97%A5%E6%9C%AC"),
            ("\u{e9}:x".as_bytes(), "/b/%C3%A9:x"),
            ("../\u{e9}/./x".as_bytes(), "/%C3%A9/x"),
            (b"/a|b^\"c", "/a|b^\"c"),
        ] {
            let url = base.join(reference).unwrap();
            assert_eq!((&*url.target, url.same_origin(&base)), (target, true), "{reference:?}");
        }
        for bad in [
            &b"/a\rb"[..],
            b"/a\nb",
            b"/a\0b",
            b"/a\tb",
            b"/a\x7fb",
            b"/\x1b",
            b"http://a b/",
            b"//x\xe9/",
            b"http:// /",
        ] {
            assert!(base.join(bad).is_err(), "{bad:?}");
        }
    }

    /// Whatever bytes a server puts into `Location`, the request target is one line of visible ASCII.
    #[test]
    fn no_location_can_end_the_request_line() {
        let base = Url::parse("http://[fe80::1%a]/b/c?d").unwrap();
        for pair in 0..=u16::MAX {
            let [a, b] = pair.to_be_bytes();
            for reference in [&[b'x', a, b, b'y'][..], &[b'/', b'/', a, b, b'/'], &[b'?', a, b], &[a, b]] {
                if let Ok(url) = base.join(reference) {
                    assert!(url.target.starts_with('/') && grammar::is_target(url.target.as_bytes()), "{reference:?}");
                    assert!(target::is_authority(url.authority().as_bytes()), "{reference:?}");
                    assert!(url.zone.is_none() || url.host == base.host, "{reference:?}");
                }
            }
        }
    }

    /// The examples of RFC 3986 §5.4 that concern http, and others.
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
            let url = base.join(reference.as_bytes()).unwrap();
            assert_eq!((&*url.target, url.same_origin(&base)), (*target, true), "{reference}");
        }
        assert_eq!(base.join(b"//g").unwrap(), Url::parse("http://g").unwrap());
        assert_eq!(base.join(b"HTTPS://x:1/y").unwrap(), Url::parse("https://x:1/y").unwrap());
        // Private fields stay at their origin: scheme, host and port.
        let https = Url::parse("https://a/").unwrap();
        for other in ["http://a/", "http://a:443/", "https://a:80/", "https://b/"] {
            assert!(!https.join(other.as_bytes()).unwrap().same_origin(&https), "{other}");
        }
        for bad in ["javascript:x", "ftp://x", "//", "http://u@x/", "mailto:x@y"] {
            assert!(base.join(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
