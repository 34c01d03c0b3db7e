//! Reports to the program: connections that begin and end, requests that end.

use std::{
    ffi::c_int,
    sync::{Arc, atomic::Ordering},
};

use uncork::{EndReason, PeerAddr};

use crate::{
    address,
    connection::MHD_Connection,
    shared::Shared,
    types::{NO, ended},
};

const STARTED: c_int = 0;
const CLOSED: c_int = 1;

impl Shared {
    /// Asks the program whether it serves a peer.
    pub(crate) fn accepts(&self, peer: &PeerAddr) -> bool {
        let Some((policy, cls)) = self.policy else { return true };
        let (address, len) = address::to_c(peer);
        // SAFETY: The program registered this function with this pointer. The address lives during the call.
        unsafe { policy(cls.0, (&raw const address).cast(), len) != NO }
    }
}

impl MHD_Connection {
    fn notify(&self, code: c_int) {
        if let Some((notify, cls)) = self.shared.notify_connection {
            // SAFETY: The program registered this function with this pointer. The connection lives during the call.
            unsafe { notify(cls.0, self.address(), self.socket_context.get(), code) };
        }
    }

    pub(crate) fn report_opened(&self) {
        self.shared.connections.fetch_add(1, Ordering::Relaxed);
        self.notify(STARTED);
    }

    /// Reports the end of the connection. While a request of it is suspended, the program may be using it: then later.
    pub(crate) fn closed(self: &Arc<Self>) {
        {
            let mut state = self.state();
            state.ticket = None;
            if state.suspension.request_ended.is_some() {
                state.suspension.closed = true;
                return;
            }
        }
        self.report_closed();
    }

    pub(crate) fn report_closed(&self) {
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
        self.notify(CLOSED);
    }

    /// Reports the end of a request that the access handler was called for.
    pub(crate) fn report_request_end(&self, reason: EndReason) {
        let code = {
            let mut state = self.state();
            state.number = 0;
            let receiving = !state.responded;
            code_of(reason, receiving)
        };
        if let Some((completed, cls)) = self.shared.completed {
            // SAFETY: The program registered this function with this pointer. The connection lives during the call.
            unsafe { completed(cls.0, self.address(), self.request_cls.get(), code) };
        }
        // SAFETY: No callback of this connection runs now.
        unsafe { *self.request_cls.get() = std::ptr::null_mut() };
    }
}

/// Returns the code of the interface. `receiving`: the request has no response yet.
fn code_of(reason: EndReason, receiving: bool) -> c_int {
    match reason {
        EndReason::Complete => ended::COMPLETED,
        EndReason::TimedOut(_) => ended::TIMEOUT,
        EndReason::Stopped => ended::SHUTDOWN,
        EndReason::PeerClosed if receiving => ended::CLIENT_ABORT,
        EndReason::Io(_) if receiving => ended::READ_ERROR,
        _ => ended::WITH_ERROR,
    }
}
