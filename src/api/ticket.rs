//! Tickets: acting on a request later, from any thread.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{
    Action, Response, Upload, Waker,
    loop_message::{LoopMessage, TicketMessage},
};
use crate::{
    base::{Moment, RequestId, lock, mailbox::Mailbox},
    h1::Headers,
};

/// The right to act on one request, from any thread: to respond, to receive its body, to send informational responses.
///
/// It names connection, generation *and* request, so a late ticket can never affect the next request of a keep-alive
/// connection. If the last ticket of a request is dropped before any has responded, the response is 503.
///
/// While the request is suspended, end-of-file from the client means that *the client has disconnected*, and ends the
/// request at once: closing and half-closing look alike on the wire. [`allow_half_close`](Self::allow_half_close)
/// changes that.
pub struct Ticket {
    core: Arc<TicketCore>,
}

/// The error of [`Ticket::respond`]: another ticket has responded, or the request has ended. It gives the action back,
/// so that nothing is lost: a relay can offer the message to the next receiver.
#[derive(Debug)]
pub struct RespondError(pub Action);

impl fmt::Display for RespondError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request has a response already, or has ended")
    }
}

impl std::error::Error for RespondError {}

pub(crate) struct TicketCore {
    pub(crate) waker: Waker,
    tickets: AtomicUsize,
    /// End-of-file does not mean that the client has disconnected.
    allow_half_close: AtomicBool,
    state: Mutex<State>,
}

enum State {
    Open,
    /// A ticket has responded: its action, until the loop has taken it.
    Responded(Option<Action>),
    /// The request has ended.
    Over,
}

impl TicketCore {
    pub(crate) fn new(waker: Waker) -> Arc<Self> {
        Arc::new(Self {
            waker,
            tickets: AtomicUsize::new(0),
            allow_half_close: AtomicBool::new(false),
            state: Mutex::new(State::Open),
        })
    }

    pub(crate) fn id(&self) -> RequestId {
        self.waker.id()
    }

    pub(crate) fn ticket(self: &Arc<Self>) -> Ticket {
        self.tickets.fetch_add(1, Ordering::Relaxed);
        Ticket { core: self.clone() }
    }

    fn mailbox(&self) -> &Mailbox<LoopMessage> {
        &self.waker.0.mailbox
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Returns `true` if a ticket is left that can respond, or if one has responded and the loop has not taken it.
    pub(crate) fn can_respond(&self) -> bool {
        match *self.state() {
            State::Open => self.tickets.load(Ordering::Acquire) > 0,
            State::Responded(ref action) => action.is_some(),
            State::Over => false,
        }
    }

    /// Returns `true` if a client that half-closed is served.
    pub(crate) fn allows_half_close(&self) -> bool {
        self.allow_half_close.load(Ordering::Acquire)
    }

    /// Returns `true` if end-of-file before the response ends the request. `false` once a ticket has responded, even if
    /// the message is still in the mailbox: `respond` has reported success.
    pub(crate) fn ends_on_half_close(&self) -> bool {
        !self.allows_half_close() && !matches!(*self.state(), State::Responded(Some(_)))
    }

    /// Takes the action of the ticket that has responded.
    pub(crate) fn take_action(&self) -> Option<Action> {
        match &mut *self.state() {
            State::Responded(action) => action.take(),
            _ => None,
        }
    }

    /// Takes the right to respond from all tickets. Returns `false` if one has responded already.
    pub(crate) fn claim(&self) -> bool {
        let mut state = self.state();
        let open = matches!(*state, State::Open);
        if open {
            *state = State::Responded(None);
        }
        open
    }

    /// Marks the request as ended: from now on a ticket gets its action back.
    pub(crate) fn close(&self) {
        let old = std::mem::replace(&mut *self.state(), State::Over);
        // Dropping an action that was never taken can run application code: not under the lock.
        drop(old);
    }
}

impl Ticket {
    /// Returns the id of the request.
    pub fn id(&self) -> RequestId {
        self.core.id()
    }

    /// Returns a waker that has this request's upload or producer called again.
    pub fn waker(&self) -> Waker {
        self.core.waker.clone()
    }

    /// Responds to the request. Only one ticket of a request can do this, once.
    ///
    /// # Errors
    /// [`RespondError`] gives the action back at once if the request has a response already, or has ended. If the
    /// client disconnects later, [`Request::on_end`](crate::Request::on_end) reports how much it received.
    pub fn respond(self, action: impl Into<Action>) -> Result<(), RespondError> {
        let action = action.into();
        {
            let mut state = self.core.state();
            if !matches!(*state, State::Open) {
                return Err(RespondError(action));
            }
            *state = State::Responded(Some(action));
        }
        match self.core.mailbox().post(LoopMessage::Ticket(self.core.clone(), TicketMessage::Respond)) {
            Ok(()) => Ok(()),
            // The loop has ended meanwhile.
            Err(_) => self.core.take_action().map_or(Ok(()), |action| Err(RespondError(action))),
        }
    }

    /// Begins to receive the body, and sends `100 Continue` now if the client waits for it. The ticket can still
    /// respond, even before the body ends. When the body is complete, [`Upload::end`] is called in any case; its action
    /// counts if no ticket has responded yet.
    ///
    /// # Errors
    /// Gives the upload back if the request has ended.
    pub fn receive(&self, upload: impl Upload + 'static) -> Result<(), Box<dyn Upload>> {
        if matches!(*self.core.state(), State::Over) {
            return Err(Box::new(upload));
        }
        self.core
            .mailbox()
            .post(LoopMessage::Ticket(self.core.clone(), TicketMessage::Receive(Box::new(upload))))
            .map_err(|message| match message {
                LoopMessage::Ticket(_, TicketMessage::Receive(upload)) => upload,
                _ => unreachable!("a mailbox gives back what was posted"),
            })
    }

    /// Sends an informational response (RFC 9110 §15.2), for instance 103 Early Hints. `status` must be 102 to 199; any
    /// other is ignored. Nothing is sent to an HTTP/1.0 client.
    ///
    /// 100 Continue is sent, without `headers`, if the client waits for it and has not received it. The client then
    /// sends its body, as far as the system's buffers take it. None of it is read before [`receive`](Self::receive).
    pub fn send_informational(&self, status: u16, headers: Headers) {
        let _ = self
            .core
            .mailbox()
            .post(LoopMessage::Ticket(self.core.clone(), TicketMessage::Informational(status, headers)));
    }

    /// Responds with the result of `f` if no ticket has responded after this delay. `f` runs on the request's loop. A
    /// second call replaces the first.
    pub fn fallback(&self, after: Duration, f: impl FnOnce(Moment) -> Response + Send + 'static) {
        let _ = self
            .core
            .mailbox()
            .post(LoopMessage::Ticket(self.core.clone(), TicketMessage::Fallback(after, Box::new(f))));
    }

    /// Serves a client that half-closes: it gets the whole response, which is sent as with
    /// [`Response::allow_half_close`].
    pub fn allow_half_close(&self) {
        // Not by a message: end-of-file may have arrived already.
        self.core.allow_half_close.store(true, Ordering::Release);
    }

    /// Returns `true` if the request has a response or has ended. Then [`respond`](Self::respond) only gives the action
    /// back.
    pub fn is_closed(&self) -> bool {
        !matches!(*self.core.state(), State::Open)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.core.tickets.fetch_sub(1, Ordering::AcqRel) == 1 && matches!(*self.core.state(), State::Open) {
            let _ = self.core.mailbox().post(LoopMessage::Ticket(self.core.clone(), TicketMessage::Dropped));
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({})", self.id())
    }
}
