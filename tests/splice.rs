//! Bytes pass through pipes of the system: their number and their reuse, counted among the descriptors of this
//! process, so this is a program of its own. (`tests/interop/matrix` tests the content.)
#![cfg(target_os = "linux")]
#![expect(clippy::disallowed_methods, reason = "tests wait for the server's threads")]

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use socket2::SockRef;
use uncork::{
    Action, Consumed, Limits, Listen, PipeIn, Request, Response, Running, Server, Ticket, Upload, client, h1::Headers,
    pipe,
};

const BODY: usize = 12 << 20;

/// Held by each test: both count the descriptors of the process.
static ALONE: Mutex<()> = Mutex::new(());

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

/// A body on its way to the receiver. Its sender gets the response when it is complete, or when the receiver has
/// disconnected.
struct Carried(PipeIn);

impl Upload for Carried {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        Consumed::Partial(self.0.write(chunk))
    }

    fn end(self: Box<Self>, _: &Headers) -> Action {
        self.0.finish(None);
        Response::new(200).into()
    }

    fn pipe(&mut self) -> Option<&mut PipeIn> {
        Some(&mut self.0)
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
        Action::Receive(Box::new(Carried(inlet)))
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
fn pair(server: &Running, waiting: &Mutex<Vec<Ticket>>, length: usize) -> (TcpStream, TcpStream) {
    let to = connect(server, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    becomes("receivers", 1, || waiting.lock().unwrap_or_else(PoisonError::into_inner).len());
    let from = connect(server, &format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"));
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
        assert!(sent < body.len(), "sent without a reader");
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
        let mut got = vec![0; body.len()];
        to.read_exact(&mut got).expect("a body");
        assert!(got == body);
    });
}

#[test]
fn pipes_of_the_system_are_limited_used_again_when_empty_and_closed_when_not() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let body: Vec<u8> = (0..BODY).map(|i| (i % 251) as u8).collect();
    let (server, waiting) = serve(3);
    let before = ends_of_pipes();
    let mut pairs: Vec<_> = (0..5).map(|_| pair(&server, &waiting, BODY)).collect();
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
        let (mut to, mut from) = pair(&server, &waiting, BODY);
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
    let (mut to, mut from) = pair(&server, &waiting, BODY);
    let sent = stall(&mut from, &body);
    assert_eq!(ends_of_pipes(), before);
    goes_through(&mut to, &mut from, &body, sent);
    server.stop_now().expect("stopped");
}

/// A server that forwards each request to the other one.
fn forwarding(origin: SocketAddr) -> Running {
    let client = client::Client::new();
    let handler = move |req: &mut Request<'_>| {
        let mut call = client::Request::new(req.method(), &format!("http://{origin}/"));
        let mut action = Action::Suspend;
        if let Some(length) = req.content_length() {
            let (inlet, outlet) = pipe(64 * 1024);
            call = call.stream(outlet, Some(length));
            action = Action::Receive(Box::new(inlet));
        }
        let ticket = req.ticket();
        client.send(&req.loop_handle(), call, move |result| {
            let Ok(response) = result else { return };
            let length = response.content_length();
            let _ = ticket.respond(Response::stream(response.pipe()).length(length));
        });
        action
    };
    Server::bind("127.0.0.1:0").expect("bound").threads(2, handler).expect("running")
}

#[test]
fn the_client_splices_bodies_of_both_directions() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let before = ends_of_pipes();
    let (origin, waiting) = serve(100);
    let server = forwarding(origin.local_addr().expect("an address"));
    // Short ones are copied; the last bytes of one that is spliced may be.
    for length in [0, 1, 65_535, 65_536, 65_537, 200_000, 1 << 20, (3 << 20) + 1] {
        let body: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
        let (mut to, mut from) = pair(&server, &waiting, length);
        goes_through(&mut to, &mut from, &body, 0);
    }
    // More than the sockets between the servers buffer.
    let body: Vec<u8> = (0..64 << 20).map(|i| (i % 251) as u8).collect();
    let (mut to, mut from) = pair(&server, &waiting, body.len());
    let sent = stall(&mut from, &body);
    // One of the request's body, one at the other server, one of the response's.
    becomes("ends of pipes", before + 2 * 3, ends_of_pipes);
    assert_eq!(uncork::pipe_memory(), 0, "nothing is copied");
    goes_through(&mut to, &mut from, &body, sent);
    // The source disconnects: the receiver gets less.
    let (mut to, mut from) = pair(&server, &waiting, body.len());
    let sent = stall(&mut from, &body);
    drop(from);
    let mut got = Vec::new();
    let end = to.read_to_end(&mut got);
    assert!(
        got.len() < body.len() && (end.is_err() || got.len() >= sent / 2),
        "{} of {sent} bytes, {end:?}",
        got.len()
    );
    server.stop_now().expect("stopped");
    origin.stop_now().expect("stopped");
    becomes("pipes of servers that have ended", before, ends_of_pipes);
}
