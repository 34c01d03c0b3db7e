//! The other end of a connection: what it has sent, and what it has received.

use uncork::{LoopHandle, PeerAddr, PipeCounters, PipeIn, PipeOut, pipe};

use super::{Random, reference::End};

/// Bytes of the pipes in both directions.
const PIPE: usize = 32 * 1024;

pub(super) struct OtherEnd {
    to: Option<PipeIn>,
    counters: PipeCounters,
    from: Option<PipeOut>,
    unsent: Vec<u8>,
    /// The end follows what is not sent.
    finishes: bool,
    /// What the pipe has taken.
    pub(super) sent: Vec<u8>,
    pub(super) sent_end: End,
    pub(super) received: Vec<u8>,
    received_end: End,
    pub(super) reads: bool,
    /// It has broken off something: a cut, a half-close, or it does not read.
    pub(super) is_rough: bool,
}

impl OtherEnd {
    pub(super) fn connect(on: &LoopHandle, peer: PeerAddr, listener: usize) -> Self {
        let ((to, input), (output, from)) = (pipe(PIPE), pipe(PIPE));
        assert!(on.adopt_pipes(peer, input, output, listener).is_ok());
        Self {
            counters: to.counters(),
            to: Some(to),
            from: Some(from),
            unsent: Vec::new(),
            finishes: false,
            sent: Vec::new(),
            sent_end: End::Open,
            received: Vec::new(),
            received_end: End::Open,
            reads: true,
            is_rough: false,
        }
    }

    /// Returns `false` behind its end.
    pub(super) fn can_send(&self) -> bool {
        self.to.is_some() && !self.finishes
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        if self.can_send() {
            self.unsent.extend_from_slice(bytes);
        }
    }

    /// Half-closes behind what was sent.
    pub(super) fn finish(&mut self) {
        self.finishes = true;
    }

    /// Resets what it sends.
    pub(super) fn cut(&mut self) {
        self.is_rough = true;
        self.unsent.clear();
        if self.to.take().is_some() {
            self.sent_end = End::Truncated;
        }
    }

    /// Receives nothing more.
    pub(super) fn disconnect(&mut self) {
        self.is_rough = true;
        self.from = None;
    }

    /// Returns the end of what it receives. One that has reset the connection receives none.
    pub(super) fn received_end(&self) -> End {
        if self.sent_end == End::Truncated { End::Truncated } else { self.received_end }
    }

    /// Returns the number of bytes that were sent and read.
    pub(super) fn taken(&self) -> u64 {
        self.to.as_ref().map_or(0, |to| to.counters().read())
    }

    pub(super) fn is_closed(&self) -> bool {
        self.to.as_ref().is_none_or(PipeIn::is_closed)
    }

    /// Returns `true` if its end cannot arrive, since what is before it is not read.
    pub(super) fn has_unread(&self) -> bool {
        self.has_unsent() || (self.sent_end == End::Finished && self.counters.read() < self.counters.written())
    }

    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty() && !self.is_closed()
    }

    /// Forgets what is not sent.
    pub(super) fn clear(&mut self) {
        self.unsent.clear();
    }

    /// Moves bytes in both directions, in pieces. Returns `true` if that moved any.
    pub(super) fn step(&mut self, random: &mut Random, pieces: usize) -> bool {
        let mut moved = false;
        if let Some(to) = &mut self.to {
            let n = (random.below(pieces) + 1).max(self.unsent.len() / 4).min(self.unsent.len());
            let n = to.write(&self.unsent[..n]);
            self.sent.extend(self.unsent.drain(..n));
            moved = n > 0;
        }
        if self.finishes
            && self.unsent.is_empty()
            && let Some(to) = self.to.take()
        {
            to.finish(None);
            self.sent_end = End::Finished;
            moved = true;
        }
        if self.reads
            && self.received_end == End::Open
            && let Some(from) = &mut self.from
        {
            let bytes = from.bytes();
            let n = (random.below(pieces) + 1).max(bytes.len() / 4).min(bytes.len());
            self.received.extend_from_slice(&bytes[..n]);
            from.consume(n);
            moved |= n > 0;
            if from.bytes().is_empty() {
                self.received_end = match () {
                    () if from.is_truncated() => End::Truncated,
                    () if from.is_finished() => End::Finished,
                    () => End::Open,
                };
                moved |= self.received_end != End::Open;
            }
        }
        moved
    }
}
