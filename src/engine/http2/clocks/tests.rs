//! How long a silent client is waited for. The time is an argument.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use crate::{
    api::{Action, Consumed, PipeIn, PipeOut, Request, Response, Ticket, Upload, pipe},
    base::{EndReason, Limits, Moment, PeerAddr, Timeout},
    engine::{Admission, Engine, Setup, Versions},
    h1::Headers,
    h2::{
        PREFACE,
        frame::{self, Head},
    },
};

struct Taking;

impl Upload for Taking {
    fn data(&mut self, _: &[u8]) -> Consumed {
        Consumed::All
    }

    fn end(self: Box<Self>, _: &Headers) -> Action {
        Response::text("taken").into()
    }
}

/// A client that has sent its requests, and is silent.
struct Silent {
    engine: Engine<'static>,
    requests: PipeIn,
    responses: PipeOut,
    now: Moment,
    ended: Arc<Mutex<Vec<EndReason>>>,
    tickets: Arc<Mutex<Vec<Ticket>>>,
    /// Kinds of frames that the server has sent.
    frames: Vec<u8>,
}

/// Returns a literal field.
fn field(name: &str, value: &str) -> Vec<u8> {
    [&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream], payload].concat()
}

impl Silent {
    #[expect(clippy::disallowed_methods, reason = "any time will do to begin with")]
    fn after(requests: &[(&str, &str)]) -> Self {
        let minutes = Duration::from_secs(300);
        let limits = Limits { body_timeout: minutes, send_timeout: minutes, ..Limits::default() };
        let (ended, tickets) = (Arc::<Mutex<Vec<EndReason>>>::default(), Arc::<Mutex<Vec<Ticket>>>::default());
        let (report, waiting) = (ended.clone(), tickets.clone());
        let handler = move |req: &mut Request<'_>| -> Action {
            let report = report.clone();
            req.on_end(move |end| report.lock().expect("whole").push(end.reason));
            match req.path() {
                "/upload" => Action::Receive(Box::new(Taking)),
                "/large" => Response::new(200).body(vec![b'x'; 1 << 20]).into(),
                _ => {
                    waiting.lock().expect("whole").push(req.ticket());
                    Action::Suspend
                }
            }
        };
        let now = Moment { mono: Instant::now(), wall: SystemTime::now() };
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
        let ((mut input, from_client), (to_client, responses)) = (pipe(32 * 1024), pipe(32 * 1024));
        let peer = PeerAddr::tcp((Ipv4Addr::LOCALHOST, 1).into());
        assert!(engine.handle().adopt_pipes(peer, from_client, to_client, 0).is_ok());
        let mut sent = [PREFACE, &frame(frame::SETTINGS, 0, 0, &[])].concat();
        for (n, (method, path)) in requests.iter().enumerate() {
            let block = [
                field(":method", method),
                field(":scheme", "http"),
                field(":path", path),
                field(":authority", "localhost"),
            ];
            let flags = frame::END_HEADERS | if *method == "GET" { frame::END_STREAM } else { 0 };
            sent.extend(frame(frame::HEADERS, flags, 2 * n as u8 + 1, &block.concat()));
        }
        assert_eq!(input.write(&sent), sent.len());
        let mut silent = Self { engine, requests: input, responses, now, ended, tickets, frames: Vec::new() };
        silent.pass(Duration::ZERO);
        silent
    }

    /// Lets that time pass, second by second. Returns how the requests have ended.
    fn pass(&mut self, time: Duration) -> Vec<EndReason> {
        for _ in 0..=time.as_secs() {
            for rounds in 0.. {
                assert!(rounds < 1000, "the loop spins");
                self.engine.poll(Some(Duration::ZERO)).expect("polled");
                let due = self.engine.turn(self.now);
                let bytes = self.responses.bytes();
                let n = bytes.len();
                self.frames.extend(kinds(bytes));
                self.responses.consume(n);
                if n == 0 && !self.engine.is_due(due) {
                    break;
                }
            }
            if !time.is_zero() {
                self.now.mono += Duration::from_secs(1);
                self.now.wall += Duration::from_secs(1);
            }
        }
        self.ended.lock().expect("whole").clone()
    }
}

/// Returns the kinds of the frames, as far as they are whole.
fn kinds(mut bytes: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let Some(head) = Head::parse(bytes) {
        kinds.push(head.kind);
        bytes = bytes.get(frame::HEAD + head.len..).unwrap_or_default();
    }
    kinds
}

#[test]
fn a_silent_client_whose_request_waits_for_the_application_is_asked_and_given_up() {
    let mut client = Silent::after(&[("GET", "/waits")]);
    assert_eq!(client.pass(Duration::from_secs(58)), []);
    assert!(!client.frames.contains(&frame::PING));
    assert_eq!(client.pass(Duration::from_secs(15)), []);
    assert!(client.frames.contains(&frame::PING));
    assert_eq!(client.pass(Duration::from_secs(10)), [EndReason::PeerClosed]);
}

#[test]
fn an_idle_connection_ends_whatever_comes_beside_requests() {
    let ping = frame(frame::PING, 0, 0, &[0; 8]);
    for cut in [0, 5, 12] {
        for requests in [&[][..], &[("GET", "/unknown")]] {
            let mut client = Silent::after(requests);
            client.tickets.lock().expect("whole").clear();
            for _ in 0..11 {
                for part in [&ping[..cut], &ping[cut..]] {
                    assert!(!client.engine.is_vacant());
                    assert_eq!(client.requests.write(part), part.len());
                    client.pass(Duration::from_secs(1));
                }
            }
            // 44 s.
            client.pass(Duration::from_secs(10));
            assert!(!client.engine.is_vacant(), "cut at {cut}");
            client.requests.write(&ping[..cut]);
            client.pass(Duration::from_secs(2));
            client.requests.write(&ping[cut..]);
            client.pass(Duration::from_secs(12));
            assert!(client.engine.is_vacant(), "cut at {cut}");
        }
    }
}

/// A laptop may sleep for as long as over HTTP/1.1.
#[test]
fn a_silent_client_has_the_time_of_its_body_and_of_its_response() {
    for (request, timeout) in [(("POST", "/upload"), Timeout::Body), (("GET", "/large"), Timeout::Send)] {
        let mut client = Silent::after(&[request]);
        assert_eq!(client.pass(Duration::from_secs(295)), [], "{request:?}");
        assert_eq!(client.pass(Duration::from_secs(10)), [EndReason::TimedOut(timeout)], "{request:?}");
        // Beside it, no other request keeps the client longer.
        let mut client = Silent::after(&[request, ("GET", "/waits")]);
        assert_eq!(client.pass(Duration::from_secs(295)), [], "{request:?}");
        let ends = client.pass(Duration::from_secs(10));
        assert_eq!(ends, [EndReason::TimedOut(timeout), EndReason::PeerClosed], "{request:?}");
    }
}
