//! A session on a connection: bytes in, events to whoever speaks through it, bytes out.
//!
//! ```text
//!            ┌───────────────────── Pump::turn ─────────────────────┐
//!   io.rx ──▶│ handle_input ──▶ events ──▶ Handler::happens           │
//!            │                 woken keys ▶ Handler::look ──▶ verbs    │   again, as long as bytes moved
//!   io.tx ◀──│ greeting, then output ◀────────────────── Session       │   or something was woken
//!            └──────────────────────────────────────────────────────┘
//! ```

use uncork::{EventMask, Io, ReadState, Rx, Tx};

use super::{Event, Fault, Session};
use crate::relay::tunnel::{wakes::Wakes, wire::Step};

/// Rounds in one call before other connections have their turn.
const ROUNDS: usize = 32;

/// Who speaks through a session.
pub(in crate::relay::tunnel) trait Speaker {
    fn session(&mut self) -> &mut Session;

    /// The peer has said something.
    fn heard(&mut self);

    /// What it was.
    fn happens(&mut self, event: Event);

    /// Looks at what was woken, and does what can be done now.
    fn look(&mut self, keys: &mut Vec<usize>) -> Step;

    /// The peer is gone, or has broken a rule: nothing more comes.
    fn ended(&mut self, fault: Option<Fault>);
}

/// Moves a session's bytes.
pub(in crate::relay::tunnel) struct Pump {
    wakes: Wakes,
    woken: Vec<usize>,
    /// What is to be sent before the first frame.
    greeting: Vec<u8>,
    /// What is left of the output is sent, then the connection is closed.
    over: bool,
}

impl Pump {
    pub(in crate::relay::tunnel) fn new(wakes: &Wakes, greeting: &[u8]) -> Self {
        Self { wakes: wakes.clone(), woken: Vec::new(), greeting: greeting.to_vec(), over: false }
    }

    /// One call of [`Upgrade::ready`](uncork::Upgrade::ready): moves bytes and takes steps until neither changes anything.
    pub(in crate::relay::tunnel) fn turn(&mut self, io: &mut Io<'_>, speaker: &mut impl Speaker) -> EventMask {
        self.wakes.begin(|| io.waker());
        for _ in 0..ROUNDS {
            let mut moved = self.hear(&mut io.rx, speaker);
            if !self.over {
                self.wakes.take(&mut self.woken);
                let done = speaker.look(&mut self.woken);
                self.woken.clear();
                match done {
                    Step::Waits => {}
                    Step::Over => self.over = true,
                    Step::Abort => {
                        io.abort();
                        return EventMask::TERMINATE;
                    }
                }
            }
            moved |= self.say(&mut io.tx, speaker);
            let has_output = !self.greeting.is_empty() || !speaker.session().output().is_empty();
            if self.over {
                return if has_output { EventMask::WRITE } else { EventMask::TERMINATE };
            }
            if !moved && self.wakes.end() {
                return mask(io, has_output);
            }
        }
        self.wakes.pause();
        mask(io, true)
    }

    /// Takes what came in. Whether that was anything.
    fn hear(&mut self, rx: &mut Rx<'_>, speaker: &mut impl Speaker) -> bool {
        let mut moved = false;
        while !self.over {
            let taken = speaker.session().handle_input(rx.bytes());
            while let Some(event) = speaker.session().poll_event() {
                speaker.happens(event);
            }
            match taken {
                Ok(0) => break,
                Ok(n) => {
                    rx.consume(n);
                    speaker.heard();
                    moved = true;
                }
                Err(fault) => {
                    self.over = true;
                    speaker.ended(Some(fault));
                }
            }
        }
        if !self.over && rx.bytes().is_empty() && rx.state() != ReadState::Open {
            self.over = true;
            speaker.ended(None);
        }
        moved
    }

    /// Sends what there is to be sent. Whether that was anything.
    fn say(&mut self, tx: &mut Tx<'_>, speaker: &mut impl Speaker) -> bool {
        let n = tx.write(&self.greeting);
        self.greeting.drain(..n);
        if !self.greeting.is_empty() {
            return n > 0;
        }
        let session = speaker.session();
        let sent = tx.write(session.output());
        session.consume(sent);
        // Room for those that waited for it.
        while let Some(event) = speaker.session().poll_event() {
            speaker.happens(event);
        }
        n + sent > 0
    }
}

fn mask(io: &Io<'_>, has_output: bool) -> EventMask {
    let mut mask = EventMask::EXTERNAL | EventMask::CORK;
    // What is left of the input waits for output to be sent.
    if io.rx.bytes().is_empty() {
        mask |= EventMask::READ;
    }
    if has_output {
        mask |= EventMask::WRITE;
    }
    mask
}
