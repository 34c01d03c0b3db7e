//! Addresses where proxies accept origin servers, and the field by which a proxy names those of all nodes.
//!
//! ```text
//!   Uncork-Nodes: fra1.example:8443;self, ber2.example:8443, [2001:db8::1]:8443
//!                 └ this node, if it says so    └ the others
//! ```
//! In a request for a tunnel, `Uncork-Nodes: ?1` (after ALPN: `"nodes": true`) says that the origin server uses them.
//! It is a field of the response to the request for a tunnel, and of the proxy's question after ALPN. Origin servers
//! that do not know it ignore it.

use std::fmt;

/// The field. In a request for a tunnel, any value says that the origin server uses other nodes.
pub(super) const NODES: &str = "uncork-nodes";

/// Maximum number of nodes in the field; an origin server ignores more.
pub(super) const MAX: usize = 16;

/// The port of an address without one.
const PORT: u16 = 443;

/// A name or an IP address, and a port. Connections to it use TLS, and the certificate must be for this name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Address {
    /// Without the brackets of an IPv6 address.
    pub(super) host: Box<str>,
    pub(super) port: u16,
}

impl Address {
    /// Parses `HOST`, `HOST:PORT` or `[IPv6]:PORT`. Returns `None` for other characters than those of names and
    /// addresses.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
        if host.is_empty() || host.len() > 253 || !host.bytes().all(is_name) {
            return None;
        }
        let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        let port = match port {
            Some(port) => port.parse().ok().filter(|n| *n > 0 && is_number(port))?,
            None => PORT,
        };
        Some(Self { host: host.to_ascii_lowercase().into(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// What a proxy says about the nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NamedNodes {
    /// The proxy's own address.
    pub(super) own: Option<Address>,
    pub(super) others: Vec<Address>,
}

impl NamedNodes {
    /// Returns the value of the field; `None` if there is nothing to say.
    pub(super) fn value(&self) -> Option<String> {
        if self.others.is_empty() {
            return None;
        }
        let own = self.own.iter().map(|own| format!("{own};self"));
        let all: Vec<String> = own.chain(self.others.iter().map(ToString::to_string)).collect();
        Some(all.join(", "))
    }

    /// Reads the field. What is invalid, given twice, or too much is left out.
    pub(super) fn parse(value: &[u8]) -> Self {
        let mut nodes = Self::default();
        let text = std::str::from_utf8(value).unwrap_or_default();
        for entry in text.split(',').take(MAX) {
            let (address, is_own) = match entry.trim().split_once(';') {
                Some((address, parameter)) => (address.trim(), parameter.trim() == "self"),
                None => (entry.trim(), false),
            };
            let Some(address) = Address::parse(address) else { continue };
            if is_own {
                nodes.own.get_or_insert(address);
            } else if !nodes.others.contains(&address) {
                nodes.others.push(address);
            }
        }
        nodes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_one_spelling() {
        for (text, want) in [
            ("Proxy.example:8443", "proxy.example:8443"),
            ("proxy.example", "proxy.example:443"),
            ("192.0.2.1:1", "192.0.2.1:1"),
            ("[2001:db8::1]:8443", "[2001:db8::1]:8443"),
            ("[::1]", "[::1]:443"),
        ] {
            assert_eq!(Address::parse(text).expect(text).to_string(), want);
        }
        for text in [
            "",
            ":1",
            "a:",
            "a:0",
            "a:+1",
            "a:65536",
            "https://a:1",
            "[::1",
            "[::1]x",
            "[a]:1",
            "a b:1",
            "a\r\nb",
            "::1",
        ] {
            assert_eq!(Address::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_field_is_read_as_it_is_written() {
        let address = |text| Address::parse(text).unwrap();
        let nodes = NamedNodes {
            own: Some(address("fra1.example:8443")),
            others: vec![address("ber2.example:8443"), address("[2001:db8::1]:8443")],
        };
        let value = nodes.value().unwrap();
        assert_eq!(value, "fra1.example:8443;self, ber2.example:8443, [2001:db8::1]:8443");
        assert_eq!(NamedNodes::parse(value.as_bytes()), nodes);
        assert_eq!(NamedNodes::default().value(), None);
        let odd = NamedNodes::parse(b" b:1 ,, http://c:1, b:1;weight=2, d ; self, e;self, \"f\"");
        assert_eq!(odd, NamedNodes { own: Some(address("d")), others: vec![address("b:1")] });
        assert_eq!(NamedNodes::parse(b"\xff"), NamedNodes::default());
        let many: Vec<String> = (1..100).map(|port| format!("a:{port}")).collect();
        assert_eq!(NamedNodes::parse(many.join(",").as_bytes()).others.len(), MAX);
    }
}
