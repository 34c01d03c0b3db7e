//! Limits: on by default; each rejection names its limit and when to retry.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::Command,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    client::TIMEOUT,
    harness::{Dir, Relay, stream, until},
    program::program,
};

/// Connects from an address of this machine.
fn connect_from(source: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
    socket.bind(&SocketAddr::from((source, 0)).into()).expect("bound");
    socket.connect(&to.into()).expect("connected");
    socket.into()
}

/// Sends a request on a connection that may have been closed, or may wait for its slot. Returns `true` if there is a
/// response within the timeout.
fn is_served(wire: &mut TcpStream, timeout: Duration) -> bool {
    wire.set_read_timeout(Some(timeout)).expect("set");
    let mut block = [0; 1024];
    wire.write_all(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n").is_ok()
        && wire.read(&mut block).is_ok_and(|n| block[..n].starts_with(b"HTTP/1.1 200 "))
}

#[test]
fn a_few_addresses_cannot_take_all_connections() {
    for sources in [1, 4] {
        let relay = Relay::start(&["--connections=40", "--threads=2"]);
        let mut held: Vec<TcpStream> = (0..40)
            .flat_map(|_| (0..sources).map(|n| connect_from([127, 0, 1, 1 + n], relay.addr())))
            .filter_map(|mut wire| is_served(&mut wire, TIMEOUT).then_some(wire))
            .collect();
        assert_eq!(held.len(), if sources == 1 { 20 } else { 29 }, "half of them, or a shrinking share each");
        for other in 0..4 {
            let mut wire = connect_from([127, 0, 2, 1 + other], relay.addr());
            assert!(is_served(&mut wire, TIMEOUT), "another address is served");
            assert!(held.iter_mut().all(|wire| is_served(wire, TIMEOUT)), "existing connections stay open");
        }
        relay.stop();
    }
    let relay = Relay::start(&["--connections=10", "--connections-per-address=0"]);
    let held: Vec<_> = (0..10).map(|_| connect_from([127, 0, 1, 1], relay.addr())).collect();
    assert!(held.into_iter().all(|mut wire| is_served(&mut wire, TIMEOUT)), "one address may have all");
    relay.stop();
}

#[test]
fn its_connections_fit_into_what_the_system_lets_it_open() {
    for mode in ["threads", "external", "thread-per-connection"] {
        let dir = Dir::new();
        let log = dir.path("stderr");
        let mut command = Command::new("sh");
        command.args(["-c", "exec 2>\"$0\"; ulimit -n 300; exec \"$@\"", &log]).arg(program("relay"));
        let relay =
            Relay::start_with(command, &["--listen=127.0.0.1:0", "--threads=2", "--log-level=warn", "--mode", mode]);
        let text = dir.read("stderr");
        let text_before = "the system allows this process 300 open files: --connections 65536 is lowered to ";
        let fit: usize =
            text.split_once(text_before).and_then(|(_, rest)| rest.split(' ').next()?.parse().ok()).expect(&text);
        assert!((30..200).contains(&fit), "{text}");
        // More than allowed, from many addresses.
        let wires: Vec<_> = (0..400).map(|n| connect_from([127, 0, 1, (n % 100) as u8], relay.addr())).collect();
        until("its slots are taken", || relay.metric("uncork_open_connections") >= fit as f64 * 0.9);
        relay.request_admin("GET /health", &[]).assert(200);
        assert!(relay.metric("process_open_fds") < 300.0);
        assert_eq!(relay.metric("process_max_fds"), 300.0);
        drop(wires);
        relay.request("GET /ping", &[]).assert(200);
        relay.stop();
        assert_eq!(dir.read("stderr"), text, "and nothing else was logged");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn without_descriptors_operators_get_an_answer_and_the_log_stays_short() {
    use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
    let dir = Dir::new();
    let relay = Relay::logging_to(&dir.path("stderr"), &["--threads=3", "--connections=100", "--log-level=warn"]);
    let mut early = relay.client();
    early.request("GET /ping", &[]).response().assert(200);
    // Its hard limit is the test's.
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = |current| prlimit(Some(relay.pid()), Resource::Nofile, Rlimit { current, maximum }).expect("set");
    limit(Some(relay.metric("process_open_fds") as u64));
    // The free descriptors below the limit.
    let fill: Vec<_> = (0..40).map(|n| connect_from([127, 0, 1, n + 1], relay.addr())).collect();
    let mut late = connect_from([127, 0, 2, 1], relay.addr());
    assert!(!is_served(&mut late, Duration::from_millis(300)), "served without a descriptor");
    for _ in 0..20 {
        relay.request_admin("GET /health", &[]).assert(200);
    }
    early.request("GET /ping", &[]).response().assert(200);
    let text = dir.read("stderr");
    assert!(text.contains("cannot accept connections for now") && text.lines().count() == 1, "{text}");
    limit(maximum);
    late.set_read_timeout(Some(TIMEOUT)).expect("set");
    let mut block = [0; 1024];
    assert!(late.read(&mut block).is_ok_and(|n| block[..n].starts_with(b"HTTP/1.1 200 ")), "it only had to wait");
    drop(fill);
    relay.stop();
}

#[test]
fn a_rejection_names_its_limit_and_when_to_come_back() {
    let relay = Relay::start(&["--max-body=1000", "--rendezvous-streams-per-address=2", "--sessions-per-address=1"]);
    let path = stream(&relay);
    // The response of the requested service, in its own format, however much too large: the engine's own would be
    // different.
    for length in ["Content-Length: 1001", "Content-Length: 18446744073709551615"] {
        let response = relay.request(&format!("PUT {path}"), &[length]);
        let error = r#"{"name":"BodyTooLargeError","message":"The stream is too large: at most 1000 bytes"}"#;
        assert_eq!((response.assert(413).text(), response.get("content-type")), (error, Some("application/json")));
    }
    let session = relay.request("PUT /cama/session", &["Content-Length: 0"]);
    let session = session.assert(201).get("location").expect("a path").to_owned();
    let response = relay.request(&format!("POST {session}"), &["Content-Length: 1001"]);
    assert_eq!(response.assert(413).text(), "the message is too large: at most 1000 bytes");

    let rejection = |line: &str| {
        let response = relay.request(line, &["Content-Length: 0"]);
        let after: u64 = response.assert(429).get("retry-after").expect("when").parse().expect("seconds");
        assert!(after > 0);
        response.text().to_owned()
    };
    assert!(rejection("PUT /cama/session").contains("sessions for this address: at most 1"));
    stream(&relay);
    assert!(rejection("POST /stream").contains("streams for this address: at most 2"));
    relay.stop();
}
