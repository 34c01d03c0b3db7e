//! Which web pages may connect (RFC 6455 §10.2): a browser tells by `Origin` which page it is that asks, and nobody else
//! is protected by this.

use uncork::{Request, h1::HeadersRef};

use super::OriginPolicy;

/// Whether the policy lets this request in.
pub(super) fn admits(policy: OriginPolicy, req: &Request<'_>) -> bool {
    admits_from(policy, req.headers(), req.host())
}

fn admits_from(policy: OriginPolicy, headers: HeadersRef<'_>, host: Option<&str>) -> bool {
    if policy == OriginPolicy::None {
        return true;
    }
    let mut origins = headers.get_all("origin");
    let origin = match (origins.next(), origins.next()) {
        (None, _) => return policy == OriginPolicy::SameOrigin,
        (Some(origin), None) => origin,
        // Which of two is meant nobody can tell.
        (Some(_), Some(_)) => return false,
    };
    let Some(origin) = std::str::from_utf8(origin).ok().and_then(Place::of_origin) else { return false };
    let Some(host) = host.and_then(|host| Place::of_host(host, origin.default)) else { return false };
    match policy {
        OriginPolicy::SameHostname => origin.host.eq_ignore_ascii_case(host.host),
        _ => origin.host.eq_ignore_ascii_case(host.host) && origin.port == host.port,
    }
}

/// A host and a port, and which port it would be if none were named.
struct Place<'a> {
    host: &'a str,
    port: u16,
    default: u16,
}

impl<'a> Place<'a> {
    /// `scheme://host:port`, without the port if it is the scheme's own (RFC 6454 §6.2).
    fn of_origin(origin: &'a str) -> Option<Self> {
        let (scheme, authority) = origin.split_once("://")?;
        let default = match scheme.to_ascii_lowercase().as_str() {
            "http" | "ws" => 80,
            "https" | "wss" => 443,
            _ => return None,
        };
        Self::of_host(authority, default)
    }

    fn of_host(authority: &'a str, default: u16) -> Option<Self> {
        // The colons of an IPv6 address are within brackets.
        let after_host = authority.rfind(']').unwrap_or(0);
        let (host, port) = match authority[after_host..].find(':') {
            Some(colon) => (&authority[..after_host + colon], &authority[after_host + colon + 1..]),
            None => (authority, ""),
        };
        let port = if port.is_empty() { default } else { port.parse().ok()? };
        let plain = !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic() && !b"/?#@\\".contains(&b));
        plain.then_some(Self { host, port, default })
    }
}

#[cfg(test)]
mod tests {
    use uncork::h1::{HeadLimits, field_slots, parse_request};

    use super::*;

    fn admits(policy: OriginPolicy, host: &str, origins: &[&str]) -> bool {
        let origins: String = origins.iter().map(|origin| format!("Origin: {origin}\r\n")).collect();
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{origins}\r\n");
        let mut slots = field_slots();
        let head = parse_request(head.as_bytes(), &mut slots, &HeadLimits::default()).expect("a head");
        admits_from(policy, head.fields, head.authority())
    }

    #[test]
    fn who_may_connect() {
        use OriginPolicy::{None, SameHostname, SameOrigin};
        for (host, origins, origin, hostname) in [
            ("a.example", &["http://a.example"][..], true, true),
            ("a.example", &["https://a.example"], true, true),
            ("a.example:9180", &["http://a.example:9180"], true, true),
            ("A.Example:9180", &["http://a.eXample:9180"], true, true),
            ("a.example:9180", &["http://a.example"], false, true),
            ("a.example", &["http://a.example:9180"], false, true),
            ("a.example:80", &["http://a.example"], true, true),
            ("a.example:443", &["https://a.example"], true, true),
            ("a.example:443", &["http://a.example"], false, true),
            ("[::1]:9180", &["http://[::1]:9180"], true, true),
            ("[::1]:9180", &["http://[::1]"], false, true),
            ("a.example", &["http://b.example"], false, false),
            ("a.example", &["http://a.example.evil"], false, false),
            ("a.example", &["http://xa.example"], false, false),
            ("a.example", &["null"], false, false),
            ("a.example", &[""], false, false),
            ("a.example", &["a.example"], false, false),
            ("a.example", &["file://a.example"], false, false),
            ("a.example", &["http://a.example/"], false, false),
            ("a.example", &["http://u@a.example"], false, false),
            ("a.example", &["http://a.example:x"], false, false),
            ("a.example", &["http://"], false, false),
            ("a.example", &["http://a.example", "http://a.example"], false, false),
            ("a.example", &["http://a.example", "http://b.example"], false, false),
            ("a.example", &[], true, false),
            ("", &["http://a.example"], false, false),
        ] {
            let got = [None, SameOrigin, SameHostname].map(|policy| admits(policy, host, origins));
            assert_eq!(got, [true, origin, hostname], "{host} {origins:?}");
        }
    }
}
