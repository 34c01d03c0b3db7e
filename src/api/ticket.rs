//! The right to act on one request, from any thread.

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

/// The right to act on one request, from any thread: to answer it, to begin receiving its body, to inform.
///
/// It names connection, generation *and* request, so a late one can never touch the next request of a keep-alive
/// connection. Dropping the last ticket of a request nobody has answered answers it with 503.
///
/// While a ticket waits, a FIN from the peer counts as *the peer left*, and ends the request at once
/// ([`outlive_fin`](Self::allow_half_close) opts out): closing and half-closing look alike on the wire.
pub struct Ticket {
    core: Arc<TicketCore>,
}

/// Nobody is there to hear it: the request was answered otherwise, or is over. Gives the action back, so that nothing
/// is lost: a relay can offer the message to the next receiver.
#[derive(Debug)]
pub struct RespondError(pub Action);

impl fmt::Display for RespondError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request is answered already, or over")
    }
}

impl std::error::Error for RespondError {}

pub(crate) struct TicketCore {
    pub(crate) waker: Waker,
    tickets: AtomicUsize,
    /// A FIN does not count as the peer's leaving.
    allow_half_close: AtomicBool,
    state: Mutex<State>,
}

enum State {
    Open,
    /// Answered; the answer, until the loop has taken it.
    Answered(Option<Action>),
    /// The request is over.
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

    /// Whether a ticket is alive that could still answer, or has answered.
    pub(crate) fn is_hopeful(&self) -> bool {
        match *self.state() {
            State::Open => self.tickets.load(Ordering::Acquire) > 0,
            State::Answered(ref answer) => answer.is_some(),
            State::Over => false,
        }
    }

    /// Returns `true` if the client is to be served although it half-closed.
    pub(crate) fn allows_half_close(&self) -> bool {
        self.allow_half_close.load(Ordering::Acquire)
    }

    /// Whether a FIN that is seen while the answer is owed ends the request. Not once there is an answer, be it on its
    /// way through the mailbox still: `respond` has said that it was taken.
    pub(crate) fn ends_on_half_close(&self) -> bool {
        !self.allows_half_close() && !matches!(*self.state(), State::Answered(Some(_)))
    }

    /// Takes the answer a ticket has left.
    pub(crate) fn take_answer(&self) -> Option<Action> {
        match &mut *self.state() {
            State::Answered(answer) => answer.take(),
            _ => None,
        }
    }

    /// Takes the right to answer from all tickets; `false` if one has used it already.
    pub(crate) fn claim(&self) -> bool {
        let mut state = self.state();
        let open = matches!(*state, State::Open);
        if open {
            *state = State::Answered(None);
        }
        open
    }

    /// The request is over: what a ticket says from now on is given back to it.
    pub(crate) fn close(&self) {
        let old = std::mem::replace(&mut *self.state(), State::Over);
        // An answer that was never taken runs application code when it is dropped: not under the lock.
        drop(old);
    }
}

impl Ticket {
    /// The request this is a ticket of.
    pub fn id(&self) -> RequestId {
        self.core.id()
    }

    /// Wakes this request's upload or producer.
    pub fn waker(&self) -> Waker {
        self.core.waker.clone()
    }

    /// Answers. The right to do so is used up, for every ticket of the request.
    ///
    /// # Errors
    /// [`RespondError`] gives the action back, at once, if the request was answered or is over. If the peer leaves after that,
    /// [`Request::on_end`](crate::Request::on_end) says how much reached it.
    pub fn respond(self, action: impl Into<Action>) -> Result<(), RespondError> {
        let action = action.into();
        {
            let mut state = self.core.state();
            if !matches!(*state, State::Open) {
                return Err(RespondError(action));
            }
            *state = State::Answered(Some(action));
        }
        match self.core.mailbox().post(LoopMessage::Ticket(self.core.clone(), TicketMessage::Answer)) {
            Ok(()) => Ok(()),
            // The loop has ended in between.
            Err(_) => self.core.take_answer().map_or(Ok(()), |action| Err(RespondError(action))),
        }
    }

    /// Begins to receive the body, only now: this is when `100 Continue` goes out. The ticket stays open for the
    /// answer, which may begin before the body ends; when the body is whole, [`Upload::end`] is called all the same,
    /// and what it returns counts if there is no answer yet.
    ///
    /// # Errors
    /// Gives the upload back if the request is over.
    pub fn receive(&self, upload: impl Upload + 'static) -> Result<(), Box<dyn Upload>> {
        if matches!(*self.core.state(), State::Over) {
            return Err(Box::new(upload));
        }
        self.core
            .mailbox()
            .post(LoopMessage::Ticket(self.core.clone(), TicketMessage::Receive(Box::new(upload))))
            .map_err(|mail| match mail {
                LoopMessage::Ticket(_, TicketMessage::Receive(upload)) => upload,
                _ => unreachable!("a mailbox gives back what was posted"),
            })
    }

    /// Sends an informational response (RFC 9110 §15.2), for instance 103 Early Hints. `status` must be 102 to 199;
    /// nothing else is sent, and nothing to a peer that speaks HTTP/1.0.
    ///
    /// 100 Continue, too, if the peer waits for it and has not got it: the peer sends its body then, as far as the
    /// system's buffers take it, and none of it is read before [`receive`](Self::receive). `headers` are not sent with it.
    pub fn send_informational(&self, status: u16, headers: Headers) {
        let _ =
            self.core.mailbox().post(LoopMessage::Ticket(self.core.clone(), TicketMessage::Inform(status, headers)));
    }

    /// If nobody has answered after `after`, this does, on the request's loop. A second call replaces the first.
    pub fn fallback(&self, after: Duration, f: impl FnOnce(Moment) -> Response + Send + 'static) {
        let _ = self
            .core
            .mailbox()
            .post(LoopMessage::Ticket(self.core.clone(), TicketMessage::Fallback(after, Box::new(f))));
    }

    /// A peer that shuts down its writing side still waits for its answer, and is to get it, whole: what answers is sent
    /// as with [`Response::allow_half_close`].
    pub fn allow_half_close(&self) {
        // Not by mail: the FIN may be here already.
        self.core.allow_half_close.store(true, Ordering::Release);
    }

    /// Whether the request is over or answered; then [`respond`](Self::respond) can only give the answer back.
    pub fn is_gone(&self) -> bool {
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
