//! The upgrade callback: the events of a call, the time of a call, and the effect of a server's end and of a panic.
//! (The numbers are those of the list of pitfalls.)

use std::{
    io,
    sync::{Arc, mpsc::channel},
    time::Duration,
};

use uncork::{EndReason, EventMask, Events, Io, Limits, ReadState, RequestEnd, Waker};

use crate::{
    upgrading::{Call, echo, upgrading, upgrading_within},
    wire::{Finish, UPGRADE, Wire},
    world::{Host, Mode, Reports, World, report_channel},
};

matrix! {
    everywhere {
        each_reason_comes_alone,
        reasons_come_together,
        a_deadline_fires_once_with_any_mask,
        a_deadline_may_be_forgotten,
        stopping_is_reported_once_with_any_mask,
        the_grace_period_ends_open_connections,
        a_stop_at_once_ends_an_upgrade,
        a_panic_aborts,
        it_is_dropped_once_and_on_its_own_loop,
        it_counts_toward_the_limit,
        it_outlives_the_clocks_of_http,
    }
}

/// Returns all events as text.
fn names(events: Events) -> String {
    let all = [
        (events.is_readable(), "read"),
        (events.is_writable(), "write"),
        (events.is_woken(), "external"),
        (events.is_read_closed(), "end"),
        (events.deadline_passed(), "deadline"),
        (events.is_stopping(), "stopping"),
        (events.is_error(), "reset"),
    ];
    all.into_iter().filter(|(there, _)| *there).map(|(_, name)| name).collect::<Vec<_>>().join("+")
}

struct Watched {
    host: Host,
    ended: Reports<RequestEnd>,
    events: Reports<String>,
    wakers: Reports<Waker>,
}

/// Reports the events of each call, and returns READ and EXTERNAL; the input "deadline" sets a deadline.
fn watched(world: &World) -> Watched {
    let ((report, events), (report_waker, wakers)) = (report_channel(), report_channel());
    let (host, ended) = upgrading(world, move || {
        let (report, report_waker) = (report.clone(), report_waker.clone());
        move |io: &mut Io<'_>| {
            let _ = report.send(names(io.events()));
            if io.events() == Events::default() {
                let _ = report_waker.send(io.waker());
            }
            if io.rx.bytes() == b"deadline" {
                io.set_deadline(Some(io.now().mono + Duration::from_millis(20)));
            }
            let fill = io.rx.bytes() == b"fill";
            io.rx.consume(usize::MAX);
            if fill {
                let room = io.tx.room();
                io.tx.write(&vec![b'x'; room]);
                return EventMask::WRITE;
            }
            EventMask::READ | EventMask::EXTERNAL
        }
    });
    Watched { host, ended, events, wakers }
}

impl Watched {
    fn connect(&self) -> (Wire, Waker) {
        let mut wire = self.host.connect();
        wire.upgrade();
        assert_eq!(self.events.next(), "", "the first call has no event");
        (wire, self.wakers.next())
    }
}

/// 3
fn each_reason_comes_alone(world: &World) {
    let watched = watched(world);
    let (mut wire, waker) = watched.connect();
    wire.send("x");
    assert_eq!(watched.events.next(), "read");
    waker.wake();
    assert_eq!(watched.events.next(), "external");
    wire.send("deadline");
    assert_eq!((watched.events.next(), watched.events.next()), ("read".into(), "deadline".into()));
    wire.send("fill");
    assert_eq!((watched.events.next(), watched.events.next()), ("read".into(), "write".into()));
    wire.exactly(Limits::default().output);
    wire.finish();
    assert_eq!(watched.events.next(), "end");
    watched.host.stopper.shutdown(Duration::from_millis(50));
    assert_eq!(watched.events.next(), "stopping");
    assert_eq!(watched.ended.next().reason, EndReason::Stopped);
    assert!(watched.events.rest().is_empty());
}

/// 3
fn reasons_come_together(world: &World) {
    let (report, calls) = report_channel();
    let (host, _) = upgrading(world, move || {
        let (report, mut first) = (report.clone(), true);
        move |io: &mut Io<'_>| {
            let _ = report.send((names(io.events()), io.rx.bytes().len(), io.rx.state()));
            if std::mem::take(&mut first) {
                io.waker().wake();
                io.set_deadline(Some(io.now().mono));
            }
            io.rx.consume(usize::MAX);
            EventMask::READ | EventMask::EXTERNAL
        }
    });
    let mut wire = host.connect();
    wire.upgrade();
    calls.next();
    let (mut all, mut got) = (String::new(), 0);
    wire.send("data").finish();
    while !["read", "end", "external", "deadline"].iter().all(|reason| all.contains(reason)) {
        let (events, bytes, end) = calls.next();
        (all, got) = (all + &events, got + bytes);
        assert!(end == ReadState::Eof || !events.contains("end"));
    }
    assert_eq!(got, 4);
}

/// 23
fn a_deadline_fires_once_with_any_mask(world: &World) {
    for mask in [EventMask::READ, EventMask::WRITE, EventMask::EXTERNAL] {
        let (report, calls) = report_channel();
        let (host, _) = upgrading(world, move || {
            let (report, mut left) = (report.clone(), 3);
            move |io: &mut Io<'_>| {
                if io.events().deadline_passed() || left == 3 {
                    left -= 1;
                    if left > 0 {
                        io.set_deadline(Some(io.now().mono + Duration::from_millis(10)));
                    }
                    let _ = report.send(io.now().mono);
                }
                mask
            }
        });
        let mut wire = host.connect();
        wire.upgrade();
        let at = [calls.next(), calls.next(), calls.next()];
        assert!(at.windows(2).all(|two| two[1] - two[0] >= Duration::from_millis(10)), "{mask:?}: {at:?}");
        assert!(calls.is_silent(Duration::from_millis(40)), "it was not renewed");
    }
}

fn a_deadline_may_be_forgotten(world: &World) {
    let (report, calls) = report_channel();
    let (host, _) = upgrading(world, move || {
        let report = report.clone();
        move |io: &mut Io<'_>| {
            let soon = io.now().mono + Duration::from_millis(20);
            io.set_deadline((!io.events().is_readable()).then_some(soon));
            io.rx.consume(usize::MAX);
            report.send(names(io.events())).expect("a receiver");
            EventMask::READ
        }
    });
    let mut wire = host.connect();
    wire.upgrade();
    assert_eq!((calls.next(), calls.next()), (String::new(), "deadline".into()));
    wire.send("x");
    while calls.next() != "read" {}
    assert!(calls.is_silent(Duration::from_millis(60)));
}

/// 20
fn stopping_is_reported_once_with_any_mask(world: &World) {
    for mask in [EventMask::READ, EventMask::WRITE, EventMask::EXTERNAL] {
        let (report, calls) = report_channel();
        let (host, ended) = upgrading(world, move || {
            let report = report.clone();
            move |io: &mut Io<'_>| {
                let _ = report.send((Call::of(io), io.waker()));
                if io.events().is_woken() {
                    io.tx.write(b"farewell");
                    return EventMask::TERMINATE;
                }
                if io.events().is_stopping() { EventMask::EXTERNAL } else { mask }
            }
        });
        let mut wire = host.connect();
        wire.upgrade();
        assert!(!calls.next().0.events.is_stopping());
        host.stopper.shutdown(Duration::from_secs(60));
        let (call, waker) =
            std::iter::repeat_with(|| calls.next()).find(|(c, _)| c.events.is_stopping()).expect("endless");
        assert!(call.end == ReadState::Open);
        assert!(calls.is_silent(Duration::from_millis(30)), "notified once, with its grace period");
        waker.wake();
        wire.expect("farewell").ends(Finish::Clean);
        wire.finish();
        assert_eq!(ended.next().reason, EndReason::Complete);
        host.ends();
    }
}

/// 20
fn the_grace_period_ends_open_connections(world: &World) {
    let watched = watched(world);
    let (mut wire, waker) = watched.connect();
    watched.host.stopper.shutdown(Duration::from_millis(80));
    assert_eq!(watched.events.next(), "stopping");
    wire.send("x");
    assert_eq!(watched.events.next(), "read");
    assert_eq!(watched.ended.next().reason, EndReason::Stopped);
    assert_ne!(
        wire.until_end().1,
        if world.tls || world.is_http2() { Finish::Clean } else { Finish::Truncated },
        "no clean end was made up"
    );
    watched.host.ends();
    waker.wake();
    assert_eq!((watched.events.rest().len(), watched.ended.rest().len()), (0, 0));
}

/// 20: idle, or with output that the peer does not take.
fn a_stop_at_once_ends_an_upgrade(world: &World) {
    let watched = watched(world);
    let ((_idle, _), (mut busy, _)) = (watched.connect(), watched.connect());
    busy.send("fill");
    assert_eq!(watched.events.next(), "read");
    watched.host.stopper.stop_now();
    assert_eq!([watched.ended.next().reason, watched.ended.next().reason], [EndReason::Stopped, EndReason::Stopped]);
    watched.host.ends();
}

/// 21
fn a_panic_aborts(world: &World) {
    let (host, ended) = upgrading(world, || {
        |io: &mut Io<'_>| {
            io.tx.write(b"dropped");
            assert!(!io.events().is_readable(), "on purpose");
            EventMask::READ
        }
    });
    let mut good = host.connect();
    good.upgrade().expect("dropped");
    let mut wire = host.connect();
    wire.upgrade().expect("dropped").send("x");
    wire.ends(Finish::Reset);
    assert_eq!(ended.next().reason, EndReason::Panicked);
    assert!(good.is_silent(Duration::from_millis(10)));
    drop((good, host));
    assert_eq!(ended.rest().len(), 1);
}

/// Reports the thread that drops it.
struct Guard(std::sync::mpsc::Sender<std::thread::ThreadId>);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.send(std::thread::current().id());
    }
}

/// 21
fn it_is_dropped_once_and_on_its_own_loop(world: &World) {
    let ((report, dropped), (tell_call, called)) = (report_channel(), report_channel());
    let (host, ended) = upgrading(world, move || {
        let (guard, tell_call) = (Guard(report.clone()), tell_call.clone());
        move |io: &mut Io<'_>| {
            let _ = (&guard, tell_call.send(std::thread::current().id()));
            match io.rx.bytes() {
                b"panic" => panic!("on purpose"),
                b"abort" => io.abort(),
                b"terminate" => return EventMask::TERMINATE,
                _ => {}
            }
            EventMask::READ
        }
    });
    for way in ["panic", "abort", "terminate", "reset"] {
        let mut wire = host.connect();
        wire.upgrade();
        let thread = called.next();
        if way == "reset" {
            wire.reset();
        } else {
            wire.send(way).until_end();
        }
        assert_eq!(dropped.next(), thread, "{way}");
        ended.next();
        called.rest();
    }
    let mut wire = host.connect();
    wire.upgrade();
    drop(host);
    dropped.next();
    assert_eq!((dropped.rest().len(), ended.rest().len()), (0, 1));
}

/// 24
fn it_counts_toward_the_limit(world: &World) {
    let limits = Limits { connections_per_address: 1, ..Limits::default() };
    let (host, ended) = upgrading_within(world, limits, echo);
    let mut wire = host.connect();
    wire.upgrade();
    let late = host.try_connect().and_then(|mut wire| {
        wire.try_send(UPGRADE)?;
        wire.try_response()
    });
    assert!(late.is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock));
    wire.send("still there").expect("still there");
    wire.finish().ends(Finish::Clean);
    ended.next();
}

/// 23: neither the idle timeout nor the head's applies to an upgrade.
fn it_outlives_the_clocks_of_http(world: &World) {
    let short = Duration::from_millis(60);
    let limits = Limits {
        idle_timeout: short,
        head_timeout: short,
        body_timeout: short,
        send_timeout: short,
        ..Limits::default()
    };
    let (host, _) = upgrading_within(world, limits, echo);
    let mut wire = host.connect();
    wire.upgrade();
    assert!(wire.is_silent(short * 3));
    wire.send("still there").expect("still there");
}

/// 20, 27: with one thread per connection a handler may block. Nothing wakes it, and it is abandoned after the grace
/// period.
#[test]
fn a_blocked_upgrade_is_abandoned_with_its_thread() {
    let world = World::plain(Mode::ThreadPerConnection);
    let ((report, blocked), (release, released)) = (report_channel(), channel::<()>());
    let released = Arc::new(std::sync::Mutex::new(released));
    let (mut host, _) = upgrading(&world, move || {
        let (report, released) = (report.clone(), released.clone());
        move |_: &mut Io<'_>| {
            report.send(()).expect("a receiver");
            let _ = released.lock().expect("whole").recv();
            EventMask::TERMINATE
        }
    });
    let mut wire = host.connect();
    wire.send(UPGRADE);
    blocked.next();
    host.stopper.stop_now();
    assert_eq!(host.result().expect_err("one thread still runs").kind(), io::ErrorKind::TimedOut);
    drop(release);
}
