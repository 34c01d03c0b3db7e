//! Translates a request of HTTP/2 into HTTP/1.1.
//!
//! ```text
//!   :method POST  :path /a                     POST /a HTTP/1.1
//!   :authority app.example            ──▶      Host: app.example
//!   content-length: 5                          Connection: close
//!   cookie: a=1   cookie: b=2                  Content-Length: 5
//!                                              cookie: a=1; b=2
//!
//!   :method CONNECT  :protocol websocket       GET /chat HTTP/1.1
//!   :path /chat                       ──▶      Connection: upgrade
//!                                              Upgrade: websocket
//!                                              Sec-WebSocket-Key: …     (HTTP/2 does not need it)
//! ```
//! h2 has checked the pseudo-header fields, and that no field of one hop is there. A request that HTTP/1.1 cannot
//! express, or would understand differently, resets its stream.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, Method, request::Parts};
use uncork::h1::{
    Headers, Misbehaved,
    write::{BodyLength, ConnectionOption, RequestLine, request_head},
};

/// The framing of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is no body.
    None,
    Length,
    Chunked,
    /// The stream leaves HTTP when the handler has accepted that.
    Raw,
}

/// A request that can be served.
#[derive(Debug)]
pub(super) struct ParsedRequest {
    pub(super) head: Vec<u8>,
    pub(super) framing: Framing,
    /// The length of the body, if `framing` is `Length`.
    pub(super) length: u64,
    /// The method in HTTP/1.1.
    pub(super) method: Box<str>,
    /// It requests another protocol, by extended CONNECT (RFC 8441).
    pub(super) upgrade: bool,
}

/// Returns `true` for a field that is written here, or that is for one hop only.
fn ends_here(name: &str) -> bool {
    const OWN: [&str; 10] = [
        "host",
        "content-length",
        "connection",
        "transfer-encoding",
        "keep-alive",
        "proxy-connection",
        "upgrade",
        "te",
        "expect",
        "cookie",
    ];
    OWN.contains(&name)
}

/// Translates a request. `ended`: it has no body.
///
/// # Errors
/// Returns the reason why it cannot be translated.
pub(super) fn parse(parts: &Parts, ended: bool) -> Result<ParsedRequest, &'static str> {
    let protocol = parts.extensions.get::<h2::ext::Protocol>().map(h2::ext::Protocol::as_str);
    let connects = parts.method == Method::CONNECT;
    let upgrade = connects && protocol.is_some();
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    let host = match authority {
        Some(authority) => authority,
        None => parts.headers.get("host").and_then(|host| host.to_str().ok()).ok_or("missing host")?,
    };
    let path = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let (method, target) = match connects {
        true if upgrade => ("GET", path),
        true => ("CONNECT", host),
        false => (parts.method.as_str(), path),
    };
    let (framing, length) = match declared(&parts.headers)? {
        _ if connects => (Framing::Raw, BodyLength::None),
        None if ended => (Framing::None, BodyLength::None),
        Some(0) if ended => (Framing::None, BodyLength::Known(0)),
        Some(_) if ended => return Err("the body ends before its length"),
        Some(n) => (Framing::Length, BodyLength::Known(n)),
        None => (Framing::Chunked, BodyLength::Chunked),
    };
    let mut fields = fields(&parts.headers)?;
    if let Some(protocol) = protocol.filter(|_| upgrade) {
        offer(&mut fields, protocol)?;
    }
    let line = RequestLine {
        method,
        target,
        host,
        fields: fields.as_wire(),
        length,
        expect: false,
        // One request for each stream. An upgrade uses up the connection as well.
        connection: match connects {
            true if upgrade => Some(ConnectionOption::Upgrade),
            true => None,
            false => Some(ConnectionOption::Close),
        },
    };
    let mut head = Vec::new();
    request_head(&line, &mut head).map_err(Misbehaved::rule)?;
    let length = if let BodyLength::Known(n) = length { n } else { 0 };
    Ok(ParsedRequest { head, framing, length, method: method.into(), upgrade })
}

/// Returns the declared length of the body.
fn declared(map: &HeaderMap) -> Result<Option<u64>, &'static str> {
    let mut values = map.get_all(http::header::CONTENT_LENGTH).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(one), None) => {
            let length = one.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
            length.and_then(|text| text.parse().ok()).map(Some).ok_or("invalid length")
        }
        _ => Err("more than one length"),
    }
}

fn fields(map: &HeaderMap) -> Result<Headers, &'static str> {
    const BAD: &str = "a field that HTTP/1.1 does not allow";
    let mut fields = Headers::new();
    for (name, value) in map.iter().filter(|(name, _)| !ends_here(name.as_str())) {
        fields.append(name.as_str(), value.as_bytes()).map_err(|_| BAD)?;
    }
    // RFC 9113 §8.2.3: cookie crumbs are joined.
    let crumbs: Vec<&[u8]> = map.get_all(http::header::COOKIE).iter().map(http::HeaderValue::as_bytes).collect();
    if !crumbs.is_empty() {
        fields.append("cookie", crumbs.join(&b"; "[..])).map_err(|_| BAD)?;
    }
    Ok(fields)
}

/// Offers the upgrade to `protocol`, as HTTP/1.1 does.
fn offer(fields: &mut Headers, protocol: &str) -> Result<(), &'static str> {
    fields.insert("Upgrade", protocol).map_err(|_| "invalid protocol name")?;
    if protocol.eq_ignore_ascii_case("websocket") {
        let mut key = [0; 16];
        getrandom::fill(&mut key).map_err(|_| "cannot read random bytes")?;
        // Both are valid values.
        let _ = fields.insert("Sec-WebSocket-Key", BASE64_STANDARD.encode(key));
        if fields.get("sec-websocket-version").is_none() {
            let _ = fields.insert("Sec-WebSocket-Version", "13");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(method: &str, uri: &str, fields: &[(&'static str, &str)]) -> Parts {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    fn head(parts: &Parts, ended: bool) -> String {
        String::from_utf8(parse(parts, ended).expect("translated").head).expect("text")
    }

    #[test]
    fn a_request_is_written_as_a_client_of_1_1_writes_it() {
        let fields =
            [("accept", "*/*"), ("cookie", "a=1"), ("te", "trailers"), ("cookie", "b=2"), ("expect", "100-continue")];
        assert_eq!(
            head(&parts("GET", "https://app.example/a?b=c%20d", &fields), true),
            "GET /a?b=c%20d HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\naccept: */*\r\ncookie: a=1; b=2\r\n\r\n"
        );
        assert_eq!(
            head(&parts("OPTIONS", "https://app.example/", &[]), true),
            "OPTIONS / HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn a_body_is_framed_by_its_length_or_in_chunks() {
        let cases = [
            (None, true, Framing::None, ""),
            (None, false, Framing::Chunked, "Transfer-Encoding: chunked\r\n"),
            (Some("5"), false, Framing::Length, "Content-Length: 5\r\n"),
            (Some("0"), true, Framing::None, "Content-Length: 0\r\n"),
        ];
        for (length, ended, framing, line) in cases {
            let fields: Vec<_> = length.map(|length| ("content-length", length)).into_iter().collect();
            let parsed = parse(&parts("POST", "http://a/", &fields), ended).expect("translated");
            assert_eq!(parsed.framing, framing);
            let head = String::from_utf8(parsed.head).expect("text");
            assert_eq!(head, format!("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{line}\r\n"));
        }
    }

    #[test]
    fn extended_connect_is_an_upgrade() {
        let mut parts = parts("CONNECT", "https://a/chat", &[("sec-websocket-protocol", "x")]);
        parts.extensions.insert(h2::ext::Protocol::from_static("websocket"));
        let parsed = parse(&parts, false).expect("translated");
        assert!(parsed.upgrade && parsed.framing == Framing::Raw && &*parsed.method == "GET");
        let head = String::from_utf8(parsed.head).expect("text");
        assert!(head.starts_with("GET /chat HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n"), "{head}");
        for line in ["sec-websocket-protocol: x\r\n", "Upgrade: websocket\r\n", "Sec-WebSocket-Version: 13\r\n"] {
            assert!(head.contains(line), "{head}");
        }
    }

    #[test]
    fn requests_that_1_1_would_understand_differently_are_rejected() {
        for (method, uri, fields) in [
            ("GET", "https://a/", &[("content-length", "+5")][..]),
            ("GET", "https://a/", &[("content-length", "5"), ("content-length", "5")]),
            ("GET", "https://a/", &[("content-length", "18446744073709551616")]),
            ("GET", "/", &[]),
            ("GET", "https://user@a/", &[]),
        ] {
            assert!(parse(&parts(method, uri, fields), false).is_err(), "{method} {uri} {fields:?}");
        }
    }
}
