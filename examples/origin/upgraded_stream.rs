//! Joins two upgraded connections by two pipes.
//!
//! ```text
//!   client ══▶ UpgradedStream ──PipeIn──▶ ──PipeOut──▶ UpgradedStream ══▶ server       and back
//! ```

use uncork::{EventMask, Io, PipeIn, PipeOut, ReadState, Upgrade, pipe};

/// Bytes in transit in each direction.
const ROOM: usize = 64 * 1024;

/// One end of a pair.
pub(crate) struct UpgradedStream {
    /// `None` once the peer has half-closed.
    to: Option<PipeIn>,
    from: PipeOut,
    begun: bool,
}

/// Returns two ends that are joined.
pub(crate) fn pair() -> (UpgradedStream, UpgradedStream) {
    let ((to, from_other), (to_other, from)) = (pipe(ROOM), pipe(ROOM));
    let end = |to, from| UpgradedStream { to: Some(to), from, begun: false };
    (end(to, from), end(to_other, from_other))
}

impl Upgrade for UpgradedStream {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        if io.events().is_error() {
            return EventMask::TERMINATE; // drops the pipes: the other end resets its connection
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
                    // Reading stops while the other end cannot be written to.
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
