//! The engine against real servers.

#![expect(clippy::disallowed_methods, reason = "tests may sleep, and read the clock to bound a wait")]

use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use uncork::TlsClient;

use super::{
    Command, DirectoryConfig, EngineState, Reply, Unavailable,
    redis::{LONG, Redis, Scratch, Told, World, bytes, free_port, is_installed, until},
};

/// A short time, to show that nothing happens.
const MOMENT: Duration = Duration::from_millis(150);

fn get(key: &str) -> Command {
    Command::new("GET").key(key)
}

fn set(key: &str, value: &str) -> Command {
    Command::new("SET").key(key).arg(value)
}

/// A connection on which everything works.
#[track_caller]
fn works(world: &World) {
    world.expect(Told::Connected);
    let replies = world.send(vec![
        set("k", "v"),
        get("k"),
        get("none"),
        Command::new("INCR").key("n"),
        Command::new("INCR").key("k"),
        Command::new("MGET").key("k").key("none"),
    ]);
    let replies = replies.expect("replies");
    assert_eq!(replies[..4], [bytes("OK"), bytes("v"), Reply::Nil, Reply::Int(1)]);
    assert!(matches!(&replies[4], Reply::Error(text) if text.starts_with("ERR value is not an integer")));
    assert_eq!(replies[5], Reply::Array(vec![bytes("v"), Reply::Nil]));
    world.one(Command::new("PUBLISH").key("news").arg("hello"));
    world.expect(Told::Message("news".into(), "hello".into()));
    until("a round trip", || world.engine.status().round_trip.is_some());
    let status = world.engine.status();
    assert_eq!((status.state, status.commands, status.reconnections), (EngineState::Ready, 7, 0));
    assert!(status.last_error.is_none() && status.address.is_some());
}

#[test]
fn commands_and_messages() {
    if !is_installed("redis-server") {
        return;
    }
    let redis = Redis::start(&[]);
    let world = World::at(redis.url());
    works(&world);
    assert_eq!(redis.ask("GET uncork:k"), "$1");
    let clients = redis.text("CLIENT LIST");
    assert!(clients.contains("name=uncork") && clients.contains("resp=3"), "{clients}");
    assert_eq!(world.send(vec![]), Ok(vec![]));
}

#[test]
fn with_a_password_a_user_and_a_database() {
    if !is_installed("redis-server") {
        return;
    }
    let redis = Redis::start(&["--requirepass", "p@ss"]);
    let url = format!("redis://:p%40ss@127.0.0.1:{}/3", redis.port);
    works(&World::at(url.clone()));
    let admin = World::at(url);
    admin.expect(Told::Connected);
    let acl = Command::new("ACL").arg("SETUSER").arg("relay").arg("on").arg(">secret").arg("~x:*").arg("&x:*");
    admin.one(acl.arg("+@all").arg("-@dangerous").arg("+role"));
    let config = DirectoryConfig {
        url: format!("redis://relay@localhost:{}", redis.port),
        password: Some("secret".into()),
        prefix: "x:".into(),
        ..DirectoryConfig::default()
    };
    works(&World::start(config.clone()));
    let wrong = World::start(DirectoryConfig { password: Some("wrong".into()), ..config.clone() });
    wrong.until_error("WRONGPASS");
    let none = World::at(redis.url());
    none.until_error("NOAUTH");
    assert!(none.send(vec![get("k")]).is_err());
    let other_keys = World::start(DirectoryConfig { prefix: "y:".into(), ..config });
    other_keys.until_error("cannot subscribe: NOPERM");
}

#[test]
fn over_a_unix_socket() {
    if !is_installed("redis-server") {
        return;
    }
    let redis = Redis::start(&["--unixsocket", "r.sock"]);
    let path = redis.dir.path("r.sock");
    let world = World::at(format!("unix:{path}?db=2"));
    works(&world);
    assert_eq!(world.engine.status().address, Some(path));
    let world = World::at(format!("unix:{}", redis.dir.path("none")));
    world.until_error("cannot connect");
}

#[test]
fn over_tls() {
    if !is_installed("redis-server") {
        return;
    }
    let certificate = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let dir = Scratch::new();
    let (cert, key) = (dir.path("cert.pem"), dir.path("key.pem"));
    fs::write(&cert, certificate.cert.pem()).expect("written");
    fs::write(&key, certificate.signing_key.serialize_pem()).expect("written");
    let tls_port = free_port();
    let _redis = Redis::start_in(
        dir,
        &[
            "--tls-port",
            &tls_port.to_string(),
            "--tls-cert-file",
            &cert,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &cert,
            "--tls-auth-clients",
            "no",
        ],
    );
    until("TLS", || std::net::TcpStream::connect(("127.0.0.1", tls_port)).is_ok());
    let url = |host: &str| format!("rediss://{host}:{tls_port}");
    let tls = Some(TlsClient::roots_pem(certificate.cert.pem().as_bytes()).expect("a root"));
    works(&World::start(DirectoryConfig { url: url("localhost"), tls: tls.clone(), ..DirectoryConfig::default() }));
    let other = World::start(DirectoryConfig { url: url("127.0.0.1"), tls, ..DirectoryConfig::default() });
    other.until_error("cannot establish TLS");
}

#[test]
fn without_hello_messages_have_a_connection_of_their_own() {
    if !is_installed("redis-server") {
        return;
    }
    let redis = Redis::start(&["--rename-command", "HELLO", "", "--requirepass", "p"]);
    let world = World::at(format!("redis://:p@127.0.0.1:{}", redis.port));
    works(&world);
    // The loss of either ends both.
    for kind in ["pubsub", "normal"] {
        drop(world.begin(vec![Command::new("CLIENT").arg("KILL").arg("TYPE").arg(kind).arg("SKIPME").arg("no")]));
        world.expect(Told::Lost);
        world.expect(Told::Connected);
        world.one(Command::new("PUBLISH").key("news").arg(kind));
        world.expect(Told::Message("news".into(), kind.into()));
    }
    assert_eq!(world.engine.status().reconnections, 2);
}

#[test]
fn it_reconnects_after_a_restart() {
    if !is_installed("redis-server") {
        return;
    }
    let mut redis = Redis::start(&[]);
    let world = World::start_with(
        DirectoryConfig { url: format!("redis://localhost:{}", redis.port), ..DirectoryConfig::default() },
        |engine| engine.send(vec![set("registered", "1")], |outcome| assert!(outcome.is_ok())),
    );
    world.expect(Told::Connected);
    assert_eq!(world.one(get("registered")), bytes("1"), "in the order of the calls");
    let waits = world.begin(vec![Command::new("BLPOP").key("list").arg("0")]);
    sleep(MOMENT);
    redis.kill();
    let error = waits.recv_timeout(LONG).expect("called").expect_err("lost");
    assert!(error.to_string().contains("closed") || error.to_string().contains("reset"), "{error}");
    world.expect(Told::Lost);
    assert_eq!(world.engine.status().state, EngineState::Disconnected);
    let error = world.send(vec![get("k")]).expect_err("no connection");
    assert!(error.to_string().starts_with("the directory is unavailable: not connected"), "{error}");
    assert!(world.send(vec![get("k").hint(), get("k").hint()]).is_err());
    assert_eq!(world.engine.status().dropped_hints, 2);
    world.until_error("refused");
    redis.run();
    world.expect(Told::Connected);
    assert_eq!(world.one(get("registered")), bytes("1"));
    assert_eq!((world.engine.status().state, world.engine.status().reconnections), (EngineState::Ready, 1));
}

#[test]
fn a_slow_engine() {
    if !is_installed("redis-server") {
        return;
    }
    let redis = Redis::start(&[]);
    let config = DirectoryConfig {
        url: redis.url(),
        command_timeout: Duration::from_millis(300),
        queue: 4,
        ..DirectoryConfig::default()
    };
    let world = World::start(config);
    world.expect(Told::Connected);
    until("a round trip", || world.engine.status().round_trip.is_some());
    let start = Instant::now();
    let sleeps = world.begin(vec![Command::new("DEBUG").arg("SLEEP").arg("2")]);
    let others: Vec<_> = (0..3).map(|_| world.begin(vec![get("k")])).collect();
    let full = world.send(vec![get("k")]).expect_err("the queue is full");
    assert!(full.to_string().contains("too many commands"), "{full}");
    for waits in [sleeps].into_iter().chain(others) {
        let error = waits.recv_timeout(LONG).expect("called").expect_err("too slow");
        assert!(error.to_string().contains("did not reply within 300ms"), "{error}");
    }
    assert!((Duration::from_millis(300)..Duration::from_secs(2)).contains(&start.elapsed()));
    // Those replies are discarded when they arrive, and the connection is the same.
    until("it responds again", || world.send(vec![get("k")]) == Ok(vec![Reply::Nil]));
    assert_eq!(world.engine.status().reconnections, 0);
}

#[test]
fn an_engine_that_is_silent_is_left() {
    if !is_installed("redis-server") {
        return;
    }
    let redis = Redis::start(&[]);
    let config =
        DirectoryConfig { url: redis.url(), command_timeout: Duration::from_millis(200), ..DirectoryConfig::default() };
    let world = World::start(config);
    world.expect(Told::Connected);
    until("a round trip", || world.engine.status().round_trip.is_some());
    let start = Instant::now();
    assert!(world.send(vec![Command::new("DEBUG").arg("SLEEP").arg("7")]).is_err());
    world.expect(Told::Lost);
    world.until_error("no reply to PING within 200ms");
    assert!(start.elapsed() < Duration::from_secs(7), "{:?}", start.elapsed());
    // Connected, but silent: the handshake has a timeout.
    world.expect(Told::Connected);
}

#[test]
fn a_replica_is_not_used() {
    if !is_installed("redis-server") {
        return;
    }
    let (master, replica) = (Redis::start(&[]), Redis::start(&[]));
    let world = World::at(replica.url());
    world.expect(Told::Connected);
    assert_eq!(replica.ask(&format!("REPLICAOF 127.0.0.1 {}", master.port)), "+OK");
    let error = world.send(vec![set("k", "v")]).expect_err("not now");
    assert!(error.to_string().contains("READONLY"), "{error}");
    world.expect(Told::Lost);
    world.until_error("it is not a master");
    assert_eq!(replica.ask("REPLICAOF NO ONE"), "+OK");
    world.expect(Told::Connected);
}

#[test]
fn a_cluster_is_rejected_where_one_server_is_expected() {
    if !is_installed("redis-server") {
        return;
    }
    let redis = Redis::start(&["--cluster-enabled", "yes"]);
    World::at(redis.url()).until_error("it is part of a cluster, and the configuration names no nodes of a cluster");
}

#[test]
fn a_large_pipeline_and_many_threads() {
    if !is_installed("redis-server") {
        return;
    }
    let redis = Redis::start(&[]);
    let world = World::at(redis.url());
    world.expect(Told::Connected);
    let value = "v".repeat(1000);
    let many = (0..20_000).map(|n| Command::new("SET").key(n.to_string()).arg(&value)).collect();
    assert_eq!(world.send(many).map(|replies| replies.len()), Ok(20_000));
    let gets = (0..20_000).map(|n| get(&n.to_string())).collect();
    let replies = world.send(gets).expect("replies");
    assert!(replies.len() == 20_000 && replies.iter().all(|reply| *reply == bytes(&value)));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..500 {
                    world.one(Command::new("INCR").key("count"));
                }
            });
        }
    });
    assert_eq!(world.one(get("count")), bytes("2000"));
}

#[test]
fn stopping() {
    if !is_installed("redis-server") {
        return;
    }
    let redis = Redis::start(&[]);
    let world = World::at(redis.url());
    world.expect(Told::Connected);
    let waits = world.begin(vec![Command::new("BLPOP").key("list").arg("0")]);
    world.engine.stop();
    let error = waits.recv_timeout(LONG).expect("called").expect_err("stopped");
    assert!(error.to_string().contains("stopped"), "{error}");
    world.expect(Told::Lost);
    assert!(world.send(vec![get("k")]).is_err());
    assert_eq!(world.told(Duration::from_millis(500)), None, "no other connection");

    // A server that stops waits for what is unregistered.
    let mut world = World::at(redis.url());
    world.expect(Told::Connected);
    let server = world.server.take().expect("running");
    let stop = server.stop_handle();
    let (start, joined) = (Instant::now(), std::thread::spawn(move || server.join()));
    stop.shutdown(LONG);
    sleep(MOMENT);
    assert_eq!(world.send(vec![Command::new("DEL").key("k")]), Ok(vec![Reply::Int(0)]));
    joined.join().expect("no panic").expect("ended normally");
    assert!((Duration::from_secs(1)..Duration::from_secs(10)).contains(&start.elapsed()), "{:?}", start.elapsed());
    world.expect(Told::Lost);
    assert_eq!(world.engine.status().state, EngineState::Disconnected);

    // The loop is ended at once.
    let mut world = World::at(redis.url());
    world.expect(Told::Connected);
    let waits = world.begin(vec![Command::new("BLPOP").key("list").arg("0")]);
    world.server.take().expect("running").stop_now().expect("ended normally");
    assert!(waits.recv_timeout(LONG).expect("called").is_err());
    world.expect(Told::Lost);
    let never: Result<Vec<Reply>, Unavailable> = world.send(vec![get("k")]);
    assert!(never.is_err());
}

#[test]
fn a_failover_by_sentinel() {
    if !is_installed("redis-server") || !is_installed("redis-sentinel") {
        return;
    }
    let mut master = Redis::start(&[]);
    let replica =
        Redis::start(&["--replicaof", &format!("127.0.0.1 {}", master.port), "--repl-diskless-sync-delay", "0"]);
    until("replication", || replica.text("INFO replication").contains("master_link_status:up"));
    let sentinel = Redis::sentinel(&format!(
        "requirepass watch\nsentinel monitor main 127.0.0.1 {} 1\nsentinel down-after-milliseconds main 500\n\
         sentinel failover-timeout main 2000\n",
        master.port
    ));
    let nothing = format!("redis://127.0.0.1:{}", free_port());
    let world = World::start(DirectoryConfig {
        url: "redis://".into(),
        sentinel: Some(super::SentinelConfig {
            urls: vec![nothing, sentinel.url()],
            master: "main".into(),
            password: Some("watch".into()),
            ..super::SentinelConfig::default()
        }),
        ..DirectoryConfig::default()
    });
    world.expect(Told::Connected);
    assert_eq!(world.engine.status().address, Some(master.addr().to_string()));
    // It knows the replica only after it has asked the master, by INFO.
    let replicas = || {
        let mut stream = std::net::TcpStream::connect(sentinel.addr()).expect("connected");
        stream.set_read_timeout(Some(MOMENT)).expect("set");
        std::io::Write::write_all(&mut stream, b"AUTH watch\r\nSENTINEL REPLICAS main\r\n").expect("sent");
        let mut bytes = Vec::new();
        let _ = std::io::Read::read_to_end(&mut stream, &mut bytes); // until the timeout
        String::from_utf8_lossy(&bytes).into_owned()
    };
    until("the Sentinel knows the replica", || replicas().contains(&replica.port.to_string()));
    master.kill();
    world.expect(Told::Lost);
    world.expect(Told::Connected);
    assert_eq!(world.engine.status().address, Some(replica.addr().to_string()));
    world.one(set("k", "v"));
    // A name that the Sentinel does not know.
    let unknown = World::start(DirectoryConfig {
        url: "redis://".into(),
        sentinel: Some(super::SentinelConfig {
            urls: vec![format!("redis://:watch@127.0.0.1:{}", sentinel.port)],
            master: "other".into(),
            ..super::SentinelConfig::default()
        }),
        ..DirectoryConfig::default()
    });
    unknown.until_error("it has no master \"other\"");
    unknown.engine.stop();
}
