//! What a pipe holds its bytes in: a buffer of the process, or a pipe of the system.

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

    /// Whether more may be put in: without moving what is there, and not in crumbs. A kernel pipe takes something when it
    /// is empty: only then it is certain why the system would refuse.
    pub(super) fn is_worth_filling(&mut self, room: usize) -> bool {
        match self {
            Self::Buf(buf) => buf.has_room(room),
            Self::Kernel(pipe) => pipe.is_empty(),
        }
    }
}
