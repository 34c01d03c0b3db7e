//! Cookies (RFC 6265): those of a request, and `Set-Cookie` for a response.
//!
//! ```text
//!   Cookie: sid=31d4; lang=en ──▶ get(req, "sid"), pairs(value) ──▶ names and values
//!   SetCookie::new("sid", "31d4").path("/").build() ──▶ Set-Cookie: sid=31d4; Path=/
//! ```
//!
//! A name, a value or an attribute that RFC 6265 §4.1.1 does not allow is an error of [`SetCookie::build`], so
//! application data cannot add an attribute or a cookie. Encode other text before it becomes a value, for instance by
//! percent-encoding or base64.
//!
//! ```
//! use std::time::Duration;
//! use uncork::{
//!     Request, Response,
//!     cookie::{self, SameSite, SetCookie},
//! };
//!
//! let visits = |req: &mut Request<'_>| {
//!     let visits = cookie::get(req, "visits").and_then(|text| text.parse().ok()).unwrap_or(0_u32).saturating_add(1);
//!     let cookie = SetCookie::new("visits", visits.to_string())
//!         .path("/")
//!         .max_age(Duration::from_secs(3600))
//!         .http_only()
//!         .same_site(SameSite::Lax);
//!     match cookie.build() {
//!         Ok(value) => Response::text(format!("visit {visits}\n")).header("Set-Cookie", value),
//!         Err(error) => Response::text(format!("{error}\n")).with_status(500),
//!     }
//! };
//! # fn check(_: impl uncork::Handler) {}
//! # check(visits);
//! ```
//!
//! Not here: signed and encrypted cookies, and the cookie store of a client.

use std::{
    fmt::{self, Write as _},
    time::{Duration, SystemTime},
};

use crate::{
    api::Request,
    h1::{DateCache, HeaderValue, is_token},
};

/// Returns the value of a request's first cookie with this name; `None` if there is no such cookie, or its value is not
/// UTF-8. Names are case-sensitive. The value is as it was sent, with its quotation marks if it has any (RFC 6265
/// §4.1.1).
///
/// A client sends the cookie with the longest path first, but others of the same name may have been set by other hosts
/// of the domain: only names with the prefix `__Host-` are safe from that.
pub fn get<'a>(req: &Request<'a>, name: &str) -> Option<&'a str> {
    let (_, value) = req.headers().get_all("cookie").flat_map(pairs).find(|(other, _)| *other == name)?;
    std::str::from_utf8(value).ok()
}

/// Returns the names and values in a Cookie field (RFC 6265 §4.2.1), as they were sent. A request can have several such
/// fields.
///
/// Whitespace around names and values is removed (RFC 6265 §5.2). A pair whose name is not a token, or that has no "=",
/// is left out.
///
/// ```
/// let field = b"sid=31d4d96e407aad42; lang=en=US;;x; quoted=\"a\"";
/// let pairs: Vec<(&str, &[u8])> = uncork::cookie::pairs(field).collect();
/// assert_eq!(pairs, [("sid", &b"31d4d96e407aad42"[..]), ("lang", b"en=US"), ("quoted", b"\"a\"")]);
/// ```
pub fn pairs(field: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    field.split(|&b| b == b';').filter_map(|pair| {
        let equals = pair.iter().position(|&b| b == b'=')?;
        let name = std::str::from_utf8(pair[..equals].trim_ascii()).ok()?;
        is_token(name.as_bytes()).then_some((name, pair[equals + 1..].trim_ascii()))
    })
}

/// Builds the value of a `Set-Cookie` field (RFC 6265 §4.1). It has the attributes that were set, and no others. Without
/// any, the client sends the cookie back to the same host only, for paths of the same directory, over HTTP too, until
/// the browser ends.
#[derive(Clone, Debug)]
#[must_use = "`build` it"]
pub struct SetCookie {
    name: String,
    /// The pair, and the attributes so far.
    text: String,
    is_secure: bool,
    has_domain: bool,
    has_root_path: bool,
    same_site: Option<SameSite>,
    /// The first error.
    error: Option<InvalidCookie>,
}

/// The requests of other sites that a cookie is sent with (RFC 6265bis §4.1.2.7). A site is a registered domain with
/// its subdomains. Default of browsers: [`Lax`](Self::Lax), in some with exceptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SameSite {
    /// None.
    Strict,
    /// Those that change the page of the browser with a safe method: a link, but not a form that is posted.
    Lax,
    /// All. Browsers ignore such a cookie unless it is [`secure`](SetCookie::secure).
    None,
}

/// The error of an invalid cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InvalidCookie {
    /// The name is empty or not a token (RFC 9110 §5.6.2).
    Name,
    /// The value has this byte, which RFC 6265 §4.1.1 does not allow: a control byte, a space, a quotation mark, a
    /// comma, a semicolon, a backslash, or a byte from 0x80 up.
    Value(u8),
    /// The path does not begin with "/", or it has a semicolon, a control byte, or a byte from 0x80 up.
    Path,
    /// The domain is not a host name of letters, digits, dots and hyphens.
    Domain,
    /// [`SameSite::None`] without [`secure`](SetCookie::secure).
    SameSite,
    /// A name that begins with `__Secure-` without [`secure`](SetCookie::secure), or one that begins with `__Host-`
    /// without it, with a domain, or with another path than "/" (RFC 6265bis §4.1.3).
    Prefix,
}

impl fmt::Display for InvalidCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => f.write_str("invalid name of a cookie: expected a token"),
            Self::Value(b) => write!(f, "'{}' is not allowed in the value of a cookie", b.escape_ascii()),
            Self::Path => f.write_str("invalid path of a cookie: expected one that begins with /, without a semicolon"),
            Self::Domain => f.write_str("invalid domain of a cookie: expected a host name"),
            Self::SameSite => f.write_str("invalid cookie: SameSite=None requires Secure"),
            Self::Prefix => f.write_str("invalid cookie: the prefix of its name requires other attributes"),
        }
    }
}

impl std::error::Error for InvalidCookie {}

impl SetCookie {
    /// Begins with a name and a value. The value may be in quotation marks, which belong to it.
    pub fn new(name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        let (name, value) = (name.as_ref(), value.as_ref());
        let error =
            if is_token(name.as_bytes()) { check_value(value.as_bytes()).err() } else { Some(InvalidCookie::Name) };
        Self {
            name: name.to_owned(),
            text: format!("{name}={value}"),
            is_secure: false,
            has_domain: false,
            has_root_path: false,
            same_site: None,
            error,
        }
    }

    /// Begins a cookie that removes the one of this name: its value is empty, and it expires in 1970. A browser removes
    /// the cookie only if path and domain are those with which it was set.
    ///
    /// ```
    /// use uncork::cookie::SetCookie;
    /// let value = SetCookie::removal("sid").path("/").build()?;
    /// assert_eq!(value.as_bytes(), b"sid=; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/");
    /// # Ok::<(), uncork::cookie::InvalidCookie>(())
    /// ```
    pub fn removal(name: impl AsRef<str>) -> Self {
        Self::new(name, "").expires(SystemTime::UNIX_EPOCH)
    }

    /// Sets the path: the cookie is sent for it and all paths below it. Without one, it is sent for the directory of
    /// the request's path.
    pub fn path(mut self, path: impl AsRef<str>) -> Self {
        let path = path.as_ref();
        let is_allowed = |b: u8| (b' '..0x7f).contains(&b) && b != b';';
        // Browsers ignore another begin, and use the default.
        if !path.starts_with('/') || path.ends_with(' ') || !path.bytes().all(is_allowed) {
            self.error.get_or_insert(InvalidCookie::Path);
        }
        self.has_root_path = path == "/";
        self.attribute("Path", path)
    }

    /// Sets the domain: the cookie is sent to this host and all its subdomains. Without one, it is sent to the same
    /// host only.
    pub fn domain(mut self, domain: impl AsRef<str>) -> Self {
        let domain = domain.as_ref();
        let is_label = |label: &str| {
            let is_allowed = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            !label.is_empty() && is_allowed && !label.starts_with('-') && !label.ends_with('-')
        };
        if !domain.split('.').all(is_label) {
            self.error.get_or_insert(InvalidCookie::Domain);
        }
        self.has_domain = true;
        self.attribute("Domain", domain)
    }

    /// Sets how long the browser keeps the cookie, in seconds, rounded down. It has precedence over
    /// [`expires`](Self::expires). With neither, the browser keeps the cookie until it ends.
    pub fn max_age(self, age: Duration) -> Self {
        let seconds = age.as_secs();
        self.attribute("Max-Age", seconds)
    }

    /// Sets the time at which the browser removes the cookie, clamped to the years from 1970 to 9999.
    pub fn expires(self, time: SystemTime) -> Self {
        let mut date = DateCache::default();
        let date = String::from_utf8_lossy(date.at(time)).into_owned();
        self.attribute("Expires", date)
    }

    /// Has the cookie sent over HTTPS only.
    pub fn secure(mut self) -> Self {
        if !std::mem::replace(&mut self.is_secure, true) {
            self.text += "; Secure";
        }
        self
    }

    /// Hides the cookie from scripts.
    pub fn http_only(mut self) -> Self {
        self.text += "; HttpOnly";
        self
    }

    /// Sets the requests of other sites that the cookie is sent with.
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.same_site = Some(same_site);
        self.attribute(
            "SameSite",
            match same_site {
                SameSite::Strict => "Strict",
                SameSite::Lax => "Lax",
                SameSite::None => "None",
            },
        )
    }

    fn attribute(mut self, name: &str, value: impl fmt::Display) -> Self {
        // Writing to a string cannot fail.
        let _ = write!(self.text, "; {name}={value}");
        self
    }

    /// Returns the value of the `Set-Cookie` field, for [`Response::header`](crate::Response::header).
    ///
    /// # Errors
    /// The first part of the cookie that is invalid.
    pub fn build(self) -> Result<HeaderValue, InvalidCookie> {
        if let Some(error) = self.error {
            return Err(error);
        }
        // Browsers compare these prefixes case-insensitively.
        let has_prefix =
            |prefix: &str| self.name.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix));
        let is_host_only = self.is_secure && self.has_root_path && !self.has_domain;
        if has_prefix("__Secure-") && !self.is_secure || has_prefix("__Host-") && !is_host_only {
            return Err(InvalidCookie::Prefix);
        }
        if self.same_site == Some(SameSite::None) && !self.is_secure {
            return Err(InvalidCookie::SameSite);
        }
        // All parts have been checked for less than this allows.
        HeaderValue::new(self.text).map_err(|_| InvalidCookie::Name)
    }
}

fn check_value(value: &[u8]) -> Result<(), InvalidCookie> {
    let bare = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
    let is_allowed = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b',' | b';' | b'\\');
    bare.iter().find(|b| !is_allowed(**b)).map_or(Ok(()), |&b| Err(InvalidCookie::Value(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(cookie: SetCookie) -> Result<String, InvalidCookie> {
        cookie.build().map(|value| String::from_utf8(value.as_bytes().to_vec()).expect("ASCII"))
    }

    #[test]
    fn cookies_are_split() {
        for (field, expected) in [
            (&b""[..], &[][..]),
            (b"a=1", &[("a", &b"1"[..])]),
            (b"a=1; b=2;c=3 ;\td=", &[("a", b"1"), ("b", b"2"), ("c", b"3"), ("d", b"")]),
            (b"a = 1 2 ; a=3", &[("a", b"1 2"), ("a", b"3")]),
            (b"a==1=; ;x;=y;z", &[("a", b"=1=")]),
            (b"a=\"1\"; b=\xff; \xff=1; c d=1; __Host-a=1", &[("a", b"\"1\""), ("b", b"\xff"), ("__Host-a", b"1")]),
        ] {
            assert_eq!(pairs(field).collect::<Vec<_>>(), expected, "{}", field.escape_ascii());
        }
    }

    #[test]
    fn attributes_are_written_in_order() {
        let cookie = SetCookie::new("sid", "31d4")
            .path("/app")
            .domain("example.com")
            .max_age(Duration::from_millis(1999))
            .expires(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777))
            .secure()
            .secure()
            .http_only()
            .same_site(SameSite::None);
        let expected = "sid=31d4; Path=/app; Domain=example.com; Max-Age=1; Expires=Sun, 06 Nov 1994 08:49:37 GMT; \
                        Secure; HttpOnly; SameSite=None";
        assert_eq!(text(cookie).as_deref(), Ok(expected));
        assert_eq!(text(SetCookie::new("a", "")).as_deref(), Ok("a="));
        assert_eq!(text(SetCookie::new("a", "\"b\"")).as_deref(), Ok("a=\"b\""));
        assert_eq!(text(SetCookie::new("a", "b=c")).as_deref(), Ok("a=b=c"));
    }

    #[test]
    fn nothing_can_be_injected() {
        let value = |value: &str| text(SetCookie::new("a", value)).err();
        for b in 0..=0x7f_u8 {
            let char = char::from(b);
            let is_allowed = matches!(b, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e);
            let expected = (!is_allowed).then_some(InvalidCookie::Value(b));
            assert_eq!(value(&format!("x{char}y")), expected, "{b:#x}");
            assert_eq!(value(&format!("\"x{char}y\"")), expected, "{b:#x}");
            let is_path = (b' '..0x7f).contains(&b) && b != b';';
            assert_eq!(text(SetCookie::new("a", "").path(format!("/{char}x"))).is_ok(), is_path, "{b:#x}");
            let is_host = b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
            assert_eq!(text(SetCookie::new("a", "").domain(format!("x{char}y"))).is_ok(), is_host, "{b:#x}");
            assert_eq!(text(SetCookie::new(format!("x{char}"), "")).is_ok(), is_token(&[b]), "{b:#x}");
        }
        assert_eq!(value("\u{fc}"), Some(InvalidCookie::Value(0xc3)));
        assert_eq!(value("\""), Some(InvalidCookie::Value(b'"')));
        assert_eq!(text(SetCookie::new("", "1")), Err(InvalidCookie::Name));
        for path in ["", "app", "/ ", "/\u{fc}"] {
            assert_eq!(text(SetCookie::new("a", "").path(path)), Err(InvalidCookie::Path), "{path:?}");
        }
        for domain in ["", ".a", "a.", "a..b", "-a", "a-", "\u{fc}"] {
            assert_eq!(text(SetCookie::new("a", "").domain(domain)), Err(InvalidCookie::Domain), "{domain:?}");
        }
    }

    #[test]
    fn what_browsers_ignore_is_an_error() {
        let host = || SetCookie::new("__Host-a", "1");
        assert!(text(host().secure().path("/")).is_ok());
        for cookie in [
            host(),
            host().path("/"),
            host().secure(),
            host().secure().path("/x"),
            host().secure().path("/").domain("a.b"),
            SetCookie::new("__host-a", "1"),
            SetCookie::new("__Secure-a", "1"),
        ] {
            assert_eq!(text(cookie), Err(InvalidCookie::Prefix));
        }
        assert!(text(SetCookie::new("__Secure-a", "1").secure()).is_ok());
        assert_eq!(text(SetCookie::new("a", "").same_site(SameSite::None)), Err(InvalidCookie::SameSite));
    }
}
