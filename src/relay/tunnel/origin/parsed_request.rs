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
//! The rules of HTTP/2 were checked before. A request that HTTP/1.1 cannot express, or would understand differently,
//! resets its stream.

use uncork::h1::{
    Headers, Misbehaved,
    write::{BodyLength, ConnectionOption, RequestLine, request_head},
};

use crate::h2::request::Words;

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
    const OWN: [&str; 9] = [
        "host",
        "content-length",
        "connection",
        "transfer-encoding",
        "keep-alive",
        "proxy-connection",
        "upgrade",
        "te",
        "expect",
    ];
    OWN.contains(&name)
}

/// The head of a request of another protocol, in the words of HTTP/1.1.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub(super) method: &'a str,
    pub(super) target: &'a str,
    pub(super) host: &'a str,
    pub(super) fields: Vec<(&'a str, &'a [u8])>,
    /// It requests the protocol that the field `Upgrade` names.
    pub(super) upgrade: bool,
}

impl<'a> Parts<'a> {
    /// Returns the parts of a request of HTTP/2.
    pub(super) fn of_stream(words: &Words<'a>) -> Self {
        let fields: Vec<_> = words.fields().collect();
        // It was checked as text.
        let host = fields.first().and_then(|(_, host)| std::str::from_utf8(host).ok()).unwrap_or_default();
        Self { method: words.method(), target: words.target(), host, upgrade: words.is_upgrade(), fields }
    }

    /// Returns the value of a field, the last one if there are several.
    pub(super) fn last(&self, name: &str) -> Option<&'a [u8]> {
        self.fields.iter().rev().find(|(own, _)| *own == name).map(|(_, value)| *value)
    }
}

/// Translates a request. `ended`: it has no body.
///
/// # Errors
/// Returns the reason why it cannot be translated.
pub(super) fn parse(parts: &Parts<'_>, ended: bool) -> Result<ParsedRequest, &'static str> {
    let &Parts { method, target, host, upgrade, .. } = parts;
    let connects = upgrade || method == "CONNECT";
    let (framing, length) = match declared(parts)? {
        _ if connects => (Framing::Raw, BodyLength::None),
        None if ended => (Framing::None, BodyLength::None),
        Some(0) if ended => (Framing::None, BodyLength::Known(0)),
        Some(_) if ended => return Err("the body ends before its length"),
        Some(n) => (Framing::Length, BodyLength::Known(n)),
        None => (Framing::Chunked, BodyLength::Chunked),
    };
    let fields = fields(parts)?;
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
fn declared(parts: &Parts<'_>) -> Result<Option<u64>, &'static str> {
    let mut values = parts.fields.iter().filter(|(name, _)| *name == "content-length").map(|(_, value)| *value);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(one), None) => {
            let digits = std::str::from_utf8(one).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
            digits.and_then(|text| text.parse().ok()).map(Some).ok_or("invalid length")
        }
        _ => Err("more than one length"),
    }
}

fn fields(parts: &Parts<'_>) -> Result<Headers, &'static str> {
    const BAD: &str = "a field that HTTP/1.1 does not allow";
    let mut fields = Headers::new();
    for (name, value) in &parts.fields {
        if !ends_here(name) || (parts.upgrade && *name == "upgrade") {
            fields.append(name, value).map_err(|_| BAD)?;
        }
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the parts of a request to `a`, as HTTP/2 or SPDY has them.
    fn parts<'a>(method: &'a str, target: &'a str, fields: &[(&'a str, &'a str)]) -> Parts<'a> {
        let fields = fields.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        Parts { method, target, host: "a", fields, upgrade: false }
    }

    fn head(parts: &Parts<'_>, ended: bool) -> String {
        String::from_utf8(parse(parts, ended).expect("translated").head).expect("text")
    }

    #[test]
    fn a_request_is_written_as_a_client_of_1_1_writes_it() {
        let fields =
            [("host", "a"), ("accept", "*/*"), ("te", "trailers"), ("cookie", "b=2"), ("expect", "100-continue")];
        assert_eq!(
            head(&parts("GET", "/a?b=c%20d", &fields), true),
            "GET /a?b=c%20d HTTP/1.1\r\nHost: a\r\nConnection: close\r\naccept: */*\r\ncookie: b=2\r\n\r\n"
        );
        assert_eq!(
            head(&parts("OPTIONS", "*", &[]), true),
            "OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
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
            let parsed = parse(&parts("POST", "/", &fields), ended).expect("translated");
            assert_eq!(parsed.framing, framing);
            let head = String::from_utf8(parsed.head).expect("text");
            assert_eq!(head, format!("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{line}\r\n"));
        }
    }

    #[test]
    fn extended_connect_is_an_upgrade() {
        let fields = [("sec-websocket-protocol", "x"), ("connection", "upgrade"), ("upgrade", "websocket")];
        let parts = Parts { upgrade: true, ..parts("GET", "/chat", &fields) };
        let parsed = parse(&parts, false).expect("translated");
        assert!(parsed.upgrade && parsed.framing == Framing::Raw && &*parsed.method == "GET");
        let head = String::from_utf8(parsed.head).expect("text");
        let want = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nsec-websocket-protocol: x\r\n\
                    upgrade: websocket\r\n\r\n";
        assert_eq!(head, want);
    }

    #[test]
    fn requests_that_1_1_would_understand_differently_are_rejected() {
        for (method, target, host, fields) in [
            ("GET", "/", "a", &[("content-length", "+5")][..]),
            ("GET", "/", "a", &[("content-length", "5"), ("content-length", "5")]),
            ("GET", "/", "a", &[("content-length", "18446744073709551616")]),
            ("GET", "/", "", &[]),
            ("GET", "/", "user@a", &[]),
            ("GET", "/ HTTP/1.1", "a", &[]),
        ] {
            let parts = Parts { host, ..parts(method, target, fields) };
            assert!(parse(&parts, false).is_err(), "{method} {target} {host} {fields:?}");
        }
    }
}
