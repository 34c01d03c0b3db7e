//! Frames (RFC 9113 §4 and §6): their heads, and those that are written as a whole.
//!
//! ```text
//!   length (24) │ type (8) │ flags (8) │ R (1), stream (31) │ payload …
//! ```

use crate::base::out::Out;

/// Bytes of a frame's head.
pub(crate) const HEAD: usize = 9;
/// The most bytes of a payload, in both directions: the least that RFC 9113 §6.5.2 allows for SETTINGS_MAX_FRAME_SIZE.
pub(crate) const LARGEST: usize = 16 * 1024;
/// The greatest window, stream and increment.
pub(crate) const GREATEST: u32 = i32::MAX as u32;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const WITH_PRIORITY: u8 = 0x20;

/// The parameters of SETTINGS (RFC 9113 §6.5.2, RFC 8441 §3).
pub(crate) mod setting {
    pub(crate) const HEADER_TABLE_SIZE: u16 = 1;
    pub(crate) const ENABLE_PUSH: u16 = 2;
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(crate) const MAX_FRAME_SIZE: u16 = 5;
    pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 6;
    pub(crate) const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

/// Why a stream or a connection ends (RFC 9113 §7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ErrorCode {
    NoError = 0,
    Protocol = 1,
    Internal = 2,
    FlowControl = 3,
    StreamClosed = 5,
    FrameSize = 6,
    RefusedStream = 7,
    Cancel = 8,
    Compression = 9,
    EnhanceYourCalm = 11,
}

/// The head of a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) len: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl Head {
    /// Returns the head at the front of `bytes`, if it is complete.
    #[inline]
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let &[a, b, c, kind, flags, s0, s1, s2, s3, ..] = bytes else { return None };
        Some(Self {
            len: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & GREATEST,
        })
    }

    /// Returns `true` if it has the flag.
    #[inline]
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Returns its bytes.
    #[inline]
    pub(crate) fn bytes(&self) -> [u8; HEAD] {
        let [_, a, b, c] = (self.len as u32).to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, s0, s1, s2, s3]
    }
}

/// Returns the first four bytes as a number.
#[inline]
pub(crate) fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

fn write<const N: usize>(out: &mut Out, kind: u8, stream: u32, payload: [u8; N]) {
    let mut bytes = [0; 32];
    bytes[..HEAD].copy_from_slice(&Head { len: N, kind, flags: 0, stream }.bytes());
    bytes[HEAD..HEAD + N].copy_from_slice(&payload);
    out.push(&bytes[..HEAD + N]);
}

/// Writes RST_STREAM (§6.4).
pub(crate) fn write_reset(out: &mut Out, stream: u32, code: ErrorCode) {
    write(out, RST_STREAM, stream, u32::from(code as u8).to_be_bytes());
}

/// Writes WINDOW_UPDATE (§6.9). `stream`: 0 is the connection.
pub(crate) fn write_window_update(out: &mut Out, stream: u32, increment: u32) {
    write(out, WINDOW_UPDATE, stream, increment.to_be_bytes());
}

/// Writes GOAWAY (§6.8).
pub(crate) fn write_goaway(out: &mut Out, last: u32, code: ErrorCode) {
    let [a, b, c, d] = last.to_be_bytes();
    write(out, GOAWAY, 0, [a, b, c, d, 0, 0, 0, code as u8]);
}

/// Writes PING (§6.7).
pub(crate) fn write_ping(out: &mut Out, ack: bool, payload: [u8; 8]) {
    out.push(&Head { len: 8, kind: PING, flags: if ack { ACK } else { 0 }, stream: 0 }.bytes());
    out.push(&payload);
}

/// Writes SETTINGS (§6.5).
pub(crate) fn write_settings(out: &mut Out, settings: &[(u16, u32)]) {
    out.push(&Head { len: 6 * settings.len(), kind: SETTINGS, flags: 0, stream: 0 }.bytes());
    for (id, value) in settings {
        out.push(&id.to_be_bytes());
        out.push(&value.to_be_bytes());
    }
}

/// Writes the acknowledgment of SETTINGS.
pub(crate) fn write_settings_ack(out: &mut Out) {
    out.push(&Head { len: 0, kind: SETTINGS, flags: ACK, stream: 0 }.bytes());
}

/// Writes HEADERS, and CONTINUATION for what exceeds a frame (§6.2, §6.10).
#[inline]
pub(crate) fn write_headers(out: &mut Out, stream: u32, block: &[u8], end: bool) {
    let (first, mut rest) = block.split_at(block.len().min(LARGEST));
    let last = |rest: &[u8]| if rest.is_empty() { END_HEADERS } else { 0 };
    let flags = last(rest) | if end { END_STREAM } else { 0 };
    out.push(&Head { len: first.len(), kind: HEADERS, flags, stream }.bytes());
    out.push(first);
    while !rest.is_empty() {
        let (next, after) = rest.split_at(rest.len().min(LARGEST));
        out.push(&Head { len: next.len(), kind: CONTINUATION, flags: last(after), stream }.bytes());
        out.push(next);
        rest = after;
    }
}

/// Writes the head of DATA (§6.1). The payload follows.
#[inline]
pub(crate) fn write_data_head(out: &mut Out, stream: u32, len: usize, end: bool) {
    out.push(&Head { len, kind: DATA, flags: if end { END_STREAM } else { 0 }, stream }.bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_was_written() {
        let head = Head { len: 0x01_02_03, kind: HEADERS, flags: 5, stream: 0x7fff_fffe };
        let bytes = head.bytes();
        assert_eq!(bytes, [1, 2, 3, 1, 5, 0x7f, 0xff, 0xff, 0xfe]);
        let read = Head::parse(&bytes).expect("a head");
        assert_eq!((read.len, read.kind, read.flags, read.stream), (0x01_02_03, HEADERS, 5, 0x7fff_fffe));
        assert!(Head::parse(&bytes[..8]).is_none());
        // The reserved bit is ignored (§4.1).
        assert_eq!(Head::parse(&[0, 0, 0, 0, 0, 0x80, 0, 0, 1]).map(|head| head.stream), Some(1));
    }

    #[test]
    fn a_large_block_is_continued() {
        let mut out = Out::default();
        write_headers(&mut out, 5, &vec![7; 2 * LARGEST + 1], true);
        let mut bytes = out.only_piece().expect("one piece");
        let mut seen = Vec::new();
        while let Some(head) = Head::parse(bytes) {
            seen.push((head.kind, head.flags, head.len, head.stream));
            bytes = &bytes[HEAD + head.len..];
        }
        let flags = END_STREAM;
        let want = [(HEADERS, flags, LARGEST, 5), (CONTINUATION, 0, LARGEST, 5), (CONTINUATION, END_HEADERS, 1, 5)];
        assert_eq!(seen, want);
    }
}
