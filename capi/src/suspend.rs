//! Suspending and resuming a connection, from any thread and in every mode.
//!
//! ```text
//!   callback ──suspend──▶ returns ──▶ parked ──resume──▶ the loop calls the program again
//!                └──────resume before it returns───────▶ the loop calls the program again
//! ```
//! The connection object of a client that disconnects while its request is suspended stays until the program resumes
//! it, as the program expects. Until then its end is not reported.

use std::{sync::Arc, time::Duration};

use uncork::EndReason;

use crate::{
    connection::MHD_Connection,
    daemon::lock,
    flow::{self, Step},
    types::flag,
};

/// What is known of the suspension of a connection.
#[derive(Default)]
pub(crate) struct Suspension {
    pub(crate) suspended: bool,
    /// The program has suspended it since the last call of a callback began.
    pub(crate) since_call: bool,
    /// What a resumption continues, once the callback has returned.
    pub(crate) parked: Option<Parked>,
    /// The end of the request and of the connection, if they are not reported yet.
    pub(crate) request_ended: Option<EndReason>,
    pub(crate) closed: bool,
}

/// What a resumption continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parked {
    /// The access handler is called as at the head.
    Head,
    /// The access handler is called as at the end of the request.
    End,
    /// The upload or the content reader is called.
    Stream,
}

impl MHD_Connection {
    /// Notes what the resumption continues. If it is resumed already, it continues at once.
    pub(crate) fn park(self: &Arc<Self>, parked: Parked) {
        {
            let mut state = self.state();
            if state.suspension.suspended {
                state.suspension.parked = Some(parked);
                return;
            }
        }
        self.proceed(parked);
    }

    /// Continues a request that was resumed. Runs no application code here: the loop does.
    fn proceed(self: &Arc<Self>, parked: Parked) {
        let state = self.state();
        match parked {
            Parked::Stream => {
                if let Some(waker) = &state.waker {
                    waker.wake();
                }
            }
            Parked::Head | Parked::End => {
                let (connection, number) = (self.clone(), state.number);
                if let Some(handle) = &state.loop_handle {
                    handle.after(Duration::ZERO, move |_| connection.continue_request(parked, number));
                }
            }
        }
    }

    /// Calls the program again for a request that was suspended. Runs on the loop of the connection.
    fn continue_request(self: &Arc<Self>, parked: Parked, number: u32) {
        {
            let state = self.state();
            if state.number != number || state.responded {
                return;
            }
        }
        let step = match parked {
            _ if self.state().queued.is_some() => Step::Respond,
            _ => flow::ask(self, parked),
        };
        match step {
            Step::Park(parked) => self.park(parked),
            Step::Receive => {
                let state = self.state();
                if let Some(ticket) = &state.ticket {
                    // Gives it back if the request has ended.
                    drop(ticket.receive(flow::Body(self.clone())));
                }
            }
            step => {
                let action = flow::action(self, step);
                let ticket = self.state().ticket.take();
                if let Some(ticket) = ticket {
                    // Gives the action back if the request has ended meanwhile.
                    drop(ticket.respond(action));
                }
            }
        }
    }

    /// Reports the end of the request. While it is suspended, the program may be using it: then later.
    pub(crate) fn request_ended(self: &Arc<Self>, reason: EndReason) {
        let stopping = self.shared.stopping.load(std::sync::atomic::Ordering::Acquire);
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

    /// Reports what was held back while the connection was suspended.
    pub(crate) fn report_end(&self) {
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
                lock(&connection.shared.ended_suspended).retain(|other| !Arc::ptr_eq(other, &connection));
                connection.report_end();
            };
            // Not here: the program may hold a lock that its callbacks take. If the loop has ended, the
            // stop reports it.
            match handle {
                Some(handle) => handle.after(Duration::ZERO, move |_| report()),
                None => report(),
            }
        } else if let Some(parked) = parked {
            connection.proceed(parked);
        }
    }
}
