//! Flow control and many streams at a time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::Sender,
    },
    time::Duration,
};

use h2::Reason;
use uncork::{
    Action, Consumed, EndReason, Limits, Produced, Request, Response, Ticket, Tx, Upload, Waker, h1::Headers,
};

use crate::{
    connect,
    http2::{Client, post, settings},
    over_both,
    world::{World, bytes, report_channel, report_end},
};

over_both! {
    what_is_not_taken_may_not_be_sent,
    a_stalled_upload_stalls_no_other,
    a_stalled_download_stalls_no_other,
    a_client_that_does_not_read_is_still_read,
    abandoned_uploads_give_their_windows_back,
    many_streams_wait_for_tickets_at_the_same_time,
    beyond_the_limit_of_streams_a_client_waits,
    one_connection_carries_thousands_of_requests,
    a_producer_is_called_as_windows_allow,
    a_stream_that_waits_for_others_does_not_time_out,
}

/// Takes nothing while the gate is closed.
struct Gated {
    open: Arc<AtomicBool>,
    got: usize,
}

impl Upload for Gated {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        if !self.open.load(Ordering::Acquire) {
            return Consumed::Partial(0);
        }
        self.got += chunk.len();
        Consumed::All
    }

    fn end(self: Box<Self>, _: &Headers) -> Action {
        Response::text(self.got.to_string()).into()
    }
}

/// The largest window of a stream, and what the engine holds of a body besides.
const IN_FLIGHT: usize = (1 << 20) + (192 << 10);

fn what_is_not_taken_may_not_be_sent(world: &World) {
    const ALL: usize = 8 << 20;
    let (report, wakers) = report_channel::<Waker>();
    let open = Arc::new(AtomicBool::new(false));
    let gate = open.clone();
    let host = world.serve(move |req: &mut Request<'_>| {
        report.send(req.waker()).expect("a receiver");
        Action::Receive(Box::new(Gated { open: gate.clone(), got: 0 }))
    });
    let mut client = connect(&host);
    let body = bytes(ALL);
    let mut upload = client.request(post("/", &[]), false);
    let sent = upload.push(&mut client, &body, Duration::from_millis(300)).expect("sent");
    assert!((16 * 1024..IN_FLIGHT).contains(&sent), "{sent} bytes in flight");
    open.store(true, Ordering::Release);
    wakers.next().wake();
    upload.write(&mut client, &body[sent..]).finish(&mut client);
    assert_eq!(upload.head(&mut client).status(), 200);
    assert_eq!(upload.body(&mut client).expect("a body").0, ALL.to_string().as_bytes());
}

fn a_stalled_upload_stalls_no_other(world: &World) {
    let never = Arc::new(AtomicBool::new(false));
    let host = world.serve(move |req: &mut Request<'_>| match req.path() {
        "/stalled" => Action::Receive(Box::new(Gated { open: never.clone(), got: 0 })),
        "/upload" => Action::Receive(Box::new(Gated { open: Arc::new(AtomicBool::new(true)), got: 0 })),
        _ => Response::new(200).body(vec![b'x'; 1 << 20]).into(),
    });
    let mut client = connect(&host);
    let body = bytes(4 << 20);
    let mut stalled: Vec<_> = (0..3).map(|_| client.request(post("/stalled", &[]), false)).collect();
    for upload in &mut stalled {
        assert!(upload.push(&mut client, &body, Duration::from_millis(50)).expect("sent") < body.len());
    }
    let mut upload = client.request(post("/upload", &[]), false);
    upload.write(&mut client, &body).finish(&mut client);
    assert_eq!(upload.head(&mut client).status(), 200);
    assert_eq!(client.fetch("/").1.len(), 1 << 20);
}

/// The client reads one stream of several.
fn a_stalled_download_stalls_no_other(world: &World) {
    let host = world.serve(|req: &mut Request<'_>| match req.path() {
        "/upload" => Action::Receive(Box::new(Gated { open: Arc::new(AtomicBool::new(true)), got: 0 })),
        _ => Response::new(200).body(vec![b'x'; 4 << 20]).into(),
    });
    let mut windows = settings();
    windows.initial_window_size(64 * 1024).initial_connection_window_size(1 << 20);
    let mut client = Client::connect_with(host.addr(), host.address().client_config(), &windows).expect("connected");
    let mut stalled: Vec<_> = (0..3).map(|_| client.get("/")).collect();
    for exchange in &mut stalled {
        exchange.head(&mut client);
    }
    client.pause(Duration::from_millis(50));
    assert_eq!(client.fetch("/").1.len(), 4 << 20);
    let mut upload = client.request(post("/upload", &[]), false);
    upload.write(&mut client, &bytes(1 << 20)).finish(&mut client);
    assert_eq!(upload.head(&mut client).status(), 200);
    for exchange in &mut stalled {
        assert_eq!(exchange.body(&mut client).expect("whole").0.len(), 4 << 20);
    }
}

/// Reports what it takes.
struct Counted(Sender<usize>);

impl Upload for Counted {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        self.0.send(chunk.len()).expect("a receiver");
        Consumed::All
    }

    fn end(self: Box<Self>, _: &Headers) -> Action {
        Response::text("taken").into()
    }
}

/// The windows allow more than the sockets and the output hold. RFC 9113 §5.2.2: each side must read, or they could
/// wait for each other.
fn a_client_that_does_not_read_is_still_read(world: &World) {
    let ((report, ended), (took, taken)) = (report_channel(), report_channel());
    let host = world.serve(move |req: &mut Request<'_>| match req.path() {
        "/upload" => Action::Receive(Box::new(Counted(took.clone()))),
        _ => {
            report_end(req, &report);
            Response::new(200).body(vec![b'x'; 32 << 20]).into()
        }
    });
    let mut windows = settings();
    windows.initial_window_size(1 << 30).initial_connection_window_size(1 << 30);
    let mut client = Client::connect_with(host.addr(), host.address().client_config(), &windows).expect("connected");
    let mut download = client.get("/");
    download.head(&mut client);
    assert!(ended.is_silent(Duration::from_millis(200)), "the output is full");
    let mut upload = client.try_request(post("/upload", &[]), false).expect("a stream");
    upload.send.send_data(bytes(20_000).into(), true).expect("within the window");
    client.write_only();
    let mut left = 20_000;
    while left > 0 {
        left -= taken.next();
    }
    download.send.send_reset(Reason::CANCEL);
    client.write_only();
    assert_eq!(ended.next().reason, EndReason::PeerClosed);
    assert_eq!(upload.head(&mut client).status(), 200);
}

/// More bytes than the connection's window, all of uploads that nothing took.
fn abandoned_uploads_give_their_windows_back(world: &World) {
    let never = Arc::new(AtomicBool::new(false));
    let (report, ended) = report_channel();
    let host = world.serve(move |req: &mut Request<'_>| {
        report_end(req, &report);
        match req.path() {
            "/stalled" => Action::Receive(Box::new(Gated { open: never.clone(), got: 0 })),
            "/rejected" => Response::new(403).into(),
            _ => Action::Receive(Box::new(Gated { open: Arc::new(AtomicBool::new(true)), got: 0 })),
        }
    });
    let mut client = connect(&host);
    let body = bytes(48 * 1024);
    for n in 0..60 {
        let path = if n % 2 == 0 { "/stalled" } else { "/rejected" };
        let mut upload = client.request(post(path, &[]), false);
        let _ = upload.push(&mut client, &body, Duration::from_millis(500));
        client.drive();
        if n % 2 == 1 {
            assert_eq!(upload.head(&mut client).status(), 403);
        }
        upload.reset(&mut client);
        ended.next();
    }
    let mut upload = client.request(post("/", &[]), false);
    upload.write(&mut client, &bytes(4 << 20)).finish(&mut client);
    assert_eq!(upload.head(&mut client).status(), 200);
}

fn many_streams_wait_for_tickets_at_the_same_time(world: &World) {
    let (report, tickets) = report_channel::<(String, Ticket)>();
    let host = world.serve(move |req: &mut Request<'_>| {
        report.send((req.path().to_owned(), req.ticket())).expect("a receiver");
        Action::Suspend
    });
    let mut client = connect(&host);
    let mut exchanges: Vec<_> = (0..100).map(|n| client.get(&format!("/{n}"))).collect();
    client.drive();
    let waiting: Vec<_> = (0..100).map(|_| tickets.next()).collect();
    let mut parts: [Vec<_>; 4] = Default::default();
    waiting.into_iter().rev().enumerate().for_each(|(n, waits)| parts[n % 4].push(waits));
    std::thread::scope(|scope| {
        for part in parts {
            scope.spawn(move || {
                for (path, ticket) in part {
                    ticket.respond(Response::text(path)).map_err(drop).expect("a suspended request");
                }
            });
        }
    });
    for (n, exchange) in exchanges.iter_mut().enumerate() {
        exchange.head(&mut client);
        assert_eq!(exchange.body(&mut client).expect("a body").0, format!("/{n}").as_bytes());
    }
}

fn beyond_the_limit_of_streams_a_client_waits(world: &World) {
    let (report, tickets) = report_channel::<Ticket>();
    let host = world.serve_within(Limits { streams: 10, ..Limits::default() }, move |req: &mut Request<'_>| {
        report.send(req.ticket()).expect("a receiver");
        Action::Suspend
    });
    let mut client = connect(&host);
    client.pause(Duration::from_millis(50));
    let mut exchanges: Vec<_> = (0..10).map(|_| client.get("/")).collect();
    let mut waiting: Vec<_> = (0..10).map(|_| tickets.next()).collect();
    // One more is queued by the client, which knows the limit.
    let mut late = client.request(crate::http2::get("/"), true);
    client.pause(Duration::from_millis(50));
    assert!(tickets.rest().is_empty(), "it was sent");
    waiting.remove(3).respond(Response::text("3")).map_err(drop).expect("suspended");
    assert_eq!(exchanges[3].head(&mut client).status(), 200);
    exchanges[3].body(&mut client).expect("a body");
    client.pause(Duration::from_millis(50));
    tickets.next().respond(Response::text("late")).map_err(drop).expect("suspended");
    assert_eq!(late.head(&mut client).status(), 200);
}

fn one_connection_carries_thousands_of_requests(world: &World) {
    let host = world.serve(|req: &mut Request<'_>| Response::text(req.path().to_owned()));
    let mut client = connect(&host);
    for round in 0..50 {
        let mut exchanges: Vec<_> = (0..60).map(|n| client.get(&format!("/{round}/{n}"))).collect();
        for (n, exchange) in exchanges.iter_mut().enumerate() {
            exchange.head(&mut client);
            assert_eq!(exchange.body(&mut client).expect("a body").0, format!("/{round}/{n}").as_bytes());
        }
    }
}

fn a_producer_is_called_as_windows_allow(world: &World) {
    let written = Arc::new(AtomicUsize::new(0));
    let (count, (report, ended)) = (written.clone(), report_channel());
    let host = world.serve(move |req: &mut Request<'_>| {
        report_end(req, &report);
        let count = count.clone();
        Response::stream(move |out: &mut Tx<'_>| {
            count.fetch_add(out.write(&[b'x'; 10_000]), Ordering::Relaxed);
            Produced::More
        })
    });
    let mut windows = settings();
    windows.initial_window_size(10_000);
    let mut client = Client::connect_with(host.addr(), host.address().client_config(), &windows).expect("connected");
    let mut exchange = client.get("/");
    exchange.head(&mut client);
    client.pause(Duration::from_millis(100));
    let before = written.load(Ordering::Relaxed);
    assert!(before < 10_000 + (256 << 10), "{before} bytes for a window of 10,000");
    let mut got = 0;
    while got < 3_000_000 {
        got += exchange.data(&mut client).expect("data").expect("data").len();
    }
    exchange.reset(&mut client);
    assert_eq!(ended.next().reason, EndReason::PeerClosed);
}

/// The client takes all that comes, and the server sends what is more urgent. (RFC 9218 §10: that may be all there is.)
fn a_stream_that_waits_for_others_does_not_time_out(world: &World) {
    // On a busy machine, the client may take nothing for a while.
    let send_timeout = Duration::from_millis(1500);
    let host =
        world.serve_within(Limits { send_timeout, ..Limits::default() }, |req: &mut Request<'_>| match req.path() {
            "/urgent" => Response::stream(|out: &mut Tx<'_>| {
                out.write(&[b'x'; 10_000]);
                Produced::More
            }),
            _ => Response::new(200).body(vec![b'x'; 1 << 20]),
        });
    let mut windows = settings();
    windows.initial_window_size(1 << 20).initial_connection_window_size(65_535);
    let mut client = Client::connect_with(host.addr(), host.address().client_config(), &windows).expect("connected");
    let with = |path: &str, urgency: &'static str| {
        let mut request = crate::http2::get(path);
        request.headers_mut().insert("priority", urgency.parse().expect("a value"));
        request
    };
    let mut urgent = client.request(with("/urgent", "u=0"), true);
    urgent.head(&mut client);
    let mut waits = client.request(with("/later", "u=7"), true);
    waits.head(&mut client);
    let pauses = 3 * send_timeout.as_millis() / 10;
    for _ in 0..pauses {
        assert!(!urgent.data(&mut client).expect("more").expect("data").is_empty());
        client.pause(Duration::from_millis(10));
    }
    urgent.reset(&mut client);
    assert_eq!(waits.body(&mut client).expect("the whole").0.len(), 1 << 20);
}
