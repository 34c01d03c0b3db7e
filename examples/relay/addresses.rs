//! The client's address and scheme, from the fields X-Forwarded-For and Forwarded of trusted proxies.
//!
//! Both fields are lists to which each proxy appends, so only the right end can be trusted. The list is read from
//! there: addresses of trusted proxies are skipped, and the first other address is the client. Everything further left
//! comes from the client itself. If the list cannot be parsed up to that point, it is ignored, and the connection's
//! peer is the client.
//!
//! The same proxy gives the client's scheme: by `proto` beside `for`, or by X-Forwarded-Proto.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Deserializer, de::Error};
use uncork::PeerAddr;

use super::values::ForwardedField;

/// A network of addresses, or all clients of Unix sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    Ip(IpNet),
    Unix,
}

impl Network {
    fn contains(&self, peer: &PeerAddr) -> bool {
        match (self, peer.ip()) {
            (Self::Unix, None) => true,
            (Self::Ip(network), Some(ip)) => network.contains(&ip),
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        let invalid = || format!("invalid network {text:?}: expected 10.0.0.0/8, 192.0.2.1, 2001:db8::/32 or unix");
        let network = match text.parse::<IpAddr>() {
            Ok(ip) => ip.to_canonical().into(),
            Err(_) => text.parse::<IpNet>().ok().and_then(canonical).ok_or_else(invalid)?,
        };
        if network != network.trunc() {
            let len = network.prefix_len();
            return Err(format!("invalid network {text:?}: there are bits set behind the first {len}"));
        }
        Ok(Self::Ip(network))
    }
}

/// Returns the IPv4 network for one of IPv4-mapped addresses; `None` if the prefix ends within the mapping.
fn canonical(network: IpNet) -> Option<IpNet> {
    match (network, network.addr().to_canonical()) {
        (IpNet::V6(_), IpAddr::V4(ip)) => {
            let len = network.prefix_len().checked_sub(96)?;
            Ipv4Net::new(ip, len).ok().map(IpNet::V4)
        }
        _ => Some(network),
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(network) => network.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// Returns `true` if the peer is a trusted proxy.
pub(crate) fn is_trusted(trusted: &[Network], peer: &PeerAddr) -> bool {
    trusted.iter().any(|network| network.contains(peer))
}

/// What a trusted proxy states about its client; `None` for what it does not state, or what cannot be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) peer: Option<PeerAddr>,
    /// `true` if the client uses HTTPS to the proxy.
    pub(crate) https: Option<bool>,
}

/// Returns the client of a trusted proxy, from the values of its fields. The fields of other peers are ignored.
pub(crate) fn client<'a>(
    peer: &PeerAddr,
    values: impl Fn(&str) -> Vec<&'a [u8]>,
    trusted: &[Network],
    field: ForwardedField,
) -> Client {
    if !is_trusted(trusted, peer) {
        return Client::default();
    }
    let plain = |entries: &[&[u8]]| {
        let entries = entries.iter().flat_map(|value| value.split(|&b| b == b','));
        let client = last_untrusted(entries.map(|entry| Some((address(entry)?, ()))), trusted);
        // Of several fields, it is unknown which proxy wrote which.
        let https = if let [value] = values("x-forwarded-proto")[..] { is_https(value) } else { None };
        Client { peer: client.map(|(peer, _)| peer), https }
    };
    let forwarded = |entries: &[&[u8]]| {
        let entries = entries.iter().flat_map(|value| members(value)).map(forwarded_element);
        let client = last_untrusted(entries, trusted);
        Client { peer: client.map(|(peer, _)| peer), https: client.and_then(|(_, https)| https) }
    };
    let (plain_values, forwarded_values) = (values("x-forwarded-for"), values("forwarded"));
    match field {
        ForwardedField::None => Client::default(),
        ForwardedField::XForwardedFor => plain(&plain_values),
        ForwardedField::Forwarded => forwarded(&forwarded_values),
        ForwardedField::Any if forwarded_values.is_empty() => plain(&plain_values),
        ForwardedField::Any if plain_values.is_empty() => forwarded(&forwarded_values),
        // A proxy writes one of the fields and passes on the other as the client sent it.
        ForwardedField::Any => {
            let (one, other) = (plain(&plain_values), forwarded(&forwarded_values));
            let ip = |client: &Client| client.peer.and_then(|peer| peer.ip());
            Client {
                peer: one.peer.filter(|_| ip(&one) == ip(&other)),
                https: one.https.filter(|https| other.https == Some(*https)),
            }
        }
    }
}

/// Returns the first entry from the right that is not a trusted proxy, or else the leftmost one.
fn last_untrusted<T>(
    entries: impl Iterator<Item = Option<(PeerAddr, T)>>,
    trusted: &[Network],
) -> Option<(PeerAddr, T)> {
    let entries: Vec<Option<(PeerAddr, T)>> = entries.collect();
    let mut client = None;
    for entry in entries.into_iter().rev() {
        let (peer, more) = entry?;
        let is_proxy = is_trusted(trusted, &peer);
        client = Some((peer, more));
        if !is_proxy {
            break;
        }
    }
    client
}

/// Splits Forwarded at commas outside of quotes. An open quote means that a client tried to hide what the proxy
/// appended; then nothing of the field can be trusted.
fn members(value: &[u8]) -> Vec<&[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    let members = value.split(|&b| {
        if std::mem::take(&mut escaped) {
            return false;
        }
        match b {
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        b == b',' && !quoted
    });
    let members: Vec<&[u8]> = members.collect();
    if quoted { vec![b""] } else { members }
}

/// Parses `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn address(text: &[u8]) -> Option<PeerAddr> {
    let text = std::str::from_utf8(text).ok()?.trim_matches([' ', '\t']);
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let ip = bare.parse::<IpAddr>().map(|ip| (ip, 0).into());
    ip.or_else(|_| text.parse()).ok().map(PeerAddr::tcp)
}

/// Returns `for` and `proto` of one member of Forwarded; `None` if `for` is not an address (`unknown`, `_hidden`).
fn forwarded_element(member: &[u8]) -> Option<(PeerAddr, Option<bool>)> {
    let member = std::str::from_utf8(member).ok()?;
    let parameter = |wanted: &str| {
        member.split(';').find_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            let value = value.trim_matches([' ', '\t']);
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
            name.trim_matches([' ', '\t']).eq_ignore_ascii_case(wanted).then_some(value.as_bytes())
        })
    };
    Some((address(parameter("for")?)?, parameter("proto").and_then(is_https)))
}

/// Returns `true` for `https`, `false` for `http`, `None` for anything else.
fn is_https(scheme: &[u8]) -> Option<bool> {
    match scheme.trim_ascii().to_ascii_lowercase().as_slice() {
        b"https" => Some(true),
        b"http" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use uncork::h1::Headers;

    use super::*;

    fn networks(texts: &[&str]) -> Vec<Network> {
        texts.iter().map(|text| text.parse().expect("a network")).collect()
    }

    fn peer(ip: &str) -> PeerAddr {
        PeerAddr::tcp((ip.parse::<IpAddr>().expect("an address"), 1).into())
    }

    #[test]
    fn networks_hold_their_addresses_and_no_other() {
        #[rustfmt::skip]
        let rows = [
            ("10.0.0.0/8",       "10.255.0.1",       true),
            ("10.0.0.0/8",       "11.0.0.0",         false),
            ("192.0.2.1",        "192.0.2.1",        true),
            ("192.0.2.1",        "192.0.2.2",        false),
            ("0.0.0.0/0",        "203.0.113.9",      true),
            ("0.0.0.0/0",        "2001:db8::1",      false),
            ("2001:db8::/32",    "2001:db8:1::1",    true),
            ("2001:db8::/32",    "2001:db9::1",      false),
            ("::/0",             "2001:db8::1",      true),
            ("::ffff:10.0.0.1",  "10.0.0.1",         true),
            ("::ffff:10.0.0.0/104", "10.9.9.9",      true),
            ("10.0.0.0/8",       "::ffff:10.0.0.1",  true),
        ];
        for (network, ip, want) in rows {
            assert_eq!(is_trusted(&networks(&[network]), &peer(ip)), want, "{ip} in {network}");
        }
        assert!(is_trusted(&networks(&["unix"]), &PeerAddr::Unix));
        assert!(!is_trusted(&networks(&["0.0.0.0/0", "::/0"]), &PeerAddr::Unix));
        for bad in [
            "",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.1/8",
            "2001:db8::1/64",
            "example.org",
            "10.0.0.0/-1",
            "::ffff:10.0.0.0/8",
        ] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
        for text in ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32", "unix", "0.0.0.0/0"] {
            assert_eq!(text.parse::<Network>().expect("a network").to_string(), text);
        }
    }

    /// Peer, fields, and the expected client.
    type Row<T> = (&'static str, &'static [(&'static str, &'static str)], Option<T>);

    #[test]
    fn only_the_right_end_of_a_list_is_believed() {
        const XFF: &str = "X-Forwarded-For";
        #[rustfmt::skip]
        let rows: &[Row<&str>] = &[
            // peer        fields                                                          client
            ("10.0.0.1",   &[(XFF, "192.0.2.1")],                                          Some("192.0.2.1")),
            ("10.0.0.1",   &[(XFF, "203.0.113.66, 192.0.2.1")],                            Some("192.0.2.1")),
            ("10.0.0.1",   &[(XFF, "192.0.2.1, 10.0.0.2,10.0.0.3")],                       Some("192.0.2.1")),
            ("10.0.0.1",   &[(XFF, "203.0.113.66"), (XFF, "192.0.2.1")],                   Some("192.0.2.1")),
            ("10.0.0.1",   &[(XFF, "10.0.0.9, 10.0.0.2")],                                 Some("10.0.0.9")),
            ("10.0.0.1",   &[(XFF, "nonsense, 192.0.2.1")],                                Some("192.0.2.1")),
            ("10.0.0.1",   &[(XFF, "192.0.2.1, nonsense")],                                None),
            ("10.0.0.1",   &[(XFF, "192.0.2.1, ")],                                        None),
            ("10.0.0.1",   &[(XFF, "")],                                                   None),
            ("10.0.0.1",   &[],                                                            None),
            ("10.0.0.1",   &[(XFF, "192.0.2.1:4711")],                                     Some("192.0.2.1")),
            ("10.0.0.1",   &[(XFF, "2001:db8::1")],                                        Some("2001:db8::1")),
            ("10.0.0.1",   &[(XFF, "[2001:db8::1]:80")],                                   Some("2001:db8::1")),
            ("10.0.0.1",   &[(XFF, "::ffff:192.0.2.1")],                                   Some("192.0.2.1")),
            ("10.0.0.1",   &[(XFF, "192.0.2.1, ::ffff:10.0.0.2")],                         Some("192.0.2.1")),
            ("192.0.2.9",  &[(XFF, "192.0.2.1")],                                          None),
            ("10.0.0.1",   &[("Forwarded", "for=192.0.2.1;proto=https;by=10.0.0.1")],      Some("192.0.2.1")),
            ("10.0.0.1",   &[("Forwarded", "For=\"[2001:db8::1]:4711\"")],                 Some("2001:db8::1")),
            ("10.0.0.1",   &[("Forwarded", "for=203.0.113.66, proto=http; for=192.0.2.1")], Some("192.0.2.1")),
            ("10.0.0.1",   &[("Forwarded", "for=\"x,for=203.0.113.66\", for=192.0.2.1")],  Some("192.0.2.1")),
            ("10.0.0.1",   &[("Forwarded", "for=203.0.113.66;x=\", for=192.0.2.1")],       None),
            ("10.0.0.1",   &[("Forwarded", "for=203.0.113.66;x=\", for=\"192.0.2.1\"")],   None),
            ("10.0.0.1",   &[("Forwarded", "x=\"\\\""), ("Forwarded", "for=192.0.2.1")],   Some("192.0.2.1")),
            ("10.0.0.1",   &[("Forwarded", "for=192.0.2.1, for=unknown")],                 None),
            ("10.0.0.1",   &[("Forwarded", "for=192.0.2.1, for=_hidden")],                 None),
            ("10.0.0.1",   &[("Forwarded", "for=192.0.2.1, proto=http")],                  None),
            ("10.0.0.1",   &[("Forwarded", "for=192.0.2.1"), (XFF, "192.0.2.1")],          Some("192.0.2.1")),
            ("10.0.0.1",   &[("Forwarded", "for=203.0.113.66"), (XFF, "192.0.2.1")],       None),
        ];
        let trusted = networks(&["10.0.0.0/8"]);
        for (from, fields, want) in rows {
            let mut headers = Headers::new();
            for (name, value) in *fields {
                headers.append(name, value).expect("a field");
            }
            let values = |name: &str| -> Vec<&[u8]> {
                headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
            };
            let found = client(&peer(from), values, &trusted, ForwardedField::Any);
            let ip = found.peer.and_then(|client| client.ip()).map(|ip| ip.to_string());
            assert_eq!(ip.as_deref(), *want, "{from}, {fields:?}");
        }
    }

    #[test]
    fn a_proxy_says_whether_its_client_speaks_https() {
        const XFF: (&str, &str) = ("X-Forwarded-For", "192.0.2.1");
        const XFP: &str = "X-Forwarded-Proto";
        #[rustfmt::skip]
        let rows: &[Row<bool>] = &[
            ("10.0.0.1",  &[XFF, (XFP, "https")],                                       Some(true)),
            ("10.0.0.1",  &[XFF, (XFP, "http")],                                        Some(false)),
            ("10.0.0.1",  &[(XFP, " HTTPS ")],                                          Some(true)),
            ("10.0.0.1",  &[XFF],                                                       None),
            ("10.0.0.1",  &[XFF, (XFP, "wss")],                                         None),
            ("10.0.0.1",  &[XFF, (XFP, "https, http")],                                 None),
            ("10.0.0.1",  &[XFF, (XFP, "https"), (XFP, "https")],                       None),
            ("192.0.2.9", &[XFF, (XFP, "https")],                                       None),
            ("10.0.0.1",  &[("Forwarded", "for=192.0.2.1;proto=https")],                Some(true)),
            ("10.0.0.1",  &[("Forwarded", "proto=\"http\";for=192.0.2.1")],             Some(false)),
            ("10.0.0.1",  &[("Forwarded", "for=203.0.113.66;proto=https, for=192.0.2.1")], None),
            ("10.0.0.1",  &[("Forwarded", "for=192.0.2.1;proto=https, for=10.0.0.2;proto=http")], Some(true)),
            ("10.0.0.1",  &[("Forwarded", "for=192.0.2.1;proto=http"), (XFP, "https")], Some(false)),
            ("10.0.0.1",  &[("Forwarded", "for=192.0.2.1;proto=http"), XFF, (XFP, "https")], None),
            ("10.0.0.1",  &[("Forwarded", "for=192.0.2.1;proto=https"), XFF, (XFP, "https")], Some(true)),
        ];
        let trusted = networks(&["10.0.0.0/8"]);
        for (from, fields, want) in rows {
            let values = |name: &str| -> Vec<&[u8]> {
                fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_bytes()).collect()
            };
            assert_eq!(client(&peer(from), values, &trusted, ForwardedField::Any).https, *want, "{from}, {fields:?}");
            let values = |_: &str| -> Vec<&[u8]> { vec![b"https"] };
            assert_eq!(client(&peer(from), values, &trusted, ForwardedField::None), Client::default());
        }
    }
}
