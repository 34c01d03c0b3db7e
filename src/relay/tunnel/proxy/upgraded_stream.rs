//! A client's connection that goes on in another protocol, through the tunnel: bytes in both directions, as they come.

use uncork::{EventMask, Io, PipeIn, PipeOut, ReadState, Upgrade};

/// Between a connection and two pipes. Ends are passed on as what they are: a half-close as one, a cut as a cut.
pub(super) struct UpgradedStream {
    /// `None` when the client has said everything.
    up: Option<PipeIn>,
    down: PipeOut,
    started: bool,
    /// The origin has said everything.
    finished: bool,
}

impl UpgradedStream {
    pub(super) fn new(up: PipeIn, down: PipeOut) -> Self {
        Self { up: Some(up), down, started: false, finished: false }
    }

    /// What came from the client. Whether more can be taken.
    fn take(&mut self, io: &mut Io<'_>) -> bool {
        let Some(up) = &mut self.up else { return false };
        let n = up.write(io.rx.bytes());
        io.rx.consume(n);
        if !io.rx.bytes().is_empty() {
            // No room, or nobody takes it out any more: then the answer's end says what becomes of it.
            return false;
        }
        match io.rx.state() {
            ReadState::Open => return true,
            ReadState::Eof => self.up.take().into_iter().for_each(|up| up.finish(None)),
            ReadState::Truncated => self.up = None,
        }
        false
    }

    /// What comes from the origin. Whether there is more than room for it.
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
