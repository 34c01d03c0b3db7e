//! The upgrade callback: how it ends, in either direction. (The numbers are those of the list of pitfalls.)

use std::time::Duration;

use uncork::{EndReason, EventMask, Io, Limits, ReadState, RequestEnd, Timeout, Waker};

use crate::{
    upgrading::{Call, upgrading, upgrading_within},
    wire::{Finish, UPGRADE},
    world::{Host, Reports, World, report_channel},
};

matrix! {
    everywhere {
        the_end_is_reported_once_after_all_data,
        the_end_waits_for_what_is_not_consumed,
        waiting_after_the_end_is_terminated,
        a_deadline_behind_the_end_is_kept,
        a_truncated_stream_differs_from_a_clean_end,
        a_half_closed_peer_still_receives,
        a_half_closed_client_still_receives,
        an_end_that_was_not_requested_is_kept,
        a_reset_is_reported_with_any_mask,
        a_writer_learns_of_a_reset,
        terminate_sends_all_that_was_written,
        terminate_at_once_sends_an_end,
        terminate_before_a_slow_reader_loses_nothing,
        terminate_gives_up_a_peer_that_never_reads,
        without_a_send_timeout_a_peer_may_read_late,
        abort_resets,
    }
    http1 { a_broken_record_is_a_reset }
}

/// An upgrade that reports each call, consumes everything, and returns the mask that the test sets.
fn watched(world: &World, mask: EventMask) -> (Host, Reports<RequestEnd>, Reports<Call>) {
    let (report, calls) = report_channel();
    let (host, ended) = upgrading(world, move || {
        let report = report.clone();
        move |io: &mut Io<'_>| {
            report.send(Call::of(io)).expect("a receiver");
            io.rx.consume(usize::MAX);
            mask
        }
    });
    (host, ended, calls)
}

/// 4
fn the_end_is_reported_once_after_all_data(world: &World) {
    let (host, _, calls) = watched(world, EventMask::READ);
    for early in [true, false] {
        let mut wire = host.connect();
        if early {
            wire.send([UPGRADE, "data"].concat()).finish().head().is(101);
        } else {
            wire.upgrade().send("data").finish();
        }
        let mut got = 0;
        let last = loop {
            let call = calls.next();
            got += call.bytes;
            assert_eq!(
                call.events.is_read_closed(),
                call.end != ReadState::Open,
                "reported in the first call after the event"
            );
            if call.events.is_read_closed() {
                break call;
            }
        };
        assert_eq!((got, last.end), (4, ReadState::Eof));
        assert!(calls.is_silent(Duration::from_millis(50)), "it is reported once");
    }
}

/// 4: no event would call it again.
fn waiting_after_the_end_is_terminated(world: &World) {
    let (host, ended) = upgrading(world, || {
        |io: &mut Io<'_>| {
            if io.events().is_read_closed() {
                io.tx.write(b"bye");
            }
            EventMask::READ
        }
    });
    for half_closed_first in [true, false] {
        let mut wire = host.connect();
        if half_closed_first {
            wire.send(UPGRADE).finish().head().is(101);
        } else {
            wire.upgrade().finish();
        }
        wire.expect("bye").ends(Finish::Clean);
        assert_eq!(ended.next().reason, EndReason::Complete);
    }
}

/// 4: unless another event can.
fn a_deadline_behind_the_end_is_kept(world: &World) {
    let (host, ended) = upgrading(world, || {
        |io: &mut Io<'_>| {
            if io.events().is_read_closed() {
                io.set_deadline(Some(io.now().mono + Duration::from_millis(20)));
            }
            if io.events().deadline_passed() {
                io.tx.write(b"late");
            }
            EventMask::READ
        }
    });
    let mut wire = host.connect();
    wire.upgrade().finish();
    wire.expect("late").ends(Finish::Clean);
    assert_eq!(ended.next().reason, EndReason::Complete);
}

/// 4: the state is Eof only when all input is visible.
fn the_end_waits_for_what_is_not_consumed(world: &World) {
    const ALL: usize = 100_000;
    let (report, reports) = report_channel();
    let limits = Limits { upgrade_input: 8192, ..Limits::default() };
    let (host, ended) = upgrading_within(world, limits, move || {
        let (report, mut got) = (report.clone(), 0);
        move |io: &mut Io<'_>| {
            if io.rx.state() != ReadState::Open {
                report.send((got + io.rx.bytes().len(), io.rx.state())).expect("a receiver");
                return EventMask::TERMINATE;
            }
            got += io.rx.bytes().len().min(1000);
            io.rx.consume(1000);
            EventMask::READ | EventMask::WRITE
        }
    });
    let mut wire = host.connect();
    wire.upgrade();
    for _ in 0..ALL / 500 {
        wire.send([b'x'; 500]);
    }
    wire.finish().ends(Finish::Clean);
    assert_eq!((reports.next(), ended.next().reason), ((ALL, ReadState::Eof), EndReason::Complete));
}

/// 4
fn a_truncated_stream_differs_from_a_clean_end(world: &World) {
    let (host, _, calls) = watched(world, EventMask::READ);
    for cut in [true, false] {
        let mut wire = host.connect();
        wire.upgrade();
        if cut {
            wire.end_tcp();
        } else {
            wire.finish();
        }
        let end =
            std::iter::repeat_with(|| calls.next()).find(|call| call.end != ReadState::Open).expect("endless").end;
        assert_eq!(end, if cut && (world.tls || world.is_http2()) { ReadState::Truncated } else { ReadState::Eof });
    }
}

/// 5
fn a_half_closed_peer_still_receives(world: &World) {
    let (host, ended) = upgrading(world, || {
        let mut left = 300_000;
        move |io: &mut Io<'_>| {
            if io.rx.state() == ReadState::Open {
                return EventMask::READ;
            }
            left -= io.tx.write(&vec![b'x'; left]);
            if left == 0 { EventMask::TERMINATE } else { EventMask::WRITE }
        }
    });
    for mut wire in [host.connect(), host.connect_older()] {
        wire.upgrade().finish();
        let (rest, finish) = wire.until_end();
        assert_eq!((rest.len(), finish), (300_000, Finish::Clean));
        assert_eq!(ended.next().reason, EndReason::Complete);
    }
}

/// 5
fn a_half_closed_client_still_receives(world: &World) {
    const ALL: usize = 3_000_000;
    let (report, got) = report_channel();
    let (host, ended) = upgrading(world, move || {
        let (report, mut count) = (report.clone(), 0);
        move |io: &mut Io<'_>| {
            if count == 0 && !io.events().is_readable() {
                io.tx.write(b"your turn");
                io.tx.finish();
                assert_eq!((io.tx.room(), io.tx.write(b"more")), (0, 0));
            }
            count += io.rx.bytes().len();
            io.rx.consume(usize::MAX);
            if io.rx.state() == ReadState::Open {
                return EventMask::READ;
            }
            report.send((count, io.rx.state())).expect("a receiver");
            EventMask::TERMINATE
        }
    });
    for mut wire in [host.connect(), host.connect_older()] {
        wire.upgrade().expect("your turn").ends(Finish::Clean);
        wire.send(vec![b'x'; ALL]).finish();
        assert_eq!(got.next(), (ALL, ReadState::Eof));
        assert_eq!(ended.next().reason, EndReason::Complete);
    }
}

/// Waits for a wake-up, then reads.
fn sleeping(world: &World) -> (Host, Reports<RequestEnd>, Reports<Call>, Reports<Waker>) {
    let ((report, calls), (report_waker, wakers)) = (report_channel(), report_channel());
    let (host, ended) = upgrading(world, move || {
        let (report, report_waker, mut mask) = (report.clone(), report_waker.clone(), EventMask::EXTERNAL);
        move |io: &mut Io<'_>| {
            report.send(Call::of(io)).expect("a receiver");
            let _ = report_waker.send(io.waker());
            io.rx.consume(usize::MAX);
            if io.events().is_woken() {
                mask = EventMask::READ;
            }
            mask
        }
    });
    (host, ended, calls, wakers)
}

/// 6: the end causes no call, and is visible in the next one.
fn an_end_that_was_not_requested_is_kept(world: &World) {
    let (host, _, calls, wakers) = sleeping(world);
    let mut wire = host.connect();
    wire.upgrade().send("data").finish();
    let waker = wakers.next();
    calls.next();
    let turns = host.turns();
    assert!(calls.is_silent(Duration::from_millis(100)));
    assert!(host.turns() - turns < 20, "the loop spins");
    waker.wake();
    assert!(calls.next().events.is_woken());
    let end = std::iter::repeat_with(|| calls.next()).find(|call| call.events.is_read_closed()).expect("endless");
    assert_eq!(end.end, ReadState::Eof);
}

/// 6
fn a_reset_is_reported_with_any_mask(world: &World) {
    for mask in [EventMask::EXTERNAL, EventMask::READ, EventMask::WRITE] {
        let (host, ended, calls) = watched(world, mask);
        let mut wire = host.connect();
        wire.upgrade();
        assert!(!calls.next().events.is_error());
        wire.reset();
        assert_eq!(ended.next().reason, EndReason::PeerClosed, "{mask:?}");
        drop(host);
        let calls = calls.rest();
        let (last, others) = calls.split_last().expect("the reset");
        assert!(last.events.is_error() && last.end == ReadState::Truncated, "{mask:?}: {last:?}");
        assert!(others.iter().all(|call| !call.events.is_error()), "it is reported once");
        assert_eq!(ended.rest().len(), 0);
    }
}

/// 6: if the write notices it first.
fn a_writer_learns_of_a_reset(world: &World) {
    let (report, calls) = report_channel();
    let (host, ended) = upgrading(world, move || {
        let report = report.clone();
        move |io: &mut Io<'_>| {
            let _ = report.send(io.events().is_error());
            io.tx.write(&[b'x'; 50_000]);
            EventMask::WRITE
        }
    });
    let mut wire = host.connect();
    wire.upgrade().exactly(100_000);
    wire.reset();
    assert_eq!(ended.next().reason, EndReason::PeerClosed);
    drop(host);
    let reports = calls.rest();
    assert_eq!((reports.iter().filter(|reset| **reset).count(), reports.last()), (1, Some(&true)));
}

/// Writes `size` bytes in one call, then terminates.
fn writes(world: &World, limits: Limits, size: usize) -> (Host, Reports<RequestEnd>) {
    let limits = Limits { output: size.max(1), ..limits };
    upgrading_within(world, limits, move || {
        let mut called = false;
        move |io: &mut Io<'_>| {
            assert!(!std::mem::replace(&mut called, true), "never called again");
            assert_eq!(io.tx.write(&vec![b'x'; size]), size);
            EventMask::TERMINATE
        }
    })
}

/// 17: although the peer continues to send, and reads late.
fn terminate_sends_all_that_was_written(world: &World) {
    const ALL: usize = 4 << 20;
    let (host, ended) = writes(world, Limits::default(), ALL);
    let mut wire = host.connect();
    wire.upgrade();
    let mut got = 0;
    while got < ALL {
        wire.push(&[b'y'; 20_000], Duration::from_millis(5));
        got += wire.exactly((ALL - got).min(200_000)).len();
    }
    wire.finish().ends(Finish::Clean);
    assert_eq!(ended.next().reason, EndReason::Complete);
    drop(host);
    assert_eq!(ended.rest().len(), 0);
}

/// 16, 19: `EventMask::TERMINATE` is the only name of 0.
fn terminate_at_once_sends_an_end(world: &World) {
    for mask in [EventMask::TERMINATE, EventMask::CORK] {
        let (host, ended, calls) = watched(world, mask);
        let mut wire = host.connect();
        wire.upgrade().ends(Finish::Clean);
        wire.finish();
        assert_eq!((ended.next().reason, calls.next().bytes, calls.rest().len()), (EndReason::Complete, 0, 0));
    }
}

/// 17: data in the system's buffers was not delivered yet: the linger ends only when delivery stops.
fn terminate_before_a_slow_reader_loses_nothing(world: &World) {
    const ALL: usize = 1 << 20;
    let limits = Limits { linger_timeout: Duration::from_millis(100), ..Limits::default() };
    let (host, _) = writes(world, limits, ALL);
    let mut wire = host.connect_narrow();
    wire.upgrade();
    for _ in 0..16 {
        // Input that arrives after the socket is closed would cause a reset.
        wire.exactly(ALL / 16 - 1);
        wire.send("more").exactly(1);
    }
    wire.finish().ends(Finish::Clean);
}

/// 17
fn terminate_gives_up_a_peer_that_never_reads(world: &World) {
    let limits = Limits { send_timeout: Duration::from_millis(150), ..Limits::default() };
    let (host, ended) = writes(world, limits, 12 << 20);
    let mut wire = host.connect_narrow();
    wire.upgrade();
    assert_eq!(ended.next().reason, EndReason::TimedOut(Timeout::Send));
    assert_eq!(wire.until_end().1, Finish::Reset);
}

/// 23: and until it terminates only.
fn without_a_send_timeout_a_peer_may_read_late(world: &World) {
    const ALL: usize = 12 << 20;
    let send_timeout = Duration::from_millis(100);
    let limits = Limits { send_timeout, output: ALL, ..Limits::default() };
    let (host, ended) = upgrading_within(world, limits, || {
        |io: &mut Io<'_>| {
            io.remove_send_timeout();
            match io.events().is_readable() {
                true => return EventMask::TERMINATE,
                false => assert_eq!(io.tx.write_with(ALL, |room| room.len()), ALL),
            }
            EventMask::READ
        }
    });
    let mut wire = host.connect_narrow();
    wire.upgrade();
    assert!(ended.is_silent(send_timeout * 6), "the timeout has no effect");
    wire.send("x");
    assert_eq!(ended.next().reason, EndReason::TimedOut(Timeout::Send));
    assert_eq!(wire.until_end().1, Finish::Reset);
}

/// 18
fn abort_resets(world: &World) {
    let (host, ended) = upgrading(world, || {
        |io: &mut Io<'_>| {
            io.tx.write(b"dropped");
            if io.events().is_readable() {
                io.abort();
            }
            EventMask::READ
        }
    });
    let mut wire = host.connect();
    wire.upgrade().expect("dropped").send("x");
    wire.ends(Finish::Reset);
    assert_eq!(ended.next().reason, EndReason::Aborted);
    drop(host);
    assert_eq!(ended.rest().len(), 0);
}

/// 6, 15: a transport that fails is reported like a reset.
fn a_broken_record_is_a_reset(world: &World) {
    if !world.tls {
        return;
    }
    for mask in [EventMask::READ, EventMask::EXTERNAL] {
        let (host, ended, calls) = watched(world, mask);
        let mut wire = host.connect();
        wire.upgrade();
        calls.next();
        wire.send_raw(b"\x17\x03\x03\x00\x20 this is no ciphertext of ours..");
        assert!(calls.next().events.is_error());
        assert_ne!(ended.next().reason, EndReason::Complete);
    }
}
