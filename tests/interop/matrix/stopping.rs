//! The end of a server, at once or gracefully.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    time::Duration,
};

use uncork::{Action, EndReason, Handler, Produced, Request, Response, StopHandle, Ticket, Tx, Waker};

use crate::{
    wire::Finish,
    world::{Mode, World, report_channel, report_end},
};

matrix! {
    everywhere {
        at_once_everything_ends,
        gracefully_a_response_is_finished,
        gracefully_idle_connections_close,
        the_handler_is_notified,
        a_handler_may_stop_its_server,
        a_second_order_shortens_the_grace,
        no_client_can_connect_afterwards,
    }
    http1 {
        gracefully_a_suspended_request_has_the_grace_period,
        gracefully_a_half_sent_request_gets_a_response,
    }
}

const LONG: Duration = Duration::from_secs(60);

fn at_once_everything_ends(world: &World) {
    let ((report, ended), (report_ticket, tickets)) = (report_channel(), report_channel::<Ticket>());
    let host = world.serve(move |req: &mut Request<'_>| {
        report_end(req, &report);
        match req.path() {
            "/wait" => {
                report_ticket.send(req.ticket()).expect("a receiver");
                Action::Suspend
            }
            "/stream" => Response::stream(|_: &mut Tx<'_>| Produced::Pending).into(),
            _ => Response::text("fine").into(),
        }
    });
    let (mut idle, mut waiting, mut streaming) = (host.connect(), host.connect(), host.connect());
    idle.request("GET /", &[]).response();
    assert_eq!(ended.next().reason, EndReason::Complete);
    waiting.request("GET /wait", &[]);
    let ticket = tickets.next();
    streaming.request("GET /stream", &[]).head().is(200);
    host.stopper.stop_now();
    assert_eq!([ended.next().reason, ended.next().reason], [EndReason::Stopped, EndReason::Stopped]);
    host.ends();
    assert!(ticket.respond(Response::new(200)).is_err());
    assert_eq!(streaming.until_end().1, Finish::Reset);
    waiting.response().is(503);
    assert!(idle.until_end().0.is_empty());
    assert_eq!(ended.rest().len(), 0);
}

fn gracefully_a_response_is_finished(world: &World) {
    let (report, reports) = report_channel::<Waker>();
    let host = world.serve(move |req: &mut Request<'_>| {
        report.send(req.waker()).expect("a receiver");
        let mut calls = 0;
        Response::stream(move |out: &mut Tx<'_>| {
            calls += 1;
            out.write(b"part");
            if calls == 3 { Produced::End } else { Produced::Pending }
        })
    });
    let mut wire = host.connect();
    wire.request("GET /", &[]).head().is(200);
    let waker = reports.next();
    assert_eq!(wire.next_chunk(), b"part");
    host.stopper.shutdown(LONG);
    for _ in 0..2 {
        waker.wake();
        assert_eq!(wire.next_chunk(), b"part");
    }
    assert_eq!(wire.next_chunk(), b"");
    wire.ends(Finish::Clean);
    host.ends();
}

fn gracefully_a_suspended_request_has_the_grace_period(world: &World) {
    for in_time in [true, false] {
        let ((report, tickets), (report_ends, ended)) = (report_channel::<Ticket>(), report_channel());
        let host = world.serve(move |req: &mut Request<'_>| {
            report_end(req, &report_ends);
            report.send(req.ticket()).expect("a receiver");
            Action::Suspend
        });
        let mut wire = host.connect();
        wire.request("GET /", &[]);
        let ticket = tickets.next();
        host.stopper.shutdown(if in_time { LONG } else { Duration::from_millis(100) });
        if in_time {
            assert!(ended.is_silent(Duration::from_millis(50)));
            ticket.respond(Response::text("in time")).expect("a suspended request");
        }
        let response = wire.response();
        assert_eq!(response.is(if in_time { 200 } else { 503 }).get("connection"), Some("close"));
        assert_eq!(ended.next().reason, if in_time { EndReason::Complete } else { EndReason::Stopped });
        host.ends();
        assert_eq!(ended.rest().len(), 0);
    }
}

fn gracefully_idle_connections_close(world: &World) {
    let host = world.serve(|_: &mut Request<'_>| Response::text("fine"));
    let (mut used, mut fresh) = (host.connect(), host.connect());
    used.request("GET /", &[]).response();
    host.stopper.shutdown(LONG);
    used.ends(Finish::Clean);
    fresh.ends(Finish::Clean);
    host.ends();
}

fn gracefully_a_half_sent_request_gets_a_response(world: &World) {
    let (report, seen) = report_channel();
    let host = world.serve(move |_: &mut Request<'_>| {
        report.send(()).expect("a receiver");
        Response::text("fine")
    });
    let mut wire = host.connect();
    // The second request has begun when the first gets its response.
    wire.send("GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHo").response();
    seen.next();
    host.stopper.shutdown(LONG);
    assert_eq!(wire.send("st: x\r\n\r\n").response().is(200).get("connection"), Some("close"));
    wire.ends(Finish::Clean);
    host.ends();
}

/// Reports that the server stops.
#[derive(Clone)]
struct Listening(Sender<()>);

impl Handler for Listening {
    fn request(&mut self, _: &mut Request<'_>) -> Action {
        Response::stream(|_: &mut Tx<'_>| Produced::Pending).into()
    }

    fn stopping(&mut self) {
        let _ = self.0.send(());
    }
}

fn the_handler_is_notified(world: &World) {
    let (report, reports) = report_channel();
    let host = world.serve(Listening(report));
    host.connect().request("GET /", &[]).head().is(200);
    host.stopper.shutdown(Duration::ZERO);
    reports.next();
    host.ends();
}

fn a_handler_may_stop_its_server(world: &World) {
    let (give, get): (Sender<StopHandle>, Receiver<StopHandle>) = channel();
    let get = std::sync::Arc::new(std::sync::Mutex::new(get));
    let host = world.serve(move |_: &mut Request<'_>| {
        get.lock().expect("whole").recv().expect("a stopper").shutdown(LONG);
        Response::text("the last")
    });
    give.send(host.stopper.clone()).expect("a receiver");
    let mut wire = host.connect();
    assert_eq!(wire.request("GET /", &[]).response().text(), "the last");
    assert!(wire.until_end().0.is_empty());
    host.ends();
}

fn a_second_order_shortens_the_grace(world: &World) {
    let host = world.serve(|_: &mut Request<'_>| Response::stream(|_: &mut Tx<'_>| Produced::Pending));
    let mut wire = host.connect();
    wire.request("GET /", &[]).head().is(200);
    host.stopper.shutdown(LONG);
    host.stopper.shutdown(Duration::from_millis(20));
    assert_eq!(wire.until_end().1, Finish::Reset);
    host.ends();
}

fn no_client_can_connect_afterwards(world: &World) {
    let host = world.serve(|_: &mut Request<'_>| Response::text("fine"));
    let address = host.address();
    host.connect().request("GET /", &[]).response();
    host.stopper.shutdown(LONG);
    host.ends();
    assert!(address.try_connect().is_err());
}

/// Only in this mode a handler may block; one that blocks for too long is abandoned.
#[test]
fn a_blocked_handler_is_abandoned_with_its_thread() {
    let world = World::plain(Mode::ThreadPerConnection);
    let ((report, seen), (release, released)) = (report_channel(), channel::<()>());
    let released = std::sync::Arc::new(std::sync::Mutex::new(released));
    let mut host = world.serve(move |req: &mut Request<'_>| {
        if req.path() == "/block" {
            report.send(()).expect("a receiver");
            let _ = released.lock().expect("whole").recv();
        }
        Response::text("fine")
    });
    let (mut blocked, mut free) = (host.connect(), host.connect());
    blocked.request("GET /block", &[]);
    seen.next();
    free.request("GET /", &[]).response().is(200);
    host.stopper.shutdown(Duration::from_millis(50));
    let error = host.result().expect_err("one thread still runs");
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    drop(release);
}
