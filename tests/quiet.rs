//! A suspended request costs nothing: no deadline of an earlier state wakes the loop.

#![expect(clippy::disallowed_methods, reason = "the limits are real time")]

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use uncork::{Action, EventMask, ExternalServer, Io, Limits, Request, Response, Server, Switch, Wait};

/// Every limit that can expire. The client is faster than this.
const LIMIT: Duration = Duration::from_millis(250);

fn limits() -> Limits {
    Limits { idle_timeout: LIMIT, head_timeout: LIMIT, body_timeout: LIMIT, ..Limits::default() }
}

/// Turns until every limit has expired long ago. Returns the next wait of the loop.
fn wait_after(server: &mut ExternalServer<'_>, until: impl Fn() -> bool) -> Wait {
    let turn = |server: &mut ExternalServer<'_>| _ = server.wait(Some(LIMIT / 10)).expect("turned");
    while !until() {
        turn(server);
    }
    let end = Instant::now() + LIMIT * 3 / 2;
    while Instant::now() < end {
        turn(server);
    }
    server.turn().expect("turned")
}

/// Waits until a connection is open, and its idle timeout runs.
fn wait_for_connection(server: &mut ExternalServer<'_>) {
    while !matches!(server.turn(), Ok(Wait::Until(_))) {}
}

#[test]
fn a_waiting_upgrade_wakes_no_loop() {
    let called = std::cell::Cell::new(0);
    let mut server = Server::bind("127.0.0.1:0")
        .expect("bound")
        .limits(limits())
        .external(|_: &mut Request<'_>| -> Action { Switch::to("quiet", |_: &mut Io<'_>| EventMask::READ).into() })
        .expect("started");
    let mut client = TcpStream::connect(server.local_addr().expect("an address")).expect("connected");
    wait_for_connection(&mut server);
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: quiet\r\n\r\n").expect("written");
    client.set_nonblocking(true).expect("set");
    let until = || {
        let mut buf = [0; 256];
        let n = (&client).read(&mut buf).unwrap_or(0);
        assert!(n == 0 || buf.starts_with(b"HTTP/1.1 101"), "{}", buf.escape_ascii());
        called.set(called.get() + n);
        called.get() > 0
    };
    assert_eq!(wait_after(&mut server, until), Wait::Forever);
}

#[test]
fn a_suspended_request_wakes_no_loop() {
    let ticket = std::cell::RefCell::new(None);
    let mut server = Server::bind("127.0.0.1:0")
        .expect("bound")
        .limits(limits())
        .external(|req: &mut Request<'_>| -> Action {
            *ticket.borrow_mut() = Some(req.ticket());
            Action::Suspend
        })
        .expect("started");
    let mut client = TcpStream::connect(server.local_addr().expect("an address")).expect("connected");
    wait_for_connection(&mut server);
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("written");
    assert_eq!(wait_after(&mut server, || ticket.borrow().is_some()), Wait::Forever);
    let sent = ticket.take().expect("a ticket").respond(Response::new(204));
    assert!(sent.is_ok());
}

/// No ticket is left, so the sender gets an error at once instead of waiting forever.
#[test]
fn an_upload_into_a_pipe_without_a_reader_gets_a_response() {
    let mut server = Server::bind("127.0.0.1:0")
        .expect("bound")
        .limits(limits())
        .external(|_: &mut Request<'_>| -> Action {
            let (inlet, outlet) = uncork::pipe(1024);
            drop(outlet);
            Action::Receive(Box::new(inlet))
        })
        .expect("started");
    let mut client = TcpStream::connect(server.local_addr().expect("an address")).expect("connected");
    wait_for_connection(&mut server);
    client.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe").expect("written");
    client.set_nonblocking(true).expect("set");
    let mut buf = [0; 256];
    let end = Instant::now() + LIMIT * 100;
    let n = loop {
        _ = server.wait(Some(LIMIT / 10)).expect("turned");
        match client.read(&mut buf) {
            Ok(n) => break n,
            Err(_) => assert!(Instant::now() < end, "no response"),
        }
    };
    assert!(buf[..n].starts_with(b"HTTP/1.1 500 "), "{}", buf[..n].escape_ascii());
}
