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
    logger::LogTo,
    options::Callback,
    types::{AcceptPolicy, AccessHandler, FromC, NotifyConnection, RequestCompleted, Unescape, UriLog},
};

/// Reports to the program that were held back while it had suspended a connection.
pub(crate) trait HeldBack: Send + Sync {
    /// Makes the reports.
    fn report_end(&self);
}

/// What the threads of a daemon share.
pub(crate) struct Shared {
    pub(crate) flags: u32,
    pub(crate) log: LogTo,
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
    /// Connections that ended while the program had suspended them. It may still resume them.
    pub(crate) ended_suspended: Mutex<Vec<Arc<dyn HeldBack>>>,
    pub(crate) daemon: AtomicPtr<c_void>,
    /// Handlers that exist. Each may call the program.
    pub(crate) handlers: Mutex<usize>,
    pub(crate) handler_dropped: Condvar,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn count_handler(&self) {
        *lock(&self.handlers) += 1;
    }

    pub(crate) fn uncount_handler(&self) {
        *lock(&self.handlers) -= 1;
        self.handler_dropped.notify_all();
    }

    /// Waits until no handler is left, or for at most that long.
    pub(crate) fn wait_for_handlers(&self, at_most: Option<Duration>) {
        let handlers = lock(&self.handlers);
        match at_most {
            None => drop(self.handler_dropped.wait_while(handlers, |handlers| *handlers > 0)),
            Some(time) => drop(self.handler_dropped.wait_timeout_while(handlers, time, |handlers| *handlers > 0)),
        }
    }
}
