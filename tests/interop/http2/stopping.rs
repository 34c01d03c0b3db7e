//! The end of a server: GOAWAY twice, then what is in progress has the grace period.

use std::time::Duration;

use uncork::{Action, EndReason, Produced, Request, Response, Ticket, Tx};

use crate::{
    connect,
    http2::{Client, End, get},
    over_both,
    world::{World, report_channel, report_end},
};

over_both! {
    gracefully_streams_in_progress_are_finished,
    gracefully_idle_connections_get_a_goaway,
    gracefully_a_client_that_is_silent_is_not_waited_for,
    gracefully_a_request_on_its_way_is_served,
    a_forced_stop_responds_with_503,
    a_forced_stop_resets_what_is_incomplete,
}

const LONG: Duration = Duration::from_secs(60);

fn gracefully_streams_in_progress_are_finished(world: &World) {
    let (report, tickets) = report_channel::<Ticket>();
    let host = world.serve(move |req: &mut Request<'_>| {
        report.send(req.ticket()).expect("a receiver");
        Action::Suspend
    });
    let mut client = connect(&host);
    let mut exchanges = [client.get("/1"), client.get("/2")];
    let waiting = [tickets.next(), tickets.next()];
    host.stopper.shutdown(LONG);
    client.pause(Duration::from_millis(100));
    assert!(client.over.is_none(), "two requests are in progress");
    for (exchange, ticket) in exchanges.iter_mut().zip(waiting) {
        ticket.respond(Response::text("in time")).map_err(drop).expect("suspended");
        assert_eq!(exchange.head(&mut client).status(), 200);
        assert_eq!(exchange.body(&mut client).expect("a body").0, b"in time");
    }
    ends_normally(&mut client);
    host.ends();
}

/// h2 reports a GOAWAY with NO_ERROR as a normal end.
#[track_caller]
fn ends_normally(client: &mut Client) {
    assert_eq!(client.ends(), End::Clean);
    client.drive();
    match client.over.take() {
        Some(Ok(())) | None => {}
        Some(Err(error)) => assert_eq!(error.reason(), Some(h2::Reason::NO_ERROR), "{error}"),
    }
}

fn gracefully_idle_connections_get_a_goaway(world: &World) {
    let host = world.serve(|_: &mut Request<'_>| Response::text("fine"));
    let (mut used, mut fresh) = (connect(&host), connect(&host));
    used.fetch("/");
    fresh.pause(Duration::from_millis(20));
    host.stopper.shutdown(LONG);
    ends_normally(&mut used);
    ends_normally(&mut fresh);
    host.ends();
}

/// It does not respond to the ping that separates the two GOAWAY.
fn gracefully_a_client_that_is_silent_is_not_waited_for(world: &World) {
    let host = world.serve(|_: &mut Request<'_>| Response::text("fine"));
    let mut silent = connect(&host);
    silent.fetch("/");
    host.stopper.shutdown(LONG);
    host.ends();
}

/// RFC 9113 §6.8: the first GOAWAY names no stream, since requests may be on their way.
fn gracefully_a_request_on_its_way_is_served(world: &World) {
    let (report, tickets) = report_channel::<Ticket>();
    let host = world.serve(move |req: &mut Request<'_>| match req.path() {
        "/wait" => {
            report.send(req.ticket()).expect("a receiver");
            Action::Suspend
        }
        _ => Response::text("fine").into(),
    });
    let mut client = connect(&host);
    let mut waits = client.get("/wait");
    let ticket = tickets.next();
    host.stopper.shutdown(LONG);
    // The client has not seen the GOAWAY yet.
    client.holds = true;
    let mut late = client.try_request(get("/"), true).expect("a stream");
    client.holds = false;
    assert_eq!(late.head(&mut client).status(), 200);
    client.pause(Duration::from_millis(50));
    assert!(client.try_request(get("/"), true).is_err(), "there was a GOAWAY");
    ticket.respond(Response::text("last")).map_err(drop).expect("suspended");
    assert_eq!(waits.head(&mut client).status(), 200);
    assert_eq!(waits.body(&mut client).expect("a body").0, b"last");
    ends_normally(&mut client);
    host.ends();
}

fn a_forced_stop_responds_with_503(world: &World) {
    let ((report, ended), (report_ticket, tickets)) = (report_channel(), report_channel::<Ticket>());
    let host = world.serve(move |req: &mut Request<'_>| {
        report_end(req, &report);
        report_ticket.send(req.ticket()).expect("a receiver");
        Action::Suspend
    });
    let mut client = connect(&host);
    let mut exchanges: Vec<_> = (0..20).map(|_| client.get("/")).collect();
    let waiting: Vec<_> = (0..20).map(|_| tickets.next()).collect();
    host.stopper.shutdown(Duration::from_millis(100));
    for exchange in &mut exchanges {
        assert_eq!(exchange.head(&mut client).status(), 503);
        assert_eq!(ended.next().reason, EndReason::Stopped);
    }
    host.ends();
    assert!(waiting.into_iter().all(|ticket| ticket.respond(Response::new(200)).is_err()));
    assert_eq!(ended.rest().len(), 0);
}

fn a_forced_stop_resets_what_is_incomplete(world: &World) {
    let (report, ended) = report_channel();
    let host = world.serve(move |req: &mut Request<'_>| {
        report_end(req, &report);
        Response::stream(|out: &mut Tx<'_>| {
            out.write(b"part");
            Produced::Pending
        })
    });
    let mut client = connect(&host);
    let mut exchanges = [client.get("/"), client.get("/")];
    for exchange in &mut exchanges {
        assert_eq!(exchange.head(&mut client).status(), 200);
        assert_eq!(exchange.data(&mut client).expect("data").expect("data"), &b"part"[..]);
    }
    host.stopper.shutdown(Duration::from_millis(50));
    for exchange in &mut exchanges {
        let (rest, error) = exchange.body(&mut client).expect_err("a part is not the whole");
        assert!(rest.is_empty() && error.is_reset(), "{error}");
        assert_eq!(ended.next().reason, EndReason::Stopped);
    }
    host.ends();
}
