//! Requests and responses: keep-alive, pipelining, rejections, and how requests end.

use std::sync::Arc;

use uncork::{Action, EndReason, Produced, Request, Response, Tx};

use crate::{
    wire::{Finish, TestResponse, Wire, request},
    world::{World, report_channel, report_end},
};

matrix! {
    everywhere {
        pipelined_requests_get_responses_in_order,
        a_half_closed_client_gets_its_response,
        the_end_of_a_request_is_reported_once,
        an_invalid_response_becomes_a_500,
        a_singleton_field_replaces,
    }
    http1 {
        keep_alive_reuses_the_connection,
        pipelined_requests_outlive_a_half_close,
        head_has_the_fields_of_get,
        http_1_0_closes_unless_keep_alive_is_requested,
        a_panic_is_a_500_on_its_own_connection_only,
        after_a_bad_request_nothing_is_parsed,
        plain_http_on_a_tls_port_gets_a_400,
    }
}

fn keep_alive_reuses_the_connection(world: &World) {
    let host = world.serve(|req: &mut Request<'_>| Response::text(req.id().to_string()));
    let mut wire = host.connect();
    let ids: Vec<String> = (0..3).map(|_| wire.request("GET /", &[]).response().is(200).text().to_owned()).collect();
    let conn = ids[0].strip_suffix("/1").expect("the first request");
    assert_eq!(ids[1..], [format!("{conn}/2"), format!("{conn}/3")]);
    let other = host.connect().request("GET /", &["Connection: close"]).response();
    assert!(!other.text().starts_with(conn) && other.get("connection") == Some("close"));
}

fn pipelined_requests_get_responses_in_order(world: &World) {
    let host = world.serve(|req: &mut Request<'_>| Response::text(req.path().to_owned()));
    let mut wire = host.connect();
    check_pipelining(&mut wire);
}

/// Sends requests all at once, and then byte by byte, and checks the order of the responses.
pub(super) fn check_pipelining(wire: &mut Wire) {
    let many: String = (0..500).map(|n| request(&format!("GET /{n}"), &[])).collect();
    wire.send(&many);
    for n in 0..500 {
        assert_eq!(wire.response().is(200).text(), format!("/{n}"));
    }
    for byte in &many.as_bytes()[..200] {
        wire.send([*byte]);
    }
    for n in 0..200 / request("GET /0", &[]).len() {
        assert_eq!(wire.response().is(200).text(), format!("/{n}"));
    }
}

/// Requests that are held back because the output is full are not lost when the peer has half-closed.
fn pipelined_requests_outlive_a_half_close(world: &World) {
    const COUNT: usize = 300;
    let body: Arc<[u8]> = vec![b'x'; 60_000].into();
    let host = world.serve(move |_: &mut Request<'_>| Response::new(200).body(body.clone()));
    let mut wire = host.connect_narrow();
    wire.send(request("GET /", &[]).repeat(COUNT)).finish();
    for n in 0..COUNT {
        assert_eq!(wire.response().body.len(), 60_000, "response {n}");
    }
    wire.ends(Finish::Clean);
}

fn head_has_the_fields_of_get(world: &World) {
    let host = world.serve(|req: &mut Request<'_>| match req.path() {
        "/stream" => Response::stream(|_: &mut Tx<'_>| Produced::End),
        _ => Response::text("four"),
    });
    let mut wire = host.connect();
    let head = wire.request("HEAD /", &[]).head();
    assert_eq!(head.is(200).get("content-length"), Some("4"));
    let head = wire.request("HEAD /stream", &[]).head();
    assert_eq!(head.is(200).get("transfer-encoding"), Some("chunked"));
    assert_eq!(wire.request("GET /", &[]).response().text(), "four");
}

fn http_1_0_closes_unless_keep_alive_is_requested(world: &World) {
    let host = world.serve(|_: &mut Request<'_>| Response::text("old"));
    let mut wire = host.connect();
    let response = wire.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").response();
    assert_eq!((response.text(), response.get("connection")), ("old", Some("keep-alive")));
    let response = wire.send("GET / HTTP/1.0\r\n\r\n").response();
    assert_eq!((response.text(), response.get("connection")), ("old", Some("close")));
    wire.ends(Finish::Clean);
}

fn a_panic_is_a_500_on_its_own_connection_only(world: &World) {
    let (report, ended) = report_channel();
    let host = world.serve(move |req: &mut Request<'_>| {
        report_end(req, &report);
        assert_eq!(req.path(), "/", "on purpose");
        Response::text("fine")
    });
    let (mut bad, mut good) = (host.connect(), host.connect());
    good.request("GET /", &[]).response().is(200);
    let response = bad.request("GET /bad", &[]).response();
    assert_eq!(response.is(500).get("connection"), Some("close"));
    names_the_cause_in_debug_builds(&response, "panicked");
    bad.ends(Finish::Clean);
    good.request("GET /", &[]).response().is(200);
    host.connect().request("GET /", &[]).response().is(200);
    drop(host);
    assert_eq!(ended.rest().len(), 4);
}

fn after_a_bad_request_nothing_is_parsed(world: &World) {
    let (report, received) = report_channel();
    let host = world.serve(move |req: &mut Request<'_>| {
        report.send(req.path().to_owned()).expect("a receiver");
        Response::text("fine")
    });
    let smuggled = request("GET /smuggled", &[]);
    let bad = [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n",
        "GET / HTTP/1.1\nHost: x\n\n",
    ];
    for bad in bad {
        let mut wire = host.connect();
        wire.send(format!("{}{bad}{smuggled}", request("GET /first", &[])));
        wire.response().is(200);
        assert_eq!(wire.response().is(400).get("connection"), Some("close"));
        let _ = wire.try_send(&smuggled);
        wire.end_tcp().ends(Finish::Clean);
        assert_eq!((received.next().as_str(), received.rest().len()), ("/first", 0));
    }
}

fn a_half_closed_client_gets_its_response(world: &World) {
    let host = world.serve(|_: &mut Request<'_>| Response::text("yes"));
    let mut wire = host.connect();
    wire.send(request("GET /", &[])).finish();
    assert_eq!(wire.response().text(), "yes");
    wire.ends(Finish::Clean);
    let mut wire = host.connect();
    wire.send(request("GET /", &[]).repeat(3)).finish();
    for _ in 0..3 {
        assert_eq!(wire.response().text(), "yes");
    }
    wire.ends(Finish::Clean);
    host.connect().finish().ends(Finish::Clean);
}

fn the_end_of_a_request_is_reported_once(world: &World) {
    let (report, ended) = report_channel();
    let host = world.serve(move |req: &mut Request<'_>| {
        report_end(req, &report);
        match req.path() {
            "/responded" => Response::text("12345").into(),
            "/aborted" => Action::Abort,
            _ => Response::stream(|_: &mut Tx<'_>| Produced::Pending).into(),
        }
    });
    let mut wire = host.connect();
    wire.request("GET /responded", &[]).response().is(200);
    let end = ended.next();
    assert_eq!((end.reason, end.written, end.received), (EndReason::Complete, 5, 0));
    wire.request("GET /aborted", &[]).ends(Finish::Reset);
    assert_eq!(ended.next().reason, EndReason::Aborted);
    let mut wire = host.connect();
    wire.request("GET /waiting", &[]).head().is(200);
    wire.reset();
    assert_eq!(ended.next().reason, EndReason::PeerClosed);
    let mut wire = host.connect();
    wire.request("GET /waiting", &[]).head().is(200);
    host.stopper.stop_now();
    assert_eq!(ended.next().reason, EndReason::Stopped);
    drop(host);
    assert_eq!(ended.rest().len(), 0);
}

fn an_invalid_response_becomes_a_500(world: &World) {
    let host = world.serve(|req: &mut Request<'_>| match req.path() {
        "/split" => Response::text("x").header("X", "a\r\nSet-Cookie: b"),
        "/length" => Response::text("x").header("Content-Length", "9"),
        "/list" => {
            let mut headers = uncork::h1::Headers::new();
            headers.append("connection", "x").expect("valid");
            Response::text("x").with_headers(headers)
        }
        _ => Response::new(100),
    });
    let mut wire = host.connect();
    for (path, reason) in [
        ("GET /split", "header field \"X\""),
        ("GET /length", "header field \"Content-Length\" is written by the engine"),
        ("GET /list", "header field \"connection\" is written by the engine"),
        ("GET /status", "100 is not the status"),
    ] {
        let response = wire.request(path, &[]).response();
        assert!(response.is(500).get("set-cookie").is_none());
        names_the_cause_in_debug_builds(&response, reason);
    }
    // HEAD receives that head, and the connection can be used again.
    let head = wire.request("HEAD /split", &[]).head();
    assert!(head.is(500).get("set-cookie").is_none());
    wire.request("GET /split", &[]).response().is(500);
}

/// A response that cannot be what the application intended. In release builds clients see no error.
pub(super) fn names_the_cause_in_debug_builds(response: &TestResponse, reason: &str) {
    let text = std::str::from_utf8(&response.body).expect("text");
    if cfg!(debug_assertions) {
        assert!(text.contains(reason), "{text:?}");
        assert_eq!(response.get("content-type"), Some("text/plain; charset=utf-8"));
    } else {
        assert_eq!(text, "");
    }
}

fn a_singleton_field_replaces(world: &World) {
    let host = world.serve(|_: &mut Request<'_>| {
        Response::text("<p>")
            .header("content-type", "text/html")
            .header("Set-Cookie", "a=1")
            .header("Set-Cookie", "b=2")
            .append("ETag", "\"1\"")
            .append("ETag", "\"2\"")
    });
    let response = host.connect().request("GET /", &[]).response();
    let all = |name: &str| response.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).count();
    assert_eq!(response.is(200).get("content-type"), Some("text/html"));
    assert_eq!((all("content-type"), all("set-cookie"), all("etag")), (1, 2, 2));
}

fn plain_http_on_a_tls_port_gets_a_400(world: &World) {
    let host = world.serve(|_: &mut Request<'_>| Response::text("fine"));
    let response = host.connect_plain().request("GET /", &[]).response();
    response.is(if world.tls { 400 } else { 200 });
}
