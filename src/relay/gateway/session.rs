//! One session: what waits to be said to its client, and what has to wait until it is established.
//!
//! ```text
//!               hello ──────┐ at the front, once established
//!   /send ──▶ offer ──▶ [ queue ] ──▶ Sender ──▶ the client
//!                │  Establishing: held here and answered at once, so that the application may send while it is asked
//!                │  Open: only what finds the Sender full; whoever sent it waits
//!                └─ Closed: told so
//!
//!   Establishing ──open──▶ Open ──/close, replaced──▶ Closing ──▶ Closed
//!        └──refused, or the client has left────────────────────────▲
//! ```
//!
//! The lock is held for a few operations on the queue. Whoever waited for a place is told without it.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use uncork::ws::{Done, Frame, SendError, Sender};

use super::{key::Key, limits::AddressGuard, wire::Problem};

/// Messages held for a client that is being established, at the least: nothing of them is on its way yet.
const HELD: usize = 256;

/// What a session that makes room for another of the same key says (RFC 6455 §7.4.2: 4000 to 4999 are ours).
const REPLACED: (u16, &str) = (4000, "another connection has this session now");

/// What follows the last message of `/close` (§7.4.1): browsers would take an end without it for a failure, and connect
/// anew.
const ENDED: u16 = 1000;

/// What a session says whose message finds no place.
const OVERFLOW: (u16, &str) = (1013, "too many messages wait for the application");

/// A message that goes to several sessions, and waits for room in the queues of some of them.
pub(super) trait Waiter: Send + Sync {
    /// The message was queued for this target, or never will be.
    fn queued(&self, target: usize, result: Result<(), Problem>);
}

/// One target of a message that waits.
#[derive(Clone)]
pub(super) struct Waiting {
    waiter: Arc<dyn Waiter>,
    target: usize,
}

impl Waiting {
    pub(super) fn new(waiter: Arc<dyn Waiter>, target: usize) -> Self {
        Self { waiter, target }
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.waiter, &other.waiter) && self.target == other.target
    }

    pub(super) fn queued(self, result: Result<(), Problem>) {
        self.waiter.queued(self.target, result);
    }
}

pub(super) struct Session {
    key: Key,
    /// Messages that may be held, and their bytes.
    held: (usize, usize),
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    sender: Option<Sender>,
    queue: VecDeque<Queued>,
    listening: Listening,
    /// What the client said before it was established.
    early: Option<Box<Early>>,
    /// The last word is held already: no more can be said.
    ending: bool,
    /// The application has closed it, or has it under another connection: it is not told that it is gone.
    quiet: bool,
    /// Another one of the same key has left, and the application was not told.
    owes_close: bool,
    /// A message of the client's was dropped: those behind it are dropped, too.
    discards: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Establishing,
    Open,
    Closing,
    Closed,
}

/// Whether the sender calls when there is room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listening {
    No,
    /// It is being asked to; it may call at once.
    Asking,
    /// It has called while it was asked.
    Called,
    Yes,
}

struct Queued {
    frame: Frame,
    /// The session ends with it.
    last: bool,
    /// Who waits to hear that it was queued; nobody if he was told so already.
    who: Option<Waiting>,
}

/// A message of the client's, and the right to the next.
pub(super) struct Early {
    pub(super) text: bool,
    pub(super) message: Vec<u8>,
    /// Its bytes among those that the application has not answered for.
    pub(super) place: AddressGuard,
    pub(super) done: Done,
}

/// What became of a message that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offered {
    Queued,
    Closed,
    /// Whoever waits will be told.
    Waits,
}

/// How a session was when its connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// The application has not agreed yet.
    Establishing,
    /// The application is to be told.
    Open,
    /// It knows.
    Quiet,
}

impl Session {
    /// One that is being established. `messages` and `bytes` may be held for it.
    pub(super) fn new(key: Key, messages: usize, bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            key,
            held: (messages.max(HELD), bytes),
            state: Mutex::new(State {
                phase: Phase::Establishing,
                sender: None,
                queue: VecDeque::new(),
                listening: Listening::No,
                early: None,
                ending: false,
                quiet: false,
                owes_close: false,
                discards: false,
            }),
        })
    }

    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How to speak to the client.
    pub(super) fn set_sender(&self, sender: Sender) {
        self.state().sender = Some(sender);
    }

    /// A message for the client; `last`: the session ends with it. `waiting` is whom to tell, should it have to wait.
    pub(super) fn offer(self: &Arc<Self>, frame: &Frame, last: bool, waiting: impl FnOnce() -> Waiting) -> Offered {
        let mut state = self.state();
        match state.phase {
            Phase::Closing | Phase::Closed => return Offered::Closed,
            _ if state.ending => return Offered::Closed,
            Phase::Establishing => {
                let held = state.queue.iter().take_while(|queued| queued.who.is_none());
                let (messages, bytes) = held.fold((0, 0), |(n, bytes), held| (n + 1, bytes + held.frame.len()));
                if messages < self.held.0 && bytes < self.held.1 && messages == state.queue.len() {
                    state.queue.push_back(Queued { frame: frame.clone(), last, who: None });
                    state.ending = last;
                    return Offered::Queued;
                }
            }
            Phase::Open if state.queue.is_empty() => match state.send(frame, last) {
                Ok(()) => return Offered::Queued,
                Err(SendError::Closed) => return Offered::Closed,
                Err(SendError::Full) => {}
            },
            Phase::Open => {}
        }
        state.queue.push_back(Queued { frame: frame.clone(), last, who: Some(waiting()) });
        drop(state);
        self.drain();
        Offered::Waits
    }

    /// Forgets a message that waits; whether it still did.
    pub(super) fn forget(&self, waiting: &Waiting) -> bool {
        let mut state = self.state();
        let at = state.queue.iter().position(|queued| queued.who.as_ref().is_some_and(|who| who.is(waiting)));
        at.and_then(|at| state.queue.remove(at)).is_some()
    }

    /// The application agrees: what was held goes out, behind its greeting. Gives what the client has said in the
    /// meantime; the error says how it has left.
    pub(super) fn open(self: &Arc<Self>, greeting: Option<Frame>) -> Result<Option<Early>, Left> {
        let early = {
            let mut state = self.state();
            match state.phase {
                Phase::Establishing => state.phase = Phase::Open,
                _ if state.quiet => return Err(Left::Quiet),
                _ => return Err(Left::Open),
            }
            if let Some(frame) = greeting {
                state.queue.push_front(Queued { frame, last: false, who: None });
            }
            state.early.take()
        };
        self.drain();
        Ok(early.map(|early| *early))
    }

    /// What the client says. Gives it back if it can be passed on now; until then it is kept, and nothing more is read.
    /// What it says before it answers the last Close is dropped: for the application it is gone.
    pub(super) fn received(&self, early: Early) -> Option<Early> {
        let mut state = self.state();
        match state.phase {
            Phase::Establishing => {
                state.early = Some(Box::new(early));
                None
            }
            Phase::Open if !state.discards => Some(early),
            Phase::Open | Phase::Closing | Phase::Closed => None,
        }
    }

    /// Sends what waits, as far as there is room; asks to be called when there is more.
    fn drain(self: &Arc<Self>) {
        loop {
            let mut queued = Vec::new();
            let ask = {
                let mut state = self.state();
                if state.phase == Phase::Establishing || state.listening == Listening::Asking {
                    return;
                }
                state.drain(&mut queued);
                let waits = !state.queue.is_empty() && state.listening != Listening::Yes;
                let sender = state.sender.clone().filter(|_| waits);
                if sender.is_some() {
                    state.listening = Listening::Asking;
                }
                sender
            };
            queued.into_iter().for_each(|(who, result): (Waiting, _)| who.queued(result));
            let Some(sender) = ask else { return };
            // Without the lock: it may call at once.
            let session = self.clone();
            sender.on_room(move || session.has_room());
            let mut state = self.state();
            if state.listening == Listening::Asking {
                state.listening = Listening::Yes;
                return;
            }
            state.listening = Listening::No;
        }
    }

    fn has_room(self: &Arc<Self>) {
        {
            let mut state = self.state();
            if state.listening == Listening::Asking {
                state.listening = Listening::Called;
                return;
            }
            state.listening = Listening::No;
        }
        self.drain();
    }

    /// Another one of its key has left, of which the application was not told, since this one is here.
    pub(super) fn owe_close(&self) {
        self.state().owes_close = true;
    }

    /// Whether the application thinks that somebody is there under its key, be it not this one.
    pub(super) fn owes_a_close(&self) -> bool {
        self.state().owes_close
    }

    /// Another one has its place; `open` or not, it ends.
    pub(super) fn replace(&self) {
        self.end(|sender| sender.close(REPLACED.0, REPLACED.1));
    }

    /// The application does not keep up with what clients say: this one may come again (1013, "Try Again Later").
    /// Returns `false` if it is closing already.
    pub(super) fn overflow(&self) -> bool {
        let sender = {
            let mut state = self.state();
            state.discards = true;
            state.sender.clone()
        };
        let open = sender.filter(|sender| !sender.is_closed());
        open.inspect(|sender| sender.close(OVERFLOW.0, OVERFLOW.1)).is_some()
    }

    /// The application does not want it: the stream just ends.
    pub(super) fn refuse(&self) {
        self.end(Sender::close_without_handshake);
    }

    fn end(&self, how: impl FnOnce(&Sender)) {
        let (queue, sender, early) = {
            let mut state = self.state();
            if state.phase != Phase::Closed {
                state.phase = Phase::Closing;
            }
            state.quiet = true;
            (mem::take(&mut state.queue), state.sender.clone(), state.early.take())
        };
        if let Some(sender) = sender {
            how(&sender);
        }
        drop(early);
        tell_closed(queue);
    }

    /// The connection is over.
    pub(super) fn closed(&self) -> Left {
        let (left, queue, early) = {
            let mut state = self.state();
            let left = match state.phase {
                // If it was to end anyway, the application knows.
                _ if state.quiet || state.ending => Left::Quiet,
                Phase::Establishing => Left::Establishing,
                _ => Left::Open,
            };
            state.phase = Phase::Closed;
            state.quiet = left == Left::Quiet;
            state.sender = None;
            (left, mem::take(&mut state.queue), state.early.take())
        };
        drop(early);
        tell_closed(queue);
        left
    }
}

#[cfg(test)]
impl Session {
    /// What waits to be sent.
    pub(super) fn held(&self) -> Vec<Frame> {
        self.state().queue.iter().map(|queued| queued.frame.clone()).collect()
    }
}

fn tell_closed(queue: VecDeque<Queued>) {
    for who in queue.into_iter().filter_map(|queued| queued.who) {
        who.queued(Err(Problem::Closed));
    }
}

impl State {
    fn send(&mut self, frame: &Frame, last: bool) -> Result<(), SendError> {
        let sender = self.sender.as_ref().ok_or(SendError::Closed)?;
        sender.send(frame)?;
        if last {
            sender.close(ENDED, "");
            self.phase = Phase::Closing;
            self.quiet = true;
        }
        Ok(())
    }

    fn drain(&mut self, queued: &mut Vec<(Waiting, Result<(), Problem>)>) {
        while let Some(Queued { frame, last, who }) = self.queue.pop_front() {
            let result = match self.send(&frame, last) {
                Ok(()) => Ok(()),
                Err(SendError::Closed) => Err(Problem::Closed),
                Err(SendError::Full) => {
                    self.queue.push_front(Queued { frame, last, who });
                    return;
                }
            };
            queued.extend(who.map(|who| (who, result)));
        }
        self.queue = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_session_is_small_and_holds_nothing() {
        let session = Session::new(b"key"[..].into(), 1, 1000);
        let frame = Frame::text("held until it is established");
        let nobody = || unreachable!("there is room");
        assert_eq!(session.offer(&frame, false, nobody), Offered::Queued);
        // Nobody speaks for it: what was held goes nowhere, and nothing of it stays.
        assert!(session.open(Some(Frame::text("hello"))).is_ok_and(|early| early.is_none()));
        assert_eq!(session.state().queue.capacity(), 0);
        // With what a WebSocket takes, ten thousand of them are some 26 MB.
        assert!(size_of::<Session>() <= 200, "{}", size_of::<Session>());
    }
}
