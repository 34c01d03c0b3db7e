//! Frames (RFC 6455 §5): their heads, the mask, and messages that are encoded once for any number of connections.
//!
//! ```text
//!    byte 0                     byte 1                    0, 2 or 8 bytes    0 or 4    len bytes
//!   │FIN RSV1 RSV2 RSV3 opcode │MASK len (126, 127: ─────▶ length)         │ key     │ payload │
//! ```

use std::{fmt, str::Utf8Error, sync::Arc};

use super::{Message, MessageKind};

/// The opcode of a frame (§5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Op {
    Continue = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Op {
    pub(crate) fn is_control(self) -> bool {
        self as u8 & 8 != 0
    }
}

/// A rule that the peer broke: the code and the reason of the Close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: u16,
    pub(crate) rule: &'static str,
}

impl Fault {
    pub(crate) const fn protocol(rule: &'static str) -> Self {
        Self { code: 1002, rule }
    }

    pub(crate) const fn text(rule: &'static str) -> Self {
        Self { code: 1007, rule }
    }

    /// The peer follows the protocol, but is rejected for another reason (RFC 6455 §7.4.1).
    pub(crate) const fn policy(rule: &'static str) -> Self {
        Self { code: 1008, rule }
    }

    /// The server lacks a resource, and the peer may connect again ("Try Again Later", in IANA's registry).
    pub(crate) const fn later(rule: &'static str) -> Self {
        Self { code: 1013, rule }
    }

    pub(crate) const fn too_big(rule: &'static str) -> Self {
        Self { code: 1009, rule }
    }
}

pub(crate) const FIN: u8 = 0x80;
pub(crate) const RSV1: u8 = 0x40;
const MASKED: u8 = 0x80;

/// A frame's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) fin: bool,
    /// On the first frame of a message: compressed (RFC 7692 §6).
    pub(crate) rsv1: bool,
    pub(crate) op: Op,
    pub(crate) mask: Option<[u8; 4]>,
    pub(crate) len: u64,
    /// Bytes of the head.
    pub(crate) size: usize,
}

impl Head {
    /// Returns the head at the start of `bytes`, if it is complete. A violated rule is reported at the first byte that
    /// breaks it, so that nothing depends on how bytes arrive. `first` checks the first byte in its context.
    #[inline]
    pub(crate) fn parse(
        bytes: &[u8],
        masked: bool,
        first: impl FnOnce(Op, bool, bool) -> Result<(), Fault>,
    ) -> Result<Option<Self>, Fault> {
        let Some(&start) = bytes.first() else { return Ok(None) };
        let (fin, rsv1) = (start & FIN != 0, start & RSV1 != 0);
        if start & 0x30 != 0 {
            return Err(Fault::protocol("reserved bits must be 0"));
        }
        let op = match start & 0x0f {
            0 => Op::Continue,
            1 => Op::Text,
            2 => Op::Binary,
            8 => Op::Close,
            9 => Op::Ping,
            10 => Op::Pong,
            _ => return Err(Fault::protocol("reserved opcode")),
        };
        if op.is_control() && !fin {
            return Err(Fault::protocol("a control frame in fragments"));
        }
        first(op, fin, rsv1)?;
        let Some(&second) = bytes.get(1) else { return Ok(None) };
        if (second & MASKED != 0) != masked {
            return Err(Fault::protocol("incorrect mask flag"));
        }
        let (len, size) = match second & 0x7f {
            short @ ..=125 => (u64::from(short), 2),
            _ if op.is_control() => return Err(Fault::protocol("a control frame of more than 125 bytes")),
            126 => {
                let Some(&[a, b]) = bytes.get(2..4) else { return Ok(None) };
                (u64::from(u16::from_be_bytes([a, b])), 4)
            }
            _ => {
                // The highest bit must be 0, and it is in the first byte.
                if bytes.get(2).is_some_and(|b| b & 0x80 != 0) {
                    return Err(Fault::protocol("a length of more than 63 bits"));
                }
                let Some(&long) = bytes.get(2..10).and_then(<[u8]>::first_chunk) else { return Ok(None) };
                (u64::from_be_bytes(long), 10)
            }
        };
        if (size == 4 && len < 126) || (size == 10 && len < 1 << 16) {
            return Err(Fault::protocol("a length in more bytes than it needs"));
        }
        let mask = if masked {
            let Some(&key) = bytes.get(size..size + 4).and_then(<[u8]>::first_chunk) else { return Ok(None) };
            Some(key)
        } else {
            None
        };
        Ok(Some(Self { fin, rsv1, op, mask, len, size: size + if masked { 4 } else { 0 } }))
    }
}

/// The bytes of a head that is sent.
pub(crate) struct Encoded {
    bytes: [u8; 14],
    len: u8,
}

impl Encoded {
    /// Encodes a head. `first` has FIN, RSV1 and the opcode.
    #[inline]
    pub(crate) fn new(first: u8, len: usize, mask: Option<[u8; 4]>) -> Self {
        let mut bytes = [0; 14];
        bytes[0] = first;
        let mut size = match len {
            0..=125 => {
                bytes[1] = len as u8;
                2
            }
            126..=0xffff => {
                bytes[1] = 126;
                bytes[2..4].copy_from_slice(&(len as u16).to_be_bytes());
                4
            }
            _ => {
                bytes[1] = 127;
                bytes[2..10].copy_from_slice(&(len as u64).to_be_bytes());
                10
            }
        };
        if let Some(key) = mask {
            bytes[1] |= MASKED;
            bytes[size..size + 4].copy_from_slice(&key);
            size += 4;
        }
        Self { bytes, len: size as u8 }
    }

    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Bytes that are masked at once: the compiler makes vector instructions of it.
const STRIDE: usize = 32;

/// Masks or unmasks, which is the same operation (§5.3). `at` is the number of payload bytes before these.
#[inline]
pub(crate) fn mask(bytes: &mut [u8], key: [u8; 4], at: u64) {
    let key: [u8; 4] = std::array::from_fn(|i| key[(i + at as usize) & 3]);
    let wide: [u8; STRIDE] = std::array::from_fn(|i| key[i & 3]);
    let mut chunks = bytes.chunks_exact_mut(STRIDE);
    for chunk in &mut chunks {
        for (byte, key) in chunk.iter_mut().zip(&wide) {
            *byte ^= key;
        }
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip(&wide) {
        *byte ^= key;
    }
}

/// A message, encoded: it can be sent to any number of connections, which share its bytes.
///
/// It is sent uncompressed, whatever was negotiated, because compressed bytes are valid on one connection only.
///
/// ```
/// use uncork::ws::Frame;
/// let news = Frame::text("to everyone");
/// let again = news.clone(); // the same bytes
/// assert_eq!((again.payload(), again.len()), (&b"to everyone"[..], 13));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    pub(super) wire: Arc<[u8]>,
}

impl Frame {
    /// Encodes a text message.
    pub fn text(text: &str) -> Self {
        Self::encode(Op::Text, &[text.as_bytes()])
    }

    /// Like [`text`](Self::text), from bytes.
    ///
    /// # Errors
    /// If they are not UTF-8.
    pub fn text_bytes(bytes: &[u8]) -> Result<Self, Utf8Error> {
        std::str::from_utf8(bytes).map(Self::text)
    }

    /// Encodes a binary message.
    pub fn binary(bytes: &[u8]) -> Self {
        Self::encode(Op::Binary, &[bytes])
    }

    /// Encodes a binary message from the pieces of its payload.
    pub fn binary_parts(parts: &[&[u8]]) -> Self {
        Self::encode(Op::Binary, parts)
    }

    /// Encodes a text message from the pieces of its payload.
    pub fn text_parts(parts: &[&str]) -> Self {
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        Self::encode(Op::Text, &parts)
    }

    pub(super) fn encode(op: Op, parts: &[&[u8]]) -> Self {
        let len = parts.iter().map(|part| part.len()).sum();
        let head = Encoded::new(FIN | op as u8, len, None);
        let head = head.as_bytes();
        // One allocation: the iterator has an exact size.
        let mut wire: Arc<[u8]> = std::iter::repeat_n(0, head.len() + len).collect();
        if let Some(bytes) = Arc::get_mut(&mut wire) {
            let (start, mut rest) = bytes.split_at_mut(head.len());
            start.copy_from_slice(head);
            for part in parts {
                let (place, behind) = rest.split_at_mut(part.len());
                place.copy_from_slice(part);
                rest = behind;
            }
        }
        Self { wire }
    }

    /// Returns the kind of the message.
    pub fn kind(&self) -> MessageKind {
        if self.wire[0] & 0x0f == Op::Text as u8 { MessageKind::Text } else { MessageKind::Binary }
    }

    /// Returns the payload.
    pub fn payload(&self) -> &[u8] {
        split(&self.wire).1
    }

    /// Returns the size on the wire, in bytes, as a server sends it.
    #[expect(clippy::len_without_is_empty, reason = "a frame always has a head")]
    pub fn len(&self) -> usize {
        self.wire.len()
    }
}

impl From<Message<'_>> for Frame {
    fn from(message: Message<'_>) -> Self {
        match message {
            Message::Text(text) => Self::text(text),
            Message::Binary(bytes) => Self::binary(bytes),
        }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({:?}, {} bytes)", self.kind(), self.payload().len())
    }
}

/// Returns the first byte and the payload of one of our own frames, which is unmasked.
pub(crate) fn split(wire: &[u8]) -> (u8, &[u8]) {
    let head = match wire.get(1) {
        Some(126) => 4,
        Some(127) => 10,
        _ => 2,
    };
    (wire.first().copied().unwrap_or_default(), wire.get(head..).unwrap_or_default())
}

/// Returns `true` if a Close may have this code (§7.4): the codes of the RFC, those registered later, and the two
/// ranges for libraries and for applications. 1004, 1005, 1006 and 1015 must never be sent.
pub(crate) fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// The longest reason that fits into a Close.
const REASON: usize = 123;

/// Returns a Close's payload: empty, or a code and a reason.
pub(crate) fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    if !may_be_sent(code) {
        return Vec::new();
    }
    let end = (0..=reason.len().min(REASON)).rev().find(|&end| reason.is_char_boundary(end)).unwrap_or(0);
    [&code.to_be_bytes(), &reason.as_bytes()[..end]].concat()
}

/// Reads a Close's payload (§5.5.1). The code is 1005 if there is none.
pub(crate) fn parse_close(payload: &[u8]) -> Result<(u16, &str), Fault> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return match payload {
            [] => Ok((1005, "")),
            _ => Err(Fault::protocol("a Close with half a code")),
        };
    };
    let code = u16::from_be_bytes(*code);
    if !may_be_sent(code) {
        return Err(Fault::protocol("a Close with a code that must not be sent"));
    }
    let reason = std::str::from_utf8(reason).map_err(|_| Fault::text("a reason that is not UTF-8"))?;
    Ok((code, reason))
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
