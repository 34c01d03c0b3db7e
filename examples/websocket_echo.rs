//! WebSocket: gives back every message it gets, text as text, binary as binary.
//!
//!     cargo run --release --example websocket_echo
//!
//! and in the console of a browser, on a page of that server (`http://127.0.0.1:8080/`):
//!
//!     w = new WebSocket("ws://127.0.0.1:8080/"); w.onmessage = m => console.log(m.data); w.onopen = () => w.send("hello")
//!
//! With `--deflate` messages are compressed if the client offers it, and each side keeps its context.
//!
//! It is what the Autobahn suite is run against (`autobahntestsuite` 25.10.1, in Python 2.7 with `autobahn` 0.10.9 and
//! `wsaccel`), with this in `spec.json`:
//!
//!     wstest -m fuzzingclient -s spec.json
//!     {"outdir": "report", "servers": [{"agent": "uncork", "url": "ws://127.0.0.1:8080"}],
//!      "cases": ["*"], "exclude-cases": [], "exclude-agent-cases": {}}
//!
//! Every case is OK, but for 7.1.6, 7.13.1 and 7.13.2, which are there for information only; with `--deflate`, those of
//! 12.* and 13.* as well. Those send up to 131 MB each, and fail after 480 seconds: build with `--release`. The longest,
//! 12.5.15, took 315 s of that on a machine with much else to do.

use clap::Parser;
use uncork::{Action, Request, Response, ws};

mod common;

/// Gives back every WebSocket message it gets.
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
        // So that there is a page whose console can be used.
        return Response::text("This is an echo for WebSockets.\n").into();
    }
    // Anybody may use it, from any page: there is nothing here that is anybody's own.
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
        // There is room, since the next message is asked for only when there is: the one error left is that it is
        // closing, and then nobody waits for the echo.
        let _ = sender.message(message);
        sender.on_room(move || done.next());
    }
}
