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
//! So a handler for HTTP/1.1 serves HTTP/2 unchanged, WebSocket included (RFC 8441). The rules of HTTP/2 are checked
//! here (RFC 9113 §8.2 and §8.3). The rest follows those of HTTP/1.1.

use super::{fields::Fields, priority};
use crate::h1::{HeadLimits, KnownHost, Misbehaved, RequestHead};

/// What a client of HTTP/1.1 would have to make up. HTTP/2 needs no such proof (RFC 8441 §5): it is not sent back.
const WEBSOCKET_KEY: &[u8] = b"AAAAAAAAAAAAAAAAAAAAAA==";

/// The fields of a request, from which its head borrows.
pub(crate) struct StreamRequest<'f> {
    fields: &'f Fields,
    /// The crumbs of `Cookie`, joined, if there were several (RFC 9113 §8.2.3).
    cookie: Option<Vec<u8>>,
    /// It has no body.
    ended: bool,
}

/// The request line, in the words of HTTP/2 (RFC 9113 §8.3.1, RFC 8441 §4).
#[derive(Default)]
struct Line<'f> {
    method: Option<&'f [u8]>,
    scheme: Option<&'f [u8]>,
    authority: Option<&'f [u8]>,
    path: Option<&'f [u8]>,
    protocol: Option<&'f [u8]>,
}

/// A request in the words of HTTP/1.1.
pub(crate) struct Words<'b> {
    method: &'b str,
    target: &'b str,
    /// `Host` first.
    fields: Vec<httparse::Header<'b>>,
    upgrade: bool,
    /// How urgent it is: 0 is the most urgent, 7 the least.
    pub(crate) urgency: u8,
}

impl<'f> StreamRequest<'f> {
    pub(crate) fn new(fields: &'f Fields, ended: bool) -> Self {
        let cookie = (fields.crumbs() > 1).then(|| {
            let crumbs = fields.iter().filter(|(name, _)| *name == b"cookie").map(|(_, crumb)| crumb);
            crumbs.collect::<Vec<_>>().join(&b"; "[..])
        });
        Self { fields, cookie, ended }
    }

    /// Returns the request in the words of HTTP/1.1.
    ///
    /// # Errors
    /// The rule that the request breaks.
    pub(crate) fn words(&self) -> Result<Words<'_>, Misbehaved> {
        if self.fields.is_too_large() {
            return Err(Misbehaved::HeadTooLarge);
        }
        if self.fields.has_too_many() {
            return Err(Misbehaved::TooManyFields);
        }
        if self.fields.is_malformed() {
            return Err(Misbehaved::BadField);
        }
        let mut line = Line::default();
        let mut rest = self.fields.iter();
        let mut next = rest.next();
        while let Some((name, value)) = next.filter(|(name, _)| name.first() == Some(&b':')) {
            line.set(name, value)?;
            next = rest.next();
        }
        let (method, target) = line.check()?;
        let upgrade = line.protocol.is_some();
        let mut fields = Vec::with_capacity(self.fields.len() + if upgrade { 4 } else { 1 });
        fields.push(httparse::Header { name: "host", value: line.authority.unwrap_or_default() });
        let mut words = Words { method, target, fields, upgrade, urgency: priority::DEFAULT };
        let (mut cookie, mut host, mut versioned) = (self.cookie.as_deref(), None, false);
        while let Some((name, mut value)) = next {
            next = rest.next();
            match name {
                // The fields of the request line come first, and there are no others like them.
                [b':', ..] => return Err(Misbehaved::BadPseudoField),
                b"host" if host.is_some() => return Err(Misbehaved::DuplicateHost),
                b"host" => {
                    host = Some(value);
                    continue;
                }
                b"cookie" if self.cookie.is_some() => match cookie.take() {
                    Some(joined) => value = joined,
                    None => continue,
                },
                b"priority" => words.urgency = priority::urgency(value),
                b"sec-websocket-key" if upgrade => continue,
                b"sec-websocket-version" => versioned = true,
                _ => {}
            }
            words.add(std::str::from_utf8(name).map_err(|_| Misbehaved::BadField)?, value);
        }
        if let Some(protocol) = line.protocol {
            words.add("connection", b"upgrade");
            words.add("upgrade", protocol);
            if protocol.eq_ignore_ascii_case(b"websocket") {
                words.add("sec-websocket-key", WEBSOCKET_KEY);
                if !versioned {
                    words.add("sec-websocket-version", b"13");
                }
            }
        }
        match (line.authority, host) {
            // RFC 9113 §8.3.1: "A server SHOULD treat a request as malformed if it contains a Host header field that
            // identifies an entity that differs from the entity in the ":authority" pseudo-header field."
            (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
                return Err(Misbehaved::DuplicateHost);
            }
            (Some(_), _) => {}
            (None, Some(host)) => words.fields[0].value = host,
            (None, None) => return Err(Misbehaved::MissingHost),
        }
        Ok(words)
    }

    /// Returns the head.
    ///
    /// # Errors
    /// The rule that the request breaks.
    pub(crate) fn head<'b>(
        &self,
        words: &'b Words<'b>,
        limits: &HeadLimits,
        known: &mut KnownHost,
    ) -> Result<RequestHead<'b>, Misbehaved> {
        RequestHead::of_stream(words.method, words.target, &words.fields, self.ended, words.upgrade, limits, known)
    }
}

/// For the tunnel, which writes them as HTTP/1.1.
#[cfg(feature = "tunnel")]
impl<'b> Words<'b> {
    /// Returns the method.
    pub(crate) fn method(&self) -> &'b str {
        self.method
    }

    /// Returns the request target.
    pub(crate) fn target(&self) -> &'b str {
        self.target
    }

    /// Returns `true` if the request is for another protocol, which the field `Upgrade` names.
    pub(crate) fn is_upgrade(&self) -> bool {
        self.upgrade
    }

    /// Returns the fields, `Host` first.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'b str, &'b [u8])> {
        self.fields.iter().map(|field| (field.name, field.value))
    }
}

impl<'b> Words<'b> {
    fn add(&mut self, name: &'b str, value: &'b [u8]) {
        self.fields.push(httparse::Header { name, value });
    }
}

impl<'f> Line<'f> {
    /// Notes a pseudo-header field, each of which may be there once.
    fn set(&mut self, name: &[u8], value: &'f [u8]) -> Result<(), Misbehaved> {
        let place = match name {
            b":method" => &mut self.method,
            b":scheme" => &mut self.scheme,
            b":authority" => &mut self.authority,
            b":path" => &mut self.path,
            b":protocol" => &mut self.protocol,
            _ => return Err(Misbehaved::BadPseudoField),
        };
        if place.replace(value).is_some() || value.is_empty() { Err(Misbehaved::BadPseudoField) } else { Ok(()) }
    }

    /// Checks that each field is there that must be, and no other. Returns the method and the target of HTTP/1.1.
    fn check(&self) -> Result<(&'f str, &'f str), Misbehaved> {
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| Misbehaved::BadPseudoField);
        let method = text(self.method.ok_or(Misbehaved::BadPseudoField)?)?;
        if !crate::h1::is_token(method.as_bytes()) {
            return Err(Misbehaved::BadMethod);
        }
        let connect = method == "CONNECT";
        match (connect, self.protocol) {
            (false, None) => {}
            (true, Some(protocol)) if self.authority.is_some() && is_protocol(protocol) => {}
            (true, None) if self.scheme.is_none() && self.path.is_none() => {
                return Ok((method, text(self.authority.ok_or(Misbehaved::MissingHost)?)?));
            }
            _ => return Err(Misbehaved::BadPseudoField),
        }
        let scheme = self.scheme.ok_or(Misbehaved::BadPseudoField)?;
        if !scheme.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.')) {
            return Err(Misbehaved::BadPseudoField);
        }
        match self.path {
            // A fragment is not sent (RFC 9113 §8.3.1), and the forms with an authority are of HTTP/1.1.
            Some(path) if matches!(path, [b'/', ..] | [b'*']) && !path.contains(&b'#') => {
                Ok((if connect { "GET" } else { method }, text(path)?))
            }
            _ => Err(Misbehaved::BadTarget),
        }
    }
}

/// Returns `true` if these bytes name one protocol, as an element of `Upgrade` does (RFC 8441 §4, RFC 9110 §7.8).
fn is_protocol(bytes: &[u8]) -> bool {
    bytes.splitn(2, |&b| b == b'/').all(crate::h1::is_token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{h1::Framing, h2::hpack::Known};

    const LIMITS: HeadLimits = HeadLimits { head: 16 * 1024, target: 100, fields: 10 };

    fn list(fields: &[(&str, &str)]) -> Fields {
        let mut list = Fields::new(LIMITS.head, LIMITS.fields);
        for (name, value) in fields {
            list.add(name.as_bytes(), value.as_bytes(), Known::Nothing);
        }
        list
    }

    /// Returns the head as a client of HTTP/1.1 would write it, with its framing.
    fn text(fields: &[(&str, &str)], ended: bool) -> Result<(String, Framing), Misbehaved> {
        let fields = list(fields);
        let request = StreamRequest::new(&fields, ended);
        let words = request.words()?;
        let head = request.head(&words, &LIMITS, &mut KnownHost::default())?;
        let mut text = format!("{} {}", head.method, head.target);
        for (name, value) in head.fields.iter() {
            text += &format!("\n{name}: {}", String::from_utf8_lossy(value));
        }
        Ok((text, head.framing))
    }

    /// Returns the fields of a request to `app.example`, with more.
    fn with<'a>(method: &'a str, path: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let line = [(":method", method), (":scheme", "https"), (":path", path), (":authority", "app.example")];
        [&line[..], more].concat()
    }

    #[test]
    fn a_request_has_the_words_of_1_1() {
        let fields = [("accept", "*/*"), ("cookie", "a=1"), ("te", "trailers"), ("cookie", "b=2")];
        let want = "GET /a?b=c%20d\nhost: app.example\naccept: */*\ncookie: a=1; b=2\nte: trailers";
        assert_eq!(text(&with("GET", "/a?b=c%20d", &fields), true), Ok((want.to_owned(), Framing::None)));
        let options = text(&with("OPTIONS", "*", &[("host", "APP.example")]), true);
        assert_eq!(options, Ok(("OPTIONS *\nhost: app.example".to_owned(), Framing::None)));
        let connect = text(&[(":method", "CONNECT"), (":authority", "app.example:443")], false);
        assert_eq!(connect, Ok(("CONNECT app.example:443\nhost: app.example:443".to_owned(), Framing::None)));
        let host = [(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "a")];
        assert_eq!(text(&host, true), Ok(("GET /\nhost: a".to_owned(), Framing::None)));
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
            assert_eq!(
                text(&with("POST", "/", &fields), ended).map(|(_, framing)| framing),
                want,
                "{length:?} {ended}"
            );
        }
    }

    #[test]
    fn extended_connect_is_an_upgrade() {
        let chat = with("CONNECT", "/chat", &[(":protocol", "websocket"), ("sec-websocket-protocol", "x")]);
        let fields = list(&chat);
        let request = StreamRequest::new(&fields, false);
        let words = request.words().expect("words");
        let head = request.head(&words, &LIMITS, &mut KnownHost::default()).expect("a head");
        assert!(head.upgrade && head.method == "GET" && head.target == "/chat" && head.framing == Framing::None);
        for (name, value) in
            [("upgrade", "websocket"), ("sec-websocket-version", "13"), ("sec-websocket-protocol", "x")]
        {
            assert_eq!(head.fields.get(name), Some(value.as_bytes()), "{name}");
        }
    }

    #[test]
    fn the_request_line_is_checked() {
        let (method, scheme, path) = ((":method", "GET"), (":scheme", "https"), (":path", "/"));
        let (host, protocol) = ((":authority", "a"), (":protocol", "websocket"));
        let connect = (":method", "CONNECT");
        for fields in [
            &[scheme, path, host][..],
            &[method, path, host],
            &[method, scheme, host],
            &[method, scheme, path],
            &[method, method, scheme, path, host],
            &[method, scheme, path, host, (":status", "200")],
            &[method, scheme, path, host, protocol],
            &[method, scheme, path, ("x", "y"), host],
            &[("x", "y"), method, scheme, path, host],
            &[(":method", "G T"), scheme, path, host],
            &[method, (":scheme", ""), path, host],
            &[method, (":scheme", "ht tp"), path, host],
            &[method, scheme, (":path", ""), host],
            &[method, scheme, (":path", "a"), host],
            &[method, scheme, (":path", "/a#b"), host],
            &[method, scheme, (":path", "/a b"), host],
            &[method, scheme, (":path", "https://a/"), host],
            &[method, scheme, (":path", "*"), host],
            &[method, scheme, path, (":authority", "")],
            &[connect, scheme, path, host],
            &[connect, path, host],
            &[connect],
            &[connect, (":protocol", ""), scheme, path, host],
            &[connect, (":protocol", "websocket, b"), scheme, path, host],
            &[connect, (":protocol", "a/1/2"), scheme, path, host],
            &[connect, (":protocol", "a/"), scheme, path, host],
            &[connect, protocol, path, host],
            &[connect, protocol, scheme, host],
            &[connect, protocol, scheme, path, ("host", "a")],
        ] {
            let status = text(fields, true).map_err(Misbehaved::status);
            assert_eq!(status.err(), Some(400), "{fields:?}");
        }
        assert!(text(&[connect, protocol, scheme, path, host], false).is_ok());
        assert!(text(&[connect, (":protocol", "a/1"), scheme, path, host], false).is_ok());
    }

    #[test]
    fn the_rules_and_limits_of_1_1_hold() {
        let many = [("x", "1"); 11];
        let long = format!("/{}", "x".repeat(100));
        let crumb = "a".repeat(10_000);
        let fields = |more: &[(&'static str, &'static str)]| with("GET", "/", more);
        for (fields, want) in [
            (fields(&[("host", "b")]), Misbehaved::DuplicateHost),
            (fields(&[("host", "app.example"), ("host", "app.example")]), Misbehaved::DuplicateHost),
            (fields(&[("content-length", "5"), ("content-length", "6")]), Misbehaved::BadContentLength),
            (fields(&[("expect", "200-ok")]), Misbehaved::UnknownExpectation),
            (fields(&[("x", " y")]), Misbehaved::BadField),
            (fields(&[("x", "y\t")]), Misbehaved::BadField),
            (fields(&[("x", "y\nz")]), Misbehaved::BadField),
            (fields(&[("X", "y")]), Misbehaved::BadField),
            (fields(&[("", "y")]), Misbehaved::BadField),
            (fields(&[("x:y", "z")]), Misbehaved::BadField),
            (fields(&[("connection", "close")]), Misbehaved::BadField),
            (fields(&[("te", "gzip")]), Misbehaved::BadField),
            (fields(&[("transfer-encoding", "chunked")]), Misbehaved::BadField),
            (fields(&many), Misbehaved::TooManyFields),
            (with("GET", "/", &[("cookie", &crumb), ("cookie", &crumb)]), Misbehaved::HeadTooLarge),
            (with("GET", &long, &[]), Misbehaved::TargetTooLong),
        ] {
            assert_eq!(text(&fields, true).err(), Some(want), "{fields:?}");
        }
        for host in ["a b", "user@a"] {
            let line = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", host)];
            assert_eq!(text(&line, true).err(), Some(Misbehaved::BadHost), "{host}");
        }
    }
}
