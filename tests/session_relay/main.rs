//! The session relay's contract, case by case, over real sockets: plain and TLS, with one loop and with two. With two,
//! host and guest are on different loops.

#![cfg(all(feature = "relay", feature = "tls"))]

use std::{io::ErrorKind, time::Duration};

use uncork::relay::SessionConfig;

#[path = "../support/disconnect.rs"]
mod disconnect;
#[macro_use]
#[path = "../support/every_setup.rs"]
mod every_setup;
mod guests;
mod limits;
mod messages;
mod opening;
#[path = "../support/mod.rs"]
#[allow(dead_code)] // the examples' tests use the rest
mod support;
mod waiting;

use disconnect::disconnect;
use support::{
    Client, Setup, TestResponse, TestServer,
    bodies::{pattern, push_until_stuck, receive},
};

/// A short time, to show that nothing happens. The only sleep in these tests, and never to wait for an event.
const MOMENT: Duration = Duration::from_millis(40);

const PLAIN_1: Setup = Setup { tls: false, threads: 1 };

in_every_setup! {
    opening::allocation, opening::allocation_chooses_type_and_time, opening::what_is_not_there,
    opening::other_methods, opening::a_part_is_rejected, waiting::an_unknown_session, waiting::a_message_each_way,
    waiting::the_token_makes_the_host, waiting::one_receiver_a_side, waiting::one_sender_a_side, waiting::timeouts,
    waiting::a_connection_goes_on, messages::nothing_at_all_is_a_message_too, messages::chunked_is_progressive,
    messages::trailers_pass_through, messages::the_body_is_asked_for_only_when_somebody_is_there,
    messages::nothing_is_read_until_somebody_is_there, messages::a_receiver_that_disconnected_loses_nothing,
    messages::a_receiver_disconnects_in_mid_transfer, messages::a_receiver_disconnects_in_a_long_message,
    messages::a_sender_disconnects_in_mid_transfer,
    messages::a_sender_disconnects_and_that_shows, messages::a_stalled_receiver_pushes_back,
    messages::many_messages_in_a_row, guests::a_secure_session, guests::a_basic_session_can_be_closed_to_others,
    guests::deletion, guests::deletion_in_mid_transfer, guests::an_end_to_everything, limits::messages_have_a_limit,
    limits::stopping,
}

fn start(setup: Setup) -> TestServer {
    TestServer::start(setup, SessionConfig::default())
}

fn start_with(setup: Setup, change: impl FnOnce(&mut SessionConfig)) -> TestServer {
    let mut config = SessionConfig::default();
    change(&mut config);
    TestServer::start(setup, config)
}

/// A session, with the data of its host.
struct Session {
    path: String,
    token: String,
    cookie: String,
}

impl Session {
    fn new(server: &TestServer) -> Self {
        Self::with(server, "", &[])
    }

    fn with(server: &TestServer, query: &str, fields: &[&str]) -> Self {
        let response = server.client().request(&format!("PUT /cama/session{query}"), fields).response();
        response.assert(201);
        let path = response.get("location").expect("a location").to_owned();
        let token = token(&response).to_owned();
        let cookie = format!("Cookie: token={token}");
        Self { path, token, cookie }
    }

    fn get(&self) -> String {
        format!("GET {}", self.path)
    }

    /// Returns the host's client, whose GET the server has received.
    fn host_waits(&self, server: &TestServer) -> Client {
        self.waits(server, &[&self.cookie])
    }

    /// Returns a guest's client, whose GET the server has received.
    fn guest_waits(&self, server: &TestServer) -> Client {
        self.waits(server, &[])
    }

    fn waits(&self, server: &TestServer, fields: &[&str]) -> Client {
        let mut client = server.client();
        server.until_requested(|| {
            client.request(&self.get(), fields);
        });
        client
    }
}

fn token(response: &TestResponse) -> &str {
    let cookie = response.get("set-cookie").expect("a cookie");
    cookie.strip_prefix("token=").and_then(|rest| rest.split(';').next()).expect("a token")
}

fn seconds(cookie: &str) -> u64 {
    let (_, rest) = cookie.split_once("Max-Age=").expect("an age");
    rest.split(';').next().and_then(|n| n.parse().ok()).expect("a number")
}

impl Client {
    /// Ends a chain: the request is sent, its response is for later.
    fn sent(&mut self) {}
}
