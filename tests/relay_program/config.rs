//! File and flags, as the program reads them.

use crate::{
    harness::{Dir, Relay},
    program::output,
};

#[test]
fn a_file_is_read_and_flags_go_before_it() {
    let dir = Dir::new();
    let file = dir.write(
        "relay.toml",
        "[[listen]]\naddress = \"127.0.0.1:0\"\n[[listen]]\naddress = \"127.0.0.1:0\"\n\
         [sessions]\nbase-path = \"/file\"\nserver-name = \"of the file\"\n[rendezvous]\nenabled = false\n",
    );
    let relay = Relay::start_with(
        std::process::Command::new(crate::program::program("relay")),
        &["--config", &file, "--server-name", "of the flag"],
    );
    assert_eq!(relay.urls.len(), 2);
    let session = relay.request("PUT /file/session", &["Content-Length: 0"]);
    assert_eq!(session.assert(201).get("server"), Some("of the flag"));
    relay.request("PUT /cama/session", &["Content-Length: 0"]).assert(404);
    relay.request("POST /stream", &["Content-Length: 0"]).assert(404);
    relay.stop();
}

#[test]
fn what_is_printed_is_a_file_that_works() {
    let dir = Dir::new();
    let printed = output("relay", &["--print-config", "--admin", "off", "--max-body", "3G"]);
    let printed = String::from_utf8(printed.stdout).expect("text");
    assert!(printed.contains("# Flag: --session-ttl SECONDS\nttl = 3600\n"));
    let file = dir.write("relay.toml", &printed);
    let again = output("relay", &["--config", &file, "--print-config"]);
    assert_eq!(String::from_utf8(again.stdout).expect("text"), printed);
    let checked = output("relay", &["--config", &file, "--check-config"]);
    assert!(checked.status.success(), "{checked:?}");
    assert!(printed.contains("max-body = \"3G\"\n") && printed.contains("[admin]"));
}

#[test]
fn mistakes_are_named() {
    let dir = Dir::new();
    dir.identity();
    let unknown = dir.write("unknown.toml", "[server]\n\nshutdown-timout = 3\n");
    let other = dir.write("other.toml", "[sessions]\nbase-path = \"no slash\"\n");
    let paths = dir.write("paths.toml", "[gateway]\nconnect-url = \"http://x/\"\nconnect-path = \"/stream/x\"\n");
    let cert = dir.path("cert.pem");
    let (missing, missing_key) = (dir.path("none.pem"), dir.path("none-key.pem"));
    let both = format!("127.0.0.1:0,tls-cert={cert},tls-key={missing_key}");
    let half = format!("127.0.0.1:0,tls-cert={cert}");
    let token = format!("app {} app.example", "0123456789abcdef".repeat(4));
    let long_path = format!("unix:/tmp/{}.sock", "x".repeat(100));
    let (old, new) = (Dir::new(), Dir::new());
    let _ = (old.identity_of(2001, 2002), new.identity_of(4000, 4001));
    let (expired, key) = (old.path("cert.pem"), old.path("key.pem"));
    let (early, early_key) = (new.path("cert.pem"), new.path("key.pem"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let taken = taken.local_addr().expect("an address").to_string();
    for (args, texts) in [
        (&["--check-config", "--config", "/no/such.toml"][..], &["/no/such.toml"][..]),
        (&["--check-config", "--config", &unknown], &[&unknown, "line 3", "shutdown-timout", "shutdown-timeout"]),
        (&["--check-config", "--config", &other], &["line 2", "base-path", "slash"]),
        (&["--check-config", "--config", &paths], &["gateway", "/stream/x", "rendezvous"]),
        (
            &["--check-config", "--base-path", "/stream", "--rendezvous-base-path", "/stream/session"],
            &["rendezvous", "sessions"],
        ),
        (&["--check-config", "--rendezvous-ttl", "0"], &["--rendezvous-ttl", "at least 1"]),
        (&["--check-config", "--max-head", "10"], &["max-head", "1024"]),
        (&["--check-config", "--listen", "127.0.0.1:1", "--listen", "127.0.0.1:1"], &["127.0.0.1:1", "twice"]),
        (&["--check-config", "--access-log", "--access-log-file", "/no/such/log"], &["/no/such/log"]),
        (&["--check-config", "--listen", "nonsense"], &["nonsense", "127.0.0.1:8080"]),
        (&["--check-config", "--listen", "https://127.0.0.1:1"], &["certificate"]),
        (&["--check-config", "--listen", "127.0.0.1:1,tsl"], &["tsl", "tls"]),
        (&["--check-config", "--listen", &half], &["tls-key"]),
        (&["--check-config", "--listen", "127.0.0.1:1,tls"], &["tls-cert"]),
        (&["--check-config", "--listen", "127.0.0.1:1,proxy-protocol"], &["--trusted-proxy"]),
        (&["--check-config", "--tls-cert", &cert], &["--tls-key"]),
        (&["--check-config", "--tls-cert", &cert, "--tls-key", &cert], &[&cert]),
        (
            &["--check-config", "--tls-cert", &missing, "--tls-key", &cert],
            &[&format!("cannot read --tls-cert {missing}: no such file")],
        ),
        (
            &["--check-config", "--listen", &both],
            &["--listen 127.0.0.1:0: ", &format!("cannot read tls-key {missing_key}: no such file")],
        ),
        (&["--check-config", "--idle-timeout", "1m"], &["--idle-timeout", "expected a number of seconds, at least 1"]),
        (&["--check-config", "--trusted-proxy", "10.0.0.1/8"], &["10.0.0.1/8", "--trusted-proxy"]),
        (&["--check-config", "--log-level", "loud"], &["loud", "debug"]),
        (&["--check-config", "--mode", "fast"], &["thread-per-connection"]),
        (&["--check-config", "--admin", "here"], &["here", "off"]),
        (&["--check-config", "--allowed-origin", "example.org"], &["origin"]),
        (&["--check-config", "--gateway-set-field", "x"], &["--gateway-set-field", "Name: value"]),
        (&["--listen", &taken, "--admin", "off"], &[&taken]),
        (&["--listen", "127.0.0.1:0", "--admin", &taken], &[&taken, "--admin"]),
        (&["--listen", "systemd", "--admin", "off"], &["LISTEN_FDS"]),
        (
            &["--listen", "127.0.0.1:0", "--admin", "off", "--access-log", "--access-log-file", "/no/such/log"],
            &["/no/such/log"],
        ),
        (&["--sessoins", "3"], &["--sessions"]),
        // Settings with which it cannot start, or cannot work.
        (&["--check-config", "--listen", &long_path], &["unix:/tmp/xxx", "path"]),
        (&["--check-config", "--listen", "unix:/no/such/directory/x.sock"], &["directory"]),
        (&["--check-config", "--listen", &format!("unix:{unknown}")], &["not a socket"]),
        (&["--check-config", "--listen", "0.0.0.0:9191", "--admin", "127.0.0.1:9191"], &["0.0.0.0:9191", "same port"]),
        (
            &["--check-config", "--listen", "127.0.0.1:9191", "--listen", "[::]:9191"],
            &["127.0.0.1:9191", "[::]:9191", "same port"],
        ),
        (&["--check-config", "--listen", "[::ffff:127.0.0.1]:9191", "--listen", "0.0.0.0:9191"], &["same port"]),
        (&["--check-config", "--tls-cert", &expired, "--tls-key", &key], &["certificate", "expired", "2002-01-01"]),
        (&["--check-config", "--tls-cert", &early, "--tls-key", &early_key], &["certificate", "not valid before 4000"]),
        (&["--check-config", "--tunnel-token", &token], &["[tunnel]", "HTTPS", "--tls-cert"]),
        (&["--check-config", "--access-log-file", "access.log"], &["access.log", "--access-log"]),
        (&["--check-config", "--session-ttl", "90000"], &["--session-ttl", "90000", "--session-ttl-max", "86400"]),
        (&["--check-config", "--request-timeout=9", "--request-timeout-max=8"], &["--request-timeout", "9", "8"]),
        (&["--check-config", "--rendezvous-ttl=90", "--rendezvous-ttl-max=80"], &["--rendezvous-ttl", "90", "80"]),
        (&["--check-config", "--page-link-ttl=9000"], &["--page-link-ttl", "9000", "--rendezvous-ttl-max", "3600"]),
        (&["--check-config", "--allowed-origin", "https://b\u{fc}cher.example"], &["origin", "ASCII"]),
        (&["--check-config", "--allowed-origin", "https://a.example/path"], &["origin", "without a path"]),
    ] {
        let output = output("relay", args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && output.stdout.is_empty(), "{args:?}: {stderr}");
        assert!(texts.iter().all(|text| stderr.contains(text)) && !stderr.contains("panicked"), "{args:?}: {stderr}");
    }
}

#[test]
fn a_certificate_out_of_its_time_is_told_of_and_served() {
    let dir = Dir::new();
    let _ = dir.identity_of(2001, 2002);
    let files = [dir.path("cert.pem"), dir.path("key.pem")];
    let args = ["--tls-cert", &files[0], "--tls-key", &files[1], "--connections=100"];
    let relay = Relay::logging_to(&dir.path("stderr"), &args);
    let metric = format!("uncork_certificate_expiry_timestamp_seconds{{listener=\"{}\"}}", relay.urls[0]);
    assert_eq!(relay.metric(&metric), 1_009_843_200.0);
    let text = dir.read("stderr");
    assert!(text.contains(&format!("{}: certificate expired at 2002-01-01", relay.urls[0])), "{text}");
    assert!(relay.reload(), "the certificate is the same as before");
    assert_eq!(dir.read("stderr").matches("certificate expired").count(), 2);
    let client = dir.identity_of(2001, 4000);
    assert!(relay.reload());
    assert_eq!(relay.metric(&metric), 64_060_588_800.0);
    assert_eq!(dir.read("stderr").matches("certificate expired").count(), 2);
    crate::client::Client::connect(relay.addr(), Some(client)).request("GET /ping", &[]).response().assert(200);
    relay.stop();
}

#[test]
fn an_origin_is_compared_as_browsers_write_it() {
    let relay = Relay::start(&["--allowed-origin", "HTTPS://A.example:443", "--allowed-origin=http://b.example:8080"]);
    for (origin, is_allowed) in [
        ("https://a.example", true),
        ("http://b.example:8080", true),
        ("https://a.example:8443", false),
        ("http://a.example", false),
        ("http://b.example", false),
    ] {
        let response = relay.request("GET /ping", &[&format!("Origin: {origin}")]);
        let allowed = response.assert(200).get("access-control-allow-origin");
        assert_eq!(allowed, is_allowed.then_some(origin), "{origin}");
    }
    relay.stop();
}

#[test]
fn the_page_tells_of_what_is_on() {
    const HTML: &[&str] = &["Accept: text/html"];
    let relay = Relay::start(&["--rendezvous-ttl-max", "600", "--session-lifetime", "60"]);
    let page = relay.request("GET /", HTML);
    assert!(page.assert(200).text().contains("data-stream=\"/stream\" data-ttl=\"600\""), "no longer than it can be");
    assert!(relay.request("GET /", &[]).text().contains("/cama/session"));
    relay.stop();
    let relay = Relay::start(&["--rendezvous=false", "--base-path", "/here"]);
    let page = relay.request("GET /", HTML);
    assert!(page.assert(200).text().contains("/here/session") && !page.text().contains("data-stream=\"/"));
    relay.stop();
    for nothing in [&["--page=false"][..], &["--rendezvous=false", "--session-relay=false"]] {
        let relay = Relay::start(nothing);
        relay.request("GET /", HTML).assert(404);
        relay.request("POST /qr", &["Content-Length: 0"]).assert(404);
        relay.stop();
    }
}
