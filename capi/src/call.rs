//! Calls of the program's access handler: for the head, for each piece of the body and at the end, until it has queued
//! a response.

use std::{ffi::c_char, ptr::null, sync::MutexGuard};

use libc::size_t;

use crate::{
    connection::{MHD_Connection, Parked, State},
    types::NO,
};

/// What follows from the calls of the access handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A response is queued.
    Respond,
    /// The request has a body: the loop receives it.
    Receive,
    /// The request is suspended.
    Park(Parked),
    /// The access handler has queued no response at the end of the request: it is called again later.
    Again,
    /// The connection closes without a response, for this reason.
    Fail(&'static str),
}

/// What one call of the access handler led to.
pub(crate) enum Outcome {
    Failed,
    Responded,
    Suspended,
    /// It was suspended and resumed before the call returned: it is called again.
    Resumed,
    Nothing,
}

/// Calls the access handler. Returns how many bytes of `data` it has left, too.
pub(crate) fn call(connection: &MHD_Connection, data: &[u8]) -> (Outcome, usize) {
    let (outcome, left, state) = call_locked(connection, connection.state(), data);
    drop(state);
    (outcome, left)
}

/// As [`call`], with the state locked before and after. It is not locked while the program runs.
fn call_locked<'a>(
    connection: &'a MHD_Connection,
    mut state: MutexGuard<'a, State>,
    data: &[u8],
) -> (Outcome, usize, MutexGuard<'a, State>) {
    state.in_call = true;
    state.suspension.since_call = false;
    let (path, method, version) = state.line();
    drop(state);
    let mut left: size_t = data.len();
    let bytes: *const c_char = if data.is_empty() { null() } else { data.as_ptr().cast() };
    let (handler, cls) = connection.shared.handler;
    // SAFETY: The program registered this function with this pointer. The strings are in `State::text`, which only
    // `start` changes; `bytes` and `left` live during the call, and so does the connection.
    let result = unsafe {
        handler(cls.0, connection.address(), path, method, version, bytes, &raw mut left, connection.request_cls.get())
    };
    let mut state = connection.state();
    state.in_call = false;
    let outcome = match result {
        NO => Outcome::Failed,
        _ if state.suspension.suspended => Outcome::Suspended,
        _ if state.queued.is_some() => Outcome::Responded,
        _ if state.suspension.since_call => Outcome::Resumed,
        _ => Outcome::Nothing,
    };
    (outcome, left.min(data.len()), state)
}

pub(crate) const REJECTED: &str = "the access handler returned MHD_NO";

/// Calls the access handler, for the head or for the end of the request, until it has decided. After the head of a
/// request without a body comes its end.
pub(crate) fn ask(connection: &MHD_Connection, at: Parked) -> Step {
    ask_locked(connection, connection.state(), at).0
}

/// As [`ask`], with the state locked before and after. A lock costs as much as a hundred instructions.
pub(crate) fn ask_locked<'a>(
    connection: &'a MHD_Connection,
    mut state: MutexGuard<'a, State>,
    mut at: Parked,
) -> (Step, MutexGuard<'a, State>) {
    loop {
        let outcome;
        (outcome, _, state) = call_locked(connection, state, &[]);
        let step = match outcome {
            Outcome::Failed => Step::Fail(REJECTED),
            Outcome::Responded => Step::Respond,
            Outcome::Suspended => Step::Park(at),
            Outcome::Resumed => continue,
            Outcome::Nothing if at != Parked::Head => Step::Again,
            Outcome::Nothing if state.has_body => Step::Receive,
            Outcome::Nothing => {
                at = Parked::End;
                continue;
            }
        };
        return (step, state);
    }
}
