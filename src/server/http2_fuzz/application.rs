//! An application that does what a letter says, and records it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use crate::{
    api::{
        Action, Consumed, Handler, Io, Produce, Produced, ReadState, Request, Response, Switch, Ticket, Tx, Upload,
        Waker, pipe,
    },
    base::{EventMask, lock},
    h1::Headers,
};

const LETTERS: &[u8] = b"abBcehuUxtTpPqALwWvyzngFis";

#[derive(Clone)]
pub(super) struct Application(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    letters: Vec<u8>,
    next: usize,
    /// By the stream.
    records: BTreeMap<u32, Record>,
    tickets: Vec<(u32, Ticket)>,
    /// Requests whose stream is unknown.
    strays: usize,
    begun: usize,
    ended: usize,
    /// Objects that exist.
    held: usize,
}

/// What the application has done for the response with the status 200.
#[derive(Default)]
struct Record {
    /// Bytes of the body so far.
    written: u64,
    /// It was finished.
    finished: bool,
    /// The length is not recorded: HEAD, or bytes of another request.
    any: bool,
}

/// Counts as held until it is dropped.
struct Token(Application, u32);

impl Drop for Token {
    fn drop(&mut self) {
        self.0.state().held -= 1;
    }
}

impl Token {
    fn record(&self, change: impl FnOnce(&mut Record)) {
        change(self.0.state().records.entry(self.1).or_default());
    }

    fn finish(&self) {
        self.record(|record| record.finished = true);
    }
}

impl Application {
    pub(super) fn new(letters: &[u8]) -> Self {
        Self(Arc::new(Mutex::new(State { letters: letters.to_vec(), ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    fn token(&self, stream: u32) -> Token {
        self.state().held += 1;
        Token(self.clone(), stream)
    }

    fn next_letter(&self) -> u8 {
        let state = &mut *self.state();
        state.next += 1;
        state.letters.get(state.next - 1).copied().unwrap_or(b'a')
    }

    /// Responds to the oldest suspended request.
    pub(super) fn respond(&self, letter: u8) {
        let taken = {
            let state = &mut *self.state();
            (!state.tickets.is_empty()).then(|| state.tickets.remove(0))
        };
        let Some((stream, ticket)) = taken else { return };
        if letter % 7 == 1 {
            let mut fields = Headers::new();
            assert!(fields.append("Link", "</s>").is_ok());
            ticket.send_informational(103, fields);
        }
        let waker = ticket.waker();
        let action = self.action(stream, letter, &waker, None);
        let _ = ticket.respond(action);
    }

    pub(super) fn drop_tickets(&self) {
        let tickets = std::mem::take(&mut self.state().tickets);
        drop(tickets);
    }

    /// Checks that a response which looks whole is.
    pub(super) fn check_whole(&self, stream: u32, body: u64) {
        let state = self.state();
        let Some(record) = state.records.get(&stream) else {
            return assert!(state.strays > 0, "nothing responds to stream {stream}");
        };
        assert!(record.any || record.finished, "a truncated response looks whole");
        assert!(record.any || record.written == body, "{body} of {} bytes", record.written);
    }

    /// Returns the streams whose responses are finished.
    pub(super) fn finished(&self) -> Vec<u32> {
        let state = self.state();
        let finished = state.records.iter().filter(|(_, record)| record.finished && !record.any);
        finished.map(|(stream, _)| *stream).collect()
    }

    /// Checks what is left when there is no connection.
    pub(super) fn check_end(&self) {
        let state = self.state();
        assert_eq!(state.begun, state.ended, "each request ends once");
        assert_eq!(state.held, 0, "objects are left");
    }

    fn action(&self, stream: u32, letter: u8, waker: &Waker, request: Option<&mut Request<'_>>) -> Action {
        let token = self.token(stream);
        let letter = if LETTERS.contains(&letter) { letter } else { LETTERS[usize::from(letter) % LETTERS.len()] };
        let whole = |n: usize| {
            token.record(|record| (record.written, record.finished) = (n as u64, true));
            Response::text(vec![b'x'; n])
        };
        match letter {
            b'b' => whole(3000).into(),
            b'B' => whole(200_000).into(),
            b'c' => whole(5).close().into(),
            b'e' => Response::new(500).into(),
            b'n' => Response::new(204).into(),
            b'h' => whole(0).into(),
            b'u' | b'U' | b'x' => Action::Receive(Box::new(Receiver { letter, token, waker: waker.clone() })),
            b't' | b'T' | b'i' | b's' => {
                let Some(request) = request else { return whole(1).into() };
                let ticket = request.ticket();
                if letter == b'T' {
                    let upload = Receiver { letter: b'k', token: self.token(stream), waker: waker.clone() };
                    let _ = ticket.receive(upload);
                }
                self.state().tickets.push((stream, ticket));
                Action::Suspend
            }
            b'p' | b'P' | b'q' | b'A' | b'L' | b'F' => {
                let announced = match letter {
                    b'L' => Some(9000),
                    b'q' => Some(5000),
                    _ => None,
                };
                token.record(|record| (record.written, record.finished) = (0, false));
                Response::stream(Producer { letter, token }).length(announced).into()
            }
            b'w' | b'W' | b'v' | b'y' | b'z' => {
                token.record(|record| (record.written, record.finished) = (0, false));
                Switch::to("echo", Echo { letter, token, calls: 0 }).into()
            }
            b'g' => {
                let (input, output) = pipe(1000);
                token.record(|record| record.any = true);
                let Some(request) = request else { return Response::stream(output).into() };
                let ticket = request.ticket();
                let _ = ticket.receive(input);
                let _ = ticket.respond(Response::stream(output));
                Action::Suspend
            }
            b'a' => whole(2).into(),
            _ => Action::Abort,
        }
    }
}

impl Handler for Application {
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        let stream = req.path().strip_prefix('/').and_then(|n| n.parse().ok()).unwrap_or(0);
        {
            let state = &mut *self.state();
            // A path that the script has made by itself names no stream, or another one.
            let stray = stream == 0 || state.records.contains_key(&stream);
            state.strays += usize::from(stray);
            state.records.entry(stream).or_default().any |= stray || req.method() == "HEAD";
            state.begun += 1;
        }
        let own = self.clone();
        req.on_end(move |_| own.state().ended += 1);
        let waker = req.waker();
        let letter = self.next_letter();
        self.action(stream, letter, &waker, Some(req))
    }
}

struct Receiver {
    letter: u8,
    token: Token,
    waker: Waker,
}

impl Upload for Receiver {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        assert!(!chunk.is_empty());
        match self.letter {
            b'U' => {
                self.waker.wake();
                Consumed::Partial(chunk.len().div_ceil(2))
            }
            b'x' => Consumed::Stop(Response::new(413).into()),
            _ => Consumed::All,
        }
    }

    fn end(self: Box<Self>, _: &Headers) -> Action {
        if self.letter == b'k' {
            return Action::Suspend;
        }
        self.token.record(|record| (record.written, record.finished) = (4, true));
        Response::text("done").into()
    }
}

struct Producer {
    letter: u8,
    token: Token,
}

impl Produce for Producer {
    fn produce(&mut self, out: &mut Tx<'_>) -> Produced {
        let mut total = 0;
        self.token.record(|record| total = record.written);
        let most = match self.letter {
            b'P' => 0,
            b'p' => 100_000,
            b'q' | b'L' => 5000,
            _ => 2000,
        };
        let left = usize::try_from(most - total.min(most)).unwrap_or(0);
        let n = out.write(&vec![b'p'; left.min(1500)]);
        self.token.record(|record| record.written += n as u64);
        match self.letter {
            b'P' => Produced::Pending,
            _ if n < left => Produced::More,
            b'A' => Produced::Abort,
            // Less than was announced: the response is truncated.
            b'L' => Produced::End,
            b'F' => {
                let mut fields = Headers::new();
                assert!(fields.append("X-Sum", "1").is_ok());
                self.token.finish();
                Produced::Trailers(fields)
            }
            _ => {
                self.token.finish();
                Produced::End
            }
        }
    }
}

struct Echo {
    letter: u8,
    token: Token,
    calls: u8,
}

impl Echo {
    fn step(&mut self, io: &mut Io<'_>) -> EventMask {
        self.calls = self.calls.saturating_add(1);
        match self.letter {
            b'z' => {
                self.token.finish();
                return EventMask::TERMINATE;
            }
            b'W' if self.calls > 2 => {
                io.abort();
                return EventMask::TERMINATE;
            }
            // Reads nothing.
            b'y' => return if io.events().is_error() { EventMask::TERMINATE } else { EventMask::EXTERNAL },
            b'v' if self.calls == 2 => {
                // Half-closes first, and reads on.
                io.tx.finish();
                self.token.finish();
            }
            _ => {}
        }
        if self.letter == b'v' && self.calls >= 2 {
            io.rx.consume(io.rx.bytes().len());
            return if io.rx.state() == ReadState::Open { EventMask::READ } else { EventMask::TERMINATE };
        }
        let n = io.tx.write(io.rx.bytes());
        self.token.record(|record| record.written += n as u64);
        io.rx.consume(n);
        match (io.rx.bytes().is_empty(), io.rx.state()) {
            (true, ReadState::Open) => EventMask::READ,
            (true, ReadState::Eof) => {
                self.token.finish();
                EventMask::TERMINATE
            }
            (true, ReadState::Truncated) => EventMask::TERMINATE,
            (false, _) => EventMask::WRITE,
        }
    }
}

impl crate::api::Upgrade for Echo {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        self.step(io)
    }
}
