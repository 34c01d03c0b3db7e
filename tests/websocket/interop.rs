//! Understood by an implementation that is not ours, as its server and as its client.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Mutex,
        mpsc::{Sender as Tell, channel},
    },
    time::Duration,
};

use tungstenite::{Message as Theirs, WebSocket, protocol::CloseFrame, protocol::frame::coding::CloseCode};
use uncork::{
    Action, EventMask, Io, Request, Switch, Upgrade,
    h1::Headers,
    ws::{Closed, Done, HandshakeError, How, Message, Offer, Sender, Speaker},
};

use crate::{
    peer::{PLAIN, echo},
    wire::{PATIENCE, UPGRADE},
    world::{Host, bytes, telling},
};

fn connect(host: &Host) -> WebSocket<TcpStream> {
    let tcp = TcpStream::connect(host.addr()).expect("connected");
    tcp.set_read_timeout(Some(PATIENCE)).expect("set");
    tungstenite::client("ws://localhost/", tcp).expect("a handshake").0
}

#[test]
fn their_client_with_our_server() {
    let (host, closed) = echo(&PLAIN);
    let mut socket = connect(&host);
    for n in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
        let binary = Theirs::binary(bytes(n));
        socket.send(binary.clone()).expect("sent");
        assert!(socket.read().expect("read") == binary, "{n}");
    }
    let text = Theirs::text("κόσμε ".repeat(10_000));
    socket.send(text.clone()).expect("sent");
    assert!(socket.read().expect("read") == text);
    socket.send(Theirs::Ping("ping".into())).expect("sent");
    assert_eq!(socket.read().expect("read"), Theirs::Pong("ping".into()));
    let close = CloseFrame { code: CloseCode::Library(4000), reason: "bye".into() };
    socket.close(Some(close)).expect("sent");
    let answer = socket.read().expect("read");
    let Theirs::Close(Some(answer)) = answer else { panic!("{answer:?}") };
    assert_eq!(u16::from(answer.code), 4000);
    assert!(matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)));
    let why = closed.next();
    assert_eq!((why.code, why.reason.as_str(), why.how), (4000, "bye", How::PeerClosed));
}

// Our client. The stream its upgrade speaks on is that of an uncork server, whose bytes are carried on to theirs.

/// What our client's speaker tells.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Message(Vec<u8>),
    Pong(Vec<u8>),
    Closed(u16, How),
}

struct Listener(Tell<Heard>);

impl Speaker for Listener {
    fn message(&mut self, message: Message<'_>, _: Done) {
        let _ = self.0.send(Heard::Message(message.bytes().into()));
    }

    fn pong(&mut self, payload: &[u8]) {
        let _ = self.0.send(Heard::Pong(payload.into()));
    }

    fn closed(&mut self, why: &Closed) {
        let _ = self.0.send(Heard::Closed(why.code, why.how));
    }
}

/// An answer's head, and not a byte more: what is behind it is for others.
fn head(mut tcp: &TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        tcp.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("text")
}

/// Sends the handshake; the answer's status and fields.
fn handshake(tcp: &TcpStream, offer: &Offer) -> (u16, Headers) {
    let fields: String = offer
        .headers()
        .iter()
        .map(|(name, value)| format!("{name}: {}\r\n", std::str::from_utf8(value).expect("text")))
        .collect();
    (&*tcp).write_all(format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n").as_bytes()).expect("sent");
    let head = head(tcp);
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.get(9..12)).and_then(|code| code.parse().ok()).expect("a status");
    let mut fields = Headers::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        fields.append(name, value).expect("a good field");
    }
    (status, fields)
}

/// Carries bytes over, one way, and the end behind them.
fn carry(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}

/// Lets an upgrade speak on a stream.
fn speak(upgrade: Box<dyn Upgrade>, on: TcpStream) -> Host {
    let slot = std::sync::Arc::new(Mutex::new(Some(upgrade)));
    let host = PLAIN.serve(move |req: &mut Request<'_>| -> Action {
        assert!(req.wants_upgrade("test"));
        let mut upgrade = slot.lock().expect("no panic").take().expect("once");
        Switch::to("test", move |io: &mut Io<'_>| -> EventMask { upgrade.ready(io) }).into()
    });
    let tcp = TcpStream::connect(host.addr()).expect("connected");
    (&tcp).write_all(UPGRADE.as_bytes()).expect("sent");
    assert!(head(&tcp).starts_with("HTTP/1.1 101 "));
    carry(tcp.try_clone().expect("another"), on.try_clone().expect("another"));
    carry(on, tcp);
    host
}

fn our_client(offer: Offer) -> (WebSocket<TcpStream>, Host, Sender, std::sync::mpsc::Receiver<Heard>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let tcp = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
    let theirs = std::thread::spawn(move || {
        let (tcp, _) = listener.accept().expect("accepted");
        tcp.set_read_timeout(Some(PATIENCE)).expect("set");
        tungstenite::accept(tcp).expect("a handshake")
    });
    let (status, fields) = handshake(&tcp, &offer);
    let (tell, heard) = channel();
    let (upgrade, sender) = offer.accept(status, &fields, Listener(tell)).expect("all that the RFC asks for");
    let host = speak(upgrade, tcp);
    (theirs.join().expect("no panic"), host, sender, heard)
}

#[test]
fn our_client_with_their_server() {
    let (mut socket, _host, sender, heard) = our_client(Offer::new().expect("random numbers"));
    let next = || heard.recv_timeout(PATIENCE).expect("heard");
    for n in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
        sender.binary(&bytes(n)).expect("room");
        let got = socket.read().expect("masked as it should be");
        assert!(got == Theirs::binary(bytes(n)), "{n}");
        socket.send(got).expect("sent");
        assert!(next() == Heard::Message(bytes(n)), "{n}");
    }
    sender.text("κόσμε").expect("room");
    assert_eq!(socket.read().expect("read"), Theirs::text("κόσμε"));
    sender.ping(b"1").expect("room");
    assert_eq!(socket.read().expect("read"), Theirs::Ping("1".into()));
    socket.flush().expect("it answers by itself");
    assert_eq!(next(), Heard::Pong(b"1".into()));
    socket.send(Theirs::Ping("2".into())).expect("sent");
    assert_eq!(socket.read().expect("read"), Theirs::Pong("2".into()));
    sender.close(1000, "done");
    let close = socket.read().expect("read");
    let Theirs::Close(Some(close)) = close else { panic!("{close:?}") };
    assert_eq!((u16::from(close.code), close.reason.as_str()), (1000, "done"));
    // It answers, and as the server ends the stream first.
    assert!(matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)));
    drop(socket);
    assert_eq!(next(), Heard::Closed(1000, How::WeClosed));
}

#[test]
fn their_server_closes_first() {
    let (mut socket, _host, sender, heard) = our_client(Offer::new().expect("random numbers"));
    sender.text("first").expect("room");
    assert_eq!(socket.read().expect("read"), Theirs::text("first"));
    socket.close(Some(CloseFrame { code: CloseCode::Away, reason: "".into() })).expect("sent");
    assert!(matches!(socket.read().expect("read"), Theirs::Close(Some(close)) if close.code == CloseCode::Away));
    assert!(matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)));
    assert!(heard.recv_timeout(Duration::from_millis(50)).is_err(), "a client waits for the stream's end");
    drop(socket);
    assert_eq!(heard.recv_timeout(PATIENCE).expect("heard"), Heard::Closed(1001, How::PeerClosed));
}

#[test]
fn our_client_with_our_server_compressed() {
    use uncork::ws::{self, Deflate};
    let (tell, closed) = telling();
    let both = Deflate::new().keep_own_context(true).keep_peer_context(true);
    let server = PLAIN.serve(move |req: &mut Request<'_>| -> Action {
        let Ok(accept) = ws::check(req) else { return Action::Abort };
        let echo = crate::peer::Echo { sender: None, tell: tell.clone() };
        accept.deflate(both).protocol("b").switch(echo).0.into()
    });
    for ours in [Deflate::new(), both, both.own_window(9).peer_window(10)] {
        let offer = Offer::new().expect("random numbers").deflate(ours);
        let offer = offer.protocol("a").and_then(|offer| offer.protocol("b")).expect("tokens");
        let tcp = TcpStream::connect(server.addr()).expect("connected");
        let (status, fields) = handshake(&tcp, &offer);
        assert_eq!(fields.get("sec-websocket-protocol"), Some(&b"b"[..]));
        assert!(fields.get("sec-websocket-extensions").is_some());
        let (tell, heard) = channel();
        let (upgrade, sender) = offer.accept(status, &fields, Listener(tell)).expect("a good answer");
        let _host = speak(upgrade, tcp);
        for n in [1, 100, 5000, 100_000] {
            let message = bytes(n);
            for _ in 0..3 {
                sender.binary(&message).expect("room");
                assert!(heard.recv_timeout(PATIENCE).expect("heard") == Heard::Message(message.clone()), "{n}");
            }
        }
        sender.close(1000, "");
        assert_eq!(heard.recv_timeout(PATIENCE).expect("heard"), Heard::Closed(1000, How::WeClosed));
        assert_eq!(closed.next().how, How::PeerClosed);
    }
}

#[test]
fn an_answer_that_opens_nothing() {
    use HandshakeError as E;
    let ignore = |_: Message<'_>, _: Done| {};
    let offer = || Offer::new().map(|offer| offer.protocol("chat").expect("a token")).expect("random numbers");
    // The answer to a key can't be known before; so an answer is made by our own server's rules.
    let accept_of = |offer: &Offer| {
        let (host, _closed) = echo(&PLAIN);
        let tcp = TcpStream::connect(host.addr()).expect("connected");
        handshake(&tcp, offer).1
    };
    let good = |change: &dyn Fn(&mut Headers)| {
        let offer = offer();
        let mut fields = accept_of(&offer);
        change(&mut fields);
        offer.accept(101, &fields, ignore).err()
    };
    let set = |name: &'static str, value: &'static str| {
        move |fields: &mut Headers| fields.insert(name, value).expect("a good field")
    };
    assert_eq!(good(&|_| {}), None);
    assert_eq!(good(&set("Upgrade", "h2c")), Some(E::Upgrade));
    assert_eq!(good(&|fields| fields.remove("upgrade")), Some(E::Upgrade));
    assert_eq!(good(&set("Upgrade", "WebSocket")), None);
    assert_eq!(good(&set("Connection", "close")), Some(E::Connection));
    assert_eq!(good(&set("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")), Some(E::Key));
    assert_eq!(good(&|fields| fields.remove("sec-websocket-accept")), Some(E::Key));
    assert_eq!(good(&set("Sec-WebSocket-Protocol", "chat")), None);
    assert_eq!(good(&set("Sec-WebSocket-Protocol", "Chat")), Some(E::Protocol));
    assert_eq!(good(&set("Sec-WebSocket-Protocol", "chat, mqtt")), Some(E::Protocol));
    assert_eq!(good(&set("Sec-WebSocket-Extensions", "permessage-deflate")), Some(E::Extension));
    let status = offer().accept(200, &Headers::new(), ignore).err();
    assert_eq!(status, Some(E::Status(200)));
    assert_eq!(status.map(|error| error.to_string()).as_deref(), Some("the server answers 200, not 101"));
}
