//! A server in threads of its own.

use std::{fmt, io, net::SocketAddr, thread::JoinHandle};

use crate::{
    api::LoopHandle,
    drive::{Loops, StopHandle},
};

/// A server that runs in its own threads. Dropping this value does not stop it.
pub struct Running {
    pub(super) threads: Vec<JoinHandle<io::Result<()>>>,
    pub(super) loops: Loops,
    pub(super) addr: Option<SocketAddr>,
}

impl Running {
    /// Returns the address of the first TCP listener; `None` if there is none.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.addr
    }

    /// Returns a handle that stops the server from any thread.
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle(self.loops.clone())
    }

    /// Returns the handles of its loops, which adopt and dial connections from any thread.
    pub fn loops(&self) -> Vec<LoopHandle> {
        self.loops.all()
    }

    /// Waits until the server was stopped and has ended.
    ///
    /// # Errors
    /// The system's error if a loop could not go on. In thread-per-connection mode, `TimedOut` if handlers that still
    /// blocked after the grace were abandoned with their threads.
    pub fn join(self) -> io::Result<()> {
        let mut result = Ok(());
        for thread in self.threads {
            let one = thread.join().unwrap_or_else(|_| Err(io::Error::other("a loop's thread has panicked")));
            result = result.and(one);
        }
        result
    }

    /// Stops the server at once, and waits until it has ended.
    ///
    /// # Errors
    /// As [`join`](Self::join).
    pub fn stop(self) -> io::Result<()> {
        self.loops.stop(None);
        self.join()
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("addr", &self.addr).finish_non_exhaustive()
    }
}
