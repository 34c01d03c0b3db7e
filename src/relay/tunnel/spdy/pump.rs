//! A SPDY session on an upgraded connection.
//!
//! ```text
//!   io.rx ──▶ handle_input ──▶ events ──▶ User::on_event
//!                          woken keys ──▶ User::step ──▶ open, reply, data, …
//!   io.tx ◀── greeting, then output ◀────────────────── Session
//! ```

use uncork::{EventMask, Io, ReadState, Rx, Tx};

use super::{
    fault::Fault,
    session::{Event, Session},
};
use crate::relay::tunnel::pump::{Codec, Pump, Step};
use crate::relay::tunnel::wakes::Wakes;

/// The owner of a session.
pub(in crate::relay::tunnel) trait User {
    fn session(&self) -> &Session;

    fn session_mut(&mut self) -> &mut Session;

    /// The peer has sent something.
    fn on_input(&mut self);

    fn on_event(&mut self, event: Event);

    /// Looks at what was woken, and does what can be done now.
    fn step(&mut self, woken: &mut Vec<usize>) -> Step;

    /// The peer has closed the connection, or has broken a rule. Nothing more follows.
    fn ended(&mut self, fault: Option<Fault>);
}

/// Moves a session's bytes.
pub(in crate::relay::tunnel) struct SessionPump {
    pump: Pump,
    /// Bytes to be sent before the first frame.
    greeting: Vec<u8>,
    /// No more input is taken.
    over: bool,
}

impl SessionPump {
    pub(in crate::relay::tunnel) fn new(wakes: &Wakes, greeting: &[u8]) -> Self {
        Self { pump: Pump::new(wakes), greeting: greeting.to_vec(), over: false }
    }

    /// Does one call of [`Upgrade::ready`](uncork::Upgrade::ready); see [`Pump::turn`].
    pub(in crate::relay::tunnel) fn turn(&mut self, io: &mut Io<'_>, user: &mut impl User) -> EventMask {
        let Self { pump, greeting, over } = self;
        pump.turn(io, &mut Spdy { user, greeting, over })
    }
}

/// A session as a [`Codec`].
struct Spdy<'a, U> {
    user: &'a mut U,
    greeting: &'a mut Vec<u8>,
    over: &'a mut bool,
}

impl<U: User> Spdy<'_, U> {
    fn end(&mut self, fault: Option<Fault>) {
        *self.over = true;
        self.user.ended(fault);
    }

    fn deliver_events(&mut self) {
        while let Some(event) = self.user.session_mut().poll_event() {
            self.user.on_event(event);
        }
    }
}

impl<U: User> Codec for Spdy<'_, U> {
    fn read(&mut self, rx: &mut Rx<'_>) -> bool {
        let mut moved = false;
        while !*self.over {
            let taken = self.user.session_mut().handle_input(rx.bytes());
            self.deliver_events();
            match taken {
                Ok(0) => break,
                Ok(n) => {
                    rx.consume(n);
                    self.user.on_input();
                    moved = true;
                }
                Err(fault) => self.end(Some(fault)),
            }
        }
        if !*self.over && rx.bytes().is_empty() && rx.state() != ReadState::Open {
            self.end(None);
        }
        moved
    }

    fn step(&mut self, woken: &mut Vec<usize>) -> Step {
        if *self.over {
            return Step::Over;
        }
        let step = self.user.step(woken);
        *self.over = step != Step::Pending;
        step
    }

    fn write(&mut self, tx: &mut Tx<'_>) -> bool {
        let n = tx.write(self.greeting);
        self.greeting.drain(..n);
        if !self.greeting.is_empty() {
            return n > 0;
        }
        let session = self.user.session_mut();
        let sent = tx.write(session.output());
        session.consume(sent);
        // Streams that waited for space in the output go on.
        self.deliver_events();
        n + sent > 0
    }

    fn has_output(&self) -> bool {
        !self.greeting.is_empty() || !self.user.session().output().is_empty()
    }

    /// More input is taken when the rest is consumed, which may need output to be sent.
    fn wants_input(&self, rx: &Rx<'_>) -> bool {
        rx.bytes().is_empty()
    }
}
