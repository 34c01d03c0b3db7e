//! The fields by which an intermediary tells a server about the client (RFC 7239, and the older fields), and the names
//! that a client must not use.

use uncork::{PeerAddr, Request};

use crate::relay::fields::{same_field, starts_as};

/// Fields that this side or the server writes itself, and whose names have a second spelling.
/// ([`is_about_the_client`] covers those about the client.)
const OWN: [&str; 8] = [
    "content-length",
    "transfer-encoding",
    "keep-alive",
    "proxy-connection",
    "http2-settings",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-accept",
];

/// Returns `true` if a field describes the client, in any spelling. A client must not describe itself.
pub(in crate::relay) fn is_about_the_client(name: &str) -> bool {
    starts_as(name, "x-forwarded-") || same_field(name, "forwarded") || same_field(name, "x-real-ip")
}

/// Returns `true` if the field could be mistaken for one that is written here: `Content_Length` for `Content-Length`.
pub(in crate::relay) fn is_second_spelling(name: &str) -> bool {
    name.contains('_') && OWN.iter().any(|own| same_field(name, own))
}

/// Returns `true` if a field of a client's request is not passed on, besides those of one hop.
pub(in crate::relay) fn ends_here(name: &str) -> bool {
    is_about_the_client(name)
        || is_second_spelling(name)
        || ["host", "expect", "via"].iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// Returns the fields about the client, the scheme and the host. `trusted`: the peer is a trusted proxy, whose fields are
/// continued.
pub(in crate::relay) fn forwarded(req: &Request<'_>, host: &str, trusted: bool) -> [(&'static str, Vec<u8>); 4] {
    let proto = req.scheme();
    let trusted_value = |name: &str| -> Option<Vec<u8>> {
        let values: Vec<&[u8]> = req.headers().get_all(name).filter(|_| trusted).collect();
        (!values.is_empty()).then(|| values.join(&b", "[..]))
    };
    let (mut chain, mut list) = (trusted_value("x-forwarded-for"), trusted_value("forwarded"));
    extend(&mut chain, Client { peer: req.peer(), quoted: false }.to_string().as_bytes());
    let own = format!("for={};host=\"{host}\";proto={proto}", Client { peer: req.peer(), quoted: true });
    extend(&mut list, own.as_bytes());
    let first = |name: &str, ours: &str| trusted_value(name).unwrap_or_else(|| ours.as_bytes().to_vec());
    let (host, proto) = (first("x-forwarded-host", host), first("x-forwarded-proto", proto));
    [
        ("x-forwarded-for", chain.unwrap_or_default()),
        ("x-forwarded-proto", proto),
        ("x-forwarded-host", host),
        ("forwarded", list.unwrap_or_default()),
    ]
}

fn extend(list: &mut Option<Vec<u8>>, more: &[u8]) {
    match list {
        Some(list) => {
            list.extend_from_slice(b", ");
            list.extend_from_slice(more);
        }
        None => *list = Some(more.to_vec()),
    }
}

/// A client's address in `X-Forwarded-For`; `quoted`: in `Forwarded`, which quotes IPv6.
struct Client<'a> {
    peer: &'a PeerAddr,
    quoted: bool,
}

impl std::fmt::Display for Client<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.peer.ip(), self.quoted) {
            (None, _) => f.write_str("unknown"),
            (Some(std::net::IpAddr::V6(ip)), true) => write!(f, "\"[{ip}]\""),
            (Some(ip), _) => write!(f, "{ip}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_about_the_client_are_known_in_every_spelling() {
        for name in [
            "X-Forwarded-For",
            "x-forwarded-proto",
            "X_Forwarded_For",
            "x-forwarded_host",
            "X-Forwarded-Anything",
            "Forwarded",
            "X-Real-IP",
            "x_real_ip",
        ] {
            assert!(is_about_the_client(name), "{name}");
        }
        for name in ["X-Forward", "Forwarded-For", "X-Real-IP-2", "Accept", "xforwarded-for"] {
            assert!(!is_about_the_client(name), "{name}");
        }
    }

    #[test]
    fn fields_that_are_written_here_are_known_in_every_other_spelling() {
        for name in ["Content_Length", "transfer_encoding", "Sec_WebSocket-Key", "SEC-WEBSOCKET_KEY"] {
            assert!(is_second_spelling(name), "{name}");
        }
        for name in ["Content-Length", "Content-Type", "X_Own", "Sec-WebSocket-Key", "session_id"] {
            assert!(!is_second_spelling(name), "{name}");
        }
    }
}
