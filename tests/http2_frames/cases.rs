//! A case: the frames that a client sends, and what must come.

use std::{
    io::Read,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use uncork::{Action, Limits, Request, Response, Running, Server, Ticket};

use crate::peer::{ACK, DATA, Frame, GOAWAY, HEADERS, PING, PROTOCOL_ERROR, Peer, RST_STREAM, SETTINGS, frame};

/// What must come after the frames of a case.
#[derive(Clone, Debug)]
pub(crate) enum Want {
    /// A connection error: GOAWAY with one of these codes, and the end of the connection.
    Goaway(&'static [u32]),
    /// A stream error: RST_STREAM with one of these codes. Other streams go on.
    Reset(u32, &'static [u32]),
    /// A malformed request (§8.1.1): RST_STREAM with PROTOCOL_ERROR.
    Malformed(u32),
    /// A whole response with this status.
    Status(u32, u16),
    /// The end of the connection, with whatever before it.
    Closed,
    /// SETTINGS with ACK.
    SettingsAck,
    /// Nothing: the connection goes on.
    Alive,
    /// DATA of this length first on the stream.
    FirstData(u32, usize),
}

pub(crate) struct Case {
    /// The section of RFC 9113, or of RFC 7541 in the file `hpack`.
    pub(crate) section: &'static str,
    pub(crate) what: &'static str,
    pub(crate) own_settings: &'static [(u16, u32)],
    /// The bytes are all that is sent: no preface before them.
    pub(crate) raw: bool,
    pub(crate) sent: Vec<u8>,
    pub(crate) want: Want,
}

pub(crate) fn case(section: &'static str, what: &'static str, sent: impl Into<Vec<u8>>, want: Want) -> Case {
    Case { section, what, own_settings: &[], raw: false, sent: sent.into(), want }
}

/// The number of requests at the same time that the server allows.
pub(crate) const STREAMS: u32 = 20;

pub(crate) struct TestServer {
    pub(crate) addr: SocketAddr,
    running: Option<Running>,
}

impl TestServer {
    pub(crate) fn start() -> Self {
        let waiting = Arc::new(Mutex::new(Vec::<Ticket>::new()));
        let handler = move |req: &mut Request<'_>| -> Action {
            match req.path() {
                "/wait" => {
                    waiting.lock().expect("no panic").push(req.ticket());
                    Action::Suspend
                }
                "/length" => Action::receive_whole(1 << 20, |body| Response::text(body.len().to_string())),
                "/large" => Response::text(vec![b'x'; 100_000]).into(),
                _ => Response::text("ok").into(),
            }
        };
        let limits = Limits { streams: STREAMS, ..Limits::default() };
        let server = Server::bind("127.0.0.1:0").expect("bound").limits(limits);
        let running = server.threads(1, handler).expect("running");
        Self { addr: running.local_addr().expect("an address"), running: Some(running) }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            let ended = running.stop_now();
            assert!(std::thread::panicking() || ended.is_ok(), "the server has panicked");
        }
    }
}

/// Runs the cases, and fails with all that do not hold.
pub(crate) fn run(cases: Vec<Case>) {
    let server = TestServer::start();
    let mut wrong = Vec::new();
    let count = cases.len();
    for case in cases {
        if let Err(got) = judge(&server, &case) {
            wrong.push(format!("§{} {}: {:?}, but {got}", case.section, case.what, case.want));
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}

fn judge(server: &TestServer, case: &Case) -> Result<(), String> {
    let mut peer = match case.raw {
        true => Peer::silent(server.addr),
        false => Peer::with(server.addr, case.own_settings),
    };
    // The server may close while it is sent.
    let _ = peer.try_send(&case.sent);
    if matches!(case.want, Want::Closed) {
        let mut rest = Vec::new();
        return peer.tcp().read_to_end(&mut rest).map(drop).or_else(|error| match error.kind() {
            std::io::ErrorKind::ConnectionReset => Ok(()),
            _ => Err(error.to_string()),
        });
    }
    let _ = peer.try_send(frame(PING, 0, 0, *b"the end."));
    let mut seen = Vec::new();
    let mut pings = 0;
    loop {
        // A response may come some time after the frames. Everything else comes before the response to a second PING:
        // streams are driven when all frames that have arrived were taken.
        let pinged = pings == 2;
        let waits = !pinged || matches!(case.want, Want::Status(..));
        if !waits {
            return Err(format!("received {seen:?}"));
        }
        let Some(frame) = peer.within(std::time::Duration::from_secs(3)).map_err(|_| format!("only {seen:?}"))? else {
            return Err(format!("the end after {seen:?}"));
        };
        if frame.kind == PING && frame.flags & ACK != 0 && frame.payload == b"the end." {
            pings += 1;
            if pings == 1 {
                let _ = peer.try_send(self::frame(PING, 0, 0, *b"the end."));
            }
        }
        seen.push(summary(&frame));
        let malformed =
            Want::Reset(if let Want::Malformed(stream) = case.want { stream } else { 0 }, &[PROTOCOL_ERROR]);
        let want = if matches!(case.want, Want::Malformed(_)) { &malformed } else { &case.want };
        match want {
            Want::Goaway(codes) if frame.kind == GOAWAY => {
                return match (codes.contains(&frame.code()), peer.ends()) {
                    (true, true) => Ok(()),
                    (false, _) => Err(format!("received {seen:?}")),
                    (true, false) => Err("the connection does not end".to_owned()),
                };
            }
            Want::Reset(stream, codes) if frame.kind == RST_STREAM && frame.stream == *stream => {
                return match codes.contains(&frame.code()) {
                    true => lives_on(&mut peer),
                    false => Err(format!("received {seen:?}")),
                };
            }
            Want::Status(stream, status) if frame.kind == HEADERS && frame.stream == *stream => {
                let got = frame.status();
                let mut ended = frame.ends();
                while !ended {
                    let Some(next) = peer.next() else { return Err("the response is truncated".to_owned()) };
                    ended = next.stream == *stream && next.ends();
                    if next.kind == RST_STREAM && next.stream == *stream {
                        return Err("the response is reset".to_owned());
                    }
                }
                return if got == *status { Ok(()) } else { Err(format!("received {got}")) };
            }
            Want::FirstData(stream, n) if frame.kind == DATA && frame.stream == *stream => {
                return if frame.payload.len() == *n { Ok(()) } else { Err(format!("received {seen:?}")) };
            }
            Want::SettingsAck if frame.kind == SETTINGS && frame.flags & ACK != 0 => return Ok(()),
            Want::Alive if pings == 2 => return Ok(()),
            Want::Alive if matches!(frame.kind, GOAWAY | RST_STREAM) => return Err(format!("received {seen:?}")),
            _ if frame.kind == GOAWAY => return Err(format!("received {seen:?}")),
            _ => {}
        }
    }
}

/// After a stream error the connection serves other streams.
fn lives_on(peer: &mut Peer) -> Result<(), String> {
    let _ = peer.try_send(frame(PING, 0, 0, *b"goes on?"));
    loop {
        match peer.next() {
            Some(frame) if frame.kind == PING && frame.payload == b"goes on?" => return Ok(()),
            Some(frame) if frame.kind == GOAWAY => return Err("the connection ends, too".to_owned()),
            Some(_) => {}
            None => return Err("the connection ends, too".to_owned()),
        }
    }
}

fn summary(frame: &Frame) -> String {
    match frame.kind {
        GOAWAY => format!("GOAWAY({})", frame.code()),
        RST_STREAM => format!("RST_STREAM({}, {})", frame.stream, frame.code()),
        HEADERS => format!("HEADERS({}, {})", frame.stream, frame.status()),
        kind => format!("{kind}({})", frame.stream),
    }
}
