//! Bodies of responses: streamed, from files, shared, and the end of their requests.

use std::{
    io::{Seek, Write},
    sync::Arc,
    time::Duration,
};

use uncork::{EndReason, Produced, Request, Response, Tx, h1::Headers};

use crate::{
    wire::Finish,
    world::{World, bytes, report_channel, report_end},
};

matrix! {
    everywhere {
        a_streamed_body_waits_for_its_reader,
        a_body_comes_from_a_file,
        a_shared_body_is_one_allocation,
        a_shared_block_fits_into_a_streamed_body,
        a_panic_of_a_producer_truncates_the_response,
        a_request_ends_when_its_last_byte_is_out,
    }
    http1 {
        a_streamed_body_is_chunked_or_measured_or_ended_by_the_close,
        confirm_waits_for_the_last_acknowledgement,
    }
}

fn a_streamed_body_is_chunked_or_measured_or_ended_by_the_close(world: &World) {
    let host = world.serve(|req: &mut Request<'_>| {
        let mut parts = ["one ", "two ", "three"].into_iter();
        let stream = Response::stream(move |out: &mut Tx<'_>| match parts.next() {
            Some(part) => {
                assert_eq!(out.write(part.as_bytes()), part.len());
                Produced::More
            }
            None => {
                let mut trailers = Headers::new();
                trailers.append("X-Sum", "13").expect("valid");
                Produced::Trailers(trailers)
            }
        });
        if req.path() == "/length" { stream.length(13) } else { stream }
    });
    let mut wire = host.connect();
    let (response, tail) = (wire.request("GET /", &[]).head(), b"\r\n0\r\nX-Sum: 13\r\n\r\n");
    assert_eq!(response.get("transfer-encoding"), Some("chunked"));
    let mut body = Vec::new();
    while !body.ends_with(tail) {
        body.extend(wire.exactly(1));
    }
    let response = wire.request("GET /length", &[]).response();
    assert_eq!((response.text(), response.get("content-length")), ("one two three", Some("13")));
    let response = wire.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").head();
    assert_eq!((response.get("connection"), response.get("content-length")), (Some("close"), None));
    assert_eq!(wire.until_end(), (b"one two three".to_vec(), Finish::Clean));
}

fn a_streamed_body_waits_for_its_reader(world: &World) {
    let (report, reports) = report_channel();
    let host = world.serve(move |req: &mut Request<'_>| {
        report.send(req.waker()).expect("a receiver");
        let (mut calls, report) = (0, report.clone());
        Response::stream(move |out: &mut Tx<'_>| {
            calls += 1;
            out.write(calls.to_string().as_bytes());
            if calls == 3 {
                return Produced::End;
            }
            let _ = report;
            Produced::Pending
        })
    });
    let mut wire = host.connect();
    wire.request("GET /", &[]).head().is(200);
    let waker = reports.next();
    for n in 1..3 {
        assert_eq!(wire.next_chunk(), n.to_string().as_bytes());
        assert!(wire.is_silent(Duration::from_millis(20)), "it is not called before it is woken");
        waker.wake();
    }
    assert_eq!((wire.next_chunk(), wire.next_chunk()), (b"3".to_vec(), b"".to_vec()));
}

fn a_body_comes_from_a_file(world: &World) {
    let content = bytes(3_000_000);
    let path = std::env::temp_dir().join(format!("uncork-{}-{world:?}", std::process::id()));
    let mut file =
        std::fs::File::options().read(true).write(true).create(true).truncate(true).open(&path).expect("made");
    std::fs::remove_file(&path).expect("removed");
    file.write_all(&content).expect("written");
    file.rewind().expect("rewound");
    let file = Arc::new(file);
    let host = world.serve(move |req: &mut Request<'_>| {
        let range = match req.path() {
            "/all" => 0..3_000_000,
            "/part" => 7..100_007,
            _ => 2_999_990..3_000_010,
        };
        Response::file(file.try_clone().expect("a clone"), range)
    });
    let mut wire = host.connect();
    assert!(wire.request("GET /all", &[]).response().body == content);
    assert!(wire.request("GET /part", &[]).response().body == content[7..100_007]);
    let (rest, finish) = wire.request("GET /beyond", &[]).until_end();
    let head = rest.windows(4).position(|end| end == b"\r\n\r\n").map_or(0, |end| end + 4);
    assert!(
        rest.len() - head <= 10 && finish == Finish::Reset,
        "a file that is too short truncates the response: {finish:?}"
    );
}

fn a_shared_body_is_one_allocation(world: &World) {
    let body: Arc<[u8]> = vec![b'x'; 1 << 20].into();
    let (served, expected) = (body.clone(), body.clone());
    let host = world.serve(move |_: &mut Request<'_>| Response::new(200).body(served.clone()));
    let mut wires: Vec<_> = (0..4).map(|_| host.connect()).collect();
    for wire in &mut wires {
        wire.request("GET /", &[]);
    }
    for wire in &mut wires {
        assert!(wire.response().body == *expected);
    }
    drop((wires, expected));
    host.stopper.stop_now();
    host.ends();
    assert_eq!(Arc::strong_count(&body), 1);
}

/// A block of any size, if nothing else is pending, within the declared length.
fn a_shared_block_fits_into_a_streamed_body(world: &World) {
    let block: Arc<[u8]> = bytes(200_000).into();
    let shared = block.clone();
    let host = world.serve(move |req: &mut Request<'_>| {
        let (block, mut left) = (shared.clone(), 2);
        let stream = Response::stream(move |out: &mut Tx<'_>| {
            if left > 0 && out.write_shared(&block) {
                left -= 1;
            }
            if left == 0 { Produced::End } else { Produced::More }
        });
        if req.path() == "/length" { stream.length(400_000) } else { stream }
    });
    let mut wire = host.connect();
    for path in ["GET /", "GET /length"] {
        assert!(wire.request(path, &[]).response().body == [&block[..], &block[..]].concat(), "{path}");
    }
}

fn a_panic_of_a_producer_truncates_the_response(world: &World) {
    let (report, ended) = report_channel();
    let host = world.serve(move |req: &mut Request<'_>| {
        report_end(req, &report);
        let mut first = true;
        Response::stream(move |out: &mut Tx<'_>| {
            assert!(std::mem::take(&mut first), "on purpose");
            out.write(b"a part of it");
            Produced::More
        })
    });
    let response = host.connect().request("GET /", &[]).try_response();
    assert!(response.is_err(), "a truncated response is an error");
    assert_eq!(ended.next().reason, EndReason::Panicked);
    drop(host);
    assert_eq!(ended.rest().len(), 0);
}

fn confirm_waits_for_the_last_acknowledgement(world: &World) {
    const ALL: u64 = 8 << 20;
    let (report, ended) = report_channel();
    let host = world.serve(move |req: &mut Request<'_>| {
        report_end(req, &report);
        Response::new(200).body(vec![b'x'; ALL as usize]).wait_for_ack()
    });
    let mut wire = host.connect_narrow();
    wire.request("GET /", &[]).head().is(200);
    assert!(ended.is_silent(Duration::from_millis(100)), "nothing was read yet");
    wire.exactly(ALL as usize);
    let end = ended.next();
    assert_eq!((end.reason, end.written, end.acked), (EndReason::Complete, ALL, Some(ALL)));
}

/// Over TLS, this includes bytes that were encrypted already when the socket was full.
fn a_request_ends_when_its_last_byte_is_out(world: &World) {
    let (report, ended) = report_channel();
    let host = world.serve(move |req: &mut Request<'_>| {
        report_end(req, &report);
        let size = req.path()[1..].parse().expect("a number");
        Response::new(200).body(vec![b'x'; size])
    });
    // Searches for the size that fits without a reader: near it, only the transport holds the rest.
    let (mut fits, mut waits) = (0, 4 << 20);
    while waits - fits > 8 * 1024 {
        let size = (fits + waits) / 2;
        let mut wire = host.connect_narrow();
        wire.request(&format!("GET /{size}"), &[]);
        let blocked = ended.is_silent(Duration::from_millis(40));
        wire.head().is(200);
        wire.exactly(size);
        if blocked {
            assert_eq!(ended.next().reason, EndReason::Complete, "{size} bytes");
            waits = size;
        } else {
            fits = size;
        }
    }
}
