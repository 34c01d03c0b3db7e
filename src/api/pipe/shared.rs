//! The state that both ends of a pipe share: the block, its end, and the wakers.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard},
    task,
};

use log::error;

use super::{Block, PipeCounters, bypass::Bypass};
use crate::{
    base::{lock, panic_message, pipe_memory::Share, runs::Runs},
    h1::Headers,
    transport::kernel_pipe::KernelPipe,
};

pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) bypass: Bypass,
    pub(super) room: usize,
    pub(super) counters: PipeCounters,
}

pub(super) struct State {
    /// `None` while one of the ends works on it.
    pub(super) block: Option<Block>,
    /// The reader takes spliced bytes, and the system has not refused to splice them.
    pub(super) splices: bool,
    pub(super) end: Option<PipeEnd>,
    pub(super) reader_dropped: bool,
    /// The ends (writer, reader) that found the block taken, full or empty, and must be woken.
    pub(super) wants_block: [bool; 2],
    wakers: [Option<task::Waker>; 2],
}

/// The end of a pipe.
#[derive(Clone)]
pub(crate) enum PipeEnd {
    /// Everything was written; the trailers.
    Clean(Option<Box<Headers>>),
    /// The writer was dropped before it had finished.
    Truncated,
}

/// The result of asking for the block.
pub(crate) enum Lent<B = Block> {
    /// The block, to be given back.
    Block(B),
    /// Nothing now: the block is full, empty, or with the other end. The waker of this end is called when that changes.
    NotNow,
    /// Nothing any more: the other end was dropped, or everything was read.
    Over(PipeEnd),
}

/// The offer of a writer that can splice.
pub(crate) struct Splice<'a> {
    /// Bytes that follow and need no inspection.
    pub(crate) left: usize,
    /// Makes a kernel pipe, if one more is allowed.
    pub(crate) open: &'a mut dyn FnMut() -> Option<KernelPipe>,
}

impl Shared {
    pub(super) fn new(room: usize, share: Share) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                block: Some(Block::Buf(Runs::with_share(share))),
                splices: false,
                end: None,
                reader_dropped: false,
                wants_block: [false; 2],
                wakers: [None, None],
            }),
            bypass: Bypass::default(),
            room: room.clamp(1, 1 << 30),
            counters: PipeCounters::default(),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(super) fn set_waker(&self, end: usize, waker: task::Waker) {
        let old = self.state().wakers[end].replace(waker);
        // Not under the lock: the waker may be application code.
        guard(move || drop(old));
    }

    /// Wakes that end, whether it waits or not.
    pub(super) fn wake_always(&self, end: usize) {
        let mut state = self.state();
        state.wants_block[end] = true;
        wake(state, end);
    }
}

/// Wakes that end if it waits; without the lock, as the waker may be application code.
pub(super) fn wake(mut state: MutexGuard<'_, State>, end: usize) {
    let waker = if std::mem::take(&mut state.wants_block[end]) { state.wakers[end].clone() } else { None };
    drop(state);
    if let Some(waker) = waker {
        guard(move || waker.wake());
    }
}

/// Calls a waker. The caller may be a loop, which a panic of the application must not end.
fn guard(call: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(call)) {
        error!(target: "uncork::engine", "the application panicked in a waker of a pipe: {}", panic_message(&*panic));
    }
}
