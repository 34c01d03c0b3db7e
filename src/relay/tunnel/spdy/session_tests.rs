use super::{
    super::frame::Piece,
    receive::{EVENTS, OUTPUT},
    *,
};
use crate::relay::tunnel::spdy::{deflater::Deflater, stream::WINDOW};
use uncork::h1::Headers;

const GET: &[(&str, &str)] =
    &[(":method", "GET"), (":path", "/"), (":version", "HTTP/1.1"), (":host", "localhost:1443"), (":scheme", "https")];

fn request(method: &str) -> RequestHead {
    let (path, host, scheme) = ("/".into(), "localhost:1443".into(), "https".into());
    RequestHead { method: method.into(), path, host, scheme, fields: Headers::new() }
}

fn ok() -> ReplyHead {
    ReplyHead { status: 200, fields: Headers::new() }
}

/// A spdy-proxy at the other end of the wire: writes frames, and records what is sent to it.
struct Peer {
    session: Session,
    deflater: Deflater,
}

impl Peer {
    fn of(role: Role) -> Self {
        Self { session: Session::new(role, 4), deflater: Deflater::new(9) }
    }

    /// Returns the events that some bytes cause.
    fn feed(&mut self, bytes: &[u8]) -> Vec<Event> {
        assert_eq!(self.session.handle_input(bytes), Ok(bytes.len()));
        self.events()
    }

    fn fault(&mut self, bytes: &[u8]) -> &'static str {
        self.session.handle_input(bytes).expect_err("a rule is broken").rule
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.session.poll_event()).collect()
    }

    fn syn_stream(&mut self, stream: u32, end: bool, text: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        write::syn_stream(&mut out, stream, end, |out| out.extend(self.deflater.block(text)));
        out
    }

    fn syn_reply(&mut self, stream: u32, end: bool, text: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        write::syn_reply(&mut out, stream, end, |out| out.extend(self.deflater.block(text)));
        out
    }

    /// Returns the frames sent since the last call, without the content of header blocks.
    fn sent(&mut self) -> Vec<String> {
        let output = self.session.output().to_vec();
        self.session.consume(output.len());
        let (mut decoder, mut all, mut rest) = (Decoder::new(), Vec::new(), &output[..]);
        while let Some(piece) = decoder.next(&mut rest).unwrap() {
            match piece {
                Piece::Block { .. } => {}
                Piece::Data { bytes, .. } => assert!(!bytes.is_empty()),
                Piece::DataHead { stream, len, fin } => {
                    all.push(format!("data {stream} {len}{}", if fin { " fin" } else { "" }));
                }
                Piece::Syn { syn, stream, fin } => {
                    all.push(format!("{syn:?} {stream}{}", if fin { " fin" } else { "" }));
                }
                Piece::Reset { stream, code } => all.push(format!("reset {stream} {}", code.0)),
                Piece::Ping { id } => all.push(format!("ping {id}")),
                Piece::GoAway { last } => all.push(format!("goaway {last}")),
                Piece::WindowUpdate { stream, delta } => all.push(format!("window {stream} {delta}")),
            }
        }
        all
    }
}

fn data(stream: u32, bytes: &[u8], end: bool) -> Vec<u8> {
    let mut out = Vec::new();
    write::data(&mut out, stream, end, bytes);
    out
}

fn window(stream: u32, delta: u32) -> Vec<u8> {
    let mut out = Vec::new();
    write::window_update(&mut out, stream, delta);
    out
}

fn reset(stream: u32) -> Vec<u8> {
    let mut out = Vec::new();
    write::reset(&mut out, stream, Code::CANCEL);
    out
}

fn frame(f: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    f(&mut out);
    out
}

#[test]
fn a_request_and_its_reply_at_the_proxy() {
    let mut peer = Peer::of(Role::Client);
    assert_eq!(peer.session.open(&request("POST"), false), Ok(1));
    assert_eq!(peer.session.data(1, b"hello", true), (5, true));
    assert_eq!(peer.session.open(&request("GET"), true), Ok(3));
    assert_eq!(
        peer.sent(),
        ["Stream { unidirectional: false } 1", "data 1 5 fin", "Stream { unidirectional: false } 3 fin"]
    );
    let wire = peer.syn_reply(1, false, &[(":status", "200 OK"), (":version", "HTTP/1.1"), ("content-length", "2")]);
    let [Event::Replied { stream: 1, head, end: false }] = &peer.feed(&wire)[..] else { panic!() };
    assert_eq!((head.status, head.fields.len()), (200, 1));
    assert_eq!(peer.feed(&data(1, b"hi", false)), [Event::Data { stream: 1, bytes: b"hi".into(), end: false }]);
    peer.session.release(1, 2);
    assert_eq!(peer.sent(), ["window 1 2", "window 0 2"], "like spdy-proxy: for the stream and for 0");
    assert_eq!(peer.feed(&data(1, b"", true)), [Event::Data { stream: 1, bytes: Vec::new(), end: true }]);
    assert_eq!(peer.session.streams(), 1, "the other one");
}

#[test]
fn a_request_and_its_reply_at_the_origin_server() {
    let mut peer = Peer::of(Role::Server);
    let wire = peer.syn_stream(1, false, GET);
    let [Event::Opened { stream: 1, head, end: false }] = &peer.feed(&wire)[..] else { panic!() };
    assert_eq!(*head, request("GET"));
    assert_eq!(peer.feed(&data(1, b"hello", true)), [Event::Data { stream: 1, bytes: b"hello".into(), end: true }]);
    assert_eq!(peer.session.data(1, b"early", false), (0, false), "nothing goes before the reply");
    assert!(peer.session.reply(1, &ok(), false) && !peer.session.reply(1, &ok(), false), "once");
    assert_eq!(peer.session.data(1, b"hi", true), (2, true));
    assert_eq!(peer.sent(), ["Reply 1", "data 1 2", "data 1 0 fin"], "an origin server ends with an empty frame");
    assert_eq!(peer.session.streams(), 1, "its body is not read yet");
    peer.session.release(1, 5);
    assert_eq!((peer.sent(), peer.session.streams()), (vec!["window 0 5".to_owned()], 0));
}

/// The proxy of spdy-proxy drops a response if a sixth frame arrives before it has forwarded any.
#[test]
fn an_origin_server_has_at_most_five_frames_in_flight() {
    let mut peer = Peer::of(Role::Server);
    let wire = peer.syn_stream(1, true, GET);
    peer.feed(&wire);
    peer.session.reply(1, &ok(), false);
    for n in 1..=6 {
        assert_eq!(peer.session.data(1, &vec![0; n], false), if n < 6 { (n, false) } else { (0, false) });
    }
    assert_eq!(peer.sent().len(), 6);
    assert_eq!(peer.feed(&window(0, 1)), [], "for another stream");
    assert_eq!(peer.feed(&window(1, 1)), [Event::Writable { stream: 1 }]);
    assert_eq!(peer.session.data(1, &[0; 7], true), (7, false), "the last one waits");
    assert_eq!(peer.sent(), ["data 1 7"]);
    assert_eq!(peer.feed(&window(1, 1)), [], "half of the second frame");
    assert_eq!(peer.feed(&window(1, 1)), [Event::Writable { stream: 1 }]);
    assert_eq!(peer.session.data(1, &[], true), (0, true));
    assert_eq!(peer.sent(), ["data 1 0 fin"]);
    assert_eq!(peer.session.streams(), 0);
}

#[test]
fn a_proxy_sends_as_much_as_the_window_allows() {
    let mut peer = Peer::of(Role::Client);
    assert_eq!(peer.session.open(&request("POST"), false), Ok(1));
    assert_eq!(peer.session.data(1, &[0; 70_000], true), (WINDOW as usize, false));
    assert_eq!(peer.sent()[1..], ["data 1 32768", "data 1 32768"]);
    assert_eq!(peer.feed(&window(1, 3)), [Event::Writable { stream: 1 }]);
    assert_eq!(peer.session.data(1, &[0; 4464], true), (3, false));
    assert_eq!(peer.feed(&window(1, 10_000)), [Event::Writable { stream: 1 }]);
    assert_eq!(peer.session.data(1, &[0; 4461], true), (4461, true));
    assert_eq!(peer.sent(), ["data 1 3", "data 1 4461 fin"]);
    assert_eq!(peer.feed(&window(1, 0x7fff_0000)), [], "no data waits");
    assert_eq!(peer.feed(&window(1, 0x7fff_0000)), [Event::Reset { stream: 1, code: Code::FLOW_CONTROL_ERROR }]);
    assert_eq!(peer.sent(), ["reset 1 7"]);
}

/// Each case affects its own stream only.
#[test]
fn a_broken_rule_of_a_stream_ends_the_stream() {
    let status = (":status", "200 OK");
    type Wire = fn(&mut Peer) -> Vec<u8>;
    #[rustfmt::skip]
    let rows: [(&str, Wire, u32); 8] = [
        ("data before the reply", |_| data(1, b"x", false), 1),
        ("no status", |peer| peer.syn_reply(1, false, &[]), 1),
        ("a status of 100", |peer| peer.syn_reply(1, false, &[(":status", "100")]), 1),
        ("a value in two lines", |peer| peer.syn_reply(1, false, &[(":status", "200"), ("x", "a\r\nb: c")]), 1),
        ("too large", |peer| peer.syn_reply(1, false, &[("x", &"x".repeat(100_000))]), 11),
        ("a length, and no body", |peer| peer.syn_reply(1, true, &[(":status", "200"), ("content-length", "1")]), 1),
        ("two lengths", |peer| peer.syn_reply(1, false, &[(":status", "200"), ("content-length", "1\x002")]), 1),
        ("HEADERS before the reply", |peer| {
            let mut wire = peer.syn_reply(1, true, &[]);
            wire[3] = 8;
            wire
        }, 1),
    ];
    for (name, wire, code) in rows {
        let mut peer = Peer::of(Role::Client);
        assert_eq!(
            (peer.session.open(&request("GET"), true), peer.session.open(&request("GET"), true)),
            (Ok(1), Ok(3))
        );
        peer.sent();
        let wire = wire(&mut peer);
        assert_eq!(peer.feed(&wire), [Event::Reset { stream: 1, code: Code(code) }], "{name}");
        assert_eq!(peer.sent()[0], format!("reset 1 {code}"), "{name}");
        let wire = peer.syn_reply(3, true, &[status]);
        assert!(matches!(peer.feed(&wire)[..], [Event::Replied { stream: 3, end: true, .. }]), "{name}: and the other");
    }
    #[rustfmt::skip]
    let rows: [(&str, Vec<Vec<u8>>, u32); 7] = [
        ("more than its window", vec![data(1, &[0; 32768], false), data(1, &[0; 32769], false)], 7),
        ("more than its length", vec![data(1, &[0; 60_000], false), data(1, &[0; 10], false)], 1),
        ("less than its length", vec![data(1, &[0; 60_000], true)], 1),
        ("nothing of its length", vec![data(1, &[], true)], 1),
        ("a longer length in the frame's head", vec![data(1, &[0; 60_008], true)[..8].to_vec()], 1),
        ("a second reply", vec![], 8),
        ("data behind the end", vec![data(1, &[0; 60_001], true), data(1, &[0], false)], 9),
    ];
    for (name, wires, code) in rows {
        let mut peer = Peer::of(Role::Client);
        peer.session.open(&request("POST"), false).unwrap();
        let length = if code == 7 { ("x", "y") } else { ("content-length", "60001") };
        let mut wire = peer.syn_reply(1, false, &[status, length]);
        wire.extend(wires.concat());
        if wires.is_empty() {
            wire.extend(peer.syn_reply(1, false, &[status]));
        }
        peer.sent();
        let events = peer.feed(&wire);
        assert_eq!(events.last(), Some(&Event::Reset { stream: 1, code: Code(code) }), "{name}");
        assert!(peer.sent().contains(&format!("reset 1 {code}")), "{name}");
    }
}

#[test]
fn a_broken_rule_of_the_connection_ends_it() {
    type Wire = fn(&mut Peer) -> Vec<u8>;
    #[rustfmt::skip]
    let rows: [(Role, Wire, &str); 11] = [
        (Role::Client, |peer| peer.syn_stream(2, true, GET), "an origin server opened a stream"),
        (Role::Client, |peer| peer.syn_reply(3, true, GET), "a frame for a stream that never existed"),
        (Role::Client, |_| data(3, b"x", false), "a frame for a stream that never existed"),
        (Role::Client, |_| data(0, b"x", false), "a frame for a stream that never existed"),
        (Role::Client, |_| reset(2), "a frame for a stream that never existed"),
        (Role::Client, |_| window(3, 1), "a frame for a stream that never existed"),
        (Role::Server, |peer| peer.syn_reply(1, true, GET), "a reply to an origin server"),
        (Role::Server, |peer| peer.syn_stream(2, true, GET), "a stream number out of order"),
        (Role::Server, |peer| [peer.syn_stream(3, true, GET), peer.syn_stream(1, true, GET)].concat(),
            "a stream number out of order"),
        (Role::Server, |peer| [peer.syn_stream(3, true, GET), peer.syn_stream(3, true, GET)].concat(),
            "a stream number out of order"),
        (Role::Server, |_| b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), "a frame for a stream that never existed"),
    ];
    for (role, wire, rule) in rows {
        let mut peer = Peer::of(role);
        if role == Role::Client {
            peer.session.open(&request("GET"), true).unwrap();
            peer.sent();
        }
        let wire = wire(&mut peer);
        assert_eq!(peer.fault(&wire), rule);
        assert!(peer.sent().last().unwrap().starts_with("goaway"), "{rule}");
        assert_eq!((peer.fault(b""), peer.session.streams()), (rule, 0), "the fault remains");
        assert_eq!(peer.session.data(1, b"x", true), (1, true), "operations do nothing");
        assert_eq!(peer.session.open(&request("GET"), true), Err(OpenError::Closed));
    }
}

#[test]
fn replies_without_a_body_have_none() {
    for (method, status) in [("HEAD", "200 OK"), ("GET", "304 Not Modified"), ("GET", "204 No Content")] {
        let mut peer = Peer::of(Role::Client);
        peer.session.open(&request(method), true).unwrap();
        let wire = peer.syn_reply(1, false, &[(":status", status), ("content-length", "5")]);
        assert!(matches!(peer.feed(&wire)[..], [Event::Replied { end: false, .. }]));
        peer.sent();
        // Frames that an origin server sends all the same are ignored, and its window does not stop it.
        assert_eq!(peer.feed(&data(1, b"hello", false)), []);
        assert_eq!(peer.sent(), ["window 1 5", "window 0 5"]);
        assert_eq!(peer.feed(&data(1, b"", true)), [Event::Data { stream: 1, bytes: Vec::new(), end: true }]);
        assert_eq!(peer.session.streams(), 0);
    }
}

#[test]
fn pings_are_told_apart_by_their_parity() {
    let ping = |id| frame(|out| write::ping(out, id));
    let mut proxy = Peer::of(Role::Client);
    assert_eq!((proxy.feed(&ping(2)), proxy.sent()), (vec![], vec!["ping 2".to_owned()]));
    proxy.session.ping();
    proxy.session.ping();
    assert_eq!(proxy.sent(), ["ping 1", "ping 3"]);
    assert_eq!((proxy.feed(&ping(3)), proxy.sent()), (vec![Event::Pong], vec![]));
    let mut origin = Peer::of(Role::Server);
    origin.session.ping();
    assert_eq!(origin.sent(), ["ping 2"]);
    assert_eq!((origin.feed(&ping(2)), origin.sent()), (vec![Event::Pong], vec![]));
    assert_eq!((origin.feed(&ping(1)), origin.sent()), (vec![], vec!["ping 1".to_owned()]));
}

#[test]
fn goaway_excludes_the_newest_streams() {
    let mut peer = Peer::of(Role::Client);
    (0..3).for_each(|_| assert!(peer.session.open(&request("GET"), true).is_ok()));
    let refused = |stream| Event::Reset { stream, code: Code::REFUSED_STREAM };
    let goaway = frame(|out| write::goaway(out, 1, 0));
    assert_eq!(peer.feed(&goaway), [refused(3), refused(5), Event::GoAway]);
    assert_eq!(peer.session.open(&request("GET"), true), Err(OpenError::Closed));
    let wire = peer.syn_reply(1, true, &[(":status", "200")]);
    assert!(matches!(peer.feed(&wire)[..], [Event::Replied { stream: 1, .. }]), "an older stream goes on");

    let mut peer = Peer::of(Role::Server);
    let wire = peer.syn_stream(1, true, GET);
    peer.feed(&wire);
    peer.session.close();
    let wire = peer.syn_stream(3, true, GET);
    assert_eq!(peer.feed(&wire), []);
    assert_eq!(peer.sent(), ["goaway 1", "reset 3 3"]);
    assert!(peer.session.reply(1, &ok(), true));
}

#[test]
fn streams_are_counted() {
    let mut peer = Peer::of(Role::Server);
    for stream in [1, 3, 5, 7, 9] {
        let wire = peer.syn_stream(stream, true, GET);
        assert_eq!(peer.feed(&wire).len(), usize::from(stream < 9));
    }
    assert_eq!(peer.sent(), ["reset 9 3"]);
    peer.session.reset(3, Code::CANCEL);
    let wire = peer.syn_stream(11, true, GET);
    assert_eq!(peer.feed(&wire).len(), 1);
    let mut peer = Peer::of(Role::Client);
    for n in 0..5 {
        assert_eq!(peer.session.open(&request("GET"), true).is_ok(), n < 4);
    }
}

/// A proxy resets the streams of clients that disconnect, and must not lose the connection for that. (CVE-2023-44487 is
/// about unknown clients. Here a stream that was reset uses no memory.)
#[test]
fn any_number_of_streams_may_be_reset() {
    let mut peer = Peer::of(Role::Server);
    for n in 0..5000 {
        let stream = n * 2 + 1;
        let mut wire = peer.syn_stream(stream, true, GET);
        wire.extend(reset(stream));
        assert_eq!(peer.session.handle_input(&wire).unwrap(), wire.len());
        peer.events();
        let n = peer.session.output().len();
        peer.session.consume(n);
        assert_eq!(peer.session.streams(), 0);
    }
}

#[test]
fn a_peer_that_does_not_read_is_not_read() {
    let mut peer = Peer::of(Role::Server);
    let pings = frame(|out| (0..100_000).for_each(|_| write::ping(out, 1)));
    let mut taken = 0;
    while let Ok(n @ 1..) = peer.session.handle_input(&pings[taken..]) {
        taken += n;
    }
    assert!((OUTPUT..OUTPUT + 100).contains(&peer.session.output().len()));
    let n = peer.session.output().len();
    peer.session.consume(n);
    assert!(peer.session.handle_input(&pings[taken..]).unwrap() > 0, "input is taken again");

    let opened = |peer: &mut Peer| (0..100u32).flat_map(|n| peer.syn_stream(n * 2 + 1, true, GET)).collect::<Vec<u8>>();
    let mut peer = Peer { session: Session::new(Role::Server, 1000), deflater: Deflater::new(9) };
    let wire = opened(&mut peer);
    let n = peer.session.handle_input(&wire).unwrap();
    assert!(n < wire.len());
    assert_eq!(peer.events().len(), EVENTS);
    assert_eq!(peer.session.handle_input(&wire[n..]), Ok(wire.len() - n));
    assert_eq!(peer.events().len(), 100 - EVENTS);
}

/// Output has a limit for all streams together; those that wait for it go on when it is taken.
#[test]
fn streams_wait_for_output_to_be_taken() {
    let mut peer = Peer { session: Session::new(Role::Client, 100), deflater: Deflater::new(9) };
    let streams: Vec<u32> = (0..6).map(|_| peer.session.open(&request("POST"), false).unwrap()).collect();
    let short = |stream: &u32| peer.session.data(*stream, &[0; 65_536], false).0 < 65_536;
    assert_eq!(streams.iter().copied().filter(short).collect::<Vec<_>>(), [5, 7, 9, 11]);
    assert_eq!(peer.session.open(&request("GET"), true), Err(OpenError::Busy));
    assert!(peer.session.output().len() < MAX_OUTPUT + 33_000);
    assert_eq!(peer.events(), []);
    peer.session.consume(MAX_OUTPUT / 4);
    assert_eq!(peer.events(), []);
    peer.session.consume(MAX_OUTPUT / 2);
    assert_eq!(peer.events(), [5, 7, 9, 11].map(|stream| Event::Writable { stream }));
}

#[test]
fn a_stream_that_was_reset_has_no_more_events() {
    let mut peer = Peer::of(Role::Client);
    peer.session.open(&request("GET"), true).unwrap();
    let wire = peer.syn_reply(1, false, &[(":status", "200")]);
    peer.feed(&wire);
    peer.sent();
    let frame = data(1, &[0; 100], true);
    peer.session.handle_input(&frame[..50]).unwrap();
    peer.session.reset(1, Code::CANCEL);
    peer.session.reset(1, Code::CANCEL);
    assert_eq!(peer.feed(&frame[50..]), []);
    assert_eq!(peer.feed(&[data(1, &[0; 7], false), window(1, 1), reset(1)].concat()), []);
    let wire = peer.syn_reply(1, false, &[(":status", "200")]);
    assert_eq!(peer.feed(&wire), []);
    // A peer that counts a window of the connection gets it back.
    assert_eq!(peer.sent(), ["reset 1 5", "window 0 42", "window 0 58", "window 0 7"]);
}
