//! What a client has sent in its request line and in `Upgrade`, as another server gets it.

use std::borrow::Cow;

use uncork::{Request, h1::Version};

/// Returns path and query, raw, as they came; for a target in absolute form, the part behind the authority.
pub(in crate::relay) fn path_and_query<'a>(req: &Request<'a>) -> Cow<'a, str> {
    match (req.path(), req.query()) {
        _ if req.target().starts_with('/') || req.target() == "*" => req.target().into(),
        ("", None) => "/".into(),
        ("", Some(query)) => format!("/?{query}").into(),
        (path, None) => path.into(),
        (path, Some(query)) => format!("{path}?{query}").into(),
    }
}

/// Returns the version of the client's request, as `Via` has it.
pub(in crate::relay) fn version(req: &Request<'_>) -> &'static str {
    match req.version() {
        Version::Http10 => "1.0",
        Version::Http11 => "1.1",
        Version::Http2 => "2",
    }
}

/// Returns the protocol that a client offers to switch to. A request with a body stays HTTP: an upgrade is an offer,
/// which a server may ignore (RFC 9110 §7.8).
pub(in crate::relay) fn offered_protocol<'a>(req: &Request<'a>) -> Option<&'a str> {
    let offered = req.header_str("upgrade").filter(|_| !req.has_body())?;
    // The first protocol is the one that the client prefers.
    let name = offered.split(',').next().unwrap_or_default().trim_matches([' ', '\t']);
    if !req.wants_upgrade(name) || name.is_empty() || req.version() < Version::Http11 {
        return None;
    }
    // Versions of HTTP are not forwarded: RFC 9113 has dropped "h2c", and "HTTP/2.0" and the like concern one hop.
    let is_http =
        name.eq_ignore_ascii_case("h2c") || name.get(..4).is_some_and(|name| name.eq_ignore_ascii_case("http"));
    let is_websocket = name.eq_ignore_ascii_case("websocket");
    (!is_http && (is_websocket || req.method() == "GET")).then_some(name)
}
