//! The heads of the frames that a client sends, before h2 sees them.
//!
//! ```text
//!   socket ─▶ FrameWatch ─▶ wire ─▶ h2
//!               ├─ within a frame, or a header block: the head's timeout runs
//!               └─ a rule is broken: nothing behind the frame before it passes
//! ```
//! h2 reads the frames. This file only counts their bytes, for what h2 leaves open:
//!
//! * whether the client owes the rest of a frame or of a header block. h2 has no clocks, and does not tell;
//! * that SETTINGS comes first (RFC 9113 §3.4);
//! * FRAME_SIZE_ERROR for frames of a fixed length (§4.2), for which h2 has PROTOCOL_ERROR;
//! * the number of SETTINGS: each may change the windows of all streams;
//! * the bytes of a header block. h2 applies its own limit when the client has acknowledged it, which an attacker never
//!   does.

use h2::Reason;

use super::PREFACE;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// Bytes of a frame's head (RFC 9113 §4.1).
const HEAD: usize = 9;
/// SETTINGS of one connection, without ACK. A client that measures its windows changes them ten or twenty times.
const MOST_SETTINGS: u32 = 100;

pub(crate) struct FrameWatch {
    /// Bytes of the preface that are awaited.
    preface: usize,
    head: [u8; HEAD],
    /// Bytes of `head` that have arrived.
    got: usize,
    /// Bytes of the payload that are awaited.
    left: usize,
    /// Bytes of the header block, if it has not ended.
    block: Option<usize>,
    /// The most bytes of a header block.
    limit: usize,
    /// The number of SETTINGS, which come first.
    settings: u32,
    /// A frame has ended since the last look.
    ended: bool,
    fault: Option<Reason>,
}

impl FrameWatch {
    /// Creates the watch of a new connection. `head`: the most bytes of a request's head. Its block is shorter, except
    /// for a client that writes it in a strange way.
    pub(crate) fn new(head: usize) -> Self {
        Self {
            preface: PREFACE.len(),
            head: [0; HEAD],
            got: 0,
            left: 0,
            block: None,
            limit: head.saturating_mul(4),
            settings: 0,
            ended: false,
            fault: None,
        }
    }

    /// Returns how many of the next bytes h2 may see: those in front of a frame that breaks a rule.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() && self.fault.is_none() {
            if self.preface > 0 {
                let n = self.preface.min(rest.len());
                self.preface -= n;
                rest = &rest[n..];
                continue;
            }
            if self.left > 0 {
                let n = self.left.min(rest.len());
                self.left -= n;
                rest = &rest[n..];
                self.ended |= self.left == 0;
                continue;
            }
            let n = (HEAD - self.got).min(rest.len());
            self.head[self.got..self.got + n].copy_from_slice(&rest[..n]);
            self.got += n;
            if self.got == HEAD {
                if let Err(reason) = self.begin() {
                    self.fault = Some(reason);
                    break;
                }
                self.got = 0;
                self.ended |= self.left == 0;
            }
            rest = &rest[n..];
        }
        bytes.len() - rest.len()
    }

    /// Begins the frame whose head is complete.
    fn begin(&mut self) -> Result<(), Reason> {
        let [a, b, c, kind, flags, ..] = self.head;
        let len = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        match (kind, flags & ACK) {
            (SETTINGS, 0) if self.settings == MOST_SETTINGS => return Err(Reason::ENHANCE_YOUR_CALM),
            (SETTINGS, 0) => self.settings += 1,
            _ if self.settings == 0 => return Err(Reason::PROTOCOL_ERROR),
            _ => {}
        }
        let fits = match kind {
            PRIORITY => len == 5,
            RST_STREAM | WINDOW_UPDATE => len == 4,
            SETTINGS if flags & ACK != 0 => len == 0,
            SETTINGS => len.is_multiple_of(6),
            PING => len == 8,
            _ => true,
        };
        // Within a header block every other frame is a PROTOCOL_ERROR, whatever its length: h2 says so.
        if !fits && self.block.is_none() {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        match kind {
            HEADERS | PUSH_PROMISE => self.block = Some(len),
            CONTINUATION => self.block = self.block.map(|block| block + len),
            _ => {}
        }
        if self.block.is_some_and(|block| block > self.limit) {
            return Err(Reason::ENHANCE_YOUR_CALM);
        }
        if flags & END_HEADERS != 0 && matches!(kind, HEADERS | PUSH_PROMISE | CONTINUATION) {
            self.block = None;
        }
        self.left = len;
        Ok(())
    }

    /// Returns the code of the rule that was broken.
    pub(crate) fn fault(&self) -> Option<Reason> {
        self.fault
    }

    /// Returns `true` if the client owes the rest of a frame or of a header block. The rest of DATA does not count: the
    /// request's own timeout runs.
    pub(crate) fn is_within(&self) -> bool {
        let kind = self.head[3];
        self.preface > 0 || self.block.is_some() || self.got > 0 || (self.left > 0 && kind != DATA)
    }

    /// Returns `true` if a frame has ended since the last call, outside of a header block.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.block.is_none() && std::mem::take(&mut self.ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, len: usize) -> Vec<u8> {
        let mut frame = (len as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 1]);
        frame.resize(HEAD + len, 0);
        frame
    }

    /// Passes the bytes in pieces. Returns how many passed, and the fault.
    fn pass(frames: &[Vec<u8>], step: usize) -> (usize, Option<Reason>, bool) {
        let mut watch = FrameWatch::new(100);
        let bytes = [PREFACE, &frames.concat()].concat();
        let mut passed = 0;
        for piece in bytes.chunks(step) {
            let n = watch.pass(piece);
            passed += n;
            if n < piece.len() {
                assert_eq!(watch.pass(b"more"), 0, "nothing passes behind a fault");
                break;
            }
        }
        (passed, watch.fault(), watch.is_within())
    }

    #[test]
    fn frames_pass_until_one_breaks_a_rule() {
        let settings = frame(SETTINGS, 0, 12);
        let block = |flags, len| frame(HEADERS, flags, len);
        let more = |flags, len| frame(CONTINUATION, flags, len);
        for (frames, fault) in [
            (vec![frame(PING, 0, 8)], Some(Reason::PROTOCOL_ERROR)),
            (vec![frame(SETTINGS, ACK, 0)], Some(Reason::PROTOCOL_ERROR)),
            (vec![settings.clone(), frame(DATA, 0, 5000), block(4, 80), frame(PING, 0, 8)], None),
            (vec![settings.clone(), frame(PING, 0, 7)], Some(Reason::FRAME_SIZE_ERROR)),
            (vec![settings.clone(), frame(RST_STREAM, 0, 5)], Some(Reason::FRAME_SIZE_ERROR)),
            (vec![settings.clone(), frame(WINDOW_UPDATE, 0, 0)], Some(Reason::FRAME_SIZE_ERROR)),
            (vec![settings.clone(), frame(PRIORITY, 0, 6)], Some(Reason::FRAME_SIZE_ERROR)),
            (vec![settings.clone(), frame(SETTINGS, ACK, 6)], Some(Reason::FRAME_SIZE_ERROR)),
            (vec![settings.clone(), frame(SETTINGS, 0, 7)], Some(Reason::FRAME_SIZE_ERROR)),
            (vec![settings.clone(), frame(0xfa, 0, 7), frame(SETTINGS, ACK, 0)], None),
            (vec![settings.clone(), block(0, 200), more(0, 200), more(END_HEADERS, 0), block(4, 1)], None),
            (vec![settings.clone(), block(0, 200), more(0, 200), more(0, 1)], Some(Reason::ENHANCE_YOUR_CALM)),
            (vec![settings.clone(), block(4, 401)], Some(Reason::ENHANCE_YOUR_CALM)),
            (vec![settings.clone(); 100], None),
            (vec![settings.clone(); 101], Some(Reason::ENHANCE_YOUR_CALM)),
        ] {
            let good = if fault.is_some() { frames.len() - 1 } else { frames.len() };
            let good = PREFACE.len() + frames[..good].concat().len();
            for step in [1, 7, 10_000] {
                let (passed, got, within) = pass(&frames, step);
                assert_eq!(got, fault, "{frames:?}");
                // The bytes of a head that came before its last one have passed; h2 waits for the rest.
                assert!((good..good + HEAD).contains(&passed), "{passed} of {good}");
                assert_eq!(within, fault.is_some(), "{frames:?}");
            }
        }
    }

    #[test]
    fn the_rest_of_a_frame_is_owed_except_that_of_data() {
        let begin = || [PREFACE, &frame(SETTINGS, 0, 0)].concat();
        for (bytes, within, ended) in [
            (PREFACE[..5].to_vec(), true, false),
            (PREFACE.to_vec(), false, false),
            (begin(), false, true),
            ([begin(), vec![0, 0]].concat(), true, true),
            ([begin(), frame(DATA, 0, 9)[..12].to_vec()].concat(), false, true),
            ([begin(), frame(PING, 0, 8)[..12].to_vec()].concat(), true, true),
            ([begin(), frame(HEADERS, 0, 9)].concat(), true, false),
            ([begin(), frame(HEADERS, 0, 9), frame(CONTINUATION, 0, 0)].concat(), true, false),
            ([begin(), frame(HEADERS, 0, 9), frame(CONTINUATION, END_HEADERS, 0)].concat(), false, true),
        ] {
            let mut watch = FrameWatch::new(100);
            assert_eq!(watch.pass(&bytes), bytes.len());
            assert_eq!((watch.is_within(), watch.has_ended()), (within, ended), "{bytes:?}");
            assert!(!watch.has_ended());
        }
    }
}
