//! Responds to every request with its own body, while that body still arrives.
//!
//!     cargo run --release --example echo
//!     # in another terminal:
//!     curl http://127.0.0.1:8080/any/path -d 'hello'
//!     curl -T Cargo.lock http://127.0.0.1:8080/ | cmp - Cargo.lock                # of any size, in constant memory
//!     (date; sleep 2; date) | curl -sN -T . http://127.0.0.1:8080/                # each line at once
//!
//! `curl -sN -T . http://127.0.0.1:8080/` alone sends each line that you type.
//!
//! A pipe connects the request's body with the response. It is bounded: a client that sends faster than it reads is
//! slowed down, and the server holds at most 64 KiB for it, however long the body is.

use clap::Parser;
use uncork::{Action, EventMask, Io, Produced, ReadState, Request, Response, Switch};

mod common;

/// Capacity of the pipe of one client, in bytes.
const PIPE_BUFFER: usize = 64 * 1024;

/// Responds to every request with its own body, streamed, for every method and path.
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
        // A 200 to CONNECT has no body. It opens a tunnel, and the echo is at its other end.
        return Switch::connect(echo_stream).into();
    }
    let kind = req.header("content-type").unwrap_or(b"application/octet-stream");
    // The bytes are untrusted: a browser must not run them with this server's origin.
    let headers = |response: Response| {
        response
            .header("Content-Type", kind)
            .header("X-Content-Type-Options", "nosniff")
            .header("Content-Security-Policy", "sandbox")
    };
    if !req.has_body() {
        // TRACE, too: reflecting header fields would reveal cookies and passwords.
        return headers(Response::new(200)).into();
    }
    let length = req.content_length();
    if req.method() == "HEAD" {
        return headers(Response::stream(|_: &mut uncork::Tx<'_>| Produced::End)).length(length).into();
    }
    let (inlet, outlet) = uncork::pipe(PIPE_BUFFER);
    let response = headers(Response::stream(outlet)).length(length);
    // By a ticket, because the response begins before the body ends. The pipe forwards trailers, too.
    match req.ticket().respond(response) {
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
