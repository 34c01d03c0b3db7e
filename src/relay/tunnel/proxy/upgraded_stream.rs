//! A client's connection in another protocol, through the tunnel: bytes in both directions, as they come.

use uncork::{EventMask, Io, PipeIn, PipeOut, ReadState, Upgrade};

/// Between a connection and two pipes. A half-close is forwarded as a half-close, a truncation as a truncation.
pub(super) struct UpgradedStream {
    /// `None` after the client's half-close.
    up: Option<PipeIn>,
    down: PipeOut,
    started: bool,
    /// The origin server has finished sending.
    finished: bool,
}

impl UpgradedStream {
    pub(super) fn new(up: PipeIn, down: PipeOut) -> Self {
        Self { up: Some(up), down, started: false, finished: false }
    }

    /// Takes the client's bytes. Returns `true` if more can be taken.
    fn take(&mut self, io: &mut Io<'_>) -> bool {
        let Some(up) = &mut self.up else { return false };
        let n = up.write(io.rx.bytes());
        io.rx.consume(n);
        if !io.rx.bytes().is_empty() {
            // The pipe is full, or its reader is gone. In the latter case the end of the response decides.
            return false;
        }
        match io.rx.state() {
            ReadState::Open => return true,
            ReadState::Eof => self.up.take().into_iter().for_each(|up| up.finish(None)),
            ReadState::Truncated => self.up = None,
        }
        false
    }

    /// Sends the origin server's bytes. Returns `true` if some are left.
    fn give(&mut self, io: &mut Io<'_>) -> bool {
        loop {
            let bytes = self.down.bytes();
            if bytes.is_empty() {
                return false;
            }
            let n = io.tx.write(bytes);
            self.down.consume(n);
            if n == 0 {
                return true;
            }
        }
    }
}

impl Upgrade for UpgradedStream {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        if !std::mem::replace(&mut self.started, true) {
            self.down.on_data(io.waker());
            if let Some(up) = &mut self.up {
                up.on_room(io.waker());
            }
        }
        let mut mask = EventMask::EXTERNAL | EventMask::CORK;
        if self.take(io) {
            mask |= EventMask::READ;
        }
        if self.give(io) {
            mask |= EventMask::WRITE;
        } else if self.down.is_truncated() {
            io.abort();
            return EventMask::TERMINATE;
        } else if !self.finished && self.down.is_finished() {
            self.finished = true;
            io.tx.finish();
        }
        let unheard = self.up.as_ref().is_none_or(PipeIn::is_closed);
        if self.finished && unheard { EventMask::TERMINATE } else { mask }
    }
}
