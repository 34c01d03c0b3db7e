//! What a program does with a request: it queues a response, and sets options of its connection.

use std::{
    ffi::{c_char, c_int, c_uint},
    sync::atomic::Ordering,
};

use libc::size_t;

use crate::{
    connection::{MHD_Connection, Parked},
    progress::proceed,
    response::{Content, MHD_Response},
    shared::lock,
    types::{NO, Result, YES, flag, response_flag},
};

/// A bit that asks for another protocol in the status line. It is ignored.
const ICY_FLAG: c_uint = 1 << 31;

/// Queues a response: in the access handler, or while the connection is suspended.
pub(crate) fn queue(connection: &MHD_Connection, status: c_uint, response: &MHD_Response) -> Result {
    let rejected = |reason: &str| {
        connection.log(&format!("cannot queue a response with status {status}: {reason}"));
        NO
    };
    let upgrades = matches!(response.content, Content::Upgrade(_));
    let Some(status) = u16::try_from(status & !ICY_FLAG)
        .ok()
        .filter(|status| (200..=999).contains(status) || (*status == 101 && upgrades))
    else {
        return rejected("expected 200 to 999, or 101 for an upgrade");
    };
    if let Some(reason) = if upgrades { upgrade_is_invalid(connection, status, response) } else { None } {
        return rejected(reason);
    }
    let mut state = connection.state();
    let is_awaited = state.again.is_some() && !state.in_call && !state.suspension.suspended;
    let reason = if state.number == 0 || state.responded || state.queued.is_some() {
        "no request waits for one"
    } else if !state.in_call && !state.suspension.suspended && !is_awaited {
        "the connection is not suspended, and the access handler is not running"
    } else {
        state.queued = Some((status, response.shared_owner()));
        state.status = status;
        drop(state);
        if is_awaited {
            proceed(&connection.shared_owner(), Parked::End);
        }
        return YES;
    };
    drop(state);
    rejected(reason)
}

/// Returns why a response cannot change to another protocol, if it cannot.
fn upgrade_is_invalid(connection: &MHD_Connection, status: u16, response: &MHD_Response) -> Option<&'static str> {
    if connection.shared.flags & flag::ALLOW_UPGRADE == 0 {
        return Some("the daemon has no MHD_ALLOW_UPGRADE");
    }
    if response.flags.load(Ordering::Relaxed) & response_flag::HTTP_1_0_ONLY != 0 || connection.state().is_1_0 {
        return Some("HTTP/1.0 has no upgrade");
    }
    if connection.state().has_method("CONNECT") {
        return (!(200..300).contains(&status)).then_some("expected 200 to 299 after CONNECT");
    }
    if status != 101 {
        return Some("expected 101 for an upgrade");
    }
    let names = lock(&response.fields).list.iter().any(|field| field.text.eq_ignore_ascii_case("upgrade"));
    (!names).then_some("its Upgrade field is missing")
}

export! {
    /// Queues a response: in the access handler, while the connection is suspended, or after the access handler has been
    /// called for the end of the request.
    fn MHD_queue_response(connection: *const MHD_Connection, status: c_uint, response: *const MHD_Response)
        -> Result, or NO; {
        // SAFETY: By the contract of the interface they are NULL, or a connection and a response.
        match unsafe { (MHD_Connection::of_c(connection), MHD_Response::of_c(response)) } {
            (Some(connection), Some(response)) => queue(connection, status, response),
            _ => NO,
        }
    }
}

/// Sets the timeout of a connection, in seconds; 0 for none. uncork gets it with the head of a request: at once, if the
/// access handler runs for one, or else with the next one.
///
/// # Safety
/// `connection` must be NULL or a connection.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn uncork_mhd_connection_timeout(
    connection: *const MHD_Connection,
    option: c_int,
    seconds: c_uint,
) -> Result {
    crate::boundary::guard("MHD_set_connection_option", NO, || {
        // SAFETY: The caller guarantees it.
        let Some(connection) = (unsafe { MHD_Connection::of_c(connection) }) else { return NO };
        if option != 0 {
            connection.log(&format!("cannot set option {option} of the connection: it is unknown"));
            return NO;
        }
        connection.timeout.store(seconds, Ordering::Relaxed);
        connection.state().new_timeout = Some(seconds);
        YES
    })
}

export! {
    /// Tells the path of the request as the access handler gets it, and its length without the NUL.
    fn MHD_get_connection_URI_path_n(
        connection: *const MHD_Connection, uri: *mut *const c_char, size: *mut size_t,
    ) -> Result, or NO; {
        // SAFETY: By the contract of the interface it is NULL or a connection.
        let Some(connection) = (unsafe { MHD_Connection::of_c(connection) }) else { return NO };
        let state = connection.state();
        if state.number == 0 {
            return NO;
        }
        let (path, _, _) = state.line();
        if !uri.is_null() {
            // SAFETY: By the contract of the interface it is NULL or can be written.
            unsafe { uri.write(path) };
        }
        if !size.is_null() {
            // SAFETY: As above. The method follows the path and its NUL.
            unsafe { size.write(state.method.saturating_sub(1)) };
        }
        YES
    }
}
