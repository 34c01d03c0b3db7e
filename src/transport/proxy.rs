//! The PROXY protocol, versions 1 and 2, sans-IO: a header in which a proxy names its client.
//!
//! ```text
//!   v1   "PROXY TCP4 192.0.2.1 198.51.100.7 50000 443\r\n"
//!   v2   signature (12) │ version, command │ family │ length (2) │ addresses │ more, which is skipped
//! ```
//! As in the specification by HAProxy, its `doc/proxy-protocol.txt`. The first byte distinguishes the versions, and
//! neither begins like HTTP or TLS. The caller decides which proxies to trust.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header: nginx's bound. The addresses take at most 52 bytes; the rest is for what cloud providers add.
pub(crate) const MOST: usize = 4096;
/// The longest line of version 1 (§2.1), with its end.
const LINE: usize = 107;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// A complete header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProxyHeader {
    /// Its length, in bytes.
    pub(crate) len: usize,
    /// The client. `None` if the proxy connects for itself (a health check), or for a client without a TCP address.
    /// Then the connection's own address applies.
    pub(crate) source: Option<SocketAddr>,
}

/// Parses the front of a connection. Returns `None` while it can still become a header.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<ProxyHeader>, &'static str> {
    match bytes.first() {
        None => Ok(None),
        Some(b'P') => line(bytes),
        Some(_) => binary(bytes),
    }
}

/// Parses version 1.
fn line(bytes: &[u8]) -> Result<Option<ProxyHeader>, &'static str> {
    const PREFIX: &[u8] = b"PROXY ";
    let begun = bytes.len().min(PREFIX.len());
    if bytes[..begun] != PREFIX[..begun] {
        return Err("not a PROXY header");
    }
    let front = &bytes[..bytes.len().min(LINE)];
    let Some(end) = front.windows(2).position(|pair| pair == b"\r\n") else {
        return if front.len() == LINE { Err("PROXY line too long") } else { Ok(None) };
    };
    let parsed = |source| Ok(Some(ProxyHeader { len: end + 2, source }));
    let words = std::str::from_utf8(&bytes[PREFIX.len().min(end)..end]).map_err(|_| "PROXY line not UTF-8")?;
    let mut words = words.split(' ');
    let family = words.next();
    if family == Some("UNKNOWN") {
        return parsed(None); // whatever follows (§2.1)
    }
    let mut next = || words.next().ok_or("PROXY line with too few words");
    let (source, _destination, port, destination_port) = match family {
        Some("TCP4") => (v4(next()?)?, v4(next()?)?, next()?, next()?),
        Some("TCP6") => (v6(next()?)?, v6(next()?)?, next()?, next()?),
        _ => return Err("PROXY line of an unknown family"),
    };
    let (port, _) = (number(port)?, number(destination_port)?);
    match words.next() {
        None => parsed(Some(SocketAddr::new(source, port))),
        Some(_) => Err("PROXY line with too many words"),
    }
}

fn v4(word: &str) -> Result<IpAddr, &'static str> {
    word.parse().map(|ip: Ipv4Addr| ip.into()).map_err(|_| "PROXY line with an invalid address")
}

fn v6(word: &str) -> Result<IpAddr, &'static str> {
    word.parse().map(|ip: Ipv6Addr| ip.into()).map_err(|_| "PROXY line with an invalid address")
}

fn number(word: &str) -> Result<u16, &'static str> {
    let plain = word.bytes().all(|b| b.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    word.parse().ok().filter(|_| plain).ok_or("PROXY line with an invalid port")
}

/// Parses version 2.
fn binary(bytes: &[u8]) -> Result<Option<ProxyHeader>, &'static str> {
    let begun = bytes.len().min(SIGNATURE.len());
    if bytes[..begun] != SIGNATURE[..begun] {
        return Err("not a PROXY header");
    }
    let Some(&[command, family, high, low]) = bytes.get(12..16) else { return Ok(None) };
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err("PROXY header of an unknown version or command"),
    };
    let len = 16 + usize::from(u16::from_be_bytes([high, low]));
    if len > MOST {
        return Err("PROXY header too long");
    }
    let Some(parsed) = bytes.get(16..len) else { return Ok(None) };
    const SHORT: &str = "PROXY header shorter than its addresses";
    let source = match family {
        // A proxy that connects for itself may send any addresses (§2.2).
        _ if is_local => None,
        0x11 => {
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *parsed.first_chunk().ok_or(SHORT)?;
            Some(SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([high, low])))
        }
        0x21 => {
            let addresses: &[u8; 36] = parsed.first_chunk().ok_or(SHORT)?;
            let ip: &[u8; 16] = addresses.first_chunk().ok_or(SHORT)?;
            Some(SocketAddr::new(Ipv6Addr::from(*ip).into(), u16::from_be_bytes([addresses[32], addresses[33]])))
        }
        // Unspecified; datagrams; Unix sockets.
        0x00 | 0x12 | 0x22 | 0x31 | 0x32 => None,
        _ => return Err("PROXY header of an unknown family"),
    };
    Ok(Some(ProxyHeader { len, source }))
}

/// Checks that splitting the input changes nothing, and that a header is not longer than the input.
///
/// # Panics
/// If that does not hold.
#[cfg(any(test, fuzzing, feature = "__internals"))]
pub fn fuzz(data: &[u8]) {
    let whole = parse(data);
    for end in 0..data.len().min(MOST) {
        match parse(&data[..end]) {
            Ok(None) => {}
            early => {
                assert_eq!(early, whole, "what was decided stays decided, {end} of {}", data.len());
                break;
            }
        }
    }
    match whole {
        Ok(Some(parsed)) => assert!(parsed.len <= data.len() && parsed.len <= MOST),
        Ok(None) => assert!(data.len() < MOST, "a header has an end"),
        Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, parsed: &[u8]) -> Vec<u8> {
        let len = u16::try_from(parsed.len()).expect("short").to_be_bytes();
        [SIGNATURE, &[command, family][..], &len, parsed].concat()
    }

    /// Name, header, and the client it names.
    type Row = (&'static str, Vec<u8>, Result<Option<&'static str>, ()>);

    const V4: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 7, 0xc3, 0x50, 0x01, 0xbb];
    const V6: &[u8] = &[
        0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
        0, 80, 1, 0xbb,
    ];

    fn rows() -> Vec<Row> {
        let text = |line: &str| line.as_bytes().to_vec();
        let with_more = [V4, &[0x04, 0, 2, 0, 0]].concat();
        #[rustfmt::skip]
        let rows = vec![
            // name                header                                                          source
            ("v4",                 text("PROXY TCP4 192.0.2.1 198.51.100.7 50000 443\r\n"),         Ok(Some("192.0.2.1:50000"))),
            ("v6",                 text("PROXY TCP6 2001:db8::1 2001:db8::2 80 443\r\n"),           Ok(Some("[2001:db8::1]:80"))),
            ("port zero",          text("PROXY TCP4 192.0.2.1 198.51.100.7 0 443\r\n"),             Ok(Some("192.0.2.1:0"))),
            ("unknown",            text("PROXY UNKNOWN\r\n"),                                       Ok(None)),
            ("unknown, and more",  text("PROXY UNKNOWN ffff::1 any thing\r\n"),                     Ok(None)),
            ("another word",       text("PROXIED TCP4 192.0.2.1 198.51.100.7 1 2\r\n"),             Err(())),
            ("udp",                text("PROXY UDP4 192.0.2.1 198.51.100.7 1 2\r\n"),               Err(())),
            ("lower case",         text("proxy TCP4 192.0.2.1 198.51.100.7 1 2\r\n"),               Err(())),
            ("v6 as v4",           text("PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n"),              Err(())),
            ("v4 as v6",           text("PROXY TCP6 192.0.2.1 198.51.100.7 1 2\r\n"),               Err(())),
            ("octal",              text("PROXY TCP4 192.0.2.01 198.51.100.7 1 2\r\n"),              Err(())),
            ("port too large",     text("PROXY TCP4 192.0.2.1 198.51.100.7 65536 2\r\n"),           Err(())),
            ("port with a sign",   text("PROXY TCP4 192.0.2.1 198.51.100.7 +1 2\r\n"),              Err(())),
            ("port with a zero",   text("PROXY TCP4 192.0.2.1 198.51.100.7 01 2\r\n"),              Err(())),
            ("two spaces",         text("PROXY TCP4  192.0.2.1 198.51.100.7 1 2\r\n"),              Err(())),
            ("too few",            text("PROXY TCP4 192.0.2.1 198.51.100.7 1\r\n"),                 Err(())),
            ("too many",           text("PROXY TCP4 192.0.2.1 198.51.100.7 1 2 3\r\n"),             Err(())),
            ("nothing",            text("PROXY \r\n"),                                              Err(())),
            ("bare LF",            text(&format!("PROXY UNKNOWN\n{}", "x".repeat(LINE))),           Err(())),
            ("no end",             text(&format!("PROXY {}", "x".repeat(LINE))),                    Err(())),
            ("http",               text("GET / HTTP/1.1\r\n\r\n"),                                  Err(())),
            ("post",               text("POST / HTTP/1.1\r\n\r\n"),                                 Err(())),
            ("tls",                vec![22, 3, 1, 0, 200],                                          Err(())),
            ("v2 v4",              v2(0x21, 0x11, V4),                                              Ok(Some("192.0.2.1:50000"))),
            ("v2 v6",              v2(0x21, 0x21, V6),                                              Ok(Some("[2001:db8::1]:80"))),
            ("v2 more",            v2(0x21, 0x11, &with_more),                                      Ok(Some("192.0.2.1:50000"))),
            ("v2 local",           v2(0x20, 0x00, b""),                                             Ok(None)),
            ("v2 local, address",  v2(0x20, 0x11, V4),                                              Ok(None)),
            ("v2 local, anything", v2(0x20, 0xff, b"?"),                                            Ok(None)),
            ("v2 unspecified",     v2(0x21, 0x00, b"??"),                                           Ok(None)),
            ("v2 datagram",        v2(0x21, 0x12, V4),                                              Ok(None)),
            ("v2 unix",            v2(0x21, 0x31, &[0; 216]),                                       Ok(None)),
            ("v2 short v4",        v2(0x21, 0x11, &V4[..11]),                                       Err(())),
            ("v2 short v6",        v2(0x21, 0x21, V4),                                              Err(())),
            ("v2 family",          v2(0x21, 0x41, V4),                                              Err(())),
            ("v2 version",         v2(0x31, 0x11, V4),                                              Err(())),
            ("v2 command",         v2(0x22, 0x11, V4),                                              Err(())),
            ("v2 longest",         v2(0x21, 0x11, &[&[7; 12][..], &[0; MOST - 28]].concat()),        Ok(Some("7.7.7.7:1799"))),
            ("v2 too long",        v2(0x21, 0x11, &[0; MOST - 15]),                                 Err(())),
        ];
        rows
    }

    #[test]
    fn headers_are_read_however_they_arrive() {
        for (name, header, want) in rows() {
            let want = want.map(|source| source.map(|addr| addr.parse::<SocketAddr>().expect("an address")));
            assert_eq!(parse(&header).map(|parsed| parsed.expect("whole").source).map_err(drop), want, "{name}");
            let followed = [&header[..], b"GET / HTTP/1.1\r\n"].concat();
            if want.is_ok() {
                assert_eq!(
                    parse(&followed).map(|parsed| parsed.map(|parsed| parsed.len)),
                    Ok(Some(header.len())),
                    "{name}"
                );
                for end in 0..header.len() {
                    assert_eq!(parse(&header[..end]), Ok(None), "{name}, {end} bytes of it");
                }
            }
            fuzz(&header);
            fuzz(&followed);
        }
    }
}
