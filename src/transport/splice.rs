//! Splicing: bytes pass from one plain socket to another through a pipe of the system, without entering the process.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use super::{
    Fault, Transport,
    kernel_pipe::{KernelPipe, KernelPipes},
    sys,
};

/// The result of a splice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spliced {
    /// The number of bytes moved. Fewer than requested does not mean that the socket is drained or full.
    Bytes(usize),
    /// The socket has no bytes, or takes none.
    Blocked,
    /// The peer has ended its side.
    End,
    /// The system does not splice this socket.
    Unable,
}

/// Turns the system's refusal to splice into a result: the connection can continue.
fn unable_or(error: io::Error) -> io::Result<Spliced> {
    match error.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied => {
            Ok(Spliced::Unable)
        }
        _ => Err(error),
    }
}

/// Takes a kernel pipe from the pool, or makes one. `None` if the pool's limit is reached, or the system refuses.
pub(crate) fn kernel_pipe(pool: &Arc<KernelPipes>) -> Option<KernelPipe> {
    pool.take(sys::kernel_pipe)
}

/// Splices from the kernel pipe to a socket.
fn splice_out(pipe: &mut KernelPipe, socket: BorrowedFd<'_>, most: usize) -> io::Result<Spliced> {
    debug_assert!(most > 0 && most <= pipe.len());
    let Some(ends) = pipe.ends() else { return Ok(Spliced::Unable) };
    match sys::splice(ends.read.as_fd(), socket, most) {
        Ok(n) => {
            pipe.taken_out(n);
            Ok(Spliced::Bytes(n))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Spliced::Blocked),
        Err(error) => unable_or(error),
    }
}

/// Splices from the kernel pipe to a lent socket. Returns the number of bytes; 0 also if it cannot be spliced, which
/// its owner will find out.
pub(crate) fn pass_on(socket: BorrowedFd<'_>, pipe: &mut KernelPipe, most: usize) -> io::Result<usize> {
    match splice_out(pipe, socket, most)? {
        Spliced::Bytes(n) => Ok(n),
        Spliced::Blocked | Spliced::End | Spliced::Unable => Ok(0),
    }
}

impl Transport {
    /// Splices from a plain socket into an empty kernel pipe, without passing through the process.
    ///
    /// The pipe must be empty because the system reports an empty socket and a full pipe alike. A few bytes fill a
    /// pipe, if they arrived in as many pieces as it has pages.
    pub(crate) fn splice_in(&mut self, pipe: &mut KernelPipe, most: usize) -> Result<Spliced, Fault> {
        debug_assert!(self.is_plain() && pipe.is_empty() && most > 0);
        let Some(ends) = pipe.ends() else { return Ok(Spliced::Unable) };
        match sys::splice(self.socket.fd()?, ends.write.as_fd(), most) {
            Ok(0) => Ok(Spliced::End),
            Ok(n) => {
                pipe.put_in(n);
                Ok(Spliced::Bytes(n))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Spliced::Blocked),
            Err(error) => Ok(unable_or(error)?),
        }
    }

    /// Splices from the kernel pipe to a plain socket.
    pub(crate) fn splice_out(&mut self, pipe: &mut KernelPipe, most: usize) -> Result<Spliced, Fault> {
        debug_assert!(self.is_plain());
        Ok(splice_out(pipe, self.socket.fd()?, most)?)
    }

    /// Returns a second descriptor for a plain socket, to which another loop can [pass on](pass_on) spliced bytes.
    pub(crate) fn lend(&self) -> io::Result<OwnedFd> {
        debug_assert!(self.is_plain());
        self.socket.fd()?.try_clone_to_owned()
    }
}
