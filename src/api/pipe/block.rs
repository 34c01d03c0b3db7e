//! The storage of a pipe: a buffer of the process, or a pipe of the system.

use crate::{base::runs::Runs, transport::kernel_pipe::KernelPipe};

pub(crate) enum Block {
    Buf(Runs),
    Kernel(KernelPipe),
}

impl Block {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Buf(buf) => buf.len(),
            Self::Kernel(pipe) => pipe.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns `true` if more can be put in, without moving the bytes in it, and more than a few bytes. A kernel pipe
    /// is filled only when it is empty: otherwise the reason why the system takes no more would be uncertain.
    pub(super) fn is_worth_filling(&mut self, room: usize) -> bool {
        match self {
            Self::Buf(buf) => buf.has_room(room),
            Self::Kernel(pipe) => pipe.is_empty(),
        }
    }
}
