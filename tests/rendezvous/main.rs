//! The rendezvous' contract, case by case, over real sockets: plain and TLS, with one loop and with two. With two, the
//! sides of a stream are on different loops.

#![cfg(all(feature = "relay", feature = "tls"))]

use std::time::Duration;

use uncork::relay::RendezvousConfig;

#[path = "../support/disconnect.rs"]
mod disconnect;
mod ends;
mod errors;
#[macro_use]
#[path = "../support/every_setup.rs"]
mod every_setup;
mod limits;
mod meeting;
mod several;
#[path = "../support/mod.rs"]
#[allow(dead_code)] // the session relay's tests use the rest
mod support;

use disconnect::disconnect;
use support::{
    Client, Setup, TestResponse, TestServer,
    bodies::{pattern, push_until_stuck, receive},
};

/// A short time, to show that nothing happens. The only sleep in these tests, and never to wait for an event.
const MOMENT: Duration = Duration::from_millis(40);

const PLAIN_1: Setup = Setup { tls: false, threads: 1 };

in_every_setup! {
    meeting::creation, meeting::routes, meeting::put_meets_get, meeting::fields_are_passed_on,
    meeting::a_part_is_rejected, meeting::an_empty_upload, meeting::chunked_is_progressive,
    meeting::a_receiver_of_http_1_0,
    meeting::the_body_is_asked_for_at_once_and_not_read, meeting::a_stalled_receiver_stops_its_source,
    meeting::a_declared_length_is_kept_or_broken, meeting::status_tells,
    ends::a_waiting_side_drops, ends::a_source_disconnects, ends::a_source_disconnects_before_its_first_byte,
    ends::a_source_disconnects_and_the_receiver_speaks_http_1_0, ends::a_destination_disconnects,
    ends::a_destination_disconnects_in_a_long_stream, ends::time_is_over, ends::stopping,
    errors::second_ones_are_rejected_and_the_first_go_on, errors::posted_to_one_who_waits,
    errors::posted_before_anybody_came, errors::posted_too_late, errors::posted_badly,
    several::three_and_one_is_slow, several::one_of_three_disconnects, several::all_of_three_disconnect,
    several::one_that_disconnected_frees_its_place, several::a_source_that_disconnected_is_reported,
}

fn start(setup: Setup) -> TestServer {
    start_with(setup, |_| ())
}

fn start_with(setup: Setup, change: impl FnOnce(&mut RendezvousConfig)) -> TestServer {
    let mut config = RendezvousConfig { ttl: Duration::from_secs(600), ..RendezvousConfig::default() };
    change(&mut config);
    TestServer::start(setup, config)
}

/// A stream, and clients for its sides.
struct Stream<'a> {
    server: &'a TestServer,
    path: String,
}

impl<'a> Stream<'a> {
    fn new(server: &'a TestServer) -> Self {
        Self::with(server, "", "")
    }

    fn with(server: &'a TestServer, query: &str, json: &str) -> Self {
        let response = server.client().post(&format!("/stream{query}"), &[], json.as_bytes()).response();
        let id = response.assert(201).text().strip_prefix("{\"stream\":\"").and_then(|rest| rest.strip_suffix("\"}"));
        Self { server, path: format!("/stream/{}", id.expect("an id")) }
    }

    /// Returns a receiver whose request the server has received.
    fn get(&self) -> Client {
        self.get_with("")
    }

    fn get_with(&self, query: &str) -> Client {
        let mut client = self.server.client();
        self.server.until_requested(|| {
            client.request(&format!("GET {}{query}", self.path), &[]);
        });
        client
    }

    /// Returns a source whose head the server has received.
    fn put(&self, framing: &str) -> Client {
        let mut client = self.server.client();
        self.server.until_requested(|| {
            client.request(&format!("PUT {}", self.path), &[framing]);
        });
        client
    }

    fn put_all(&self, body: &[u8]) -> Client {
        let mut client = self.put(&format!("Content-Length: {}", body.len()));
        let _ = client.try_send(body);
        client
    }

    fn status(&self) -> String {
        self.server.client().request(&format!("GET {}/status", self.path), &[]).response().assert(200).text().to_owned()
    }

    #[track_caller]
    fn is(&self, state: &str) -> String {
        let status = self.status();
        assert!(status.contains(&format!("\"state\":\"{state}\"")), "{status}");
        let active = ["CREATED", "SRC_CONNECTED", "DST_CONNECTED", "STREAMING"].contains(&state);
        assert!(status.contains(&format!("\"active\":{active}")), "{status}");
        assert_eq!(status.contains("\"deactivated_at\""), !active, "{status}");
        status
    }

    /// Polls until it is in that state: for events on another loop.
    #[track_caller]
    fn becomes(&self, state: &str) -> String {
        for _ in 0..2000 {
            if self.status().contains(&format!("\"state\":\"{state}\"")) {
                break;
            }
            std::thread::yield_now();
        }
        self.is(state)
    }

    fn error(&self, json: &str) -> TestResponse {
        self.server.client().post(&format!("{}/error", self.path), &[], json.as_bytes()).response()
    }
}

/// Asserts the response of an error.
#[track_caller]
fn is_error(response: &TestResponse, status: u16, name: &str, message: &str) {
    response.assert(status);
    assert_eq!(response.get("content-type"), Some("application/json"));
    assert_eq!(response.get("x-content-type-options"), Some("nosniff"));
    assert_eq!(response.text(), format!("{{\"name\":\"{name}\",\"message\":\"{message}\"}}"));
}

#[track_caller]
fn not_found(response: &TestResponse) {
    is_error(response, 404, "SessionNotFoundError", "The specified session id does not exist");
}

const SOURCE_CLOSED: (u16, &str, &str) = (502, "StreamSourceError", "Stream source closed unexpectedly");
const DESTINATION_CLOSED: (u16, &str, &str) = (502, "StreamDestinationError", "Stream destination closed unexpectedly");

#[track_caller]
fn is_fault(response: &TestResponse, (status, name, message): (u16, &str, &str)) {
    is_error(response, status, name, message);
}
