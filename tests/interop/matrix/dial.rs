//! Established outgoing connections: their upgrades, their ends, and what else runs on their loops.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    sync::mpsc::channel,
    time::Duration,
};

use uncork::{
    Action, Dial, EventMask, Events, Handler, Io, Limits, Listen, LoopHandle, Moment, PeerAddr, ReadState, Request,
    Response, Server, Switch, Ticket, Upgrade, Waker,
};

use crate::{
    dialing::{Dialing, echo_client, secured, to},
    upgrading::echo,
    wire::TIMEOUT,
    world::{World, bytes, identity, report_channel},
};

matrix! {
    http1 {
        an_upgrade_works_on_an_outgoing_connection,
        the_facts_of_a_connection,
        over_a_unix_socket,
        without_an_upgrade_it_closes_cleanly,
        its_waker_wakes_it,
        a_stream_is_adopted,
        it_does_not_count_toward_the_limit,
        it_is_notified_that_the_server_stops,
        connections_are_made_within_the_grace_period,
        it_ends_with_the_grace_period,
        a_loop_continues_without_its_connection,
        a_loop_accepts_another_connection,
    }
}

fn an_upgrade_works_on_an_outgoing_connection(world: &World) {
    let server = Dialing::on(world);
    let here = server.here();
    let all = bytes(300_000);
    let reports: Vec<_> = (0..3)
        .map(|_| {
            let ((report, reports), all) = (channel(), all.clone());
            here.dial(to(world, server.host.addr()), move |result| {
                result.expect("a connection");
                Some(echo_client(all, report))
            });
            reports
        })
        .collect();
    for reports in reports {
        assert!(reports.recv_timeout(TIMEOUT).expect("an echo") == all);
    }
}

fn the_facts_of_a_connection(world: &World) {
    let server = Dialing::on(world);
    let here = server.here();
    let (report, reports) = report_channel();
    let (addr, tls) = (server.host.addr(), world.tls);
    here.dial(to(world, addr), move |result| {
        let dialed = result.expect("a connection");
        assert_eq!(*dialed.peer, PeerAddr::tcp(addr));
        assert!(dialed.local.is_some_and(|local| local.ip().is_loopback() && local.port() != addr.port()));
        assert_eq!(dialed.tls_info.is_some(), tls);
        if let Some(tls_info) = dialed.tls_info {
            assert_eq!((tls_info.version, tls_info.server_name), ("TLSv1.3", Some("localhost")));
            assert!(tls_info.peer_certificate.is_some());
            assert_eq!(dialed.alpn, Some(&b"http/1.1"[..]));
        }
        report.send(()).expect("a receiver");
        None
    });
    reports.next();
}

fn over_a_unix_socket(world: &World) {
    let server = Dialing::on(world);
    let here = server.here();
    let name = format!("uncork-dial-{}-{:?}-{}.sock", std::process::id(), world.mode, world.tls);
    let path = std::env::temp_dir().join(name);
    let mut listen = Listen::unix(&path).expect("bound");
    if world.tls {
        listen = listen.tls(identity().server.clone());
    }
    let peer =
        Server::new().listen(listen).threads(1, |_: &mut Request<'_>| Switch::to("test", echo())).expect("running");
    let (report, reports) = channel();
    here.dial(secured(world, Dial::unix(&path)), move |result| {
        let dialed = result.expect("a connection");
        assert_eq!((*dialed.peer, dialed.local), (PeerAddr::Unix, None));
        Some(echo_client(b"hello".to_vec(), report))
    });
    assert_eq!(reports.recv_timeout(TIMEOUT).expect("an echo"), b"hello");
    peer.stop_now().expect("ended normally");
    std::fs::remove_file(&path).expect("removed");
}

fn without_an_upgrade_it_closes_cleanly(world: &World) {
    let server = Dialing::on(world);
    let here = server.here();
    let (report, ends) = report_channel();
    let addr = server.host.addr();
    let peer = TcpListener::bind("127.0.0.1:0").expect("bound");
    // Over TLS our server checks the end: it distinguishes a truncated stream from a close.
    let dial = if world.tls { to(world, addr) } else { Dial::tcp(peer.local_addr().expect("an address")) };
    here.dial(dial, move |result| {
        result.expect("a connection");
        report.send(()).expect("a receiver");
        None
    });
    ends.next();
    if !world.tls {
        let (mut stream, _) = peer.accept().expect("a connection");
        stream.set_read_timeout(Some(TIMEOUT)).expect("set");
        assert_eq!(stream.read(&mut [0; 1]).expect("a normal end"), 0);
    }
}

fn its_waker_wakes_it(world: &World) {
    let server = Dialing::on(world);
    let here = server.here();
    let ((give, wakers), (report, calls)) = (report_channel::<Waker>(), report_channel::<Events>());
    here.dial(to(world, server.host.addr()), move |result| {
        let waker = result.expect("a connection").waker();
        // Before its first call: the event is remembered.
        waker.wake();
        give.send(waker).expect("a receiver");
        let mut count = 0;
        Some(Box::new(move |io: &mut Io<'_>| {
            count += 1;
            report.send(io.events()).expect("a receiver");
            if count == 3 { EventMask::TERMINATE } else { EventMask::EXTERNAL }
        }))
    });
    let waker = wakers.next();
    assert_eq!(calls.next(), Events::default());
    assert!(calls.next().is_woken());
    waker.wake();
    assert!(calls.next().is_woken());
}

fn a_stream_is_adopted(world: &World) {
    let server = Dialing::on(world);
    let here = server.here();
    let (mut ours, theirs) = UnixStream::pair().expect("a pair");
    ours.set_read_timeout(Some(TIMEOUT)).expect("set");
    here.adopt_upgrade(theirs, echo()).expect("a loop");
    ours.write_all(b"hello").expect("sent");
    let mut got = [0; 5];
    ours.read_exact(&mut got).expect("an echo");
    assert_eq!(&got, b"hello");
    // Unlike a server's idle connection it does not close when the server stops: it is notified, and has the grace
    // period.
    drop(server);
    let (_, other) = UnixStream::pair().expect("a pair");
    let dropped = report_channel::<()>();
    let (kept, reports) = dropped;
    here.adopt_upgrade(other, move |_: &mut Io<'_>| {
        let _ = &kept;
        EventMask::TERMINATE
    })
    .expect_err("no listener");
    assert!(reports.is_over(), "an upgrade that cannot be used is dropped");
}

/// It does not count toward the limit of connections.
fn it_does_not_count_toward_the_limit(world: &World) {
    let server = Dialing::within(world, Limits { connections: 1, connections_per_address: 1, ..Limits::default() });
    let here = server.here();
    let peer = TcpListener::bind("127.0.0.1:0").expect("bound");
    let (report, reports) = report_channel();
    for _ in 0..3 {
        let report = report.clone();
        here.dial(Dial::tcp(peer.local_addr().expect("an address")), move |result| {
            result.expect("a connection");
            report.send(()).expect("a receiver");
            Some(Box::new(|_: &mut Io<'_>| EventMask::READ))
        });
        reports.next();
    }
    // One connection is still allowed, and another one when that has ended.
    let mut wire = server.host.connect();
    server.of(&mut wire);
    drop(wire);
    server.here();
}

fn until_stopped(report: std::sync::mpsc::Sender<Events>) -> Box<dyn Upgrade> {
    Box::new(move |io: &mut Io<'_>| {
        report.send(io.events()).expect("a receiver");
        if io.events().is_stopping() { EventMask::TERMINATE } else { EventMask::READ }
    })
}

fn it_is_notified_that_the_server_stops(world: &World) {
    let server = Dialing::on(world);
    let here = server.here();
    let peer = Dialing::on(world);
    let (report, calls) = report_channel();
    here.dial(to(world, peer.host.addr()), move |result| {
        result.expect("a connection");
        Some(until_stopped(report))
    });
    assert!(!calls.next().is_stopping());
    server.host.stopper.shutdown(TIMEOUT * 2);
    assert!(calls.next().is_stopping());
    server.host.ends();
}

/// Reports its tickets and loops, and that it stops.
#[derive(Clone)]
struct Waiting {
    requests: std::sync::mpsc::Sender<(LoopHandle, Ticket)>,
    stopping: std::sync::mpsc::Sender<()>,
}

impl Handler for Waiting {
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        self.requests.send((req.loop_handle(), req.ticket())).expect("a receiver");
        Action::Suspend
    }

    fn stopping(&mut self) {
        let _ = self.stopping.send(());
    }
}

fn connections_are_made_within_the_grace_period(world: &World) {
    let peer = Dialing::on(world);
    let ((requests, suspended), (stopping, stopped)) = (report_channel(), report_channel());
    let host = world.serve(Waiting { requests, stopping });
    let mut wire = host.connect();
    wire.request("GET /", &[]);
    let (here, ticket) = suspended.next();
    host.stopper.shutdown(TIMEOUT * 2);
    stopped.next();
    let (report, calls) = report_channel();
    here.dial(to(world, peer.host.addr()), move |result| {
        result.expect("a connection");
        Some(Box::new(move |io: &mut Io<'_>| {
            // The first call has the event.
            report.send(io.events()).expect("a receiver");
            EventMask::TERMINATE
        }))
    });
    assert!(calls.next().is_stopping());
    ticket.respond(Response::text("done")).expect("a suspended request");
    wire.response().is(200);
    host.ends();
}

fn it_ends_with_the_grace_period(world: &World) {
    let server = Dialing::on(world);
    let here = server.here();
    let peer = Dialing::on(world);
    let ((report, calls), (guard, dropped)) = (report_channel(), report_channel::<()>());
    here.dial(to(world, peer.host.addr()), move |result| {
        result.expect("a connection");
        Some(Box::new(move |io: &mut Io<'_>| {
            let _ = &guard;
            report.send(io.events()).expect("a receiver");
            EventMask::READ
        }))
    });
    calls.next();
    server.host.stopper.shutdown(Duration::from_millis(50));
    assert!(calls.next().is_stopping());
    server.host.ends();
    assert!(dropped.is_over());
}

/// Also with one thread per connection: the thread has no request to serve, but turns its loop.
fn a_loop_continues_without_its_connection(world: &World) {
    let server = Dialing::on(world);
    let here = server.here();
    let (report, reports) = report_channel::<Moment>();
    for delay in [0, 20] {
        let report = report.clone();
        here.after(Duration::from_millis(delay), move |now| report.send(now).expect("a receiver"));
        reports.next();
    }
    let (report, reports) = channel();
    here.dial(to(world, server.host.addr()), move |result| {
        result.expect("a connection");
        Some(echo_client(b"hello".to_vec(), report))
    });
    assert_eq!(reports.recv_timeout(TIMEOUT).expect("an echo"), b"hello");
}

/// A loop with outgoing connections is used again for inbound ones; neither disturbs the other.
fn a_loop_accepts_another_connection(world: &World) {
    let server = Dialing::on(world);
    let here = server.here();
    let peer = TcpListener::bind("127.0.0.1:0").expect("bound");
    let (report, calls) = report_channel();
    here.dial(Dial::tcp(peer.local_addr().expect("an address")), move |result| {
        result.expect("a connection");
        Some(Box::new(move |io: &mut Io<'_>| {
            report.send((io.rx.bytes().to_vec(), io.rx.state())).expect("a receiver");
            io.rx.consume(usize::MAX);
            if io.rx.state() == ReadState::Open { EventMask::READ } else { EventMask::TERMINATE }
        }))
    });
    let (mut stream, _): (TcpStream, _) = peer.accept().expect("a connection");
    assert_eq!(calls.next(), (Vec::new(), ReadState::Open));
    // Earlier connections stay open, so that all loops are used.
    let mut inbound = Vec::new();
    let found = (0..64).any(|_| {
        inbound.push(server.host.connect());
        inbound.last_mut().is_some_and(|wire| server.of(wire) == here)
    });
    assert!(found, "the loop is not used again");
    stream.write_all(b"still here").expect("sent");
    assert_eq!(calls.next().0, b"still here");
    drop(stream);
    assert_eq!(calls.next().1, ReadState::Eof);
}
