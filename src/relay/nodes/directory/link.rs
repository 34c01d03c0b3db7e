//! A [`Connection`] on a socket.

use std::{task, time::Instant};

use uncork::{EventMask, Io, ReadState, Upgrade};

use super::{
    command::{Outcome, Then},
    connection::{Connection, Event},
};

/// The use of a link. Its functions are called on the loop.
pub(super) trait Role: Send {
    /// Called in each turn: gives the connection what it has to send, and returns what it has to say to callers. It may
    /// give the connection up.
    fn turn(&mut self, connection: &mut Connection, now: Instant) -> Turn;

    /// The handshake is complete.
    fn opened(&mut self, connection: &mut Connection, resp3: bool, waker: task::Waker, now: Instant);

    /// A message of a channel.
    fn message(&mut self, channel: &[u8], payload: &[u8]);

    /// A PING has got its reply.
    fn round_trip(&mut self, _: std::time::Duration) {}

    /// The server of the loop stops.
    fn stopping(&mut self, connection: &mut Connection, now: Instant);

    /// The link is over. Called once, as the last.
    fn ended(&mut self, end: End);
}

/// The end of a link.
pub(super) struct End {
    pub(super) reason: String,
    /// The engine has rejected the connection.
    pub(super) is_rejected: bool,
    /// `None` if it has never run.
    pub(super) now: Option<Instant>,
}

/// The result of a turn.
#[derive(Default)]
pub(super) struct Turn {
    /// Functions to call.
    pub(super) done: Vec<(Then, Outcome)>,
    /// The time of the next turn, if nothing happens before.
    pub(super) deadline: Option<Instant>,
}

pub(super) struct Link {
    connection: Connection,
    role: Box<dyn Role>,
    now: Option<Instant>,
}

impl Link {
    pub(super) fn new(connection: Connection, role: impl Role + 'static) -> Self {
        Self { connection, role: Box::new(role), now: None }
    }

    /// Calls callers and the role about what has happened.
    fn report(&mut self, waker: Option<&task::Waker>) {
        while let Some(event) = self.connection.poll() {
            match event {
                Event::Done(then, outcome) => then.call(outcome),
                Event::Message { channel, payload } => self.role.message(&channel, &payload),
                Event::RoundTrip(time) => self.role.round_trip(time),
                Event::Open { resp3 } => {
                    if let (Some(waker), Some(now)) = (waker, self.now) {
                        self.role.opened(&mut self.connection, resp3, waker.clone(), now);
                    }
                }
            }
        }
    }
}

impl Upgrade for Link {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        let now = io.now().mono;
        self.now = Some(now);
        let waker: task::Waker = io.waker().into();
        let n = io.rx.bytes().len();
        self.connection.receive(io.rx.bytes(), now);
        io.rx.consume(n);
        // What it has sent before its end counts.
        self.report(Some(&waker));
        if io.events().is_error() {
            self.connection.fail("the connection was reset");
        } else if io.rx.state() != ReadState::Open {
            self.connection.fail("the engine has closed the connection");
        }
        if io.events().is_stopping() {
            self.role.stopping(&mut self.connection, now);
        }
        self.connection.tick(now);
        let turn = self.role.turn(&mut self.connection, now);
        turn.done.into_iter().for_each(|(then, outcome)| then.call(outcome));
        self.report(Some(&waker));
        if self.connection.failure().is_some() {
            return EventMask::TERMINATE;
        }
        let n = io.tx.write(self.connection.output());
        self.connection.written(n);
        let deadlines = [self.connection.deadline(), turn.deadline];
        io.set_deadline(deadlines.into_iter().flatten().min());
        let mask = EventMask::READ | EventMask::EXTERNAL;
        if self.connection.output().is_empty() { mask } else { mask | EventMask::WRITE }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Reports every end, also that of a loop that ends.
        self.connection.fail("the loop has ended");
        self.report(None);
        let reason = self.connection.failure().unwrap_or_default().to_owned();
        self.role.ended(End { reason, is_rejected: self.connection.is_rejected(), now: self.now });
    }
}
