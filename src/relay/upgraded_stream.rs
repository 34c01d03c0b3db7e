//! A connection in another protocol that a service passes on: bytes in both directions, as they come.

use uncork::{EventMask, Io, PipeIn, PipeOut, ReadState, Upgrade};

/// Between a connection and two pipes. A half-close is forwarded as a half-close, a truncation as a truncation.
pub(super) struct UpgradedStream {
    /// `None` after the peer's half-close.
    to_other: Option<PipeIn>,
    from_other: PipeOut,
    started: bool,
    /// The other side has finished sending.
    finished: bool,
}

impl UpgradedStream {
    pub(super) fn new(to_other: PipeIn, from_other: PipeOut) -> Self {
        Self { to_other: Some(to_other), from_other, started: false, finished: false }
    }

    /// Takes the peer's bytes. Returns `true` if more can be taken.
    fn receive(&mut self, io: &mut Io<'_>) -> bool {
        let Some(to_other) = &mut self.to_other else { return false };
        let n = to_other.write(io.rx.bytes());
        io.rx.consume(n);
        if !io.rx.bytes().is_empty() {
            // The pipe is full, or has no reader. In the latter case the end of the response decides.
            return false;
        }
        match io.rx.state() {
            ReadState::Open => return true,
            ReadState::Eof => self.to_other.take().into_iter().for_each(|pipe| pipe.finish(None)),
            ReadState::Truncated => self.to_other = None,
        }
        false
    }

    /// Sends the other side's bytes. Returns `true` if some are left.
    fn send(&mut self, io: &mut Io<'_>) -> bool {
        loop {
            let bytes = self.from_other.bytes();
            if bytes.is_empty() {
                return false;
            }
            let n = io.tx.write(bytes);
            self.from_other.consume(n);
            if n == 0 {
                return true;
            }
        }
    }
}

impl Upgrade for UpgradedStream {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        if !std::mem::replace(&mut self.started, true) {
            self.from_other.on_data(io.waker());
            if let Some(to_other) = &mut self.to_other {
                to_other.on_room(io.waker());
            }
        }
        let mut mask = EventMask::EXTERNAL | EventMask::CORK;
        if self.receive(io) {
            mask |= EventMask::READ;
        }
        if self.send(io) {
            mask |= EventMask::WRITE;
        } else if self.from_other.is_truncated() {
            io.abort();
            return EventMask::TERMINATE;
        } else if !self.finished && self.from_other.is_finished() {
            self.finished = true;
            io.tx.finish();
        }
        let unread = self.to_other.as_ref().is_none_or(PipeIn::is_closed);
        if self.finished && unread { EventMask::TERMINATE } else { mask }
    }
}
