//! Bodies of requests: their length, `Expect`, trailers, early responses, and pipes from one stream to another.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, mpsc::Sender},
    time::Duration,
};

use h2::Reason;
use uncork::{Action, EndReason, Limits, Response, Ticket, pipe};

use crate::{
    connect,
    http2::{Client, TIMEOUT, post},
    over_both,
    world::{Host, Reports, World, bytes, report_channel, report_end, site::Collect},
};

over_both! {
    a_body_may_come_in_any_frames,
    trailers_come_in,
    data_must_have_the_declared_length,
    the_body_is_requested_with_100_continue,
    an_early_response_is_complete_and_the_body_is_not_wanted,
    a_body_beyond_the_limit_is_a_413,
    a_client_that_resets_its_upload_is_noticed,
    a_body_goes_from_stream_to_stream,
    a_truncated_upload_truncates_the_download,
    a_body_goes_between_the_versions,
}

fn collecting(world: &World, limits: Limits) -> (Host, Reports<uncork::RequestEnd>) {
    let (report, ended) = report_channel();
    let host = world.serve_within(limits, move |req: &mut uncork::Request<'_>| {
        report_end(req, &report);
        match req.path() {
            "/early" => Response::new(403).body("not wanted").into(),
            _ => Action::Receive(Box::<Collect>::default()),
        }
    });
    (host, ended)
}

fn a_body_may_come_in_any_frames(world: &World) {
    let (host, _) = collecting(world, Limits::default());
    let mut client = connect(&host);
    let body = bytes(100_000);
    for size in [1, 1000, 100_000] {
        let mut upload = client.request(post("/", &[]), false);
        for piece in body[..body.len().min(size * 500)].chunks(size) {
            upload.write(&mut client, piece);
        }
        upload.finish(&mut client);
        assert_eq!(upload.head(&mut client).status(), 200);
        assert!(upload.body(&mut client).expect("a body").0 == body[..body.len().min(size * 500)]);
    }
    // Without a body, with END_STREAM on the head or behind it.
    let mut upload = client.request(post("/", &[]), false);
    upload.finish(&mut client);
    assert_eq!(upload.head(&mut client).status(), 200);
    let mut upload = client.request(post("/", &[("content-length", "0")]), true);
    assert_eq!(upload.head(&mut client).status(), 200);
}

fn trailers_come_in(world: &World) {
    let (host, _) = collecting(world, Limits::default());
    let mut client = connect(&host);
    for size in [0, 1, 50_000] {
        let mut upload = client.request(post("/", &[]), false);
        upload.write(&mut client, &bytes(size)).finish_with(&mut client, "x-sum", "7");
        assert_eq!(upload.head(&mut client).headers()["x-sum"], "7");
        assert_eq!(upload.body(&mut client).expect("a body").0.len(), size);
    }
}

/// RFC 9113 §8.1.1: malformed otherwise. The stream is reset, or gets a 400; the connection goes on.
fn data_must_have_the_declared_length(world: &World) {
    let (host, ended) = collecting(world, Limits::default());
    let mut client = connect(&host);
    for sent in [3, 5] {
        let mut upload = client.request(post("/", &[("content-length", "4")]), false);
        let _ = upload.push(&mut client, &bytes(sent), TIMEOUT);
        upload.finish(&mut client);
        match upload.try_head(&mut client) {
            Ok(head) => assert_eq!(head.status(), 400, "{sent}"),
            Err(error) => assert!(error.is_reset(), "{sent}: {error}"),
        }
        assert_ne!(ended.next().reason, EndReason::Complete, "{sent}");
    }
    let mut upload = client.request(post("/", &[("content-length", "4")]), false);
    upload.write(&mut client, &bytes(4)).finish(&mut client);
    assert_eq!(upload.head(&mut client).status(), 200);
}

fn the_body_is_requested_with_100_continue(world: &World) {
    let (host, _) = collecting(world, Limits::default());
    let mut client = connect(&host);
    let expects = [("expect", "100-continue"), ("content-length", "4")];
    let mut upload = client.request(post("/", &expects), false);
    assert_eq!(upload.informed(&mut client).status(), 100);
    upload.write(&mut client, b"body").finish(&mut client);
    assert_eq!(upload.head(&mut client).status(), 200);
    assert_eq!(upload.body(&mut client).expect("a body").0, b"body");
    let mut upload = client.request(post("/early", &expects), false);
    assert_eq!(upload.head(&mut client).status(), 403);
}

/// RFC 9113 §8.1: the response, with its end, and then RST_STREAM with NO_ERROR at most.
fn an_early_response_is_complete_and_the_body_is_not_wanted(world: &World) {
    let (host, ended) = collecting(world, Limits::default());
    let mut client = connect(&host);
    for fields in [&[][..], &[("content-length", "100000000")]] {
        let mut upload = client.request(post("/early", fields), false);
        let sent = upload.push(&mut client, &vec![b'x'; 100_000_000], Duration::from_millis(500)).unwrap_or(0);
        assert!(sent < 100_000_000, "a body that is not wanted was taken");
        assert_eq!(upload.head(&mut client).status(), 403);
        assert_eq!(upload.body(&mut client).expect("a whole response").0, b"not wanted");
        assert_eq!(upload.is_reset(&mut client), Reason::NO_ERROR);
        assert_eq!(ended.next().reason, EndReason::Complete);
    }
    assert!(client.over.is_none());
    let mut upload = client.request(post("/", &[]), true);
    assert_eq!(upload.head(&mut client).status(), 200);
}

fn a_body_beyond_the_limit_is_a_413(world: &World) {
    let (host, ended) = collecting(world, Limits { body: 100, ..Limits::default() });
    let mut client = connect(&host);
    // If its length is declared, the handler is not called.
    for fields in [&[("content-length", "101")][..], &[]] {
        let mut upload = client.request(post("/", fields), false);
        let _ = upload.push(&mut client, &bytes(101), TIMEOUT);
        assert_eq!(upload.head(&mut client).status(), 413);
        assert!(upload.body(&mut client).is_ok());
    }
    assert!(matches!(ended.next().reason, EndReason::Rejected { status: 413, .. }));
    let mut upload = client.request(post("/", &[]), false);
    upload.write(&mut client, &bytes(100)).finish(&mut client);
    assert_eq!(upload.head(&mut client).status(), 200);
}

fn a_client_that_resets_its_upload_is_noticed(world: &World) {
    let (host, ended) = collecting(world, Limits::default());
    let mut client = connect(&host);
    let mut upload = client.request(post("/", &[]), false);
    upload.write(&mut client, b"four");
    client.pause(Duration::from_millis(20));
    upload.reset(&mut client);
    let end = ended.next();
    assert_eq!((end.reason, end.received), (EndReason::PeerClosed, 4));
}

/// A PUT goes to the GET that waits.
#[derive(Clone, Default)]
struct Relay {
    waiting: Arc<Mutex<VecDeque<Ticket>>>,
    report: Option<Sender<()>>,
}

impl Relay {
    fn request(&self, req: &mut uncork::Request<'_>) -> Action {
        if req.method() == "GET" {
            self.waiting.lock().expect("whole").push_back(req.ticket());
            self.report.iter().for_each(|report| report.send(()).expect("a receiver"));
            return Action::Suspend;
        }
        let receiver = self.waiting.lock().expect("whole").pop_front().expect("a receiver");
        let (inlet, outlet) = pipe(64 * 1024);
        let response = Response::stream(outlet).length(req.content_length());
        receiver.respond(response).expect("it waits");
        let ticket = req.ticket();
        std::thread::spawn(move || ticket.respond(Response::text("sent")));
        Action::Receive(Box::new(inlet))
    }
}

/// Starts a relay, and reports each receiver that waits.
fn relay(world: &World) -> (Host, Reports<()>) {
    let (report, waiting) = report_channel();
    let relay = Relay { report: Some(report), ..Relay::default() };
    (world.serve(move |req: &mut uncork::Request<'_>| relay.request(req)), waiting)
}

/// Sends a body on one stream, and receives it on another of the same connection.
fn goes_through(client: &mut Client, waiting: &Reports<()>, size: usize, length: bool) {
    let mut download = client.get("/");
    waiting.next();
    let text = size.to_string();
    let fields = [("content-length", text.as_str())];
    let mut upload = client.request(post("/", if length { &fields } else { &[] }), false);
    let head = download.head(client);
    assert_eq!(head.headers().contains_key("content-length"), length);
    let (body, mut got) = (bytes(size), Vec::new());
    let mut sent = 0;
    while got.len() < size {
        sent += upload.push(client, &body[sent..(sent + 50_000).min(size)], Duration::ZERO).expect("sent");
        while got.len() < size
            && let Some(data) = client.until(Duration::from_millis(1), |_, cx| download.poll_data(cx))
        {
            got.extend_from_slice(&data.expect("more").expect("data"));
        }
    }
    upload.finish(client);
    assert!(download.body(client).expect("the end").0.is_empty() && got == body);
    assert_eq!(upload.head(client).status(), 200);
}

fn a_body_goes_from_stream_to_stream(world: &World) {
    let (host, waiting) = relay(world);
    let mut client = connect(&host);
    for length in [true, false] {
        for size in [1, 64 * 1024, 3_000_000] {
            goes_through(&mut client, &waiting, size, length);
        }
    }
}

fn a_truncated_upload_truncates_the_download(world: &World) {
    let (host, waiting) = relay(world);
    let mut client = connect(&host);
    for fields in [&[][..], &[("content-length", "1000")]] {
        let mut download = client.get("/");
        waiting.next();
        let mut upload = client.request(post("/", fields), false);
        upload.write(&mut client, b"part");
        download.head(&mut client);
        assert_eq!(download.data(&mut client).expect("data").expect("data"), &b"part"[..]);
        upload.reset(&mut client);
        let (_, error) = download.body(&mut client).expect_err("truncated");
        assert!(error.is_reset(), "{error}");
    }
}

fn a_body_goes_between_the_versions(world: &World) {
    let (host, waiting) = relay(world);
    let old = if world.tls { World::tls(world.mode) } else { World::plain(world.mode) };
    let body = bytes(1_000_000);
    // Up with HTTP/2, down with HTTP/1.1.
    let mut down = host.connect_over(&old);
    down.request("GET /", &[]);
    waiting.next();
    let receiver = std::thread::spawn(move || down.response());
    let mut client = connect(&host);
    let mut upload = client.request(post("/", &[]), false);
    upload.write(&mut client, &body).finish_with(&mut client, "x-sum", "7");
    // The response does not wait for the end of the body.
    client.flush();
    assert_eq!(upload.head(&mut client).status(), 200);
    let response = receiver.join().expect("received");
    assert!(response.body == body && response.is_chunked());
    // And the other way.
    let mut download = client.get("/");
    waiting.next();
    let mut up = host.connect_over(&old);
    let sent = body.clone();
    let sender = std::thread::spawn(move || up.post("/", &[], &sent).response());
    assert_eq!(download.head(&mut client).headers()["content-length"], "1000000");
    assert!(download.body(&mut client).expect("whole").0 == body);
    assert_eq!(sender.join().expect("sent").is(200).text(), "sent");
}
