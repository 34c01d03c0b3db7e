//! Compatibility with another implementation, as its server and as its client.

use std::{
    net::{TcpListener, TcpStream},
    sync::mpsc::{Receiver, Sender as ReportSender, channel},
    time::Duration,
};

use tungstenite::{Message as Theirs, WebSocket, protocol::CloseFrame, protocol::frame::coding::CloseCode};
use uncork::{
    Action, Request, Response, Running, Server, TlsClient,
    client::{self, Client},
    h1::Headers,
    ws::{self, CloseCause, Closed, Deflate, Done, Handler, HandshakeError, Message, Offer, Sender},
};

use crate::{
    peer::{PLAIN, echo},
    wire::TIMEOUT,
    world::{Host, Mode, World, bytes, identity, report_channel},
};

fn connect(host: &Host) -> WebSocket<TcpStream> {
    let tcp = TcpStream::connect(host.addr()).expect("connected");
    tcp.set_read_timeout(Some(TIMEOUT)).expect("set");
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
    let response = socket.read().expect("read");
    let Theirs::Close(Some(response)) = response else { panic!("{response:?}") };
    assert_eq!(u16::from(response.code), 4000);
    assert!(matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)));
    let end = closed.next();
    assert_eq!((end.code, end.reason.as_str(), end.cause), (4000, "bye", CloseCause::PeerClosed));
}

// Our client, as an application uses it: called by `client`, then used as a WebSocket.

/// A report of our client's handler.
#[derive(Debug, PartialEq, Eq)]
enum Report {
    Message(Vec<u8>),
    Pong(Vec<u8>),
    Closed(u16, CloseCause),
}

struct Reporter(ReportSender<Report>);

impl Handler for Reporter {
    fn message(&mut self, message: Message<'_>, _: Done) {
        let _ = self.0.send(Report::Message(message.bytes().into()));
    }

    fn pong(&mut self, payload: &[u8]) {
        let _ = self.0.send(Report::Pong(payload.into()));
    }

    fn closed(&mut self, closed: &Closed) {
        let _ = self.0.send(Report::Closed(closed.code, closed.cause));
    }
}

/// Our end of a WebSocket.
struct Ours {
    sender: Sender,
    reports: Receiver<Report>,
    loops: Option<Running>,
}

impl Drop for Ours {
    fn drop(&mut self) {
        if let Some(loops) = self.loops.take() {
            loops.stop_now().expect("ended normally");
        }
    }
}

fn client() -> Client {
    Client::builder().tls(TlsClient::roots_pem(identity().cert.as_bytes()).expect("a root")).build()
}

/// Opens a WebSocket at this URL.
fn open(url: &str, offer: Offer) -> Result<Ours, HandshakeError> {
    let loops = Server::new().threads(1, |_: &mut Request<'_>| Response::new(404)).expect("running");
    let ((report, reports), (give, opened)) = (channel(), channel());
    let call = client::Request::get(url).upgrade_with(&offer.headers()).timeout(TIMEOUT);
    client().send(&loops.loops()[0], call, move |response| {
        let response = response.expect("a response");
        let opened = offer.accept(response.status(), response.headers(), Reporter(report));
        let sender = opened.map(|(upgrade, sender)| {
            response.switch(upgrade);
            sender
        });
        give.send(sender).expect("a receiver");
    });
    match opened.recv_timeout(TIMEOUT).expect("a response") {
        Ok(sender) => Ok(Ours { sender, reports, loops: Some(loops) }),
        Err(error) => {
            loops.stop_now().expect("ended normally");
            Err(error)
        }
    }
}

impl Ours {
    /// Returns the next report.
    #[track_caller]
    fn next(&self) -> Report {
        self.reports.recv_timeout(TIMEOUT).expect("a report")
    }
}

/// Our client, and a server of the other implementation.
fn ours_and_theirs(offer: Offer) -> (Ours, WebSocket<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let theirs = std::thread::spawn(move || {
        let (tcp, _) = listener.accept().expect("accepted");
        tcp.set_read_timeout(Some(TIMEOUT)).expect("set");
        tungstenite::accept(tcp).expect("a handshake")
    });
    let ours = open(&url, offer).expect("a valid response");
    (ours, theirs.join().expect("no panic"))
}

#[test]
fn our_client_with_their_server() {
    let (ours, mut socket) = ours_and_theirs(Offer::new().expect("random numbers"));
    let (sender, next) = (&ours.sender, || ours.next());
    for n in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
        sender.binary(&bytes(n)).expect("room");
        let got = socket.read().expect("a masked message");
        assert!(got == Theirs::binary(bytes(n)), "{n}");
        socket.send(got).expect("sent");
        assert!(next() == Report::Message(bytes(n)), "{n}");
    }
    sender.text("κόσμε").expect("room");
    assert_eq!(socket.read().expect("read"), Theirs::text("κόσμε"));
    sender.ping(b"1").expect("room");
    assert_eq!(socket.read().expect("read"), Theirs::Ping("1".into()));
    socket.flush().expect("it responds by itself");
    assert_eq!(next(), Report::Pong(b"1".into()));
    socket.send(Theirs::Ping("2".into())).expect("sent");
    assert_eq!(socket.read().expect("read"), Theirs::Pong("2".into()));
    sender.close(1000, "done");
    let close = socket.read().expect("read");
    let Theirs::Close(Some(close)) = close else { panic!("{close:?}") };
    assert_eq!((u16::from(close.code), close.reason.as_str()), (1000, "done"));
    // It responds, and ends the stream first, as a server does.
    assert!(matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)));
    drop(socket);
    assert_eq!(next(), Report::Closed(1000, CloseCause::LocalClosed));
}

#[test]
fn their_server_closes_first() {
    let (ours, mut socket) = ours_and_theirs(Offer::new().expect("random numbers"));
    ours.sender.text("first").expect("room");
    assert_eq!(socket.read().expect("read"), Theirs::text("first"));
    socket.close(Some(CloseFrame { code: CloseCode::Away, reason: "".into() })).expect("sent");
    assert!(matches!(socket.read().expect("read"), Theirs::Close(Some(close)) if close.code == CloseCode::Away));
    assert!(matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)));
    assert!(ours.reports.recv_timeout(Duration::from_millis(50)).is_err(), "a client waits for the stream's end");
    drop(socket);
    assert_eq!(ours.next(), Report::Closed(1001, CloseCause::PeerClosed));
}

#[test]
fn our_client_with_our_server_compressed() {
    let both = Deflate::new().keep_own_context(true).keep_peer_context(true);
    for world in [PLAIN, World::tls(Mode::External)] {
        let (report, closed) = report_channel();
        let server = world.serve(move |req: &mut Request<'_>| -> Action {
            let Ok(accept) = ws::check(req) else { return Action::Abort };
            assert_eq!(accept.protocols().collect::<Vec<_>>(), ["a", "b"]);
            let echo = crate::peer::Echo { sender: None, report: report.clone() };
            accept.deflate(both).protocol("b").switch(echo).0.into()
        });
        let url = format!("{}://localhost:{}/", if world.tls { "https" } else { "http" }, server.addr().port());
        for deflate in [Deflate::new(), both, both.own_window(9).peer_window(10)] {
            let offer = Offer::new().expect("random numbers").deflate(deflate);
            let offer = offer.protocol("a").and_then(|offer| offer.protocol("b")).expect("tokens");
            let ours = open(&url, offer).expect("a valid response");
            // Compression is slow in debug builds.
            for n in [1, 100, 5000, 20_000] {
                let message = bytes(n);
                for _ in 0..3 {
                    ours.sender.binary(&message).expect("room");
                    assert!(ours.next() == Report::Message(message.clone()), "{n}");
                }
            }
            ours.sender.close(1000, "");
            assert_eq!(ours.next(), Report::Closed(1000, CloseCause::LocalClosed));
            assert_eq!(closed.next().cause, CloseCause::PeerClosed);
        }
    }
}

/// Bytes after the response in the same segment belong to the WebSocket.
#[test]
fn a_server_that_sends_at_once() {
    let server = PLAIN.serve(|req: &mut Request<'_>| -> Action {
        let Ok(accept) = ws::check(req) else { return Action::Abort };
        let (switch, sender) = accept.switch(|_: Message<'_>, _: Done| {});
        sender.text("first").and_then(|()| sender.text("second")).expect("room");
        sender.close(4000, "done");
        switch.into()
    });
    let ours = open(&format!("http://{}/", server.addr()), Offer::new().expect("random numbers")).expect("opened");
    assert_eq!(ours.next(), Report::Message(b"first".to_vec()));
    assert_eq!(ours.next(), Report::Message(b"second".to_vec()));
    assert_eq!(ours.next(), Report::Closed(4000, CloseCause::PeerClosed));
}

#[test]
fn a_response_that_opens_nothing() {
    use HandshakeError as E;
    let ignore = |_: Message<'_>, _: Done| {};
    let offer = || Offer::new().map(|offer| offer.protocol("chat").expect("a token")).expect("random numbers");
    // The response to a key is not known in advance, so our own server's rules make it.
    let (host, _closed) = echo(&PLAIN);
    let url = format!("http://{}/", host.addr());
    let loops = Server::new().threads(1, |_: &mut Request<'_>| Response::new(404)).expect("running");
    let accept_of = |offer: &Offer| {
        let (give, responded) = channel();
        client().send(&loops.loops()[0], client::Request::get(&url).upgrade_with(&offer.headers()), move |response| {
            let response = response.expect("a response");
            give.send(response.headers().clone()).expect("a receiver");
        });
        responded.recv_timeout(TIMEOUT).expect("a response")
    };
    let good = |change: &dyn Fn(&mut Headers)| {
        let offer = offer();
        let mut fields = accept_of(&offer);
        change(&mut fields);
        offer.accept(101, &fields, ignore).err()
    };
    let set = |name: &'static str, value: &'static str| {
        move |fields: &mut Headers| fields.insert(name, value).expect("a valid field")
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
    assert_eq!(status.map(|error| error.to_string()).as_deref(), Some("expected status 101, received 200"));
    // A rejection has its reason, and the connection can be used again.
    let rejecting = PLAIN.serve(|req: &mut Request<'_>| match ws::check_from(req, |_| false) {
        Ok(_) => Response::new(500),
        Err(refusal) => refusal,
    });
    let rejecting_url = format!("http://{}/", rejecting.addr());
    assert_eq!(open(&rejecting_url, offer()).err(), Some(E::Status(403)));
    let client = client();
    for _ in 0..2 {
        let whole = client
            .call_blocking(client::Request::get(&rejecting_url).upgrade_with(&offer().headers()))
            .expect("a response");
        assert_eq!((whole.status, &whole.body[..]), (403, &b"a WebSocket may not be opened from this origin\n"[..]));
        assert_eq!(client.idle_connections(), 1);
    }
    loops.stop_now().expect("ended normally");
}
