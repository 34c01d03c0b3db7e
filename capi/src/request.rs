//! What a program does with a request: it queues a response, and sets options of its connection.

use std::ffi::{c_int, c_uint};

use crate::{
    connection::MHD_Connection,
    response::MHD_Response,
    types::{NO, Result, YES},
};

/// A bit that asks for another protocol in the status line. It is ignored.
const ICY_FLAG: c_uint = 1 << 31;

fn queue(connection: &MHD_Connection, status: c_uint, response: &MHD_Response) -> Result {
    let rejected = |reason: &str| {
        connection.log(&format!("cannot queue a response with status {status}: {reason}"));
        NO
    };
    let Some(status) = u16::try_from(status & !ICY_FLAG).ok().filter(|status| (200..=999).contains(status)) else {
        return rejected("expected 200 to 999");
    };
    let mut state = connection.state();
    let reason = if state.number == 0 || state.responded || state.queued.is_some() {
        "no request waits for one"
    } else if !state.in_call && !state.suspension.suspended {
        "the connection is not suspended, and the access handler is not running"
    } else {
        state.queued = Some((status, response.shared_owner()));
        state.status = status;
        return YES;
    };
    drop(state);
    rejected(reason)
}

export! {
    /// Queues a response: in the access handler, or while the connection is suspended.
    fn MHD_queue_response(connection: *const MHD_Connection, status: c_uint, response: *const MHD_Response)
        -> Result, or NO; {
        // SAFETY: By the contract of the interface they are NULL, or a connection and a response.
        match unsafe { (MHD_Connection::of_c(connection), MHD_Response::of_c(response)) } {
            (Some(connection), Some(response)) => queue(connection, status, response),
            _ => NO,
        }
    }
}

/// Sets the timeout of a connection: not possible, since timeouts are of the whole daemon.
///
/// # Safety
/// `connection` must be NULL or a connection.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn uncork_mhd_connection_timeout(
    connection: *const MHD_Connection,
    option: c_int,
    _seconds: c_uint,
) -> Result {
    crate::boundary::guard("MHD_set_connection_option", NO, || {
        // SAFETY: The caller guarantees it.
        if let Some(connection) = unsafe { MHD_Connection::of_c(connection) } {
            let what = if option == 0 { "a timeout of one connection is not available yet" } else { "unknown option" };
            connection.log(&format!("cannot set an option of the connection: {what}"));
        }
        NO
    })
}
