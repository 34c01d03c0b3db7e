//! An application that does what the path says (`/CLIENT/LETTER/SIZE`), and records it.

use std::sync::{Arc, Mutex, MutexGuard};

use uncork::{
    Action, Consumed, EventMask, Handler, Io, Produced, ReadState, Request, Response, Switch, Ticket, Tx, Upgrade,
    Upload, Waker, h1::Headers, pipe,
};

use crate::relay::lock::lock;

/// What the application can do, by its letter.
pub(super) const LETTERS: &[u8] = b"abcdefghijklmnopr";
/// Those of them that lead to a complete response, if the request is complete.
pub(super) const WHOLE: &[u8] = b"abefijlnr";

#[derive(Clone, Default)]
pub(super) struct Application(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    records: Vec<Record>,
    tickets: Vec<(usize, Ticket)>,
    wakers: Vec<Waker>,
    /// Requests that are not over.
    open: usize,
}

/// One request, and what was done with it.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    pub(super) method: String,
    pub(super) target: String,
    /// What was received of the body.
    pub(super) body: Vec<u8>,
    pub(super) body_ended: bool,
    /// Bytes of the response so far.
    pub(super) written: usize,
    /// The response was finished.
    pub(super) finished: bool,
    /// The response's body depends on the request's.
    pub(super) echoes: bool,
    pub(super) over: bool,
}

impl Application {
    pub(super) fn records(&self) -> Vec<Record> {
        self.state().records.clone()
    }

    pub(super) fn open(&self) -> usize {
        self.state().open
    }

    /// Responds to the oldest suspended request.
    pub(super) fn respond(&self) {
        let (ticket, wakers) = {
            let mut state = self.state();
            let ticket = (!state.tickets.is_empty()).then(|| state.tickets.remove(0));
            (ticket, std::mem::take(&mut state.wakers))
        };
        wakers.iter().for_each(Waker::wake);
        if let Some((n, ticket)) = ticket {
            let _ = ticket.respond(self.whole(n, 7));
        }
    }

    pub(super) fn drop_tickets(&self) {
        let tickets = std::mem::take(&mut self.state().tickets);
        drop(tickets);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    fn record(&self, n: usize, change: impl FnOnce(&mut Record)) {
        if let Some(record) = self.state().records.get_mut(n) {
            change(record);
        }
    }

    fn whole(&self, n: usize, size: usize) -> Response {
        self.record(n, |record| (record.written, record.finished) = (size, true));
        Response::new(200).body(vec![b'a'; size]).header("X-App", n.to_string())
    }

    /// Streams `size` bytes, then returns `last`.
    fn stream(&self, n: usize, size: usize, last: fn() -> Produced, finishes: bool) -> Response {
        let own = self.clone();
        let mut left = size;
        let produce = move |out: &mut Tx<'_>| {
            let wrote = out.write(&vec![b'a'; left.min(1500)]);
            left -= wrote;
            own.record(n, |record| record.written += wrote);
            if left > 0 {
                return Produced::More;
            }
            own.record(n, |record| record.finished = finishes);
            last()
        };
        Response::stream(produce).header("X-App", n.to_string())
    }

    fn act(&self, n: usize, letter: u8, size: usize, req: &mut Request<'_>) -> Action {
        match letter {
            b'b' => self.stream(n, size, || Produced::End, true).into(),
            b'c' => self.stream(n, size, || Produced::Abort, false).into(),
            b'd' => self.stream(n, size, || Produced::End, false).length(size as u64 + 5).into(),
            b'j' => self.stream(n, size, with_trailers, true).into(),
            b'o' => self.stream(n, size, || Produced::Pending, false).into(),
            b'e' | b'f' | b'g' | b'p' => {
                let waker = req.waker();
                Action::Receive(Box::new(Receiver { own: self.clone(), n, letter, size, waker }))
            }
            b'h' => {
                let ticket = req.ticket();
                self.state().tickets.push((n, ticket));
                Action::Suspend
            }
            b'i' => {
                let ticket = req.ticket();
                for _ in 0..size % 17 {
                    let mut fields = Headers::new();
                    assert!(fields.append("Link", "</s>").is_ok());
                    ticket.send_informational(103, fields);
                }
                let _ = ticket.respond(self.whole(n, size));
                Action::Suspend
            }
            b'k' if req.wants_upgrade("echo") => {
                self.record(n, |record| record.echoes = true);
                Switch::to("echo", Echo(self.clone(), n)).header("X-App", n.to_string()).into()
            }
            b'l' => self.whole(n, size).close().into(),
            b'm' => Action::Abort,
            b'n' => {
                self.record(n, |record| (record.finished, record.echoes) = (true, true));
                Response::new(204).header("X-App", n.to_string()).into()
            }
            b'r' if req.has_body() => {
                self.record(n, |record| (record.finished, record.echoes) = (true, true));
                let (input, output) = pipe(1000);
                let ticket = req.ticket();
                let _ = ticket.receive(input);
                let _ = ticket.respond(Response::stream(output).header("X-App", n.to_string()));
                Action::Suspend
            }
            _ => self.whole(n, size).into(),
        }
    }
}

fn with_trailers() -> Produced {
    let mut fields = Headers::new();
    assert!(fields.append("X-Sum", "1").is_ok());
    Produced::Trailers(fields)
}

impl Handler for Application {
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        let mut parts = req.path().split('/').skip(2);
        let letter = parts.next().and_then(|part| part.bytes().next()).unwrap_or(b'a');
        let size = parts.next().and_then(|part| part.parse().ok()).unwrap_or(3_usize).min(300_000);
        let n = {
            let mut state = self.state();
            let (method, target) = (req.method().to_owned(), req.target().to_owned());
            let echoes = method == "HEAD";
            state.records.push(Record { method, target, echoes, ..Record::default() });
            state.open += 1;
            state.records.len() - 1
        };
        let own = self.clone();
        req.on_end(move |_| {
            own.state().open -= 1;
            own.record(n, |record| {
                assert!(!record.over, "a request ends twice");
                record.over = true;
            });
        });
        self.act(n, letter, size, req)
    }
}

struct Receiver {
    own: Application,
    n: usize,
    letter: u8,
    size: usize,
    waker: Waker,
}

impl Upload for Receiver {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        let (n, consumed) = match self.letter {
            b'e' => (chunk.len(), Consumed::All),
            b'f' => {
                self.waker.wake();
                let n = chunk.len().div_ceil(2);
                (n, Consumed::Partial(n))
            }
            b'g' => {
                let response = self.own.whole(self.n, self.size).with_status(413);
                (chunk.len(), Consumed::Stop(response.into()))
            }
            _ => {
                self.own.state().wakers.push(self.waker.clone());
                (1, Consumed::Partial(1))
            }
        };
        self.own.record(self.n, |record| record.body.extend_from_slice(&chunk[..n]));
        consumed
    }

    fn end(self: Box<Self>, _: &Headers) -> Action {
        self.own.record(self.n, |record| record.body_ended = true);
        self.own.whole(self.n, self.size).into()
    }
}

/// Sends back what it receives.
struct Echo(Application, usize);

impl Upgrade for Echo {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        let n = io.tx.write(io.rx.bytes());
        io.rx.consume(n);
        match (io.rx.bytes().is_empty(), io.rx.state()) {
            (false, _) => EventMask::WRITE,
            (true, ReadState::Open) => EventMask::READ,
            (true, ReadState::Eof) => {
                self.0.record(self.1, |record| (record.finished, record.body_ended) = (true, true));
                EventMask::TERMINATE
            }
            (true, ReadState::Truncated) => {
                io.abort();
                EventMask::TERMINATE
            }
        }
    }
}
