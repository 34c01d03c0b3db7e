//! Reads what the peer sends, without I/O: bytes in, messages out. It knows no socket, no clock and no application.
//!
//! ```text
//!   Head ──unfragmented, uncompressed, completely received──────────────────▶ Message, borrowed from the input
//!     │
//!     └─▶ Frame { left } ─▶ unmask ─▶ (inflate) ─▶ UTF-8 ─┬─▶ kept ─▶ … ─▶ Message, when the last frame ends
//!                                                         └─▶ Part, if messages are streamed
//! ```
//!
//! Every violated rule is reported at the first byte that breaks it, so that splitting the input changes nothing.

use super::{
    Config, Message, MessageKind, MessagePart,
    clocks::Progress,
    deflate::{CODEC, Inflate, TAIL},
    frame::{Fault, Head, Op, mask, parse_close},
    utf8::Utf8,
};

/// A message, a part of one, or a control frame that has arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    Message(Message<'a>),
    Part(MessagePart<'a>),
    Ping(&'a [u8]),
    Pong(&'a [u8]),
    /// No input after it is read.
    Close(u16, &'a str),
}

/// A frame whose payload is arriving.
struct Frame {
    op: Op,
    fin: bool,
    key: [u8; 4],
    /// The number of payload bytes that are done, and of those left.
    at: u64,
    left: u64,
}

/// A message whose first frame has begun.
struct Assembly {
    kind: MessageKind,
    compressed: bool,
    /// Frames so far.
    fragments: u32,
    /// Bytes of all frames so far; the current one counts completely.
    framed: u64,
    /// Bytes after inflation.
    inflated: u64,
    /// No part of it was delivered.
    fresh: bool,
}

/// The place of an event's bytes.
enum Where {
    Input { from: usize, to: usize },
    Own,
}

/// An event that does not borrow its bytes yet.
enum Found {
    Nothing,
    Data { kind: MessageKind, at: Where, first: bool, last: bool },
    Control { op: Op, at: Where },
}

/// Bytes that are unmasked and inflated at once.
const STEP: usize = 8 * 1024;

pub(crate) struct Reader {
    /// `true` if the peer masks: it is a client.
    masked: bool,
    streams: bool,
    config: Config,
    /// Boxed, as it is rare.
    inflate: Option<Box<Inflate>>,
    frame: Option<Frame>,
    assembly: Option<Assembly>,
    utf8: Utf8,
    text: String,
    binary: Vec<u8>,
    control: Vec<u8>,
    /// `text` or `binary` was delivered.
    delivered: bool,
    /// The inflater may have more output without further input.
    more: bool,
    /// Bytes of the tail that the inflater got.
    tail: u8,
    /// Counts messages, and control frames, that did not arrive at once.
    number: u32,
}

impl Reader {
    pub(crate) fn new(masked: bool, streams: bool, config: &Config, inflate: Option<Inflate>) -> Self {
        Self {
            masked,
            streams,
            config: config.clone(),
            inflate: inflate.map(Box::new),
            frame: None,
            assembly: None,
            utf8: Utf8::default(),
            text: String::new(),
            binary: Vec::new(),
            control: Vec::new(),
            delivered: false,
            more: false,
            tail: 0,
            number: 0,
        }
    }

    /// Returns `true` if no frame and no message has begun.
    pub(crate) fn is_idle(&self) -> bool {
        self.frame.is_none() && self.assembly.is_none()
    }

    /// Returns the number of allocated bytes.
    pub(crate) fn held(&self) -> usize {
        self.text.capacity() + self.binary.capacity() + self.control.capacity()
    }

    /// Returns the bytes held for the arriving message, its inflater included; 0 if there is none.
    pub(crate) fn assembled(&self) -> usize {
        if self.is_idle() {
            return 0;
        }
        let compressed = self.assembly.as_ref().is_some_and(|message| message.compressed);
        self.held() + if compressed { CODEC } else { 0 }
    }

    /// Returns the progress of the arriving message, or of a control frame, whose bytes do not count.
    pub(super) fn progress(&self) -> Option<Progress> {
        if self.is_idle() {
            return None;
        }
        let data = self.frame.as_ref().filter(|frame| !frame.op.is_control());
        let bytes = self.assembly.as_ref().map_or(0, |message| message.framed - data.map_or(0, |frame| frame.left));
        Some(Progress { number: self.number, bytes })
    }

    /// Reads no more: frees the memory of the arriving message.
    #[cold]
    pub(super) fn abandon(&mut self) {
        (self.frame, self.assembly, self.inflate) = (None, None, None);
        self.shrink();
    }

    /// Frees the memory of messages, unless one is arriving.
    pub(crate) fn shrink(&mut self) {
        if self.is_idle() {
            (self.text, self.binary, self.control) = (String::new(), Vec::new(), Vec::new());
            self.delivered = false;
        }
    }

    /// Reads some of `input`, which is changed, adds the number of bytes to `used`, and returns the next event. `None`:
    /// all was read except the beginning of a head, and more is needed. Must not be called again after an error or a
    /// Close.
    pub(crate) fn next<'a>(&'a mut self, input: &'a mut [u8], used: &mut usize) -> Result<Option<Event<'a>>, Fault> {
        let found = self.find(input, used)?;
        Ok(match found {
            Found::Nothing => None,
            Found::Data { kind, at, first, last } => {
                let piece = match (kind, at) {
                    // UTF-8 was checked when it was found.
                    (MessageKind::Text, Where::Input { from, to }) => {
                        Message::Text(std::str::from_utf8(&input[from..to]).unwrap_or_default())
                    }
                    (MessageKind::Text, Where::Own) => Message::Text(&self.text),
                    (MessageKind::Binary, Where::Input { from, to }) => Message::Binary(&input[from..to]),
                    (MessageKind::Binary, Where::Own) => Message::Binary(&self.binary),
                };
                Some(if self.streams { Event::Part(MessagePart { piece, first, last }) } else { Event::Message(piece) })
            }
            Found::Control { op, at } => {
                let payload = match at {
                    Where::Input { from, to } => &input[from..to],
                    Where::Own => &self.control,
                };
                Some(match op {
                    Op::Ping => Event::Ping(payload),
                    Op::Close => {
                        let (code, reason) = parse_close(payload)?;
                        Event::Close(code, reason)
                    }
                    _ => Event::Pong(payload),
                })
            }
        })
    }

    fn find(&mut self, input: &mut [u8], used: &mut usize) -> Result<Found, Fault> {
        if std::mem::take(&mut self.delivered) {
            self.text.clear();
            self.binary.clear();
        }
        loop {
            let Some(frame) = &self.frame else {
                let Some(head) = self.head(&input[*used..])? else { return Ok(Found::Nothing) };
                if let Some(found) = self.begin(&head, input, used)? {
                    return Ok(found);
                }
                continue;
            };
            if frame.left == 0 && !self.more {
                if let Some(found) = self.end_frame()? {
                    return Ok(found);
                }
                continue;
            }
            if *used == input.len() && !self.more {
                return Ok(Found::Nothing);
            }
            if let Some(found) = self.payload(input, used)? {
                return Ok(found);
            }
        }
    }

    #[inline]
    fn head(&self, bytes: &[u8]) -> Result<Option<Head>, Fault> {
        let head = Head::parse(bytes, self.masked, |op, _, rsv1| match (op, &self.assembly) {
            _ if rsv1 && (self.inflate.is_none() || !matches!(op, Op::Text | Op::Binary)) => {
                Err(Fault::protocol("reserved bits must be 0"))
            }
            (Op::Continue, None) => Err(Fault::protocol("a continuation of nothing")),
            (Op::Continue, Some(message)) if message.fragments >= self.config.0.fragments => {
                Err(Fault::too_big("too many fragments"))
            }
            (Op::Text | Op::Binary, Some(_)) => Err(Fault::protocol("a message inside another")),
            _ => Ok(()),
        })?;
        let Some(head) = head else { return Ok(None) };
        if !head.op.is_control() {
            let before = self.assembly.as_ref().map_or(0, |message| message.framed);
            if head.len > self.config.0.frame {
                return Err(Fault::too_big("frame too big"));
            }
            if before.saturating_add(head.len) > self.config.0.message {
                return Err(Fault::too_big("message too big"));
            }
        }
        Ok(Some(head))
    }

    /// Begins a frame. Returns its event if the payload is borrowed from the input.
    #[inline]
    fn begin(&mut self, head: &Head, input: &mut [u8], used: &mut usize) -> Result<Option<Found>, Fault> {
        let from = *used + head.size;
        let to = usize::try_from(head.len).ok().and_then(|len| from.checked_add(len)).filter(|to| *to <= input.len());
        let key = head.mask.unwrap_or_default();
        let kind = if head.op == Op::Text { MessageKind::Text } else { MessageKind::Binary };
        let alone = head.op.is_control() || (head.fin && head.op != Op::Continue && !head.rsv1);
        if let (true, Some(to)) = (alone, to) {
            let payload = &mut input[from..to];
            if self.masked {
                mask(payload, key, 0);
            }
            if head.op == Op::Text && std::str::from_utf8(payload).is_err() {
                return Err(NOT_UTF8);
            }
            *used = to;
            let at = Where::Input { from, to };
            return Ok(Some(match head.op {
                Op::Text | Op::Binary => Found::Data { kind, at, first: true, last: true },
                op => Found::Control { op, at },
            }));
        }
        *used = from;
        if self.assembly.is_none() {
            self.number = self.number.wrapping_add(1);
        }
        match (&mut self.assembly, head.op) {
            (_, Op::Close | Op::Ping | Op::Pong) => self.control.clear(),
            (Some(message), _) => {
                message.fragments += 1;
                message.framed += head.len;
            }
            (none, _) => {
                let (compressed, framed) = (head.rsv1, head.len);
                *none = Some(Assembly { kind, compressed, fragments: 1, framed, inflated: 0, fresh: true });
                (self.tail, self.more) = (0, false);
            }
        }
        self.frame = Some(Frame { op: head.op, fin: head.fin, key, at: 0, left: head.len });
        Ok(None)
    }

    /// Reads some of a frame's payload.
    fn payload(&mut self, input: &mut [u8], used: &mut usize) -> Result<Option<Found>, Fault> {
        let Some(frame) = &mut self.frame else { return Ok(None) };
        let rest = &mut input[*used..];
        let n = usize::try_from(frame.left).unwrap_or(usize::MAX).min(rest.len());
        if frame.op.is_control() {
            let piece = &mut rest[..n];
            frame.unmask(piece, self.masked);
            self.control.extend_from_slice(piece);
            *used += n;
            return Ok(None);
        }
        let Some(message) = &mut self.assembly else { return Ok(None) };
        if !message.compressed {
            let piece = &mut rest[..n];
            frame.unmask(piece, self.masked);
            let (from, last) = (*used, frame.fin && frame.left == 0);
            *used += n;
            if self.streams && (message.kind == MessageKind::Binary || self.utf8.is_whole()) {
                // Borrowed from the input.
                let len = match message.kind {
                    MessageKind::Text => self.utf8.borrow(piece).map_err(|_| NOT_UTF8)?.len(),
                    MessageKind::Binary => n,
                };
                // `end_frame` decides whether the last piece is valid.
                if len == 0 || last {
                    self.keep_last_piece(from, len, input);
                    return Ok(None);
                }
                return Ok(Some(self.part(Where::Input { from, to: from + len })));
            }
            append(message.kind, piece, &mut self.utf8, &mut self.text, &mut self.binary)?;
            return Ok(if last { None } else { self.part_if_any() });
        }
        // Not more at once than is inflated at once: otherwise a decompression bomb would be unmasked again and again.
        let n = n.min(STEP);
        let (at, left) = (frame.at, frame.left);
        frame.unmask(&mut rest[..n], self.masked);
        let taken = self.inflate(&rest[..n])?;
        if let Some(frame) = &mut self.frame
            && taken < n
        {
            // The inflater had no room for the rest: it stays masked.
            (frame.at, frame.left) = (at + taken as u64, left - taken as u64);
            if self.masked {
                mask(&mut rest[taken..n], frame.key, frame.at);
            }
        }
        *used += taken;
        Ok(self.part_if_any())
    }

    /// Keeps the last piece of a streamed message until its frame ends, which follows at once.
    fn keep_last_piece(&mut self, from: usize, len: usize, input: &[u8]) {
        let piece = &input[from..from + len];
        match self.assembly.as_ref().map(|message| message.kind) {
            Some(MessageKind::Text) => self.text.push_str(std::str::from_utf8(piece).unwrap_or_default()),
            _ => self.binary.extend_from_slice(piece),
        }
    }

    /// Inflates once, and returns how many of `bytes` were read.
    fn inflate(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let (Some(inflate), Some(message)) = (&mut self.inflate, &mut self.assembly) else { return Ok(bytes.len()) };
        let mut out = [0; STEP];
        let (taken, made) = inflate.step(bytes, &mut out);
        self.more = made == out.len();
        let corrupt = inflate.is_corrupt() || (taken == 0 && made == 0 && !bytes.is_empty());
        // The bytes before a fault may break another rule, which then came first.
        let room = usize::try_from(self.config.0.message - message.inflated).unwrap_or(usize::MAX);
        let fits = made.min(room);
        message.inflated += fits as u64;
        append(message.kind, &out[..fits], &mut self.utf8, &mut self.text, &mut self.binary)?;
        match corrupt {
            _ if fits < made => Err(Fault::too_big("message too big")),
            true => Err(CORRUPT),
            false => Ok(taken),
        }
    }

    /// Returns what has arrived, if messages are streamed.
    fn part_if_any(&mut self) -> Option<Found> {
        let any = !self.text.is_empty() || !self.binary.is_empty();
        (self.streams && any).then(|| {
            self.delivered = true;
            self.part(Where::Own)
        })
    }

    fn part(&mut self, at: Where) -> Found {
        let (kind, first) = match &mut self.assembly {
            Some(message) => (message.kind, std::mem::take(&mut message.fresh)),
            None => (MessageKind::Binary, true),
        };
        Found::Data { kind, at, first, last: false }
    }

    /// Ends a frame whose payload is complete.
    fn end_frame(&mut self) -> Result<Option<Found>, Fault> {
        let Some(frame) = &self.frame else { return Ok(None) };
        let (op, fin) = (frame.op, frame.fin);
        if op.is_control() {
            self.frame = None;
            return Ok(Some(Found::Control { op, at: Where::Own }));
        }
        if !fin {
            self.frame = None;
            return Ok(None);
        }
        if self.assembly.as_ref().is_some_and(|message| message.compressed) {
            let rest = TAIL.get(usize::from(self.tail)..).unwrap_or_default();
            // After a final block, or after nothing at all, the tail would begin another block.
            let nothing = self.assembly.as_ref().is_some_and(|message| message.framed == 0);
            let finished = nothing || self.inflate.as_ref().is_some_and(|inflate| inflate.is_finished());
            if !rest.is_empty() && !finished {
                self.tail += self.inflate(rest)? as u8;
                // The frame stays open, so that this is called again.
                return Ok(self.part_if_any());
            }
            if let Some(inflate) = &mut self.inflate {
                if !finished && !inflate.is_between_blocks() {
                    return Err(CORRUPT);
                }
                inflate.end();
            }
        }
        self.frame = None;
        let Some(message) = self.assembly.take() else { return Ok(None) };
        if !self.utf8.is_whole() {
            return Err(NOT_UTF8);
        }
        self.delivered = true;
        Ok(Some(Found::Data { kind: message.kind, at: Where::Own, first: message.fresh, last: true }))
    }
}

impl Frame {
    /// Unmasks the next piece and counts its bytes.
    fn unmask(&mut self, piece: &mut [u8], masked: bool) {
        if masked {
            mask(piece, self.key, self.at);
        }
        self.at += piece.len() as u64;
        self.left -= piece.len() as u64;
    }
}

const NOT_UTF8: Fault = Fault::text("text that is not UTF-8");
const CORRUPT: Fault = Fault::text("compressed data that is corrupt");

fn append(
    kind: MessageKind,
    piece: &[u8],
    utf8: &mut Utf8,
    text: &mut String,
    binary: &mut Vec<u8>,
) -> Result<(), Fault> {
    match kind {
        MessageKind::Text => utf8.push(piece, text).map_err(|_| NOT_UTF8),
        MessageKind::Binary => {
            binary.extend_from_slice(piece);
            Ok(())
        }
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "reader_deflate_tests.rs"]
mod deflate_tests;
