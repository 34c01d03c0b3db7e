//! A server that counts what it holds for requests, and how often its loop turns.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use uncork::{
    Action, Consumed, EventMask, Headers, Io, Limits, Produced, ReadState, Request, Response, Server, Switch, Ticket,
    Tx, Upload,
};

/// What is left of requests, and what they have caused.
#[derive(Clone, Default)]
pub(crate) struct Counters(Arc<Numbers>);

#[derive(Default)]
struct Numbers {
    /// Requests in progress, and the objects that the application gave for them.
    held: AtomicUsize,
    requests: AtomicUsize,
    ended: AtomicUsize,
    turns: AtomicUsize,
    tickets: Mutex<Vec<Ticket>>,
}

/// One object. It counts as held until it is dropped.
struct Token(Counters);

impl Drop for Token {
    fn drop(&mut self) {
        self.0.0.held.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Counters {
    fn token(&self) -> Token {
        self.0.held.fetch_add(1, Ordering::SeqCst);
        Token(self.clone())
    }

    pub(crate) fn requests(&self) -> usize {
        self.0.requests.load(Ordering::SeqCst)
    }

    pub(crate) fn turns(&self) -> usize {
        self.0.turns.load(Ordering::SeqCst)
    }

    /// Takes the tickets of the requests to `/ticket`.
    pub(crate) fn tickets(&self) -> Vec<Ticket> {
        std::mem::take(&mut self.0.tickets.lock().expect("no panic"))
    }

    /// Waits until that many requests have begun.
    #[track_caller]
    pub(crate) fn begun(&self, n: usize) {
        wait("the requests begin", || self.requests() >= n);
    }

    /// Waits until nothing is held, and every request has ended once.
    #[track_caller]
    pub(crate) fn free(&self) {
        wait("everything is freed", || self.0.held.load(Ordering::SeqCst) == 0);
        assert_eq!(self.0.ended.load(Ordering::SeqCst), self.requests(), "each request ends once");
    }

    fn handle(&self, req: &mut Request<'_>) -> Action {
        self.0.requests.fetch_add(1, Ordering::SeqCst);
        let (token, ended) = (self.token(), self.clone());
        req.on_end(move |_| {
            drop(token);
            ended.0.ended.fetch_add(1, Ordering::SeqCst);
        });
        let token = self.token();
        match req.path() {
            "/ticket" => {
                let ticket = req.ticket();
                drop(token);
                self.0.tickets.lock().expect("no panic").push(ticket);
                Action::Suspend
            }
            "/upload" => Action::Receive(Box::new(Holding(token, 0))),
            "/stuck" => Action::Receive(Box::new(Holding(token, usize::MAX))),
            "/produce" => Response::stream(move |out: &mut Tx<'_>| {
                let _ = &token;
                out.write(&[b'x'; 4096]);
                Produced::More
            })
            .into(),
            "/pending" => Response::stream(move |_: &mut Tx<'_>| {
                let _ = &token;
                Produced::Pending
            })
            .into(),
            "/large" => Response::text(vec![b'x'; 1 << 20]).into(),
            "/up" => Switch::to("test", move |io: &mut Io<'_>| {
                let _ = &token;
                let n = io.tx.write(io.rx.bytes());
                io.rx.consume(n);
                if io.rx.state() == ReadState::Open { EventMask::READ } else { EventMask::TERMINATE }
            })
            .into(),
            _ => Response::text("ok").into(),
        }
    }
}

/// Takes a body, or nothing of it.
struct Holding(#[expect(dead_code, reason = "it is dropped with the upload")] Token, usize);

impl Upload for Holding {
    fn data(&mut self, _: &[u8]) -> Consumed {
        if self.1 > 0 { Consumed::Partial(0) } else { Consumed::All }
    }

    fn end(self: Box<Self>, _: &Headers) -> Action {
        Response::text("taken").into()
    }
}

#[track_caller]
pub(crate) fn wait(what: &str, mut until: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(8);
    while !until() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) struct Counting {
    pub(crate) addr: SocketAddr,
    pub(crate) counters: Counters,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Counting {
    pub(crate) fn start(limits: Limits) -> Self {
        let server = Server::bind("127.0.0.1:0").expect("bound").limits(limits);
        Self::serve(server)
    }

    pub(crate) fn serve(server: Server) -> Self {
        let (counters, stopped) = (Counters::default(), Arc::new(AtomicBool::new(false)));
        let addr = server.local_addr().expect("an address");
        let (own, stops) = (counters.clone(), stopped.clone());
        let thread = std::thread::spawn(move || {
            let handler = own.clone();
            let mut server = server.external(move |req: &mut Request<'_>| handler.handle(req)).expect("started");
            while !stops.load(Ordering::SeqCst) {
                own.0.turns.fetch_add(1, Ordering::SeqCst);
                let _ = server.wait(Some(Duration::from_millis(50))).expect("turned");
            }
        });
        Self { addr, counters, stopped, thread: Some(thread) }
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(ended.is_none_or(|result| result.is_ok()), "the server has panicked");
        }
    }
}
