//! Heads between HTTP/1.1 and HTTP/2: what is passed on, and what ends here.
//!
//! ```text
//!   GET /a HTTP/1.1                      :method GET   :path /a   :scheme https   :authority app.example
//!   Host: app.example                    x-forwarded-for: 192.0.2.1 …           ◀ who asks, by whose word
//!   Connection: X, keep-alive      ──▶                                          ◀ nothing of one hop
//!   X: y                                 accept: */*
//!   Accept: */*
//! ```
//! Fields belong to the whole way or to one hop (RFC 9110 §7.6.1). Those of one hop, and what `Connection` names, are
//! not passed on; HTTP/2 forbids them. `Host` becomes `:authority`, `Expect` was dealt with, and who the client is we say
//! ourselves.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, uri};
use uncork::{
    PeerAddr, Request,
    h1::{Headers, HeadersRef, write::is_written_here},
};

/// Of one hop, by their names.
const HOP: &[&str] =
    &["connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade", "http2-settings"];

/// What a client cannot say of itself. As some applications take `_` for `-`, so do we here.
pub(super) fn is_about_the_client(name: &str) -> bool {
    let is = |own: &str| {
        name.len() >= own.len()
            && name.bytes().zip(own.bytes()).all(|(a, b)| a.eq_ignore_ascii_case(&b) || (a == b'_' && b == b'-'))
    };
    is("x-forwarded-") || ["forwarded", "x-real-ip"].iter().any(|own| name.len() == own.len() && is(own))
}

/// A request's head as it goes to the origin, or why it can't be expressed in HTTP/2.
///
/// `trusted`: the peer is a proxy whose word about its clients is believed.
pub(super) fn request(req: &Request<'_>, trusted: bool) -> Result<http::Request<()>, &'static str> {
    let authority = req.host().ok_or("the request names no host")?;
    let scheme = if req.scheme() == "https" { uri::Scheme::HTTPS } else { uri::Scheme::HTTP };
    let path = path_of(req);
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(&*path).build();
    let mut head = http::Request::new(());
    *head.uri_mut() = uri.map_err(|_| "the target can't be passed on")?;
    *head.method_mut() = Method::from_bytes(req.method().as_bytes()).map_err(|_| "the method can't be passed on")?;
    *head.headers_mut() = request_fields(req.headers())?;
    forwarded(head.headers_mut(), req, authority, trusted)?;
    Ok(head)
}

/// Path and query, raw, as they came; of a target in absolute form, what stands behind the authority.
fn path_of<'a>(req: &Request<'a>) -> std::borrow::Cow<'a, str> {
    match (req.path(), req.query()) {
        _ if req.target().starts_with('/') || req.target() == "*" => req.target().into(),
        ("", None) => "/".into(),
        ("", Some(query)) => format!("/?{query}").into(),
        (path, None) => path.into(),
        (path, Some(query)) => format!("{path}?{query}").into(),
    }
}

/// The fields of a request that go all the way, without those about the client.
fn request_fields(fields: HeadersRef<'_>) -> Result<HeaderMap, &'static str> {
    let mut map = HeaderMap::with_capacity(fields.len() + 4);
    let listed = Listed::of(fields.get_all("connection"));
    for (name, value) in fields.iter() {
        let ends_here = is_hop(name)
            || is_about_the_client(name)
            || listed.has(name)
            || name.eq_ignore_ascii_case("host")
            || name.eq_ignore_ascii_case("expect");
        if !ends_here {
            append(&mut map, name, value)?;
        }
    }
    // Whether trailers may come is the one thing TE may say in HTTP/2 (RFC 9113 §8.2.2).
    if fields.contains_token("te", "trailers") {
        map.insert(http::header::TE, HeaderValue::from_static("trailers"));
    }
    Ok(map)
}

/// Says who asks, how, and for which host (RFC 7239, and the fields that were there before it).
fn forwarded(map: &mut HeaderMap, req: &Request<'_>, host: &str, trusted: bool) -> Result<(), &'static str> {
    let proto = req.scheme();
    let said = |name: &str| -> Option<Vec<u8>> {
        let values: Vec<&[u8]> = req.headers().get_all(name).filter(|_| trusted).collect();
        (!values.is_empty()).then(|| values.join(&b", "[..]))
    };
    let (mut chain, mut list) = (said("x-forwarded-for"), said("forwarded"));
    extend(&mut chain, Client(req.peer(), false).to_string().as_bytes());
    let us = format!("for={};host=\"{host}\";proto={proto}", Client(req.peer(), true));
    extend(&mut list, us.as_bytes());
    let first = |name: &str, ours: &str| said(name).unwrap_or_else(|| ours.as_bytes().to_vec());
    let (host, proto) = (first("x-forwarded-host", host), first("x-forwarded-proto", proto));
    for (name, value) in [
        ("x-forwarded-for", chain.unwrap_or_default()),
        ("x-forwarded-proto", proto),
        ("x-forwarded-host", host),
        ("forwarded", list.unwrap_or_default()),
    ] {
        append(map, name, &value)?;
    }
    Ok(())
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

/// An address, as the two fields have it.
struct Client<'a>(&'a PeerAddr, bool);

impl std::fmt::Display for Client<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.0.ip(), self.1) {
            (None, _) => f.write_str("unknown"),
            (Some(std::net::IpAddr::V6(ip)), true) => write!(f, "\"[{ip}]\""),
            (Some(ip), _) => write!(f, "{ip}"),
        }
    }
}

fn append(map: &mut HeaderMap, name: &str, value: &[u8]) -> Result<(), &'static str> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| "a field's name can't be passed on")?;
    let value = HeaderValue::from_bytes(value).map_err(|_| "a field's value can't be passed on")?;
    map.try_append(name, value).map_err(|_| "there are too many fields")?;
    Ok(())
}

fn is_hop(name: &str) -> bool {
    HOP.iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// What `Connection` names.
struct Listed<'a>(Vec<&'a [u8]>);

impl<'a> Listed<'a> {
    fn of(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let names = values.flat_map(|value| value.split(|&b| b == b',')).map(<[u8]>::trim_ascii);
        // Named by most requests, and no fields to be looked for.
        let dull = |name: &&[u8]| {
            [&b""[..], b"close", b"keep-alive", b"upgrade"].iter().any(|own| own.eq_ignore_ascii_case(name))
        };
        Self(names.filter(|name| !dull(name)).collect())
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|listed| listed.eq_ignore_ascii_case(name.as_bytes()))
    }
}

/// The fields of an answer that go on to a client of HTTP/1.1, whose engine writes those of its own.
pub(super) fn answer_fields(map: &HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    map.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).filter(|(name, _)| goes_on(name))
}

/// The same, owned: of 1xx.
pub(super) fn interim_fields(map: &HeaderMap) -> Headers {
    collect(answer_fields(map))
}

/// Trailers, in either direction: nothing in them may say how the message was framed or where it goes (RFC 9110 §6.5.1).
pub(super) fn trailers(map: &HeaderMap) -> Headers {
    let fine =
        |name: &str| !["host", "authorization", "set-cookie", "content-encoding", "content-range"].contains(&name);
    collect(answer_fields(map).filter(|(name, _)| fine(name)))
}

/// The other way round.
pub(super) fn trailers_to_http2(headers: &Headers) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| goes_on(name) && !is_about_the_client(name)) {
        // One that can't be expressed is left out: nothing depends on it.
        let _ = append(&mut map, name, value);
    }
    map
}

fn goes_on(name: &str) -> bool {
    !is_hop(name) && !is_written_here(name) && !name.eq_ignore_ascii_case("trailer")
}

fn collect<'a>(fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in fields {
        let _ = headers.append(name, value);
    }
    headers
}

/// What `Content-Length` says. h2 has seen to it that it says one thing.
pub(super) fn length(map: &HeaderMap) -> Option<u64> {
    map.get(http::header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_the_client_is_known_in_every_spelling() {
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
    fn trailers_say_nothing_of_the_framing() {
        let mut map = HeaderMap::new();
        for name in ["content-length", "transfer-encoding", "connection", "trailer", "host", "set-cookie", "x-sum"] {
            map.append(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        assert_eq!(format!("{:?}", trailers(&map)), r#"{"x-sum": "1"}"#);
        let mut headers = Headers::new();
        for name in ["Content-Length", "X-Forwarded-For", "Keep-Alive", "X-Sum"] {
            headers.append(name, "1").unwrap();
        }
        let map = trailers_to_http2(&headers);
        assert_eq!(map.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-sum"]);
    }

    #[test]
    fn what_connection_names_is_listed() {
        let listed = Listed::of([&b"Keep-Alive, X-One ,"[..], b"x-two"].into_iter());
        assert!(listed.has("X-ONE") && listed.has("x-two") && !listed.has("keep-alive") && !listed.has("x"));
    }
}
