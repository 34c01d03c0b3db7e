//! Two connections in another protocol than HTTP, each of them an upgrade, joined by two pipes.
//!
//! ```text
//!   client ══▶ Joint ──PipeIn──▶ ──PipeOut──▶ Joint ══▶ server       and the same the other way
//! ```

use uncork::{EventMask, Io, PipeIn, PipeOut, ReadState, Upgrade, pipe};

/// Bytes on the way in each direction.
const ROOM: usize = 64 * 1024;

/// One of the two ends.
pub(crate) struct Joint {
    /// `None`: our peer has finished.
    to: Option<PipeIn>,
    from: PipeOut,
    begun: bool,
}

/// Both ends of a joint.
pub(crate) fn joint() -> (Joint, Joint) {
    let ((to, from_other), (to_other, from)) = (pipe(ROOM), pipe(ROOM));
    let end = |to, from| Joint { to: Some(to), from, begun: false };
    (end(to, from), end(to_other, from_other))
}

impl Upgrade for Joint {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        if io.events().is_error() {
            return EventMask::TERMINATE; // and the pipes are cut: the other end resets its connection
        }
        if !std::mem::replace(&mut self.begun, true) {
            self.from.on_data(io.waker());
            if let Some(to) = &mut self.to {
                to.on_room(io.waker());
            }
        }
        let mut mask = EventMask::EXTERNAL | EventMask::CORK;
        if let Some(mut to) = self.to.take() {
            let n = to.write(io.rx.bytes());
            io.rx.consume(n);
            let all = io.rx.bytes().is_empty();
            match io.rx.state() {
                ReadState::Eof if all => to.finish(None),
                ReadState::Truncated if all => io.abort(),
                _ => {
                    // Who can't be written for is not read from.
                    mask = if all { mask | EventMask::READ } else { mask };
                    self.to = Some(to);
                }
            }
        }
        loop {
            let bytes = self.from.bytes();
            let n = io.tx.write(bytes);
            let more = n < bytes.len();
            self.from.consume(n);
            if more {
                return mask | EventMask::WRITE;
            }
            if n == 0 {
                break;
            }
        }
        if self.from.is_finished() {
            io.tx.finish();
            return if self.to.is_none() { EventMask::TERMINATE } else { mask };
        }
        if self.from.is_truncated() && self.from.bytes().is_empty() {
            io.abort();
        }
        mask
    }
}
