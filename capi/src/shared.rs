//! What the threads of a daemon share.

use std::{
    ffi::c_void,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicPtr, AtomicUsize},
    },
    time::Duration,
};

use crate::{
    auth::Auth,
    logger::LogTo,
    options::Callback,
    types::{AcceptPolicy, AccessHandler, FromC, NotifyConnection, RequestCompleted, Unescape, UriLog},
};

/// Reports to the program that were held back while it could be using a connection.
pub(crate) trait HeldBack: Send + Sync {
    /// Makes the reports.
    fn report_end(&self);
}

/// What the threads of a daemon share.
pub(crate) struct Shared {
    pub(crate) flags: u32,
    pub(crate) log: LogTo,
    pub(crate) auth: Auth,
    /// The timeout that the program has set, in seconds; 0 for none.
    pub(crate) timeout: u32,
    pub(crate) policy: Callback<AcceptPolicy>,
    pub(crate) handler: (AccessHandler, FromC<c_void>),
    pub(crate) completed: Callback<RequestCompleted>,
    pub(crate) notify_connection: Callback<NotifyConnection>,
    pub(crate) uri_log: Callback<UriLog>,
    pub(crate) unescape: Callback<Unescape>,
    /// Connections that are served.
    pub(crate) connections: AtomicUsize,
    pub(crate) stopping: AtomicBool,
    /// Connections that ended while the program could be using them: it may still resume or close them.
    pub(crate) held_back: Mutex<Vec<Arc<dyn HeldBack>>>,
    pub(crate) daemon: AtomicPtr<c_void>,
    /// Handlers that exist. Each may call the program.
    pub(crate) handlers: Gauge,
    /// Upgraded connections whose last byte is not sent.
    pub(crate) upgraded: Gauge,
    /// Threads in which an upgrade handler of the program may block.
    pub(crate) helpers: Gauge,
}

/// The number of things that exist. A thread can wait until there are none.
#[derive(Default)]
pub(crate) struct Gauge {
    count: Mutex<usize>,
    is_zero: Condvar,
}

impl Gauge {
    pub(crate) fn add(&self) {
        *lock(&self.count) += 1;
    }

    pub(crate) fn remove(&self) {
        let mut count = lock(&self.count);
        *count -= 1;
        if *count == 0 {
            self.is_zero.notify_all();
        }
    }

    pub(crate) fn is_zero(&self) -> bool {
        *lock(&self.count) == 0
    }

    /// Waits until there are none, or for at most that long.
    pub(crate) fn wait(&self, at_most: Option<Duration>) {
        let count = lock(&self.count);
        match at_most {
            None => drop(self.is_zero.wait_while(count, |count| *count > 0)),
            Some(time) => drop(self.is_zero.wait_timeout_while(count, time, |count| *count > 0)),
        }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
