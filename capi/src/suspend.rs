//! Suspending and resuming a connection, from any thread and in every mode.
//!
//! ```text
//!   callback ──suspend──▶ returns ──▶ parked ──resume──▶ the loop calls the program again
//!                └──────resume before it returns───────▶ the loop calls the program again
//! ```
//! The connection object of a client that disconnects while its request is suspended stays until the program resumes
//! it, as the program expects. Until then its end is not reported.

use crate::{connection::MHD_Connection, progress::proceed, types::flag};

export! {
    /// Suspends a connection: none of its callbacks is called until it is resumed.
    fn MHD_suspend_connection(connection: *const MHD_Connection), or (); {
        // SAFETY: By the contract of the interface it is NULL or a connection.
        let Some(connection) = (unsafe { MHD_Connection::of_c(connection) }) else { return };
        if connection.shared.flags & flag::SUSPEND_RESUME == 0 {
            return connection.log("cannot suspend the connection: the daemon has no MHD_ALLOW_SUSPEND_RESUME");
        }
        let mut state = connection.state();
        if state.upgraded.counted {
            drop(state);
            return connection.log("cannot suspend an upgraded connection: its handler returns what it waits for");
        }
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
            connection.report_later();
        } else if let Some(parked) = parked {
            proceed(&connection, parked);
        }
    }
}
