//! The limit of the memory of pipes, with streams of several receivers, each with a pipe of its own. The limit
//! applies to the process, so this is a program of its own.
#![cfg(all(feature = "relay", feature = "tls"))]
#![expect(clippy::disallowed_methods, reason = "tests wait for the server's threads")]

#[path = "support/mod.rs"]
#[allow(dead_code, unused_imports)] // other tests use the rest
mod support;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use support::{
    Client, Setup, TestServer,
    bodies::{pattern, push_until_stuck, receive},
};
use uncork::{
    Action, PeerAddr, Request, Response, Server, pipe, pipe_memory, relay::RendezvousConfig, set_pipe_memory_limit,
};

/// More than all sockets on the path hold.
const TOTAL: usize = 24 << 20;
const RECEIVERS: usize = 3;
/// Two streams with three receivers each have pipes of 1.5 MiB.
const STREAMS: usize = 2;
const LIMIT: usize = 600 * 1024;

/// One test at a time, with its limit.
fn limited(bytes: usize) -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    set_pipe_memory_limit(bytes);
    alone
}

/// A source and its receivers, all known to the server.
fn stream(server: &TestServer, framing: &str) -> (Client, Vec<Client>) {
    let response = server.client().post(&format!("/stream?n={RECEIVERS}"), &[], b"").response();
    let id = response.assert(201).text().strip_prefix("{\"stream\":\"").and_then(|rest| rest.strip_suffix("\"}"));
    let path = format!("/stream/{}", id.expect("an id"));
    let client = |line: String, fields: &[&str]| {
        let mut client = server.client();
        server.until_requested(|| {
            client.request(&line, fields);
        });
        client
    };
    let receivers = (0..RECEIVERS).map(|_| client(format!("GET {path}"), &[])).collect();
    (client(format!("PUT {path}"), &[framing]), receivers)
}

#[test]
fn receivers_that_do_not_read_hold_no_more_than_the_limit_and_get_everything_later() {
    let _alone = limited(LIMIT);
    for tls in [false, true] {
        let server = TestServer::start(Setup { tls, threads: 2 }, RendezvousConfig::default());
        let mut streams: Vec<_> = (0..STREAMS).map(|_| stream(&server, &format!("Content-Length: {TOTAL}"))).collect();
        let sent: Vec<usize> = streams.iter_mut().map(|(source, _)| push_until_stuck(source, TOTAL)).collect();
        let held = pipe_memory();
        assert!(held > LIMIT / 2 && held <= LIMIT, "{held} bytes in pipes");
        assert!(sent.iter().all(|sent| *sent < TOTAL), "the sources were not stopped");
        thread::scope(|scope| {
            for ((source, receivers), sent) in streams.iter_mut().zip(sent) {
                scope.spawn(move || source.send(pattern(sent, TOTAL - sent)).response().assert(200).status);
                for receiver in receivers {
                    scope.spawn(move || {
                        receiver.head().assert(200);
                        receive(receiver, TOTAL);
                    });
                }
            }
        });
        assert!(pipe_memory() <= LIMIT);
        drop(streams);
        let end = Instant::now() + Duration::from_secs(20);
        while pipe_memory() > 0 {
            assert!(Instant::now() < end, "{} bytes in pipes that are over", pipe_memory());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The sender's connection is two pipes itself: plain, but without a socket.
#[test]
fn a_connection_within_the_process_continues_without_any_memory() {
    const ROOM: usize = 256 * 1024;
    let _alone = limited(0);
    let handler = |req: &mut Request<'_>| {
        let (inlet, outlet) = pipe(ROOM);
        req.ticket().respond(Response::stream(outlet).length(req.content_length())).expect("the request is open");
        Action::Receive(Box::new(inlet))
    };
    let server = Server::bind("127.0.0.1:0").expect("bound").threads(1, handler).expect("running");
    let body = pattern(0, 1 << 20);
    let plain = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    let plain = [plain, body.clone()].concat();
    let mut chunked = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in body.chunks(50_000) {
        chunked.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        chunked.extend([chunk, b"\r\n"].concat());
    }
    chunked.extend(b"0\r\n\r\n");
    for (request, is_chunked) in [(plain, false), (chunked, true)] {
        let ((mut to, input), (output, mut from)) = (pipe(ROOM), pipe(ROOM));
        let peer = PeerAddr::tcp("192.0.2.1:1".parse().expect("an address"));
        server.loops()[0].adopt_pipes(peer, input, output, 0).expect("a loop");
        let (mut sent, mut got, end) = (0, Vec::new(), Instant::now() + Duration::from_secs(60));
        let is_whole = |got: &[u8]| if is_chunked { got.ends_with(b"\r\n0\r\n\r\n") } else { got.ends_with(&body) };
        while sent < request.len() || !is_whole(&got) {
            assert!(Instant::now() < end, "{sent} bytes of {} sent, {} received", request.len(), got.len());
            // Chunked bodies have space for a TLS record in any case.
            assert!(pipe_memory() <= 64 * 1024, "{} bytes in pipes", pipe_memory());
            sent += to.write(&request[sent..]);
            // Counted once, because the next call may return more.
            let bytes = from.bytes();
            let n = bytes.len();
            got.extend_from_slice(bytes);
            from.consume(n);
            if n == 0 {
                thread::yield_now();
            }
        }
        assert!(got.starts_with(b"HTTP/1.1 200 "), "{}", got[..100].escape_ascii());
        assert!(got.len() > body.len() && (is_chunked || got.ends_with(&body)));
    }
    server.stop_now().expect("stopped");
}
