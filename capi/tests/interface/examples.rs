//! The examples, as programs.

use std::{
    fs,
    io::{BufRead as _, BufReader, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    support::{Library, run},
    tls::{CLIENT, Pki, connect as connect_tls},
};

/// An example that runs.
struct Example {
    child: Child,
    ports: Vec<u16>,
}

impl Example {
    /// Starts an example, which prints as many addresses.
    fn start(name: &str, arguments: &[&str], addresses: usize) -> Self {
        let program = Library::get().compile(&format!("examples/{name}.c"));
        let mut command = Library::get().command(&program);
        let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let port = |line: String| {
            let (_, port) = line.strip_suffix('/').and_then(|line| line.rsplit_once(':')).expect("an address");
            port.parse().expect("a port")
        };
        let ports: Vec<u16> = lines.take(addresses).map(|line| port(line.expect("a line"))).collect();
        assert_eq!(ports.len(), addresses);
        Self { child, ports }
    }

    fn connect(&self, index: usize) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.ports[index])).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        stream
    }

    /// Returns the response to a GET.
    fn get(&self, index: usize) -> String {
        let mut stream = self.connect(index);
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
        let mut response = String::new();
        stream.read_to_string(&mut response).expect("received");
        response
    }

    /// Ends it by a signal.
    fn terminate(mut self) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        // SAFETY: It signals a process that this test has started and not waited for.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
        assert!(self.child.wait().expect("ended").success());
    }

    /// Ends it by the end of its input.
    fn end_input(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().expect("ended").success());
    }
}

#[test]
fn hello_serves_and_ends() {
    let example = Example::start("hello", &["127.0.0.1:0"], 1);
    let response = example.get(0);
    assert!(response.ends_with("\r\n\r\nHello, world!\n"), "{response}");
    example.terminate();
}

#[test]
fn a_loop_by_select_serves_and_counts() {
    let example = Example::start("select_loop", &["127.0.0.1:0"], 1);
    assert!(example.get(0).ends_with(" seconds\n"));
    while example.get(0).ends_with("\r\n\r\n0 seconds\n") {
        // It counts although requests keep it busy.
    }
    assert!(example.get(0).ends_with(" seconds\n"));
    example.end_input();
}

#[test]
fn a_loop_by_epoll_serves_two_daemons() {
    let example = Example::start("epoll_loop", &["127.0.0.1:0", "127.0.0.1:0"], 2);
    for _ in 0..3 {
        assert!(example.get(0).ends_with("\r\n\r\nthe first\n"));
        assert!(example.get(1).ends_with("\r\n\r\nthe second\n"));
    }
    example.end_input();
}

/// Upgrades, and checks the echo of more than all buffers hold.
fn check_echo(stream: &mut (impl Read + Write)) {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly").expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a head");
        head.extend(byte);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 Switching Protocols\r\n"));
    let mut early = [0; 5];
    stream.read_exact(&mut early).expect("the echo");
    assert_eq!(&early, b"early");
    for i in 0..100_u32 {
        let sent: Vec<u8> = (0..10_000).map(|n| (n * 7 + i) as u8).collect();
        stream.write_all(&sent).expect("sent");
        let mut got = vec![0; sent.len()];
        stream.read_exact(&mut got).expect("the echo");
        assert!(got == sent, "piece {i}");
    }
}

#[test]
fn upgrade_echo_speaks_over_http_and_https() {
    let example = Example::start("upgrade_echo", &["127.0.0.1:0"], 1);
    let response = example.get(0);
    assert!(response.starts_with("HTTP/1.1 426 ") && response.contains("\r\nUpgrade: echo\r\n"), "{response}");
    let mut stream = example.connect(0);
    check_echo(&mut stream);
    stream.shutdown(std::net::Shutdown::Write).expect("a half-close");
    assert_eq!(stream.read(&mut [0]).expect("the end"), 0);
    example.terminate();

    let file = |name: &str| Pki::get().file(name).to_str().expect("a path").to_owned();
    let (certificate, key) = (file("localhost.pem"), file("localhost.key"));
    let example = Example::start("upgrade_echo", &["127.0.0.1:0", &certificate, &key], 1);
    let mut stream = connect_tls(example.ports[0], &CLIENT);
    check_echo(&mut stream);
    stream.conn.send_close_notify();
    assert_eq!(stream.read(&mut [0]).expect("the end"), 0);
    example.terminate();
}

/// The program in the first README: it is compiled as it stands, except for its port.
#[test]
#[expect(clippy::disallowed_methods, reason = "the program does not report that it listens")]
fn the_program_of_the_readme_serves() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(readme).expect("a README");
    let (_, program) = readme.split_once("\n```c\n").expect("a program in C");
    let (program, _) = program.split_once("\n```\n").expect("its end");
    let socket = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = socket.local_addr().expect("an address").port();
    drop(socket);
    assert!(program.contains(", 8080, "));
    let source = Library::get().dir().join("readme.c");
    fs::write(&source, program.replace(", 8080, ", &format!(", {port}, "))).expect("written");
    let binary = Library::get().dir().join("readme");
    let mut cc = Command::new("cc");
    cc.args(["-Wall", "-Werror", "-I"]).arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("include")).arg(&source);
    run(cc.arg("-o").arg(&binary).arg("-L").arg(Library::get().dir()).arg("-lmicrohttpd"));
    let mut child = Library::get().command(&binary).spawn().expect("started");
    let begin = Instant::now();
    let mut stream = loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => break stream,
            Err(error) => assert!(begin.elapsed() < Duration::from_secs(30), "{error}"),
        }
        sleep(Duration::from_millis(20));
    };
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("received");
    assert!(response.ends_with("\r\n\r\nHello, world!\n"), "{response}");
    let pid = i32::try_from(child.id()).expect("a process id");
    // SAFETY: It signals a process that this test has started and not waited for.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
    let _ = child.wait();
}

/// Sends as much as the peer takes, and changes the keys; then the handler waits for room only, and the change must be
/// noticed all the same. Pitfall 15.
#[test]
#[expect(clippy::disallowed_methods, reason = "the client waits until the server takes no more")]
fn keys_change_while_an_upgrade_waits_for_room() {
    let pki = Pki::get();
    let (certificate, key) = (pki.file("localhost.pem"), pki.file("localhost.key"));
    let files = [certificate.to_str().expect("a path"), key.to_str().expect("a path")];
    let server = Example::start("upgrade_echo", &["127.0.0.1:0", files[0], files[1]], 1);
    let mut stream = connect_tls(server.ports[0], &CLIENT);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n").expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    stream.sock.set_nonblocking(true).expect("set");
    let byte_at = |at: usize| (at % 251) as u8;
    let (mut sent, mut received) = (0, 0);
    for _ in 0..3 {
        // Nothing is read: what the server echoes fills the buffers, and then it reads no more.
        let mut idle = 0;
        while idle < 20 {
            let block: Vec<u8> = (sent..sent + 16 * 1024).map(byte_at).collect();
            if !stream.conn.wants_write() {
                sent += stream.conn.writer().write(&block).expect("buffered");
            }
            match stream.conn.write_tls(&mut stream.sock) {
                Ok(_) => idle = 0,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    idle += 1;
                    sleep(Duration::from_millis(5));
                }
                Err(error) => panic!("{error}"),
            }
        }
        stream.conn.refresh_traffic_keys().expect("TLS 1.3");
        let deadline = Instant::now() + Duration::from_secs(60);
        while received < sent {
            assert!(Instant::now() < deadline, "{received} of {sent} bytes came back");
            while stream.conn.wants_write() && stream.conn.write_tls(&mut stream.sock).is_ok() {}
            match stream.conn.read_tls(&mut stream.sock) {
                Ok(n) => assert_ne!(n, 0, "the server has closed the connection"),
                Err(error) if error.kind() == ErrorKind::WouldBlock => sleep(Duration::from_millis(1)),
                Err(error) => panic!("{error}"),
            }
            let available = stream.conn.process_new_packets().expect("records").plaintext_bytes_to_read();
            let mut block = vec![0; available];
            stream.conn.reader().read_exact(&mut block).expect("buffered");
            assert!(block.iter().enumerate().all(|(n, byte)| *byte == byte_at(received + n)), "at {received}");
            received += available;
        }
    }
    assert!(sent > 100_000, "{sent}");
    server.terminate();
}
