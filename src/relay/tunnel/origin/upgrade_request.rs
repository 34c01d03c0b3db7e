//! The request for a tunnel, and the head of the proxy's response.
//!
//! ```text
//!   GET /tunnel HTTP/1.1                           HTTP/1.1 101 Switching Protocols
//!   Connection: upgrade                            Connection: upgrade
//!   Authorization: Bearer …                ──▶     Upgrade: ptth
//!   Upgrade: ptth
//!   ALPN: h2, http%2F1.1                           ALPN: h2
//!   Uncork-Hosts: app.example                      Uncork-Nodes: fra1.example:8443;self, ber2.example:8443
//!   Uncork-Nodes: ?1
//! ```
//! Only a proxy that is one of several nodes sends `Uncork-Nodes`. In the request it says that this side would use
//! them.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use uncork::h1::{
    HeadLimits, Headers, Misbehaved, ResponseFraming, field_slots, parse_response,
    write::{BodyLength, ConnectionOption, RequestLine, request_head},
};

use crate::relay::tunnel::{
    address::{NODES, NamedNodes},
    labels::{FIELD, Inner, UPGRADE},
};

/// Limits of the response's head: as large as that of any proxy.
pub(super) const RESPONSE_HEAD: HeadLimits = HeadLimits { head: 16 * 1024, target: 16 * 1024, fields: 100 };

/// The proof of this side's identity.
#[derive(Clone, Debug)]
pub(super) struct Proof {
    /// The name that is sent with the token, for the proxy to compare.
    pub(super) user: Option<String>,
    pub(super) token: String,
}

/// Returns the request for a tunnel.
///
/// # Errors
/// Returns an error if the token, a host or the path has a character that HTTP does not allow there.
pub(super) fn build(
    host: &str,
    port: u16,
    path: &str,
    proof: Option<&Proof>,
    hosts: &[String],
    inner: &[Inner],
    uses_nodes: bool,
) -> Result<Vec<u8>, String> {
    let bad = |what: &str| format!("invalid {what}: it has a character that HTTP does not allow");
    let mut fields = Headers::new();
    if let Some(Proof { user, token }) = proof {
        let value = match user {
            Some(user) if user.contains(':') => return Err("invalid user: it must not have a colon".into()),
            Some(user) => format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{token}"))),
            None => format!("Bearer {token}"),
        };
        fields.append("Authorization", value).map_err(|_| bad("token"))?;
    }
    let tokens = inner.iter().map(|inner| inner.token()).collect::<Vec<_>>().join(", ");
    fields.append("Upgrade", UPGRADE).and(fields.append(FIELD, tokens)).map_err(|_| bad("upgrade"))?;
    // Without names, all those of the credential are registered.
    if !hosts.is_empty() {
        fields.append("Uncork-Hosts", hosts.join(", ")).map_err(|_| bad("host"))?;
    }
    if uses_nodes {
        fields.append("Uncork-Nodes", "?1").map_err(|_| bad("nodes"))?;
    }
    let host = bracketed(host);
    let host = if port == 443 { host } else { format!("{host}:{port}") };
    let line = RequestLine {
        method: "GET",
        target: path,
        host: &host,
        fields: fields.as_wire(),
        length: BodyLength::None,
        expect: false,
        connection: Some(ConnectionOption::Upgrade),
    };
    let mut request = Vec::new();
    request_head(&line, &mut request).map_err(|rule| format!("invalid proxy or path: {}", rule.rule()))?;
    Ok(request)
}

/// Returns the request that a spdy-proxy expects, byte for byte.
pub(super) fn legacy(host: &str, port: u16) -> Vec<u8> {
    let (host, agent) = (bracketed(host), "Go-http-client/1.1");
    let head = format!("PUT / HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: {agent}\r\n");
    format!("{head}Content-Length: 12\r\n\r\nHello from C").into_bytes()
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// The head of the proxy's response.
pub(super) struct UpgradeResponse {
    pub(super) status: u16,
    /// `Upgrade` names `ptth`.
    pub(super) is_ptth: bool,
    /// The protocol that the proxy has chosen.
    pub(super) inner: Inner,
    /// The length of the body, if it is known.
    pub(super) length: Option<u64>,
    /// In seconds.
    pub(super) retry_after: Option<u64>,
    pub(super) nodes: NamedNodes,
}

impl UpgradeResponse {
    pub(super) fn parse(head: &[u8]) -> Result<Self, &'static str> {
        let mut slots = field_slots();
        let parsed = parse_response(head, "GET", &mut slots, &RESPONSE_HEAD).map_err(Misbehaved::rule)?;
        let number = |value: &[u8]| std::str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok());
        Ok(Self {
            status: parsed.status,
            // A proxy that does not say so knows only one.
            inner: Inner::listed(|token| parsed.fields.contains_token(FIELD, token)).unwrap_or(Inner::Http2),
            is_ptth: parsed.fields.contains_token("upgrade", UPGRADE),
            length: match parsed.framing {
                ResponseFraming::Length(n) => Some(n),
                ResponseFraming::None => Some(0),
                _ => None,
            },
            retry_after: parsed.fields.get("retry-after").and_then(number),
            nodes: parsed.fields.get(NODES).map(NamedNodes::parse).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_has_the_documented_bytes() {
        let hosts = ["app.example".to_owned(), "*.dev.example".to_owned()];
        let mut proof = Proof { user: None, token: "abc".into() };
        let request =
            build("::1", 8443, "/tunnel", Some(&proof), &hosts, &[Inner::Http2, Inner::Http1], true).expect("fine");
        assert_eq!(
            String::from_utf8(request).expect("text"),
            "GET /tunnel HTTP/1.1\r\nHost: [::1]:8443\r\nConnection: upgrade\r\n\
             Authorization: Bearer abc\r\nUpgrade: ptth\r\nALPN: h2, http%2F1.1\r\nUncork-Hosts: app.example, *.dev.example\r\n\
             Uncork-Nodes: ?1\r\n\r\n"
        );
        proof.user = Some("Aladdin".into());
        proof.token = "open sesame".into();
        let request = build("a", 443, "/", Some(&proof), &[], &[Inner::Http1], false).expect("fine");
        assert_eq!(
            String::from_utf8(request).expect("text"),
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\
             Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\nUpgrade: ptth\r\nALPN: http%2F1.1\r\n\r\n"
        );
    }
}
