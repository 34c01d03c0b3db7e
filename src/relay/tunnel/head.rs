//! Translates heads between HTTP/1.1 and HTTP/2: which fields are forwarded, and which end here.
//!
//! ```text
//!   GET /a HTTP/1.1                      :method GET   :path /a   :scheme https   :authority app.example
//!   Host: app.example                    x-forwarded-for: 192.0.2.1 …           ◀ the client, and its proxies
//!   Connection: X, keep-alive      ──▶                                          ◀ no field of one hop
//!   X: y                                 accept: */*
//!   Accept: */*
//! ```
//! Fields are end-to-end or for one hop (RFC 9110 §7.6.1). Those of one hop, and those that `Connection` lists, are not
//! forwarded; HTTP/2 forbids them. `Host` becomes `:authority`, `Expect` ends here, and the fields about the client are
//! written here.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, uri};
use uncork::{
    Request,
    h1::{Headers, HeadersRef, is_hop_by_hop, write::is_written_here},
};

use crate::relay::{
    Via,
    forward::{
        about_client::{ends_here, forwarded, is_about_the_client, is_second_spelling},
        target,
    },
};

/// Returns a request's head for the origin server, or the reason why HTTP/2 cannot express it.
///
/// `trusted`: the peer is a trusted proxy. `forwards`: the new value of `Max-Forwards`.
pub(super) fn request(
    req: &Request<'_>,
    trusted: bool,
    via: &Via,
    forwards: Option<u64>,
) -> Result<http::Request<()>, &'static str> {
    let authority = req.authority().ok_or("missing host")?;
    let scheme = if req.scheme() == "https" { uri::Scheme::HTTPS } else { uri::Scheme::HTTP };
    let path = target::path_and_query(req);
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(&*path).build();
    let mut head = http::Request::new(());
    *head.uri_mut() = uri.map_err(|_| "cannot forward the request target")?;
    *head.method_mut() = Method::from_bytes(req.method().as_bytes()).map_err(|_| "cannot forward the method")?;
    *head.headers_mut() = request_fields(req.headers())?;
    for (name, value) in forwarded(req, authority, trusted) {
        append(head.headers_mut(), name, &value)?;
    }
    if let Some(left) = forwards {
        head.headers_mut().insert(http::header::MAX_FORWARDS, left.into());
    }
    append(head.headers_mut(), "via", &via.after(target::version(req), req.headers().get_all("via")))?;
    Ok(head)
}

/// Returns the end-to-end fields of a request, without those about the client.
fn request_fields(fields: HeadersRef<'_>) -> Result<HeaderMap, &'static str> {
    let mut map = HeaderMap::with_capacity(fields.len() + 5);
    for (name, value) in fields.end_to_end() {
        if !ends_here(name) {
            append(&mut map, name, value)?;
        }
    }
    // TE in HTTP/2 can only say that trailers are accepted (RFC 9113 §8.2.2).
    if fields.contains_token("te", "trailers") {
        map.insert(http::header::TE, HeaderValue::from_static("trailers"));
    }
    Ok(map)
}

fn append(map: &mut HeaderMap, name: &str, value: &[u8]) -> Result<(), &'static str> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| "cannot forward a field's name")?;
    let value = HeaderValue::from_bytes(value).map_err(|_| "cannot forward a field's value")?;
    map.try_append(name, value).map_err(|_| "too many fields")?;
    Ok(())
}

/// Returns the fields of a response for a client, whose engine writes its own framing fields.
pub(super) fn response_fields(fields: &Headers) -> impl Iterator<Item = (&str, &[u8])> {
    fields.end_to_end().filter(|(name, _)| is_forwarded(name))
}

/// Like [`response_fields`], but owned: for 1xx.
pub(super) fn informational_fields(fields: &Headers) -> Headers {
    collect(response_fields(fields))
}

/// Returns the trailers of a response for a client. They must not change the framing or the routing of the message
/// (RFC 9110 §6.5.1).
pub(super) fn trailers(fields: &Headers) -> Headers {
    let others = ["host", "authorization", "set-cookie", "content-encoding", "content-range"];
    let is_allowed = |name: &str| !others.iter().any(|own| own.eq_ignore_ascii_case(name));
    collect(response_fields(fields).filter(|(name, _)| is_allowed(name)))
}

/// Returns the trailers of a request for the origin server. `listed`: the names in the request's `Connection`.
pub(super) fn request_trailers(fields: &Headers, listed: &[Box<str>]) -> Headers {
    let ends_here = |name: &str| {
        is_about_the_client(name) || is_second_spelling(name) || listed.iter().any(|own| own.eq_ignore_ascii_case(name))
    };
    collect(fields.iter().filter(|(name, _)| is_forwarded(name) && !ends_here(name)))
}

fn is_forwarded(name: &str) -> bool {
    !is_hop_by_hop(name)
        && !is_written_here(name)
        && !["trailer", "via"].iter().any(|own| own.eq_ignore_ascii_case(name))
}

fn collect<'a>(fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in fields {
        let _ = headers.append(name, value);
    }
    headers
}

/// Returns the number that a value of `Content-Length` is, if the field is there.
pub(super) fn length(value: Option<impl AsRef<[u8]>>) -> Option<u64> {
    std::str::from_utf8(value?.as_ref()).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_cannot_change_the_framing() {
        let names = ["Content-Length", "transfer-encoding", "connection", "trailer", "host", "Set-Cookie", "x-sum"];
        let headers = collect(names.into_iter().map(|name| (name, &b"1"[..])));
        assert_eq!(headers.iter().count(), names.len());
        assert_eq!(format!("{:?}", trailers(&headers)), r#"{"x-sum": "1"}"#);
        let mut headers = Headers::new();
        for name in ["Content-Length", "X-Forwarded-For", "Content_Length", "Keep-Alive", "X-Hop", "X-Sum"] {
            headers.append(name, "1").unwrap();
        }
        assert_eq!(format!("{:?}", request_trailers(&headers, &["x-hop".into()])), r#"{"X-Sum": "1"}"#);
    }
}
