//! Outgoing connections that fail: the error, its text, and that it is reported exactly once.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use uncork::{Dial, DialError, TlsClient};

use crate::{
    dialing::{Dialing, fails, to, trust, try_dial},
    wire::TIMEOUT,
    world::{World, report_channel},
};

matrix! {
    http1 {
        no_listener,
        no_such_socket,
        a_peer_that_never_responds,
        a_peer_that_closes,
        a_peer_must_prove_its_name,
        an_untrusted_certificate,
        a_peer_without_tls,
        an_invalid_name,
        a_loop_that_has_ended,
        a_loop_that_ends_meanwhile,
        a_panic_ends_the_connection_alone,
    }
}

const SOON: Duration = Duration::from_millis(100);

fn no_listener(world: &World) {
    let server = Dialing::on(world);
    let here = server.here();
    let addr = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        listener.local_addr().expect("an address")
    };
    let error = fails(&here, to(world, addr));
    assert!(matches!(&error, DialError::Io(error) if error.kind() == ErrorKind::ConnectionRefused), "{error:?}");
    assert!(error.to_string().contains("cannot connect"), "{error}");
}

fn no_such_socket(world: &World) {
    let server = Dialing::on(world);
    let error = fails(&server.here(), Dial::unix("/nowhere/at/all.sock"));
    assert!(matches!(&error, DialError::Io(error) if error.kind() == ErrorKind::NotFound), "{error:?}");
}

/// A listener with a full queue: a client that connects to it waits.
fn deaf() -> (Socket, SocketAddr, Vec<Socket>) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("bound");
    listener.listen(0).expect("listening");
    let addr = listener.local_addr().expect("an address");
    let waiting = (0..4).map(|_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_nonblocking(true).expect("set");
        let _ = socket.connect(&addr);
        socket
    });
    let waiting = waiting.collect();
    let addr = addr.as_socket().expect("an address");
    (listener, addr, waiting)
}

/// Without TLS it does not connect; with TLS it does, and sends nothing.
fn a_peer_that_never_responds(world: &World) {
    let server = Dialing::on(world);
    let here = server.here();
    let silent = TcpListener::bind("127.0.0.1:0").expect("bound");
    let deaf = deaf();
    let addr = if world.tls { silent.local_addr().expect("an address") } else { deaf.1 };
    let error = fails(&here, to(world, addr).timeout(SOON));
    assert!(matches!(error, DialError::TimedOut), "{error:?}");
    assert!(server.host.turns() < 100, "a loop that waits sleeps");
}

fn a_peer_that_closes(world: &World) {
    let server = Dialing::on(world);
    let here = server.here();
    let peer = TcpListener::bind("127.0.0.1:0").expect("bound");
    let reports = try_dial(&here, to(world, peer.local_addr().expect("an address")));
    let (mut stream, _) = peer.accept().expect("a connection");
    stream.set_read_timeout(Some(TIMEOUT)).expect("set");
    if world.tls {
        // The first bytes are read, so that closing is not a reset.
        let _ = stream.read(&mut [0; 4096]).expect("a hello");
    }
    drop(stream);
    match reports.recv_timeout(TIMEOUT).expect("called") {
        Ok(()) => assert!(!world.tls),
        Err(error) => assert!(world.tls && error.to_string().contains("closed the connection"), "{error}"),
    }
}

#[track_caller]
fn is_tls_error(error: &DialError, text: &str) {
    assert!(matches!(error, DialError::Tls(_)) && error.to_string().contains(text), "{error}");
}

fn a_peer_must_prove_its_name(world: &World) {
    let server = Dialing::on(world);
    let here = server.here();
    if world.tls {
        for name in ["example.org", "127.0.0.1"] {
            is_tls_error(&fails(&here, to(world, server.host.addr()).tls(&trust(), name)), "another name");
        }
    }
    server.here();
}

fn an_untrusted_certificate(world: &World) {
    let server = Dialing::on(world);
    let here = server.here();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let other = TlsClient::roots_pem(made.cert.pem().as_bytes()).expect("a root");
    if world.tls {
        let error = fails(&here, to(world, server.host.addr()).tls(&other, "localhost"));
        assert!(matches!(error, DialError::Tls(_)), "{error}");
    }
    server.here();
}

fn a_peer_without_tls(world: &World) {
    let server = Dialing::on(world);
    let here = server.here();
    let peer = TcpListener::bind("127.0.0.1:0").expect("bound");
    let dial = Dial::tcp(peer.local_addr().expect("an address")).timeout(TIMEOUT).tls(&trust(), "localhost");
    let reports = try_dial(&here, dial);
    let (mut stream, _) = peer.accept().expect("a connection");
    let _ = stream.read(&mut [0; 4096]).expect("a hello");
    stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("sent");
    is_tls_error(&reports.recv_timeout(TIMEOUT).expect("called").expect_err("no TLS"), "plain text");
}

fn an_invalid_name(world: &World) {
    let server = Dialing::on(world);
    let error = fails(&server.here(), Dial::tcp(server.host.addr()).tls(&trust(), "not a name"));
    assert!(matches!(&error, DialError::BadName(name) if name == "not a name"), "{error:?}");
}

fn a_loop_that_has_ended(world: &World) {
    let server = Dialing::on(world);
    let (here, addr) = (server.here(), server.host.addr());
    drop(server);
    let reports = try_dial(&here, to(world, addr));
    // Before `dial` has returned.
    assert!(matches!(reports.try_recv(), Ok(Err(DialError::LoopEnded))));
}

fn a_loop_that_ends_meanwhile(world: &World) {
    let server = Dialing::on(world);
    let here = server.here();
    let silent = TcpListener::bind("127.0.0.1:0").expect("bound");
    let deaf = deaf();
    let addr = if world.tls { silent.local_addr().expect("an address") } else { deaf.1 };
    let (report, reports) = report_channel::<()>();
    let pending = try_dial(&here, to(world, addr));
    here.after(Duration::ZERO, move |_| report.send(()).expect("a receiver"));
    reports.next();
    server.host.stopper.stop_now();
    server.host.ends();
    assert!(matches!(pending.try_recv(), Ok(Err(DialError::LoopEnded))));
}

fn a_panic_ends_the_connection_alone(world: &World) {
    let server = Dialing::on(world);
    let here = server.here();
    let peer = TcpListener::bind("127.0.0.1:0").expect("bound");
    here.dial(Dial::tcp(peer.local_addr().expect("an address")), |_| panic!("on purpose"));
    let (mut stream, _) = peer.accept().expect("a connection");
    stream.set_read_timeout(Some(TIMEOUT)).expect("set");
    assert_eq!(stream.read(&mut [0; 1]).map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
    here.dial(Dial::unix("/nowhere"), |_| panic!("on purpose"));
    let (report, reports) = report_channel();
    here.after(Duration::ZERO, move |_| report.send(()).expect("a receiver"));
    reports.next();
    server.here();
}
