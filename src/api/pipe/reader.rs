//! The reading end of a pipe for a thread that may block.

use std::{
    fmt,
    io::{self, Read},
    sync::{Arc, Condvar, Mutex, PoisonError},
    task,
};

use super::{Block, Lent, PipeEnd, PipeOut};
use crate::base::lock;

/// The reading end of a pipe, whose [`Read`] blocks until there are bytes: see [`PipeOut::reader`].
///
/// A body that ended before its end is the error [`UnexpectedEof`](io::ErrorKind::UnexpectedEof).
pub struct PipeReader {
    outlet: PipeOut,
    signal: Arc<Signal>,
}

/// Wakes the thread that reads.
#[derive(Default)]
struct Signal {
    is_set: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    /// Blocks until the waker was called. A call since the last wait counts.
    fn wait(&self) {
        let mut is_set = lock(&self.is_set);
        while !*is_set {
            is_set = self.changed.wait(is_set).unwrap_or_else(PoisonError::into_inner);
        }
        *is_set = false;
    }
}

impl task::Wake for Signal {
    fn wake(self: Arc<Self>) {
        *lock(&self.is_set) = true;
        self.changed.notify_one();
    }
}

impl PipeReader {
    pub(super) fn new(mut outlet: PipeOut) -> Self {
        let signal = Arc::new(Signal::default());
        outlet.on_data(signal.clone());
        Self { outlet, signal }
    }
}

impl Read for PipeReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            match self.outlet.lend_buf() {
                Lent::Block(mut block) => {
                    let n = block.filled().len().min(buf.len());
                    buf[..n].copy_from_slice(&block.filled()[..n]);
                    block.consume(n);
                    self.outlet.give_back(Block::Buf(block), n);
                    return Ok(n);
                }
                // The writer calls the waker: `lend_buf` has noted that this end waits.
                Lent::NotNow => self.signal.wait(),
                Lent::Over(PipeEnd::Clean(_)) => return Ok(0),
                Lent::Over(PipeEnd::Truncated) => {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the stream ended before its end"));
                }
            }
        }
    }
}

impl fmt::Debug for PipeReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PipeReader").field(&self.outlet).finish()
    }
}
