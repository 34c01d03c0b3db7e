//! What an upgrade of this crate may do with the socket itself: let the system move bytes between it and a pipe.

use crate::transport::{Spliced, kernel_pipe::KernelPipe};

/// The plain socket of an upgraded connection. An error ends the connection after the call: it looks like
/// [`Spliced::Blocked`] here.
#[cfg_attr(not(feature = "client"), expect(dead_code, reason = "the client splices bodies"))]
pub(crate) trait Splicer {
    /// Returns an empty kernel pipe; `None` if the limit of the process is reached.
    fn open(&self) -> Option<KernelPipe>;

    /// Splices up to `most` bytes from the socket into the empty pipe.
    fn splice_in(&mut self, pipe: &mut KernelPipe, most: usize) -> Spliced;

    /// Splices up to `most` bytes from the pipe to the socket. The output must be empty: it would be sent later.
    fn splice_out(&mut self, pipe: &mut KernelPipe, most: usize) -> Spliced;
}
