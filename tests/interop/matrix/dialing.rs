//! Servers whose loops dial, and the upgrades on those connections.

use std::{
    net::SocketAddr,
    sync::mpsc::{Receiver, Sender, channel},
};

use uncork::{
    Dial, DialError, EventMask, Io, Limits, LoopHandle, ReadState, Request, Response, Switch, TlsClient, Upgrade,
};

use crate::{
    upgrading::echo,
    wire::{TIMEOUT, UPGRADE},
    world::{Host, Reports, World, identity, report_channel},
};

/// A server that echoes to clients that upgrade, and responds to `GET /` after it has given its loop to the test.
pub(crate) struct Dialing {
    pub(crate) host: Host,
    loops: Reports<LoopHandle>,
}

impl Dialing {
    pub(crate) fn on(world: &World) -> Self {
        Self::within(world, Limits::default())
    }

    pub(crate) fn within(world: &World, limits: Limits) -> Self {
        let (report, loops) = report_channel();
        let host = world.serve_within(limits, move |req: &mut Request<'_>| -> uncork::Action {
            if req.wants_upgrade("test") {
                return Switch::to("test", echo()).into();
            }
            report.send(req.loop_handle()).expect("a receiver");
            Response::text("here").into()
        });
        Self { host, loops }
    }

    /// Returns a loop of the server. Its client has disconnected.
    pub(crate) fn here(&self) -> LoopHandle {
        let mut wire = self.host.connect();
        wire.request("GET /", &[]).response().is(200);
        self.loops.next()
    }

    /// Returns the loop of the client on `wire`.
    pub(crate) fn of(&self, wire: &mut crate::wire::Wire) -> LoopHandle {
        wire.request("GET /", &[]).response().is(200);
        self.loops.next()
    }
}

/// Returns the dial for a server of this world.
pub(crate) fn to(world: &World, addr: SocketAddr) -> Dial {
    secured(world, Dial::tcp(addr))
}

pub(crate) fn secured(world: &World, dial: Dial) -> Dial {
    let dial = dial.timeout(TIMEOUT);
    if world.tls { dial.tls(&trust(), "localhost") } else { dial }
}

pub(crate) fn trust() -> TlsClient {
    TlsClient::roots_pem(identity().cert.as_bytes()).expect("a root")
}

/// Dials, and reports the result; sends nothing.
pub(crate) fn try_dial(here: &LoopHandle, dial: Dial) -> Receiver<Result<(), DialError>> {
    let (report, reports) = channel();
    here.dial(dial, move |result| {
        report.send(result.map(|_| ())).expect("a receiver");
        None
    });
    reports
}

/// Returns the error with which a dial ends.
#[track_caller]
pub(crate) fn fails(here: &LoopHandle, dial: Dial) -> DialError {
    let reports = try_dial(here, dial);
    let error = reports.recv_timeout(TIMEOUT).expect("called").expect_err("no connection");
    assert!(reports.recv_timeout(TIMEOUT).is_err(), "called once");
    error
}

/// Returns a client of an echo: it requests the upgrade, sends `all`, and reports the bytes after the response's head.
pub(crate) fn echo_client(all: Vec<u8>, report: Sender<Vec<u8>>) -> Box<dyn Upgrade> {
    let all = [UPGRADE.as_bytes(), &all].concat();
    let (mut sent, mut got, mut from) = (0, Vec::new(), None);
    Box::new(move |io: &mut Io<'_>| {
        sent += io.tx.write(&all[sent..]);
        got.extend_from_slice(io.rx.bytes());
        io.rx.consume(usize::MAX);
        if from.is_none() {
            from = got.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4);
        }
        let whole = from.is_some_and(|from| got.len() - from == all.len() - UPGRADE.len());
        if whole || io.rx.state() != ReadState::Open {
            report.send(got.split_off(from.unwrap_or(0))).expect("a receiver");
            return EventMask::TERMINATE;
        }
        if sent < all.len() { EventMask::READ | EventMask::WRITE } else { EventMask::READ }
    })
}
