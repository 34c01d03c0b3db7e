//! A proxy program of spdy-proxy, made of frames from [`spdy_peer`](super::spdy_peer), and our origin server that
//! dials it; then both ends of ours, over SPDY.

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, OnceLock, mpsc::channel},
    time::Duration,
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use uncork::{
    Action, EndReason, Produced, Request, Response, TlsClient, Tx,
    relay::tunnel::{ProxyConfig, Tunnel},
};

use super::{
    client::PATIENCE,
    dug::{Dug, MODES, Mode, tunnel},
    origin::site,
    site::bytes,
    spdy_peer::{
        ESTABLISHED, GOAWAY, HEADERS, PING, Peer, RST_STREAM, SYN_REPLY, SYN_STREAM, WINDOW_UPDATE, Zlib, control,
        data, hello, legacy, words,
    },
    world::World,
};

/// The proxy's certificate, for `localhost`.
struct Identity {
    config: Arc<ServerConfig>,
    pem: String,
}

fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let chain = vec![CertificateDer::from(made.cert.der().to_vec())];
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).expect("a pair");
        Identity { config: Arc::new(config), pem: made.cert.pem() }
    })
}

/// The listener of a proxy program of spdy-proxy.
struct LegacyListener(TcpListener);

/// A proxy program of spdy-proxy, with its origin server.
struct LegacyProxy {
    stream: StreamOwned<ServerConnection, TcpStream>,
    /// Received, but not read by the test.
    rest: Vec<u8>,
    zlib: Zlib,
    newest: u32,
}

impl LegacyListener {
    fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").expect("bound"))
    }

    fn port(&self) -> u16 {
        self.0.local_addr().expect("bound").port()
    }

    /// A tunnel to it that trusts its certificate.
    fn tunnel(&self) -> Tunnel {
        Tunnel::dial(&format!("localhost:{}", self.port()))
            .tls(TlsClient::roots_pem(identity().pem.as_bytes()).expect("a root"))
            .backoff(Duration::from_millis(20))
            .allow_legacy_unauthenticated()
    }

    fn accept(&self) -> LegacyProxy {
        let (socket, _) = self.0.accept().expect("a connection");
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        socket.set_nodelay(true).expect("set");
        let conn = ServerConnection::new(identity().config.clone()).expect("TLS");
        let mut origin =
            LegacyProxy { stream: StreamOwned::new(conn, socket), rest: Vec::new(), zlib: Zlib::new(), newest: 0 };
        let put = hello(&format!("localhost:{}", self.port()));
        assert_eq!(String::from_utf8_lossy(&origin.exactly(put.len()).expect("a handshake")), put);
        assert_eq!(origin.stream.conn.alpn_protocol(), None);
        origin.send(ESTABLISHED);
        origin
    }
}

impl Peer for LegacyProxy {
    const FORBIDDEN: &'static [u16] = &[SYN_STREAM, HEADERS];

    fn exactly(&mut self, n: usize) -> std::io::Result<Vec<u8>> {
        let mut bytes = std::mem::take(&mut self.rest);
        let kept = bytes.len();
        bytes.resize(n.max(kept), 0);
        self.stream.read_exact(&mut bytes[kept..])?;
        self.rest = bytes.split_off(n);
        Ok(bytes)
    }
}

impl LegacyProxy {
    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
        self.stream.flush().expect("flushed");
    }

    /// Returns `true` if nothing is received for `time`; received bytes are kept.
    fn is_silent(&mut self, time: Duration) -> bool {
        if !self.rest.is_empty() {
            return false;
        }
        self.stream.sock.set_read_timeout(Some(time)).expect("set");
        let mut byte = [0; 1];
        let silent = match self.stream.read(&mut byte) {
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            Ok(n) => {
                self.rest.extend_from_slice(&byte[..n]);
                false
            }
        };
        self.stream.sock.set_read_timeout(Some(PATIENCE)).expect("set");
        silent
    }

    /// Sends a request as spdy-proxy does: it does not name the client's host.
    fn ask(&mut self, method: &str, path: &str, fields: &[(&str, &str)], fin: bool) -> u32 {
        self.newest += if self.newest == 0 { 1 } else { 2 };
        let start = [
            (":method", method),
            (":path", path),
            (":version", "HTTP/1.1"),
            (":host", "localhost:1443"),
            (":scheme", "https"),
        ];
        let all: Vec<(&str, &str)> = start.into_iter().chain(fields.iter().copied()).collect();
        let block = self.zlib.block(&all);
        let payload = [&words(&[self.newest, 0])[..], &[0, 0], &block].concat();
        self.send(&control(SYN_STREAM, u8::from(fin), &payload));
        self.newest
    }

    #[track_caller]
    fn reply(&mut self, stream: u32) -> Vec<(String, String)> {
        let frame = self.expect(SYN_REPLY);
        assert_eq!((frame.number(0), frame.fin), (stream, false));
        self.zlib.fields(&frame.payload[4..])
    }

    fn pass(&mut self, stream: u32, n: usize) {
        let n = u32::try_from(n).expect("a window");
        self.send(&control(WINDOW_UPDATE, 0, &words(&[stream, n])));
        self.send(&control(WINDOW_UPDATE, 0, &words(&[0, n])));
    }

    /// The rest of a response; each frame is passed on when it arrives.
    #[track_caller]
    fn body(&mut self, stream: u32) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let frame = self.expect(0);
            assert_eq!(frame.stream, stream);
            assert_eq!(frame.fin, frame.payload.is_empty(), "spdy-proxy ends with an empty frame");
            if frame.fin {
                return body;
            }
            self.pass(stream, frame.payload.len());
            body.extend(frame.payload);
        }
    }

    #[track_caller]
    fn get(&mut self, path: &str) -> (Vec<(String, String)>, Vec<u8>) {
        let stream = self.ask("GET", path, &[], true);
        (self.reply(stream), self.body(stream))
    }
}

fn has(fields: &[(String, String)], name: &str) -> Option<String> {
    fields.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())
}

#[test]
fn an_original_is_served_in_each_mode() {
    for mode in MODES {
        let door = LegacyListener::new();
        let _dug = Dug::new(door.tunnel(), mode, site);
        let mut proxy = door.accept();
        let (fields, body) = proxy.get("/who");
        assert_eq!(has(&fields, ":status").as_deref(), Some("200 OK"));
        assert_eq!(has(&fields, ":version").as_deref(), Some("HTTP/1.1"));
        assert_eq!(String::from_utf8_lossy(&body), "Some(127.0.0.1) Some(\"localhost:1443\")");
        assert!(["connection", "transfer-encoding", "keep-alive"].iter().all(|name| has(&fields, name).is_none()));
        let (_, body) = proxy.get("/big");
        assert!(body == bytes(3_000_000));
        // HEAD ends with an empty frame, too.
        let stream = proxy.ask("HEAD", "/who", &[], true);
        let fields = proxy.reply(stream);
        assert!(has(&fields, "content-length").is_some());
        assert_eq!(proxy.body(stream), b"");
        proxy.send(&control(PING, 0, &words(&[7])));
        assert_eq!(proxy.expect(PING).number(0), 7);
    }
}

/// spdy-proxy passes a client's own fields on unchanged; a handler that trusts them must not be deceived.
#[test]
fn a_client_is_not_believed_about_itself() {
    let door = LegacyListener::new();
    let _dug = Dug::new(door.tunnel(), Mode::Threads, site);
    let mut proxy = door.accept();
    let lies =
        [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.1"), ("x_real_ip", "192.0.2.1"), ("x-a", "b")];
    let stream = proxy.ask("GET", "/fields", &lies, true);
    proxy.reply(stream);
    let fields = String::from_utf8(proxy.body(stream)).expect("text");
    assert!(fields.contains("x-a: b\n") && !fields.contains("192.0.2.1"), "{fields}");
    let stream = proxy.ask("GET", "/who", &lies, true);
    proxy.reply(stream);
    assert!(String::from_utf8(proxy.body(stream)).expect("text").starts_with("Some(127.0.0.1)"));
}

#[test]
fn bodies_come_as_the_window_has_it() {
    let door = LegacyListener::new();
    let _dug = Dug::new(door.tunnel(), Mode::Threads, site);
    let mut proxy = door.accept();
    let sent = bytes(200_000);
    for length in [Some("200000"), None] {
        let fields: Vec<(&str, &str)> = length.map(|n| ("content-length", n)).into_iter().collect();
        let stream = proxy.ask("POST", "/echo", &fields, false);
        let (mut at, mut window) = (0, 65_536);
        while at < sent.len() {
            let n = 10_000.min(sent.len() - at);
            while window < n {
                let frame = proxy.expect(WINDOW_UPDATE);
                if frame.number(0) == stream {
                    window += frame.number(4) as usize;
                }
            }
            proxy.send(&data(stream, at + n == sent.len(), &sent[at..at + n]));
            (at, window) = (at + n, window - n);
        }
        proxy.reply(stream);
        assert!(proxy.body(stream) == sent);
    }
}

/// spdy-proxy drops a response of which a sixth frame arrives before it has passed one on.
#[test]
fn five_frames_are_on_the_way_at_most() {
    let door = LegacyListener::new();
    let _dug = Dug::new(door.tunnel(), Mode::Threads, site);
    let mut proxy = door.accept();
    let stream = proxy.ask("GET", "/stream", &[], true);
    proxy.reply(stream);
    let (mut flight, mut got) = (std::collections::VecDeque::new(), Vec::new());
    let mut most = 0;
    loop {
        // Everything that it sends without a window update; then one frame is passed on.
        while !proxy.is_silent(Duration::from_millis(20)) {
            let frame = proxy.expect(0);
            if frame.fin {
                assert!(got == bytes(700_000));
                assert!(most > 1, "one at a time is not what a window is for");
                return;
            }
            flight.push_back(frame.payload.len());
            got.extend(frame.payload);
            most = most.max(flight.len());
            assert!(most <= 5 && flight.iter().sum::<usize>() <= 65_536, "{flight:?}");
        }
        let first = flight.pop_front().expect("something is on the way");
        proxy.pass(stream, first);
    }
}

#[test]
fn a_client_that_is_gone_is_told_to_the_handler() {
    let (tell, told) = channel();
    // It never responds.
    let tickets = Arc::new(Mutex::new(Vec::new()));
    let kept = tickets.clone();
    let door = LegacyListener::new();
    let _dug = Dug::new(door.tunnel(), Mode::Threads, move |req: &mut Request<'_>| {
        let tell = tell.clone();
        req.on_end(move |end| {
            let _ = tell.send(end.reason);
        });
        if req.path() == "/pause" {
            return Response::stream(|_: &mut Tx<'_>| Produced::Pending).into();
        }
        kept.lock().expect("no panic").push(req.ticket());
        Action::Suspend
    });
    let mut proxy = door.accept();
    // While the response pauses.
    let stream = proxy.ask("GET", "/pause", &[], true);
    proxy.reply(stream);
    proxy.send(&control(RST_STREAM, 0, &words(&[stream, 5])));
    assert!(matches!(told.recv_timeout(PATIENCE), Ok(EndReason::PeerClosed)));
    let stream = proxy.ask("GET", "/", &[], true);
    let other = proxy.ask("GET", "/", &[], true);
    proxy.send(&control(RST_STREAM, 0, &words(&[stream, 5])));
    assert!(matches!(told.recv_timeout(PATIENCE), Ok(EndReason::PeerClosed)));
    assert!(told.try_recv().is_err(), "the other one waits");
    assert_eq!((other, tickets.lock().expect("no panic").len()), (5, 2));
}

#[test]
fn a_proxy_that_is_lost_is_dialled_again() {
    let door = LegacyListener::new();
    let dug = Dug::new(door.tunnel(), Mode::Threads, site);
    drop(door.accept());
    dug.hears("next attempt in");
    // One that goes away is left when everything is done.
    let mut proxy = door.accept();
    proxy.get("/who");
    proxy.send(&control(GOAWAY, 0, &words(&[0, 0])));
    assert!(proxy.next().is_err(), "it leaves");
    // A proxy that breaks a rule is left at once, with an error code.
    let mut proxy = door.accept();
    proxy.send(&data(99, false, b"x"));
    assert_eq!(proxy.expect(GOAWAY).number(4), 1);
    dug.hears("a stream that never existed");
    let mut proxy = door.accept();
    proxy.get("/who");
}

#[test]
fn what_makes_no_sense_costs_its_stream() {
    let door = LegacyListener::new();
    let _dug = Dug::new(door.tunnel(), Mode::Threads, site);
    let mut proxy = door.accept();
    type Fields<'a> = &'a [(&'a str, &'a str)];
    let wrong: [(&str, &str, Fields<'_>); 6] = [
        ("GET", "/a HTTP/1.1\r\nx: y", &[]),
        ("GET /", "/", &[]),
        ("CONNECT", "/", &[]),
        ("GET", "/", &[("x", "a\r\nTransfer-Encoding: chunked")]),
        ("POST", "/", &[("content-length", "1\x002")]),
        ("POST", "/", &[("content-length", "7")]),
    ];
    for (method, path, fields) in wrong {
        let stream = proxy.ask(method, path, fields, true);
        assert_eq!(proxy.expect(RST_STREAM).number(0), stream, "{method} {path} {fields:?}");
    }
    // More body than declared, which would be another request.
    let stream = proxy.ask("POST", "/echo", &[("content-length", "4")], false);
    proxy.send(&data(stream, true, b"bodyGET /who HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert_eq!(proxy.expect(RST_STREAM).number(0), stream);
    let hop = [("transfer-encoding", "chunked"), ("connection", "x-a"), ("upgrade", "websocket")];
    let stream = proxy.ask("GET", "/who", &hop, true);
    proxy.reply(stream);
    proxy.body(stream);
}

#[test]
fn whom_to_believe_is_still_said() {
    let door = LegacyListener::new();
    // Its certificate is not the trusted one.
    let wrong = Tunnel::dial(&format!("localhost:{}", door.port()))
        .tls(super::dug::trust())
        .backoff(Duration::from_millis(20))
        .allow_legacy_unauthenticated();
    let dug = Dug::new(wrong, Mode::Threads, site);
    let (socket, _) = door.0.accept().expect("a connection");
    let mut stream = StreamOwned::new(ServerConnection::new(identity().config.clone()).expect("TLS"), socket);
    stream.read_exact(&mut [0; 1]).expect_err("no handshake");
    dug.hears("next attempt in");
    // Neither token nor names are for it.
    let site = |req: &mut Request<'_>| site(req);
    assert!(door.tunnel().token("secret").threads(1, site).is_err());
    assert!(door.tunnel().host("app.example").threads(1, site).is_err());
}

/// Our code at both ends, over SPDY.
#[test]
fn both_ends_understand_each_other() {
    let world = World::with(ProxyConfig { name_timeout: Duration::from_millis(1), ..legacy() });
    let tunnel = Tunnel::dial(&format!("localhost:{}", world.origins.port()))
        .tls(super::dug::trust())
        .backoff(Duration::from_millis(20))
        .allow_legacy_unauthenticated();
    let dug = Dug::new(tunnel, Mode::Threads, site);
    dug.hears("connected");
    world.until("it is there", |counts| counts.connections == 1);
    let handles: Vec<_> = (0..8)
        .map(|n| {
            let mut client = if n % 2 == 0 { world.client() } else { world.secure_client() };
            std::thread::spawn(move || {
                for _ in 0..10 {
                    let sent = bytes(300_000);
                    client
                        .send("POST /echo HTTP/1.1\r\nHost: old.example\r\nContent-Length: 300000\r\n\r\n")
                        .send(&sent);
                    assert!(client.answer().assert(200).body == sent);
                    client.send("GET /who HTTP/1.1\r\nHost: old.example\r\n\r\n");
                    assert!(client.answer().text().contains("old.example"));
                }
            })
        })
        .collect();
    handles.into_iter().for_each(|thread| thread.join().expect("no panic"));
    world.until("all is done", |counts| counts.active == 0);
    // A tunnel by token has its own names beside it.
    let other = Dug::new(tunnel_of(&world), Mode::Threads, |_: &mut Request<'_>| Response::text("by token"));
    let other = other.stands(&world);
    let mut client = world.client();
    client.send("GET / HTTP/1.1\r\nHost: app.example\r\n\r\n");
    assert_eq!(client.answer().text(), "by token");
    drop(other);
}

fn tunnel_of(world: &World) -> Tunnel {
    tunnel(world.origins)
}
