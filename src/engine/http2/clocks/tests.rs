//! How long a silent client is waited for.

use std::time::Duration;

use super::super::tests::client::{ALL, Client, ping, request};
use crate::{
    base::{EndReason, Limits, Timeout},
    h2::frame,
};

/// Returns a client that has sent its requests, and is silent. Its window takes a part of `/1000000`.
fn silent(requests: &[(&str, &str)]) -> Client {
    let minutes = Duration::from_secs(300);
    let limits = Limits { body_timeout: minutes, send_timeout: minutes, ..Limits::default() };
    let mut client = Client::new(limits, 32 * 1024, 65_535);
    for (stream, (method, path)) in (1..).step_by(2).zip(requests) {
        client.send(&request(stream, method, path));
    }
    client.go(ALL);
    client
}

#[test]
fn a_silent_client_whose_request_waits_for_the_application_is_asked_and_given_up() {
    let mut client = silent(&[("GET", "/waits")]);
    client.pass(59, ALL);
    assert_eq!((client.reasons(), client.count(frame::PING)), (vec![], 0));
    client.pass(16, ALL);
    assert_eq!((client.reasons(), client.count(frame::PING)), (vec![], 1));
    client.pass(11, ALL);
    assert_eq!(client.reasons(), [EndReason::PeerClosed]);
}

#[test]
fn an_idle_connection_ends_whatever_comes_beside_requests() {
    let ping = ping();
    for cut in [0, 5, 12] {
        for requests in [&[][..], &[("GET", "/waits")]] {
            let mut client = silent(requests);
            client.tickets.lock().expect("whole").clear();
            for _ in 0..11 {
                for part in [&ping[..cut], &ping[cut..]] {
                    assert!(!client.engine.is_vacant());
                    client.send(part);
                    client.pass(2, ALL);
                }
            }
            // 44 s.
            client.pass(11, ALL);
            assert!(!client.engine.is_vacant(), "cut at {cut}");
            client.send(&ping[..cut]);
            client.pass(3, ALL);
            client.send(&ping[cut..]);
            client.pass(13, ALL);
            assert!(client.engine.is_vacant(), "cut at {cut}");
        }
    }
}

/// A laptop may sleep for as long as over HTTP/1.1.
#[test]
fn a_silent_client_has_the_time_of_its_body_and_of_its_response() {
    for (asked, timeout) in [(("POST", "/taken"), Timeout::Body), (("GET", "/1000000"), Timeout::Send)] {
        let mut client = silent(&[asked]);
        client.pass(296, ALL);
        assert_eq!(client.reasons(), [], "{asked:?}");
        client.pass(11, ALL);
        assert_eq!(client.reasons(), [EndReason::TimedOut(timeout)], "{asked:?}");
        // Beside it, no other request keeps the client longer.
        let mut client = silent(&[asked, ("GET", "/waits")]);
        client.pass(296, ALL);
        assert_eq!(client.reasons(), [], "{asked:?}");
        client.pass(11, ALL);
        assert_eq!(client.reasons(), [EndReason::TimedOut(timeout), EndReason::PeerClosed], "{asked:?}");
    }
}
