//! The rules that a peer can violate, and the response to each.

use std::fmt;

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $status:literal $rule:literal,)*) => {
        /// A rule that the peer violated, or a limit that it exceeded.
        ///
        /// Every variant has a [`rule`](Self::rule) in one sentence, for the log and the peer, and one
        /// [`status`](Self::status). After it the position in the stream is lost or untrusted: the connection sends one
        /// response and closes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Misbehaved {
            $($(#[$doc])* $name,)*
        }

        impl Misbehaved {
            /// All variants, for tables and tests.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Returns the status of the error response: 400, 408, 413, 414, 417, 431, 501 or 505. A rule that only a
            /// server can violate is 502, which a gateway sends to its client.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// Returns the rule in a short sentence, which is the text of the error response.
            pub const fn rule(self) -> &'static str {
                match self { $(Self::$name => $rule,)* }
            }
        }
    };
}

rules! {
    /// A line feed without a carriage return before it (RFC 9112 §2.2).
    BareLf = 400 "lines must end with CR LF",
    /// A carriage return without a line feed behind it (RFC 9112 §2.2).
    BareCr = 400 "a CR must be followed by LF",
    /// A NUL or another control byte in a head (RFC 9110 §5.5).
    ControlByte = 400 "control characters are not allowed in a head",
    /// Not `method SP target SP version` (RFC 9112 §3).
    BadRequestLine = 400 "malformed request line: expected METHOD TARGET VERSION",
    /// A pseudo-header field of HTTP/2 is missing, unknown, empty, there twice, in the wrong place, or not allowed in such
    /// a request (RFC 9113 §8.3, RFC 8441 §4).
    BadPseudoField = 400 "the pseudo-header fields are malformed",
    /// The method is not a token (RFC 9110 §9.1).
    BadMethod = 400 "the method must be a token",
    /// The target is in none of the four forms, or not in the one its method needs (RFC 9112 §3.2).
    BadTarget = 400 "the request target is malformed",
    /// The target, or the whole request line, exceeds the limit.
    TargetTooLong = 414 "the request target is too long",
    /// Not `HTTP/` digit `.` digit (RFC 9112 §2.3).
    BadVersion = 400 "the protocol version is malformed",
    /// A version other than 1.0 and 1.1.
    UnsupportedVersion = 505 "unsupported HTTP version: expected HTTP/1.0 or HTTP/1.1",
    /// A version before 2 on a server that speaks only HTTP/2.
    Http2Required = 505 "unsupported HTTP version: expected HTTP/2",
    /// A field line that is not `name ":" OWS value OWS` (RFC 9112 §5).
    BadField = 400 "a header field line is malformed",
    /// A field line continued on the next (RFC 9112 §5.2).
    ObsFold = 400 "a header field must not continue on the next line",
    /// Whitespace between field name and colon (RFC 9112 §5.1).
    SpaceBeforeColon = 400 "no space is allowed between a field name and its colon",
    /// More field lines than the limit.
    TooManyFields = 431 "too many header fields",
    /// A head longer than the limit.
    HeadTooLarge = 431 "the request head is too large",
    /// HTTP/1.1 without Host (RFC 9112 §3.2).
    MissingHost = 400 "a Host field is required",
    /// More than one Host line (RFC 9112 §3.2).
    DuplicateHost = 400 "only one Host field is allowed",
    /// Host is not `uri-host [":" port]` (RFC 9110 §7.2).
    BadHost = 400 "the Host field is malformed",
    /// Not digits, too large a number, or two different ones (RFC 9112 §6.3, item 5).
    BadContentLength = 400 "Content-Length must be one decimal number",
    /// Content-Length and Transfer-Encoding together (RFC 9112 §6.3, item 3): the smuggling case.
    BothLengths = 400 "Content-Length and Transfer-Encoding exclude each other",
    /// A transfer coding other than chunked (RFC 9112 §6.1).
    UnknownTransferCoding = 501 "unsupported transfer coding: expected chunked",
    /// Chunked twice, or not the last (RFC 9112 §6.3, item 4).
    ChunkedNotFinal = 400 "chunked must be the last transfer coding, and only once",
    /// An empty list, an empty element, a parameter on chunked, or not a token (RFC 9112 §6.1, §7).
    BadTransferEncoding = 400 "Transfer-Encoding is malformed",
    /// Transfer-Encoding from an HTTP/1.0 client (RFC 9112 §6.1).
    TransferEncodingOn10 = 400 "Transfer-Encoding does not exist in HTTP/1.0",
    /// A malformed chunk size line or end of a chunk (RFC 9112 §7.1).
    BadChunk = 400 "the chunked body is malformed",
    /// Chunk extensions over the limit, of one chunk or of all (RFC 9112 §7.1.1).
    ChunkExtensionTooLong = 400 "chunk extensions are too long",
    /// Trailers over the limit, in bytes or in number.
    TrailersTooLarge = 431 "the trailer fields are too large",
    /// A malformed trailer line (RFC 9112 §7.1.2).
    BadTrailer = 400 "a trailer field line is malformed",
    /// A body longer than the limit.
    BodyTooLarge = 413 "the request body is too large",
    /// An expectation other than 100-continue (RFC 9110 §10.1.1).
    UnknownExpectation = 417 "unsupported expectation: expected 100-continue",
    /// Plain HTTP on a TLS port.
    PlainHttpOnTls = 400 "plain HTTP on an HTTPS port",
    /// The head did not arrive in time.
    HeadTimeout = 408 "the request head took too long",
    /// The body did not arrive in time, or too slowly.
    BodyTimeout = 408 "the request body took too long",
    /// The connection ended before the body (RFC 9112 §8).
    TruncatedBody = 400 "the body is truncated",
    /// Not `version SP three digits SP [reason]` (RFC 9112 §4); or a response that is not HTTP.
    BadStatusLine = 502 "malformed status line: expected VERSION STATUS REASON",
    /// A 101 to a request that offered no upgrade (RFC 9110 §7.8).
    UnrequestedSwitch = 502 "101 although no upgrade was offered",
    /// Too many informational responses (1xx, RFC 9110 §15.2).
    TooManyInformational = 502 "too many informational responses (1xx)",
}

impl fmt::Display for Misbehaved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.rule())
    }
}

impl std::error::Error for Misbehaved {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_status_that_is_known_and_a_rule_of_one_line() {
        for m in Misbehaved::ALL {
            assert!([400, 408, 413, 414, 417, 431, 501, 502, 505].contains(&m.status()), "{m:?}");
            assert!(!crate::h1::reason(m.status()).is_empty(), "{m:?}");
            assert!(m.rule().bytes().all(|b| (b' '..=b'~').contains(&b)) && m.rule().len() < 80, "{m:?}");
            assert_eq!(Misbehaved::ALL.iter().filter(|other| other.rule() == m.rule()).count(), 1, "{m:?}");
        }
    }
}
