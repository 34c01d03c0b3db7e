//! The head of a request, in the words of HTTP/1.1.
//!
//! ```text
//!   :method POST  :path /a                     POST  /a
//!   :authority app.example            ──▶      host: app.example
//!   cookie: a=1   cookie: b=2                  cookie: a=1; b=2
//!
//!   :method CONNECT  :protocol websocket       GET  /chat
//!   :path /chat                       ──▶      connection: upgrade   upgrade: websocket
//!                                              sec-websocket-key: …  (HTTP/2 does not need it)
//! ```
//! So a handler for HTTP/1.1 serves HTTP/2 unchanged, WebSocket included (RFC 8441). h2 has checked the pseudo-header
//! fields (RFC 9113 §8.3), and that no connection-specific field is there (§8.2.2). The rest follows the rules of
//! HTTP/1.1.

use http::{HeaderName, Method, header, request::Parts};

use super::priority;
use crate::h1::{HeadLimits, KnownHost, Misbehaved, RequestHead};

/// What a client of HTTP/1.1 would have to make up. HTTP/2 needs no such proof (RFC 8441 §5): it is not sent back.
const WEBSOCKET_KEY: &[u8] = b"AAAAAAAAAAAAAAAAAAAAAA==";

/// The parts of a request whose head borrows from them.
pub(crate) struct StreamRequest {
    parts: Parts,
    /// The crumbs of `Cookie`, joined, if there were several.
    cookie: Option<Vec<u8>>,
    protocol: Option<h2::ext::Protocol>,
    /// It has no body.
    ended: bool,
    /// Bytes of the fields, with the line ends that HTTP/1.1 needs.
    size: usize,
}

impl StreamRequest {
    /// `limits`: those of its head.
    pub(crate) fn new(mut parts: Parts, ended: bool, limits: &HeadLimits) -> Self {
        let is_cookie = |name: &HeaderName| *name == header::COOKIE;
        let (mut size, mut crumbs) = (0, 0);
        for (name, value) in &parts.headers {
            size += name.as_str().len() + value.len() + 4;
            crumbs += usize::from(is_cookie(name));
        }
        // RFC 9113 §8.2.3. A block of a few KiB can stand for many MiB of crumbs.
        let cookie = (crumbs > 1 && size <= limits.head).then(|| {
            let crumbs = parts.headers.iter().filter(|(name, _)| is_cookie(name));
            crumbs.map(|(_, crumb)| crumb.as_bytes()).collect::<Vec<_>>().join(&b"; "[..])
        });
        let protocol = if parts.method == Method::CONNECT { parts.extensions.remove() } else { None };
        Self { parts, cookie, protocol, ended, size }
    }

    /// Returns how urgent the request is: 0 is the most urgent, 7 the least.
    pub(crate) fn urgency(&self) -> u8 {
        priority::urgency(&self.parts.headers)
    }

    /// Returns the fields, `Host` first.
    ///
    /// # Errors
    /// The rule that the request breaks.
    pub(crate) fn fields(&self, limits: &HeadLimits) -> Result<Vec<httparse::Header<'_>>, Misbehaved> {
        let map = &self.parts.headers;
        if self.size > limits.head {
            return Err(Misbehaved::HeadTooLarge);
        }
        if map.len() > limits.fields {
            return Err(Misbehaved::TooManyFields);
        }
        // `http` takes an empty scheme.
        if self.parts.uri.scheme_str() == Some("") {
            return Err(Misbehaved::BadTarget);
        }
        let mut fields = Vec::with_capacity(map.len() + 1 + 4 * usize::from(self.protocol.is_some()));
        let mut add = |name, value| fields.push(httparse::Header { name, value });
        let authority = self.parts.uri.authority().map(|authority| authority.as_str().as_bytes());
        add("host", authority.unwrap_or_default());
        if let Some(protocol) = &self.protocol {
            add("connection", b"upgrade");
            add("upgrade", protocol.as_str().as_bytes());
            if protocol.as_str().eq_ignore_ascii_case("websocket") {
                add("sec-websocket-key", WEBSOCKET_KEY);
                if !map.contains_key(header::SEC_WEBSOCKET_VERSION) {
                    add("sec-websocket-version", b"13");
                }
            }
        }
        let (mut cookie, mut host) = (self.cookie.as_deref(), None);
        for (name, value) in map {
            let value = match *name {
                header::HOST if host.is_some() => return Err(Misbehaved::DuplicateHost),
                header::HOST => {
                    host = Some(value.as_bytes());
                    continue;
                }
                header::COOKIE if self.cookie.is_some() => match cookie.take() {
                    Some(joined) => joined,
                    None => continue,
                },
                header::SEC_WEBSOCKET_KEY if self.protocol.is_some() => continue,
                _ => value.as_bytes(),
            };
            // RFC 9113 §8.2.1: "A field value MUST NOT start or end with an ASCII whitespace character".
            if let [b' ' | b'\t', ..] | [.., b' ' | b'\t'] = value {
                return Err(Misbehaved::BadField);
            }
            add(name.as_str(), value);
        }
        match (authority, host) {
            // RFC 9113 §8.3.1: "A server SHOULD treat a request as malformed if it contains a Host header field that
            // identifies an entity that differs from the entity in the ":authority" pseudo-header field."
            (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => Err(Misbehaved::DuplicateHost),
            (Some(_), _) => Ok(fields),
            (None, Some(host)) => {
                fields[0].value = host;
                Ok(fields)
            }
            (None, None) => Err(Misbehaved::MissingHost),
        }
    }

    /// Returns the head. `fields`: those of [`fields`](Self::fields).
    ///
    /// # Errors
    /// The rule that the request breaks.
    pub(crate) fn head<'b>(
        &'b self,
        fields: &'b [httparse::Header<'b>],
        limits: &HeadLimits,
        known: &mut KnownHost,
    ) -> Result<RequestHead<'b>, Misbehaved> {
        let path = self.parts.uri.path_and_query().map(http::uri::PathAndQuery::as_str);
        let upgrade = self.protocol.is_some();
        let (method, target) = match (self.parts.method == Method::CONNECT, path) {
            (true, path) if upgrade => ("GET", path.unwrap_or("/")),
            (true, _) => ("CONNECT", self.parts.uri.authority().map_or("", http::uri::Authority::as_str)),
            (false, path) => (self.parts.method.as_str(), path.unwrap_or("/")),
        };
        RequestHead::of_stream(method, target, fields, self.ended, upgrade, limits, known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::Framing;

    const LIMITS: HeadLimits = HeadLimits { head: 16 * 1024, target: 100, fields: 10 };

    fn request(method: &str, uri: &str, fields: &[(&'static str, &str)], ended: bool) -> StreamRequest {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        StreamRequest::new(request.body(()).expect("a request").into_parts().0, ended, &LIMITS)
    }

    /// Returns the head as a client of HTTP/1.1 would write it, with its framing.
    fn text(request: &StreamRequest) -> Result<(String, Framing), Misbehaved> {
        let fields = request.fields(&LIMITS)?;
        let head = request.head(&fields, &LIMITS, &mut KnownHost::default())?;
        let mut text = format!("{} {}", head.method, head.target);
        for (name, value) in head.fields.iter() {
            text += &format!("\n{name}: {}", String::from_utf8_lossy(value));
        }
        Ok((text, head.framing))
    }

    #[test]
    fn a_request_has_the_words_of_1_1() {
        let fields = [("accept", "*/*"), ("cookie", "a=1"), ("te", "trailers"), ("cookie", "b=2")];
        let get = request("GET", "https://app.example/a?b=c%20d", &fields, true);
        let want = "GET /a?b=c%20d\nhost: app.example\naccept: */*\ncookie: a=1; b=2\nte: trailers";
        assert_eq!(text(&get), Ok((want.to_owned(), Framing::None)));
        let options = request("OPTIONS", "https://app.example/", &[("host", "APP.example")], true);
        assert_eq!(text(&options), Ok(("OPTIONS /\nhost: app.example".to_owned(), Framing::None)));
        let connect = request("CONNECT", "app.example:443", &[], false);
        assert_eq!(text(&connect), Ok(("CONNECT app.example:443\nhost: app.example:443".to_owned(), Framing::None)));
    }

    #[test]
    fn a_body_has_its_declared_length_or_ends_with_the_stream() {
        for (length, ended, want) in [
            (None, true, Ok(Framing::None)),
            (None, false, Ok(Framing::Chunked)),
            (Some("5"), false, Ok(Framing::Length(5))),
            (Some("0"), true, Ok(Framing::Length(0))),
            (Some("5"), true, Err(Misbehaved::TruncatedBody)),
            (Some("+5"), false, Err(Misbehaved::BadContentLength)),
        ] {
            let fields: Vec<_> = length.map(|length| ("content-length", length)).into_iter().collect();
            let post = request("POST", "http://a/", &fields, ended);
            assert_eq!(text(&post).map(|(_, framing)| framing), want, "{length:?} {ended}");
        }
    }

    #[test]
    fn extended_connect_is_an_upgrade() {
        let mut chat = request("CONNECT", "https://a/chat", &[("sec-websocket-protocol", "x")], false);
        chat.protocol = Some(h2::ext::Protocol::from_static("websocket"));
        let fields = chat.fields(&LIMITS).expect("fields");
        let head = chat.head(&fields, &LIMITS, &mut KnownHost::default()).expect("a head");
        assert!(head.upgrade && head.method == "GET" && head.target == "/chat" && head.framing == Framing::None);
        for (name, value) in
            [("upgrade", "websocket"), ("sec-websocket-version", "13"), ("sec-websocket-protocol", "x")]
        {
            assert_eq!(head.fields.get(name), Some(value.as_bytes()), "{name}");
        }
    }

    #[test]
    fn the_rules_and_limits_of_1_1_hold() {
        let many = [("x", "1"); 10];
        let long = format!("https://a/{}", "x".repeat(100));
        let crumb = "a".repeat(10_000);
        for (uri, fields, want) in [
            ("/", &[][..], Misbehaved::MissingHost),
            ("https://a/", &[("host", "b")], Misbehaved::DuplicateHost),
            ("/", &[("host", "a"), ("host", "a")], Misbehaved::DuplicateHost),
            ("/", &[("host", "a b")], Misbehaved::BadHost),
            ("https://user@a/", &[], Misbehaved::BadHost),
            ("https://a/", &[("content-length", "5"), ("content-length", "6")], Misbehaved::BadContentLength),
            ("https://a/", &[("expect", "200-ok")], Misbehaved::UnknownExpectation),
            ("https://a/", &[("x", " y")], Misbehaved::BadField),
            ("https://a/", &[("x", "y\t")], Misbehaved::BadField),
            ("https://a/", &[("cookie", &crumb), ("cookie", &crumb)], Misbehaved::HeadTooLarge),
            ("https://a/", &many, Misbehaved::TooManyFields),
            (&long, &[], Misbehaved::TargetTooLong),
        ] {
            assert_eq!(text(&request("GET", uri, fields, true)).err(), Some(want), "{uri} {fields:?}");
        }
    }
}
