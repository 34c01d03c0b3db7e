use std::collections::HashMap;

use super::*;
use crate::relay::gateway::config::{GatewayCallbacks, GatewayLimits};

/// The sample that comes with the program.
const SAMPLE: &str = include_str!("../../../../examples/gateway/config.yml");

fn parse(text: &str) -> Result<GatewayFile, ConfigError> {
    GatewayFile::parse(text, |_| None)
}

fn with(variables: &[(&str, &str)], text: &str) -> GatewayFile {
    let variables: HashMap<&str, &str> = variables.iter().copied().collect();
    GatewayFile::parse(text, |name| variables.get(name).map(|value| (*value).to_owned())).expect("good")
}

#[test]
fn an_empty_file_has_the_defaults() {
    let file = parse("").expect("good");
    assert_eq!((file.port, &file.sock, &file.config), (9180, &None, &GatewayConfig::kuiperbelt()));
    assert_eq!(file.address, None, "all addresses");
    assert_eq!(file.warnings.len(), 1, "no client can connect: {:?}", file.warnings);
    let keys = KEYS.iter().map(|key| format!("{key}:\n")).collect::<String>();
    assert_eq!(parse(&keys).expect("good"), file, "keys without values");
}

#[test]
fn every_key_is_read() {
    let file = parse(
        "port: 80\naddress: 127.0.0.1\nsock: /run/x.sock\nendpoint: gate.example:80\nsession_header: x-key\n\
         callback:\n  connect: http://a/c\n  establish: https://a/e\n  close: http://a:1/x\n  receive: http://a/r?x=y\n  timeout: 1m30s\n\
         proxy_set_header: { X-A: b, X-Gone: \"\", X-Number: 7 }\nsend_timeout: 500ms\nsend_queue_size: 3\n\
         strict_broadcast: yes\norigin_policy: same_origin\nidle_timeout: 10s\nping_interval: 0\nmessage_timeout: 7s\ndrain_spread: 20s\nsuppress_access_log: true\n\
         path: { connect: /a, close: /b, stats: /c, send: /d, ping: /e, presence: /f }\n\
         upstream: { url: http://app, timeout: 5s }\n\
         limits:\n  message: 64k\n  send: 1M\n  targets: 7\n  queue: 2G\n  response: 512\n  pending: 3M\n  calls: 5\n  sessions: 9\n  sessions_per_address: 8\n  upstream_requests: 6\n  upstream_body: 4k\n",
    )
    .expect("good");
    assert_eq!(file.address, Some([127, 0, 0, 1].into()));
    assert_eq!((file.port, file.sock, file.warnings), (80, Some("/run/x.sock".into()), vec![]));
    let c = file.config;
    assert_eq!((c.endpoint.as_str(), c.session_header.as_str()), ("gate.example:80", "x-key"));
    let urls = (c.callback.connect, c.callback.establish, c.callback.close, c.callback.receive);
    assert_eq!(urls, ("http://a/c".into(), "https://a/e".into(), "http://a:1/x".into(), "http://a/r?x=y".into()));
    assert_eq!(c.callback.timeout, Some(Duration::from_secs(90)));
    let fields = [("X-A", "b"), ("X-Gone", ""), ("X-Number", "7")];
    assert!(c.proxy_set_header.iter().map(|(n, v)| (n.as_str(), v.as_str())).eq(fields));
    assert_eq!((c.send_timeout, c.send_queue_size), (Some(Duration::from_millis(500)), 3));
    assert_eq!((c.strict_broadcast, c.origin_policy, c.suppress_access_log), (true, OriginPolicy::SameOrigin, true));
    assert_eq!((c.idle_timeout, c.ping_interval), (Some(Duration::from_secs(10)), None));
    assert_eq!((c.message_timeout, c.drain_spread), (Some(Duration::from_secs(7)), Duration::from_secs(20)));
    assert!(c.path.named().iter().map(|(_, path)| *path).eq(["/a", "/b", "/c", "/d", "/e", "/f"]));
    let limits = GatewayLimits {
        message: 64 << 10,
        send: 1 << 20,
        targets: 7,
        queue: 2 << 30,
        response: 512,
        pending: 3 << 20,
        calls: 5,
        sessions: 9,
        sessions_per_address: 8,
        upstream_requests: 6,
        upstream_body: 4096,
    };
    assert_eq!((c.upstream.url.as_str(), c.upstream.timeout), ("http://app", Duration::from_secs(5)));
    assert_eq!(c.limits, limits);
}

#[test]
fn the_endpoint_is_made_of_the_files_port() {
    let host = gethostname::gethostname();
    let host = host.to_string_lossy();
    for (text, port, endpoint) in [
        ("port: 8080", 8080, format!("{host}:8080")),
        ("port: 443", 443, host.to_string()),
        ("port: '1023'", 1023, host.to_string()),
        ("endpoint: here", 9180, "here".into()),
        ("endpoint: \"\"", 9180, format!("{host}:9180")),
        ("sock: /x", 9180, format!("{host}:9180")),
    ] {
        let file = parse(text).expect("good");
        assert_eq!((file.port, file.config.endpoint), (port, endpoint), "{text}");
    }
}

#[test]
fn unknown_keys_are_ignored_with_a_warning() {
    let file = parse(
        "port: 1\nprot: 2\ncallback:\n  connect: http://a\n  recieve: http://a\npath: { pong: /x }\nlimits: {all: 1}\nnone:\n",
    );
    let warnings: Vec<String> = file.expect("good").warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "line 2: unknown key prot: ignored; the closest known key is port",
            "line 5: unknown key callback.recieve: ignored; the closest known key is callback.receive",
            "line 6: unknown key path.pong: ignored; the closest known key is path.ping",
            "line 7: unknown key limits.all: ignored",
            "line 8: unknown key none: ignored",
        ]
    );
}

/// A key that the reader has and the list has not would never be proposed; one that only the list has would be wrong.
#[test]
fn the_known_keys_are_those_that_are_read() {
    for key in KEYS {
        let text = match key.split_once('.') {
            Some((section, key)) => format!("{section}:\n  {key}: x\n"),
            None => format!("{key}: x\n"),
        };
        let warnings = parse(&text).map(|file| file.warnings).unwrap_or_default();
        let unknown = warnings.iter().find(|warning| warning.message().contains("unknown key"));
        assert_eq!(unknown, None, "{key}");
    }
    let (reader, _) = include_str!("file.rs").split_once("const KEYS").expect("the list is behind the reader");
    let arms = reader.lines().filter_map(|line| line.trim().strip_prefix('"')?.split_once("\" =>"));
    let read: Vec<&str> = arms.map(|(key, _)| key).collect();
    assert!(read.len() > 30, "{read:?}");
    for key in read {
        assert!(KEYS.iter().any(|known| known.rsplit('.').next() == Some(key)), "{key}");
    }
}

#[test]
fn what_is_malformed_is_an_error_with_its_line() {
    for (text, line, reason) in [
        ("- a list", 1, "invalid configuration: must be a mapping"),
        ("just a word", 1, "invalid configuration: must be a mapping"),
        ("\nport: http", 2, "invalid port \"http\": must be a number from 0 to 65535"),
        ("port: 65536", 1, "must be a number from 0 to 65535"),
        ("port: -1", 1, "must be a number from 0 to 65535"),
        ("address: 127.0.0.1:80", 1, "invalid address"),
        ("address: localhost", 1, "invalid address"),
        ("port: [1]", 1, "invalid port: must be a single value, not a list"),
        ("sock: {a: b}", 1, "invalid sock: must be a single value, not a mapping"),
        ("callback: http://a", 1, "invalid callback: must be a mapping"),
        ("callback:\n  connect: localhost:80", 2, "invalid callback.connect "),
        ("callback:\n  close: ftp://a/b", 2, "invalid callback.close "),
        ("callback:\n  receive: http://", 2, "invalid callback.receive "),
        ("callback:\n  establish: http://a/ b", 2, "invalid callback.establish "),
        ("callback:\n\n  timeout: 10", 3, "callback.timeout: invalid duration \"10\": a unit is missing"),
        ("idle_timeout: soon", 1, "invalid duration"),
        ("send_timeout: -1s", 1, "negative"),
        ("send_queue_size: many", 1, "invalid send_queue_size \"many\""),
        ("strict_broadcast: maybe", 1, "invalid strict_broadcast \"maybe\": must be true or false"),
        ("origin_policy: any", 1, "invalid origin_policy \"any\": must be same_origin, same_hostname or none"),
        ("session_header: a b", 1, "session_header"),
        ("session_header: Host", 1, "cannot be set"),
        ("endpoint: \"a\\nb\"", 1, "endpoint"),
        ("proxy_set_header:\n  X-A: b\n  X B: c", 3, "proxy_set_header"),
        ("proxy_set_header:\n  X-A: \"b\\r\\nX-C: d\"", 2, "proxy_set_header.X-A"),
        ("proxy_set_header: [a]", 1, "must be a mapping"),
        ("path: { send: send }", 1, "invalid path.send \"send\": must begin with a slash"),
        ("limits: { message: lots }", 1, "invalid limits.message"),
        ("limits: { message: 99999999999999999999M }", 1, "invalid limits.message"),
        ("a: b: c", 1, "invalid YAML"),
        ("a:\n\tb: c", 2, "invalid YAML"),
    ] {
        let fault = parse(text).expect_err(text);
        assert!(fault.message().contains(reason), "{text:?}: {fault}");
        assert_eq!(fault.line(), Some(line), "{text:?}: {fault}");
    }
    let fault = parse("path: { send: /ping }").expect_err("twice");
    assert!(fault.message().contains("invalid path.send \"/ping\": another path is the same"), "{fault}");
}

#[test]
fn lines_are_those_of_the_file_even_behind_a_variable_with_several() {
    let text = "proxy_set_header:\n{{ env \"FIELDS\" \"\" }}\nport: x\n";
    let variable = |name: &str| (name == "FIELDS").then(|| "  X-A: b\n  X-C: d".to_owned());
    assert_eq!(GatewayFile::parse(text, variable).expect_err("bad").line(), Some(3));
    assert_eq!(GatewayFile::parse("a: 1\nport: {{ must_env \"P\" }}\n", |_| None).expect_err("unset").line(), Some(2));
}

#[test]
fn the_sample_is_the_default_and_every_variable_counts() {
    let file = parse(SAMPLE).expect("good");
    let mut config = GatewayConfig::default();
    config.callback = GatewayCallbacks {
        connect: "http://localhost:12346/connect".into(),
        establish: "http://localhost:12346/establish".into(),
        receive: "http://localhost:12346/receive".into(),
        close: "http://localhost:12346/close".into(),
        ..config.callback
    };
    assert_eq!((file.port, file.sock, file.config, file.warnings), (9180, None, config, vec![]));
    assert_eq!(file.address, Some([127, 0, 0, 1].into()), "the sample is for this machine only");

    let file = with(
        &[
            ("EKBO_PORT", "1"),
            ("EKBO_CONNECT_PATH", "/a"),
            ("EKBO_CLOSE_PATH", "/b"),
            ("EKBO_STATS_PATH", "/c"),
            ("EKBO_SEND_PATH", "/d"),
            ("EKBO_PING_PATH", "/e"),
            ("EKBO_CONNECT_CALLBACK_URL", "http://h/1"),
            ("EKBO_ESTABLISH_CALLBACK_URL", "http://h/2"),
            ("EKBO_CLOSE_CALLBACK_URL", "http://h/3"),
            ("EKBO_RECEIVE_CALLBACK_URL", "http://h/4"),
            ("EKBO_CALLBACK_TIMEOUT", "4s"),
            ("EKBO_SUPPRESS_ACCESS_LOG", "true"),
            ("EKBO_SESSION_HEADER_NAME", "X-S"),
            ("EKBO_UNIX_DOMAIN_SOCKET_FILENAME", "/s"),
            ("EKBO_SELF_ENDPOINT_URL", "me"),
            ("EKBO_STRICT_BROADCAST_MODE_SWITCH", "true"),
            ("EKBO_PROXY_SET_HEADER", "{X-A: b, X-C: ''}"),
            ("EKBO_SEND_TIMEOUT", "1s"),
            ("EKBO_SEND_QUEUE_SIZE", "2"),
            ("EKBO_ORIGIN_POLICY", "same_hostname"),
            ("EKBO_IDLE_TIMEOUT", "3s"),
        ],
        SAMPLE,
    );
    let c = &file.config;
    assert!(c.path.named().iter().map(|(_, path)| *path).eq(["/a", "/b", "/c", "/d", "/e", "/presence"]));
    let urls = [&c.callback.connect, &c.callback.establish, &c.callback.close, &c.callback.receive];
    assert_eq!(urls, ["http://h/1", "http://h/2", "http://h/3", "http://h/4"]);
    assert_eq!((file.port, file.sock.as_deref()), (1, Some("/s".as_ref())));
    assert_eq!((c.session_header.as_str(), c.endpoint.as_str()), ("X-S", "me"));
    assert!(c.suppress_access_log && c.strict_broadcast && c.origin_policy == OriginPolicy::SameHostname);
    let seconds = [c.callback.timeout, c.send_timeout, c.idle_timeout].map(|time| time.map(|time| time.as_secs()));
    assert_eq!((seconds, c.send_queue_size), ([Some(4), Some(1), Some(3)], 2));
    assert_eq!(c.proxy_set_header.len(), 2);
}
