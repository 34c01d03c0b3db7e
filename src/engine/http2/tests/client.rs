//! A client that writes its frames itself, and a server with its loop. It reads as much as a test says. The time is an
//! argument.

use std::{
    fs::File,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use crate::{
    api::{
        Action, Consumed, Io, PipeIn, PipeOut, Produced, Request, Response, Switch, Ticket, Tx, Upgrade, Upload, pipe,
    },
    base::{EndReason, EventMask, Limits, Moment, PeerAddr},
    engine::{Admission, Engine, Setup, Versions},
    h1::Headers,
    h2::{
        PREFACE,
        frame::{self, Head},
    },
};

/// Reads all that comes.
pub(in crate::engine::http2) const ALL: usize = usize::MAX;

/// What `/file` sends.
pub(super) const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/engine/http2/mod.rs");

pub(in crate::engine::http2) struct Client {
    pub(in crate::engine::http2) engine: Engine<'static>,
    pub(in crate::engine::http2) tickets: Arc<Mutex<Vec<Ticket>>>,
    requests: Option<PipeIn>,
    responses: PipeOut,
    start: Instant,
    now: Moment,
    ended: Arc<Mutex<Vec<End>>>,
    /// What has come of an incomplete frame.
    partial: Vec<u8>,
    frames: Vec<Frame>,
}

/// The end of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine::http2) struct End {
    pub(in crate::engine::http2) path: String,
    pub(in crate::engine::http2) second: u64,
    pub(in crate::engine::http2) reason: EndReason,
}

/// A frame of the server.
struct Frame {
    kind: u8,
    stream: u32,
    /// The length of the payload; of WINDOW_UPDATE, the increment.
    n: usize,
}

/// Takes all of a body, or nothing.
struct Body {
    takes: bool,
}

impl Upload for Body {
    fn data(&mut self, _: &[u8]) -> Consumed {
        if self.takes { Consumed::All } else { Consumed::Partial(0) }
    }

    fn end(self: Box<Self>, _: &Headers) -> Action {
        Response::text("taken").into()
    }
}

/// Half-closes, and waits for the application.
struct Leaving;

impl Upgrade for Leaving {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        io.tx.finish();
        EventMask::EXTERNAL
    }
}

/// `/taken`, `/paused`: uploads. `/leaving`: another protocol. `/waits`: its ticket decides. `/endless`, `/file`, `/N` for N bytes: downloads.
fn answer(req: &mut Request<'_>, tickets: &Mutex<Vec<Ticket>>) -> Action {
    match req.path() {
        path @ ("/taken" | "/paused") => Action::Receive(Box::new(Body { takes: path == "/taken" })),
        "/leaving" => Switch::to("leaving", Leaving).into(),
        "/waits" => {
            tickets.lock().expect("whole").push(req.ticket());
            Action::Suspend
        }
        "/endless" => Response::stream(|out: &mut Tx<'_>| {
            out.write(&[b'x'; 16 * 1024]);
            Produced::More
        })
        .into(),
        "/file" => {
            let file = File::open(FILE).expect("this file");
            let len = file.metadata().expect("of this file").len();
            Response::file(file, 0..len).into()
        }
        path => Response::new(200).body(vec![b'x'; path[1..].parse().expect("a number")]).into(),
    }
}

/// Connects to the server: requests may be 1 MiB ahead of it, responses may have so much room.
pub(super) fn connect(engine: &Engine<'static>, room: usize) -> (PipeIn, PipeOut) {
    let ((requests, from_client), (to_client, responses)) = (pipe(1 << 20), pipe(room));
    let peer = PeerAddr::tcp((Ipv4Addr::LOCALHOST, 1).into());
    assert!(engine.handle().adopt_pipes(peer, from_client, to_client, 0).is_ok());
    (requests, responses)
}

impl Client {
    /// Connects by pipes, of which the one to the client has so much room, and sends the preface and SETTINGS with the
    /// window of the streams.
    #[expect(clippy::disallowed_methods, reason = "any time will do to begin with")]
    pub(in crate::engine::http2) fn new(limits: Limits, room: usize, window: u32) -> Self {
        let (ended, tickets) = (Arc::<Mutex<Vec<End>>>::default(), Arc::<Mutex<Vec<Ticket>>>::default());
        let now = Moment { mono: Instant::now(), wall: SystemTime::now() };
        let (report, waiting, start) = (ended.clone(), tickets.clone(), now.mono);
        let handler = move |req: &mut Request<'_>| -> Action {
            let (report, path) = (report.clone(), req.path().to_owned());
            req.on_end(move |end| {
                let second = end.now.mono.duration_since(start).as_secs();
                report.lock().expect("whole").push(End { path, second, reason: end.reason });
            });
            answer(req, &waiting)
        };
        let setup = Setup {
            handler: Box::new(handler),
            listeners: Vec::new(),
            admission: Arc::new(Admission::new(&limits)),
            limits,
            access_log: None,
            versions: Versions::default(),
            hand_off: None,
        };
        let engine = Engine::new(setup, now).expect("a loop");
        let (requests, responses) = connect(&engine, room);
        let (requests, partial, frames) = (Some(requests), Vec::new(), Vec::new());
        let mut client = Self { engine, tickets, requests, responses, start, now, ended, partial, frames };
        client.send(PREFACE);
        client.send(&frame(frame::SETTINGS, 0, 0, &[&[0, 4], &window.to_be_bytes()[..]].concat()));
        client
    }

    pub(in crate::engine::http2) fn send(&mut self, bytes: &[u8]) {
        assert_eq!(self.requests.as_mut().expect("open").write(bytes), bytes.len(), "room in the pipe");
    }

    pub(super) fn half_close(&mut self) {
        self.requests.take().expect("open").finish(None);
    }

    /// Has the server do what there is to do, and reads at most so many bytes.
    pub(in crate::engine::http2) fn go(&mut self, mut most: usize) {
        for rounds in 0.. {
            assert!(rounds < 5000, "the loop spins");
            self.engine.poll(Some(Duration::ZERO)).expect("polled");
            let due = self.engine.turn(self.now);
            let bytes = self.responses.bytes();
            let n = bytes.len().min(most);
            self.partial.extend_from_slice(&bytes[..n]);
            self.responses.consume(n);
            most -= n;
            self.take_frames();
            if n == 0 && !self.engine.is_due(due) {
                break;
            }
        }
    }

    fn take_frames(&mut self) {
        let mut rest = &self.partial[..];
        while let Some(head) = Head::parse(rest)
            && let Some(payload) = rest.get(frame::HEAD..frame::HEAD + head.len)
        {
            let n = if head.kind == frame::WINDOW_UPDATE { frame::number(payload) as usize } else { head.len };
            self.frames.push(Frame { kind: head.kind, stream: head.stream, n });
            rest = &rest[frame::HEAD + head.len..];
        }
        let taken = self.partial.len() - rest.len();
        self.partial.drain(..taken);
    }

    /// Lets seconds pass, and reads at most so many bytes in each.
    pub(in crate::engine::http2) fn pass(&mut self, seconds: u64, most: usize) {
        for _ in 0..seconds {
            self.now.mono += Duration::from_secs(1);
            self.now.wall += Duration::from_secs(1);
            self.go(most);
        }
    }

    /// Returns how many seconds have passed.
    pub(super) fn seconds(&self) -> u64 {
        self.now.mono.duration_since(self.start).as_secs()
    }

    /// Returns how the requests have ended that have.
    pub(in crate::engine::http2) fn ends(&self) -> Vec<End> {
        self.ended.lock().expect("whole").clone()
    }

    pub(in crate::engine::http2) fn reasons(&self) -> Vec<EndReason> {
        self.ends().iter().map(|end| end.reason).collect()
    }

    /// Returns the number of frames of a kind that have come.
    pub(in crate::engine::http2) fn count(&self, kind: u8) -> usize {
        self.frames.iter().filter(|frame| frame.kind == kind).count()
    }

    /// Returns the bytes of DATA that have come, or those of increments of a window.
    pub(super) fn sum(&self, kind: u8, stream: u32) -> usize {
        self.frames.iter().filter(|frame| (frame.kind, frame.stream) == (kind, stream)).map(|frame| frame.n).sum()
    }
}

pub(in crate::engine::http2) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32).to_be_bytes()[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

pub(in crate::engine::http2) fn ping() -> Vec<u8> {
    frame(frame::PING, 0, 0, &[0; 8])
}

pub(super) fn window_update(stream: u32, n: u32) -> Vec<u8> {
    frame(frame::WINDOW_UPDATE, 0, stream, &n.to_be_bytes())
}

/// Returns the head of a request. GET and CONNECT, for another protocol, have no body.
pub(in crate::engine::http2) fn request(stream: u32, method: &str, path: &str) -> Vec<u8> {
    let fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "localhost")];
    let protocol = (method == "CONNECT").then_some((":protocol", &path[1..]));
    let literal = |(name, value): (&str, &str)| {
        [&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
    };
    let block: Vec<u8> = fields.into_iter().chain(protocol).flat_map(literal).collect();
    let ended = if matches!(method, "GET" | "CONNECT") { frame::END_STREAM } else { 0 };
    frame(frame::HEADERS, frame::END_HEADERS | ended, stream, &block)
}
