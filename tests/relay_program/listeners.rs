//! Listeners: several at once, Unix sockets, and inherited sockets.

use std::{
    io::{Read, Write},
    net::TcpListener,
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Command, Stdio},
};

use crate::{
    client::{Client, TIMEOUT},
    harness::{Dir, Relay},
    program::program,
};

#[test]
fn plain_and_https_and_unix_beside_each_other() {
    let dir = Dir::new();
    let client = dir.identity();
    let (cert, key, path) = (dir.path("cert.pem"), dir.path("key.pem"), dir.path("relay.sock"));
    let (unix, plain) = (format!("unix:{path}"), "127.0.0.1:0,tls=false");
    let listen =
        ["--listen", "127.0.0.1:0", "--listen", plain, "--listen", &unix, "--tls-cert", &cert, "--tls-key", &key];
    for mode in ["threads", "external", "thread-per-connection"] {
        let args = [&listen[..], &["--mode", mode]].concat();
        let relay = Relay::start_with(Command::new(program("relay")), &args);
        let [https, http, socket] = &relay.urls[..] else { panic!("{:?}", relay.urls) };
        assert_eq!(*socket, format!("http://unix:{path}"));
        let addr = |url: &str, scheme| url.strip_prefix(scheme).expect(scheme).parse().expect("an address");
        Client::connect(addr(https, "https://"), Some(client.clone())).request("GET /ping", &[]).response().assert(200);
        Client::connect(addr(http, "http://"), None).request("GET /ping", &[]).response().assert(200);
        let mut unix = UnixStream::connect(&path).expect("connected");
        unix.set_read_timeout(Some(TIMEOUT)).expect("set");
        unix.write_all(b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
        let mut response = String::new();
        unix.read_to_string(&mut response).expect("a response");
        assert!(response.starts_with("HTTP/1.1 200 ") && response.ends_with("pong"), "{response}");
        relay.stop();
    }
}

/// Returns a shell that passes its standard input as the first socket of systemd's protocol, and becomes the program.
fn handing_over(listener: impl Into<OwnedFd>, names: &str) -> Command {
    let mut shell = Command::new("sh");
    let script = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES=\"$0\"; \
                  export LISTEN_FDS LISTEN_PID LISTEN_FDNAMES; exec \"$@\"";
    shell.args(["-c", script, names]).arg(program("relay")).stdin(Stdio::from(listener.into()));
    shell
}

#[test]
fn sockets_are_inherited() {
    for (name, listen) in [("", "systemd"), ("web", "systemd"), ("web", "systemd:web")] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let addr = listener.local_addr().expect("an address");
        let relay = Relay::start_with(handing_over(listener, name), &["--listen", listen]);
        assert_eq!(relay.urls, [format!("http://{addr}")]);
        relay.request("GET /ping", &[]).assert(200);
        relay.stop();
    }
}

#[test]
fn a_socket_that_does_not_listen_is_rejected() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let addr = listener.local_addr().expect("an address");
    let connected = std::net::TcpStream::connect(addr).expect("connected");
    let bound = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    bound.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("bound");
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
    let (unix, _other) = UnixStream::pair().expect("a pair");
    for (fd, text) in [
        (OwnedFd::from(connected), "is a connection"),
        (bound.into(), "does not listen"),
        (datagrams.into(), "neither TCP nor Unix"),
        (unix.into(), "is a connection"),
    ] {
        let output = handing_over(fd, "web").args(["--listen", "systemd", "--admin", "off"]).output().expect("started");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(1) && output.stdout.is_empty() && stderr.contains(text),
            "{text}: {stderr}"
        );
    }
}

#[test]
fn inherited_sockets_speak_https_if_told_so_and_can_be_unix() {
    let dir = Dir::new();
    let client = dir.identity();
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let addr = listener.local_addr().expect("an address");
    let listen = format!("systemd,tls-cert={},tls-key={}", dir.path("cert.pem"), dir.path("key.pem"));
    let relay = Relay::start_with(handing_over(listener, ""), &["--listen", &listen]);
    assert_eq!(relay.urls, [format!("https://{addr}")]);
    Client::connect(addr, Some(client)).request("GET /ping", &[]).response().assert(200);
    relay.stop();

    let path = dir.path("given.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("bound");
    let relay = Relay::start_with(handing_over(listener, ""), &["--listen", "systemd"]);
    assert_eq!(relay.urls, [format!("http://unix:{path}")]);
    UnixStream::connect(&path).expect("connected");
    relay.stop();
}
