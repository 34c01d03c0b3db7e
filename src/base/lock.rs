//! Locking a mutex, whether it is poisoned or not.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex, and ignores poison: the data that the crate's mutexes guard is consistent between any two statements,
/// and a panic of application code never happens under one of them.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
