//! permessage-deflate (RFC 7692): what may be agreed on, and the two codecs.
//!
//! ```text
//!   to be sent:   payload ─▶ deflate, flushed ─▶ without its last 4 bytes, 00 00 ff ff ─▶ a frame with RSV1
//!   received:     payloads of a message's frames, then 00 00 ff ff ─▶ inflate, piece by piece, under the limit
//! ```
//!
//! A block may say that it is the final one (RFC 7692 §7.2.3.4). What follows it, in the same message or in the next,
//! begins anew at the next byte, with an empty window: RFC 1951 §3.2.3 has the data set end with it, and no compressor
//! that is known refers to what lies before it (zlib forgets it, on both sides). A message that ends with a final block
//! is whole as it is: it has no `00 00 ff ff` to be completed by.
//!
//! With its tail, a message must end where a block does. One that is cut would take the beginning of the next for its rest:
//! it is refused, and not the one behind it.
//!
//! A side that keeps its context between messages keeps a codec for each connection. One that does not borrows a
//! thread's for the time of a message: an idle connection then has none.

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// How messages may be compressed; off unless it is given to [`Accept::deflate`](super::Accept::deflate) or
/// [`Offer::deflate`](super::Offer::deflate), and then only if the peer agrees.
///
/// # Memory
///
/// As it is made by [`new`](Self::new), neither side keeps its context from one message to the next. Then codecs belong
/// to the thread, which keeps up to four of each kind, and an idle connection has none. A side that keeps its context
/// needs a codec for each connection, from its first compressed message on: 320 KiB to deflate with a window of 15 bits
/// (200 KiB with 9), and 50 KiB to inflate with any.
///
/// What a message may be inflated to is limited by [`Config::message`](super::Config::message).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflate {
    pub(super) level: u32,
    pub(super) least: usize,
    pub(super) own: Half,
    pub(super) peer: Half,
}

/// One direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Half {
    /// The window's size, as its logarithm: 8 to 15.
    pub(crate) bits: u8,
    /// Whether a message may refer to those before it.
    pub(crate) context: bool,
}

impl Deflate {
    /// Windows of 15 bits, no context kept by either side, level 6, and nothing below 64 bytes compressed.
    pub fn new() -> Self {
        let half = Half { bits: 15, context: false };
        Self { level: 6, least: 64, own: half, peer: half }
    }

    /// Whether we may keep our context: short messages that are alike become much smaller.
    pub fn keep_own_context(self, keep: bool) -> Self {
        Self { own: Half { context: keep, ..self.own }, ..self }
    }

    /// Whether the peer may keep its context.
    pub fn keep_peer_context(self, keep: bool) -> Self {
        Self { peer: Half { context: keep, ..self.peer }, ..self }
    }

    /// Our window, as its logarithm: 9 to 15, or the nearest of them. The peer may ask for a smaller one.
    pub fn own_window(self, bits: u8) -> Self {
        Self { own: Half { bits: bits.clamp(9, 15), ..self.own }, ..self }
    }

    /// The peer's window: 9 to 15, or the nearest of them. It is asked for where the RFC lets us ask.
    pub fn peer_window(self, bits: u8) -> Self {
        Self { peer: Half { bits: bits.clamp(9, 15), ..self.peer }, ..self }
    }

    /// How hard to try, 1 to 9.
    pub fn level(self, level: u32) -> Self {
        Self { level: level.clamp(1, 9), ..self }
    }

    /// Messages of fewer bytes are sent as they are.
    pub fn at_least(self, bytes: usize) -> Self {
        // An empty message, deflated, is a special case nobody needs.
        Self { least: bytes.max(1), ..self }
    }
}

impl Default for Deflate {
    fn default() -> Self {
        Self::new()
    }
}

/// What each message's compressed form ends with, and what is not sent (RFC 7692 §7.2.1).
pub(crate) const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Bytes that one takes which inflates, with its window.
pub(crate) const CODEC: usize = 50 * 1024;

/// Codecs a thread keeps of each kind.
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
    /// The last block said that it is the final one, and nothing has come behind it.
    finished: bool,
}

impl Inflate {
    pub(crate) fn new(half: Half) -> Self {
        Self { half, codec: None, corrupt: false, finished: false }
    }

    /// Takes in some of `input` and puts some into `out`: how much of each. There may be more to come if `out` is full,
    /// even if all of `input` is taken. What comes before a fault is given, with the fault: see
    /// [`is_corrupt`](Self::is_corrupt).
    pub(crate) fn step(&mut self, input: &[u8], out: &mut [u8]) -> (usize, usize) {
        let half = self.half;
        let codec = self.codec.get_or_insert_with(|| {
            // A spare one has the largest window, which is right for all.
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
                // A block that says it is the last (§7.2.3.4): what follows begins anew.
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

    /// What came was not what deflate makes; nothing good will follow.
    pub(crate) fn is_corrupt(&self) -> bool {
        self.corrupt
    }

    /// Returns `true` if what has come ends with a final block: then a message that ends here is whole without its tail.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Returns `true` if a block has just ended. Empty blocks say nothing there. Within a block they are data or a mistake,
    /// and then nothing good follows.
    pub(crate) fn is_between_blocks(&mut self) -> bool {
        const EMPTY: [u8; 10] = [0, 0, 0, 0xff, 0xff, 0, 0, 0, 0xff, 0xff];
        self.step(&EMPTY, &mut [0; 16]) == (EMPTY.len(), 0) && !self.corrupt
    }

    /// The message is over.
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

    /// Appends the payload's compressed form to `out`. `false`: it is to be sent as it is, and nothing was appended.
    pub(crate) fn message(&mut self, payload: &[u8], out: &mut Vec<u8>) -> bool {
        // A window of 8 bits can be agreed on, but zlib has none. What is not compressed needs none either.
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
                    // Deflating does not fail; if it did, its state would be worth nothing.
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
