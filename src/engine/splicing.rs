//! The socket of an upgraded connection, for an upgrade that splices.

use std::sync::Arc;

use super::ready::Ready;
use crate::{
    api::splicer::Splicer,
    transport::{
        self, Fault, Spliced, Transport,
        kernel_pipe::{KernelPipe, KernelPipes},
    },
};

/// The parts of a connection that are not lent as input and output.
pub(super) struct Socket<'a> {
    pub(super) transport: &'a mut Transport,
    pub(super) ready: &'a mut Ready,
    pub(super) eof: &'a mut Option<bool>,
    pub(super) sent: &'a mut u64,
    pub(super) kernel_pipes: &'a Arc<KernelPipes>,
    /// The failure of a call, to be handled after the upgrade's.
    pub(super) fault: &'a mut Option<Fault>,
}

impl Splicer for Socket<'_> {
    fn open(&self) -> Option<KernelPipe> {
        transport::kernel_pipe(self.kernel_pipes)
    }

    fn splice_in(&mut self, pipe: &mut KernelPipe, most: usize) -> Spliced {
        if !self.ready.contains(Ready::READ) || self.eof.is_some() {
            return Spliced::Blocked;
        }
        let spliced = self.transport.splice_in(pipe, most).unwrap_or_else(|fault| self.failed(fault));
        match spliced {
            Spliced::Blocked => self.ready.remove(Ready::READ),
            Spliced::End => {
                self.ready.remove(Ready::READ);
                *self.eof = Some(true);
            }
            Spliced::Bytes(_) | Spliced::Unable => {}
        }
        spliced
    }

    fn splice_out(&mut self, pipe: &mut KernelPipe, most: usize) -> Spliced {
        if !self.ready.contains(Ready::WRITE) {
            return Spliced::Blocked;
        }
        let spliced = self.transport.splice_out(pipe, most).unwrap_or_else(|fault| self.failed(fault));
        match spliced {
            Spliced::Bytes(n) => {
                *self.sent += n as u64;
                self.ready.remove(Ready::LATE);
            }
            Spliced::Blocked | Spliced::End => self.ready.remove(Ready::WRITE),
            Spliced::Unable => {}
        }
        spliced
    }
}

impl Socket<'_> {
    fn failed(&mut self, fault: Fault) -> Spliced {
        self.fault.get_or_insert(fault);
        Spliced::Blocked
    }
}
