//! Heads of requests: what a handler sees, and what is malformed (RFC 9113 §8).

use http::{Method, Request, Version};
use uncork::{Response, h1};

use crate::{
    connect,
    http2::{get, post},
    over_both,
    world::World,
};

over_both! {
    a_handler_sees_the_request_as_always,
    crumbs_of_cookies_are_joined,
    the_host_may_come_either_way,
    two_different_hosts_are_malformed,
    malformed_fields_do_not_reach_the_handler,
    options_and_connect_have_their_targets,
    large_heads_come_in_continuations,
}

/// Returns all that a handler can ask of the head.
fn described(req: &uncork::Request<'_>) -> Response {
    let mut text =
        format!("{} {} {:?} {}\n", req.method(), req.target(), req.version(), req.authority().unwrap_or("none"));
    for (name, value) in req.headers().iter() {
        text += &format!("{name}: {}\n", String::from_utf8_lossy(value));
    }
    Response::text(text)
}

fn a_handler_sees_the_request_as_always(world: &World) {
    let host = world.serve(|req: &mut uncork::Request<'_>| {
        assert_eq!(req.version(), h1::Version::Http2);
        assert_eq!(req.tls_info().is_some(), req.headers().iter().any(|(name, _)| name == "x-tls"));
        described(req)
    });
    let mut client = connect(&host);
    let mut request = get("/a%20b?c=d");
    if world.tls {
        request.headers_mut().insert("x-tls", "1".parse().expect("a value"));
    }
    request.headers_mut().append("x-two", "1".parse().expect("a value"));
    request.headers_mut().append("x-two", "2".parse().expect("a value"));
    request.headers_mut().insert("te", "trailers".parse().expect("a value"));
    let mut exchange = client.request(request, true);
    let head = exchange.head(&mut client);
    assert_eq!((head.status().as_u16(), head.version()), (200, Version::HTTP_2));
    assert!(head.headers().contains_key("date") && !head.headers().contains_key("connection"));
    let text = String::from_utf8(exchange.body(&mut client).expect("a body").0).expect("text");
    assert_eq!(head.headers()["content-length"], text.len().to_string());
    let tls = if world.tls { "x-tls: 1\n" } else { "" };
    let want = format!("GET /a%20b?c=d Http2 localhost\nhost: localhost\n{tls}x-two: 1\nx-two: 2\nte: trailers\n");
    let mut lines = [text, want].map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
    lines.iter_mut().for_each(|lines| lines.sort());
    assert_eq!(lines[0], lines[1]);
}

fn crumbs_of_cookies_are_joined(world: &World) {
    let host = world.serve(|req: &mut uncork::Request<'_>| {
        let all: Vec<_> = req.headers().iter().filter(|(name, _)| *name == "cookie").collect();
        Response::text(format!("{} {}", all.len(), String::from_utf8_lossy(all[0].1)))
    });
    let mut client = connect(&host);
    let mut request = get("/");
    for crumb in ["a=1", "b=2", "c=3"] {
        request.headers_mut().append("cookie", crumb.parse().expect("a value"));
    }
    let mut exchange = client.request(request, true);
    exchange.head(&mut client);
    assert_eq!(exchange.body(&mut client).expect("a body").0, b"1 a=1; b=2; c=3");
}

fn the_host_may_come_either_way(world: &World) {
    let host =
        world.serve(|req: &mut uncork::Request<'_>| Response::text(req.authority().unwrap_or("none").to_owned()));
    let mut client = connect(&host);
    for (uri, field) in [("http://app.example:81/", None), ("http://app.example:81/", Some("APP.example:81"))] {
        let mut request = Request::get(uri);
        if let Some(field) = field {
            request = request.header("host", field);
        }
        let mut exchange = client.request(request.body(()).expect("a request"), true);
        assert_eq!(exchange.head(&mut client).status(), 200);
        assert_eq!(exchange.body(&mut client).expect("a body").0.to_ascii_lowercase(), b"app.example:81");
    }
}

fn two_different_hosts_are_malformed(world: &World) {
    let host = world.serve(|_: &mut uncork::Request<'_>| Response::text("fine"));
    let mut client = connect(&host);
    let request = Request::get("http://a.example/").header("host", "b.example").body(()).expect("a request");
    let error = client.request(request, true).try_head(&mut client).expect_err("malformed");
    assert_eq!(error.reason(), Some(h2::Reason::PROTOCOL_ERROR), "{error}");
    // The connection goes on.
    assert_eq!(client.fetch("/").1, b"fine");
}

/// By the rules of HTTP/1.1, which the engine has for both.
fn malformed_fields_do_not_reach_the_handler(world: &World) {
    let host = world.serve(|_: &mut uncork::Request<'_>| Response::text("fine"));
    let mut client = connect(&host);
    for (fields, status) in
        [(&[("content-length", "5"), ("content-length", "6")][..], 400), (&[("expect", "200-ok")], 417)]
    {
        let mut exchange = client.request(post("/", fields), false);
        match exchange.try_head(&mut client) {
            Ok(head) => assert_eq!(head.status(), status, "{fields:?}"),
            Err(error) => assert!(error.is_reset(), "{fields:?}: {error}"),
        }
        exchange.finish(&mut client);
    }
    assert_eq!(client.fetch("/").1, b"fine");
}

fn options_and_connect_have_their_targets(world: &World) {
    let host = world.serve(|req: &mut uncork::Request<'_>| described(req).with_status(404));
    let mut client = connect(&host);
    let connects = Request::builder().method(Method::CONNECT).uri("app.example:443").body(()).expect("a request");
    let mut exchange = client.request(connects, false);
    assert_eq!(exchange.head(&mut client).status(), 404);
    let body = exchange.body(&mut client).expect("a body").0;
    assert!(body.starts_with(b"CONNECT app.example:443 Http2 "), "{}", body.escape_ascii());
    let options = Request::options("http://localhost/x").body(()).expect("a request");
    let mut exchange = client.request(options, true);
    exchange.head(&mut client);
    assert!(exchange.body(&mut client).expect("a body").0.starts_with(b"OPTIONS /x Http2"));
}

fn large_heads_come_in_continuations(world: &World) {
    let host = world.serve(|req: &mut uncork::Request<'_>| {
        Response::text("fine").header("X-Back", req.header("x-long").unwrap_or_default().repeat(4))
    });
    let mut client = connect(&host);
    let mut request = get("/");
    request.headers_mut().insert("x-long", "~".repeat(12_000).parse().expect("a value"));
    let head = client.request(request, true).head(&mut client);
    assert_eq!((head.status().as_u16(), head.headers()["x-back"].len()), (200, 48_000));
}
