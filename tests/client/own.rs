//! Tests against uncork's own server, in all modes, plain and over TLS, also as a proxy between two of them.

use std::{
    io::{self, Read},
    sync::{
        Arc, OnceLock,
        mpsc::{Receiver, channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use uncork::{
    Action, EventMask, Handler, Io, Listen, LoopHandle, ReadState, Request, Response, Server, StopHandle, Switch, Tls,
    TlsClient,
    client::{self, Client, Error},
    pipe,
};

use crate::scripted::TIMEOUT;

#[derive(Clone, Copy, Debug)]
enum Mode {
    Threads,
    ThreadPerConnection,
    External,
}

struct Setup {
    mode: Mode,
    tls: bool,
}

const SETUPS: [Setup; 6] = [
    Setup { mode: Mode::Threads, tls: false },
    Setup { mode: Mode::Threads, tls: true },
    Setup { mode: Mode::ThreadPerConnection, tls: false },
    Setup { mode: Mode::ThreadPerConnection, tls: true },
    Setup { mode: Mode::External, tls: false },
    Setup { mode: Mode::External, tls: true },
];

/// A running server. Dropping it stops it.
struct TestServer {
    port: u16,
    tls: bool,
    stop_handle: StopHandle,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Setup {
    fn serve(&self, handler: impl Handler + Clone + Send + 'static) -> TestServer {
        let mut listen = Listen::tcp("127.0.0.1:0").expect("bound");
        if self.tls {
            listen = listen.tls(identity().0.clone());
        }
        let server = Server::new().listen(listen);
        let port = server.local_addr().expect("bound").port();
        let (stop_handle, thread) = match self.mode {
            Mode::Threads => joined(server.threads(2, handler).expect("running")),
            Mode::ThreadPerConnection => joined(server.thread_per_connection(handler).expect("running")),
            Mode::External => {
                let (sender, receiver) = channel();
                let thread = std::thread::spawn(move || {
                    let mut server = server.external(handler)?;
                    sender.send(server.stop_handle()).expect("a receiver");
                    while !server.is_done() {
                        let _ = server.wait(None)?;
                    }
                    Ok(())
                });
                (receiver.recv_timeout(TIMEOUT).expect("running"), thread)
            }
        };
        TestServer { port, tls: self.tls, stop_handle, thread: Some(thread) }
    }
}

fn joined(running: uncork::Running) -> (StopHandle, JoinHandle<io::Result<()>>) {
    (running.stop_handle(), std::thread::spawn(move || running.join()))
}

impl TestServer {
    fn url(&self, target: &str) -> String {
        format!("{}://localhost:{}{target}", if self.tls { "https" } else { "http" }, self.port)
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop_handle.stop_now();
        let result = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(result, Some(Ok(Ok(())))), "{result:?}");
    }
}

fn identity() -> &'static (Tls, TlsClient) {
    static IDENTITY: OnceLock<(Tls, TlsClient)> = OnceLock::new();
    IDENTITY.get_or_init(|| {
        let generated = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let (cert, key) = (generated.cert.pem(), generated.signing_key.serialize_pem());
        let server = Tls::pem_bytes(cert.as_bytes(), key.as_bytes()).expect("a certificate and its key");
        (server, TlsClient::roots_pem(cert.as_bytes()).expect("a root"))
    })
}

fn client() -> Client {
    Client::builder().tls(identity().1.clone()).build()
}

/// Sends the body back while it arrives.
fn echo(req: &mut Request<'_>) -> Action {
    if !req.has_body() {
        return Response::text(format!("{} {}\n", req.method(), req.target())).into();
    }
    let (inlet, outlet) = pipe(20_000);
    let response = Response::stream(outlet).length(req.content_length());
    req.ticket().respond(response).expect("a waiting client");
    Action::Receive(Box::new(inlet))
}

/// Forwards everything to another server, and its response back; holds at most one block in each direction.
fn proxy(client: Client, upstream: String) -> impl Handler + Clone + Send + 'static {
    move |req: &mut Request<'_>| {
        let mut request = client::Request::new(req.method(), &format!("{upstream}{}", req.target()));
        let upload = req.has_body().then(|| pipe(30_000));
        let action = match upload {
            None => Action::Suspend,
            Some((inlet, outlet)) => {
                request = request.stream(outlet, req.content_length());
                Action::Receive(Box::new(inlet))
            }
        };
        let ticket = req.ticket();
        client.send(&req.loop_handle(), request, move |result| {
            let response = match result {
                Ok(received) => {
                    let (status, length) = (received.status(), received.content_length());
                    Response::stream(received.pipe()).with_status(status).length(length)
                }
                Err(error) => Response::text(error.to_string()).with_status(502),
            };
            // The client may have disconnected.
            let _ = ticket.respond(response);
        });
        action
    }
}

/// Returns bytes with a long period.
fn bytes(from: usize, n: usize) -> Vec<u8> {
    (from..from + n).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

#[test]
fn through_a_proxy_and_back() {
    const SIZE: usize = 3 << 20;
    for setup in SETUPS {
        let server = setup.serve(echo);
        let middle = setup.serve(proxy(client(), server.url("")));
        let outer = client();
        for n in 0..3 {
            let url = middle.url(&format!("/{n}"));
            let response = outer.call_blocking(client::Request::get(&url)).expect("a response");
            assert_eq!(String::from_utf8(response.body).expect("text"), format!("GET /{n}\n"));
        }
        let response = outer.call_blocking(client::Request::new("HEAD", &middle.url("/"))).expect("a response");
        assert_eq!((response.status, &response.body[..]), (200, &b""[..]), "{:?}", setup.mode);
        for length in [None, Some(SIZE as u64)] {
            let (mut inlet, outlet) = pipe(10_000);
            let writer = std::thread::spawn(move || {
                let mut sent = 0;
                while sent < SIZE {
                    let block = bytes(sent, 4096.min(SIZE - sent));
                    let n = inlet.write(&block);
                    assert!(n > 0 || !inlet.is_closed(), "truncated");
                    if n == 0 {
                        std::thread::yield_now();
                    }
                    sent += n;
                }
                inlet.finish(None);
            });
            let request = client::Request::new("POST", &middle.url("/echo")).stream(outlet, length);
            let mut reader = outer.open_blocking(request).expect("a head");
            assert_eq!((reader.status(), reader.content_length()), (200, length));
            let mut back = Vec::new();
            reader.read_to_end(&mut back).expect("all of it");
            assert!(back == bytes(0, SIZE), "{:?}, TLS {}: {} bytes", setup.mode, setup.tls, back.len());
            writer.join().expect("written");
        }
        // A complete body, unchanged.
        let body = bytes(7, 300_000);
        let response = outer.call_blocking(client::Request::post(&middle.url("/"), body.clone())).expect("a response");
        assert!(response.body == body);
    }
}

#[test]
fn a_slow_receiver_slows_the_sender_through_everything() {
    /// Four hops, each with the system's buffers on both sides: up to 37 MB each.
    const MAX: u64 = 512 << 20;
    for setup in [&SETUPS[0], &SETUPS[3], &SETUPS[4]] {
        let server = setup.serve(echo);
        let middle = setup.serve(proxy(client(), server.url("")));
        let (mut inlet, outlet) = pipe(10_000);
        let counters = inlet.counters();
        let writer = std::thread::spawn(move || {
            let block = [7; 10_000];
            while !inlet.is_closed() && inlet.counters().written() < 2 * MAX {
                if inlet.write(&block) == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        let request = client::Request::new("POST", &middle.url("/")).stream(outlet, None).idle_timeout(TIMEOUT);
        let outer = client();
        let reader = outer.open_blocking(request).expect("a head");
        // Nothing is read, so the writer soon stops.
        let (mut before, mut unchanged) = (0, 0);
        while unchanged < 30 {
            std::thread::sleep(Duration::from_millis(10));
            let now = counters.written();
            unchanged = if now == before { unchanged + 1 } else { 0 };
            before = now;
        }
        assert!(before < MAX, "{:?}: {before} bytes without a reader", setup.mode);
        // The writer sees that the client has disconnected.
        drop(reader);
        writer.join().expect("ended");
    }
}

/// Sends the input back in capitals.
fn capitalize(io: &mut Io<'_>) -> EventMask {
    let capitals = io.rx.bytes().to_ascii_uppercase();
    let n = io.tx.write(&capitals);
    io.rx.consume(n);
    match io.rx.state() {
        ReadState::Open => EventMask::READ,
        _ => EventMask::TERMINATE,
    }
}

/// Sends a request, then `hello` on the stream that it switches to. Returns the received bytes, or the status.
fn switch(client: &Client, on: &LoopHandle, request: client::Request) -> Receiver<Result<Vec<u8>, u16>> {
    let (sender, result) = channel();
    client.send(on, request, move |result| {
        let response = result.expect("a response");
        if !response.is_switched() {
            return sender.send(Err(response.status())).expect("a receiver");
        }
        let mut sent = false;
        response.switch(move |io: &mut Io<'_>| {
            if !std::mem::replace(&mut sent, true) {
                io.tx.write(b"hello");
            }
            if io.rx.bytes().len() < 5 && io.rx.state() == ReadState::Open {
                return EventMask::READ;
            }
            sender.send(Ok(io.rx.bytes().to_vec())).expect("a receiver");
            EventMask::TERMINATE
        });
    });
    result
}

#[test]
fn streams_switch_to_another_protocol() {
    let handler = |req: &mut Request<'_>| -> Action {
        match req.method() {
            "CONNECT" => Switch::connect(capitalize).into(),
            _ if req.wants_upgrade("shout") => Switch::to("shout", capitalize).into(),
            _ => Response::new(426).header("Upgrade", "shout").into(),
        }
    };
    for setup in SETUPS {
        let server = setup.serve(handler);
        let loops = Server::new().threads(1, handler).expect("running");
        let (client, loop_handle) = (client(), loops.loops().remove(0));
        let wait = |request| switch(&client, &loop_handle, request).recv_timeout(TIMEOUT).expect("a result");
        assert_eq!(wait(client::Request::get(&server.url("/")).upgrade("shout")), Ok(b"HELLO".to_vec()));
        assert_eq!(wait(client::Request::get(&server.url("/")).upgrade("whisper")), Err(426));
        assert_eq!(wait(client::Request::new("CONNECT", &server.url("/"))), Ok(b"HELLO".to_vec()));
        loops.stop_now().expect("ended");
    }
}

#[test]
fn a_certificate_must_be_trusted() {
    let server = SETUPS[1].serve(echo);
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let untrusted = TlsClient::roots_pem(other.cert.pem().as_bytes()).expect("a root");
    let result = Client::builder().tls(untrusted).build().call_blocking(client::Request::get(&server.url("/")));
    assert!(matches!(result, Err(Error::Tls { .. })), "{result:?}");
    let result = client().call_blocking(client::Request::get(&server.url("/").replace("localhost", "127.0.0.1")));
    assert!(matches!(result, Err(Error::Tls { .. })), "{result:?}");
    // Plain HTTP on a TLS port, and the reverse.
    let plain = SETUPS[0].serve(echo);
    let result = client().call_blocking(client::Request::get(&plain.url("/").replace("http:", "https:")));
    assert!(matches!(result, Err(Error::Tls { .. })), "{result:?}");
    let result = client().call_blocking(client::Request::get(&server.url("/").replace("https:", "http:")));
    assert_eq!(result.map(|response| response.status), Ok(400));
}

/// Over TLS the end of a connection is not the end of a response: an attacker on the path can truncate it.
#[test]
fn a_response_that_ends_with_the_connection_needs_a_clean_end() {
    let generated = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(generated.signing_key.serialize_der()).expect("a key");
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    let config =
        Arc::new(config.with_single_cert(vec![generated.cert.der().clone()], key).expect("a certificate and its key"));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let url = format!("https://localhost:{}/", listener.local_addr().expect("bound").port());
    let server = std::thread::spawn(move || {
        for clean in [true, false] {
            let (mut tcp, _) = listener.accept().expect("a connection");
            tcp.set_read_timeout(Some(TIMEOUT)).expect("set");
            let mut tls = rustls::ServerConnection::new(config.clone()).expect("a connection");
            let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("a request");
                head.push(byte[0]);
            }
            io::Write::write_all(&mut stream, b"HTTP/1.0 200 OK\r\n\r\nhello").expect("sent");
            if clean {
                tls.send_close_notify();
                tls.write_tls(&mut tcp).expect("sent");
            }
        }
    });
    let client = Client::builder().tls(TlsClient::roots_pem(generated.cert.pem().as_bytes()).expect("a root")).build();
    let call = || client.call_blocking(client::Request::get(&url)).map(|response| response.body);
    assert_eq!(call(), Ok(b"hello".to_vec()));
    assert_eq!(call(), Err(Error::Incomplete { received: 5, expected: None }));
    server.join().expect("no panic");
}

#[test]
fn requests_from_many_threads() {
    let server = SETUPS[1].serve(echo);
    let (client, url) = (Arc::new(client()), server.url("/"));
    let threads: Vec<_> = (0..8)
        .map(|t| {
            let (client, url) = (client.clone(), url.clone());
            std::thread::spawn(move || {
                for n in 0..30 {
                    let body = bytes(t * 1000 + n, n * 997);
                    let response = client.call_blocking(client::Request::post(&url, body.clone())).expect("a response");
                    assert!(response.body == body, "{t} {n}");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    assert!(client.connections() <= 8);
}

/// A proxy asks its client for the body only when its server asks for it, however long that takes.
#[test]
fn the_body_is_asked_for_when_the_server_asks_for_it() {
    let setup = &SETUPS[0];
    // Takes the body of a PUT two seconds later, and rejects that of a POST at once.
    let upstream = setup.serve(|req: &mut Request<'_>| -> Action {
        if req.method() == "POST" {
            return Response::new(403).into();
        }
        let (ticket, reply) = (req.ticket(), req.ticket());
        req.loop_handle().after(Duration::from_secs(2), move |_| {
            let (inlet, outlet) = pipe(20_000);
            assert!(ticket.receive(inlet).is_ok());
            assert!(reply.respond(Response::stream(outlet)).is_ok());
        });
        Action::Suspend
    });
    for (method, body) in [("PUT", Some("hello")), ("POST", None)] {
        let (sender, receiver) = channel();
        let (inlet, outlet) = pipe(20_000);
        let request = client::Request::new(method, &upstream.url("/")).stream(outlet, Some(5)).on_continue(move || {
            let mut inlet = inlet;
            sender.send(inlet.write(b"hello")).expect("a receiver");
            inlet.finish(None);
        });
        let response = client().call_blocking(request).expect("a response");
        assert_eq!(
            (response.status == 200, String::from_utf8(response.body)),
            (body.is_some(), Ok(body.unwrap_or("").to_owned()))
        );
        assert_eq!(receiver.try_recv().ok(), body.map(str::len), "called once, or dropped");
    }
}

/// A server that may not know of `100 Continue` gets the body after a time.
#[test]
fn the_body_is_asked_for_after_a_time_without_a_100() {
    let setup = &SETUPS[0];
    // Takes the body two seconds later, and says so only then.
    let upstream = setup.serve(|req: &mut Request<'_>| -> Action {
        let (ticket, reply) = (req.ticket(), req.ticket());
        req.loop_handle().after(Duration::from_secs(2), move |_| {
            let (inlet, outlet) = pipe(20_000);
            assert!(ticket.receive(inlet).is_ok());
            assert!(reply.respond(Response::stream(outlet)).is_ok());
        });
        Action::Suspend
    });
    let (sender, receiver) = channel();
    let (inlet, outlet) = pipe(20_000);
    let request = client::Request::new("PUT", &upstream.url("/")).stream(outlet, Some(5)).on_continue(move || {
        let mut inlet = inlet;
        sender.send(inlet.write(b"hello")).expect("a receiver");
        inlet.finish(None);
    });
    let request = request.continue_timeout(Duration::from_millis(200));
    let call = std::thread::spawn(move || client().call_blocking(request).expect("a response"));
    assert_eq!(receiver.recv_timeout(Duration::from_millis(1500)), Ok(5), "before the server asks for it");
    assert_eq!(call.join().expect("no panic").body, b"hello");
    assert!(receiver.recv().is_err(), "called once");
}
