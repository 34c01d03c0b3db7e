//! The receiver's socket, lent to the sender's loop.
//!
//! ```text
//!   sender's socket ══▶ [ kernel pipe ] ══▶ receiver's socket, a second descriptor       all on the sender's loop
//!                              └─ socket full, body over, an error ─▶ on_data            the receiver takes over
//! ```
//!
//! Unlike the state of the pipe, the bypass is locked while a system call runs. When the receiver takes its socket
//! back, it waits for at most one such call: nothing is sent afterwards, and what was sent is counted.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Mutex,
};

use super::{PipeCounters, counters::READER};
use crate::{base::lock, transport::kernel_pipe::KernelPipe};

#[derive(Default)]
pub(super) struct Bypass(Mutex<State>);

#[derive(Default)]
struct State {
    socket: Option<OwnedFd>,
    /// The number of bytes that may still be sent there.
    left: u64,
    /// The error that ended it.
    fault: Option<io::Error>,
}

impl Bypass {
    /// Allows `max` bytes from now on. Calls `socket` if there is none yet.
    pub(super) fn open(&self, max: u64, socket: impl FnOnce() -> io::Result<OwnedFd>) {
        let mut state = lock(&self.0);
        if state.socket.is_none() {
            // Without a descriptor for it, the reader sends everything itself, as before.
            state.socket = socket().ok();
        }
        state.left = max;
    }

    /// Allows no byte from now on.
    pub(super) fn shut(&self) {
        lock(&self.0).left = 0;
    }

    /// Drops the socket.
    pub(super) fn close(&self) {
        *lock(&self.0) = State::default();
    }

    /// Takes the error that a send has returned. The system reports a socket error only once.
    pub(super) fn take_fault(&self) -> Option<io::Error> {
        lock(&self.0).fault.take()
    }

    /// Sends the content of the kernel pipe, as far as it is allowed and the socket takes it. Returns `true` if the
    /// receiver must take over.
    pub(super) fn send(
        &self,
        pipe: &mut KernelPipe,
        counters: &PipeCounters,
        send: impl FnOnce(BorrowedFd<'_>, &mut KernelPipe, usize) -> io::Result<usize>,
    ) -> bool {
        let mut state = lock(&self.0);
        let max = pipe.len().min(usize::try_from(state.left).unwrap_or(usize::MAX));
        let Some(socket) = state.socket.as_ref().filter(|_| max > 0) else { return false };
        match send(socket.as_fd(), pipe, max) {
            Ok(n) => {
                state.left -= n as u64;
                counters.add(READER, n);
            }
            Err(error) => {
                state.left = 0;
                state.fault = Some(error);
            }
        }
        state.left == 0
    }
}
