//! The buffer between a connection and a thread that reads the body of its response.

use std::{
    collections::VecDeque,
    io::Read,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use super::error::Error;
use crate::{api::Waker, base::lock};

/// Bytes held for a reader.
const BUFFER: usize = 64 * 1024;

/// A bounded buffer that a connection fills and a thread reads.
#[derive(Default)]
pub(super) struct Intake {
    state: Mutex<State>,
    condvar: Condvar,
}

#[derive(Default)]
struct State {
    bytes: VecDeque<u8>,
    end: Option<Result<(), Error>>,
    reader_dropped: bool,
    /// Wakes the connection when there is room.
    waiting: Option<Waker>,
}

impl Intake {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Adds what fits, and returns its length; `None` if the reader was dropped. Calls the waker when there is room
    /// again, or when the reader is dropped.
    pub(super) fn put(&self, bytes: &[u8], waker: &Waker) -> Option<usize> {
        let mut state = self.state();
        if state.reader_dropped {
            return None;
        }
        let n = bytes.len().min(BUFFER.saturating_sub(state.bytes.len()));
        state.bytes.extend(&bytes[..n]);
        state.waiting = Some(waker.clone());
        self.condvar.notify_all();
        Some(n)
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.state().reader_dropped
    }

    pub(super) fn end(&self, result: Result<(), Error>) {
        self.state().end.get_or_insert(result);
        self.condvar.notify_all();
    }

    pub(super) fn take(&self, buf: &mut [u8]) -> Result<usize, Error> {
        let mut state = self.state();
        loop {
            if !state.bytes.is_empty() || buf.is_empty() {
                let was_full = state.bytes.len() >= BUFFER;
                let n = state.bytes.read(buf).unwrap_or(0);
                if was_full && let Some(waker) = state.waiting.take() {
                    waker.wake();
                }
                return Ok(n);
            }
            match &state.end {
                Some(Ok(())) => return Ok(0),
                Some(Err(error)) => return Err(error.clone()),
                None => state = self.condvar.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    pub(super) fn abandon(&self) {
        let mut state = self.state();
        state.reader_dropped = true;
        if let Some(waker) = state.waiting.take() {
            waker.wake();
        }
    }
}
