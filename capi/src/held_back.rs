//! Reports of ends that are held back: while the program has suspended a request, or has a socket of an upgraded
//! connection, it may be using the connection object.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use uncork::EndReason;

use crate::{
    connection::MHD_Connection,
    shared::{HeldBack, lock},
};

impl MHD_Connection {
    /// Reports the end of the request; later, if the program may be using it.
    pub(crate) fn request_ended(self: &Arc<Self>, reason: EndReason) {
        let stopping = self.shared.stopping.load(Ordering::Acquire);
        let (held, counted, reason) = {
            let mut state = self.state();
            // With a socket, the program alone learns how the connection ended.
            let unknown = state.upgraded.by_socket && reason != EndReason::Stopped;
            let reason = if unknown { EndReason::Complete } else { reason };
            // The stop resumes what is suspended. It does not close sockets of the program.
            let held = state.upgraded.has_socket || (state.suspension.suspended && !stopping);
            if held {
                state.suspension.request_ended = Some(reason);
            }
            (held, std::mem::take(&mut state.upgraded.counted), reason)
        };
        if held {
            lock(&self.shared.held_back).push(self.clone());
        } else {
            self.report_request_end(reason);
        }
        if counted {
            self.shared.upgraded.remove();
        }
    }

    /// Reports what was held back, on the loop: the program may hold a lock that its callbacks take. If the loop has
    /// ended, the stop reports it.
    pub(crate) fn report_later(self: Arc<Self>) {
        let handle = self.state().loop_handle.clone();
        let report = move || {
            lock(&self.shared.held_back).retain(|other| !std::ptr::addr_eq(Arc::as_ptr(other), Arc::as_ptr(&self)));
            self.report_end();
        };
        match handle {
            Some(handle) => handle.after(Duration::ZERO, move |_| report()),
            None => report(),
        }
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
