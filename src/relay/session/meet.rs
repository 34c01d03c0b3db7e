//! Requests that wait for each other: how they begin to wait, and what happens when one ends. Each function of
//! [`Shared`] locks the state itself, except [`suspend`](Shared::suspend).

use std::{sync::Arc, time::Duration};

use uncork::{Moment, Request, RequestEnd, RequestId, RespondError, Response};

use super::{
    key::Key,
    requests::{Poll, Sender, Side},
    state::{Session, State},
    wire::{request_timeout, text},
};
use crate::relay::{service::Service, wire::CorsHeaders};

/// The part that all clones of a relay share.
pub(super) type Shared = Service<State>;

/// The role of a request on a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Receive,
    Send,
}

/// Identifies a suspended request, so that a closure can find it.
#[derive(Clone, Copy)]
pub(super) struct Waiter {
    pub(super) key: Key,
    pub(super) side: Side,
    pub(super) role: Role,
    pub(super) id: RequestId,
}

impl Session {
    /// Hands the message of one side over, if there is one and a receiver for it.
    pub(super) fn hand_over_from(
        &mut self,
        from: Side,
        shared: &Arc<Shared>,
        key: Key,
        now: Moment,
    ) -> Option<RespondError> {
        let cors = self.senders[from].as_ref()?.poll().cors.clone();
        let again = shared.clone();
        self.hand_over(from, &shared.config(), now, move |_| again.expired(key, &cors).close())
    }
}

impl Shared {
    /// Suspends a request until the other side connects. `remaining`: the time until the session ends in any case.
    pub(super) fn suspend(
        self: &Arc<Self>,
        req: &mut Request<'_>,
        waiter: Waiter,
        remaining: Duration,
        cors: &CorsHeaders,
    ) -> Poll {
        let shared = self.clone();
        req.on_end(move |end| shared.ended(waiter, end));
        let (ticket, timeout) = (req.ticket(), request_timeout(req, &self.config()));
        let (shared, its_cors) = (self.clone(), cors.clone());
        if timeout < remaining {
            ticket.fallback(timeout, move |now| shared.timed_out(waiter, &its_cors, now));
        } else {
            ticket.fallback(remaining, move |_| shared.expired(waiter.key, &its_cors));
        }
        Poll { id: waiter.id, ticket, peer: req.peer().ip(), cors: cors.clone() }
    }

    /// Removes a session if it has ended, and responds to the requests that wait on it.
    pub(super) fn remove_expired(&self, key: Key, now: Moment) {
        let expired = self.lock().remove_expired(key, now.mono);
        if let Some(session) = expired {
            self.reject_waiters(session);
        }
    }

    /// Responds with 410 to all requests that wait on a removed session.
    pub(super) fn reject_waiters(&self, session: Session) {
        for (poll, in_transfer) in session.into_polls() {
            let response = poll.cors.apply(session_ended(), &self.config());
            let _ = poll.ticket.respond(if in_transfer { response.close() } else { response });
        }
    }

    /// Returns the response to a request whose timeout has passed. Runs on the request's loop.
    fn timed_out(&self, waiter: Waiter, cors: &CorsHeaders, now: Moment) -> Response {
        let (response, removed) = match self.lock().get(waiter.key) {
            Some(session) => {
                (session.renewing(waiter.side, text(504, "request timed out"), now), Some(session.remove(waiter)))
            }
            // The session was deleted at the same time.
            None => (session_ended(), None),
        };
        drop(removed);
        cors.apply(response, &self.config())
    }

    /// Removes a session that ended while a request was connected, and returns the response to that request.
    fn expired(&self, key: Key, cors: &CorsHeaders) -> Response {
        let expired = self.lock().remove(key);
        if let Some(session) = expired {
            self.reject_waiters(session);
        }
        cors.apply(session_ended(), &self.config())
    }

    /// Handles the end of a request.
    fn ended(&self, waiter: Waiter, end: &RequestEnd) {
        let mut cookie = None;
        let (removed, sender) = {
            let mut state = self.lock();
            let Some(session) = state.get(waiter.key) else { return };
            session.disconnect(end.now.mono);
            let sender = match waiter.role {
                Role::Send => None,
                // This was the receiver of a message, and the sender waits for the count of bytes. It is removed before
                // it gets the response, so that it can send the next message at once.
                Role::Receive => session.senders[waiter.side.other()]
                    .take_if(|sender| matches!(sender, Sender::Sending(_, transfer) if transfer.receiver == waiter.id)),
            };
            if sender.is_some() && waiter.side == Side::Guest {
                cookie = Some(session.cookie(end.now));
            }
            (session.remove(waiter), sender)
        };
        drop(removed);
        if let Some(Sender::Sending(poll, transfer)) = sender {
            let mut response = transfer.report(end);
            if let Some(cookie) = cookie {
                response = response.header("Set-Cookie", cookie);
            }
            // An error means that the sender has disconnected as well.
            let _ = poll.ticket.respond(poll.cors.apply(response, &self.config()));
        }
    }
}

impl Session {
    /// Removes a request from its session. The caller drops it after unlocking.
    fn remove(&mut self, waiter: Waiter) -> (Option<Poll>, Option<Sender>) {
        let Waiter { side, role, id, .. } = waiter;
        match role {
            Role::Receive => (self.receivers[side].take_if(|poll| poll.id == id), None),
            Role::Send => (None, self.senders[side].take_if(|sender| sender.poll().id == id)),
        }
    }
}

fn session_ended() -> Response {
    text(410, "the session has ended")
}
