//! The chunked transfer coding, decoded in place (RFC 9112 §7.1).
//!
//! ```text
//!   5;a=b ␍␊ hello ␍␊ 0 ␍␊ X-Sum: 7 ␍␊ ␍␊
//!   └─Skip─┘ └Data┘ └─Skip─┘└──Skip───┘ End
//! ```
//!
//! Read RFC 9112 §7.1 and §11.2 before changing this file. Decoders that take a bare LF, a lone CR in an
//! extension, or `0x5` for a size have all been used to smuggle requests.

use super::{Headers, Misbehaved, grammar};

/// Bytes of one chunk-size line, with its extensions. 1 KiB: extensions are hardly used, but allowed.
const LINE_MAX: usize = 1024;

/// Bytes of extensions in a whole body. 16 KiB, like Go and Node.js. Without this limit, a body of one-byte chunks
/// could have 1 KiB of extensions for each byte of data (CVE-2023-39326).
const EXTENSIONS_MAX: u16 = 16 * 1024;

/// Hexadecimal digits of a chunk size: as many as 64 bits have. Leading zeros count.
const DIGITS_MAX: usize = 16;

/// The limits of a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimits {
    /// Bytes of data. Beyond it: [`Misbehaved::BodyTooLarge`], as soon as a chunk announces them.
    pub body: u64,
    /// Bytes of trailer lines, at most 64 KiB. Beyond it: [`Misbehaved::TrailersTooLarge`].
    pub trailers: usize,
    /// Trailer lines. Beyond it: [`Misbehaved::TrailersTooLarge`].
    pub fields: usize,
}

impl Default for BodyLimits {
    /// Returns 1 GiB and 100 lines, as in `uncork::Limits`, and 8 KiB of trailers.
    fn default() -> Self {
        Self { body: 1 << 30, trailers: 8 * 1024, fields: 100 }
    }
}

/// The front of the input, as [`Decoder::step`] classifies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// This many bytes of framing, more than 0. Drop them and call again.
    Skip(usize),
    /// This many bytes of data, more than 0. Take any number of them, report it with [`Decoder::took`], drop them.
    Data(usize),
    /// The end of the body. Drop this many bytes; the body ends behind them. The trailer fields that may be used (RFC
    /// 9110 §6.5.1), if there are any.
    End(usize, Option<Box<Headers>>),
    /// The input ends within a line. Keep it, and call again with more input.
    NeedMore,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Data,
    /// The CR LF after the data.
    DataEnd,
    Trailers,
    Done,
}

/// Decodes one body. It holds no data and copies none.
///
/// ```
/// use uncork::h1::chunked::{BodyLimits, Decoder, Step};
/// let (mut decoder, limits) = (Decoder::default(), BodyLimits::default());
/// assert_eq!(decoder.step(b"5\r\nhello\r\n0\r\n\r\n", &limits), Ok(Step::Skip(3)));
/// assert_eq!(decoder.step(b"hello\r\n0\r\n\r\n", &limits), Ok(Step::Data(5)));
/// decoder.took(5);
/// assert_eq!(decoder.step(b"\r\n0\r\n\r\n", &limits), Ok(Step::End(7, None)));
/// ```
#[derive(Debug, Default)]
pub struct Decoder {
    /// Bytes of data left in this chunk.
    left: u64,
    /// Bytes of data announced so far.
    announced: u64,
    trailers: Option<Box<Trailers>>,
    /// Bytes of the line at the front that were read before.
    seen: u16,
    /// Bytes of extensions so far.
    extensions: u16,
    state: State,
}

#[derive(Debug, Default)]
struct Trailers {
    kept: Headers,
    bytes: usize,
    lines: usize,
}

impl Decoder {
    /// Creates a decoder for one body.
    pub fn new() -> Self {
        Self::default()
    }

    /// Classifies the front of `input`, which must be all bytes that arrived and were not dropped.
    ///
    /// # Errors
    /// [`BadChunk`](Misbehaved::BadChunk), [`ChunkExtensionTooLong`](Misbehaved::ChunkExtensionTooLong),
    /// [`BodyTooLarge`](Misbehaved::BodyTooLarge), [`BadTrailer`](Misbehaved::BadTrailer),
    /// [`TrailersTooLarge`](Misbehaved::TrailersTooLarge). The decoder cannot continue after an error.
    pub fn step(&mut self, input: &[u8], limits: &BodyLimits) -> Result<Step, Misbehaved> {
        let mut at = 0;
        let stop = |at| if at > 0 { Step::Skip(at) } else { Step::NeedMore };
        loop {
            let rest = &input[at..];
            match self.state {
                State::Data if at == 0 && !rest.is_empty() => {
                    let n = usize::try_from(self.left).unwrap_or(usize::MAX);
                    return Ok(Step::Data(n.min(rest.len())));
                }
                State::Data => return Ok(stop(at)),
                State::DataEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        at += 2;
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => return Ok(stop(at)),
                    _ => return Err(Misbehaved::BadChunk),
                },
                State::Size => {
                    let Some(line) = self.line(rest, LINE_MAX, Misbehaved::ChunkExtensionTooLong)? else {
                        return Ok(stop(at));
                    };
                    at += line.len() + 2;
                    self.size_line(line, limits)?;
                }
                State::Trailers => {
                    let used = self.trailers.as_ref().map_or(0, |trailers| trailers.bytes);
                    let room = limits.trailers.min(usize::from(u16::MAX)).saturating_sub(used);
                    let Some(line) = self.line(rest, room, Misbehaved::TrailersTooLarge)? else {
                        return Ok(stop(at));
                    };
                    at += line.len() + 2;
                    if line.is_empty() {
                        self.state = State::Done;
                        let kept = self.trailers.take().map(|trailers| trailers.kept);
                        return Ok(Step::End(at, kept.filter(|kept| !kept.is_empty()).map(Box::new)));
                    }
                    self.trailer_line(line, limits)?;
                }
                State::Done => return Ok(Step::End(0, None)),
            }
        }
    }

    /// Records that `n` bytes of data were taken, at most the number in [`Step::Data`].
    pub fn took(&mut self, n: usize) {
        debug_assert!(self.state == State::Data && n as u64 <= self.left);
        self.left = self.left.saturating_sub(n as u64);
        if self.left == 0 {
            self.state = State::DataEnd;
        }
    }

    /// Returns `true` if the body is complete.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The line at the front, without its CR LF, once it is complete. Bytes are looked at once.
    fn line<'a>(&mut self, input: &'a [u8], max: usize, long: Misbehaved) -> Result<Option<&'a [u8]>, Misbehaved> {
        let bad = if self.state == State::Trailers { Misbehaved::BadTrailer } else { Misbehaved::BadChunk };
        let seen = usize::from(self.seen);
        for (i, &b) in input.iter().enumerate().skip(seen) {
            match b {
                b'\r' => match input.get(i + 1) {
                    Some(b'\n') => {
                        self.seen = 0;
                        return Ok(Some(&input[..i]));
                    }
                    Some(_) => return Err(bad),
                    None => {
                        self.seen = i as u16; // at most max, which is at most 65,535
                        return Ok(None);
                    }
                },
                _ if i >= max => return Err(long),
                b'\t' | b' '..=b'~' | 0x80.. => {}
                _ => return Err(bad),
            }
        }
        self.seen = input.len() as u16; // at most max
        Ok(None)
    }

    fn size_line(&mut self, line: &[u8], limits: &BodyLimits) -> Result<(), Misbehaved> {
        let digits = line.iter().position(|b| !b.is_ascii_hexdigit()).unwrap_or(line.len());
        let (digits, extensions) = line.split_at(digits);
        if digits.is_empty() || digits.len() > DIGITS_MAX {
            return Err(Misbehaved::BadChunk);
        }
        // Sixteen digits fill 64 bits and cannot overflow them.
        let size = digits.iter().fold(0u64, |sum, &b| {
            let low = u64::from(b & 0xf);
            (sum << 4) | if b.is_ascii_digit() { low } else { low + 9 }
        });
        if !extensions.is_empty() {
            if !are_extensions(extensions) {
                return Err(Misbehaved::BadChunk);
            }
            self.extensions += extensions.len() as u16; // LINE_MAX at most, so 17 KiB at most
            if self.extensions > EXTENSIONS_MAX {
                return Err(Misbehaved::ChunkExtensionTooLong);
            }
        }
        self.announced =
            self.announced.checked_add(size).filter(|all| *all <= limits.body).ok_or(Misbehaved::BodyTooLarge)?;
        self.left = size;
        self.state = if size == 0 { State::Trailers } else { State::Data };
        Ok(())
    }

    fn trailer_line(&mut self, line: &[u8], limits: &BodyLimits) -> Result<(), Misbehaved> {
        let trailers = self.trailers.get_or_insert_default();
        trailers.bytes += line.len() + 2;
        trailers.lines += 1;
        if trailers.lines > limits.fields {
            return Err(Misbehaved::TrailersTooLarge);
        }
        let colon = line.iter().position(|&b| b == b':').ok_or(Misbehaved::BadTrailer)?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        // Control bytes were rejected when the line was found.
        if !grammar::is_token(name) {
            return Err(Misbehaved::BadTrailer);
        }
        if may_be_trailer(name) {
            trailers.kept.append_checked(name, grammar::trim(value));
        }
        Ok(())
    }
}

/// RFC 9112 §7.1.1: `*( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )`.
fn are_extensions(mut rest: &[u8]) -> bool {
    fn skip_space(bytes: &[u8]) -> &[u8] {
        &bytes[bytes.iter().take_while(|b| matches!(b, b' ' | b'\t')).count()..]
    }
    fn token(bytes: &[u8]) -> Option<&[u8]> {
        let n = bytes.iter().take_while(|b| grammar::is_token(std::slice::from_ref(b))).count();
        (n > 0).then(|| &bytes[n..])
    }
    fn quoted(bytes: &[u8]) -> Option<&[u8]> {
        let mut rest = bytes.strip_prefix(b"\"")?;
        loop {
            rest = match rest {
                [b'"', rest @ ..] => return Some(rest),
                [b'\\', _, rest @ ..] | [_, rest @ ..] => rest,
                [] => return None,
            }
        }
    }
    while !rest.is_empty() {
        let Some(name) = skip_space(rest).strip_prefix(b";").map(skip_space) else { return false };
        let Some(behind) = token(name) else { return false };
        rest = behind;
        if let Some(value) = skip_space(behind).strip_prefix(b"=").map(skip_space) {
            let Some(behind) = token(value).or_else(|| quoted(value)) else { return false };
            rest = behind;
        }
    }
    true
}

/// RFC 9110 §6.5.1: a sender must not generate a trailer whose field "is necessary for message framing, routing,
/// request modifiers, authentication, response control data, or content handling". A receiver that acts on such a
/// trailer field would bypass the checks on the head.
fn may_be_trailer(name: &[u8]) -> bool {
    const NOT: &[&str] = &[
        // framing and routing
        "transfer-encoding",
        "content-length",
        "host",
        "connection",
        "keep-alive",
        "proxy-connection",
        "trailer",
        "te",
        "upgrade",
        "via",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-real-ip",
        // request modifiers
        "cache-control",
        "expect",
        "max-forwards",
        "pragma",
        "range",
        "origin",
        "referer",
        // authentication, cookies
        "authorization",
        "proxy-authorization",
        "www-authenticate",
        "proxy-authenticate",
        "authentication-info",
        "proxy-authentication-info",
        "cookie",
        "set-cookie",
        // response control data
        "age",
        "date",
        "expires",
        "location",
        "retry-after",
        "vary",
        "warning",
        // content handling
        "content-encoding",
        "content-type",
        "content-range",
        "content-language",
        "content-location",
    ];
    !NOT.iter().any(|not| not.as_bytes().eq_ignore_ascii_case(name))
        && !name.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(b"if-"))
}

/// The data, and the end of the body: `None` if it has not ended, else its length on the wire and its trailers.
#[cfg(any(test, fuzzing, feature = "__internals"))]
type Outcome = (Vec<u8>, Result<Option<(usize, Headers)>, Misbehaved>);

/// Decodes `input`, which arrives in pieces of `size` bytes.
#[cfg(any(test, fuzzing, feature = "__internals"))]
fn run(input: &[u8], size: usize, limits: &BodyLimits) -> Outcome {
    let (mut decoder, mut data) = (Decoder::new(), Vec::new());
    let (mut from, mut to) = (0, size.min(input.len()));
    loop {
        match decoder.step(&input[from..to], limits) {
            Ok(Step::Skip(n)) => from += n,
            Ok(Step::Data(n)) => {
                // Only half, to test partial reads.
                let n = n.div_ceil(2);
                data.extend_from_slice(&input[from..from + n]);
                decoder.took(n);
                from += n;
            }
            Ok(Step::End(n, trailers)) => {
                return (data, Ok(Some((from + n, trailers.map(|boxed| *boxed).unwrap_or_default()))));
            }
            Ok(Step::NeedMore) if to == input.len() => return (data, Ok(None)),
            Ok(Step::NeedMore) => to = to.saturating_add(size).min(input.len()),
            Err(m) => return (data, Err(m)),
        }
        assert!(from <= to, "only input that exists was consumed");
    }
}

/// Fuzz target: the first byte is the size of the pieces. Checks that splitting changes nothing.
#[cfg(any(test, fuzzing, feature = "__internals"))]
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let Some((&size, body)) = data.split_first() else { return };
    let limits = BodyLimits { body: 1000, trailers: 100, fields: 5 };
    let whole = run(body, usize::MAX, &limits);
    assert_eq!(whole, run(body, usize::from(size).max(1), &limits), "decoding must not depend on how bytes arrive");
    assert!(whole.0.len() <= 1000);
    if let Ok(Some((end, trailers))) = whole.1 {
        assert!(body[..end].ends_with(b"\r\n") && trailers.len() <= 5);
        assert!(trailers.iter().all(|(name, value)| {
            grammar::is_token(name.as_bytes()) && grammar::is_field_value(value) && may_be_trailer(name.as_bytes())
        }));
    }
}

#[cfg(test)]
#[path = "chunked_tests.rs"]
mod tests;
