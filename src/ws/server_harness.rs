//! One session in memory, without an engine, for the fuzzer, the tests and the benchmarks.

use std::sync::{Arc, Mutex};

use super::{
    Closed, Config, Deflate, Done, Handler, Message, MessagePart, Sender, handshake::Agreed, outgoing::Role,
    session::Session,
};
use crate::{
    api::{Events, Io, ReadState, Rx, Tx, Upgrade, Waker, upgrade::IoCommands},
    base::{
        ConnId, EventMask, Moment, RequestId,
        buf::Buf,
        lock,
        mailbox::{Mailbox, Notifier},
        out::Out,
    },
};

struct NoWakeup;

impl Notifier for NoWakeup {
    fn notify(&self) {}
}

/// Echoes messages, and records the end.
#[derive(Default)]
struct Echo {
    sender: Option<Sender>,
    streams: bool,
    /// The parts of a streamed message so far.
    parts: Vec<u8>,
    closed: Arc<Mutex<Vec<Closed>>>,
}

impl Handler for Echo {
    fn open(&mut self, sender: &Sender) {
        self.sender = Some(sender.clone());
    }

    fn message(&mut self, message: Message<'_>, done: Done) {
        if let Some(sender) = &self.sender {
            let _closing = sender.message(message);
            sender.on_room(move || done.next());
        }
    }

    fn streams(&self) -> bool {
        self.streams
    }

    fn part(&mut self, MessagePart { piece, first, last }: MessagePart<'_>, done: Done) {
        debug_assert_eq!(first, self.parts.is_empty());
        // A byte in front, so that an empty part counts as one.
        self.parts.resize(self.parts.len().max(1), 0);
        self.parts.extend_from_slice(piece.bytes());
        if last {
            let whole = std::mem::take(&mut self.parts);
            let text = std::str::from_utf8(&whole[1..]).ok();
            let whole = match (piece, text) {
                (Message::Text(_), Some(text)) => Message::Text(text),
                _ => Message::Binary(&whole[1..]),
            };
            self.message(whole, done);
        }
    }

    fn closed(&mut self, closed: &Closed) {
        lock(&self.closed).push(closed.clone());
    }
}

/// The options of a harness.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    /// The session is a client's.
    pub(crate) client: bool,
    pub(crate) streams: bool,
    pub(crate) deflate: Option<Deflate>,
    pub(crate) config: Config,
    /// The limit of the output in bytes; 0 for 64 KiB.
    pub(crate) output: usize,
}

/// A session with a handler that echoes.
pub(crate) struct Harness {
    session: Session,
    pub(crate) sender: Sender,
    rx: Buf,
    out: Out,
    limit: usize,
    waker: Waker,
    now: Moment,
    finished: bool,
    /// The sent bytes.
    pub(crate) sent: Vec<u8>,
    pub(crate) mask: EventMask,
    pub(crate) deadline: Option<std::time::Instant>,
    pub(crate) aborted: bool,
    /// The held bytes as reported to the loop.
    pub(crate) holding: usize,
    closed: Arc<Mutex<Vec<Closed>>>,
}

impl Harness {
    pub(crate) fn new(setup: &Setup, now: Moment) -> Self {
        let closed = Arc::new(Mutex::new(Vec::new()));
        let echo = Echo { streams: setup.streams, closed: closed.clone(), ..Echo::default() };
        let role = if setup.client { Role::Client } else { Role::Server };
        let agreed = setup.deflate.map(Agreed);
        let (session, sender) = Session::new(role, setup.config.clone(), agreed.as_ref(), echo);
        let id = RequestId { conn: ConnId::new(0, 0, 0), number: 1 };
        let mut harness = Self {
            session,
            sender,
            rx: Buf::from_store(vec![0; 64 * 1024].into_boxed_slice()),
            out: Out::default(),
            limit: if setup.output == 0 { 64 * 1024 } else { setup.output },
            waker: Waker::new(id, Arc::new(Mailbox::new(Box::new(NoWakeup)))),
            now,
            finished: false,
            sent: Vec::new(),
            mask: EventMask::READ,
            deadline: None,
            aborted: false,
            holding: 0,
            closed,
        };
        harness.call(Events::NONE, ReadState::Open);
        harness
    }

    pub(crate) fn is_over(&self) -> bool {
        self.mask.is_terminate()
    }

    /// Returns the ends that were reported: one at most.
    pub(crate) fn closed(&self) -> Vec<Closed> {
        lock(&self.closed).clone()
    }

    /// Returns the bytes allocated for messages, in either direction.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.session.held()
    }

    fn call(&mut self, events: Events, state: ReadState) {
        if self.is_over() {
            return;
        }
        let mut commands = IoCommands::default();
        let mut io = Io {
            rx: Rx { buf: &mut self.rx, state },
            tx: Tx {
                out: &mut self.out,
                limit: self.limit,
                shared_limit: usize::MAX,
                own: 0,
                finished: &mut self.finished,
            },
            events,
            now: self.now,
            waker: &self.waker,
            splicer: None,
            commands: &mut commands,
        };
        self.mask = self.session.ready(&mut io);
        if let Some(deadline) = commands.deadline {
            self.deadline = deadline;
        }
        self.aborted |= commands.abort;
        if events.shed() {
            self.holding = 0;
        }
        self.holding = commands.held.unwrap_or(self.holding);
        assert!(self.is_over() || self.holding == self.session.assembled(), "the loop knows what is held");
    }

    /// Sends the output until nothing is left.
    fn drain(&mut self) {
        loop {
            while !self.out.is_empty() {
                let mut slices = [std::io::IoSlice::new(&[]); 8];
                let n = self.out.pieces(&mut slices);
                let before = self.sent.len();
                slices[..n].iter().for_each(|slice| self.sent.extend_from_slice(slice));
                let n = self.sent.len() - before;
                self.out.consume(n);
            }
            if self.is_over() || !self.mask.contains(EventMask::WRITE) {
                return;
            }
            self.call(Events::WRITE, ReadState::Open);
        }
    }

    /// Receives bytes from the peer.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.is_over() && self.mask.contains(EventMask::READ) {
            let n = self.rx.push(bytes);
            bytes = &bytes[n..];
            self.call(Events::READ, ReadState::Open);
            self.drain();
        }
    }

    /// Calls the session as after a wake-up.
    #[cfg(test)]
    pub(crate) fn wake(&mut self) {
        self.call(Events::EXTERNAL, ReadState::Open);
        self.drain();
    }

    /// Ends the stream, as the peer would.
    pub(crate) fn end(&mut self) {
        if self.mask.contains(EventMask::READ) {
            self.call(Events::READ_CLOSED, ReadState::Eof);
        }
        self.drain();
    }

    /// Lets the deadline pass.
    #[cfg(test)]
    pub(crate) fn late(&mut self) {
        if let Some(deadline) = self.deadline.take() {
            self.now.mono = deadline;
            self.call(Events::DEADLINE, ReadState::Open);
            self.drain();
        }
    }

    /// Lets time pass without other events.
    pub(crate) fn pass(&mut self, time: std::time::Duration) {
        let until = self.now.mono + time;
        while let Some(deadline) = self.deadline.filter(|deadline| *deadline <= until && !self.is_over()) {
            self.now.mono = self.now.mono.max(deadline);
            self.deadline = None;
            self.call(Events::DEADLINE, ReadState::Open);
            self.drain();
        }
        self.now.mono = until;
    }

    /// Asks the session to free memory, in the same call in which it gets `bytes`.
    #[cfg(test)]
    pub(crate) fn shed(&mut self, bytes: &[u8]) {
        let mut events = Events::SHED;
        if !bytes.is_empty() {
            self.rx.push(bytes);
            events.add(Events::READ);
        }
        self.call(events, ReadState::Open);
        self.drain();
    }

    /// Stops the server, or resets the connection.
    #[cfg(test)]
    pub(crate) fn stop(&mut self, reset: bool) {
        self.call(if reset { Events::RESET } else { Events::STOPPING }, ReadState::Open);
        self.drain();
    }
}
