//! What a client sees: it knows what a server may send.

use std::collections::{BTreeMap, BTreeSet};

use super::application::Application;
use crate::engine::hpack::{Decoder, Valid};

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) struct Client {
    held: Vec<u8>,
    decoder: Decoder,
    /// A frame was received.
    begun: bool,
    ended: bool,
    /// Streams on which a request may have begun.
    last: u32,
    streams: BTreeMap<u32, Stream>,
    /// Bytes of DATA, and how many the server may send on the connection.
    received: u64,
    window: u64,
    /// The largest MAX_FRAME_SIZE that the client has sent.
    largest: usize,
    /// What was sent of the head of an incomplete frame, and the bytes that its payload lacks.
    partial: (Vec<u8>, usize),
    /// The streams that the client has reset.
    reset: BTreeSet<u32>,
}

#[derive(Default)]
struct Stream {
    /// The final head has come, and it is a 200: only the application sends that.
    head: Option<bool>,
    body: u64,
    over: bool,
}

impl Client {
    pub(super) fn new() -> Self {
        Self {
            held: Vec::new(),
            decoder: Decoder::new(),
            begun: false,
            ended: false,
            last: 0,
            streams: BTreeMap::new(),
            received: 0,
            window: 0,
            largest: 0,
            partial: (Vec::new(), PREFACE.len()),
            reset: BTreeSet::new(),
        }
    }

    /// Returns `true` if what was sent ends with a frame.
    pub(super) fn is_between_frames(&self) -> bool {
        self.partial.0.is_empty() && self.partial.1 == 0
    }

    /// Returns `true` if the server has ended the connection with an error.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Returns `true` if a response is complete, or either side has reset its stream.
    pub(super) fn is_over(&self, stream: u32) -> bool {
        self.reset.contains(&stream) || self.streams.get(&stream).is_some_and(|state| state.over)
    }

    /// Notes where frames end, and the streams that are reset.
    fn note_frames(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (head, left) = &mut self.partial;
            let n = if *left > 0 { *left } else { 9 - head.len() }.min(bytes.len());
            let (some, rest) = bytes.split_at(n);
            bytes = rest;
            if *left > 0 {
                *left -= n;
                continue;
            }
            head.extend_from_slice(some);
            if let [a, b, c, kind, _, s0, s1, s2, s3] = head[..] {
                if kind == 3 {
                    self.reset.insert(u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]));
                }
                *left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                head.clear();
            }
        }
    }

    /// Notes what was sent: the highest stream, and the connection's window. What the server ignores does no harm.
    pub(super) fn note_sent(&mut self, bytes: &[u8]) {
        self.note_frames(bytes);
        let mut rest = bytes.strip_prefix(PREFACE).unwrap_or(bytes);
        while let [a, b, c, kind, _, stream @ ..] = rest {
            let [s0, s1, s2, s3, payload @ ..] = stream else { break };
            let len = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            let stream = u32::from_be_bytes([*s0 & 0x7f, *s1, *s2, *s3]);
            if *kind == 1 {
                self.last = self.last.max(stream);
            }
            if *kind == 4 {
                for setting in payload.get(..len).unwrap_or_default().chunks_exact(6).filter(|setting| setting[1] == 5)
                {
                    let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
                    self.largest = self.largest.max(value as usize);
                }
            }
            if let (8, 0, [w0, w1, w2, w3, ..]) = (*kind, stream, payload) {
                self.window += u64::from(u32::from_be_bytes([*w0 & 0x7f, *w1, *w2, *w3]));
            }
            rest = payload.get(len..).unwrap_or_default();
        }
    }

    /// Receives bytes of the server.
    pub(super) fn receive(&mut self, bytes: &[u8], application: &Application) {
        self.held.extend_from_slice(bytes);
        let held = std::mem::take(&mut self.held);
        let mut rest = &held[..];
        // A connection without the preface is one of HTTP/1.1.
        if !self.begun && (rest.starts_with(b"HTTP/1.1 ") || b"HTTP/1.1 ".starts_with(rest)) {
            self.held = held;
            return;
        }
        while let [a, b, c, kind, flags, s0, s1, s2, s3, payload @ ..] = rest {
            let len = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            assert!(len <= self.largest.max(1 << 14), "a frame of {len} bytes");
            let Some(payload) = payload.get(..len) else { break };
            let stream = u32::from_be_bytes([*s0, *s1, *s2, *s3]);
            self.frame(*kind, *flags, stream, payload, application);
            rest = &rest[9 + len..];
        }
        self.held = rest.to_vec();
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8], application: &Application) {
        assert!(self.begun || (kind == 4 && flags == 0), "SETTINGS comes first");
        assert!(!self.ended || kind == 7, "a frame behind the last GOAWAY: {kind}");
        self.begun = true;
        match kind {
            0 | 1 => {
                assert!(stream % 2 == 1 && stream <= self.last, "a response that was not requested: {stream}");
                let state = self.streams.entry(stream).or_default();
                assert!(!state.over, "a frame behind the end of stream {stream}");
                if kind == 1 {
                    assert!(flags & 4 != 0 && !payload.is_empty());
                    let mut status = None;
                    let decoded = self.decoder.decode(payload, |name, value, _| {
                        if name == b":status" {
                            status = Some(value.to_vec());
                        }
                        Valid::BOTH
                    });
                    assert!(decoded.is_ok(), "a block that cannot be decoded");
                    match (&status, state.head) {
                        (None, Some(_)) => assert!(flags & 1 != 0, "trailers without the end"),
                        (Some(status), None) if status[0] == b'1' => assert!(flags & 1 == 0, "1xx with the end"),
                        (Some(status), None) => state.head = Some(status == b"200"),
                        _ => panic!("two heads, or none"),
                    }
                } else {
                    assert!(state.head.is_some() && flags & !1 == 0, "DATA without a head");
                    state.body += payload.len() as u64;
                    self.received += payload.len() as u64;
                    assert!(self.received <= self.window + 65_535, "more than the connection's window");
                }
                if flags & 1 != 0 {
                    state.over = true;
                    if state.head == Some(true) {
                        application.check_whole(stream, state.body);
                    }
                }
            }
            3 => {
                assert!(stream > 0 && payload.len() == 4);
                self.streams.entry(stream).or_default().over = true;
            }
            4 => assert!(stream == 0 && payload.len().is_multiple_of(6)),
            6 => assert!(stream == 0 && payload.len() == 8),
            7 => {
                assert!(stream == 0 && payload.len() >= 8);
                // Behind a GOAWAY with an error there is nothing but another GOAWAY.
                self.ended = payload[4..8] != [0; 4];
            }
            8 => assert!(payload.len() == 4 && payload != [0; 4]),
            _ => panic!("a frame of type {kind}"),
        }
    }
}
