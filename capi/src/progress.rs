//! How a request goes on: what the answer of the access handler leads to, the body of the request, and a request that
//! was suspended.

use std::{sync::Arc, time::Duration};

use uncork::{Action, Consumed, Headers, Upload};

use crate::{
    call::{Outcome, REJECTED, Step, ask, call},
    connection::{MHD_Connection, Parked},
    response::{Content, MHD_Response},
    send, switch,
};

/// The first and the longest pause before an access handler that has not responded is called again.
const AGAIN_FIRST: Duration = Duration::from_millis(1);
const AGAIN_LONGEST: Duration = Duration::from_millis(100);

/// Returns the action of a step for which the request does not wait.
pub(crate) fn action(connection: &Arc<MHD_Connection>, step: Step) -> Action {
    match step {
        Step::Receive => Action::Receive(Box::new(Body(connection.clone()))),
        Step::Fail(reason) => fail(connection, reason),
        Step::Respond | Step::Park(_) | Step::Again => {
            let queued = connection.state().take_queued();
            respond(connection, queued)
        }
    }
}

/// Returns the action that sends a response, which was taken from the state of the request.
pub(crate) fn respond(connection: &Arc<MHD_Connection>, queued: Option<(u16, Arc<MHD_Response>)>) -> Action {
    match queued {
        Some((status, response)) => match response.content {
            Content::Upgrade(protocol) => switch::action(&response, protocol, status, connection),
            _ => send::response(response, status, connection).into(),
        },
        None => fail(connection, "there is no response"),
    }
}

#[cold]
fn fail(connection: &MHD_Connection, reason: &str) -> Action {
    connection.state().responded = true;
    connection.log(&format!("closing the connection: {reason}"));
    Action::Abort
}

/// Receives the body of a request.
struct Body(Arc<MHD_Connection>);

impl Upload for Body {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        let (suspended, queued) = {
            let state = self.0.state();
            (state.suspension.suspended, state.queued.is_some())
        };
        if suspended {
            return Consumed::Partial(0);
        }
        if queued {
            // Queued while the connection was suspended.
            return Consumed::Stop(action(&self.0, Step::Respond));
        }
        let (outcome, left) = call(&self.0, chunk);
        let taken = chunk.len() - left;
        match outcome {
            Outcome::Failed => Consumed::Stop(action(&self.0, Step::Fail(REJECTED))),
            Outcome::Responded => Consumed::Stop(action(&self.0, Step::Respond)),
            Outcome::Suspended => {
                self.0.park_stream();
                Consumed::Partial(taken)
            }
            Outcome::Nothing if left == 0 => Consumed::All,
            Outcome::Resumed | Outcome::Nothing => {
                // The program gets the rest again, as soon as the other connections have had their turn.
                self.0.state().wake();
                Consumed::Partial(taken)
            }
        }
    }

    fn end(self: Box<Self>, trailers: &Headers) -> Action {
        let (queued, suspended) = {
            let mut state = self.0.state();
            state.trailers = Some(Box::new(trailers.clone()));
            (state.queued.is_some(), state.suspension.suspended)
        };
        if suspended {
            // By the call that has consumed the last of the body.
            park(&self.0, Parked::End);
            return Action::Suspend;
        }
        match if queued { Step::Respond } else { ask(&self.0, Parked::End) } {
            Step::Park(parked) => {
                park(&self.0, parked);
                Action::Suspend
            }
            Step::Again => {
                ask_again(&self.0);
                Action::Suspend
            }
            step => action(&self.0, step),
        }
    }
}

/// Notes what the resumption continues. If it is resumed already, it continues at once.
pub(crate) fn park(connection: &Arc<MHD_Connection>, parked: Parked) {
    {
        let mut state = connection.state();
        if state.suspension.suspended {
            state.suspension.parked = Some(parked);
            return;
        }
    }
    proceed(connection, parked);
}

/// Continues a request that was resumed. Runs no application code here: the loop does.
pub(crate) fn proceed(connection: &Arc<MHD_Connection>, parked: Parked) {
    let state = connection.state();
    match parked {
        Parked::Stream => {
            state.wake();
        }
        Parked::Head | Parked::End => {
            let (connection, number) = (connection.clone(), state.number);
            if let Some(handle) = &state.loop_handle {
                handle.after(Duration::ZERO, move |_| continue_request(&connection, parked, number));
            }
        }
    }
}

/// Has the access handler called again for a request that it has not responded to. Meanwhile the program may queue a
/// response, which then is sent at once.
pub(crate) fn ask_again(connection: &Arc<MHD_Connection>) {
    let mut state = connection.state();
    let pause = state.again.map_or(AGAIN_FIRST, |last| (last * 2).min(AGAIN_LONGEST));
    state.again = Some(pause);
    let (connection, number) = (connection.clone(), state.number);
    if let Some(handle) = &state.loop_handle {
        handle.after(pause, move |_| continue_request(&connection, Parked::End, number));
    }
}

/// Calls the program again for a request that was suspended, or had no response. Runs on the loop of the connection.
fn continue_request(connection: &Arc<MHD_Connection>, parked: Parked, number: u32) {
    {
        let state = connection.state();
        // 0: it was resumed while its end was reported.
        if number == 0 || state.number != number || state.responded {
            return;
        }
    }
    let step = match parked {
        _ if connection.state().queued.is_some() => Step::Respond,
        _ => ask(connection, parked),
    };
    match step {
        Step::Park(parked) => park(connection, parked),
        Step::Again => ask_again(connection),
        Step::Receive => {
            let state = connection.state();
            if let Some(ticket) = &state.ticket {
                // Gives it back if the request has ended.
                drop(ticket.receive(Body(connection.clone())));
            }
        }
        step => {
            let action = action(connection, step);
            let ticket = connection.state().ticket.take();
            if let Some(ticket) = ticket {
                // Gives the action back if the request has ended meanwhile.
                drop(ticket.respond(action));
            }
        }
    }
}
