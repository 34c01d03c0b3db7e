//! The request target in its four forms, and its authority (RFC 9112 §3.2, RFC 9110 §7.2).
//!
//! | form      | looks like              | with                |
//! |-----------|-------------------------|---------------------|
//! | origin    | `/where?q=now`          | all but CONNECT     |
//! | absolute  | `http://host/where?q`   | all but CONNECT     |
//! | authority | `host:443`              | CONNECT only        |
//! | asterisk  | `*`                     | OPTIONS only        |

use std::net::Ipv6Addr;

use super::{Misbehaved, grammar};

/// The form of a request target (RFC 9112 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TargetForm {
    /// A path, with or without a query: the usual form.
    Origin,
    /// A whole URI, `http` or `https`, as sent to a proxy. Servers must accept it too.
    Absolute,
    /// `host:port`, with CONNECT.
    Authority,
    /// `*`, with OPTIONS: the server as a whole.
    Asterisk,
}

/// Returns the form of a target, and its authority if it has one.
#[inline(always)]
pub(crate) fn classify<'b>(method: &str, target: &'b str) -> Result<(TargetForm, Option<&'b str>), Misbehaved> {
    // httparse has checked that a single byte is visible ASCII.
    if target.len() > 1 && !grammar::is_target(target.as_bytes()) {
        return Err(Misbehaved::BadTarget);
    }
    if method == "CONNECT" {
        let (_, port) = split_port(target).ok_or(Misbehaved::BadTarget)?;
        let valid = is_authority(target.as_bytes()) && port.is_some_and(|port| !port.is_empty());
        return if valid { Ok((TargetForm::Authority, Some(target))) } else { Err(Misbehaved::BadTarget) };
    }
    match target.as_bytes() {
        [b'/', ..] => Ok((TargetForm::Origin, None)),
        b"*" if method == "OPTIONS" => Ok((TargetForm::Asterisk, None)),
        _ => absolute(target).map(|authority| (TargetForm::Absolute, Some(authority))),
    }
}

/// Returns the authority of an absolute-form target.
fn absolute(target: &str) -> Result<&str, Misbehaved> {
    let (scheme, rest) = target.split_once("://").ok_or(Misbehaved::BadTarget)?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(Misbehaved::BadTarget);
    }
    let authority = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
    // RFC 9110 §4.2.1: an empty host is invalid; §4.2.4: so is userinfo, and `@` is not allowed in a host.
    if authority.is_empty() || !is_authority(authority.as_bytes()) {
        return Err(Misbehaved::BadTarget);
    }
    Ok(authority)
}

/// Returns the path and the query of a target of this form.
pub(crate) fn path_and_query(form: TargetForm, target: &str) -> (&str, Option<&str>) {
    let whole = match form {
        TargetForm::Origin => target,
        TargetForm::Asterisk => return ("*", None),
        TargetForm::Authority => return ("", None),
        TargetForm::Absolute => {
            let rest = target.split_once("://").map_or("", |(_, rest)| rest);
            &rest[rest.find(['/', '?']).unwrap_or(rest.len())..]
        }
    };
    let (path, query) = whole.split_once('?').map_or((whole, None), |(path, query)| (path, Some(query)));
    // RFC 9110 §4.2.3: an empty path is the same as "/".
    (if path.is_empty() { "/" } else { path }, query)
}

/// Returns host and port of `host`, `host:port`, `[v6]`, `[v6]:port`; the port without its colon. `None` if a bracket
/// is not closed or something other than a port follows it.
pub(crate) fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    let host_end = if authority.starts_with('[') {
        authority.find(']')? + 1
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (host, port) = authority.split_at(host_end);
    if port.is_empty() {
        return Some((host, None));
    }
    port.strip_prefix(':').map(|port| (host, Some(port)))
}

/// Returns `true` if this is `uri-host [":" port]`, with a host that is not empty and a port of at most 65,535 (RFC
/// 9110 §7.2, RFC 3986 §3.2.2). `IPvFuture` and zone identifiers are not in use, and rejected.
#[inline]
pub(crate) fn is_authority(value: &[u8]) -> bool {
    // The usual case: a name or an IPv4 address.
    let name = grammar::plain_host(value);
    match &value[name..] {
        [] => name > 0,
        [b':', port @ ..] => name > 0 && is_port(port),
        _ => is_rare_authority(value),
    }
}

/// The last valid authority. Most requests to a server have the same, and a comparison costs a fraction of the check.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KnownHost {
    len: u8,
    bytes: [u8; 63],
}

impl KnownHost {
    /// Like [`is_authority`], but does not check the last valid authority again.
    #[inline(always)]
    pub(crate) fn is_authority(&mut self, value: &[u8]) -> bool {
        value == &self.bytes[..usize::from(self.len)] && !value.is_empty() || self.is_another(value)
    }

    fn is_another(&mut self, value: &[u8]) -> bool {
        let valid = is_authority(value);
        if valid && let Some(room) = self.bytes.get_mut(..value.len()) {
            room.copy_from_slice(value);
            self.len = value.len() as u8; // 63 at the most
        }
        valid
    }
}

impl Default for KnownHost {
    fn default() -> Self {
        Self { len: 0, bytes: [0; 63] }
    }
}

#[inline]
fn is_port(port: &[u8]) -> bool {
    // RFC 3986 §3.2.3: port = *DIGIT, so it may be empty; leading zeros are fine. Five digits compare like the number.
    port.iter().all(u8::is_ascii_digit)
        && match port.len() {
            0..5 => true,
            5 => *port <= b"65535"[..],
            _ => is_long_port(port),
        }
}

fn is_long_port(digits: &[u8]) -> bool {
    let number = digits.iter().try_fold(0u32, |n, b| Some(n * 10 + u32::from(b - b'0')).filter(|n| *n <= 65_535));
    number.is_some()
}

#[cold]
fn is_rare_authority(value: &[u8]) -> bool {
    let Some((host, port)) = std::str::from_utf8(value).ok().and_then(split_port) else { return false };
    if !is_port(port.unwrap_or_default().as_bytes()) {
        return false;
    }
    if let Some(inner) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return inner.parse::<Ipv6Addr>().is_ok();
    }
    let mut escapes = host.split('%');
    let first = escapes.next().unwrap_or_default();
    let escaped = |part: &str| part.len() >= 2 && part.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit);
    !host.is_empty()
        && (first.is_empty() || grammar::is_reg_name(first.as_bytes()))
        && escapes.all(|part| escaped(part) && grammar::is_reg_name(part.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_authority_gets_the_same_result() {
        let mut known = KnownHost::default();
        let long = "x".repeat(64);
        for host in
            ["a.example", "a.example", "", "a.example:80", "a.exampl", "a b", "a b", "a.example", &long, "[::1]", ""]
        {
            assert_eq!(known.is_authority(host.as_bytes()), is_authority(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn hosts() {
        for good in [
            "x",
            "example.com",
            "127.0.0.1:80",
            "EXAMPLE:0080",
            "x:",
            "a-b_c~d",
            "[::1]",
            "[2001:db8::7]:8080",
            "a%20b",
            "%41",
            "[::ffff:1.2.3.4]",
            "x:65535",
            "a!$&'()*+,;=b",
            "xn--bcher-kva.example",
        ] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            ":80",
            "x:65536",
            "x:8o",
            "x:-1",
            "x:+1",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "u@h",
            "u:p@h",
            "a:1:2",
            "::1",
            "[::1",
            "::1]",
            "[]",
            "[x]",
            "[::1]x",
            "[::1]8",
            "[fe80::1%25eth0]",
            "[v1.x]",
            "a%2",
            "a%2g",
            "%",
            "a\\b",
            "x\t",
            "a\"b",
            "a[b]",
            "é",
            "x:99999999999999999999",
        ] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
        assert!(!is_authority(b"\xff") && !is_authority(b"a\0"));
    }

    #[test]
    fn forms() {
        use TargetForm::*;
        type Want = Result<(TargetForm, Option<&'static str>), Misbehaved>;
        let rows: &[(&str, &str, Want)] = &[
            ("GET", "/", Ok((Origin, None))),
            ("GET", "/a?b=c|^", Ok((Origin, None))),
            ("GET", "//a", Ok((Origin, None))),
            ("OPTIONS", "*", Ok((Asterisk, None))),
            ("OPTIONS", "/", Ok((Origin, None))),
            ("GET", "http://h", Ok((Absolute, Some("h")))),
            ("GET", "HTTPS://H:8/x", Ok((Absolute, Some("H:8")))),
            ("GET", "http://h?q", Ok((Absolute, Some("h")))),
            ("CONNECT", "h:443", Ok((Authority, Some("h:443")))),
            ("CONNECT", "[::1]:443", Ok((Authority, Some("[::1]:443")))),
            ("GET", "*", Err(Misbehaved::BadTarget)),
            ("OPTIONS", "**", Err(Misbehaved::BadTarget)),
            ("GET", "a", Err(Misbehaved::BadTarget)),
            ("GET", "h:443", Err(Misbehaved::BadTarget)),
            ("GET", "/a#b", Err(Misbehaved::BadTarget)),
            ("GET", "#", Err(Misbehaved::BadTarget)),
            ("GET", "/é", Err(Misbehaved::BadTarget)),
            ("GET", "http://", Err(Misbehaved::BadTarget)),
            ("GET", "http:///x", Err(Misbehaved::BadTarget)),
            ("GET", "http://:80/", Err(Misbehaved::BadTarget)),
            ("GET", "http://u@h/", Err(Misbehaved::BadTarget)),
            ("GET", "http:/h", Err(Misbehaved::BadTarget)),
            ("GET", "ftp://h/", Err(Misbehaved::BadTarget)),
            ("CONNECT", "h", Err(Misbehaved::BadTarget)),
            ("CONNECT", "h:", Err(Misbehaved::BadTarget)),
            ("CONNECT", "/", Err(Misbehaved::BadTarget)),
            ("CONNECT", "http://h:1/", Err(Misbehaved::BadTarget)),
            ("CONNECT", "u@h:1", Err(Misbehaved::BadTarget)),
            ("connect", "h:1", Err(Misbehaved::BadTarget)),
        ];
        for (method, target, want) in rows {
            assert_eq!(classify(method, target), *want, "{method} {target}");
        }
    }

    #[test]
    fn paths() {
        for (form, target, want) in [
            (TargetForm::Origin, "/a/b", ("/a/b", None)),
            (TargetForm::Origin, "/a?", ("/a", Some(""))),
            (TargetForm::Origin, "/a?b?c", ("/a", Some("b?c"))),
            (TargetForm::Absolute, "http://h", ("/", None)),
            (TargetForm::Absolute, "http://h?q", ("/", Some("q"))),
            (TargetForm::Absolute, "http://h/a?q=http://x/", ("/a", Some("q=http://x/"))),
            (TargetForm::Authority, "h:1", ("", None)),
            (TargetForm::Asterisk, "*", ("*", None)),
        ] {
            assert_eq!(path_and_query(form, target), want, "{target}");
        }
    }
}
