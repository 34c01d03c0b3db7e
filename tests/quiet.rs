//! A connection that waits for the application costs nothing, however long: no clock of before runs out under it.

use std::{io::Write, net::TcpStream, time::Duration};

use uncork::{Action, EventMask, Io, Limits, Request, Server, Switch, Wait};

const IDLE: Duration = Duration::from_millis(50);

fn is_quiet(request: &str, handler: impl FnMut(&mut Request<'_>) -> Action) {
    let server = Server::bind("127.0.0.1:0").expect("bound").limits(Limits { idle: IDLE, ..Limits::default() });
    let mut client = TcpStream::connect(server.addr().expect("an address")).expect("connected");
    let mut server = server.external(handler).expect("driven");
    // It is seen, and its idle time runs, before it asks.
    while !matches!(server.wait(None).expect("a turn"), Wait::Until(_)) {}
    client.write_all(request.as_bytes()).expect("sent");
    // Each sleeps for as long, unless a clock of the server's own runs out before.
    for _ in 0..4 {
        let _ = server.wait(Some(IDLE)).expect("a turn");
    }
    assert_eq!(server.turn().expect("a turn"), Wait::Forever, "nothing is waited for but the application");
}

#[test]
fn a_request_that_waits_for_its_ticket_is_quiet() {
    let mut held = Vec::new();
    is_quiet("GET / HTTP/1.1\r\nHost: a\r\n\r\n", |req| {
        held.push(req.ticket());
        Action::Wait
    });
}

#[test]
fn an_upgraded_connection_is_quiet() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    is_quiet(request, |_| Switch::to("x", |_: &mut Io<'_>| EventMask::READ).into());
}
