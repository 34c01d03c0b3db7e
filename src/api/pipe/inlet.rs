//! The end of a pipe that bytes are put into.

use std::{fmt, io, os::fd::BorrowedFd, sync::Arc, task};

use super::{
    Block, Lent, PipeCounters, PipeEnd, Splice,
    counters::{READER, WRITER},
    shared::{Shared, wake},
};
use crate::{
    api::{Action, Consumed, Upload},
    base::runs::Runs,
    h1::Headers,
    transport::kernel_pipe::KernelPipe,
};

/// Fewer bytes than these, or through a smaller pipe, are copied: the system calls would cost more than the copies.
const WORTH_SPLICING: usize = 64 * 1024;

/// The writing end of a pipe. Dropping it before [`finish`](Self::finish) truncates the stream.
pub struct PipeIn {
    shared: Arc<Shared>,
    finished: bool,
    /// The number of bytes that the engine may still put in.
    allowed: u64,
}

impl PipeIn {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, finished: false, allowed: u64::MAX }
    }

    /// Writes as much of `bytes` as there is room for, and returns how much that is. If it is less than all, try again
    /// after the waker of [`on_room`](Self::on_room) was called. Always 0 if the other end [was
    /// dropped](Self::is_closed).
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let mut written = 0;
        // Until nothing is left or `lend` fails. Only that notes that the writer must be woken, so it cannot miss a
        // reader that makes room meanwhile.
        while written < bytes.len()
            && let Lent::Block(mut block) = self.lend(None)
        {
            let mut n = 0;
            if let Block::Buf(buf) = &mut block {
                let bytes = &bytes[written..];
                buf.make_room_for(bytes.len(), 0, self.shared.room, |size| vec![0; size].into_boxed_slice());
                n = buf.push(bytes);
            }
            self.count(n);
            self.give_back(block);
            written += n;
        }
        written
    }

    /// Ends the stream: everything was written. If the reading end is the body of a chunked response, `trailers` are
    /// sent after it, otherwise they are dropped. A reader that works by hand finds them in
    /// [`PipeOut::trailers`](super::PipeOut::trailers).
    pub fn finish(mut self, trailers: Option<Headers>) {
        self.end(PipeEnd::Clean(trailers.filter(|t| !t.is_empty()).map(Box::new)));
    }

    /// Sets the waker that is called when there is room again: a [`Waker`](crate::Waker), or any other. It replaces the
    /// one set before. Its panic is logged and goes no further.
    pub fn on_room(&mut self, waker: impl Into<task::Waker>) {
        self.shared.set_waker(WRITER, waker.into());
    }

    /// Limits how many bytes of a request's body the engine puts in. The bytes beyond are passed to the upload's own
    /// [`data`](Upload::data), which can [stop](Consumed::Stop) it, for instance with a 413. Use it for bodies without
    /// a length. [`write`](Self::write) is not limited.
    pub fn limit(mut self, bytes: u64) -> Self {
        self.allowed = bytes;
        self
    }

    /// Returns how many more bytes the engine may put in.
    pub(crate) fn allowed(&self) -> usize {
        usize::try_from(self.allowed).unwrap_or(usize::MAX)
    }

    /// Returns `true` if the other end was dropped: nothing that is written arrives.
    pub fn is_closed(&self) -> bool {
        self.shared.state().reader_dropped
    }

    /// Returns the counters of the pipe.
    pub fn counters(&self) -> PipeCounters {
        self.shared.counters.clone()
    }

    fn end(&mut self, end: PipeEnd) {
        if !std::mem::replace(&mut self.finished, true) {
            let mut state = self.shared.state();
            state.end = Some(end);
            state.wants_block[READER] = true;
            wake(state, READER);
        }
    }

    /// Takes the block out to fill it: a buffer, whose memory the writer allocates, unless the writer offers to splice.
    ///
    /// This is the only place that decides whether bytes pass through the process.
    pub(crate) fn lend(&mut self, splice: Option<Splice<'_>>) -> Lent {
        let mut state = self.shared.state();
        if state.reader_dropped {
            return Lent::Over(PipeEnd::Truncated);
        }
        let room = self.shared.room;
        let ready = state.block.as_mut().is_some_and(|block| block.is_worth_filling(room));
        let Some(block) = state.block.take_if(|_| ready) else {
            state.wants_block[WRITER] = true;
            return Lent::NotNow;
        };
        let splices = state.splices;
        drop(state);
        Lent::Block(match (block, splice) {
            (Block::Kernel(pipe), Some(_)) if splices => Block::Kernel(pipe),
            (Block::Buf(buf), Some(Splice { left, open }))
                if splices && buf.is_empty() && left.min(room) >= WORTH_SPLICING =>
            {
                open().map_or_else(
                    || {
                        // The limit is reached, or the system has failed: do not try again for each block.
                        self.splice_no_more();
                        Block::Buf(buf)
                    },
                    Block::Kernel,
                )
            }
            (Block::Buf(buf), _) => Block::Buf(buf),
            (Block::Kernel(_), _) => Block::Buf(Runs::default()),
        })
    }

    /// Like [`lend`](Self::lend), but returns a kernel pipe or nothing. `None`: bytes must be copied. If the reader takes
    /// spliced bytes, but has others to read first, it is waited for: otherwise the block would never be empty.
    #[cfg_attr(not(feature = "client"), expect(dead_code, reason = "the client splices bodies"))]
    pub(crate) fn lend_kernel(&mut self, splice: Splice<'_>) -> Lent<Option<KernelPipe>> {
        let mut state = self.shared.state();
        if !state.splices || splice.left.min(self.shared.room) < WORTH_SPLICING {
            return Lent::Block(None);
        }
        if !state.reader_dropped && !state.block.as_ref().is_some_and(Block::is_empty) {
            state.wants_block[WRITER] = true;
            return Lent::NotNow;
        }
        drop(state);
        match self.lend(Some(splice)) {
            Lent::Block(Block::Kernel(pipe)) => Lent::Block(Some(pipe)),
            Lent::Block(block) => {
                self.give_back(block);
                Lent::Block(None)
            }
            Lent::NotNow => Lent::NotNow,
            Lent::Over(end) => Lent::Over(end),
        }
    }

    /// Returns `true` if there is no room now. The writer is woken when there is.
    pub(crate) fn is_full(&mut self) -> bool {
        let (mut state, room) = (self.shared.state(), self.shared.room);
        let full = state.block.as_mut().is_none_or(|block| !block.is_worth_filling(room));
        state.wants_block[WRITER] |= full;
        full
    }

    /// Stops splicing: the system does not splice these sockets, and bytes are copied from now on.
    pub(crate) fn splice_no_more(&mut self) {
        self.shared.state().splices = false;
    }

    /// Returns how many bytes the pipe can hold.
    pub(crate) fn room(&self) -> usize {
        self.shared.room
    }

    /// Counts bytes that were put into the lent block. Must be called before the reader can take them out.
    pub(crate) fn count(&mut self, added: usize) {
        self.allowed = self.allowed.saturating_sub(added as u64);
        self.shared.counters.add(WRITER, added);
    }

    /// Forwards the bytes that were just spliced into the kernel pipe, if the receiver has lent its socket: as many as
    /// `send` can send. Unsent bytes stay for the receiver. The kernel reports a socket error only once, so it is
    /// stored for the receiver.
    pub(crate) fn pass_on(
        &self,
        pipe: &mut KernelPipe,
        send: impl FnOnce(BorrowedFd<'_>, &mut KernelPipe, usize) -> io::Result<usize>,
    ) {
        if self.shared.bypass.send(pipe, &self.shared.counters, send) {
            self.shared.wake_always(READER);
        }
    }

    /// Gives the block back, with the bytes that were [counted](Self::count). If they were spliced, the writer is woken
    /// when they have been taken out.
    pub(crate) fn give_back(&mut self, block: Block) {
        let mut state = self.shared.state();
        let filled = !block.is_empty();
        state.wants_block[WRITER] |= filled && matches!(block, Block::Kernel(_));
        state.block = Some(block);
        if filled {
            wake(state, READER);
        }
    }
}

impl Drop for PipeIn {
    fn drop(&mut self) {
        self.end(PipeEnd::Truncated);
    }
}

impl Upload for PipeIn {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        Consumed::Partial(self.write(chunk))
    }

    /// Finishes the pipe and suspends the request: a ticket responds.
    fn end(self: Box<Self>, trailers: &Headers) -> Action {
        self.finish(Some(trailers.clone()));
        Action::Suspend
    }

    fn pipe(&mut self) -> Option<&mut PipeIn> {
        Some(self)
    }
}

impl fmt::Debug for PipeIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PipeIn({} bytes)", self.shared.counters.written())
    }
}
