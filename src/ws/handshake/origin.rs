//! Who may open a WebSocket from a browser (RFC 6455 §10.2): the two usual answers.

use crate::api::Request;

/// Whether the page that asks comes from this very server: host and port of `Origin` are those of `Host`, whatever
/// their case; a port that is not named is the default of the origin's scheme. A request without `Origin` does not come
/// from a page, and passes.
pub fn same_origin(req: &Request<'_>) -> bool {
    matches(req, |(origin, port), (host, host_port), default| {
        origin.eq_ignore_ascii_case(host) && port.unwrap_or(default) == host_port.unwrap_or(default)
    })
}

/// Whether the page that asks comes from this server's name, on whatever port. A request without `Origin` passes.
pub fn same_hostname(req: &Request<'_>) -> bool {
    matches(req, |(origin, _), (host, _), _| origin.eq_ignore_ascii_case(host))
}

type HostPort<'a> = (&'a str, Option<u16>);

fn matches(req: &Request<'_>, rule: impl FnOnce(HostPort<'_>, HostPort<'_>, u16) -> bool) -> bool {
    let Some(origin) = req.header("origin") else { return true };
    let parse = || {
        // A page without an origin says "null", which is nobody's.
        let (scheme, authority) = std::str::from_utf8(origin).ok()?.split_once("://")?;
        let default = match scheme.to_ascii_lowercase().as_str() {
            "http" | "ws" => 80,
            "https" | "wss" => 443,
            _ => 0,
        };
        Some(rule(host_port(authority)?, host_port(req.host()?)?, default))
    };
    parse().unwrap_or(false)
}

/// `example.org:8080`, `[::1]:80`, `example.org`; `None` if that is not what it is.
pub(super) fn host_port(authority: &str) -> Option<HostPort<'_>> {
    let after_host = authority.rfind(']').map_or(0, |end| end + 1);
    let (host, port) = match authority[after_host..].find(':') {
        None => (authority, ""),
        Some(colon) => (&authority[..after_host + colon], &authority[after_host + colon + 1..]),
    };
    let port = match port {
        "" => None,
        digits => Some(digits.parse().ok()?),
    };
    (!host.is_empty()).then_some((host, port))
}
