//! Pipes of the system, through which bytes pass from one socket to another without entering the process.
//!
//! ```text
//!   socket ══splice══▶ ┤ write end   held bytes   read end ├ ══splice══▶ socket
//! ```
//!
//! They are few: each has two descriptors, and Linux lets an unprivileged user have 16,384 pages of them in total
//! (pipe(7), pipe-user-pages-soft), which is 256 of this size. So they come from a pool that all loops of a server share,
//! and a connection that gets none copies its bytes instead. A pipe that still holds bytes when it is dropped is closed,
//! not used again.

use std::{
    fmt,
    io::{self, PipeReader, PipeWriter, Read},
    sync::{Arc, Mutex, MutexGuard},
};

use crate::base::{lock, runs::Runs};

/// The size of a kernel pipe in bytes: that of the block it replaces. It is also the most that is put into one: the system
/// counts pages instead of bytes, and some pages are larger than others.
pub(crate) const KERNEL_PIPE: usize = 256 * 1024;
/// Unused pipes that are kept. Further ones are closed.
const KEPT: usize = 16;

/// A kernel pipe's descriptors.
pub(crate) struct Ends {
    pub(crate) read: PipeReader,
    pub(crate) write: PipeWriter,
}

/// A kernel pipe in use, and the number of bytes in it.
pub(crate) struct KernelPipe {
    /// `None` only while it is dropped.
    ends: Option<Ends>,
    held: usize,
    pool: Arc<KernelPipes>,
}

impl KernelPipe {
    pub(crate) fn ends(&self) -> Option<&Ends> {
        self.ends.as_ref()
    }

    /// Returns the number of bytes in it.
    pub(crate) fn len(&self) -> usize {
        self.held
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Counts bytes that were spliced into it.
    pub(crate) fn put_in(&mut self, n: usize) {
        self.held += n;
    }

    /// Counts bytes that were spliced out of it.
    pub(crate) fn taken_out(&mut self, n: usize) {
        self.held = self.held.saturating_sub(n);
    }

    /// Reads all its bytes into the process. They are there, so it does not block.
    pub(crate) fn into_buf(mut self) -> io::Result<Runs> {
        let mut buf = Runs::from_store(vec![0; self.held].into_boxed_slice());
        if let Some(ends) = &self.ends {
            (&ends.read).read_exact(buf.spare())?;
        }
        buf.commit(self.held);
        self.held = 0;
        Ok(buf)
    }
}

impl Drop for KernelPipe {
    fn drop(&mut self) {
        let ends = self.ends.take().filter(|_| self.held == 0);
        self.pool.put_back(ends);
    }
}

impl fmt::Debug for KernelPipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KernelPipe({} bytes)", self.held)
    }
}

/// The kernel pipes of a server.
pub(crate) struct KernelPipes {
    most: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    unused: Vec<Ends>,
    in_use: usize,
}

impl KernelPipes {
    /// Creates a pool that has at most `most` pipes in use at the same time.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Returns an empty pipe, made by `make` if none is kept; `None` if there are enough, or if the system refuses another.
    pub(crate) fn take(self: &Arc<Self>, make: impl FnOnce() -> io::Result<Ends>) -> Option<KernelPipe> {
        let unused = {
            let mut state = self.state();
            if state.in_use >= self.most {
                return None;
            }
            state.in_use += 1;
            state.unused.pop()
        };
        let ends = unused.map_or_else(make, Ok);
        if ends.is_err() {
            self.put_back(None);
        }
        Some(KernelPipe { ends: Some(ends.ok()?), held: 0, pool: self.clone() })
    }

    /// Notes that a pipe is no longer in use. With its ends, it can be used again.
    fn put_back(&self, ends: Option<Ends>) {
        let mut state = self.state();
        state.in_use = state.in_use.saturating_sub(1);
        if let Some(ends) = ends
            && state.unused.len() < KEPT
        {
            state.unused.push(ends);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn make() -> io::Result<Ends> {
        let (read, write) = io::pipe()?;
        Ok(Ends { read, write })
    }

    fn counts(pool: &KernelPipes) -> (usize, usize) {
        let state = pool.state();
        (state.in_use, state.unused.len())
    }

    fn put(pipe: &mut KernelPipe, bytes: &[u8]) {
        (&pipe.ends().expect("in use").write).write_all(bytes).expect("room");
        pipe.put_in(bytes.len());
    }

    #[test]
    fn an_empty_one_is_used_again_and_one_with_bytes_is_closed() {
        let pool = Arc::new(KernelPipes::new(9));
        let mut pipe = pool.take(make).expect("one");
        assert_eq!(counts(&pool), (1, 0));
        put(&mut pipe, b"left");
        drop(pipe);
        assert_eq!(counts(&pool), (0, 0), "its bytes must not reach another stream");
        drop(pool.take(make));
        assert_eq!(counts(&pool), (0, 1));
        let again = pool.take(|| panic!("there is one")).expect("that one");
        assert!(again.is_empty());
        assert_eq!(counts(&pool), (1, 0));
    }

    #[test]
    fn they_are_limited_in_use_and_unused() {
        let pool = Arc::new(KernelPipes::new(KEPT + 2));
        let mut pipes: Vec<_> = std::iter::from_fn(|| pool.take(make)).collect();
        assert_eq!(pipes.len(), KEPT + 2);
        pipes.pop();
        pipes.push(pool.take(make).expect("a place is free"));
        assert!(pool.take(make).is_none());
        drop(pipes);
        assert_eq!(counts(&pool), (0, KEPT));
        assert!(Arc::new(KernelPipes::new(0)).take(make).is_none());
    }

    #[test]
    fn what_the_system_refuses_takes_no_place() {
        let pool = Arc::new(KernelPipes::new(1));
        for _ in 0..3 {
            assert!(pool.take(|| Err(io::ErrorKind::PermissionDenied.into())).is_none());
        }
        assert!(pool.take(make).is_some());
    }

    #[test]
    fn its_bytes_can_be_had_in_the_process() {
        let pool = Arc::new(KernelPipes::new(1));
        let mut pipe = pool.take(make).expect("one");
        put(&mut pipe, b"hello");
        assert_eq!(pipe.into_buf().expect("read").filled(), b"hello");
        assert_eq!(counts(&pool), (0, 1));
    }
}
