//! Suspending and resuming a connection, from any thread and in every mode.
//!
//! ```text
//!   callback ──suspend──▶ returns ──▶ parked ──resume──▶ the loop calls the program again
//!                └──────resume before it returns───────▶ the loop calls the program again
//! ```
//! The connection object of a client that disconnects while its request is suspended stays until the program resumes
//! it, as the program expects. Until then its end is not reported.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use uncork::EndReason;

use crate::{
    connection::MHD_Connection,
    progress::proceed,
    shared::{HeldBack, lock},
    types::flag,
};

impl MHD_Connection {
    /// Reports the end of the request. While it is suspended, the program may be using it: then later.
    pub(crate) fn request_ended(self: &Arc<Self>, reason: EndReason) {
        let stopping = self.shared.stopping.load(Ordering::Acquire);
        {
            let mut state = self.state();
            if state.suspension.suspended && !stopping {
                state.suspension.request_ended = Some(reason);
                drop(state);
                lock(&self.shared.ended_suspended).push(self.clone());
                return;
            }
        }
        self.report_request_end(reason);
    }
}

impl HeldBack for MHD_Connection {
    fn report_end(&self) {
        let (reason, closed) = {
            let mut state = self.state();
            (state.suspension.request_ended.take(), std::mem::take(&mut state.suspension.closed))
        };
        if let Some(reason) = reason {
            self.report_request_end(reason);
        }
        if closed {
            self.report_closed();
        }
    }
}

export! {
    /// Suspends a connection: none of its callbacks is called until it is resumed.
    fn MHD_suspend_connection(connection: *const MHD_Connection), or (); {
        // SAFETY: By the contract of the interface it is NULL or a connection.
        let Some(connection) = (unsafe { MHD_Connection::of_c(connection) }) else { return };
        if connection.shared.flags & flag::SUSPEND_RESUME == 0 {
            return connection.log("cannot suspend the connection: the daemon has no MHD_ALLOW_SUSPEND_RESUME");
        }
        let mut state = connection.state();
        state.suspension.suspended = true;
        state.suspension.since_call = true;
    }
}

export! {
    /// Resumes a connection, from any thread.
    fn MHD_resume_connection(connection: *const MHD_Connection), or (); {
        // SAFETY: By the contract of the interface it is NULL or a connection; a suspended one is not freed.
        let Some(connection) = (unsafe { MHD_Connection::of_c(connection) }) else { return };
        let connection = connection.shared_owner();
        let (parked, ended) = {
            let mut state = connection.state();
            if !std::mem::take(&mut state.suspension.suspended) {
                return;
            }
            (state.suspension.parked.take(), state.suspension.request_ended.is_some())
        };
        if ended {
            let handle = connection.state().loop_handle.clone();
            let report = move || {
                lock(&connection.shared.ended_suspended).retain(|other| !std::ptr::addr_eq(Arc::as_ptr(other), Arc::as_ptr(&connection)));
                connection.report_end();
            };
            // Not here: the program may hold a lock that its callbacks take. If the loop has ended, the
            // stop reports it.
            match handle {
                Some(handle) => handle.after(Duration::ZERO, move |_| report()),
                None => report(),
            }
        } else if let Some(parked) = parked {
            proceed(&connection, parked);
        }
    }
}
