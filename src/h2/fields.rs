//! Fields of responses and trailers, between the lines of HTTP/1.1 and the map of HTTP/2.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::{
    conn::server::ResponseSpec,
    h1::{Headers, is_hop_by_hop},
};

/// Returns the end-to-end fields for a message of HTTP/2.
pub(crate) fn to_map(fields: &Headers) -> HeaderMap {
    let wire = fields.as_wire();
    let mut map = HeaderMap::with_capacity(wire.len() / 24);
    if !wire.is_empty() {
        append(fields, &mut map, |_| true);
    }
    map
}

/// Appends the end-to-end fields whose names `keeps` returns `true` for.
fn append(fields: &Headers, map: &mut HeaderMap, keeps: impl Fn(&HeaderName) -> bool) {
    let wire = fields.as_wire();
    // The values share one allocation.
    let block = Bytes::copy_from_slice(wire);
    for (name, value) in fields.end_to_end() {
        // Both were checked by the rules of HTTP/1.1, which are not less strict.
        let from = value.as_ptr().addr() - wire.as_ptr().addr();
        let value = HeaderValue::from_maybe_shared(block.slice(from..from + value.len()));
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), value)
            && keeps(&name)
        {
            let _ = map.try_append(name, value);
        }
    }
}

/// Returns the head of a response. `date`: the value of `Date`, which only the engine writes. `switched`: the response
/// accepts an upgrade, for which HTTP/2 has no proof (RFC 8441 §5).
pub(crate) fn response(
    spec: &ResponseSpec<'_>,
    length: Option<u64>,
    date: HeaderValue,
    switched: bool,
) -> http::Response<()> {
    let mut head = http::Response::new(());
    // RFC 8441 §5: 200 stands for 101.
    let status = if spec.status == 101 { 200 } else { spec.status };
    *head.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut map = HeaderMap::with_capacity(3 + spec.fields.as_wire().len() / 24);
    append(spec.fields, &mut map, |name| !switched || *name != header::SEC_WEBSOCKET_ACCEPT);
    if let Some(length) = length {
        map.append(header::CONTENT_LENGTH, length.into());
    }
    map.append(header::DATE, date);
    *head.headers_mut() = map;
    head
}

/// Returns the trailers of a request, without the fields that belong to one connection.
pub(crate) fn trailers(map: &HeaderMap) -> Option<Box<Headers>> {
    let mut headers = Headers::new();
    for (name, value) in map.iter().filter(|(name, _)| !is_hop_by_hop(name.as_str())) {
        // What HTTP/1.1 would reject is left out.
        let _ = headers.append(name.as_str(), value.as_bytes());
    }
    (!headers.is_empty()).then(|| Box::new(headers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_has_its_fields_and_those_of_the_engine() {
        let mut fields = Headers::new();
        for (name, value) in [("Content-Type", "text/plain"), ("Connection", "X-A"), ("X-A", "1"), ("Set-Cookie", "a")]
        {
            fields.append(name, value).expect("a field");
        }
        fields.append("Set-Cookie", "b").expect("a field");
        let date = b"Sun, 06 Nov 1994 08:49:37 GMT";
        let spec = ResponseSpec { status: 404, fields: &fields, length: Some(5), date };
        let head = response(&spec, Some(5), HeaderValue::from_static("now"), false);
        let seen: Vec<_> = head.headers().iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
        assert_eq!(head.status(), 404);
        assert_eq!(
            seen,
            [
                "content-type: \"text/plain\"",
                "set-cookie: \"a\"",
                "set-cookie: \"b\"",
                "content-length: \"5\"",
                "date: \"now\"",
            ]
        );
    }

    #[test]
    fn an_upgrade_is_accepted_by_200_without_a_proof() {
        let mut fields = Headers::new();
        for (name, value) in
            [("Upgrade", "websocket"), ("Sec-WebSocket-Accept", "s3pP"), ("Sec-WebSocket-Protocol", "x")]
        {
            fields.append(name, value).expect("a field");
        }
        let spec = ResponseSpec { status: 101, fields: &fields, length: None, date: b"Sun, 06 Nov 1994 08:49:37 GMT" };
        let head = response(&spec, None, HeaderValue::from_static("now"), true);
        assert_eq!(head.status(), 200);
        assert_eq!(format!("{:?}", head.headers()), r#"{"sec-websocket-protocol": "x", "date": "now"}"#);
    }
}
