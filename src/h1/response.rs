//! A response's head: httparse runs once, as strictly as for requests, and one pass over the fields finds what the
//! client itself must know.
//!
//! ```text
//!   HTTP/1.1 200 OK ␍␊ Content-Length: 3 ␍␊ ␍␊
//!   └──┬───┘ └┬┘       └───────┬───────┘
//!   version status          framing              and: keep_alive
//! ```
//!
//! [`HeadScanner`] finds the head, as that of a request, and rejects bare LF and CR. Bytes that cannot become a status
//! line are rejected at the first byte that differs: otherwise the client would wait for a server of another protocol.
//!
//! One leniency: `HTTP/1.1 200` without a space after the number is accepted. By RFC 9112 §4 a server must send the
//! space even if no phrase follows. Some servers do not, every other client accepts it, and it is not ambiguous: the
//! line ends in either case.

use super::{
    FieldSlots, HeadLimits, HeadScanner, HeadersRef, Misbehaved, ResponseFraming, Version, framing::BodyFields,
    grammar::list, head::blame_field,
};

/// A response's head, by the rules of RFC 9110 and RFC 9112.
#[derive(Clone, Copy, Debug)]
pub struct ParsedResponse<'b> {
    /// 100 to 999.
    pub status: u16,
    /// The server's version.
    pub version: Version,
    /// All fields, in order.
    pub fields: HeadersRef<'b>,
    /// The framing of the body.
    pub framing: ResponseFraming,
    /// The value of Content-Length, with or without a body (HEAD, 304).
    pub announced: Option<u64>,
    /// `true` if the server is ready for another request on this connection (RFC 9112 §9.3). Never if the body ends
    /// with the connection; nor if a response that has no body announces one, since servers have sent it.
    pub keep_alive: bool,
}

/// Finds the end of a response's head, as [`HeadScanner::find`] does for requests.
///
/// # Errors
/// Like [`HeadScanner::find`], and [`BadStatusLine`](Misbehaved::BadStatusLine) at the first byte that cannot begin a
/// response.
pub fn find_response(scan: &mut HeadScanner, bytes: &[u8], limits: &HeadLimits) -> Result<Option<usize>, Misbehaved> {
    const START: &[u8] = b"HTTP/";
    let n = bytes.len().min(START.len());
    if bytes[..n] != START[..n] {
        return Err(Misbehaved::BadStatusLine);
    }
    // A status line has no target.
    let limits = HeadLimits { target: limits.head, ..*limits };
    scan.find(bytes, &limits).map_err(|rule| match rule {
        Misbehaved::TargetTooLong => Misbehaved::HeadTooLarge,
        rule => rule,
    })
}

/// Parses the head of the response to a request of this method; exactly the head, from the first byte to the end of the
/// empty line.
///
/// # Errors
/// The first violated rule; malformed lines come before rules about well-formed ones.
pub fn parse_response<'b>(
    head: &'b [u8],
    method: &str,
    slots: &'b mut FieldSlots<'b>,
    limits: &HeadLimits,
) -> Result<ParsedResponse<'b>, Misbehaved> {
    let mut parsed = httparse::Response::new(&mut []);
    let room = slots.room(head.len(), limits.fields);
    match httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, head, room) {
        Ok(httparse::Status::Complete(n)) if n == head.len() => {}
        Ok(_) => return Err(Misbehaved::BadStatusLine),
        Err(error) => return Err(blame(head, error)),
    }
    // Three digits, then a space or, by the leniency, the end of the line.
    let (Some(status @ 100..=999), Some(minor), Some(b' ' | b'\r')) = (parsed.code, parsed.version, head.get(12))
    else {
        return Err(Misbehaved::BadStatusLine);
    };
    let fields: &'b [httparse::Header<'b>] = parsed.headers;
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let (mut body, mut close, mut keep) = (BodyFields::default(), false, false);
    for field in fields {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        match field.name.len() {
            10 if is("connection") => {
                for option in list(field.value) {
                    close |= option.eq_ignore_ascii_case(b"close");
                    keep |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            14 if is("content-length") => body.content_length(field.value),
            17 if is("transfer-encoding") => body.transfer_encoding(field.value),
            _ => {}
        }
    }
    let framing = body.decide_response(version, status, method)?;
    let broken_promise = matches!(status, 100..200 | 204) && body.promise_a_body();
    let endless = matches!(framing, ResponseFraming::UntilClose | ResponseFraming::Switched);
    let keep_alive = !close && (version == Version::Http11 || keep) && !endless && !broken_promise;
    Ok(ParsedResponse {
        status,
        version,
        fields: HeadersRef::new(fields),
        framing,
        announced: body.announced(),
        keep_alive,
    })
}

#[cold]
fn blame(head: &[u8], error: httparse::Error) -> Misbehaved {
    use httparse::Error as E;
    match error {
        E::TooManyHeaders => Misbehaved::TooManyFields,
        E::HeaderName | E::HeaderValue => blame_field(head),
        E::Token | E::Version | E::NewLine | E::Status => match head {
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0' | b'1', b' ', ..] => Misbehaved::BadStatusLine,
            [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9', b' ', ..] => Misbehaved::UnsupportedVersion,
            _ => Misbehaved::BadStatusLine,
        },
    }
}

#[cfg(test)]
#[path = "response_tests.rs"]
mod tests;
