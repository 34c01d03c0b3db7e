//! Fuzz target of HTTP/2: random frames against the engine, with an application that behaves at random.
//!
//! ```text
//!   3 a u T p w ␊ frames …
//!   │ └── a letter for each request: what the application does with it (`application`)
//!   size of the pieces*         └ acts, each a byte and what it needs: frames, time, late responses (`frames`)
//!
//!   frames ──▶ pipe ──▶ engine ──▶ pipe ──▶ client: what a server may send, and what the application has done
//! ```
//! \* From 128 on, the loop has the smallest number of buffers, and the size begins anew.
//!
//! The time is an argument. Nothing sleeps: the target moves the clock. At the end the client opens its windows and reads:
//! then, with buffers enough, every response that the application has finished must arrive before any time passes.

mod application;
mod client;
mod frames;

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use self::{
    application::Application,
    client::Client,
    frames::{Act, Script, frame},
};
use crate::{
    api::{PipeIn, PipeOut, pipe},
    base::{Limits, Moment, PeerAddr},
    engine::{Admission, Engine, Setup},
};

/// Bytes of the pipes in both directions.
const PIPE: usize = 32 * 1024;
/// From this size of the pieces on, buffers are scarce.
const SCARCE: u8 = 128;

fn limits(is_scarce: bool) -> Limits {
    let buffers = if is_scarce { 0 } else { Limits::default().buffers };
    Limits { streams: 8, head: 2000, target: 200, fields: 20, body: 50_000, drain: 1000, buffers, ..Limits::default() }
}

/// One connection, its client, and the time.
struct World<'h> {
    engine: Engine<'h>,
    requests: Option<PipeIn>,
    responses: Option<PipeOut>,
    /// Bytes that the server has not taken.
    unsent: Vec<u8>,
    client: Client,
    application: Application,
    now: Moment,
    /// The client reads.
    reads: bool,
}

/// Sends the frames that `data` describes, and checks that the server breaks no rule of HTTP/2, that no truncated
/// response looks whole, that every request ends once, and that nothing is left in the end. `now`: any time.
///
/// # Panics
/// If something does not hold.
#[doc(hidden)]
pub fn fuzz(data: &[u8], now: Moment) {
    let Some((&size, data)) = data.split_first() else { return };
    let letters = data.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let acts = data.get(letters.len() + 1..).unwrap_or_default();
    let application = Application::new(letters);
    let handler = application.clone();
    let is_scarce = size >= SCARCE;
    let limits = limits(is_scarce);
    let setup = Setup {
        handler: Box::new(handler),
        listeners: Vec::new(),
        admission: Arc::new(Admission::new(&limits)),
        limits,
        access_log: None,
        versions: crate::engine::Versions::default(),
        hand_off: None,
    };
    let Ok(engine) = Engine::new(setup, now) else { return };
    let ((requests, input), (output, responses)) = (pipe(PIPE), pipe(PIPE));
    let peer = PeerAddr::tcp((Ipv4Addr::LOCALHOST, 1).into());
    assert!(engine.handle().adopt_pipes(peer, input, output, 0).is_ok());
    let mut world = World {
        engine,
        requests: Some(requests),
        responses: Some(responses),
        unsent: Vec::new(),
        client: Client::new(),
        application,
        now,
        reads: true,
    };
    world.run(Script::new(acts), usize::from(size % SCARCE).max(1), is_scarce);
}

impl World<'_> {
    fn run(&mut self, mut script: Script<'_>, size: usize, is_scarce: bool) {
        // At most so many: a run must end.
        for _ in 0..400 {
            let Some(act) = script.next() else { break };
            match act {
                Act::Send(bytes) => {
                    self.client.note_sent(&bytes);
                    self.send(&bytes, size);
                }
                Act::Wait(time) => self.pass(time),
                Act::Respond(letter) => self.application.respond(letter),
                Act::Read(reads) => self.reads = reads,
                Act::HalfClose => self.half_close(),
            }
            self.turn();
            if self.engine.is_vacant() {
                break;
            }
        }
        // Bodies that the application does not take may hold all buffers: then nothing goes on.
        if !is_scarce {
            self.check_progress();
        }
        self.end();
    }

    /// Sends what the pipe takes, in pieces.
    fn send(&mut self, bytes: &[u8], size: usize) {
        self.unsent.extend_from_slice(bytes);
        for _ in 0..self.unsent.len() / size + 1 {
            let Some(requests) = &mut self.requests else { return self.unsent.clear() };
            let n = requests.write(&self.unsent[..size.min(self.unsent.len())]);
            self.unsent.drain(..n);
            self.turn();
            if n == 0 {
                break;
            }
        }
        // A server that takes nothing more is as good as a client that waits for it; the rest is forgotten.
        if self.unsent.len() > 4 * PIPE {
            self.half_close();
        }
    }

    /// Opens all windows, reads, and checks that what the application has finished arrives, though no time passes.
    fn check_progress(&mut self) {
        self.reads = true;
        self.send(&[], PIPE);
        if self.requests.is_none() || !self.client.is_between_frames() {
            return;
        }
        let streams = self.application.finished();
        let windows = std::iter::once(0).chain(streams.iter().copied());
        let frames: Vec<u8> = windows.flat_map(|stream| frame(8, 0, stream, &(1_u32 << 22).to_be_bytes())).collect();
        self.client.note_sent(&frames);
        self.send(&frames, PIPE);
        let is_closed = self.responses.as_ref().is_none_or(PipeOut::has_ended);
        if is_closed || self.client.has_ended() || self.requests.is_none() {
            return;
        }
        assert!(self.unsent.is_empty(), "nothing is taken of a client that reads");
        for stream in streams {
            assert!(self.client.is_over(stream), "the response on stream {stream} does not go on");
        }
    }

    fn half_close(&mut self) {
        if let Some(requests) = self.requests.take() {
            requests.finish(None);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now.mono += time;
        self.now.wall += time;
    }

    /// Lets the engine work until it waits, and checks what it has sent.
    fn turn(&mut self) {
        for rounds in 0.. {
            assert!(rounds < 20_000, "the loop spins");
            let polled = self.engine.poll(Some(Duration::ZERO));
            assert!(polled.is_ok());
            let due = self.engine.turn(self.now);
            let mut moved = false;
            if let Some(responses) = self.responses.as_mut().filter(|_| self.reads) {
                let bytes = responses.bytes();
                let n = bytes.len();
                self.client.receive(bytes, &self.application);
                responses.consume(n);
                moved = n > 0;
            }
            if !moved && !self.engine.is_due(due) {
                break;
            }
        }
    }

    /// Ends the client, and waits until the server has forgotten it.
    fn end(&mut self) {
        self.reads = true;
        self.half_close();
        self.turn();
        self.application.drop_tickets();
        for _ in 0..40 {
            self.turn();
            self.pass(Duration::from_secs(10));
        }
        if !self.engine.is_vacant() {
            // An upgrade or a producer may go on for ever.
            self.responses = None;
            for _ in 0..40 {
                self.turn();
                self.pass(Duration::from_secs(10));
            }
        }
        assert!(self.engine.is_vacant(), "the connection does not end");
        self.application.check_end();
    }
}
