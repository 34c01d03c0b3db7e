//! The length of a body: one function, numbered like RFC 9112 §6.3.
//!
//! Read RFC 9112 §6 and §11.2 before changing this file. A server and a proxy in front of it that disagree
//! here see different requests in the same bytes.

use super::{Misbehaved, Version, grammar};

/// The framing of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Framing {
    /// There is no body, and no field about one.
    None,
    /// The value of Content-Length. `Length(0)` differs from `None`, where there is no field.
    Length(u64),
    /// Chunked, up to the last chunk.
    Chunked,
}

impl Framing {
    /// Returns the announced length in bytes.
    pub const fn content_length(self) -> Option<u64> {
        match self {
            Self::Length(n) => Some(n),
            Self::None | Self::Chunked => None,
        }
    }

    /// Returns `true` if there is certainly nothing to read.
    pub const fn is_empty(self) -> bool {
        matches!(self, Self::None | Self::Length(0))
    }
}

/// The meaning of all Transfer-Encoding lines together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Codings {
    #[default]
    Absent,
    /// Exactly `chunked`.
    Chunked,
    /// Something well-formed without `chunked`, or with `chunked` last.
    Unknown,
    /// `chunked`, and another coding after it.
    NotFinal,
    Malformed,
}

/// The meaning of all Content-Length lines together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Length {
    #[default]
    Absent,
    Bytes(u64),
    Malformed,
}

/// Collects the field lines about the body in order; [`decide`](Self::decide) returns their meaning.
#[derive(Clone, Copy, Debug, Default)]
pub struct BodyFields {
    codings: Codings,
    length: Length,
}

impl BodyFields {
    /// Adds the value of a Transfer-Encoding line. Several lines are one list (RFC 9110 §5.3).
    pub fn transfer_encoding(&mut self, value: &[u8]) {
        for element in grammar::list(value) {
            self.codings = self.codings.and(element);
        }
    }

    /// Adds the value of a Content-Length line: digits, or a list of them that are all equal (RFC 9110 §8.6).
    pub fn content_length(&mut self, value: &[u8]) {
        for element in grammar::list(value) {
            self.length = match (self.length, number(element)) {
                (Length::Absent, Some(n)) => Length::Bytes(n),
                (Length::Bytes(before), Some(n)) if before == n => self.length,
                _ => Length::Malformed,
            };
        }
    }

    /// Returns the framing of a request's body, by RFC 9112 §6.3. Its items 1, 2 and 8 are about responses: see
    /// [`decide_response`](Self::decide_response).
    ///
    /// # Errors
    /// The violated item; every error ends the connection.
    pub fn decide(&self, version: Version) -> Result<Framing, Misbehaved> {
        Ok(match (self.codings, self.length) {
            // §6.1: "A server or client that receives an HTTP/1.0 message containing a Transfer-Encoding header field
            // MUST treat the message as if the framing is faulty".
            (coded, _) if coded != Codings::Absent && version == Version::Http10 => {
                return Err(Misbehaved::TransferEncodingOn10);
            }
            // Item 3: "ought to be handled as an error". It is.
            (coded, length) if coded != Codings::Absent && length != Length::Absent => {
                return Err(Misbehaved::BothLengths);
            }
            // Item 4: chunked is the final coding, and here the only one.
            (Codings::Chunked, _) => Framing::Chunked,
            // Item 4: "If a Transfer-Encoding header field is present in a request and the chunked transfer coding is
            // not the final encoding, the message body length cannot be determined reliably".
            (Codings::NotFinal, _) => return Err(Misbehaved::ChunkedNotFinal),
            (Codings::Malformed, _) => return Err(Misbehaved::BadTransferEncoding),
            // §6.1: "A server that receives a request message with a transfer coding it does not understand SHOULD
            // respond with 501".
            (Codings::Unknown, _) => return Err(Misbehaved::UnknownTransferCoding),
            // Item 5.
            (Codings::Absent, Length::Malformed) => return Err(Misbehaved::BadContentLength),
            // Item 6.
            (Codings::Absent, Length::Bytes(n)) => Framing::Length(n),
            // Item 7.
            (Codings::Absent, Length::Absent) => Framing::None,
        })
    }
}

/// The framing of a response's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResponseFraming {
    /// There is no body, regardless of the fields: HEAD, 1xx, 204, 304.
    None,
    /// There is no body, and the stream is no longer HTTP: 101, 2xx to CONNECT.
    Switched,
    /// The value of Content-Length.
    Length(u64),
    /// Chunked, up to the last chunk.
    Chunked,
    /// Until the end of the connection.
    UntilClose,
}

impl BodyFields {
    /// Returns the framing of the body of a response with this status to a request of this method, by RFC 9112 §6.3.
    ///
    /// # Errors
    /// The violated item. Contradictory fields are rejected in a response without a body too, since an intermediary may
    /// have used either.
    pub fn decide_response(&self, version: Version, status: u16, method: &str) -> Result<ResponseFraming, Misbehaved> {
        // Item 2: "A client MUST ignore any Content-Length or Transfer-Encoding header fields received in such a
        // message."
        if status == 101 || (method == "CONNECT" && (200..300).contains(&status)) {
            return Ok(ResponseFraming::Switched);
        }
        // Items 3 to 6, as for requests. Item 4: no coding other than chunked is supported.
        let framing = self.decide(version)?;
        Ok(match framing {
            // Item 1.
            _ if method == "HEAD" || matches!(status, 100..200 | 204 | 304) => ResponseFraming::None,
            Framing::Length(n) => ResponseFraming::Length(n),
            Framing::Chunked => ResponseFraming::Chunked,
            // Item 8.
            Framing::None => ResponseFraming::UntilClose,
        })
    }

    /// Returns the announced length, if there is one.
    pub(crate) fn announced(&self) -> Option<u64> {
        match self.length {
            Length::Bytes(n) => Some(n),
            Length::Absent | Length::Malformed => None,
        }
    }

    /// Returns `true` if any line was added.
    pub(crate) fn promise_a_body(&self) -> bool {
        self.codings != Codings::Absent || !matches!(self.length, Length::Absent | Length::Bytes(0))
    }
}

impl Codings {
    /// Adds one more element of the list. RFC 9110 §5.6.1 wants "a reasonable number" of empty elements ignored; in
    /// this list, zero is reasonable.
    fn and(self, element: &[u8]) -> Self {
        let name = element.split(|&b| b == b';').next().unwrap_or_default();
        let chunked = grammar::trim(name).eq_ignore_ascii_case(b"chunked");
        match self {
            Self::Malformed => Self::Malformed,
            _ if !grammar::is_token(grammar::trim(name)) => Self::Malformed,
            // RFC 9112 §7.1: chunked has no parameters.
            _ if chunked && name.len() != element.len() => Self::Malformed,
            Self::Chunked | Self::NotFinal => Self::NotFinal,
            Self::Absent if chunked => Self::Chunked,
            Self::Absent | Self::Unknown => Self::Unknown,
        }
    }
}

/// 1*DIGIT, as far as 64 bits reach: no sign, no other base, no whitespace.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, b| {
        let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// Returns the framing of a request for the lines of the two fields, in order: [`BodyFields`] in one call.
///
/// # Errors
/// Like those of [`BodyFields::decide`].
pub fn request_framing<'a>(
    version: Version,
    transfer_encoding: impl IntoIterator<Item = &'a [u8]>,
    content_length: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Framing, Misbehaved> {
    let mut fields = BodyFields::default();
    transfer_encoding.into_iter().for_each(|value| fields.transfer_encoding(value));
    content_length.into_iter().for_each(|value| fields.content_length(value));
    fields.decide(version)
}

/// Fuzz target: lines of both fields, `T` or `C` first. An accepted framing must be that of the strictest reading of
/// the same lines.
#[cfg(any(test, fuzzing, feature = "__internals"))]
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let of = |kind: u8| data.split(|&b| b == b'\n').filter_map(move |line| line.strip_prefix(&[kind]));
    let framing = request_framing(Version::Http11, of(b'T'), of(b'C'));
    let joined = |kind| of(kind).collect::<Vec<_>>().join(&b","[..]);
    let (te, cl) = (joined(b'T'), joined(b'C'));
    match framing {
        Ok(Framing::Chunked) => {
            assert!(grammar::trim(&te).eq_ignore_ascii_case(b"chunked") && of(b'C').next().is_none());
        }
        Ok(Framing::Length(n)) => {
            let same = |e: &[u8]| String::from_utf8_lossy(e).parse::<u64>() == Ok(n) && e[0].is_ascii_digit();
            assert!(of(b'T').next().is_none() && grammar::list(&cl).all(same));
        }
        Ok(Framing::None) => assert!(of(b'T').chain(of(b'C')).next().is_none()),
        Err(m) => assert!(m.status() == 400 || m.status() == 501),
    }
    // Splitting the list over lines changes nothing.
    let whole = |value: Vec<u8>, any: bool| any.then_some(value);
    let (te, cl) = (whole(te, of(b'T').next().is_some()), whole(cl, of(b'C').next().is_some()));
    assert_eq!(framing, request_framing(Version::Http11, te.as_deref(), cl.as_deref()));
}

#[cfg(test)]
mod tests {
    use super::{Framing::*, Misbehaved::*, *};

    type Row = (&'static str, &'static [&'static str], &'static [&'static str], Result<Framing, Misbehaved>);

    #[rustfmt::skip]
    const ROWS: &[Row] = &[
        // name                  Transfer-Encoding             Content-Length              outcome
        ("nothing",              &[],                          &[],                        Ok(None)),
        ("length",               &[],                          &["42"],                    Ok(Length(42))),
        ("zero",                 &[],                          &["0"],                     Ok(Length(0))),
        ("leading zeros",        &[],                          &["0042"],                  Ok(Length(42))),
        ("largest",              &[],                          &["18446744073709551615"],  Ok(Length(u64::MAX))),
        ("overflow",             &[],                          &["18446744073709551616"],  Err(BadContentLength)),
        ("long overflow",        &[],                          &["99999999999999999999999999"], Err(BadContentLength)),
        ("plus sign",            &[],                          &["+4"],                    Err(BadContentLength)),
        ("minus sign",           &[],                          &["-4"],                    Err(BadContentLength)),
        ("hexadecimal",          &[],                          &["0x4"],                   Err(BadContentLength)),
        ("fraction",             &[],                          &["4.0"],                   Err(BadContentLength)),
        ("empty length",         &[],                          &[""],                      Err(BadContentLength)),
        ("inner space",          &[],                          &["4 4"],                   Err(BadContentLength)),
        ("underscore",           &[],                          &["1_0"],                   Err(BadContentLength)),
        ("other digits",         &[],                          &["\u{664}"],               Err(BadContentLength)),
        ("equal lines",          &[],                          &["4", "4"],                Ok(Length(4))),
        ("equal list",           &[],                          &["4, 4"],                  Ok(Length(4))),
        ("different lines",      &[],                          &["4", "5"],                Err(BadContentLength)),
        ("different list",       &[],                          &["4, 5"],                  Err(BadContentLength)),
        ("list with a hole",     &[],                          &["4,,4"],                  Err(BadContentLength)),
        ("list that ends open",  &[],                          &["4,"],                    Err(BadContentLength)),
        ("good, then bad",       &[],                          &["4", "x", "4"],           Err(BadContentLength)),
        ("chunked",              &["chunked"],                 &[],                        Ok(Chunked)),
        ("any case",             &["cHuNkEd"],                 &[],                        Ok(Chunked)),
        ("whitespace around",    &[" \tchunked\t"],            &[],                        Ok(Chunked)),
        ("chunked twice",        &["CHUNKED, chunked"],        &[],                        Err(ChunkedNotFinal)),
        ("twice, in two lines",  &["chunked", "chunked"],      &[],                        Err(ChunkedNotFinal)),
        ("not the last",         &["chunked, gzip"],           &[],                        Err(ChunkedNotFinal)),
        ("hidden by a line",     &["chunked", "identity"],     &[],                        Err(ChunkedNotFinal)),
        ("another before",       &["gzip, chunked"],           &[],                        Err(UnknownTransferCoding)),
        ("another alone",        &["gzip"],                    &[],                        Err(UnknownTransferCoding)),
        ("with a parameter",     &["x;q=\"1\""],               &[],                        Err(UnknownTransferCoding)),
        ("identity",             &["identity"],                &[],                        Err(UnknownTransferCoding)),
        ("xchunked",             &["xchunked"],                &[],                        Err(UnknownTransferCoding)),
        ("chunkedx",             &["chunkedx"],                &[],                        Err(UnknownTransferCoding)),
        ("parameter on chunked", &["chunked;a=b"],             &[],                        Err(BadTransferEncoding)),
        ("open parameter",       &["chunked ;"],               &[],                        Err(BadTransferEncoding)),
        ("empty",                &[""],                        &[],                        Err(BadTransferEncoding)),
        ("empty, then chunked",  &["", "chunked"],             &[],                        Err(BadTransferEncoding)),
        ("only commas",          &[","],                       &[],                        Err(BadTransferEncoding)),
        ("comma before",         &[", chunked"],               &[],                        Err(BadTransferEncoding)),
        ("comma after",         &["chunked,"],                &[],                        Err(BadTransferEncoding)),
        ("quoted",               &["\"chunked\""],             &[],                        Err(BadTransferEncoding)),
        ("two words",            &["chun ked"],                &[],                        Err(BadTransferEncoding)),
        ("vertical tab",         &["\x0bchunked"],             &[],                        Err(BadTransferEncoding)),
        ("no-break space",       &["chunked\u{a0}"],           &[],                        Err(BadTransferEncoding)),
        ("smuggle TE.CL, CL.TE", &["chunked"],                 &["4"],                     Err(BothLengths)),
        ("with length zero",     &["chunked"],                 &["0"],                     Err(BothLengths)),
        ("both, one bad",        &["xchunked"],                &["4"],                     Err(BothLengths)),
        ("both, other bad",      &["chunked"],                 &["x"],                     Err(BothLengths)),
        ("both, empty",          &[""],                        &["4"],                     Err(BothLengths)),
    ];

    fn lines<'a>(lines: &'a [&'a str]) -> impl Iterator<Item = &'a [u8]> {
        lines.iter().map(|line| line.as_bytes())
    }

    #[test]
    fn by_the_table() {
        for (name, te, cl, want) in ROWS {
            assert_eq!(request_framing(Version::Http11, lines(te), lines(cl)), *want, "{name}");
            // On 1.0 alike, except that Transfer-Encoding is never valid.
            let want = if te.is_empty() { *want } else { Err(TransferEncodingOn10) };
            assert_eq!(request_framing(Version::Http10, lines(te), lines(cl)), want, "{name}");
        }
    }

    #[test]
    fn the_fuzz_target_holds_over_the_table_and_its_neighbours() {
        for (_, te, cl, _) in ROWS {
            let all = te.iter().map(|te| format!("T{te}\n")).chain(cl.iter().map(|cl| format!("C{cl}\n")));
            let data = all.collect::<String>();
            super::super::neighbours::fuzz_neighbours(data.as_bytes(), b"\0,; 9\n\xff", fuzz);
        }
    }

    #[test]
    fn the_announced_length_is_kept() {
        assert_eq!((None.content_length(), Length(0).content_length()), (Option::None, Some(0)));
        assert!(None.is_empty() && Length(0).is_empty() && !Chunked.is_empty() && !Length(1).is_empty());
    }
}
