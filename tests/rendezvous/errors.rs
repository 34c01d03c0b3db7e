//! Rejected requests, and errors that clients report.

use super::*;

pub(crate) fn second_ones_are_rejected_and_the_first_go_on(setup: Setup) {
    let server = start(setup);
    let source_taken = "A client has already connected to the source side of this stream";
    let destination_taken = "A client has already connected to the destination side of this stream";
    for receiver_first in [false, true] {
        let stream = Stream::new(&server);
        let second_get = || is_error(&stream.get().response(), 429, "AlreadyConnectedError", destination_taken);
        let second_put =
            || is_error(&stream.put("Content-Length: 0").response(), 429, "AlreadyConnectedError", source_taken);
        let (mut source, mut receiver);
        if receiver_first {
            receiver = stream.get();
            second_get();
            source = stream.put("Content-Length: 10");
        } else {
            source = stream.put("Content-Length: 10");
            second_put();
            receiver = stream.get();
        }
        // While they stream, too.
        second_get();
        second_put();
        source.send("hello");
        let head = receiver.head();
        second_get();
        second_put();
        source.send("world");
        assert_eq!(receiver.body(&head).expect("whole"), b"helloworld");
        source.response().assert(200);
        stream.is("FINISHED");
    }
}

pub(crate) fn posted_to_one_who_waits(setup: Setup) {
    let server = start(setup);
    for (json, status, name, message) in [
        ("", 400, "Error", "The other side encountered an unspecified error"),
        ("{\"http_status\":404,\"name\":\"N\",\"message\":\"M\",\"extra\":1}", 404, "N", "M"),
        ("{\"http_status\":599}", 599, "Error", "The other side encountered an unspecified error"),
    ] {
        for source in [false, true] {
            let stream = Stream::new(&server);
            let mut waiting = if source { stream.put("Content-Length: 5") } else { stream.get() };
            let response = stream.error(json);
            assert_eq!(response.assert(200).text(), "");
            is_error(&waiting.response(), status, name, message);
            let status = stream.is("CLIENT_ERROR");
            assert!(!status.contains("\"error\""), "{status}");
            // It was delivered.
            not_found(&stream.get().response());
            not_found(&stream.put("Content-Length: 5").response());
        }
    }
}

pub(crate) fn posted_before_anybody_came(setup: Setup) {
    let server = start_with(setup, |c| c.status_ttl = Duration::ZERO);
    let stream = Stream::new(&server);
    stream.error("{\"http_status\":503,\"name\":\"Busy\",\"message\":\"Later\"}").assert(200);
    stream.is("CLIENT_ERROR");
    is_error(&stream.get().response(), 503, "Busy", "Later");
    let mut source = server.client();
    let response =
        source.request(&format!("PUT {}", stream.path), &["Content-Length: 5", "Expect: 100-continue"]).response();
    is_error(&response, 503, "Busy", "Later");
}

pub(crate) fn posted_too_late(setup: Setup) {
    let server = start(setup);
    let stream = Stream::new(&server);
    let mut receiver = stream.get();
    let mut source = stream.put("Content-Length: 10");
    let late = || {
        let message = "The specified session has already started streaming";
        is_error(&stream.error("{}"), 409, "StreamStartedError", message);
    };
    late();
    source.send("hello");
    let head = receiver.head();
    late();
    source.send("world");
    assert_eq!(receiver.body(&head).expect("whole"), b"helloworld");
    source.response().assert(200);
    late();
    not_found(&server.client().post("/stream/x/error", &[], b"{}").response());
}

pub(crate) fn posted_badly(setup: Setup) {
    let server = start(setup);
    let stream = Stream::new(&server);
    let mut receiver = stream.get();
    for json in ["{", "{\"http_status\":\"teapot\"}", "{\"http_status\":200}", "{\"http_status\":1e9}", "{\"name\":1}"]
    {
        let response = stream.error(json);
        assert!(
            response.assert(400).text().starts_with("{\"name\":\"InvalidBodyError\",\"message\":\""),
            "{response:?}"
        );
    }
    // No side got a response.
    assert!(receiver.is_silent(MOMENT));
    let mut source = stream.put_all(b"hello");
    assert_eq!(receiver.response().text(), "hello");
    source.response().assert(200);
}
