//! The two usual rules for the web pages that may open a WebSocket (RFC 6455 §10.2). A browser sends the page's origin
//! in `Origin`; the check protects only users of browsers.

use crate::{
    api::Request,
    h1::{HeadersRef, target},
};

/// Returns `true` if the page comes from this server: host and port of `Origin` equal those of `Host`,
/// case-insensitively. A missing port is the default port of the origin's scheme.
///
/// A request without `Origin` does not come from a page, and passes. A request with two, or with a scheme other than
/// http, https, ws and wss, does not.
///
/// For a client that uses HTTPS ([`Request::scheme`]), a page from HTTP has another origin: anything on the network
/// could have written it. The reverse passes, since a TLS proxy may be in front. Such a proxy must forward `Host`
/// unchanged.
pub fn same_origin(req: &Request<'_>) -> bool {
    let secure = req.scheme() == "https";
    is_allowed(req.headers(), req.authority(), |origin, host| {
        is_same_authority(origin, host) && (origin.is_secure() || !secure)
    })
}

/// Returns `true` if the page comes from this server's host name, on any port. Otherwise like [`same_origin`].
pub fn same_hostname(req: &Request<'_>) -> bool {
    is_allowed(req.headers(), req.authority(), is_same_host)
}

fn is_allowed(headers: HeadersRef<'_>, host: Option<&str>, rule: impl Fn(&Origin<'_>, &Origin<'_>) -> bool) -> bool {
    let mut origins = headers.get_all("origin");
    let origin = match (origins.next(), origins.next()) {
        (None, _) => return true,
        (Some(origin), None) => std::str::from_utf8(origin).ok().and_then(Origin::of_origin),
        // Two origins are ambiguous.
        (Some(_), Some(_)) => return false,
    };
    let pair = origin.and_then(|origin| Some((Origin::of_host(host?, origin.default)?, origin)));
    pair.is_some_and(|(host, origin)| rule(&origin, &host))
}

fn is_same_authority(origin: &Origin<'_>, host: &Origin<'_>) -> bool {
    is_same_host(origin, host) && origin.port == host.port
}

fn is_same_host(origin: &Origin<'_>, host: &Origin<'_>) -> bool {
    origin.host.eq_ignore_ascii_case(host.host)
}

/// A host and a port, and the default port of its scheme.
struct Origin<'a> {
    host: &'a str,
    port: u16,
    default: u16,
}

impl<'a> Origin<'a> {
    /// Returns `true` if the origin's scheme is https or wss.
    fn is_secure(&self) -> bool {
        self.default == 443
    }

    /// `scheme://host:port`, without the port if it is the scheme's own (RFC 6454 §6.2). A page without an origin sends
    /// `null`, which matches no server.
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
        let (host, port) =
            Some(authority).filter(|a| target::is_authority(a.as_bytes())).and_then(target::split_port)?;
        let port = match port.unwrap_or_default() {
            "" => default,
            digits => digits.parse().ok()?,
        };
        Some(Self { host, port, default })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::{HeadLimits, field_slots, parse_request};

    #[test]
    fn who_may_connect() {
        #[rustfmt::skip]
        const ROWS: &[(&str, &[&str], bool, bool)] = &[
            // Host             Origin                         same origin, same name
            ("a.example",       &[],                               true,  true),
            ("a.example",       &["http://a.example"],             true,  true),
            ("a.example",       &["https://a.example"],            true,  true),
            ("a.example",       &["HTTP://A.Example"],             true,  true),
            ("A.Example:9180",  &["http://a.eXample:9180"],        true,  true),
            ("a.example:9180",  &["http://a.example"],             false, true),
            ("a.example",       &["http://a.example:9180"],        false, true),
            ("a.example:8081",  &["http://a.example:8080"],        false, true),
            ("a.example:80",    &["http://a.example"],             true,  true),
            ("a.example",       &["http://a.example:80"],          true,  true),
            ("a.example:443",   &["https://a.example"],            true,  true),
            ("a.example:443",   &["http://a.example"],             false, true),
            ("a.example:80",    &["https://a.example"],            false, true),
            ("[::1]:9180",      &["http://[::1]:9180"],            true,  true),
            ("[::1]",           &["http://[::1]:80"],              true,  true),
            ("[::1]:9180",      &["http://[::1]"],                 false, true),
            ("[::1]",           &["http://[::2]"],                 false, false),
            ("a.example",       &["http://b.example"],             false, false),
            ("a.example",       &["http://www.a.example"],         false, false),
            ("a.example",       &["http://a.example.evil"],        false, false),
            ("a.example",       &["http://xa.example"],            false, false),
            ("a.example",       &["null"],                         false, false),
            ("a.example",       &[""],                             false, false),
            ("a.example",       &["a.example"],                    false, false),
            ("a.example",       &["http://"],                      false, false),
            ("a.example",       &["http://a.example/"],            false, false),
            ("a.example",       &["http://u@a.example"],           false, false),
            ("a.example",       &["http://a.example:x"],           false, false),
            ("a.example",       &["http://a.example:99999"],       false, false),
            // Neither a file nor an application's own page is a page of this server's.
            ("a.example",       &["file://a.example"],             false, false),
            ("localhost",       &["capacitor://localhost"],        false, false),
            ("a.example",       &["http://a.example", "http://a.example"], false, false),
            ("a.example",       &["http://a.example", "http://b.example"], false, false),
            ("",                &["http://a.example"],             false, false),
        ];
        for (host, origins, origin, hostname) in ROWS {
            let fields: String = origins.iter().map(|origin| format!("Origin: {origin}\r\n")).collect();
            let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
            let mut slots = field_slots();
            let head = parse_request(head.as_bytes(), &mut slots, &HeadLimits::default()).expect("a head");
            let is_allowed =
                |rule: fn(&Origin<'_>, &Origin<'_>) -> bool| is_allowed(head.fields, head.authority(), rule);
            assert_eq!(
                (is_allowed(is_same_authority), is_allowed(is_same_host)),
                (*origin, *hostname),
                "{host} {origins:?}"
            );
        }
    }
}
