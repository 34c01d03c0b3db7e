//! Fuzz target: any bytes of the engine, cut anywhere, among commands and time. The same bytes are the events of a cluster:
//! see `fuzz_cluster`.
//!
//! ```text
//!   engine:   f <act …>
//!             │ └ 0: the next byte is a count, that many bytes arrive   3: the next byte is a time, that passes
//!             │   1: the handshake gets what it waits for               4: the next byte is a count, that much is sent
//!             │   2: a pipeline; its size and kind are the next byte    5: the connection ends
//!             └ flags: purpose, password, database, channels
//! ```

use std::{
    cell::Cell,
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use super::{
    command::{Pipeline, Then, encode_words},
    connection::{Connection, Event},
    decode::{Decoder, Frame},
    fuzz_cluster::{read, route},
    handshake::{Purpose, Setup},
    queue::Queue,
    reply::Unavailable,
};
use crate::relay::lock::lock;

/// Limit for the commands that wait.
const QUEUE: usize = 40;
/// The largest pipeline, in bytes: 8 commands.
const LARGEST: usize = 8 * 4100;

/// Checks that no input panics, that each function is called exactly once, and with as many replies as commands, that
/// the output is bounded, and that splitting the input changes nothing.
#[doc(hidden)]
pub fn engine(data: &[u8], start: Instant) {
    let [flags, acts @ ..] = data else { return };
    split(acts);
    route(acts, start);
    let channels = usize::from(flags >> 4 & 3);
    let setup = Setup {
        purpose: [Purpose::Commands, Purpose::ClusterNode, Purpose::Messages, Purpose::Sentinel]
            [usize::from(flags & 3)],
        name: "uncork".into(),
        user: (flags & 4 != 0).then(|| "u".into()),
        password: (flags & 12 != 0).then(|| "p".into()),
        database: u32::from(flags >> 3 & 1),
        channels: vec![b"c".to_vec(); channels],
        handshake_timeout: Duration::from_secs(2),
        command_timeout: Duration::from_secs(1),
        ping_interval: Duration::from_secs(5),
    };
    let mut run = Run {
        connection: Connection::new(Arc::new(setup), start),
        queue: Queue::new(QUEUE),
        now: start,
        channels,
        called: Arc::default(),
        pushed: 0,
        opened: Cell::new(0),
    };
    run.acts(acts);
}

/// Decodes bytes as a whole and in pieces.
fn split(wire: &[u8]) {
    let decoded = |size: usize| {
        let (mut decoder, mut frames) = (Decoder::new(10_000), Vec::<Frame>::new());
        for mut piece in wire.chunks(size) {
            loop {
                match decoder.next(&mut piece) {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(rule) => return (frames, Some(rule)),
                }
            }
        }
        (frames, None)
    };
    let whole = decoded(wire.len().max(1));
    assert!(whole.0.iter().all(|frame| frame.size <= 10_000), "the size of a reply is bounded");
    whole.0.iter().for_each(|frame| read(&frame.reply));
    for size in [1, 3] {
        let pieces = decoded(size);
        assert_eq!(whole.0, pieces.0, "results must not depend on how bytes arrive");
        assert_eq!(whole.1, pieces.1);
    }
}

struct Run {
    connection: Connection,
    queue: Queue,
    now: Instant,
    channels: usize,
    /// The numbers of the pipelines whose functions were called.
    called: Arc<Mutex<BTreeSet<usize>>>,
    pushed: usize,
    opened: Cell<u32>,
}

impl Run {
    fn acts(&mut self, mut acts: &[u8]) {
        while let Some((act, rest)) = acts.split_first() {
            acts = rest;
            let mut count = || {
                let (first, rest) = acts.split_first().unwrap_or((&0, &[]));
                acts = rest;
                usize::from(*first)
            };
            match act % 6 {
                0 => {
                    let n = count().min(acts.len());
                    let (bytes, rest) = acts.split_at(n);
                    acts = rest;
                    self.connection.receive(bytes, self.now);
                }
                1 => self.help(),
                2 => self.push(count()),
                3 => {
                    self.now += Duration::from_millis(20 * count() as u64);
                    self.connection.tick(self.now);
                }
                4 => {
                    let n = count().saturating_mul(500).min(self.connection.output().len());
                    self.connection.written(n);
                }
                _ => self.connection.fail("the peer has closed it"),
            }
            self.turn();
        }
        self.connection.fail("the end");
        self.report();
        for then in self.queue.drain() {
            then.call(Err(Unavailable("the end".into())));
        }
        assert_eq!(lock(&self.called).len(), self.pushed, "each function is called");
        assert!(self.opened.get() <= 1 && self.connection.is_idle() && self.connection.deadline().is_none());
    }

    /// Sends what completes the handshake, and after it a reply.
    fn help(&mut self) {
        if self.opened.get() > 0 {
            return self.connection.receive(b"+OK\r\n", self.now);
        }
        let master = b"*1\r\n+master\r\n";
        let last = self.connection.output().to_vec();
        let ends_with = |word: &[u8]| last.windows(word.len()).any(|part| part == word);
        if ends_with(b"SUBSCRIBE") {
            for _ in 0..self.channels.max(1) {
                self.connection.receive(b">3\r\n+subscribe\r\n+c\r\n:1\r\n", self.now);
            }
        } else if ends_with(b"ROLE") {
            self.connection.receive(master, self.now);
        } else if !last.is_empty() {
            self.connection.receive(b"+OK\r\n", self.now);
        }
        let n = last.len().min(self.connection.output().len());
        self.connection.written(n);
    }

    fn push(&mut self, kind: usize) {
        let (commands, is_hint) = ((kind & 7) + 1, kind & 8 != 0);
        let argument = vec![b'x'; [0, 10, 500, 4000][kind >> 4 & 3]];
        let mut wire = Vec::new();
        (0..commands).for_each(|_| encode_words(&[b"SET", &argument], &mut wire));
        let (called, number) = (self.called.clone(), self.pushed);
        let then = Then::new(move |outcome| {
            assert!(lock(&called).insert(number), "called twice");
            if let Ok(replies) = outcome {
                assert_eq!(replies.len(), commands, "a reply for each command");
                assert!(replies.iter().all(|reply| reply.not_now().is_none()), "not now is never an error");
            }
        });
        self.pushed += 1;
        if let Err(pipeline) = self.queue.push(Pipeline { wire, commands, is_hint, then }) {
            pipeline.then.call(Err(Unavailable("full".into())));
        }
    }

    fn turn(&mut self) {
        self.queue.set_deadlines(self.now + Duration::from_secs(1));
        for then in self.queue.expired(self.now).into_iter().chain(self.queue.dropped()) {
            then.call(Err(Unavailable("too late".into())));
        }
        self.connection.take(&mut self.queue);
        let output = self.connection.output().len();
        assert!(output <= 64 * 1024 + LARGEST + 1000, "the output is bounded: {output}");
        let deadline = self.connection.deadline();
        assert_eq!(deadline.is_none(), self.connection.failure().is_some(), "there is always a deadline");
        self.report();
    }

    fn report(&mut self) {
        while let Some(event) = self.connection.poll() {
            match event {
                Event::Done(then, outcome) => then.call(outcome),
                Event::Open { .. } => self.opened.set(self.opened.get() + 1),
                Event::Message { .. } | Event::RoundTrip(_) => {}
            }
        }
    }
}
