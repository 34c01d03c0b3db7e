//! The line between two parts, found in content that arrives in pieces (RFC 2046 §5.1.1).
//!
//! ```text
//!   ␍␊ --boundary          delimiter: the CR LF before it is not content
//!   └ matched ┘            bytes that ended an earlier piece, and may be content after all
//! ```
//!
//! Only the first byte of a delimiter is a CR, so bytes that turn out to be content contain no other delimiter's begin,
//! and are equal to the delimiter's own first bytes: nothing is stored of a piece.

use super::{error::FormError, parameters};

/// Characters of a boundary (RFC 2046 §5.1.1).
const BOUNDARY_MAX: usize = 70;

/// A delimiter, and how much of it the content ended with so far.
#[derive(Debug)]
pub(super) struct Delimiter {
    /// CR LF, two hyphens, the boundary.
    bytes: Box<[u8]>,
    matched: usize,
    /// Of the matched bytes, those that belong to the line before: never content.
    hidden: usize,
}

/// The front of a piece.
#[derive(Debug, PartialEq)]
pub(super) enum Found {
    /// This many bytes of content.
    Content(usize),
    /// Content that ended earlier pieces: these first bytes of [`Delimiter::bytes`]. This many bytes of the piece
    /// belong to it, too.
    Earlier(std::ops::Range<usize>, usize),
    /// The rest of a delimiter.
    End(usize),
    /// All of the piece may be the begin of a delimiter.
    Nothing,
}

impl Delimiter {
    /// Returns the delimiter for the boundary in a Content-Type.
    pub(super) fn of_content_type(parameters: parameters::Parameters<'_>) -> Result<Self, FormError> {
        let boundary = parameters.only("boundary").ok().flatten().ok_or(FormError::Boundary)?;
        let is_allowed = |&b: &u8| b.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&b);
        if boundary.is_empty()
            || boundary.len() > BOUNDARY_MAX
            || boundary.ends_with(b" ")
            || !boundary.iter().all(is_allowed)
        {
            return Err(FormError::Boundary);
        }
        Ok(Self { bytes: [b"\r\n--", &boundary[..]].concat().into(), matched: 0, hidden: 0 })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Begins after a line: its CR LF can be the delimiter's.
    pub(super) fn begin_after_line(&mut self) {
        (self.matched, self.hidden) = (2, 2);
    }

    /// Begins in the middle of a line.
    pub(super) fn begin(&mut self) {
        (self.matched, self.hidden) = (0, 0);
    }

    /// Classifies the front of a piece that is not empty.
    pub(super) fn find(&mut self, piece: &[u8]) -> Found {
        if self.matched > 0 {
            let rest = &self.bytes[self.matched..];
            let n = equal(rest, piece);
            if n == rest.len() {
                self.begin();
                return Found::End(n);
            }
            if n == piece.len() {
                self.matched += n;
                return Found::Nothing;
            }
            let earlier = self.hidden..self.matched + n;
            self.begin();
            if !earlier.is_empty() {
                return Found::Earlier(earlier, n);
            }
        }
        let mut at = 0;
        while let Some(cr) = find_cr(&piece[at..]) {
            at += cr;
            let n = equal(&self.bytes, &piece[at..]);
            if at > 0 && (n == self.bytes.len() || n == piece.len() - at) {
                return Found::Content(at);
            }
            if n == self.bytes.len() {
                return Found::End(n);
            }
            if n == piece.len() {
                self.matched = n;
                return Found::Nothing;
            }
            at += 1;
        }
        Found::Content(piece.len())
    }
}

/// Returns how many of the first bytes are equal.
fn equal(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Returns the position of the first CR. Files have few, so blocks without one are skipped as a whole.
fn find_cr(bytes: &[u8]) -> Option<usize> {
    let (blocks, _) = bytes.as_chunks::<32>();
    let has_none = |block: &&[u8; 32]| !block.iter().fold(false, |found, &b| found | (b == b'\r'));
    let skipped = 32 * blocks.iter().take_while(has_none).count();
    bytes[skipped..].iter().position(|&b| b == b'\r').map(|at| skipped + at)
}
