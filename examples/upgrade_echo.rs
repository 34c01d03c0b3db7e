//! The upgrade callback: responds to `Upgrade: echo` with 101, and then echoes every byte.
//!
//!     cargo run --release --example upgrade_echo
//!     # in another terminal:
//!     request='GET / HTTP/1.1\r\nHost: me\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n'
//!     (printf "$request"; sleep 1; echo hello) | curl -sN -m 3 telnet://127.0.0.1:8080 | grep hello
//!
//! To type, replace `sleep 1; echo hello` by `cat`, and remove `-m 3`, the limit of 3 s, and `grep`. Over HTTPS
//! (`--tls-self-made`) only the client changes: `openssl s_client -quiet -connect 127.0.0.1:8080` for `curl`.

use clap::Parser;
use uncork::{Action, EventMask, Io, ReadState, Request, Response, Switch, Upgrade, h1::Version};

mod common;

/// Responds to `Upgrade: echo` with 101 and echoes every byte.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    serve: common::ServeArgs,
}

fn main() -> std::process::ExitCode {
    common::serve(&Args::parse().serve, request)
}

const USAGE: &str = "This server echoes every byte after an upgrade. Request it with\n\n    \
    Connection: Upgrade\n    Upgrade: echo\n\nfor example like this, and then type:\n\n    \
    (printf 'GET / HTTP/1.1\\r\\nHost: me\\r\\nConnection: Upgrade\\r\\nUpgrade: echo\\r\\n\\r\\n'; cat) | nc HOST PORT\n";
/// HTTP/2 has no field `Upgrade`: the protocol is requested for a single stream.
const USAGE_HTTP2: &str = "This server echoes every byte after an upgrade. Over HTTP/2 that is an extended CONNECT \
    (RFC 8441):\nrequest it with these pseudo-header fields, without END_STREAM, and send the bytes as DATA:\n\n    \
    :method: CONNECT\n    :protocol: echo\n    :scheme: https (or http)\n    :path: /\n    :authority: HOST:PORT\n\n\
    curl and nghttp cannot send such a request. The response to curl --http1.1 has a command for HTTP/1.1.\n";

fn request(req: &mut Request<'_>) -> Action {
    if req.wants_upgrade("echo") {
        Switch::to("echo", Echo::default()).into()
    } else {
        let usage = if req.version() == Version::Http2 { USAGE_HTTP2 } else { USAGE };
        Response::text(usage).with_status(426).header("Upgrade", "echo").into()
    }
}

#[derive(Default)]
struct Echo {
    /// `true` once the server is stopping.
    stopping: bool,
}

impl Upgrade for Echo {
    /// Called at the start, and then for each event of the last mask. The first call may find input already: bytes that
    /// the client sent right after its request.
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        self.stopping |= io.events().is_stopping();
        let n = io.tx.write(io.rx.bytes());
        io.rx.consume(n);
        if !io.rx.bytes().is_empty() {
            // The output is full, since the client does not read. Without READ the client is slowed down, and the
            // server holds at most one input and one output buffer for it.
            return EventMask::WRITE;
        }
        match io.rx.state() {
            // All input is echoed, so the connection can close if the server is stopping.
            ReadState::Open if self.stopping => EventMask::TERMINATE,
            // A mask without WRITE sends the output at once.
            ReadState::Open => EventMask::READ,
            // The client has sent its last byte and gets it back before the connection closes. A truncated stream (TLS
            // without close_notify) makes no difference to an echo. Other protocols must distinguish `Eof` from
            // `Truncated`.
            ReadState::Eof | ReadState::Truncated => EventMask::TERMINATE,
        }
    }
}
