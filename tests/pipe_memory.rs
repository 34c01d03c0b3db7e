//! The limit for the memory of pipes, where it is needed most: streams with several receivers, each with a pipe of its
//! own. The limit is the process's, so this is a program of its own.
#![cfg(all(feature = "relay", feature = "tls"))]
#![expect(clippy::disallowed_methods, reason = "what the server does in its threads is waited for")]

#[path = "support/mod.rs"]
#[allow(dead_code)] // other tests use the rest
mod support;

use std::{
    thread,
    time::{Duration, Instant},
};

use support::{
    Client, Setup, TestServer,
    bodies::{pattern, push_until_stuck, receive},
};
use uncork::{pipe_memory, relay::RendezvousConfig, set_pipe_memory_limit};

/// More than all the sockets on the way hold.
const TOTAL: usize = 24 << 20;
const RECEIVERS: usize = 3;
/// Two streams with three receivers each have pipes of 1.5 MiB.
const STREAMS: usize = 2;
const LIMIT: usize = 600 * 1024;

/// A source and its receivers, which have reached the server.
fn stream(server: &TestServer, framing: &str) -> (Client, Vec<Client>) {
    let answer = server.client().post(&format!("/stream?n={RECEIVERS}"), &[], b"").answer();
    let id = answer.assert(201).text().strip_prefix("{\"stream\":\"").and_then(|rest| rest.strip_suffix("\"}"));
    let path = format!("/stream/{}", id.expect("an id"));
    let client = |line: String, fields: &[&str]| {
        let mut client = server.client();
        server.seen(|| {
            client.request(&line, fields);
        });
        client
    };
    let receivers = (0..RECEIVERS).map(|_| client(format!("GET {path}"), &[])).collect();
    (client(format!("PUT {path}"), &[framing]), receivers)
}

#[test]
fn receivers_that_do_not_read_hold_no_more_than_the_limit_and_get_everything_later() {
    set_pipe_memory_limit(LIMIT);
    for tls in [false, true] {
        let server = TestServer::start(Setup { tls, threads: 2 }, RendezvousConfig::default());
        let mut streams: Vec<_> = (0..STREAMS).map(|_| stream(&server, &format!("Content-Length: {TOTAL}"))).collect();
        let sent: Vec<usize> = streams.iter_mut().map(|(source, _)| push_until_stuck(source, TOTAL)).collect();
        let held = pipe_memory();
        assert!(held > LIMIT / 2 && held <= LIMIT, "{held} bytes in pipes");
        assert!(sent.iter().all(|sent| *sent < TOTAL), "the sources were not stopped");
        thread::scope(|scope| {
            for ((source, receivers), sent) in streams.iter_mut().zip(sent) {
                scope.spawn(move || source.send(pattern(sent, TOTAL - sent)).answer().assert(200).status);
                for receiver in receivers {
                    scope.spawn(move || {
                        receiver.head().assert(200);
                        receive(receiver, TOTAL);
                    });
                }
            }
        });
        assert!(pipe_memory() <= LIMIT);
        drop(streams);
        let end = Instant::now() + Duration::from_secs(20);
        while pipe_memory() > 0 {
            assert!(Instant::now() < end, "{} bytes in pipes that are over", pipe_memory());
            thread::sleep(Duration::from_millis(5));
        }
    }
}
