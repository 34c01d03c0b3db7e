//! Who a client is: the networks whose word is believed, and what they say in X-Forwarded-For or Forwarded.
//!
//! Both fields are lists that each proxy on the way appends to, so only the right end of one can be believed. It is read
//! from there: names of trusted proxies are passed over, and the first other one is the client. Whatever it says further
//! left is its own word. A list that can't be read up to there says nothing, and the connection's own peer is the client.
//!
//! Whether that client speaks HTTPS, the same proxy says: by `proto` beside `for`, or by X-Forwarded-Proto.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Deserializer, de::Error};
use uncork::PeerAddr;

use super::values::ForwardedField;

/// A network of addresses, or everybody on a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    Ip(IpAddr, u8),
    Unix,
}

impl Network {
    fn contains(&self, peer: &PeerAddr) -> bool {
        match (self, peer.ip()) {
            (Self::Unix, None) => true,
            (Self::Ip(IpAddr::V4(net), len), Some(IpAddr::V4(ip))) => {
                (net.to_bits() ^ ip.to_bits()).checked_shr(32 - u32::from(*len)).unwrap_or(0) == 0
            }
            (Self::Ip(IpAddr::V6(net), len), Some(IpAddr::V6(ip))) => {
                (net.to_bits() ^ ip.to_bits()).checked_shr(128 - u32::from(*len)).unwrap_or(0) == 0
            }
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
        let wrong = || format!("{text:?} is no network: give one as 10.0.0.0/8, 192.0.2.1, 2001:db8::/32 or unix");
        let (ip, len) = text.split_once('/').map_or((text, None), |(ip, len)| (ip, Some(len)));
        let given: IpAddr = ip.parse().map_err(|_| wrong())?;
        let (ip, bits, most) = match given.to_canonical() {
            ip @ IpAddr::V4(_) if given.is_ipv6() => (ip, 96, 32),
            ip @ IpAddr::V4(_) => (ip, 0, 32),
            ip @ IpAddr::V6(_) => (ip, 0, 128),
        };
        let len = match len {
            None => most,
            // Of a v4 address in the clothes of v6, the network is that of the former.
            Some(len) => len.parse::<u8>().ok().and_then(|len| len.checked_sub(bits)).ok_or_else(wrong)?,
        };
        let host = match ip {
            IpAddr::V4(ip) => u128::from(ip.to_bits()) << 96,
            IpAddr::V6(ip) => ip.to_bits(),
        };
        if len > most {
            return Err(wrong());
        }
        if host.checked_shl(len.into()).unwrap_or(0) != 0 {
            return Err(format!("{text:?} is no network: there are bits set behind the first {len}"));
        }
        Ok(Self::Ip(ip, len))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip, len) => write!(f, "{ip}/{len}"),
            Self::Unix => f.write_str("unix"),
        }
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// Whether one of them is a trusted proxy.
pub(crate) fn is_trusted(trusted: &[Network], peer: &PeerAddr) -> bool {
    trusted.iter().any(|network| network.contains(peer))
}

/// What a trusted proxy says of its client; what it does not say, or nobody can believe, is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) peer: Option<PeerAddr>,
    /// Whether that one speaks HTTPS with the proxy.
    pub(crate) https: Option<bool>,
}

/// For whom a trusted proxy asks, by the values of its fields. Of a peer that is not trusted, nothing is believed.
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
        let client = last_stranger(entries.map(|entry| Some((address(entry)?, ()))), trusted);
        // Of several nobody knows which proxy has written which.
        let https = if let [one] = values("x-forwarded-proto")[..] { is_https(one) } else { None };
        Client { peer: client.map(|(peer, _)| peer), https }
    };
    let forwarded = |entries: &[&[u8]]| {
        let entries = entries.iter().flat_map(|value| members(value)).map(forwarded_element);
        let client = last_stranger(entries, trusted);
        Client { peer: client.map(|(peer, _)| peer), https: client.and_then(|(_, https)| https) }
    };
    let (plain_values, forwarded_values) = (values("x-forwarded-for"), values("forwarded"));
    match field {
        ForwardedField::None => Client::default(),
        ForwardedField::XForwardedFor => plain(&plain_values),
        ForwardedField::Forwarded => forwarded(&forwarded_values),
        ForwardedField::Any if forwarded_values.is_empty() => plain(&plain_values),
        ForwardedField::Any if plain_values.is_empty() => forwarded(&forwarded_values),
        // A proxy writes one of them, and hands on what its client has made of the other.
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

/// From the right: the first that is no proxy of ours, or else the last there is.
fn last_stranger<T>(
    entries: impl Iterator<Item = Option<(PeerAddr, T)>>,
    trusted: &[Network],
) -> Option<(PeerAddr, T)> {
    let entries: Vec<Option<(PeerAddr, T)>> = entries.collect();
    let mut client = None;
    for entry in entries.into_iter().rev() {
        let (peer, more) = entry?;
        let is_ours = is_trusted(trusted, &peer);
        client = Some((peer, more));
        if !is_ours {
            break;
        }
    }
    client
}

/// The members of Forwarded: what stands between commas, those in quotes excepted. If a quote does not end, a client has
/// tried to swallow what the proxy has added, and nothing of it can be believed.
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

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn address(text: &[u8]) -> Option<PeerAddr> {
    let text = std::str::from_utf8(text).ok()?.trim_matches([' ', '\t']);
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let ip = bare.parse::<IpAddr>().map(|ip| (ip, 0).into());
    ip.or_else(|_| text.parse()).ok().map(PeerAddr::tcp)
}

/// `for` and `proto` of one member of Forwarded. Words that are no address (`unknown`, `_hidden`) say nothing.
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

/// Whether a scheme is that of HTTPS, if it is one of the two there are.
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

    /// Who comes, the fields, and who it is.
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
