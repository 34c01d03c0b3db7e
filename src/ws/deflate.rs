//! permessage-deflate (RFC 7692): its parameters, and the two codecs.
//!
//! ```text
//!   sent:         payload ─▶ deflate, flushed ─▶ without its last 4 bytes, 00 00 ff ff ─▶ a frame with RSV1
//!   received:     payloads of a message's frames, then 00 00 ff ff ─▶ inflate, piece by piece, under the limit
//! ```
//!
//! A block can be marked as the final one (RFC 7692 §7.2.3.4). The next block, in this message or in the next one,
//! starts at a byte boundary with an empty window: by RFC 1951 §3.2.3 the final block ends the data set, and no known
//! compressor refers to earlier data (zlib resets, on both sides). A message that ends with a final block is complete
//! without `00 00 ff ff`.
//!
//! With its tail, a message must end where a block ends. A truncated message is rejected itself: otherwise the
//! beginning of the next message would be read as its rest.
//!
//! A side that keeps its context between messages keeps a codec for each connection. A side that does not borrows one
//! from its thread while it handles a message, so an idle connection has none.

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// The parameters of compression. It is off unless they are given to [`Accept::deflate`](super::Accept::deflate) or
/// [`Offer::deflate`](super::Offer::deflate), and then only if the peer agrees.
///
/// # Memory
///
/// By default, neither side keeps its context from one message to the next. Then codecs belong to the thread, which
/// keeps up to four of each kind, and an idle connection has none. A side that keeps its context needs a codec for each
/// connection, from its first compressed message on: 320 KiB to deflate with a window of 15 bits (200 KiB with 9), and
/// 50 KiB to inflate with any.
///
/// [`Config::message`](super::Config::message) limits the size of an inflated message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflate {
    pub(super) level: u32,
    pub(super) least: usize,
    pub(super) own: Half,
    pub(super) peer: Half,
}

/// The parameters of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Half {
    /// The window's size, as its logarithm: 8 to 15.
    pub(crate) bits: u8,
    /// `true` if a message may refer to the messages before it.
    pub(crate) context: bool,
}

impl Deflate {
    /// Returns the default: windows of 15 bits, no context kept, level 6, and messages below 64 bytes not compressed.
    pub fn new() -> Self {
        let half = Half { bits: 15, context: false };
        Self { level: 6, least: 64, own: half, peer: half }
    }

    /// Allows this side to keep its context: short similar messages become much smaller.
    pub fn keep_own_context(self, keep: bool) -> Self {
        Self { own: Half { context: keep, ..self.own }, ..self }
    }

    /// Allows the peer to keep its context.
    pub fn keep_peer_context(self, keep: bool) -> Self {
        Self { peer: Half { context: keep, ..self.peer }, ..self }
    }

    /// Sets the size of this side's window, as its logarithm, clamped to 9 to 15. The peer can request a smaller one.
    pub fn own_window(self, bits: u8) -> Self {
        Self { own: Half { bits: bits.clamp(9, 15), ..self.own }, ..self }
    }

    /// Sets the size of the peer's window, as its logarithm, clamped to 9 to 15. It is requested where the RFC allows
    /// that.
    pub fn peer_window(self, bits: u8) -> Self {
        Self { peer: Half { bits: bits.clamp(9, 15), ..self.peer }, ..self }
    }

    /// Sets the compression level, 1 to 9.
    pub fn level(self, level: u32) -> Self {
        Self { level: level.clamp(1, 9), ..self }
    }

    /// Sets the size in bytes below which messages are sent uncompressed.
    pub fn at_least(self, bytes: usize) -> Self {
        // A compressed empty message would be a useless special case.
        Self { least: bytes.max(1), ..self }
    }
}

impl Default for Deflate {
    fn default() -> Self {
        Self::new()
    }
}

/// The end of each compressed message, which is not sent (RFC 7692 §7.2.1).
pub(crate) const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Bytes of an inflating codec, with its window.
pub(crate) const CODEC: usize = 50 * 1024;

/// Codecs of each kind that a thread keeps.
const KEPT: usize = 4;

#[derive(Default)]
struct Spare {
    inflate: Vec<Decompress>,
    deflate: Vec<(u32, u8, Compress)>,
}

thread_local! {
    static SPARE: RefCell<Spare> = RefCell::default();
}

/// Inflates what the peer sends.
pub(crate) struct Inflate {
    half: Half,
    codec: Option<Decompress>,
    corrupt: bool,
    /// The last block was a final one, and nothing followed it.
    finished: bool,
}

impl Inflate {
    pub(crate) fn new(half: Half) -> Self {
        Self { half, codec: None, corrupt: false, finished: false }
    }

    /// Reads some of `input` and writes some of `out`. Returns the number of bytes of each. If `out` is full, there may
    /// be more output, even if all of `input` was read. Output before a fault is returned together with the fault: see
    /// [`is_corrupt`](Self::is_corrupt).
    pub(crate) fn step(&mut self, input: &[u8], out: &mut [u8]) -> (usize, usize) {
        let half = self.half;
        let codec = self.codec.get_or_insert_with(|| {
            // A spare codec has the largest window, which inflates all sizes.
            let spare = if half.context { None } else { SPARE.with_borrow_mut(|spare| spare.inflate.pop()) };
            let bits = if half.context { half.bits.max(9) } else { 15 };
            spare.unwrap_or_else(|| Decompress::new_with_window_bits(false, bits))
        });
        let (mut taken, mut made) = (0, 0);
        self.finished &= input.is_empty();
        loop {
            let (before_in, before_out) = (codec.total_in(), codec.total_out());
            let status = codec.decompress(&input[taken..], &mut out[made..], FlushDecompress::Sync);
            taken += (codec.total_in() - before_in) as usize;
            made += (codec.total_out() - before_out) as usize;
            match status {
                // A final block (§7.2.3.4): the next one starts with an empty window.
                Ok(Status::StreamEnd) => {
                    codec.reset(false);
                    self.finished = taken == input.len();
                }
                Ok(Status::Ok | Status::BufError) => return (taken, made),
                Err(_) => {
                    self.corrupt = true;
                    return (taken, made);
                }
            }
            if taken == input.len() || made == out.len() {
                return (taken, made);
            }
        }
    }

    /// Returns `true` if the input was not valid. Further output is meaningless.
    pub(crate) fn is_corrupt(&self) -> bool {
        self.corrupt
    }

    /// Returns `true` if the input so far ends with a final block. A message that ends here is complete without its
    /// tail.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Returns `true` if a block has just ended: empty blocks have no effect there. Within a block they are data or
    /// invalid, and the codec cannot be used afterwards.
    pub(crate) fn is_between_blocks(&mut self) -> bool {
        const EMPTY: [u8; 10] = [0, 0, 0, 0xff, 0xff, 0, 0, 0, 0xff, 0xff];
        self.step(&EMPTY, &mut [0; 16]) == (EMPTY.len(), 0) && !self.corrupt
    }

    /// Ends a message.
    pub(crate) fn end(&mut self) {
        self.finished = false;
        if self.half.context {
            return;
        }
        if let Some(mut codec) = self.codec.take() {
            codec.reset(false);
            SPARE.with_borrow_mut(|spare| {
                if spare.inflate.len() < KEPT {
                    spare.inflate.push(codec);
                }
            });
        }
    }
}

/// Deflates what we send.
pub(crate) struct Deflater {
    half: Half,
    level: u32,
    least: usize,
    codec: Option<Compress>,
}

impl Deflater {
    pub(crate) fn new(agreed: &Deflate) -> Self {
        Self { half: agreed.own, level: agreed.level, least: agreed.least, codec: None }
    }

    /// Appends the compressed payload to `out`. Returns `false` if the message must be sent uncompressed; nothing was
    /// appended then.
    pub(crate) fn message(&mut self, payload: &[u8], out: &mut Vec<u8>) -> bool {
        // A window of 8 bits can be negotiated, but zlib does not support it.
        if payload.len() < self.least || self.half.bits < 9 {
            return false;
        }
        let Half { bits, context } = self.half;
        let level = self.level;
        let codec = self.codec.get_or_insert_with(|| {
            let spare = if context { None } else { Self::spare(level, bits) };
            spare.unwrap_or_else(|| Compress::new_with_window_bits(Compression::new(level), false, bits))
        });
        let start = out.len();
        let end = codec.total_in() + payload.len() as u64;
        out.reserve(payload.len() / 2 + 64);
        loop {
            let taken = payload.len() - (end - codec.total_in()) as usize;
            let result = codec.compress_vec(&payload[taken..], out, FlushCompress::Sync);
            let all = codec.total_in() == end;
            match result {
                // Room was left: the flush is complete.
                Ok(_) if all && out.len() < out.capacity() => break,
                Ok(_) => out.reserve(out.len() - start + 64),
                Err(_) => {
                    // Deflating does not fail; if it did, its state would be useless.
                    self.codec = None;
                    out.truncate(start);
                    return false;
                }
            }
        }
        if out[start..].ends_with(&TAIL) {
            out.truncate(out.len() - TAIL.len());
        }
        if !context && let Some(mut codec) = self.codec.take() {
            codec.reset();
            SPARE.with_borrow_mut(|spare| {
                if spare.deflate.len() < KEPT {
                    spare.deflate.push((level, bits, codec));
                }
            });
        }
        true
    }

    fn spare(level: u32, bits: u8) -> Option<Compress> {
        SPARE.with_borrow_mut(|spare| {
            let found = spare.deflate.iter().position(|(l, b, _)| (*l, *b) == (level, bits))?;
            Some(spare.deflate.swap_remove(found).2)
        })
    }
}
