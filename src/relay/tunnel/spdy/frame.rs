//! Decodes frames (SPDY/3.1 §2.2): heads and payloads, checked against limits before anything is held.
//!
//! ```text
//!    control │1│version 15│ type 16 │ flags 8 │ length 24 │ …            data │0│ stream 31 │ flags 8 │ length 24 │ …
//!
//!   input, in any pieces ─▶ Decoder: 18 bytes of state ─▶ Syn, Reset, Ping, …     of fixed size, complete
//!                                                       ─▶ Block, Data             long ones, piece by piece
//! ```
//!
//! No payload is gathered here: header blocks go to the inflater, and data to its stream, as they come. The version is
//! not checked, like in spdy-proxy.

use super::fault::Fault;

/// FIN, on SYN_STREAM, SYN_REPLY, HEADERS and data.
pub(super) const FIN: u8 = 1;
/// SYN_STREAM: the receiver must not respond on this stream.
const UNIDIRECTIONAL: u8 = 2;
/// The largest deflated header block that is accepted. Its frame declares the length.
const BLOCK: u32 = 1 << 20;
/// The longest frame of an unknown type, which is skipped.
const SKIPPED: u32 = 1 << 16;
/// Bytes of the longest head with its fixed part.
const MAX_HEAD: usize = 18;

/// Types of control frames.
pub(super) mod kind {
    pub(crate) const SYN_STREAM: u16 = 1;
    pub(crate) const SYN_REPLY: u16 = 2;
    pub(crate) const RST_STREAM: u16 = 3;
    pub(crate) const PING: u16 = 6;
    pub(crate) const GOAWAY: u16 = 7;
    pub(crate) const HEADERS: u16 = 8;
    pub(crate) const WINDOW_UPDATE: u16 = 9;
}

/// The reason of a reset (§2.6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code(pub(crate) u32);

impl Code {
    pub(crate) const PROTOCOL_ERROR: Self = Self(1);
    pub(crate) const REFUSED_STREAM: Self = Self(3);
    pub(crate) const CANCEL: Self = Self(5);
    pub(crate) const FLOW_CONTROL_ERROR: Self = Self(7);
    pub(crate) const STREAM_IN_USE: Self = Self(8);
    pub(crate) const STREAM_ALREADY_CLOSED: Self = Self(9);
    pub(crate) const FRAME_TOO_LARGE: Self = Self(11);
}

/// The frame that a header block belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syn {
    Stream {
        unidirectional: bool,
    },
    Reply,
    /// HEADERS, which this side never sends: it crashes a spdy-proxy.
    More,
}

/// A frame, or a piece of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A header block begins.
    Syn {
        syn: Syn,
        stream: u32,
        fin: bool,
    },
    /// A deflated piece of it, maybe empty; `end`: it is the last.
    Block {
        bytes: &'a [u8],
        end: bool,
    },
    /// A data frame begins, of `len` bytes.
    DataHead {
        stream: u32,
        len: u32,
        fin: bool,
    },
    /// A piece of it, never empty.
    Data {
        bytes: &'a [u8],
        end: bool,
    },
    Reset {
        stream: u32,
        code: Code,
    },
    Ping {
        id: u32,
    },
    GoAway {
        last: u32,
    },
    WindowUpdate {
        stream: u32,
        delta: u32,
    },
}

/// The type of the next bytes.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// A frame's head, and the fixed part behind it.
    Head,
    Block(u32),
    Data(u32),
    Skipped(u32),
}

/// Decodes the peer's bytes.
#[derive(Debug)]
pub(super) struct Decoder {
    head: [u8; MAX_HEAD],
    filled: usize,
    next: Next,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self { head: [0; MAX_HEAD], filled: 0, next: Next::Head }
    }

    /// Returns the next piece, and removes what it used from `input`. `None`: all of it is used, and more is needed.
    ///
    /// # Errors
    /// Returns an error if a frame's head breaks a rule: what follows cannot be decoded.
    pub(super) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Piece<'a>>, Fault> {
        loop {
            match self.next {
                Next::Head => {
                    if let Some(piece) = self.head(input)? {
                        return Ok(Some(piece));
                    }
                    if input.is_empty() && matches!(self.next, Next::Head) {
                        return Ok(None);
                    }
                }
                // The end of a block must be reported, even if no bytes are left.
                Next::Block(left) => {
                    if input.is_empty() && left > 0 {
                        return Ok(None);
                    }
                    let (bytes, left) = take(input, left);
                    self.next = if left == 0 { Next::Head } else { Next::Block(left) };
                    return Ok(Some(Piece::Block { bytes, end: left == 0 }));
                }
                Next::Data(left) => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let (bytes, left) = take(input, left);
                    self.next = if left == 0 { Next::Head } else { Next::Data(left) };
                    return Ok(Some(Piece::Data { bytes, end: left == 0 }));
                }
                Next::Skipped(left) => {
                    let (_, left) = take(input, left);
                    self.next = if left == 0 { Next::Head } else { Next::Skipped(left) };
                    if left > 0 {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Returns `true` if the last frame is complete.
    pub(super) fn is_between_frames(&self) -> bool {
        self.filled == 0 && matches!(self.next, Next::Head)
    }

    /// Reads a head. Returns its piece, if it is one by itself.
    fn head<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Piece<'a>>, Fault> {
        if !self.gather(8, input) {
            return Ok(None);
        }
        let (first, flags) = (self.u32(0), self.head[4]);
        let len = self.u32(4) & 0x00ff_ffff;
        if first >> 31 == 0 {
            self.filled = 0;
            self.next = if len == 0 { Next::Head } else { Next::Data(len) };
            return Ok(Some(Piece::DataHead { stream: first, len, fin: flags & FIN != 0 }));
        }
        let kind = (first & 0xffff) as u16;
        let (fixed, max) = match kind {
            kind::SYN_STREAM => (10, BLOCK),
            kind::SYN_REPLY | kind::HEADERS => (4, BLOCK),
            kind::PING => (4, 4),
            kind::RST_STREAM | kind::GOAWAY | kind::WINDOW_UPDATE => (8, 8),
            _ => (0, SKIPPED),
        };
        if len < fixed || len > max {
            return Err(Fault::protocol("invalid length of a control frame"));
        }
        if !self.gather(8 + fixed as usize, input) {
            return Ok(None);
        }
        self.filled = 0;
        let (one, two) = (self.u32(8), self.u32(12));
        // The highest bit of a stream number is reserved.
        let (stream, fin) = (one & 0x7fff_ffff, flags & FIN != 0);
        let syn = match kind {
            kind::SYN_STREAM => Syn::Stream { unidirectional: flags & UNIDIRECTIONAL != 0 },
            kind::SYN_REPLY => Syn::Reply,
            kind::HEADERS => Syn::More,
            kind::RST_STREAM => return Ok(Some(Piece::Reset { stream, code: Code(two) })),
            kind::PING => return Ok(Some(Piece::Ping { id: one })),
            kind::GOAWAY => return Ok(Some(Piece::GoAway { last: stream })),
            kind::WINDOW_UPDATE => return Ok(Some(Piece::WindowUpdate { stream, delta: two & 0x7fff_ffff })),
            _ => {
                self.next = Next::Skipped(len);
                return Ok(None);
            }
        };
        self.next = Next::Block(len - fixed);
        Ok(Some(Piece::Syn { syn, stream, fin }))
    }

    /// Reads the first `want` bytes of the frame. Returns `true` if they are complete.
    fn gather(&mut self, want: usize, input: &mut &[u8]) -> bool {
        if self.filled < want {
            let (bytes, _) = take(input, (want - self.filled) as u32);
            self.head[self.filled..self.filled + bytes.len()].copy_from_slice(bytes);
            self.filled += bytes.len();
        }
        self.filled >= want
    }

    fn u32(&self, at: usize) -> u32 {
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| self.head[at + i]);
        u32::from_be_bytes([a, b, c, d])
    }
}

/// Takes up to `want` bytes off the front. Returns them, and how many are still wanted.
fn take<'a>(input: &mut &'a [u8], want: u32) -> (&'a [u8], u32) {
    let (bytes, rest) = input.split_at((want as usize).min(input.len()));
    *input = rest;
    (bytes, want - bytes.len() as u32)
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
