//! A server in threads of its own.

use std::{
    fmt, io,
    net::SocketAddr,
    os::fd::{AsRawFd, OwnedFd},
    sync::mpsc,
    thread::JoinHandle,
};

use crate::{
    api::{LoopHandle, loop_message::LoopMessage},
    drive::{Loops, StopHandle},
};

/// A server that runs in its own threads. Dropping this value does not stop it.
pub struct Running {
    pub(super) threads: Vec<JoinHandle<io::Result<()>>>,
    pub(super) loops: Loops,
    /// The loops that accept: in thread-per-connection mode one of them.
    pub(super) accepting: Vec<LoopHandle>,
    pub(super) addr: Option<SocketAddr>,
    /// For each listener, `true` if all loops have the same socket.
    pub(super) shared: Vec<bool>,
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

    /// Stops accepting, and gives the listening sockets back. Connections that were accepted are served as before;
    /// [`stop_handle`](Self::stop_handle) ends them.
    ///
    /// Connections that the system has queued stay in the queues of the sockets: nothing is lost if another server
    /// [inherits](crate::Listen::inherited) **all** of these. They are ordered by listener. A TCP listener that this
    /// process has bound has one socket for each loop; others have one. The descriptors are non-blocking. A second call
    /// returns none.
    ///
    /// Waits until each loop has read the message, so it must not be called on one of them, for instance by a handler.
    pub fn quiesce(&self) -> Vec<OwnedFd> {
        let (sender, sockets) = mpsc::channel();
        for handle in &self.accepting {
            // A loop that has ended has closed its listeners.
            let _ = handle.0.post(LoopMessage::Quiesce(sender.clone()));
        }
        drop(sender);
        let mut sockets: Vec<(usize, OwnedFd)> = sockets.into_iter().flatten().collect();
        sockets.sort_by_key(|(listener, _)| *listener);
        // One descriptor of a socket that the loops share is enough.
        sockets.dedup_by_key(|(listener, socket)| {
            let own = if self.shared.get(*listener) == Some(&true) { 0 } else { socket.as_raw_fd() };
            (*listener, own)
        });
        sockets.into_iter().map(|(_, socket)| socket).collect()
    }

    /// Waits until the server was stopped and has ended.
    ///
    /// # Errors
    /// The system's error if a loop could not continue. In thread-per-connection mode, `TimedOut` if handlers that
    /// still blocked after the grace were abandoned with their threads.
    pub fn join(self) -> io::Result<()> {
        let mut result = Ok(());
        for thread in self.threads {
            let thread_result = thread.join().unwrap_or_else(|_| Err(io::Error::other("a loop's thread has panicked")));
            result = result.and(thread_result);
        }
        result
    }

    /// Stops the server at once, and waits until it has ended.
    ///
    /// # Errors
    /// As [`join`](Self::join).
    pub fn stop_now(self) -> io::Result<()> {
        self.loops.stop(None);
        self.join()
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("addr", &self.addr).finish_non_exhaustive()
    }
}
