//! Signals: reload, graceful and immediate end; and the messages to systemd.

use std::{
    io::BufRead,
    net::TcpStream,
    os::unix::{fs::OpenOptionsExt, net::UnixDatagram},
    process::Command,
};

use rustix::process::Signal;

use crate::{
    client::Client,
    harness::{Dir, Relay, line_of, stream, until},
    program::program,
};

#[test]
fn a_new_certificate_is_taken_while_connections_go_on() {
    for mode in ["threads", "external", "thread-per-connection"] {
        let dir = Dir::new();
        let old = dir.identity();
        let (cert, key) = (dir.path("cert.pem"), dir.path("key.pem"));
        let relay = Relay::start(&["--tls-cert", &cert, "--tls-key", &key, "--mode", mode]);
        let mut before = Client::connect(relay.addr(), Some(old));
        before.request("GET /ping", &[]).response().assert(200);
        let new = dir.identity();
        assert!(relay.reload());
        let mut after = Client::connect(relay.addr(), Some(new.clone()));
        after.request("GET /ping", &[]).response().assert(200);
        before.request("GET /ping", &[]).response().assert(200);
        dir.write("key.pem", "nonsense");
        assert!(!relay.reload(), "a key that is none");
        Client::connect(relay.addr(), Some(new)).request("GET /ping", &[]).response().assert(200);
        relay.stop();
    }
}

#[test]
fn what_is_under_way_is_finished_and_nothing_new_begun() {
    let relay = Relay::start(&["--shutdown-timeout", "100"]);
    let path = stream(&relay);
    let (mut source, mut receiver) = (relay.client(), relay.client());
    source.request(&format!("PUT {path}"), &["Transfer-Encoding: chunked"]).chunk(b"first");
    receiver.request(&format!("GET {path}"), &[]);
    receiver.head().assert(200);
    assert_eq!(receiver.next_chunk().expect("a chunk"), Some(b"first".to_vec()));
    relay.request_admin("GET /ready", &[]).assert(200);

    relay.signal(Signal::TERM);
    relay.notifies("STOPPING=1");
    relay.request_admin("GET /ready", &[]).assert(503);
    relay.request_admin("GET /health", &[]).assert(200);
    assert_eq!(relay.metric("uncork_ready"), 0.0);
    source.chunk(b"second");
    assert_eq!(receiver.next_chunk().expect("a chunk"), Some(b"second".to_vec()));
    until("it has stopped listening", || TcpStream::connect(relay.addr()).is_err());
    source.chunk(b"");
    assert_eq!(receiver.next_chunk().expect("the end"), None);
    source.response().assert(200);
    relay.ends();
}

#[test]
fn the_second_signal_ends_it_at_once() {
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::TERM)] {
        let relay = Relay::start(&["--shutdown-timeout", "1000"]);
        let path = stream(&relay);
        let (mut source, mut receiver) = (relay.client(), relay.client());
        source.request(&format!("PUT {path}"), &["Transfer-Encoding: chunked"]).chunk(b"first");
        receiver.request(&format!("GET {path}"), &[]);
        receiver.head().assert(200);
        relay.signal(first);
        relay.notifies("STOPPING=1");
        relay.signal(second);
        relay.ends();
    }
}

#[test]
fn a_delay_before_the_end_lets_others_turn_away() {
    let relay = Relay::start(&["--shutdown-delay", "1000", "--shutdown-timeout", "1000"]);
    relay.signal(Signal::TERM);
    relay.notifies("STOPPING=1");
    relay.request_admin("GET /ready", &[]).assert(503);
    relay.request("GET /ping", &[]).assert(200);
    relay.signal(Signal::TERM);
    relay.ends();
}

#[test]
fn log_files_are_opened_anew() {
    let dir = Dir::new();
    let file = dir.path("access.log");
    let relay = Relay::start(&["--access-log", "--access-log-file", &file]);
    relay.request("GET /ping?first", &[]).assert(200);
    let line = line_of(&dir.0.join("access.log"));
    assert!(line.starts_with("127.0.0.1 - - [") && line.contains("\"GET /ping?first HTTP/1.1\" 200 4 "), "{line}");
    std::fs::rename(&file, dir.path("access.log.1")).expect("moved away");
    assert!(relay.reload());
    relay.request("GET /ping?second", &[]).assert(200);
    assert!(line_of(&dir.0.join("access.log")).contains("?second"));
    assert!(!dir.read("access.log.1").contains("?second"));
    relay.stop();
}

#[test]
fn a_fifo_without_a_reader_is_not_waited_for() {
    let dir = Dir::new();
    let fifo = dir.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().is_ok_and(|status| status.success()));
    let args = ["--access-log", "--access-log-file", &fifo];
    for more in [&["--check-config"][..], &["--listen=127.0.0.1:0", "--admin=off"]] {
        let output = crate::program::output("relay", &[&args[..], more].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains("FIFO without a reader"), "{stderr}");
    }
    // Nor for a file that yields nothing.
    for flag in ["--config", "--tls-cert"] {
        let key = ["--tls-key", &fifo];
        let args = [&["--check-config", flag, &fifo][..], if flag == "--tls-cert" { &key } else { &[] }].concat();
        let output = crate::program::output("relay", &args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains("cannot read it within 5 seconds"), "{stderr}");
    }

    let mut reader = std::fs::File::options();
    let reader = reader.read(true).custom_flags(libc::O_NONBLOCK).open(&fifo).expect("opened");
    let log = dir.path("stderr");
    let relay = Relay::logging_to(&log, &[&args[..], &["--connections=100", "--log-level=warn"]].concat());
    let mut lines = std::io::BufReader::new(reader);
    let mut line = String::new();
    relay.request("GET /ping?first", &[]).assert(200);
    until("a line comes", || relay.metric("uncork_requests_total{status=\"2xx\"}") == 1.0);
    lines.read_line(&mut line).expect("text");
    assert!(line.contains("?first"), "{line}");
    drop(lines);
    relay.request("GET /ping", &[]).assert(200);
    until("its line is lost", || relay.metric("uncork_access_log_lost_lines_total") == 1.0);
    assert!(!relay.reload(), "there is no reader");
    relay.request("GET /ping", &[]).assert(200);
    until("its line is lost", || relay.metric("uncork_access_log_lost_lines_total") == 2.0);
    relay.stop();
    let text = dir.read("stderr");
    assert!(text.matches("cannot write the access log").count() == 1 && text.lines().count() == 2, "{text}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_under_the_access_log_costs_its_lines_only() {
    let dir = Dir::new();
    let args = ["--access-log", "--access-log-file", "/dev/full", "--connections=100", "--log-level=warn"];
    let relay = Relay::logging_to(&dir.path("stderr"), &args);
    let mut client = relay.client();
    for _ in 0..5 {
        client.request("GET /ping", &[]).response().assert(200);
    }
    until("they are counted", || relay.metric("uncork_access_log_lost_lines_total") == 5.0);
    relay.stop();
    let text = dir.read("stderr");
    assert!(
        text.lines().count() == 1 && text.contains("cannot write the access log, lines are lost: No space left"),
        "{text}"
    );
}

#[test]
fn what_only_a_restart_changes_is_named() {
    let dir = Dir::new();
    let config = dir.write("relay.toml", "[log]\nlevel = \"warn\"\n");
    let log = dir.path("stderr");
    let relay = Relay::logging_to(&log, &["--config", &config, "--log-format", "json", "--connections=100"]);
    dir.write(
        "relay.toml",
        "[sessions]\nttl = 20\n[rendezvous]\nenabled = false\n[limits]\nidle-timeout = 7\n[log]\nlevel = \"info\"\n\
         [server]\nshutdown-timeout = 1\nthreads = 3\n",
    );
    assert!(relay.reload());
    let log = line_of(&dir.0.join("stderr"));
    let log = log.lines().next().expect("a line").to_owned();
    assert!(
        log.contains(": server.threads, limits.idle-timeout, rendezvous.enabled\"") && log.starts_with("{\"time\":\""),
        "{log}"
    );
    assert_eq!(relay.request_admin("GET /log-level", &[]).text(), "info\n");
    assert!(!log.contains("shutdown-timeout"));
    // The file has not changed again, and neither has the running configuration.
    assert!(relay.reload());
    until("it is named again", || dir.read("stderr").matches("need a restart").count() == 2);
    let last = dir
        .read("stderr")
        .lines()
        .filter(|line| line.contains("need a restart"))
        .map(str::to_owned)
        .collect::<Vec<_>>();
    assert!(
        last.len() == 2 && last[1].contains(": server.threads, limits.idle-timeout, rendezvous.enabled\""),
        "{last:?}"
    );
    // Equal to the start: there is nothing to report.
    dir.write("relay.toml", "[log]\nlevel = \"warn\"\n");
    assert!(relay.reload());
    assert_eq!(dir.read("stderr").lines().filter(|line| line.contains("need a restart")).count(), 2);
    relay.stop();
}

#[test]
fn systemd_hears_of_a_name_without_a_file_and_that_it_is_alive() {
    #[cfg(target_os = "linux")]
    {
        use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};
        for mode in ["threads", "external", "thread-per-connection"] {
            let dir = Dir::new();
            let name = format!("uncork-{}-{mode}", std::process::id());
            let addr = SocketAddr::from_abstract_name(&name).expect("a name");
            let notifications = UnixDatagram::bind_addr(&addr).expect("bound");
            let mut command = Command::new(program("relay"));
            command.env("NOTIFY_SOCKET", format!("@{name}")).env("WATCHDOG_USEC", "20000");
            let relay = Relay::run(command, &["--listen", "127.0.0.1:0", "--mode", mode], notifications, dir);
            for _ in 0..3 {
                relay.notifies("WATCHDOG=1");
            }
        }
    }
}

#[test]
fn what_a_peer_says_stays_in_its_place_in_the_access_log() {
    for format in ["combined", "json"] {
        let dir = Dir::new();
        let file = dir.path("access.log");
        let relay = Relay::start(&[&format!("--access-log={format}"), "--access-log-file", &file]);
        let mut client = relay.client();
        // On one connection, whose lines are in order.
        client.send(b"GET /ping?a=%22%0d%0a'\\\" HTTP/1.1\r\nHost: x\r\n\r\n");
        client.response().assert(200);
        client
            .send(b"GET /ping?%22%0d%0a' HTTP/1.1\r\nHost: x\r\nUser-Agent: a\"}\\\xff\xc3( \xe2\x80\xa8\t\"\r\n\r\n");
        client.response().assert(200);
        relay.stop();
        let log = dir.read("access.log");
        assert!(log.lines().count() == 2 && log.chars().all(|c| c == '\n' || !c.is_control()), "{log}");
        let (target, line) = log.split_once('\n').expect("two lines");
        let line = line.trim_end_matches('\n');
        if format == "json" {
            let [target, line] =
                [target, line].map(|line| serde_json::from_str::<serde_json::Value>(line).expect(line));
            assert_eq!(target["target"], "/ping?a=%22%0d%0a'\\\"");
            assert_eq!((&line["target"], &line["status"]), (&"/ping?%22%0d%0a'".into(), &200.into()));
            assert_eq!(line["user_agent"], "a\"}\\\u{fffd}\u{fffd}( \u{2028}\t\"");
        } else {
            assert!(target.contains("\"GET /ping?a=%22%0d%0a'\\x5c\\x22 HTTP/1.1\" 200 "), "{target}");
            let agent = r#""a\x22}\x5c\xff\xc3( \xe2\x80\xa8\x09\x22""#;
            assert!(line.contains("\"GET /ping?%22%0d%0a' HTTP/1.1\" 200 4 \"-\" ") && line.ends_with(agent), "{line}");
        }
    }
}

#[test]
fn limits_change_and_nothing_under_way_is_broken_off() {
    let dir = Dir::new();
    let settings = |streams: &str, more: &str| {
        format!("[rendezvous]\nper-address = {streams}\n{more}\n[sessions]\nper-address = {streams}\n")
    };
    let config = dir.write("relay.toml", &settings("2", ""));
    let relay = Relay::start(&["--config", &config]);
    let create = || relay.request("POST /stream", &["Content-Length: 0"]).status;
    let allocate = || relay.request("PUT /cama/session", &["Content-Length: 0"]).status;
    let path = stream(&relay);
    let (mut source, mut receiver) = (relay.client(), relay.client());
    source.request(&format!("PUT {path}"), &["Content-Length: 10"]).send("hello");
    receiver.request(&format!("GET {path}"), &[]);
    let head = receiver.head();
    assert_eq!([create(), create(), allocate()], [201, 429, 201]);

    dir.write(
        "relay.toml",
        &settings("1", "base-path = \"/here\"\nttl = 7\n[limits]\nmax-body = 7\n[page]\nlink-ttl = 5"),
    );
    assert!(relay.reload());
    assert_eq!(allocate(), 429);
    let page = relay.request("GET /", &["Accept: text/html"]);
    assert!(page.assert(200).text().contains("data-stream=\"/here/stream\" data-ttl=\"5\""));
    source.send("world");
    assert_eq!(receiver.body(&head).expect("whole"), b"helloworld");
    source.response().assert(200);

    dir.write("relay.toml", &settings("3", ""));
    assert!(relay.reload());
    assert_eq!([create(), create(), allocate(), allocate(), allocate()], [201, 429, 201, 201, 429]);
    relay.stop();
}

#[test]
fn it_says_what_it_does() {
    let dir = Dir::new();
    let config = dir.write("relay.toml", "[sessions]\nttl = 20\n");
    let log = dir.path("stderr");
    let args = ["--config", &config, "--threads=2", "--connections=100", "--shutdown-delay=1"];
    let relay = Relay::logging_to(&log, &args);
    let started = format!(
        "started: 2 loops, at most 100 connections, with rendezvous, session relay, page admin=http://{} listen={}",
        relay.admin, relay.urls[0]
    );
    until("it has started", || dir.read("stderr").contains("started"));
    dir.write("relay.toml", "[sessions]\nttl = 21\n");
    assert!(relay.reload());
    assert!(relay.reload());
    let _idle = relay.client();
    until("it is connected", || relay.metric("uncork_open_connections") == 1.0);
    relay.stop();
    let text = dir.read("stderr");
    let lines: Vec<&str> = text.lines().map(|line| line.split_once("relay::run: ").expect(line).1).collect();
    let expected = [
        &*started,
        "configuration reloaded; changed: sessions.ttl",
        "configuration reloaded; no setting has changed",
        "draining: /ready responds 503, and new connections are accepted for 1 more seconds",
        "stopping: requests in progress have 10 seconds to finish; open connections: 1",
        "stopped",
    ];
    assert_eq!(lines, expected, "{text}");
}

#[test]
fn the_log_in_json_has_the_addresses_and_a_new_certificate_once() {
    let dir = Dir::new();
    let (log, made) = (dir.path("stderr"), dir.path("made"));
    let relay = Relay::logging_to(&log, &["--log-format=json", "--tls-self-made", &made, "--connections=100"]);
    assert!(relay.reload());
    let lines = || -> Vec<serde_json::Value> {
        dir.read("stderr").lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    };
    let messages = |start: &str| {
        let is_it = |line: &&serde_json::Value| line["message"].as_str().is_some_and(|text| text.starts_with(start));
        lines().iter().filter(is_it).cloned().collect::<Vec<_>>()
    };
    let started = messages("started: ");
    assert_eq!((started.len(), &started[0]["level"]), (1, &"info".into()));
    assert_eq!(started[0]["listen"], *relay.urls[0]);
    assert_eq!(started[0]["admin"], format!("http://{}", relay.admin));
    let must_trust = format!("clients must trust this certificate: {made}/cert.pem");
    assert_eq!(messages(&must_trust).len(), 1);
    std::fs::remove_file(dir.path("made/cert.pem")).expect("removed");
    assert!(relay.reload(), "with a new one");
    assert_eq!(messages(&must_trust).len(), 2);
    relay.stop();
}

#[test]
fn it_says_that_no_service_is_enabled() {
    let dir = Dir::new();
    let relay = Relay::logging_to(&dir.path("stderr"), &["--rendezvous=false", "--session-relay=false"]);
    relay.request("GET /", &[]).assert(404);
    relay.stop();
    let text = dir.read("stderr");
    assert!(
        text.contains("WARN  relay::run: no service is enabled: ") && text.contains(", with no service "),
        "{text}"
    );
}

#[test]
fn it_says_that_the_admin_listener_has_another_port() {
    let dir = Dir::new();
    // Either this test has the port, or another program.
    let _taken = std::net::TcpListener::bind("127.0.0.1:9090");
    let mut command = Command::new(program("relay"));
    command.args(["--listen", "127.0.0.1:0"]).env_remove("RUST_LOG").stdout(std::process::Stdio::piped());
    let mut child = command.stderr(std::fs::File::create(dir.path("stderr")).expect("made")).spawn().expect("started");
    let lines = std::io::BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let admin = lines.into_iter().find_map(|line| Some(line.strip_prefix("admin on http://")?.to_owned()));
    child.kill().expect("killed");
    child.wait().expect("ended");
    let (admin, text) = (admin.expect("a line"), dir.read("stderr"));
    assert!(admin.starts_with("127.0.0.1:") && admin != "127.0.0.1:9090", "{admin}");
    assert!(text.contains("another port: ") && text.contains("127.0.0.1:9090") && text.contains("--admin"), "{text}");
}

#[test]
fn it_names_the_addresses_for_others() {
    for (args, expected) in
        [(&["--listen=0.0.0.0:0"][..], "others reach it at http://"), (&["--listen=127.0.0.1:0"], "admin on ")]
    {
        let mut command = Command::new(program("relay"));
        command.args(["--admin", "127.0.0.1:0"]).args(args).env_remove("RUST_LOG");
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().expect("started");
        let mut lines = std::io::BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let first = lines.next().expect("a line");
        let second = lines.next().expect("another");
        child.kill().expect("killed");
        child.wait().expect("ended");
        let port = first.rsplit_once(':').expect("a port").1;
        assert!(first.starts_with("listening on http://"), "{first}");
        // A machine without a network has no such address.
        let has_network =
            if_addrs::get_if_addrs().expect("a list").iter().any(|it| !it.is_loopback() && it.ip().is_ipv4());
        if has_network || expected.starts_with("admin") {
            assert!(second.starts_with(expected), "{second}");
            assert!(expected.starts_with("admin") || second.ends_with(&format!(":{port}/")), "{first} {second}");
        }
    }
}

#[test]
fn what_is_rejected_is_counted_by_reason() {
    let relay = Relay::start(&["--connections-per-address=1", "--connections=100"]);
    let mut first = relay.client();
    first.request("GET /ping", &[]).response().assert(200);
    assert!(relay.client().is_closed(), "the second connection of this address");
    let has = |sample: &str| relay.request_admin("GET /metrics", &[]).assert(200).text().contains(sample);
    let rejected = "uncork_rejected_connections_total{rule=\"too many connections from this address\"} 1\n";
    until("it is counted", || has(rejected));
    first.request("GET /nothing", &[]).response().assert(404);
    // A response is counted after it was sent.
    until("it is counted", || has("uncork_error_responses_total{status=\"404\"} 1\n"));
    first.send("GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n").response().assert(400);
    assert!(first.is_closed());
    let page = relay.request_admin("GET /metrics", &[]);
    let page = page.assert(200).text();
    let rejected = page.lines().find(|line| line.starts_with("uncork_rejected_requests_total{status=\"400\",rule=\""));
    assert!(rejected.is_some_and(|line| line.ends_with(" 1")), "{page}");
    drop(first);
    until("its end is counted", || has("uncork_closed_connections_total{reason=\"rejected\"} 1\n"));
    assert_eq!(relay.metric("uncork_request_duration_seconds_bucket{le=\"+Inf\"}"), 3.0);
    assert_eq!(relay.metric("uncork_request_duration_seconds_count"), 3.0);
    relay.stop();
}
