//! Bytes pass through pipes of the system: their number and their reuse, counted among the descriptors of this
//! process, so this is a program of its own. (`tests/matrix` tests the content.)
#![cfg(target_os = "linux")]
#![expect(clippy::disallowed_methods, reason = "tests wait for the server's threads")]

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use socket2::SockRef;
use uncork::{Action, Limits, Listen, Request, Response, Running, Server, Ticket, pipe};

const BODY: usize = 12 << 20;

/// Returns the number of descriptors that are ends of pipes.
fn ends_of_pipes() -> usize {
    let fds = fs::read_dir("/proc/self/fd").expect("Linux");
    let links = fds.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("pipe:")).count()
}

#[track_caller]
fn becomes(what: &str, want: usize, get: impl Fn() -> usize) {
    let end = Instant::now() + Duration::from_secs(20);
    while get() != want {
        assert!(Instant::now() < end, "{what}: {}, not {want}", get());
        thread::sleep(Duration::from_millis(5));
    }
}

/// A GET waits for a POST, and receives its body. On small sockets.
fn serve(kernel_pipes: usize) -> (Running, Arc<Mutex<Vec<Ticket>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    SockRef::from(&listener).set_send_buffer_size(128 * 1024).expect("set");
    SockRef::from(&listener).set_recv_buffer_size(128 * 1024).expect("set");
    let waiting = Arc::new(Mutex::new(Vec::<Ticket>::new()));
    let receivers = waiting.clone();
    let handler = move |req: &mut Request<'_>| {
        let mut receivers = receivers.lock().unwrap_or_else(PoisonError::into_inner);
        if req.method() == "GET" {
            receivers.push(req.ticket());
            return Action::Suspend;
        }
        let Some(receiver) = receivers.pop() else { return Response::new(409).into() };
        let (inlet, outlet) = pipe(256 * 1024);
        let response = Response::stream(outlet).length(req.content_length());
        let _ = receiver.respond(response);
        // The response of the sender reports that the receiver disconnected.
        req.ticket().fallback(Duration::ZERO, |_| Response::new(200));
        Action::Receive(Box::new(inlet))
    };
    let server = Server::new()
        .listen(Listen::inherited(listener).expect("a listener"))
        .limits(Limits { kernel_pipes, ..Limits::default() });
    (server.threads(2, handler).expect("running"), waiting)
}

fn connect(server: &Running, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.local_addr().expect("an address")).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    stream.write_all(request.as_bytes()).expect("sent");
    stream
}

/// Returns a connected receiver and sender. No byte of the body is sent.
fn pair(server: &Running, waiting: &Mutex<Vec<Ticket>>) -> (TcpStream, TcpStream) {
    let to = connect(server, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    becomes("receivers", 1, || waiting.lock().unwrap_or_else(PoisonError::into_inner).len());
    let from = connect(server, &format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {BODY}\r\n\r\n"));
    becomes("receivers", 0, || waiting.lock().unwrap_or_else(PoisonError::into_inner).len());
    (to, from)
}

/// Sends until the server reads no more for a while.
fn stall(from: &mut TcpStream, body: &[u8]) -> usize {
    from.set_write_timeout(Some(Duration::from_millis(300))).expect("set");
    let mut sent = 0;
    loop {
        match from.write(&body[sent..]) {
            Ok(n) => sent += n,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return sent,
            Err(error) => panic!("{error}"),
        }
        assert!(sent < BODY, "sent without a reader");
    }
}

fn goes_through(to: &mut TcpStream, from: &mut TcpStream, body: &[u8], sent: usize) {
    from.set_write_timeout(None).expect("set");
    thread::scope(|scope| {
        scope.spawn(|| from.write_all(&body[sent..]).expect("sent"));
        let mut got = Vec::new();
        while !got.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            to.read_exact(&mut byte).expect("a head");
            got.push(byte[0]);
        }
        assert!(got.starts_with(b"HTTP/1.1 200 "));
        let mut got = vec![0; BODY];
        to.read_exact(&mut got).expect("a body");
        assert!(got == body);
    });
}

#[test]
fn pipes_of_the_system_are_limited_used_again_when_empty_and_closed_when_not() {
    let body: Vec<u8> = (0..BODY).map(|i| (i % 251) as u8).collect();
    let (server, waiting) = serve(3);
    let before = ends_of_pipes();
    let mut pairs: Vec<_> = (0..5).map(|_| pair(&server, &waiting)).collect();
    let sent: Vec<_> = thread::scope(|scope| {
        let stalled: Vec<_> = pairs.iter_mut().map(|(_, from)| scope.spawn(|| stall(from, &body))).collect();
        stalled.into_iter().map(|thread| thread.join().expect("stalled")).collect()
    });
    assert_eq!(ends_of_pipes(), before + 2 * 3, "as many as there may be; the others copy");
    // One is received to its end, spliced or not; the others are abandoned in the middle.
    let (mut to, mut from) = pairs.remove(0);
    goes_through(&mut to, &mut from, &body, sent[0]);
    drop(pairs);
    drop((to, from));
    // At most the pipe of the finished body is kept.
    let end = Instant::now() + Duration::from_secs(20);
    while ends_of_pipes() > before + 2 {
        assert!(Instant::now() < end, "{} ends of pipes, {before} before", ends_of_pipes());
        thread::sleep(Duration::from_millis(5));
    }
    // It is empty for the next body.
    for _ in 0..2 {
        let (mut to, mut from) = pair(&server, &waiting);
        let sent = stall(&mut from, &body);
        assert_eq!(ends_of_pipes(), before + 2, "one stream, one pipe");
        goes_through(&mut to, &mut from, &body, sent);
        drop((to, from));
        becomes("the kept pipe", before + 2, ends_of_pipes);
    }
    server.stop_now().expect("stopped");
    becomes("pipes of a server that has ended", before, ends_of_pipes);

    let (server, waiting) = serve(0);
    let before = ends_of_pipes();
    let (mut to, mut from) = pair(&server, &waiting);
    let sent = stall(&mut from, &body);
    assert_eq!(ends_of_pipes(), before);
    goes_through(&mut to, &mut from, &body, sent);
    server.stop_now().expect("stopped");
}
