//! Writes the heads of responses and requests.
//!
//! ```text
//!   HTTP/1.1 200 OK ␍␊ Date: … ␍␊ Content-Length: 13 ␍␊ [Connection: … ␍␊]   put together on the stack
//!   Content-Type: text/plain ␍␊ …                                            `fields`, as they are
//!   ␍␊
//! ```
//!
//! The framing is correct by construction: only [`BodyLength`] sets a length, once. A caller that passes on fields of
//! an application must first remove those that this module writes: [`is_written_here`].

use super::{
    Headers, Misbehaved,
    grammar::{is_target, is_token},
    status::{reason, status_line},
    target::is_authority,
};

/// A destination that takes all bytes, in order.
pub trait Sink {
    /// Takes all of `bytes`.
    fn put(&mut self, bytes: &[u8]);

    /// Offers space for `most` bytes, and takes the first bytes of it: as many as `fill` returns.
    fn put_with(&mut self, most: usize, fill: impl FnOnce(&mut [u8]) -> usize);
}

impl Sink for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn put_with(&mut self, most: usize, fill: impl FnOnce(&mut [u8]) -> usize) {
        let from = self.len();
        self.resize(from + most, 0);
        let filled = fill(&mut self[from..]);
        self.truncate(from + filled);
    }
}

/// The fields about the length of a body (RFC 9112 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BodyLength {
    /// No field at all: 1xx, 204, 2xx to CONNECT, and 304 if its length is not known (RFC 9110 §8.6).
    None,
    /// `Content-Length`, in bytes. For a response to HEAD, the length that GET would have.
    Known(u64),
    /// `Transfer-Encoding: chunked`. Not for an HTTP/1.0 client.
    Chunked,
    /// No field; the body ends with the connection. Use [`ConnectionOption::Close`] with it.
    UntilClose,
}

/// The option in the Connection field (RFC 9112 §9, RFC 9110 §7.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectionOption {
    /// This is the last response.
    Close,
    /// More may follow. Sent to HTTP/1.0 clients that requested it; the default for others.
    KeepAlive,
    /// After this 101, the protocol is that of its Upgrade field. With a 426: the client must change to it.
    Upgrade,
    /// This is the last response, and a 426.
    CloseUpgrade,
}

/// The parts of a response's head.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'h> {
    /// The status, 100 to 999; others are sent as 500.
    pub status: u16,
    /// Complete lines, from [`Headers`], without Date, Connection, Content-Length, Transfer-Encoding.
    pub fields: &'h [u8],
    /// The framing of the body.
    pub length: BodyLength,
    /// From a [`DateCache`](super::DateCache).
    pub date: &'h [u8; 29],
    /// The connection option; `None` for the version's default.
    pub connection: Option<ConnectionOption>,
}

/// The informational response that requests the body (RFC 9110 §15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The end of a chunked body without trailers (RFC 9112 §7.1).
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The end of each chunk, after its data.
pub const CHUNK_END: &[u8] = b"\r\n";

/// Returns `true` if [`response_head`] writes this field itself, so that `fields` must not have it.
pub fn is_written_here(name: impl AsRef<[u8]>) -> bool {
    let name = name.as_ref();
    [&b"content-length"[..], b"transfer-encoding", b"connection", b"date"]
        .iter()
        .any(|own| own.eq_ignore_ascii_case(name))
}

/// The longest part that is not `fields`: status line (52), Date (37), Content-Length (38), Connection (28), end (2).
const OWN: usize = 160;

/// Writes the parts of a head one after the other into `bytes`.
struct HeadWriter<'a> {
    bytes: &'a mut [u8],
    len: usize,
}

impl HeadWriter<'_> {
    /// Appends bytes. The caller must have made `bytes` large enough.
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        if let Some(place) = self.bytes.get_mut(self.len..self.len + bytes.len()) {
            place.copy_from_slice(bytes);
            self.len += bytes.len();
        } else {
            debug_assert!(false, "a line over {} bytes", self.bytes.len());
        }
    }

    #[inline(always)]
    fn put_number(&mut self, n: u64) {
        let (digits, count) = decimal(n);
        let from = self.len;
        // All of them, since a constant length is copied without a call; what comes next overwrites the rest.
        self.put(&digits);
        self.len = self.len.min(from + count);
    }

    /// Writes the framing field: `known` and the length, `chunked`, or `none`.
    #[inline(always)]
    fn put_length(&mut self, length: BodyLength, known: &[u8], chunked: &[u8], none: &[u8]) {
        match length {
            BodyLength::Known(n) => {
                self.put(known);
                self.put_number(n);
                self.put(b"\r\n");
            }
            BodyLength::Chunked => self.put(chunked),
            BodyLength::None | BodyLength::UntilClose => self.put(none),
        }
    }

    /// Writes the Connection field, if there is an option.
    #[inline(always)]
    fn put_connection(&mut self, option: Option<ConnectionOption>) {
        match option {
            None => {}
            Some(ConnectionOption::Close) => self.put(b"Connection: close\r\n"),
            Some(ConnectionOption::KeepAlive) => self.put(b"Connection: keep-alive\r\n"),
            Some(ConnectionOption::Upgrade) => self.put(b"Connection: upgrade\r\n"),
            Some(ConnectionOption::CloseUpgrade) => self.put(b"Connection: close, upgrade\r\n"),
        }
    }

    #[inline(always)]
    fn put_status(&mut self, status: u16) {
        match status_line(if (100..=999).contains(&status) { status } else { 500 }) {
            Some(line) => self.put(line),
            None => {
                // RFC 9112 §4: the space after the number stays even without a phrase.
                self.put(b"HTTP/1.1 ");
                self.put_number(u64::from(status));
                self.put(b" \r\n");
            }
        }
    }
}

/// The digits of the largest number.
const DIGITS: usize = 20;

/// Returns the digits of `n`, followed by zeros, and how many they are.
#[inline(always)]
pub(crate) fn decimal(mut n: u64) -> ([u8; DIGITS], usize) {
    let mut room = [0; 2 * DIGITS];
    let mut at = DIGITS;
    loop {
        at -= 1;
        room[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    let mut digits = [0; DIGITS];
    digits.copy_from_slice(&room[at..at + DIGITS]);
    (digits, DIGITS - at)
}

/// Writes a head, with Date, and the empty line that ends it.
#[inline]
pub fn response_head<S: Sink>(head: &ResponseHead<'_>, to: &mut S) {
    response(head, &[], to);
}

/// Like [`response_head`], with a short body behind it.
#[inline]
pub(crate) fn response<S: Sink>(head: &ResponseHead<'_>, body: &[u8], to: &mut S) {
    to.put_with(OWN + head.fields.len() + body.len(), |room| {
        let mut line = HeadWriter { bytes: room, len: 0 };
        fill_head(head, &mut line);
        line.put(body);
        line.len
    });
}

#[inline(always)]
fn fill_head(head: &ResponseHead<'_>, line: &mut HeadWriter<'_>) {
    if head.status == 200 {
        // The most common status: a constant length is copied without a call.
        line.put(b"HTTP/1.1 200 OK\r\nDate: ");
    } else {
        line.put_status(head.status);
        line.put(b"Date: ");
    }
    line.put(head.date);
    // With the end of the Date line, so that the most common form is one copy.
    line.put_length(head.length, b"\r\nContent-Length: ", b"\r\nTransfer-Encoding: chunked\r\n", b"\r\n");
    line.put_connection(head.connection);
    debug_assert!(line.len + 2 <= OWN);
    line.put(head.fields);
    line.put(b"\r\n");
}

/// The parts of a request's head.
#[derive(Clone, Copy, Debug)]
pub struct RequestLine<'h> {
    /// A token.
    pub method: &'h str,
    /// Visible ASCII without `#`, in the form the method needs.
    pub target: &'h str,
    /// `host` or `host:port`.
    pub host: &'h str,
    /// Complete lines, from [`Headers`], without Host, Connection, Content-Length, Transfer-Encoding, Expect.
    pub fields: &'h [u8],
    /// The framing of the body. [`BodyLength::UntilClose`] does not exist in requests: no field is written then.
    pub length: BodyLength,
    /// `true` if the client waits for `100 Continue` before it sends the body.
    pub expect: bool,
    /// The connection option; `None` keeps the connection.
    pub connection: Option<ConnectionOption>,
}

/// Writes a request's head and the empty line that ends it, Host first (RFC 9110 §7.2).
///
/// # Errors
/// [`Misbehaved::BadMethod`], [`Misbehaved::BadTarget`] or [`Misbehaved::BadHost`], and then nothing is written.
/// No input can split the request.
pub fn request_head<S: Sink>(head: &RequestLine<'_>, to: &mut S) -> Result<(), Misbehaved> {
    if !is_token(head.method.as_bytes()) {
        return Err(Misbehaved::BadMethod);
    }
    if head.target.is_empty() || !is_target(head.target.as_bytes()) {
        return Err(Misbehaved::BadTarget);
    }
    if !is_authority(head.host.as_bytes()) {
        return Err(Misbehaved::BadHost);
    }
    let words = head.method.len() + head.target.len() + head.host.len() + head.fields.len();
    to.put_with(OWN + words, |room| {
        let mut line = HeadWriter { bytes: room, len: 0 };
        for part in [head.method, " ", head.target, " HTTP/1.1\r\nHost: ", head.host, "\r\n"] {
            line.put(part.as_bytes());
        }
        line.put_connection(head.connection);
        line.put_length(head.length, b"Content-Length: ", b"Transfer-Encoding: chunked\r\n", b"");
        if head.expect {
            line.put(b"Expect: 100-continue\r\n");
        }
        line.put(head.fields);
        line.put(b"\r\n");
        line.len
    });
    Ok(())
}

/// Writes the line before a chunk of `size` bytes, `size in hexadecimal CR LF`, at the front of `to`, and returns its
/// length. `size` must not be 0, which would end the body: use [`LAST_CHUNK`].
#[inline]
pub fn chunk_head(size: usize, to: &mut [u8; 18]) -> usize {
    debug_assert!(size > 0, "an empty chunk ends the body");
    let digits = (size.max(1).ilog2() / 4 + 1) as usize;
    for (i, place) in to[..digits].iter_mut().enumerate() {
        *place = b"0123456789abcdef"[(size >> (4 * (digits - 1 - i))) & 15];
    }
    to[digits..digits + 2].copy_from_slice(b"\r\n");
    digits + 2
}

/// Ends a chunked body, with trailers if there are any (RFC 9112 §7.1.2).
pub fn trailers<S: Sink>(trailers: &Headers, to: &mut S) {
    to.put(b"0\r\n");
    to.put(trailers.as_wire());
    to.put(b"\r\n");
}

/// Writes an informational response (1xx), but not 101, such as 103 with its Link fields (RFC 9110 §15.2). Not to 1.0
/// clients.
pub fn informational<S: Sink>(status: u16, fields: &Headers, to: &mut S) {
    debug_assert!((100..200).contains(&status) && status != 101);
    to.put_with(OWN, |room| {
        let mut line = HeadWriter { bytes: room, len: 0 };
        line.put_status(status);
        line.len
    });
    to.put(fields.as_wire());
    to.put(b"\r\n");
}

/// Writes the whole response to a peer that violated a rule. Its body is the rule in one line; pass `with_body: false`
/// for HEAD.
pub fn error<S: Sink>(what: Misbehaved, date: &[u8; 29], with_body: bool, to: &mut S) {
    let rule = what.rule().as_bytes();
    let head = ResponseHead {
        status: what.status(),
        fields: b"Content-Type: text/plain\r\n",
        length: BodyLength::Known(rule.len() as u64 + 1),
        date,
        connection: Some(ConnectionOption::Close),
    };
    debug_assert!(!reason(head.status).is_empty());
    response_head(&head, to);
    if with_body {
        to.put(rule);
        to.put(b"\n");
    }
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
