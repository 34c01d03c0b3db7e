//! Header blocks (SPDY/3 §2.6.10): one zlib stream in each direction for the connection's life.
//!
//! ```text
//!   received:  deflated pieces ─▶ Inflater ─▶ count, {len, name, len, value}… ─▶ Pairs ─▶ head.rs
//!                                 64 KiB of a block are kept, 2 MiB inflated
//!   sent:      78 f9 dictionary │ 00 len !len pairs… │ 00 0000 ffff │ 00 len !len pairs… │ 00 0000 ffff │ …
//!              once, at first   │ stored             │ flush        │ the next block
//! ```
//!
//! # Why no header block is compressed
//!
//! All public clients of a tunnel share its stream of header blocks. An attacker may be able to send requests of its
//! own, or to make a browser send them, and to see the length of the frames. With compression, a correct guess at
//! another client's cookie then makes the block shorter (CRIME). Leaving out the fields that are known to be secret is
//! not enough. Any field may be secret, and compressed data can refer back to earlier uncompressed data. So each block
//! uses deflate's *stored* form, which every inflater understands, in a stream that begins like that of spdy-proxy. A
//! flush, an empty stored block, ends each: spdy-proxy's inflater then returns what it has. A request becomes some
//! hundred bytes longer, and 300 KiB of compressor state for each connection are saved.
//!
//! A peer may compress in any way. A block that inflates to more than 64 KiB ends its stream, not the connection. The
//! rest is inflated, as the next block builds on it, and dropped. The limit for that is above the 1 MiB that a
//! spdy-proxy allows for a head, and low enough to be harmless.

use flate2::{Decompress, FlushDecompress, Status};

use super::{dictionary::DICTIONARY, fault::Fault};

/// The dictionary's identifier.
pub(super) const ADLER: u32 = 0xe3c6_a7c2;
/// Limit of the inflated bytes of one block that are kept.
const KEPT: usize = 64 * 1024;
/// Limit of the inflated bytes of one block.
const MAX_INFLATED: usize = 2 * 1024 * 1024;
/// Largest number of fields in one block.
const FIELDS: usize = 200;

/// The receiving end of the stream.
pub(super) struct Inflater {
    codec: Decompress,
    block: Vec<u8>,
    /// Inflated bytes of this block so far.
    inflated: usize,
}

impl Inflater {
    pub(super) fn new() -> Self {
        Self { codec: Decompress::new(true), block: Vec::new(), inflated: 0 }
    }

    /// Inflates a piece of a block.
    ///
    /// # Errors
    /// Returns an error if it is not a valid zlib stream, or if the block is too large.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        let mut out = [0; 4096];
        loop {
            let (before_in, before_out) = (self.codec.total_in(), self.codec.total_out());
            let status = self.codec.decompress(bytes, &mut out, FlushDecompress::Sync);
            let taken = (self.codec.total_in() - before_in) as usize;
            let made = (self.codec.total_out() - before_out) as usize;
            bytes = &bytes[taken..];
            match status {
                Ok(Status::Ok | Status::BufError) => {}
                Ok(Status::StreamEnd) => return Err(Fault::protocol("the stream of header blocks has ended")),
                Err(error) if error.needs_dictionary() == Some(ADLER) => {
                    let known = self.codec.set_dictionary(&DICTIONARY);
                    known.map_err(|_| Fault::protocol("header blocks with another dictionary"))?;
                    continue;
                }
                Err(_) => return Err(Fault::protocol("cannot inflate a header block")),
            }
            self.inflated += made;
            if self.inflated > MAX_INFLATED {
                return Err(Fault::protocol("a header block is too large"));
            }
            let left = KEPT.saturating_sub(self.block.len());
            self.block.extend_from_slice(&out[..made.min(left)]);
            if made < out.len() && bytes.is_empty() {
                return Ok(());
            }
            if taken == 0 && made == 0 {
                return Err(Fault::protocol("cannot inflate a header block"));
            }
        }
    }

    /// Ends the block and returns its pairs. `None`: it was too large for its stream.
    ///
    /// # Errors
    /// Returns an error if its lengths do not match: the next block would not either.
    pub(super) fn end(&mut self) -> Result<Option<Pairs>, Fault> {
        let whole = self.inflated <= KEPT;
        self.inflated = 0;
        let block = std::mem::take(&mut self.block);
        if !whole { Ok(None) } else { Pairs::parse(block) }
    }
}

/// A block's names and values. Only their lengths are checked.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Pairs(Vec<u8>);

impl Pairs {
    /// Returns `None` if there are more fields than allowed.
    fn parse(block: Vec<u8>) -> Result<Option<Self>, Fault> {
        const RULE: Fault = Fault::protocol("a header block whose lengths do not match");
        let mut rest = &block[..];
        let count = number(&mut rest).ok_or(RULE)?;
        // Each field has at least two lengths.
        if count > rest.len() / 8 {
            return Err(RULE);
        }
        for _ in 0..count {
            pair(&mut rest).ok_or(RULE)?;
        }
        match rest {
            [] => Ok((count <= FIELDS).then_some(Self(block))),
            _ => Err(RULE),
        }
    }

    /// Returns all pairs, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = self.0.get(4..).unwrap_or_default();
        std::iter::from_fn(move || pair(&mut rest))
    }
}

impl std::fmt::Debug for Pairs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |bytes| String::from_utf8_lossy(bytes);
        f.debug_list().entries(self.iter().map(|(name, value)| (text(name), text(value)))).finish()
    }
}

fn number(rest: &mut &[u8]) -> Option<usize> {
    let (number, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(u32::from_be_bytes(*number) as usize)
}

fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = number(rest)?;
    let (string, behind) = rest.split_at_checked(len)?;
    *rest = behind;
    Some(string)
}

fn pair<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    Some((string(rest)?, string(rest)?))
}

/// The sending end of the stream.
#[derive(Debug, Default)]
pub(super) struct Stored {
    begun: bool,
}

impl Stored {
    /// Appends a block of these pairs.
    pub(super) fn block<'a>(&mut self, out: &mut Vec<u8>, pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
        let mut plain = vec![0; 4];
        let mut count = 0u32;
        for (name, value) in pairs {
            for string in [name, value] {
                plain.extend_from_slice(&(string.len() as u32).to_be_bytes());
                plain.extend_from_slice(string);
            }
            count += 1;
        }
        plain[..4].copy_from_slice(&count.to_be_bytes());
        if !self.begun {
            self.begun = true;
            // RFC 1950: deflate, a window of 32 KiB, best compression, with this dictionary.
            out.extend_from_slice(&[0x78, 0xf9]);
            out.extend_from_slice(&ADLER.to_be_bytes());
        }
        // RFC 1951 §3.2.4. Each begins at a byte boundary, as the one before ends at one.
        for part in plain.chunks(0xffff).chain([&[][..]]) {
            let len = part.len() as u16;
            out.push(0);
            out.extend_from_slice(&len.to_le_bytes());
            out.extend_from_slice(&(!len).to_le_bytes());
            out.extend_from_slice(part);
        }
    }
}

#[cfg(test)]
#[path = "headers_tests.rs"]
mod tests;
