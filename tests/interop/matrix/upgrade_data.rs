//! The upgrade callback: input and output. (The numbers are those of the list of pitfalls.)

use std::{collections::VecDeque, sync::mpsc::Sender, time::Duration};

use uncork::{
    Action, Consumed, EndReason, EventMask, Io, Limits, ReadState, Request, Response, Switch, Upgrade, Upload,
    h1::Headers,
};

use crate::{
    upgrading::{Call, echo, upgrading, upgrading_within},
    wire::{Finish, UPGRADE, request},
    world::{World, bytes, report_channel},
};

matrix! {
    everywhere {
        early_data_is_seen,
        early_data_is_offered_in_the_first_call,
        the_first_output_is_behind_the_101,
        the_first_output_is_behind_the_101_through_a_narrow_socket,
        echo_survives_one_byte_at_a_time,
        what_is_not_consumed_is_offered_with_what_comes,
        a_full_input_that_is_not_consumed_aborts,
        a_frame_up_to_the_limit_is_seen_in_one_piece,
        a_peer_that_never_reads_bounds_the_output,
        asking_for_room_for_ever_costs_nothing,
        a_shared_block_goes_out_uncopied,
        a_busy_connection_starves_no_other,
        connect_is_a_switch_too,
    }
    http1 {
        a_body_comes_before_the_upgrade,
        a_switch_without_response_sends_only_its_own_bytes,
        a_request_that_cannot_switch_gets_a_426,
    }
}

/// 1, 25: bytes directly after the request are upgraded data, independent of their number and of their records.
fn early_data_is_seen(world: &World) {
    let (host, _) = upgrading(world, echo);
    let again = request("GET /never-parsed", &[]);
    for size in [1, 2, 16_000, 65_535, 65_536, 65_537, 200_000] {
        let data = [again.as_bytes(), &bytes(size)].concat();
        let pieces: Vec<&[u8]> = [UPGRADE.as_bytes()].into_iter().chain(data.chunks(10_007)).collect();
        for together in [true, false] {
            let mut wire = host.connect();
            if together {
                wire.send_together(&pieces);
            } else {
                wire.send([UPGRADE.as_bytes(), &data].concat());
            }
            wire.head().is(101);
            assert!(wire.exactly(data.len()) == data, "{size} bytes, {together}");
        }
    }
}

/// 1: no readiness event follows for these bytes.
fn early_data_is_offered_in_the_first_call(world: &World) {
    for early in ["x", "many bytes at once"] {
        let (report, calls) = report_channel();
        let (host, _) = upgrading(world, move || {
            let report = report.clone();
            move |io: &mut Io<'_>| {
                report.send(Call::of(io)).expect("a receiver");
                EventMask::EXTERNAL
            }
        });
        let mut wire = host.connect();
        wire.send([UPGRADE, early].concat()).head().is(101);
        let first = calls.next();
        assert!(first.events.is_readable() && first.bytes == early.len(), "{first:?}");
    }
}

/// 2
fn the_first_output_is_behind_the_101(world: &World) {
    let (host, _) = upgrading(world, || {
        |io: &mut Io<'_>| {
            io.tx.write(b"SSH-2.0-uncork\r\n");
            EventMask::TERMINATE
        }
    });
    let mut wire = host.connect();
    let head = wire.send(UPGRADE).head();
    assert_eq!((head.is(101).get("upgrade"), head.get("connection")), (Some("test"), Some("upgrade")));
    assert_eq!((head.get("content-length"), head.get("transfer-encoding")), (None, None));
    wire.expect("SSH-2.0-uncork\r\n").ends(Finish::Clean);
}

/// 2: the 101 and the following output leave in many small writes.
fn the_first_output_is_behind_the_101_through_a_narrow_socket(world: &World) {
    const ALL: usize = 400_000;
    let host = world.serve_narrow(|_: &mut Request<'_>| {
        let (all, mut sent) = (bytes(ALL), 0);
        let switch = Switch::to("test", move |io: &mut Io<'_>| {
            sent += io.tx.write(&all[sent..]);
            if sent == ALL { EventMask::TERMINATE } else { EventMask::WRITE }
        });
        switch.header("X-Long", "x".repeat(60_000))
    });
    let mut wire = host.connect_narrow();
    assert_eq!(wire.send(UPGRADE).head().is(101).get("x-long").map(str::len), Some(60_000));
    wire.expect(bytes(ALL)).ends(Finish::Clean);
}

fn echo_survives_one_byte_at_a_time(world: &World) {
    let (host, ended) = upgrading(world, echo);
    let mut wire = host.connect();
    wire.upgrade();
    for byte in bytes(300) {
        wire.send([byte]).expect([byte]);
    }
    for byte in bytes(3000) {
        wire.send([byte]);
    }
    assert!(wire.exactly(3000) == bytes(3000));
    wire.finish().ends(Finish::Clean);
    assert_eq!(ended.next().reason, EndReason::Complete);
}

/// 7: offered again together with newer input, and only then.
fn what_is_not_consumed_is_offered_with_what_comes(world: &World) {
    let (report, calls) = report_channel();
    let (host, _) = upgrading(world, move || {
        let report = report.clone();
        move |io: &mut Io<'_>| {
            report.send(Call::of(io)).expect("a receiver");
            EventMask::READ
        }
    });
    let mut wire = host.connect();
    wire.upgrade();
    assert_eq!(calls.next().bytes, 0);
    for n in 1..20 {
        wire.send("x");
        let call = calls.next();
        assert!(call.events.is_readable() && call.bytes == n, "{call:?}");
    }
    assert!(calls.is_silent(Duration::from_millis(50)), "no new input");
}

/// 7, 8: READ with a full input cannot be served.
fn a_full_input_that_is_not_consumed_aborts(world: &World) {
    let (report, calls) = report_channel();
    let limits = Limits { upgrade_input: 4096, ..Limits::default() };
    let (host, ended) = upgrading_within(world, limits, move || {
        let report = report.clone();
        move |io: &mut Io<'_>| {
            report.send(io.rx.bytes().len()).expect("a receiver");
            EventMask::READ
        }
    });
    let mut wire = host.connect();
    wire.upgrade().send(bytes(4095));
    assert!(ended.is_silent(Duration::from_millis(50)), "there is space for one more");
    let _ = wire.try_send("x");
    assert_eq!((ended.next().reason, wire.until_end().1), (EndReason::Aborted, Finish::Reset));
    drop(host);
    assert!(calls.rest().iter().all(|n| *n <= 4096));
}

/// 8
fn a_frame_up_to_the_limit_is_seen_in_one_piece(world: &World) {
    const LIMIT: usize = 100_000;
    let limits = Limits { upgrade_input: LIMIT, ..Limits::default() };
    let (host, ended) = upgrading_within(world, limits, || {
        |io: &mut Io<'_>| {
            let Some(head) = io.rx.bytes().first_chunk().copied() else { return EventMask::READ };
            let frame = u32::from_be_bytes(head) as usize;
            if io.rx.bytes().len() >= frame {
                io.rx.consume(frame);
                io.tx.write(b"frame");
            }
            EventMask::READ
        }
    });
    let frame = |size: usize| [&(size as u32).to_be_bytes(), &bytes(size)[4..]].concat();
    let mut wire = host.connect();
    wire.upgrade();
    for size in [4, 1000, LIMIT - 1, LIMIT, 70_000, LIMIT] {
        wire.send(frame(size)).expect("frame");
    }
    // One more byte cannot be guaranteed; over TLS a record may exceed the limit. But the excess is bounded.
    let _ = wire.try_send(frame(LIMIT * 3));
    assert_eq!(ended.next().reason, EndReason::Aborted);
}

/// 9, 10: never more than the limit is held, and a call for WRITE finds half of it free.
fn a_peer_that_never_reads_bounds_the_output(world: &World) {
    const ALL: usize = 8 << 20;
    const LIMIT: usize = 100_000;
    let (report, calls) = report_channel();
    let limits = Limits { output: LIMIT, ..Limits::default() };
    let (host, ended) = upgrading_within(world, limits, move || {
        let (report, data, mut at) = (report.clone(), bytes(ALL), 0);
        move |io: &mut Io<'_>| {
            report.send(Call::of(io)).expect("a receiver");
            at += io.tx.write(&data[at..]);
            assert_eq!(io.tx.room().min(ALL - at), 0);
            if at == ALL { EventMask::TERMINATE } else { EventMask::WRITE }
        }
    });
    let mut wire = host.connect_narrow();
    wire.upgrade();
    assert!(ended.is_silent(Duration::from_millis(200)), "sent without a reader");
    let stalled = calls.rest();
    let mut rest = stalled.iter();
    assert_eq!(rest.next().map(|call| call.events.is_writable()), Some(false));
    assert!(rest.all(|call| call.events.is_writable() && call.room >= LIMIT / 2 && call.room <= LIMIT), "{stalled:?}");
    assert!(wire.exactly(ALL) == bytes(ALL));
    wire.ends(Finish::Clean);
    assert_eq!(ended.next().reason, EndReason::Complete);
}

/// 10
fn asking_for_room_for_ever_costs_nothing(world: &World) {
    let (report, calls) = report_channel();
    let (host, _) = upgrading(world, move || {
        let (report, mut first) = (report.clone(), true);
        move |io: &mut Io<'_>| {
            report.send(()).expect("a receiver");
            if std::mem::take(&mut first) {
                io.tx.write(b"once");
            }
            EventMask::WRITE
        }
    });
    let mut wire = host.connect();
    wire.upgrade().expect("once");
    let turns = host.turns();
    assert!(wire.send("not requested").is_silent(Duration::from_millis(100)));
    assert!(calls.rest().len() <= 4, "room grew once");
    assert!(host.turns() - turns < 20, "the loop spins");
}

fn a_shared_block_goes_out_uncopied(world: &World) {
    let block: std::sync::Arc<[u8]> = bytes(500_000).into();
    let shared = block.clone();
    let (host, _) = upgrading(world, move || {
        let (block, mut left) = (shared.clone(), 3);
        move |io: &mut Io<'_>| {
            while left > 0 && io.tx.write_shared(&block) {
                left -= 1;
            }
            if left == 0 { EventMask::TERMINATE } else { EventMask::WRITE }
        }
    });
    let mut wires: Vec<_> = (0..3).map(|_| host.connect()).collect();
    for wire in &mut wires {
        wire.upgrade();
    }
    for mut wire in wires {
        assert!(wire.until_end() == ([&block[..], &block, &block].concat(), Finish::Clean));
    }
    drop(host);
    assert_eq!(std::sync::Arc::strong_count(&block), 1);
}

/// 22
fn a_busy_connection_starves_no_other(world: &World) {
    let (host, _) = upgrading(world, || {
        |io: &mut Io<'_>| {
            if io.rx.bytes().len() < 100 {
                io.tx.write(io.rx.bytes());
            }
            io.rx.consume(usize::MAX);
            if io.rx.state() == ReadState::Open { EventMask::READ } else { EventMask::TERMINATE }
        }
    });
    let mut pings: Vec<_> = (0..4).map(|_| host.connect()).collect();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let mut flooder = host.connect();
    flooder.upgrade();
    let flood = std::thread::spawn(move || {
        let block = vec![b'x'; 256 * 1024];
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            flooder.send(&block);
        }
    });
    for wire in &mut pings {
        wire.upgrade();
        for _ in 0..50 {
            wire.send("ping").expect("ping");
        }
    }
    drop(stop);
    flood.join().expect("flooded");
}

/// Switches when the body is complete.
struct Asked(Vec<u8>);

impl Upload for Asked {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        self.0.extend_from_slice(chunk);
        Consumed::All
    }

    fn end(self: Box<Self>, _: &Headers) -> Action {
        let mut greeting = VecDeque::from(self.0);
        let mut echo = echo();
        let upgrade = move |io: &mut Io<'_>| {
            io.tx.write(greeting.make_contiguous());
            greeting.clear();
            echo.ready(io)
        };
        Switch::to("test", upgrade).into()
    }
}

/// 25: the body belongs to the request; what follows belongs to the new protocol.
fn a_body_comes_before_the_upgrade(world: &World) {
    let host = world.serve(|req: &mut Request<'_>| match req.path() {
        "/receive" => Action::Receive(Box::new(Asked(Vec::new()))),
        _ => Switch::to("test", echo()).into(),
    });
    let fields = ["Connection: upgrade", "Upgrade: test", "Content-Length: 4"];
    for more in ["", "more"] {
        let mut wire = host.connect();
        wire.send(request("POST /receive", &fields) + "body" + more).head().is(101);
        wire.expect("body").expect(more).send("echo").expect("echo");
    }
    let mut wire = host.connect();
    wire.request("POST /receive", &fields).send("bo").send("dy").head().is(101);
    wire.expect("body");
    let chunked = ["Connection: upgrade", "Upgrade: test", "Transfer-Encoding: chunked"];
    let mut wire = host.connect();
    wire.send(request("POST /receive", &chunked) + "4\r\nbody\r\n0\r\n\r\nbehind").head().is(101);
    wire.expect("bodybehind");
    // The handler does not receive this body. It is discarded if it was received; the server does not wait for it.
    let mut wire = host.connect();
    wire.request("POST /", &fields).response().is(413);
    wire.finish().ends(Finish::Clean);
}

/// 25
fn connect_is_a_switch_too(world: &World) {
    let host = world.serve(|_: &mut Request<'_>| Switch::connect(echo()));
    let mut wire = host.connect();
    let head = wire.send("CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\nearly").head();
    assert_eq!((head.is(200).get("content-length"), head.get("transfer-encoding")), (None, None));
    wire.expect("early").send("late").expect("late").finish().ends(Finish::Clean);
}

/// The upgrade writes the whole response to a request without an offer to upgrade.
fn a_switch_without_response_sends_only_its_own_bytes(world: &World) {
    struct Greeted;
    impl Upload for Greeted {
        fn data(&mut self, _: &[u8]) -> Consumed {
            Consumed::All
        }
        fn end(self: Box<Self>, _: &Headers) -> Action {
            let (mut greeting, mut echo) = (&b"HELO\r\n"[..], echo());
            let upgrade = move |io: &mut Io<'_>| {
                io.tx.write(std::mem::take(&mut greeting));
                echo.ready(io)
            };
            Switch::without_response(upgrade).into()
        }
    }
    let host = world.serve(|_: &mut Request<'_>| Action::Receive(Box::new(Greeted)));
    let mut wire = host.connect();
    wire.send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhelloearly").expect("HELO\r\nearly");
    wire.send("late").expect("late").finish().ends(Finish::Clean);
    let mut wire = host.connect();
    wire.send("GET / HTTP/1.0\r\n\r\n").expect("HELO\r\n");
    wire.send("GET / HTTP/1.1\r\n\r\n").expect("GET / HTTP/1.1\r\n\r\n").finish().ends(Finish::Clean);
}

/// Reports that it is dropped.
struct Dropped(Sender<()>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

/// 25
fn a_request_that_cannot_switch_gets_a_426(world: &World) {
    let (report, dropped) = report_channel();
    let host = world.serve(move |req: &mut Request<'_>| {
        let guard = Dropped(report.clone());
        let never = move |_: &mut Io<'_>| -> EventMask { unreachable!("{:p}", &guard) };
        match req.path() {
            "/own" => Switch::with_response(Response::new(200), never),
            _ => Switch::to("test", never),
        }
    });
    let offer = "Connection: upgrade\r\nUpgrade: test\r\n";
    for (head, text) in [
        (format!("GET / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n{offer}\r\n"), "Upgrade: test in HTTP/1.1"),
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "send Connection: Upgrade and Upgrade: test"),
        ("GET / HTTP/1.1\r\nHost: x\r\nUpgrade: test\r\n\r\n".to_owned(), "send Connection: Upgrade and"),
        (format!("GET /own HTTP/1.1\r\nHost: x\r\n{offer}\r\n"), "needs a CONNECT request"),
    ] {
        let response = host.connect().send(&head).response();
        assert!(response.is(426).get("upgrade").is_some() && response.text().contains(text), "{head:?}");
        dropped.next();
    }
}
