//! The upgrade callback: wake-ups from other threads, corking, and TLS's own reads and writes. (The numbers are those
//! of the list of pitfalls.)

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::channel,
    },
    time::Duration,
};

use uncork::{EventMask, Io, Waker};

use crate::{
    upgrading::upgrading,
    wire::Finish,
    world::{World, report_channel},
};

matrix! {
    everywhere {
        a_wake_from_another_thread_calls,
        a_wake_that_comes_early_is_remembered,
        a_wake_from_inside_is_not_lost,
        a_wake_during_the_call_is_not_lost,
        a_storm_of_wakes_loses_none,
        a_wake_after_the_end_is_harmless,
        a_wake_is_a_wake_of_std_too,
        small_writes_share_a_segment,
        uncorked_writes_go_out_one_by_one,
        what_is_held_back_goes_out_when_uncorked,
        what_is_held_back_goes_out_by_itself,
    }
    http1 { new_keys_while_the_peer_does_not_read }
}

/// 12, 13
fn a_wake_from_another_thread_calls(world: &World) {
    let (report, wakers) = report_channel::<Waker>();
    let (host, _) = upgrading(world, move || {
        let (report, mut count) = (report.clone(), 0u8);
        move |io: &mut Io<'_>| {
            if io.events().is_woken() {
                count += 1;
                io.tx.write(&[count]);
            }
            let _ = report.send(io.waker());
            EventMask::EXTERNAL
        }
    });
    let mut wires: Vec<_> = (0..5).map(|_| host.connect()).collect();
    for wire in &mut wires {
        wire.upgrade();
        let waker = wakers.next();
        assert!(wire.is_silent(Duration::from_millis(10)));
        for n in 1..50 {
            waker.wake();
            wire.expect([n]);
            wakers.next();
        }
    }
}

/// 12: when the mask does not have EXTERNAL yet.
fn a_wake_that_comes_early_is_remembered(world: &World) {
    let (report, wakers) = report_channel::<Waker>();
    let (host, _) = upgrading(world, move || {
        let report = report.clone();
        move |io: &mut Io<'_>| {
            io.rx.consume(usize::MAX);
            if io.events().is_woken() {
                io.tx.write(b"woken");
                return EventMask::READ;
            }
            report.send(io.waker()).expect("a receiver");
            if io.events().is_readable() { EventMask::EXTERNAL } else { EventMask::READ }
        }
    });
    let mut wire = host.connect();
    wire.upgrade();
    let waker = wakers.next();
    waker.wake();
    waker.wake();
    assert!(wire.is_silent(Duration::from_millis(30)), "its mask does not have EXTERNAL");
    wire.send("x").expect("woken");
    assert!(wire.is_silent(Duration::from_millis(30)), "two wakes are one");
}

/// 12
fn a_wake_from_inside_is_not_lost(world: &World) {
    let (host, _) = upgrading(world, || {
        let mut left = 1000;
        move |io: &mut Io<'_>| {
            left -= 1;
            if left == 0 {
                io.tx.write(b"done");
                return EventMask::TERMINATE;
            }
            io.waker().wake();
            EventMask::EXTERNAL
        }
    });
    host.connect().upgrade().expect("done").ends(Finish::Clean);
}

/// 12
fn a_wake_during_the_call_is_not_lost(world: &World) {
    let (host, _) = upgrading(world, || {
        let mut left = 200;
        move |io: &mut Io<'_>| {
            left -= 1;
            if left == 0 {
                io.tx.write(b"done");
                return EventMask::TERMINATE;
            }
            let (waker, (report, reports)) = (io.waker(), channel());
            std::thread::spawn(move || {
                waker.wake();
                report.send(())
            });
            reports.recv().expect("woken");
            EventMask::EXTERNAL
        }
    });
    host.connect().upgrade().expect("done").ends(Finish::Clean);
}

/// 12: a value set before a wake-up is visible in a later call.
fn a_storm_of_wakes_loses_none(world: &World) {
    const EACH: usize = 2000;
    let (report, wakers) = report_channel::<Waker>();
    let set = Arc::new(AtomicUsize::new(0));
    let (seen, calls) = (set.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = calls.clone();
    let (host, _) = upgrading(world, move || {
        let (seen, calls) = (seen.clone(), counted.clone());
        let report = report.clone();
        move |io: &mut Io<'_>| {
            calls.fetch_add(1, Ordering::Relaxed);
            let _ = report.send(io.waker());
            if seen.load(Ordering::Acquire) == 8 * EACH {
                io.tx.write(b"all");
                return EventMask::TERMINATE;
            }
            EventMask::EXTERNAL
        }
    });
    let mut wire = host.connect();
    wire.upgrade();
    let waker = wakers.next();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..EACH {
                    set.fetch_add(1, Ordering::Release);
                    waker.wake();
                }
            });
        }
    });
    wire.expect("all").ends(Finish::Clean);
    assert!(calls.load(Ordering::Relaxed) <= 8 * EACH + 1, "a wake is at most one call");
}

/// 12: nor does it wake the next connection in the slot.
fn a_wake_after_the_end_is_harmless(world: &World) {
    let (report, wakers) = report_channel::<Waker>();
    let (host, ended) = upgrading(world, move || {
        let (report, calls) = (report.clone(), AtomicBool::new(false));
        move |io: &mut Io<'_>| {
            assert!(!io.events().is_woken(), "woken by the waker of an earlier connection");
            if !calls.swap(true, Ordering::Relaxed) {
                report.send(io.waker()).expect("a receiver");
            }
            io.rx.consume(usize::MAX);
            if io.events().is_readable() { EventMask::TERMINATE } else { EventMask::READ | EventMask::EXTERNAL }
        }
    });
    let mut old = Vec::new();
    for _ in 0..10 {
        let mut wire = host.connect();
        wire.upgrade();
        let own = wakers.next();
        old.iter().for_each(Waker::wake);
        assert!(ended.is_silent(Duration::from_millis(5)));
        wire.send("x").ends(Finish::Clean);
        wire.finish();
        ended.next();
        old.push(own);
    }
    host.stopper.stop_now();
    host.ends();
    old.iter().for_each(Waker::wake);
}

fn a_wake_is_a_wake_of_std_too(world: &World) {
    let (report, wakers) = report_channel::<std::task::Waker>();
    let (host, _) = upgrading(world, move || {
        let report = report.clone();
        move |io: &mut Io<'_>| {
            if io.events().is_woken() {
                io.tx.write(b"woken");
                return EventMask::TERMINATE;
            }
            report.send(io.waker().into()).expect("a receiver");
            EventMask::EXTERNAL
        }
    });
    let mut wire = host.connect();
    wire.upgrade();
    wakers.next().wake();
    wire.expect("woken").ends(Finish::Clean);
}

/// 15: what TLS needs does not depend on the application's mask.
fn new_keys_while_the_peer_does_not_read(world: &World) {
    for mask in [EventMask::WRITE | EventMask::EXTERNAL, EventMask::EXTERNAL] {
        let (report, wakers) = report_channel::<Waker>();
        let (host, _) = upgrading(world, move || {
            let report = report.clone();
            move |io: &mut Io<'_>| {
                if io.events().is_readable() {
                    io.tx.write(io.rx.bytes());
                    return EventMask::TERMINATE;
                }
                if io.events().is_woken() {
                    io.tx.write(b"with new keys");
                    return EventMask::READ;
                }
                let _ = report.send(io.waker());
                mask
            }
        });
        let mut wire = host.connect();
        wire.upgrade();
        for _ in 0..20 {
            wire.rekey();
        }
        let turns = host.turns();
        assert!(wire.is_silent(Duration::from_millis(30)));
        assert!(host.turns() - turns < 30, "the loop spins");
        wakers.next().wake();
        wire.expect("with new keys");
        wire.rekey();
        wire.send("so have I").expect("so have I").ends(Finish::Clean);
    }
}

/// 11: one call, one byte.
fn small_writes_share_a_segment(world: &World) {
    let (host, _) = upgrading(world, || {
        let mut left = 0;
        move |io: &mut Io<'_>| {
            if io.events().is_readable() {
                io.rx.consume(usize::MAX);
                left = 10;
            }
            if left > 0 {
                left -= 1;
                io.tx.write(b"x");
            }
            if left == 0 { EventMask::READ } else { EventMask::WRITE }
        }
    });
    let mut wire = host.connect();
    wire.upgrade();
    for _ in 0..10 {
        let records = wire.records();
        assert_eq!(wire.send("go").once().len(), 10, "in one segment");
        assert_eq!(wire.records() - records, usize::from(world.tls && !world.is_http2()), "in one record");
    }
}

/// 11: with CORK, each byte leaves before the next call.
fn uncorked_writes_go_out_one_by_one(world: &World) {
    let (host, _) = upgrading(world, || {
        let mut left = 10;
        move |io: &mut Io<'_>| {
            left -= 1;
            io.tx.write(b"x");
            if left == 0 { EventMask::TERMINATE } else { EventMask::WRITE | EventMask::CORK }
        }
    });
    let mut wire = host.connect();
    let records = wire.records();
    wire.upgrade().expect("xxxxxxxxxx");
    assert!(!world.tls || world.is_http2() || wire.records() - records >= 11, "each in a record of its own");
    wire.ends(Finish::Clean);
}

/// 11: even if nothing new was written.
fn what_is_held_back_goes_out_when_uncorked(world: &World) {
    let (report, wakers) = report_channel::<Waker>();
    let (host, _) = upgrading(world, move || {
        let report = report.clone();
        move |io: &mut Io<'_>| {
            io.rx.consume(usize::MAX);
            if io.events().is_readable() {
                io.tx.write(b"held");
            } else if io.events().is_writable() {
                // Not from the first call: its output may leave with the 101.
                let _ = report.send(io.waker());
            } else if io.events().is_woken() {
                return EventMask::READ | EventMask::WRITE | EventMask::EXTERNAL | EventMask::CORK;
            }
            EventMask::READ | EventMask::WRITE | EventMask::EXTERNAL
        }
    });
    let mut wire = host.connect();
    wire.upgrade().send("go");
    let waker = wakers.next();
    assert!(wire.is_silent(Duration::from_millis(30)), "more may be coming");
    waker.wake();
    assert!(!wire.is_silent(Duration::from_millis(100)), "CORK was set");
    wire.expect("held");
}

/// 11: after at most 200 ms.
fn what_is_held_back_goes_out_by_itself(world: &World) {
    let (host, _) = upgrading(world, || {
        |io: &mut Io<'_>| {
            io.rx.consume(usize::MAX);
            if io.events().is_readable() {
                io.tx.write(b"held");
            }
            EventMask::READ | EventMask::WRITE
        }
    });
    let mut wire = host.connect();
    wire.upgrade().send("go");
    assert!(wire.is_silent(Duration::from_millis(30)), "more may be coming");
    wire.expect("held");
}
