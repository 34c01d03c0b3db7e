//! One session: the messages that wait for its client, and those that wait until it is established.
//!
//! ```text
//!            greeting ──────┐ at the front, once established
//!   /send ──▶ offer ──▶ [ queue ] ──▶ Sender ──▶ the client
//!                │  Establishing: held here and reported as queued: the application can send during the callback
//!                │  Open: only messages that found the Sender full; their deliveries wait
//!                └─ Closed: an error
//!
//!   Establishing ──open──▶ Open ──/close, replaced──▶ Closing ──▶ Closed
//!        └──rejected, or the client has disconnected───────────────▲
//! ```
//!
//! The lock is held for a few operations on the queue. Deliveries that waited are notified without it.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard},
};

use uncork::ws::{Done, Frame, SendError, Sender};

use super::{
    key::Key,
    lease::{Lease, Unreported},
    limits::AddressGuard,
    wire::Problem,
};
use crate::relay::lock::lock;

/// Minimum number of messages that are held for a client that is being established.
const HELD: usize = 256;

/// Close code and reason of a session that another one with the same key replaces (RFC 6455 §7.4.2: 4000 to 4999 are
/// for private use).
const REPLACED: (u16, &str) = (4000, "another connection has this session now");

/// Close code after the last message of `/close` (§7.4.1). Browsers would take an end without a Close for a failure,
/// and connect again.
const ENDED: u16 = 1000;

/// Close code and reason of a session whose message exceeds the limit of pending bytes.
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
    #[cfg_attr(not(feature = "directory"), expect(dead_code, reason = "there is no directory"))]
    lease: Lease,
    /// Maximum number of messages that are held, and of their bytes.
    held: (usize, usize),
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    sender: Option<Sender>,
    queue: VecDeque<Queued>,
    listening: Listening,
    /// A message that the client sent before the session was established.
    early: Option<Box<ClientMessage>>,
    /// The last message is held already; no other is accepted.
    ending: bool,
    /// The application has closed the session, or has another connection with its key: the close callback is not
    /// called.
    quiet: bool,
    /// Another session with the same key has ended, and this one must call the close callback for both.
    owes_close: bool,
    /// A message of the client was dropped, so those behind it are dropped, too.
    discards: bool,
    /// The client has left during the establish callback, whose response decides whether the application is told.
    unreported: Option<Box<Unreported>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Establishing,
    Open,
    Closing,
    Closed,
}

/// The state of the callback that the sender calls when there is room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listening {
    No,
    /// The callback is being registered; the sender may call at once.
    Registering,
    /// The sender has called during the registration.
    Called,
    Yes,
}

struct Queued {
    frame: Frame,
    /// The session ends after this message.
    last: bool,
    /// The delivery that waits; `None` if the message was reported as queued already.
    waiter: Option<Waiting>,
}

/// A message of the client, and the token that lets the next one in.
pub(super) struct ClientMessage {
    pub(super) text: bool,
    pub(super) message: Vec<u8>,
    /// Counts its bytes among those that the application has not responded to.
    pub(super) guard: AddressGuard,
    pub(super) done: Done,
}

/// The result of offering a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offered {
    Queued,
    Closed,
    /// The delivery will be notified.
    Waits,
}

/// The phase of a session when its connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastPhase {
    /// The application has not agreed yet.
    Establishing,
    /// The close callback must be called.
    Open,
    /// The application has ended the session, or has another one with its key.
    Quiet,
}

impl Session {
    /// Creates a session that is being established. At most `messages` and `bytes` are held for it.
    pub(super) fn new(key: Key, lease: Lease, messages: usize, bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            key,
            lease,
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
                unreported: None,
            }),
        })
    }

    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    #[cfg(feature = "directory")]
    pub(super) fn lease(&self) -> &Lease {
        &self.lease
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Sets the sender, by which messages go to the client.
    pub(super) fn set_sender(&self, sender: Sender) {
        self.state().sender = Some(sender);
    }

    /// Offers a message for the client. `last`: the session ends after it. `waiting` names the delivery, if it has to
    /// wait.
    pub(super) fn offer(self: &Arc<Self>, frame: &Frame, last: bool, waiting: impl FnOnce() -> Waiting) -> Offered {
        let mut state = self.state();
        match state.phase {
            Phase::Closing | Phase::Closed => return Offered::Closed,
            _ if state.ending => return Offered::Closed,
            Phase::Establishing => {
                let held = state.queue.iter().take_while(|queued| queued.waiter.is_none());
                let (messages, bytes) = held.fold((0, 0), |(n, bytes), held| (n + 1, bytes + held.frame.len()));
                if messages < self.held.0 && bytes < self.held.1 && messages == state.queue.len() {
                    state.queue.push_back(Queued { frame: frame.clone(), last, waiter: None });
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
        state.queue.push_back(Queued { frame: frame.clone(), last, waiter: Some(waiting()) });
        drop(state);
        self.drain();
        Offered::Waits
    }

    /// Removes a message that waits. Returns `true` if it was still waiting.
    pub(super) fn remove_waiting(&self, waiting: &Waiting) -> bool {
        let mut state = self.state();
        let at = state.queue.iter().position(|queued| queued.waiter.as_ref().is_some_and(|other| other.is(waiting)));
        at.and_then(|at| state.queue.remove(at)).is_some()
    }

    /// Opens the session: sends the greeting and the messages that were held. Returns a message that the client has
    /// sent in the meantime. The error is the last phase of a session that has ended.
    pub(super) fn open(self: &Arc<Self>, greeting: Option<Frame>) -> Result<Option<ClientMessage>, LastPhase> {
        let early = {
            let mut state = self.state();
            match state.phase {
                Phase::Establishing => state.phase = Phase::Open,
                _ if state.quiet => return Err(LastPhase::Quiet),
                _ => return Err(LastPhase::Open),
            }
            if let Some(frame) = greeting {
                state.queue.push_front(Queued { frame, last: false, waiter: None });
            }
            state.early.take()
        };
        self.drain();
        Ok(early.map(|early| *early))
    }

    /// Takes a message of the client. Returns it if it can be passed on now. Otherwise it is kept, and no further
    /// message is read until then. Messages that arrive while the session closes are dropped: for the application it
    /// has ended.
    pub(super) fn received(&self, early: ClientMessage) -> Option<ClientMessage> {
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

    /// Sends the messages that wait, as far as there is room, and registers for a call when there is more.
    fn drain(self: &Arc<Self>) {
        loop {
            let mut queued = Vec::new();
            let sender = {
                let mut state = self.state();
                if state.phase == Phase::Establishing || state.listening == Listening::Registering {
                    return;
                }
                state.drain(&mut queued);
                let waits = !state.queue.is_empty() && state.listening != Listening::Yes;
                let sender = state.sender.clone().filter(|_| waits);
                if sender.is_some() {
                    state.listening = Listening::Registering;
                }
                sender
            };
            queued.into_iter().for_each(|(waiter, result): (Waiting, _)| waiter.queued(result));
            let Some(sender) = sender else { return };
            // Without the lock: the sender may call at once.
            let session = self.clone();
            sender.on_room(move || session.has_room());
            let mut state = self.state();
            if state.listening == Listening::Registering {
                state.listening = Listening::Yes;
                return;
            }
            state.listening = Listening::No;
        }
    }

    fn has_room(self: &Arc<Self>) {
        {
            let mut state = self.state();
            if state.listening == Listening::Registering {
                state.listening = Listening::Called;
                return;
            }
            state.listening = Listening::No;
        }
        self.drain();
    }

    /// Records that another session with the same key has ended without a close callback, because this one exists.
    pub(super) fn owe_close(&self) {
        self.state().owes_close = true;
    }

    /// Returns `true` if the application still expects a close callback for another session with this key.
    pub(super) fn owes_a_close(&self) -> bool {
        self.state().owes_close
    }

    /// Keeps the end of this session until the establish callback has a response. If this node is lost meanwhile,
    /// another one tells the application.
    pub(super) fn keep_unreported(&self, unreported: Unreported) {
        self.state().unreported = Some(Box::new(unreported));
    }

    /// Drops the end that was kept: the application does not expect to be told.
    pub(super) fn forget_unreported(&self) {
        // Not under the lock.
        let kept = self.state().unreported.take();
        drop(kept);
    }

    /// Takes the end that was kept, when the establish callback has a response.
    pub(super) fn take_unreported(&self) -> Option<Unreported> {
        let taken = self.state().unreported.take();
        taken.map(|unreported| *unreported)
    }

    /// Closes the session, because a newer one has its key.
    pub(super) fn replace(&self) {
        self.end(|sender| sender.close(REPLACED.0, REPLACED.1));
    }

    /// Closes the session, because too many messages wait for the application (1013, "Try Again Later").
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

    /// Ends the stream without a Close frame, because the application did not agree.
    pub(super) fn reject(&self) {
        self.end(Sender::close_without_handshake);
    }

    fn end(&self, close: impl FnOnce(&Sender)) {
        let (queue, sender, early) = {
            let mut state = self.state();
            if state.phase != Phase::Closed {
                state.phase = Phase::Closing;
            }
            state.quiet = true;
            (mem::take(&mut state.queue), state.sender.clone(), state.early.take())
        };
        if let Some(sender) = sender {
            close(&sender);
        }
        drop(early);
        notify_closed(queue);
    }

    /// Records that the connection has ended.
    pub(super) fn closed(&self) -> LastPhase {
        let (last, queue, early) = {
            let mut state = self.state();
            let last = match state.phase {
                // The application has ended it, so it knows.
                _ if state.quiet || state.ending => LastPhase::Quiet,
                Phase::Establishing => LastPhase::Establishing,
                _ => LastPhase::Open,
            };
            state.phase = Phase::Closed;
            state.quiet = last == LastPhase::Quiet;
            state.sender = None;
            (last, mem::take(&mut state.queue), state.early.take())
        };
        drop(early);
        notify_closed(queue);
        last
    }
}

#[cfg(test)]
impl Session {
    /// Returns the messages that wait to be sent.
    pub(super) fn held(&self) -> Vec<Frame> {
        self.state().queue.iter().map(|queued| queued.frame.clone()).collect()
    }
}

fn notify_closed(queue: VecDeque<Queued>) {
    for waiter in queue.into_iter().filter_map(|queued| queued.waiter) {
        waiter.queued(Err(Problem::Closed));
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
        while let Some(Queued { frame, last, waiter }) = self.queue.pop_front() {
            let result = match self.send(&frame, last) {
                Ok(()) => Ok(()),
                Err(SendError::Closed) => Err(Problem::Closed),
                Err(SendError::Full) => {
                    self.queue.push_front(Queued { frame, last, waiter });
                    return;
                }
            };
            queued.extend(waiter.map(|waiter| (waiter, result)));
        }
        self.queue = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_session_is_small_and_holds_nothing() {
        let session = Session::new(b"key"[..].into(), Lease::default(), 1, 1000);
        let frame = Frame::text("held until it is established");
        let no_waiting = || unreachable!("there is room");
        assert_eq!(session.offer(&frame, false, no_waiting), Offered::Queued);
        // Without a sender, the held messages are dropped, and their memory is freed.
        assert!(session.open(Some(Frame::text("hello"))).is_ok_and(|early| early.is_none()));
        assert_eq!(session.state().queue.capacity(), 0);
        // Together with their WebSockets, ten thousand sessions take about 26 MB.
        assert!(size_of::<Session>() <= 200, "{}", size_of::<Session>());
    }
}
