//! WebSocket: echoes every message, text as text, binary as binary.
//!
//!     cargo run --release --example websocket_echo
//!
//! Then, in the console of a browser, on a page of that server (`http://127.0.0.1:8080/`):
//!
//! ```js
//! w = new WebSocket("ws://127.0.0.1:8080/");
//! w.onmessage = m => console.log(m.data); w.onopen = () => w.send("hello")
//! ```
//!
//! With `--deflate`, messages are compressed if the client offers it, and each side keeps its compression context.
//!
//! The Autobahn test suite runs against it (`autobahntestsuite` 25.10.1, in Python 2.7 with `autobahn` 0.10.9 and
//! `wsaccel`):
//!
//!     cat > target/spec.json <<'END'
//!     {"outdir": "target/report", "servers": [{"agent": "uncork", "url": "ws://127.0.0.1:8080"}],
//!      "cases": ["*"], "exclude-cases": [], "exclude-agent-cases": {}}
//!     END
//!     wstest -m fuzzingclient -s target/spec.json
//!
//! Every case is OK except 7.1.6, 7.13.1 and 7.13.2, which are informational. With `--deflate`, cases 12.* and 13.* are
//! OK, too. They send up to 131 MB each and time out after 480 seconds, so build with `--release`. The longest,
//! 12.5.15, took 315 s on a busy machine.

use clap::Parser;
use uncork::{Action, Request, Response, ws};

mod common;

/// Echoes every WebSocket message.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    serve: common::ServeArgs,

    /// Compress messages, if the client offers it
    #[arg(long)]
    deflate: bool,
}

fn main() -> std::process::ExitCode {
    let args = Args::parse();
    let deflate = args.deflate.then(|| ws::Deflate::new().keep_own_context(true).keep_peer_context(true).at_least(1));
    common::serve(&args.serve, move |req: &mut Request<'_>| echo(req, deflate))
}

fn echo(req: &mut Request<'_>, deflate: Option<ws::Deflate>) -> Action {
    if req.header("upgrade").is_none() {
        // A page whose console can be used.
        return Response::text("This server echoes WebSocket messages.\n").into();
    }
    // Pages of all origins may connect: the echo has no private data.
    let mut accept = match ws::check(req) {
        Ok(accept) => accept,
        Err(refusal) => return refusal.into(),
    };
    if let Some(deflate) = deflate {
        accept = accept.deflate(deflate);
    }
    accept.switch(Echo { sender: None }).0.into()
}

struct Echo {
    sender: Option<ws::Sender>,
}

impl ws::Handler for Echo {
    fn open(&mut self, sender: &ws::Sender) {
        self.sender = Some(sender.clone());
    }

    fn message(&mut self, message: ws::Message<'_>, done: ws::Done) {
        let Some(sender) = &self.sender else { return };
        // There is room, since the next message is requested only then. If the connection is closing, the echo can be
        // dropped.
        let _ = sender.message(message);
        sender.on_room(move || done.next());
    }
}
