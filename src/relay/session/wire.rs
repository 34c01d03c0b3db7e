//! Parses requests, and builds parts of responses.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use subtle::ConstantTimeEq;
use uncork::{Body, Request, Response, h1::HeadersRef};

use super::config::SessionConfig;
use crate::relay::wire::{parameter, retry_after};

/// Returns the number at the start of `text`, as cama parses it: `5x` is 5, and text without a leading digit is `None`.
/// A number that is too large becomes `u64::MAX`.
fn leading_digits(text: &[u8]) -> Option<u64> {
    text.first().filter(|b| b.is_ascii_digit())?;
    let digits = text.iter().take_while(|b| b.is_ascii_digit());
    Some(digits.fold(0, |n: u64, b| n.saturating_mul(10).saturating_add(u64::from(b - b'0'))))
}

fn seconds(text: &[u8]) -> Option<Duration> {
    leading_digits(text).map(Duration::from_secs)
}

/// Returns the timeout of a GET or POST: `X-Timeout`, then `?timeout=`, then the default.
pub(super) fn request_timeout(req: &Request<'_>, config: &SessionConfig) -> Duration {
    let asked = req.header("x-timeout").and_then(seconds);
    let asked = asked.or_else(|| parameter(req, "timeout").and_then(|text| seconds(text.as_bytes())));
    asked.unwrap_or(config.request_timeout).min(config.request_timeout_max)
}

/// Returns the lifetime that a new session has while no request is connected.
pub(super) fn session_ttl(req: &Request<'_>, config: &SessionConfig) -> Duration {
    let asked = parameter(req, "timeout").and_then(|text| seconds(text.as_bytes()));
    asked.map_or(config.ttl, |ttl| ttl.clamp(config.ttl_min, config.ttl_max))
}

/// Returns `true` if the request asks for a secure session, by field or query.
pub(super) fn wants_secure(req: &Request<'_>) -> bool {
    req.header("x-type").is_some_and(|kind| kind.eq_ignore_ascii_case(b"secure"))
        || parameter(req, "secure") == Some("true")
}

/// Returns `true` if a cookie named `token` has this value, with or without quotes. The comparison takes constant time.
pub(super) fn has_token(headers: HeadersRef<'_>, token: &str) -> bool {
    let cookies = headers.get_all("cookie").flat_map(|value| value.split(|&b| b == b';'));
    let tokens = cookies.filter_map(|cookie| cookie.trim_ascii().strip_prefix(b"token="));
    let mut found = false;
    for given in tokens {
        let bare = given.strip_prefix(b"\"").and_then(|g| g.strip_suffix(b"\"")).unwrap_or(given);
        found |= bool::from(bare.ct_eq(token.as_bytes()));
    }
    found
}

/// Returns the canonical address in `X-Peer-Address`; `None` if it is missing, invalid, or no peer can have it.
pub(super) fn peer_address(req: &Request<'_>) -> Option<IpAddr> {
    let text = req.header_str("x-peer-address")?;
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let ip = bare.parse::<IpAddr>().ok()?.to_canonical();
    (!ip.is_unspecified() && !ip.is_multicast()).then_some(ip)
}

/// Returns a `Set-Cookie` value with this lifetime; zero deletes the cookie.
pub(super) fn cookie(token: &str, path: &str, now: SystemTime, lifetime: Duration, attributes: &str) -> String {
    let expires = httpdate::fmt_http_date(now + lifetime);
    format!("token={token}; Expires={expires}; Path={path}; Max-Age={}; HttpOnly{attributes}", lifetime.as_secs())
}

/// Returns a response with a short text.
pub(super) fn text(status: u16, body: impl Into<Body>) -> Response {
    Response::new(status).header("Content-Type", "text/plain").body(body)
}

/// Like [`text`], but with `Retry-After`.
pub(super) fn busy(status: u16, body: impl Into<Body>, after: Duration) -> Response {
    text(status, body).header("Retry-After", retry_after(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_digits_count() {
        for (text, want) in [
            ("5", Some(5)),
            ("5x", Some(5)),
            ("007", Some(7)),
            ("0", Some(0)),
            ("", None),
            ("x5", None),
            ("-5", None),
            ("+5", None),
            (" 5", None),
            ("99999999999999999999999", Some(u64::MAX)),
        ] {
            assert_eq!(leading_digits(text.as_bytes()), want, "{text:?}");
        }
    }

    #[test]
    fn a_cookie_begins_as_in_cama() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let secure = cookie("abc", "/cama/session/x", at, Duration::from_secs(60), "; Secure");
        let want =
            "token=abc; Expires=Sun, 06 Nov 1994 08:50:37 GMT; Path=/cama/session/x; Max-Age=60; HttpOnly; Secure";
        assert_eq!(secure, want);
    }
}
