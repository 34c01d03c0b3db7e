//! The loop that moves a connection's bytes through a protocol: one for HTTP/2 and for SPDY.
//!
//! ```text
//!            ┌──────────── Pump::turn ─────────────┐
//!   io.rx ──▶│ Codec::read ──▶ protocol ──▶ streams │
//!            │                  ▲  │       ▲ │     │   again, as long as bytes moved or a key was woken
//!   io.tx ◀──│ Codec::write ◀── protocol ◀ streams │
//!            └─────────────────────────────────────┘
//! ```

use uncork::{EventMask, Io, Rx, Tx};

use crate::relay::tunnel::wakes::Wakes;

/// Rounds in one call, before other connections have their turn.
const ROUNDS: usize = 32;

/// A protocol between a connection's bytes and its streams.
pub(super) trait Codec {
    /// Takes input. Returns `true` if that changed anything.
    fn read(&mut self, rx: &mut Rx<'_>) -> bool;

    /// Looks at the streams of the woken keys, and does what can be done now.
    fn step(&mut self, woken: &mut Vec<usize>) -> Step;

    /// Sends output. Returns `true` if that moved any bytes.
    fn write(&mut self, tx: &mut Tx<'_>) -> bool;

    /// Returns `true` if output is left to be sent.
    fn has_output(&self) -> bool;

    /// Returns `true` if more input can be taken.
    fn wants_input(&self, rx: &Rx<'_>) -> bool;
}

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The protocol waits for bytes, or for a wake-up.
    Pending,
    /// The protocol is finished: its output is sent, then the connection is closed.
    Over,
    /// The connection is reset.
    Abort,
}

/// The state of the loop.
#[derive(Debug)]
pub(super) struct Pump {
    wakes: Wakes,
    woken: Vec<usize>,
    /// The protocol is finished: what is left of the output is sent, then the connection is closed.
    over: bool,
}

impl Pump {
    /// `wakes` has the keys of the connection's streams.
    pub(super) fn new(wakes: &Wakes) -> Self {
        Self { wakes: wakes.clone(), woken: Vec::new(), over: false }
    }

    /// Does one call of [`Upgrade::ready`](uncork::Upgrade::ready): moves bytes and takes steps until neither changes
    /// anything.
    ///
    /// READ is requested while the codec takes input, WRITE while output is left, EXTERNAL and CORK always: a protocol
    /// writes when it has something to send.
    pub(super) fn turn(&mut self, io: &mut Io<'_>, codec: &mut impl Codec) -> EventMask {
        self.wakes.begin(|| io.waker());
        for _ in 0..ROUNDS {
            let mut moved = codec.read(&mut io.rx);
            if !self.over {
                self.wakes.take(&mut self.woken);
                let done = codec.step(&mut self.woken);
                self.woken.clear();
                match done {
                    Step::Pending => {}
                    Step::Over => self.over = true,
                    Step::Abort => {
                        io.abort();
                        return EventMask::TERMINATE;
                    }
                }
            }
            moved |= codec.write(&mut io.tx);
            if self.over {
                return if codec.has_output() { EventMask::WRITE } else { EventMask::TERMINATE };
            }
            if !moved && self.wakes.end() {
                return mask(io, codec);
            }
        }
        self.wakes.pause();
        mask(io, codec)
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.wakes.close();
    }
}

fn mask(io: &Io<'_>, codec: &impl Codec) -> EventMask {
    let mut mask = EventMask::EXTERNAL | EventMask::CORK;
    if codec.wants_input(&io.rx) {
        mask |= EventMask::READ;
    }
    if codec.has_output() {
        mask |= EventMask::WRITE;
    }
    mask
}
