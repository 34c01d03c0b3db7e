//! A client that sends exactly the frames of the test and shows exactly those it receives; and servers for it.

use std::sync::mpsc;

use uncork::{
    Action, Limits, Request,
    ws::{self, Closed, Config, Done, Handler, Message, Sender},
};

pub(crate) use crate::frames::{HANDSHAKE, frame};
use crate::{
    frames,
    wire::{Finish, TestResponse, Wire},
    world::{Host, Mode, Reports, World, report_channel},
};

pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8a;
/// Without FIN.
pub(crate) const BEGIN_TEXT: u8 = 0x01;
pub(crate) const MORE: u8 = 0x00;
pub(crate) const END: u8 = 0x80;

/// The setting of tests that do not concern the engine.
pub(crate) const PLAIN: World = World::plain(Mode::Threads);

/// One end of a WebSocket.
pub(crate) struct Peer {
    pub(crate) wire: Wire,
}

impl Peer {
    pub(crate) fn open(host: &Host) -> Self {
        Self::over(host.connect())
    }

    pub(crate) fn over(mut wire: Wire) -> Self {
        wire.request("GET /", &HANDSHAKE).head().is(101);
        Self { wire }
    }

    pub(crate) fn open_with(host: &Host, fields: &[&str]) -> (Self, TestResponse) {
        let mut wire = host.connect();
        let head = wire.request("GET /", &[&HANDSHAKE[..], fields].concat()).head();
        (Self { wire }, head)
    }

    #[track_caller]
    pub(crate) fn send(&mut self, first: u8, payload: impl AsRef<[u8]>) -> &mut Self {
        self.wire.send(frame(first, payload));
        self
    }

    /// Receives the next frame: its first byte, and its payload.
    #[track_caller]
    pub(crate) fn next(&mut self) -> (u8, Vec<u8>) {
        frames::next(&mut self.wire)
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, first: u8, payload: impl AsRef<[u8]>) -> &mut Self {
        let got = self.next();
        let shown = |first: u8, payload: &[u8]| format!("{first:#x} {} {:.300}", payload.len(), payload.escape_ascii());
        assert!(got == (first, payload.as_ref().to_vec()), "{}", shown(got.0, &got.1));
        self
    }

    /// Expects a Close with this code and reason, and the end after it.
    #[track_caller]
    pub(crate) fn closed(&mut self, code: u16, reason: &str) {
        self.expect(CLOSE, [&code.to_be_bytes(), reason.as_bytes()].concat());
        self.wire.ends(Finish::Clean);
    }

    /// Closes with a handshake.
    #[track_caller]
    pub(crate) fn close(mut self) {
        self.send(CLOSE, b"\x03\xe8").closed(1000, "");
    }
}

/// Echoes, and reports the end.
pub(crate) struct Echo {
    pub(crate) sender: Option<Sender>,
    pub(crate) report: mpsc::Sender<Closed>,
}

impl Handler for Echo {
    fn open(&mut self, sender: &Sender) {
        self.sender = Some(sender.clone());
    }

    fn message(&mut self, message: Message<'_>, done: Done) {
        let sender = self.sender.as_ref().expect("opened first");
        if sender.message(message).is_err() {
            assert!(sender.is_closed(), "the queue is not full");
        }
        sender.on_room(move || done.next());
    }

    fn closed(&mut self, closed: &Closed) {
        let _ = self.report.send(closed.clone());
    }
}

/// Starts a server of echoes.
pub(crate) fn echo(world: &World) -> (Host, Reports<Closed>) {
    echo_within(world, Limits::default(), Config::new())
}

pub(crate) fn echo_within(world: &World, limits: Limits, config: Config) -> (Host, Reports<Closed>) {
    let (report, closed) = report_channel();
    let host = world.serve_within(limits, move |req: &mut Request<'_>| -> Action {
        match ws::check(req) {
            Ok(accept) => accept.config(config.clone()).switch(Echo { sender: None, report: report.clone() }).0.into(),
            Err(rejection) => rejection.into(),
        }
    });
    (host, closed)
}

/// Starts a server with one handler per connection, and reports the senders.
pub(crate) fn serve_handlers<S: Handler + 'static>(
    world: &World,
    config: Config,
    make: impl Fn() -> S + Clone + Send + 'static,
) -> (Host, Reports<Sender>) {
    let (report, senders) = report_channel();
    let host = world.serve(move |req: &mut Request<'_>| -> Action {
        match ws::check(req) {
            Ok(accept) => {
                let (switch, sender) = accept.config(config.clone()).switch(make());
                let _ = report.send(sender);
                switch.into()
            }
            Err(rejection) => rejection.into(),
        }
    });
    (host, senders)
}
