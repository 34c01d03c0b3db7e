//! Responses: HEAD, informational ones, trailers, streamed and truncated bodies, files, what is said at the end.

use std::{
    io::{Seek, Write},
    time::Duration,
};

use h2::Reason;
use http::Request;
use uncork::{Action, EndReason, Produced, Response, Tx, h1::Headers, pipe};

use crate::{
    connect,
    http2::post,
    over_both,
    world::{World, bytes, report_channel, report_end, site},
};

over_both! {
    head_has_the_fields_of_get_and_no_body,
    a_response_without_content_ends_with_its_head,
    informational_responses_come_first,
    trailers_go_out,
    a_streamed_body_has_no_framing_of_its_own,
    fields_of_a_connection_are_left_out,
    a_truncated_body_is_reset,
    a_panic_of_a_handler_is_a_500_of_its_stream_only,
    an_abort_resets_the_stream_only,
    files_and_shared_blocks_arrive_whole,
    a_request_reports_its_end_once,
    the_access_log_has_it,
}

fn head_has_the_fields_of_get_and_no_body(world: &World) {
    let host = world.serve(|req: &mut uncork::Request<'_>| match req.path() {
        "/stream" => Response::stream(|_: &mut Tx<'_>| -> Produced { unreachable!("HEAD") }),
        "/empty" => Response::new(200).length(1000),
        _ => Response::text("four"),
    });
    let mut client = connect(&host);
    for (path, length) in [("/", Some("4")), ("/stream", None), ("/empty", Some("1000"))] {
        let head = Request::head(format!("http://localhost{path}")).body(()).expect("a request");
        let mut exchange = client.request(head, true);
        let head = exchange.head(&mut client);
        assert_eq!(head.status(), 200, "{path}");
        let got = head.headers().get("content-length").map(|value| value.to_str().expect("text"));
        assert_eq!(got, length, "{path}");
        assert_eq!(exchange.body(&mut client).expect("no body").0, b"");
    }
}

fn a_response_without_content_ends_with_its_head(world: &World) {
    let host = world.serve(|req: &mut uncork::Request<'_>| match req.path() {
        "/204" => Response::new(204),
        "/304" => Response::new(304).header("ETag", "\"1\""),
        _ => Response::new(200),
    });
    let mut client = connect(&host);
    for (path, length) in [("/204", None), ("/304", None), ("/200", Some("0"))] {
        let (head, body) = client.fetch(path);
        let got = head.headers().get("content-length").map(|value| value.to_str().expect("text"));
        assert_eq!((format!("/{}", head.status().as_u16()).as_str(), got, body.len()), (path, length, 0));
    }
}

fn informational_responses_come_first(world: &World) {
    let host = world.serve(|req: &mut uncork::Request<'_>| {
        let ticket = req.ticket();
        let mut hints = Headers::new();
        hints.append("Link", "</style.css>; rel=preload").expect("valid");
        ticket.send_informational(103, hints);
        ticket.send_informational(102, Headers::new());
        ticket.respond(Response::text("all")).expect("open");
        Action::Suspend
    });
    let mut client = connect(&host);
    let mut exchange = client.get("/");
    let hints = exchange.informed(&mut client);
    assert_eq!(
        (hints.status().as_u16(), &hints.headers()["link"]),
        (103, &"</style.css>; rel=preload".parse().expect("a value"))
    );
    assert_eq!(exchange.informed(&mut client).status(), 102);
    assert_eq!(exchange.head(&mut client).status(), 200);
    assert_eq!(exchange.body(&mut client).expect("a body").0, b"all");
}

fn trailers_go_out(world: &World) {
    let host = world.serve(|req: &mut uncork::Request<'_>| {
        let size = req.path()[1..].parse().expect("a number");
        site::with_trailers(size)
    });
    let mut client = connect(&host);
    for size in [0, 1, 200_000] {
        let mut exchange = client.get(&format!("/{size}"));
        exchange.head(&mut client);
        let (body, trailers) = exchange.body(&mut client).expect("a body");
        assert!(body == bytes(size));
        assert_eq!(trailers.expect("trailers")["x-sum"], "7", "{size}");
    }
}

fn a_streamed_body_has_no_framing_of_its_own(world: &World) {
    let host = world.serve(|req: &mut uncork::Request<'_>| {
        let mut left = bytes(100_000);
        let stream = Response::stream(move |out: &mut Tx<'_>| {
            let n = out.write(&left[..left.len().min(999)]);
            left.drain(..n);
            if left.is_empty() { Produced::End } else { Produced::More }
        });
        if req.path() == "/length" { stream.length(100_000) } else { stream }
    });
    let mut client = connect(&host);
    for (path, length) in [("/", None), ("/length", Some("100000"))] {
        let (head, body) = client.fetch(path);
        let got = head.headers().get("content-length").map(|value| value.to_str().expect("text"));
        assert_eq!((got, head.headers().contains_key("transfer-encoding")), (length, false));
        assert!(body == bytes(100_000));
    }
}

fn fields_of_a_connection_are_left_out(world: &World) {
    let host = world.serve(|_: &mut uncork::Request<'_>| Response::text("x").header("Keep-Alive", "9").close());
    let mut client = connect(&host);
    let (head, _) = client.fetch("/");
    for name in ["connection", "keep-alive", "transfer-encoding", "upgrade"] {
        assert!(!head.headers().contains_key(name), "{name}");
    }
}

/// RFC 9113 §8.1.1: a client must never take a part for the whole.
fn a_truncated_body_is_reset(world: &World) {
    let mut file = tempfile(100);
    file.rewind().expect("rewound");
    let file = std::sync::Arc::new(file);
    let host = world.serve(move |req: &mut uncork::Request<'_>| {
        let mut calls = 0;
        let stream = |end: fn() -> Produced| {
            Response::stream(move |out: &mut Tx<'_>| {
                calls += 1;
                out.write(b"part");
                if calls == 1 { Produced::More } else { end() }
            })
        };
        match req.path() {
            "/abort" => stream(|| Produced::Abort),
            "/panic" => stream(|| panic!("on purpose")),
            "/short" => stream(|| Produced::End).length(1000),
            "/file" => Response::file(file.try_clone().expect("a clone"), 0..1000),
            "/whole" => Response::text("whole"),
            _ => {
                let (mut inlet, outlet) = pipe(4096);
                inlet.write(b"part");
                drop(inlet);
                Response::stream(outlet)
            }
        }
    });
    let mut client = connect(&host);
    for path in ["/abort", "/panic", "/short", "/file", "/pipe"] {
        let mut exchange = client.get(path);
        match exchange.try_head(&mut client) {
            Ok(head) => {
                assert_eq!(head.status(), 200);
                let (_, error) = exchange.body(&mut client).expect_err(path);
                assert!(error.is_reset() && error.is_remote(), "{path}: {error}");
                assert_ne!(error.reason(), Some(Reason::NO_ERROR), "{path}");
            }
            Err(error) => assert!(error.is_reset(), "{path}: {error}"),
        }
    }
    // All on one connection, which goes on.
    assert!(client.over.is_none());
    assert_eq!(client.fetch("/whole").1, b"whole");
}

fn tempfile(size: usize) -> std::fs::File {
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("uncork-http2-{}-{count}", std::process::id()));
    let mut file = std::fs::File::options().read(true).write(true).create_new(true).open(&path).expect("made");
    std::fs::remove_file(&path).expect("removed");
    file.write_all(&bytes(size)).expect("written");
    file
}

fn a_panic_of_a_handler_is_a_500_of_its_stream_only(world: &World) {
    let host = world.serve(|req: &mut uncork::Request<'_>| {
        assert_eq!(req.path(), "/", "on purpose");
        Response::text("fine")
    });
    let mut client = connect(&host);
    assert_eq!(client.fetch("/bad").0.status(), 500);
    assert_eq!(client.fetch("/").1, b"fine");
}

fn an_abort_resets_the_stream_only(world: &World) {
    let (report, ended) = report_channel();
    let host = world.serve(move |req: &mut uncork::Request<'_>| match req.path() {
        "/abort" => {
            report_end(req, &report);
            Action::Abort
        }
        _ => Response::text("fine").into(),
    });
    let mut client = connect(&host);
    let error = client.get("/abort").try_head(&mut client).expect_err("aborted");
    assert!(error.is_reset(), "{error}");
    assert_eq!(ended.next().reason, EndReason::Aborted);
    assert_eq!(client.fetch("/").1, b"fine");
}

fn files_and_shared_blocks_arrive_whole(world: &World) {
    let mut file = tempfile(3_000_000);
    file.rewind().expect("rewound");
    let file = std::sync::Arc::new(file);
    let block: std::sync::Arc<[u8]> = bytes(3_000_000).into();
    let host = world.serve(move |req: &mut uncork::Request<'_>| match req.path() {
        "/file" => Response::file(file.try_clone().expect("a clone"), 7..2_999_999),
        "/owned" => Response::new(200).body(block.to_vec()),
        _ => Response::new(200).body(block.clone()),
    });
    let mut client = connect(&host);
    assert!(client.fetch("/file").1 == bytes(3_000_000)[7..2_999_999]);
    // At the same time.
    let mut both = [client.get("/owned"), client.get("/shared")];
    for exchange in &mut both {
        exchange.head(&mut client);
        assert!(exchange.body(&mut client).expect("whole").0 == bytes(3_000_000));
    }
}

fn a_request_reports_its_end_once(world: &World) {
    let (report, ended) = report_channel();
    let host = world.serve(move |req: &mut uncork::Request<'_>| {
        report_end(req, &report);
        match req.path() {
            "/bytes" => Response::new(200).body(vec![b'x'; 200_000]).into(),
            "/upload" => Action::Receive(Box::<site::Collect>::default()),
            _ => Response::stream(|out: &mut Tx<'_>| {
                out.write(b"12345");
                Produced::Pending
            })
            .into(),
        }
    });
    let mut client = connect(&host);
    client.fetch("/bytes");
    let end = ended.next();
    assert_eq!((end.reason, end.received, end.written), (EndReason::Complete, 0, 200_000));
    let mut upload = client.request(post("/upload", &[]), false);
    upload.write(&mut client, &bytes(70_000)).finish(&mut client);
    assert_eq!(upload.head(&mut client).status(), 200);
    assert!(upload.body(&mut client).expect("a body").0 == bytes(70_000));
    let end = ended.next();
    assert_eq!((end.reason, end.received, end.written), (EndReason::Complete, 70_000, 70_000));
    let mut waits = client.get("/waits");
    assert_eq!(waits.head(&mut client).status(), 200);
    assert_eq!(waits.data(&mut client).expect("data").expect("data"), &b"12345"[..]);
    waits.reset(&mut client);
    let end = ended.next();
    assert_eq!((end.reason, end.written), (EndReason::PeerClosed, 5));
    assert!(ended.is_silent(Duration::from_millis(30)));
    drop(host);
    assert_eq!(ended.rest().len(), 0);
}

fn the_access_log_has_it(world: &World) {
    let (report, records) = report_channel();
    let report = std::sync::Mutex::new(report);
    let host = world.serve_logged(
        move |record| {
            let head = record.head.map(|head| format!("{} {} {:?}", head.method(), head.target(), head.version()));
            let report = report.lock().expect("whole");
            let _ = report.send((head, record.status, record.written, record.received, *record.reason));
        },
        |req: &mut uncork::Request<'_>| match req.path() {
            "/upload" => Action::Receive(Box::<site::Collect>::default()),
            _ => Response::text("four").into(),
        },
    );
    let mut client = connect(&host);
    client.fetch("/a?b");
    let head = Some("GET /a?b Http2".to_owned());
    assert_eq!(records.next(), (head, 200, 4, 0, EndReason::Complete));
    let mut upload = client.request(post("/upload", &[]), false);
    upload.write(&mut client, b"hello").finish(&mut client);
    upload.head(&mut client);
    assert_eq!(records.next(), (Some("POST /upload Http2".to_owned()), 200, 5, 5, EndReason::Complete));
    // A malformed request gets no response.
    let malformed = Request::get("/").body(()).expect("a request");
    client.request(malformed, true).try_head(&mut client).expect_err("a reset");
    let reason = EndReason::Rejected { status: 400, rule: "a Host field is required" };
    assert_eq!(records.next(), (None, 0, 0, 0, reason));
}
