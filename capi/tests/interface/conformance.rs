//! The rules of HTTP/1.1 hold through C as they do through Rust: the same bytes get the same responses from an echo in C
//! (`tests/c/echo.c`) and from one in Rust.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    process::Stdio,
    time::Duration,
};

use uncork::{Action, Limits, Listen, Request, Response, Server};

use crate::support::Library;

/// Requests, and the status of each response. Behind them the client half-closes.
#[rustfmt::skip]
const CASES: &[(&str, &[u16])] = &[
    // Well-formed.
    ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &[200]),
    ("GET /a?b=c HTTP/1.1\r\nHost: a:80\r\nConnection: close\r\n\r\n", &[200]),
    ("GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n", &[200]),
    ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", &[200]),
    ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", &[200]),
    ("HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", &[200]),
    ("PURGE / HTTP/1.1\r\nHost: a\r\n\r\n", &[200]),
    ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", &[200]),
    ("GET / HTTP/1.0\r\n\r\n", &[200]),
    ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n", &[200, 200]),
    ("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", &[200, 200]),
    ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", &[200]),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nHost: a\r\n\r\n", &[200, 200]),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", &[200]),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", &[200]),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\nA;x=y\r\n0123456789\r\n1\r\nz\r\n0\r\nX: y\r\n\r\n", &[200]),
    ("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi", &[200]),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: \t tab\tand space \r\n\r\n", &[200]),
    ("GET / HTTP/1.1\r\nHost: a\r\nX:\r\nY: \r\n\r\n", &[200]),
    ("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", &[200]),
    // The length of a body is ambiguous: request smuggling.
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", &[400]),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", &[400]),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 6\r\n\r\nhello!", &[400]),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello", &[400]),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nhello", &[400]),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello", &[400]),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\nhello", &[400]),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nhello", &[400]),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\nhello", &[400]),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\nhello", &[501]),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", &[400]),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", &[400]),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", &[501]),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", &[400]),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n", &[400]),
    ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", &[400]),
    // Malformed chunks.
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", &[400]),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n", &[400]),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n", &[400]),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n", &[400]),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nhello\r\n0\r\n\r\n", &[400]),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello\r\n0\r\n\r\n", &[400]),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\r\n0\r\n\r\n", &[400]),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX Y: z\r\n\r\n", &[400]),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a\nb\r\nhello\r\n0\r\n\r\n", &[400]),
    // Malformed heads.
    ("GET /\r\n\r\n", &[400]),
    ("GET / HTTP/1.1\nHost: a\n\n", &[400]),
    ("GET / HTTP/1.1\r\nHost: a\n\r\n", &[400]),
    ("GET / HTTP/1.1\r\rHost: a\r\n\r\n", &[400]),
    ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
    ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
    ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
    (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
    ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
    ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", &[400]),
    ("GET / http/1.1\r\nHost: a\r\n\r\n", &[400]),
    ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", &[505]),
    ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", &[505]),
    ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
    ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
    ("GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
    ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
    ("GET / HTTP/1.1\r\n\r\n", &[400]),
    ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", &[400]),
    ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", &[400]),
    ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", &[400]),
    ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", &[400]),
    ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", &[400]),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", &[400]),
    ("GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", &[400]),
    ("GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", &[400]),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n", &[400]),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", &[400]),
    ("GET / HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n", &[400]),
    ("GET / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\nContent-Length: 1\r\n\r\nx", &[417]),
    ("\x16\x03\x01\x02\x00\x01\x00\x01\u{7f}", &[400]),
    // Incomplete.
    ("", &[]),
    ("GET / HT", &[]),
    ("GET / HTTP/1.1\r\nHost: a\r\n", &[]),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel", &[]),
];

/// Everything that a server sends for these bytes.
fn responses(port: u16, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream.write_all(request).expect("sent");
    let _ = stream.shutdown(Shutdown::Write);
    let mut received = Vec::new();
    // A reset may follow a 400.
    let _ = stream.read_to_end(&mut received);
    received
}

/// Replaces the values of Date, which may differ.
fn without_dates(received: &[u8]) -> String {
    let text = String::from_utf8_lossy(received);
    let lines = text.split("\r\n").map(|line| if line.starts_with("Date: ") { "Date" } else { line });
    lines.collect::<Vec<_>>().join("\r\n")
}

fn statuses(received: &str) -> Vec<u16> {
    let starts = received.match_indices("HTTP/1.1 ").map(|(at, _)| &received[at + 9..at + 12]);
    starts.map(|status| status.parse().expect("a status")).filter(|status| *status != 100).collect()
}

#[test]
fn an_echo_in_c_responds_as_one_in_rust() {
    let program = Library::get().compile("tests/c/echo.c");
    let piped = |command: &mut std::process::Command| {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started")
    };
    let mut child = piped(&mut Library::get().command(program));
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    let c: u16 = line.trim().trim_start_matches("port ").parse().expect("a port");

    let listen = Listen::tcp("127.0.0.1:0").expect("bound");
    let rust = listen.local_addr().expect("an address").port();
    let echo = |_: &mut Request<'_>| Action::receive_whole(1 << 20, |body: Vec<u8>| Response::new(200).body(body));
    // The limits of a daemon without options.
    let limits = Limits { head: 32 * 1024, target: 32 * 1024, fields: 256, ..Limits::default() };
    let server = Server::new().limits(limits).listen(listen).threads(1, echo).expect("started");

    let head = |length: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(length));
    let (long, too_long) = (head(30_000), head(40_000));
    let fields = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count));
    let (many, too_many) = (fields(255), fields(256));
    let target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(40_000));
    let large: [(&str, &[u16]); 5] =
        [(&long, &[200]), (&too_long, &[431]), (&many, &[200]), (&too_many, &[431]), (&target, &[414])];
    for (request, expected) in CASES.iter().copied().chain(large) {
        let by_c = without_dates(&responses(c, request.as_bytes()));
        let by_rust = without_dates(&responses(rust, request.as_bytes()));
        let shown = &request[..request.len().min(200)];
        assert_eq!(by_c, by_rust, "{shown:?}");
        assert_eq!(statuses(&by_c), expected, "{shown:?}: {by_c}");
    }
    server.stop_now().expect("stopped");
    drop(child.stdin.take());
    assert!(child.wait().expect("ended").success());
}
