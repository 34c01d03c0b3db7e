//! The limits of HTTP/1.1 hold for each stream.

use std::time::Duration;

use uncork::{Action, Consumed, EndReason, Limits, Produced, Request, Response, Timeout, Tx, Upload, h1::Headers};

use crate::{
    connect,
    http2::{Client, End, TIMEOUT, get, post, settings},
    over_both,
    world::{Host, Reports, World, report_channel, report_end},
};

over_both! {
    heads_have_limits,
    a_body_that_stops_coming_is_a_408_of_its_stream_only,
    a_body_below_the_least_rate_is_a_408,
    a_request_may_have_another_timeout,
    a_client_that_opens_no_window_times_out,
    a_reader_below_the_least_rate_is_given_up,
    stalled_streams_do_not_take_all_buffers,
    a_suspended_request_is_no_idle_connection,
    an_idle_connection_gets_a_goaway,
    the_last_request_gets_a_goaway,
    a_response_that_closes_ends_its_stream_only,
    connections_count_streams_do_not,
}

const SHORT: Duration = Duration::from_millis(150);

struct Sink;

impl Upload for Sink {
    fn data(&mut self, _: &[u8]) -> Consumed {
        Consumed::All
    }

    fn end(self: Box<Self>, _: &Headers) -> Action {
        Response::text("all of it").into()
    }
}

fn serve(world: &World, limits: Limits) -> (Host, Reports<uncork::RequestEnd>) {
    let (report, ended) = report_channel();
    let host = world.serve_within(limits, move |req: &mut Request<'_>| {
        report_end(req, &report);
        if req.path() == "/hasty" {
            req.set_timeout(Duration::from_secs(1));
        }
        match (req.method(), req.path()) {
            ("POST", _) => Action::Receive(Box::new(Sink)),
            (_, "/endless") => Response::stream(|out: &mut Tx<'_>| {
                out.write(&[b'x'; 16 * 1024]);
                Produced::More
            })
            .into(),
            _ => Response::text("fine").into(),
        }
    });
    (host, ended)
}

fn heads_have_limits(world: &World) {
    let (host, _) = serve(world, Limits { head: 4096, fields: 10, target: 100, ..Limits::default() });
    let mut client = connect(&host);
    let with = |count: usize, size: usize| {
        let mut request = get("/");
        for n in 0..count {
            let name = http::HeaderName::from_bytes(format!("x-{n}").as_bytes()).expect("a name");
            request.headers_mut().insert(name, "v".repeat(size).parse().expect("a value"));
        }
        request
    };
    for (request, status) in [
        (with(9, 10), 200),
        (with(10, 10), 431),
        (with(1, 3500), 200),
        (with(1, 5000), 431),
        (with(2, 3000), 431),
        (get(&format!("/{}", "x".repeat(99))), 200),
        (get(&format!("/{}", "x".repeat(100))), 414),
    ] {
        let mut exchange = client.request(request, true);
        assert_eq!(exchange.head(&mut client).status(), status);
        assert!(exchange.body(&mut client).is_ok());
    }
}

fn a_body_that_stops_coming_is_a_408_of_its_stream_only(world: &World) {
    let (host, ended) = serve(world, Limits { body_timeout: SHORT, ..Limits::default() });
    let mut client = connect(&host);
    let mut upload = client.request(post("/", &[("content-length", "9")]), false);
    upload.write(&mut client, b"four");
    assert_eq!(upload.head(&mut client).status(), 408);
    assert!(upload.body(&mut client).is_ok());
    let end = ended.next();
    assert_eq!((end.reason, end.received), (EndReason::TimedOut(Timeout::Body), 4));
    assert_eq!(client.fetch("/").1, b"fine");
}

fn a_body_below_the_least_rate_is_a_408(world: &World) {
    let (host, ended) = serve(world, Limits { body_timeout: SHORT, min_rate: 1000, ..Limits::default() });
    let mut client = connect(&host);
    let mut upload = client.request(post("/", &[]), false);
    let mut drops = 0;
    let status = loop {
        let _ = upload.push(&mut client, b"x", TIMEOUT);
        drops += 1;
        assert!(drops < 200, "a drop every 20 ms is not 1000 bytes a second");
        if let Some(head) = client.until(Duration::from_millis(20), |_, cx| upload.poll_head(cx)) {
            break head.expect("a response").0.status();
        }
    };
    assert_eq!((status.as_u16(), ended.next().reason), (408, EndReason::TimedOut(Timeout::Body)));
}

/// [`Request::set_timeout`] is of the stream: others of the connection keep theirs.
fn a_request_may_have_another_timeout(world: &World) {
    let (host, ended) = serve(world, Limits::default());
    let mut client = connect(&host);
    let mut other = client.request(post("/", &[("content-length", "9")]), false);
    let mut hasty = client.request(post("/hasty", &[("content-length", "9")]), false);
    assert_eq!(hasty.head(&mut client).status(), 408);
    assert_eq!(ended.next().reason, EndReason::TimedOut(Timeout::Body));
    other.write(&mut client, b"123456789").finish(&mut client);
    assert_eq!(other.head(&mut client).status(), 200);
}

fn a_client_that_opens_no_window_times_out(world: &World) {
    let (host, ended) = serve(world, Limits { send_timeout: SHORT, ..Limits::default() });
    let mut windows = settings();
    windows.initial_window_size(0);
    let mut client = Client::connect_with(host.addr(), host.address().client_config(), &windows).expect("connected");
    let mut exchange = client.get("/endless");
    exchange.head(&mut client);
    assert_eq!(ended.next().reason, EndReason::TimedOut(Timeout::Send));
    assert!(exchange.body(&mut client).expect_err("truncated").1.is_reset());
    // A response that was at hand waits for the window, too.
    let mut exchange = client.get("/");
    exchange.head(&mut client);
    assert!(exchange.body(&mut client).expect_err("truncated").1.is_reset());
    assert_eq!(ended.next().reason, EndReason::TimedOut(Timeout::Send));
}

fn a_reader_below_the_least_rate_is_given_up(world: &World) {
    let (host, ended) = serve(world, Limits { send_timeout: SHORT, min_rate: 1 << 30, ..Limits::default() });
    let mut client = connect(&host);
    let mut exchange = client.get("/endless");
    exchange.head(&mut client);
    let mut reads = 0;
    while ended.is_silent(Duration::from_millis(20)) {
        reads += 1;
        assert!(reads < 500, "it reads all the time, but not a GiB a second");
        let _ = client.until(Duration::ZERO, |_, cx| exchange.poll_data(cx));
    }
}

/// Their connections are not stalled: they answer pings. But their streams hold all buffers of a loop.
fn stalled_streams_do_not_take_all_buffers(world: &World) {
    let (host, _) = serve(world, Limits { buffers: 1 << 20, send_timeout: TIMEOUT * 100, ..Limits::default() });
    let mut windows = settings();
    windows.initial_window_size(0);
    // For both loops.
    let mut stalled: Vec<_> = (0..6)
        .map(|_| {
            let mut client =
                Client::connect_with(host.addr(), host.address().client_config(), &windows).expect("connected");
            let exchanges: Vec<_> = (0..40).map(|_| client.get("/endless")).collect();
            client.pause(Duration::from_millis(200));
            (client, exchanges)
        })
        .collect();
    for _ in 0..6 {
        assert_eq!(connect(&host).fetch("/").1, b"fine");
    }
    // Streams are reset, no more of them than was necessary.
    for (client, _) in &mut stalled {
        client.pause(Duration::from_millis(20));
        assert!(client.over.is_none());
    }
}

fn a_suspended_request_is_no_idle_connection(world: &World) {
    let (report, tickets) = report_channel();
    let limits = Limits { idle_timeout: SHORT, ..Limits::default() };
    let host = world.serve_within(limits, move |req: &mut Request<'_>| {
        report.send(req.ticket()).expect("a receiver");
        Action::Suspend
    });
    let mut client = connect(&host);
    let mut exchange = client.get("/");
    let ticket = tickets.next();
    // It answers the server's pings.
    client.pause(SHORT * 5);
    ticket.respond(Response::text("late")).map_err(drop).expect("suspended");
    assert_eq!(exchange.head(&mut client).status(), 200);
}

fn an_idle_connection_gets_a_goaway(world: &World) {
    let (host, _) = serve(world, Limits { idle_timeout: SHORT, ..Limits::default() });
    // Before its first request, and after.
    for requests in 0..2 {
        let mut client = connect(&host);
        for _ in 0..requests {
            client.fetch("/");
        }
        let over = client
            .until(TIMEOUT, |client, _| client.over.take().map_or(std::task::Poll::Pending, std::task::Poll::Ready));
        match over.expect("an end") {
            // h2 reports a GOAWAY with NO_ERROR as a normal end.
            Ok(()) => {}
            Err(error) => assert!(error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR), "{error}"),
        }
        assert_eq!(client.ends(), End::Clean);
    }
}

fn the_last_request_gets_a_goaway(world: &World) {
    let (host, _) = serve(world, Limits { requests: 3, ..Limits::default() });
    let mut client = connect(&host);
    for _ in 0..3 {
        assert_eq!(client.fetch("/").1, b"fine");
    }
    assert_eq!(client.ends(), End::Clean);
}

/// Over HTTP/1.1 it would end the connection. Here that would end the requests of others, which a browser has begun at
/// the same time.
fn a_response_that_closes_ends_its_stream_only(world: &World) {
    let host = world.serve(|req: &mut Request<'_>| match req.path() {
        "/later" => Action::receive_whole(9, |_| Response::text("later").close()),
        _ => Response::text("now").close().into(),
    });
    let mut client = connect(&host);
    for _ in 0..3 {
        assert_eq!(client.fetch("/").1, b"now");
        assert_eq!(client.fetch("/later").1, b"later");
    }
    // The rest of the upload is not wanted.
    let mut upload = client.request(post("/", &[]), false);
    assert_eq!(upload.head(&mut client).status(), 200);
    assert!(upload.body(&mut client).is_ok());
    assert_eq!(client.fetch("/").1, b"now");
}

fn connections_count_streams_do_not(world: &World) {
    let (report, tickets) = report_channel();
    let limits = Limits { connections: 2, connections_per_address: 1, ..Limits::default() };
    let host = world.serve_within(limits, move |req: &mut Request<'_>| {
        report.send(req.ticket()).expect("a receiver");
        Action::Suspend
    });
    let mut client = connect(&host);
    let _many: Vec<_> = (0..50).map(|_| client.get("/")).collect();
    let _tickets: Vec<_> = (0..50).map(|_| tickets.next()).collect();
}
