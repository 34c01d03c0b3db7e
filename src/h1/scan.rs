//! Finds the end of a head, reading each byte once, however the bytes arrive.
//!
//! ```text
//!   ␍␊ GET / HTTP/1.1 ␍␊ Host: x ␍␊ ␍␊ body…
//!   └┬┘└──────────────┬───────────────┘
//!   skip             head                      find() returns where the head ends, skip() where it begins
//! ```
//!
//! For 64 KiB that arrive byte by byte, a parser that starts over with every piece takes 1.3 s of processor time; this
//! takes 0.1 ms. Line ends are checked here too, because the parser after it accepts a bare LF.

use super::Misbehaved;

/// The limits of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the whole head, with empty lines before it. Beyond it: [`Misbehaved::HeadTooLarge`].
    pub head: usize,
    /// Bytes of the request target. Beyond it: [`Misbehaved::TargetTooLong`].
    pub target: usize,
    /// Field lines. Beyond it: [`Misbehaved::TooManyFields`].
    pub fields: usize,
}

impl Default for HeadLimits {
    /// Returns 16 KiB, 8 KiB and 100, as in `uncork::Limits`.
    fn default() -> Self {
        Self { head: 16 * 1024, target: 8 * 1024, fields: 100 }
    }
}

/// Bytes of a request line without its target: method, two spaces, version. Registered methods have up to 17.
const LINE_ROOM: usize = 128;

/// Bytes of empty lines before a request line: four of them. RFC 9112 §2.2 asks for one at least.
const MAX_SKIP: u8 = 8;

/// Searches for the end of one head. Use a new one for each head.
///
/// ```
/// use uncork::h1::{HeadLimits, HeadScanner};
/// let (mut scan, limits) = (HeadScanner::default(), HeadLimits::default());
/// assert_eq!(scan.find(b"GET / HTTP/1.1\r\nHost: x\r\n", &limits), Ok(None));
/// assert_eq!(scan.find(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nmore", &limits), Ok(Some(27)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadScanner {
    /// Every byte before this one was read.
    at: u32,
    /// Bytes of empty lines at the front.
    skip: u8,
    /// The request line is complete.
    lined: bool,
}

impl HeadScanner {
    /// Searches for the end of the head in `bytes`, which must have all bytes since its beginning: the earlier ones and
    /// more. Returns the offset after the empty line. The head is then `bytes[scan.skip()..offset]`.
    ///
    /// # Errors
    /// [`BareLf`](Misbehaved::BareLf), [`BareCr`](Misbehaved::BareCr) and [`ControlByte`](Misbehaved::ControlByte) as
    /// soon as one is seen; [`HeadTooLarge`](Misbehaved::HeadTooLarge), or [`TargetTooLong`](Misbehaved::TargetTooLong)
    /// if the request line does not end; [`BadRequestLine`](Misbehaved::BadRequestLine) after too many
    /// empty lines.
    #[inline]
    pub fn find(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Option<usize>, Misbehaved> {
        let mut at = self.at as usize;
        // Bytes beyond the limit are ignored, so that the outcome does not depend on how many have arrived.
        let mut limit = if self.lined { limits.head } else { limits.head.min(limits.target.saturating_add(LINE_ROOM)) };
        let mut window = &bytes[..bytes.len().min(limit)];
        loop {
            let hit = next_control(window, at);
            match window.get(hit..) {
                // The usual case: a line, and then the empty one. (Of two empty lines, the second belongs to the next
                // head.)
                Some([b'\r', b'\n', b'\r', b'\n', ..]) if hit != usize::from(self.skip) && window[hit - 1] != b'\n' => {
                    self.lined = true;
                    self.at = (hit + 4) as u32;
                    return Ok(Some(hit + 4));
                }
                Some([b'\r', b'\n', ..]) => {
                    at = hit + 2;
                    if hit == usize::from(self.skip) {
                        // RFC 9112 §2.2: "a server [...] SHOULD ignore at least one empty line (CRLF) received prior
                        // to the request-line".
                        self.skip += 2;
                        if self.skip > MAX_SKIP {
                            return Err(Misbehaved::BadRequestLine);
                        }
                    } else if window[hit - 1] == b'\n' {
                        self.at = at as u32;
                        return Ok(Some(at));
                    } else if !self.lined {
                        self.lined = true;
                        limit = limits.head;
                        window = &bytes[..bytes.len().min(limit)];
                    }
                }
                Some([b'\t', ..]) => at = hit + 1,
                Some([b'\r', _, ..]) => return Err(Misbehaved::BareCr),
                Some([b'\n', ..]) => return Err(Misbehaved::BareLf),
                Some([other, ..]) if *other != b'\r' => return Err(Misbehaved::ControlByte),
                // No more bytes, or a CR without its LF yet, which is read again later.
                _ if bytes.len() < limit => {
                    self.at = hit as u32;
                    return Ok(None);
                }
                _ if self.lined => return Err(Misbehaved::HeadTooLarge),
                _ => return Err(Misbehaved::TargetTooLong),
            }
        }
    }

    /// Returns the bytes of empty lines before the head, which are not part of it.
    #[inline]
    pub fn skip(&self) -> usize {
        usize::from(self.skip)
    }
}

/// Returns the index of the first byte below 0x20 from `from` on, or the length. It compares eight bytes at a time.
#[inline]
fn next_control(bytes: &[u8], from: usize) -> usize {
    const ONES: u64 = u64::MAX / 255;
    let mut rest = bytes.get(from..).unwrap_or_default();
    while let Some((word, behind)) = rest.split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        // Bit 7 of each byte below 0x20. A borrow may set it in a byte above one that is below 0x20, never in the
        // first such byte.
        let below = word.wrapping_sub(ONES * 0x20) & !word & (ONES * 0x80);
        if below != 0 {
            let at = bytes.len() - rest.len() + (below.trailing_zeros() / 8) as usize;
            #[cfg(test)]
            tests::looked_at(at - from + 1);
            return at;
        }
        rest = behind;
    }
    let at = bytes.len() - rest.len() + rest.iter().take_while(|&&b| b >= 0x20).count();
    #[cfg(test)]
    tests::looked_at(at - from + 1);
    at
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
