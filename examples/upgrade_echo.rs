//! The upgrade callback: answers `Upgrade: echo` with 101, and then gives back every byte it gets.
//!
//!     cargo run --release --example upgrade_echo
//!     (printf 'GET / HTTP/1.1\r\nHost: me\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n'; cat) | nc 127.0.0.1 8080
//!
//! and type. Over HTTPS nothing changes but the client: `openssl s_client -quiet -connect 127.0.0.1:8080` for `nc`.

use clap::Parser;
use uncork::{Action, EventMask, Io, ReadState, Request, Response, Switch, Upgrade};

mod common;

/// Answers `Upgrade: echo` with 101 and gives back every byte it gets.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    serve: common::ServeArgs,
}

fn main() -> std::process::ExitCode {
    common::serve(&Args::parse().serve, request)
}

const HOW: &str = "This speaks a protocol of its own: it gives back every byte it gets. Ask for it with\n\n    \
    Connection: Upgrade\n    Upgrade: echo\n\nfor instance so, and then type:\n\n    \
    (printf 'GET / HTTP/1.1\\r\\nHost: me\\r\\nConnection: Upgrade\\r\\nUpgrade: echo\\r\\n\\r\\n'; cat) | nc HOST PORT\n";

fn request(req: &mut Request<'_>) -> Action {
    if req.wants_upgrade("echo") {
        Switch::to("echo", Echo::default()).into()
    } else {
        Response::text(HOW).with_status(426).header("Upgrade", "echo").into()
    }
}

#[derive(Default)]
struct Echo {
    /// The server stops.
    stopping: bool,
}

impl Upgrade for Echo {
    /// Called at the start, and then whenever what the last mask asks for is there. The first call may find input
    /// already: what the client sent right behind its request.
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        self.stopping |= io.events().is_stopping();
        let n = io.tx.write(io.rx.bytes());
        io.rx.consume(n);
        if !io.rx.bytes().is_empty() {
            // The client does not read what we send it, so the output is full. Not READ: we don't want to hear more
            // before it has read. It is pushed back, and we hold no more than one input and one output of it.
            return EventMask::WRITE;
        }
        match io.rx.state() {
            // Everything is answered; when the server stops, that is a good moment to end.
            ReadState::Open if self.stopping => EventMask::TERMINATE,
            // A mask without WRITE sends off at once what was written.
            ReadState::Open => EventMask::READ,
            // The client has sent its last byte, and will get it back before the connection closes. Cut off (by TLS
            // without a close_notify), it is the same to an echo; a protocol that cares tells `Clean` from `Truncated`.
            ReadState::Eof | ReadState::Truncated => EventMask::TERMINATE,
        }
    }
}
