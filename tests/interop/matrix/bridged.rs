//! A server whose connections are pairs of pipes, and bridges that join sockets to them.
//!
//! ```text
//!   Wire ══socket══▶ Bridge, an upgrade on a loop of the test ══two pipes══▶ the server under test
//! ```
//! A test that does not read, or drops one end only, holds the pipes itself.

use std::{
    net::{TcpListener, TcpStream},
    sync::mpsc::Sender,
};

use uncork::{
    Action, ConnId, EndReason, EventMask, Handler, Io, Limits, LoopHandle, PeerAddr, PipeIn, PipeOut, Produced,
    ReadState, Request, RequestEnd, Response, Running, Server, Switch, Ticket, Tx, Upgrade, pipe,
};

use crate::{
    wire::{Finish, Wire},
    world::{
        Host, Reports, World, report_channel, report_end,
        site::{Collect, aborted, bytes, echo, endless, with_trailers},
    },
};

/// The file that `/file` sends.
pub(crate) const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/matrix/bridged.rs");
/// The address that connections by pipes have.
const PEER: &str = "192.0.2.7:4711";
/// Bytes of each pipe, by default.
pub(crate) const ROOM: usize = 16 * 1024;

pub(crate) fn peer() -> PeerAddr {
    PeerAddr::tcp(PEER.parse().expect("an address"))
}

/// An upgrade that copies between a socket and two pipes.
struct Bridge {
    to: Option<PipeIn>,
    from: PipeOut,
}

impl Upgrade for Bridge {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        if io.events().is_error() {
            return EventMask::TERMINATE; // Both pipes are dropped, which resets the connection at their other end.
        }
        let mut is_drained = true;
        if let Some(mut to) = self.to.take() {
            to.on_room(io.waker());
            let closed = to.is_closed();
            let n = if closed { io.rx.bytes().len() } else { to.write(io.rx.bytes()) };
            io.rx.consume(n);
            is_drained = io.rx.bytes().is_empty();
            match io.rx.state() {
                ReadState::Eof if is_drained => to.finish(None),
                _ => self.to = Some(to),
            }
        }
        self.from.on_data(io.waker());
        while io.tx.room() > 0 {
            let n = io.tx.write(self.from.bytes());
            self.from.consume(n);
            if n == 0 {
                break;
            }
        }
        if self.from.is_finished() {
            io.tx.finish();
            return if self.to.is_none() { EventMask::TERMINATE } else { EventMask::READ | EventMask::EXTERNAL };
        }
        if self.from.is_truncated() && self.from.bytes().is_empty() {
            io.abort();
        }
        let mask = EventMask::EXTERNAL | EventMask::CORK;
        let mask = if is_drained && self.to.is_some() { mask | EventMask::READ } else { mask };
        if io.tx.room() == 0 { mask | EventMask::WRITE } else { mask }
    }
}

/// Responds by path, and reports requests, ends and stops to the test.
#[derive(Clone)]
struct Site {
    loops: Sender<LoopHandle>,
    tickets: Sender<Ticket>,
    ends: Sender<RequestEnd>,
    closed: Sender<EndReason>,
    stopping: Sender<()>,
}

/// The reports of [`Site`].
pub(crate) struct SiteReports {
    pub(crate) loops: Reports<LoopHandle>,
    pub(crate) tickets: Reports<Ticket>,
    pub(crate) ends: Reports<RequestEnd>,
    pub(crate) closed: Reports<EndReason>,
    pub(crate) stopping: Reports<()>,
}

impl Handler for Site {
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        if req.path() == "/here" {
            self.loops.send(req.loop_handle()).expect("a receiver");
            return Response::text("here").into();
        }
        assert_eq!((*req.peer(), req.listener_index(), req.tls_info().is_none()), (peer(), 0, true));
        report_end(req, &self.ends);
        match req.path() {
            "/id" => Response::text(req.id().to_string()).into(),
            "/wait" => {
                self.tickets.send(req.ticket()).expect("a receiver");
                Action::Suspend
            }
            "/up" => Switch::to("test", echo).into(),
            "/file" => {
                let file = std::fs::File::open(FILE).expect("a file of the tests");
                let length = file.metadata().expect("its length").len();
                Response::file(file, 0..length).into()
            }
            "/shared" => Response::new(200).body(std::sync::Arc::<[u8]>::from(bytes(500_000))).into(),
            "/endless" => endless().into(),
            "/pause" => Response::stream(|_: &mut Tx<'_>| Produced::Pending).into(),
            "/pause-allowed" => Response::stream(|_: &mut Tx<'_>| Produced::Pending).allow_half_close().into(),
            "/abort" => aborted().into(),
            "/trailers" => with_trailers(300_000).into(),
            "/count" => Action::Receive(Box::<Collect>::default()),
            path => Response::text(path.to_owned()).into(),
        }
    }

    fn accept(&mut self, peer: &PeerAddr) -> bool {
        peer.ip() != Some([198, 51, 100, 1].into())
    }

    fn closed(&mut self, _: ConnId, reason: &EndReason) {
        let _ = self.closed.send(*reason);
    }

    fn stopping(&mut self) {
        let _ = self.stopping.send(());
    }
}

/// A server, and the loops that join sockets to it by pipes.
pub(crate) struct Within {
    pub(crate) host: Host,
    pub(crate) here: LoopHandle,
    pub(crate) reports: SiteReports,
    bridges: Option<Running>,
}

impl Within {
    pub(crate) fn on(world: &World) -> Self {
        Self::limited(world, Limits::default())
    }

    pub(crate) fn limited(world: &World, limits: Limits) -> Self {
        let ((loops, loops_reports), (tickets, tickets_reports)) = (report_channel(), report_channel());
        let ((ends, ends_reports), (closed, closed_reports), (stopping, stopping_reports)) =
            (report_channel(), report_channel(), report_channel());
        let host = world.serve_within(limits, Site { loops, tickets, ends, closed, stopping });
        let reports = SiteReports {
            loops: loops_reports,
            tickets: tickets_reports,
            ends: ends_reports,
            closed: closed_reports,
            stopping: stopping_reports,
        };
        let mut wire = host.connect();
        wire.request("GET /here", &["Connection: close"]).response().is(200);
        wire.ends(Finish::Clean);
        let here = reports.loops.next();
        assert_eq!(reports.closed.next(), EndReason::Complete);
        let bridges = Server::new().threads(1, |_: &mut Request<'_>| Response::new(500)).expect("running");
        Self { host, here, reports, bridges: Some(bridges) }
    }

    /// Returns the test's ends of a new connection: the pipe that the server reads, and the pipe that it writes.
    pub(crate) fn ends(&self, room: usize) -> (PipeIn, PipeOut) {
        let ((ours, input), (output, theirs)) = (pipe(room), pipe(room));
        self.here.adopt_pipes(peer(), input, output, 0).expect("a loop");
        (ours, theirs)
    }

    pub(crate) fn connect(&self) -> Wire {
        self.connect_by(ROOM)
    }

    /// Returns a socket that a bridge joins to such a connection.
    pub(crate) fn connect_by(&self, room: usize) -> Wire {
        let (to, from) = self.ends(room);
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let ours = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        let (theirs, _) = listener.accept().expect("a connection");
        let bridges = self.bridges.as_ref().expect("running").loops();
        bridges[0].adopt_upgrade(theirs, Bridge { to: Some(to), from }).expect("a loop");
        Wire::over(ours, None).expect("a wire")
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        if let Some(bridges) = self.bridges.take() {
            bridges.stop_now().expect("ended normally");
        }
    }
}
