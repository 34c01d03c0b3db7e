//! A server that gives its listening sockets back: accepted connections continue, and another server accepts the next.

#![expect(clippy::disallowed_methods, reason = "a handler that blocks")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use uncork::{Listen, Request, Response, Server};

/// Each response must arrive within this time.
const TIMEOUT: Duration = Duration::from_secs(20);

fn responds_with(name: &'static str) -> impl Fn(&mut Request<'_>) -> Response + Clone + Send + 'static {
    move |_| Response::text(name)
}

fn connect(addr: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(addr).expect("connected");
    client.set_read_timeout(Some(TIMEOUT)).expect("set");
    client
}

fn send_request(client: &mut TcpStream) {
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("written");
}

/// Reads one response, and returns its body of one byte.
fn response(client: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).expect("a response");
        bytes.push(byte[0]);
    }
    let mut body = [0];
    client.read_exact(&mut body).expect("a body");
    char::from(body[0]).to_string()
}

fn successor(sockets: Vec<OwnedFd>) -> Server {
    sockets
        .into_iter()
        .fold(Server::new(), |server, socket| server.listen(Listen::inherited(socket).expect("it listens")))
}

/// Many clients, so that each socket of the old server has some in its queue.
fn takes_over(addr: SocketAddr, kept: &mut TcpStream, quiesce: impl FnOnce() -> Vec<OwnedFd>, sockets: usize) {
    let given = quiesce();
    assert_eq!(given.len(), sockets);
    let mut queued: Vec<TcpStream> = (0..32).map(|_| connect(addr)).collect();
    queued.iter_mut().for_each(send_request);
    let new = successor(given).threads(1, responds_with("b")).expect("running");
    for client in &mut queued {
        assert_eq!(response(client), "b");
    }
    send_request(kept);
    assert_eq!(response(kept), "a", "an accepted connection stays with the old server");
    new.stop_now().expect("stopped");
    assert!(TcpStream::connect(addr).is_err(), "nothing else listens there");
}

#[test]
fn loops_give_all_their_sockets() {
    let server = Server::bind("127.0.0.1:0").expect("bound").threads(3, responds_with("a")).expect("running");
    let addr = server.local_addr().expect("an address");
    let mut kept = connect(addr);
    send_request(&mut kept);
    assert_eq!(response(&mut kept), "a");
    // Where the system cannot distribute connections among sockets, the loops share one.
    takes_over(addr, &mut kept, || server.quiesce(), 3);
    assert!(server.quiesce().is_empty(), "no socket is left");
    server.stop_now().expect("stopped");
}

#[test]
fn a_shared_socket_is_given_once() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let addr = listener.local_addr().expect("an address");
    let server = Server::new().listen(Listen::none()).listen(Listen::inherited(listener).expect("it listens"));
    let server = server.threads(3, responds_with("a")).expect("running");
    let mut kept = connect(addr);
    send_request(&mut kept);
    assert_eq!(response(&mut kept), "a");
    takes_over(addr, &mut kept, || server.quiesce(), 1);
    server.stop_now().expect("stopped");
}

#[test]
fn with_a_thread_per_connection_a_handler_that_blocks_delays_nothing() {
    let released = Arc::new(AtomicBool::new(false));
    let gate = released.clone();
    let handler = move |req: &mut Request<'_>| {
        while req.path() == "/block" && !gate.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Response::text("a")
    };
    let server = Server::bind("127.0.0.1:0").expect("bound").thread_per_connection(handler).expect("running");
    let addr = server.local_addr().expect("an address");
    let (mut kept, mut blocked) = (connect(addr), connect(addr));
    send_request(&mut kept);
    assert_eq!(response(&mut kept), "a");
    blocked.write_all(b"GET /block HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("written");
    // It was accepted before the next one.
    let mut later = connect(addr);
    send_request(&mut later);
    assert_eq!(response(&mut later), "a");
    takes_over(addr, &mut kept, || server.quiesce(), 1);
    released.store(true, Ordering::Release);
    assert_eq!([response(&mut blocked), response(&mut blocked)], ["a", "a"]);
    server.stop_now().expect("stopped");
}

#[test]
fn an_external_server_gives_its_sockets_in_order() {
    let path = std::env::temp_dir().join(format!("uncork-quiesce-{}.sock", std::process::id()));
    let server = Server::bind("127.0.0.1:0").expect("bound").listen(Listen::unix(&path).expect("bound"));
    let addr = server.local_addr().expect("an address");
    let mut server = server.external(responds_with("a")).expect("started");
    let mut kept = connect(addr);
    send_request(&mut kept);
    kept.set_nonblocking(true).expect("set");
    let mut one = [0; 1];
    while kept.peek(&mut one).is_err() {
        let _ = server.wait(Some(Duration::from_millis(10))).expect("turned");
    }
    kept.set_nonblocking(false).expect("set");
    assert_eq!(response(&mut kept), "a");
    let given = server.quiesce();
    assert_eq!(given.len(), 2);
    assert!(server.quiesce().is_empty());
    let mut queued = connect(addr);
    send_request(&mut queued);
    // The old server no longer accepts it.
    let _ = server.turn().expect("turned");
    let listeners = given.into_iter().map(|socket| Listen::inherited(socket).expect("it listens"));
    let listeners: Vec<Listen> = listeners.collect();
    assert_eq!([listeners[0].local_addr(), listeners[1].local_addr()], [Some(addr), None]);
    let new =
        listeners.into_iter().fold(Server::new(), Server::listen).threads(1, responds_with("b")).expect("running");
    assert_eq!(response(&mut queued), "b");
    let mut unix = std::os::unix::net::UnixStream::connect(&path).expect("connected");
    unix.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("written");
    let mut bytes = String::new();
    unix.read_to_string(&mut bytes).expect("read");
    assert!(bytes.ends_with("\r\n\r\nb"), "{bytes}");
    new.stop_now().expect("stopped");
    std::fs::remove_file(&path).expect("removed");
}
