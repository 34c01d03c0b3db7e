//! Requests that an origin server has not begun are retried on another one; those that it may have begun are not.

use std::time::Duration;

use super::{
    client::Client,
    proxy::{HOST, get, world_and_origin},
    raw::{DATA, REFUSED_STREAM, RawOrigin},
};

#[test]
fn a_refused_request_is_retried_on_another_origin_server() {
    let (world, mut first) = world_and_origin();
    let mut client = world.client();
    // By RST_STREAM. There is no other origin server: the client gets the error.
    get(&mut client, "/");
    let stream = first.request();
    first.reset(stream, REFUSED_STREAM);
    let response = client.response();
    assert_eq!((response.status, response.get("retry-after")), (503, Some("1")));
    let mut second = RawOrigin::new(&world, "app", HOST);
    for _ in 0..2 {
        client.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n"));
        respond_by_second(&mut first, &mut second, &mut client);
    }
    assert!(world.proxy.counts().retried >= 1);
}

/// The first of the two refuses the request, if it gets it; the second responds.
fn respond_by_second(first: &mut RawOrigin, second: &mut RawOrigin, client: &mut Client) {
    let timeout = Duration::from_millis(300);
    if !first.is_silent(timeout) {
        let stream = first.request();
        first.reset(stream, REFUSED_STREAM);
    }
    let stream = second.request();
    client.chunk(b"body").send("0\r\n\r\n");
    assert_eq!(second.expect(|frame| frame.kind == DATA).payload, b"body");
    second.head(stream, 200, &[], true);
    client.response().assert(200);
}

#[test]
fn a_body_that_was_begun_is_not_sent_twice() {
    let (world, mut first) = world_and_origin();
    let mut second = RawOrigin::new(&world, "app", HOST);
    let mut client = world.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 8\r\n\r\nhalf"));
    let (mut chosen, mut other) = match first.is_silent(Duration::from_millis(300)) {
        true => (second, first),
        false => {
            std::mem::swap(&mut first, &mut second);
            (second, first)
        }
    };
    let stream = chosen.request();
    chosen.expect(|frame| frame.kind == DATA);
    chosen.reset(stream, REFUSED_STREAM);
    assert_eq!(client.head().status, 503);
    assert!(other.is_silent(Duration::from_millis(100)));
}

#[test]
fn requests_behind_goaway_are_retried() {
    let (world, mut first) = world_and_origin();
    let mut clients: Vec<Client> = (0..3).map(|_| world.client()).collect();
    let mut streams = Vec::new();
    for client in &mut clients {
        get(client, "/");
        streams.push(first.request());
    }
    let mut second = RawOrigin::new(&world, "app", HOST);
    // The first stream is finished, the others were not begun.
    first.go_away(streams[0], 0);
    for _ in 0..2 {
        let stream = second.request();
        second.head(stream, 200, &[("x-by", "second")], true);
    }
    first.head(streams[0], 200, &[("x-by", "first")], true);
    let by: Vec<String> =
        clients.iter_mut().map(|client| client.response().get("x-by").expect("a name").into()).collect();
    assert_eq!(by, ["first", "second", "second"]);
    // It gets no more requests, and its connection ends normally.
    first.ended();
    for _ in 0..3 {
        get(&mut clients[0], "/");
        let stream = second.request();
        second.head(stream, 200, &[], true);
        clients[0].response().assert(200);
    }
    world.wait_until("the first has left", |counts| counts.connections == 1);
}
