//! Answers every request with its own body, while that body still arrives.
//!
//!     cargo run --release --example echo
//!     curl http://127.0.0.1:8080/any/path -d 'hello'
//!     curl -T some.file http://127.0.0.1:8080/ -o same.file     # of any size, in constant memory
//!     curl -T . -N http://127.0.0.1:8080/                       # line by line, as you type
//!
//! The body goes through a pipe from the request into the answer. A pipe is bounded: whoever sends faster than he reads
//! is pushed back, and the server holds one block of 64 KiB for him, however much he sends.

use clap::Parser;
use uncork::{Action, EventMask, Io, Produced, ReadState, Request, Response, Switch};

mod common;

/// What a client may have in the pipe at once.
const ROOM: usize = 64 * 1024;

/// Answers every request with its own body, streamed: every method, every path.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    serve: common::ServeArgs,
}

fn main() -> std::process::ExitCode {
    common::serve(&Args::parse().serve, echo)
}

fn echo(req: &mut Request<'_>) -> Action {
    if req.method() == "CONNECT" {
        // Here 200 means that a tunnel stands, and there is no body: the echo is at its other end.
        return Switch::connect(echo_stream).into();
    }
    let kind = req.header("content-type").unwrap_or(b"application/octet-stream");
    // These are a stranger's bytes, given back under this server's name: no browser is to run them.
    let headers = |response: Response| {
        response
            .header("Content-Type", kind)
            .header("X-Content-Type-Options", "nosniff")
            .header("Content-Security-Policy", "sandbox")
    };
    if !req.has_body() {
        // TRACE too: its purpose was to reflect the header fields, cookies and passwords among them.
        return headers(Response::new(200)).into();
    }
    let length = req.content_length();
    if req.method() == "HEAD" {
        return headers(Response::stream(|_: &mut uncork::Tx<'_>| Produced::End)).length(length).into();
    }
    let (inlet, outlet) = uncork::pipe(ROOM);
    let answer = headers(Response::stream(outlet)).length(length);
    // By a ticket, because the answer is to begin before the body ends. It carries the trailers along.
    match req.ticket().respond(answer) {
        Ok(()) => Action::Receive(Box::new(inlet)),
        Err(_) => Action::Abort,
    }
}

fn echo_stream(io: &mut Io<'_>) -> EventMask {
    let n = io.tx.write(io.rx.bytes());
    io.rx.consume(n);
    match (io.rx.bytes().is_empty(), io.rx.state()) {
        (true, ReadState::Open) => EventMask::READ,
        (true, _) => EventMask::TERMINATE,
        (false, _) => EventMask::WRITE,
    }
}
