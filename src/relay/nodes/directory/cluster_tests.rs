//! The engine against a real cluster: `redis-server` in cluster mode.

#![expect(clippy::disallowed_methods, reason = "tests may sleep, and read the clock to bound a wait")]

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    Command, DirectoryConfig, EngineState, Reply,
    redis::{Redis, Told, World, bytes, free_port, is_installed, until},
    slots::slot_of,
};

/// Nodes of a cluster: masters first. Each has the third part of the slots.
struct Nodes(Vec<Redis>);

impl Nodes {
    /// Starts a cluster; `None` if it is not installed.
    fn start(masters: usize, replicas: usize) -> Option<Self> {
        if !is_installed("redis-server") {
            return None;
        }
        let node = |_| {
            // The bus has a port of its own; by default, one that may not exist.
            let bus = free_port().to_string();
            Redis::start(&[
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                &bus,
                "--cluster-node-timeout",
                "1000",
                "--cluster-require-full-coverage",
                "no",
                "--repl-diskless-sync-delay",
                "0",
            ])
        };
        let nodes = Self((0..masters + replicas).map(node).collect());
        let share = 16_384 / masters;
        for (n, node) in nodes.0.iter().enumerate() {
            assert_eq!(node.ask(&format!("CLUSTER SET-CONFIG-EPOCH {}", n + 1)), "+OK");
            if n < masters {
                let last = if n + 1 == masters { 16_383 } else { (n + 1) * share - 1 };
                assert_eq!(node.ask(&format!("CLUSTER ADDSLOTSRANGE {} {last}", n * share)), "+OK");
            }
            if n > 0 {
                nodes.meet(node);
            }
        }
        for (n, replica) in nodes.0[masters..].iter().enumerate() {
            let master = nodes.0[n].text("CLUSTER MYID");
            let id = master.lines().nth(1).expect("an id").to_owned();
            until("the replica knows its master", || replica.ask(&format!("CLUSTER REPLICATE {id}")) == "+OK");
            until("replication", || replica.text("INFO replication").contains("master_link_status:up"));
        }
        nodes.agree();
        Some(nodes)
    }

    /// Adds a node.
    fn meet(&self, node: &Redis) {
        let first = &self.0[0];
        let bus = first.text("CONFIG GET cluster-port");
        let bus = bus.lines().rfind(|line| line.parse::<u16>().is_ok()).expect("a port").to_owned();
        assert_eq!(node.ask(&format!("CLUSTER MEET 127.0.0.1 {} {bus}", first.port)), "+OK");
    }

    /// Waits until all nodes know each other and all slots.
    fn agree(&self) {
        let known = format!("cluster_known_nodes:{}\r", self.0.len());
        for node in &self.0 {
            until("the cluster agrees", || {
                let info = node.text("CLUSTER INFO");
                info.contains(&known) && info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384")
            });
        }
    }

    fn world(&self) -> World {
        // A seed that does not exist changes nothing.
        let seeds = vec![format!("127.0.0.1:{}", free_port()), self.0[0].addr().to_string()];
        World::start(DirectoryConfig { url: "redis://".into(), cluster: seeds, ..DirectoryConfig::default() })
    }
}

fn get(key: &str) -> Command {
    Command::new("GET").key(key)
}

fn set(key: &str, value: &str) -> Command {
    Command::new("SET").key(key).arg(value)
}

/// Returns a key of the n-th of three masters.
fn key_of(n: usize) -> String {
    let has = |key: &String| (usize::from(slot_of(format!("uncork:{key}").as_bytes())) / 5461).min(2) == n;
    (0..).map(|n| format!("key-{n}")).find(has).expect("one")
}

fn id(node: &Redis) -> String {
    node.text("CLUSTER MYID").lines().nth(1).expect("an id").to_owned()
}

#[test]
fn commands_find_their_nodes_and_slots_move() {
    let Some(nodes) = Nodes::start(3, 0) else { return };
    let world = nodes.world();
    world.expect(Told::Connected);
    until("ready", || world.engine.status().state == EngineState::Ready);
    let status = world.engine.status();
    assert_eq!(status.address.map(|all| all.matches("127.0.0.1:").count()), Some(3));
    // Keys of all nodes, in one call.
    let many: Vec<String> = (0..1000).map(|n| format!("k{n}")).collect();
    let replies = world.send(many.iter().map(|key| set(key, key)).collect()).expect("replies");
    assert!(replies.len() == 1000 && replies.iter().all(|reply| *reply == bytes("OK")));
    let mut commands: Vec<Command> = many.iter().map(|key| get(key)).collect();
    commands.push(Command::new("PING"));
    let replies = world.send(commands).expect("replies");
    assert!(many.iter().zip(&replies).all(|(key, reply)| *reply == bytes(key)));
    assert_eq!(replies[1000], bytes("PONG"));
    for node in &nodes.0 {
        assert!(node.ask("DBSIZE")[1..].parse::<u32>().is_ok_and(|size| size > 200), "all have some");
    }
    // A message reaches each connection.
    world.one(Command::new("PUBLISH").key("news").arg("hello"));
    (0..3).for_each(|_| world.expect(Told::Message("news".into(), "hello".into())));
    let (report, reports) = std::sync::mpsc::channel();
    world.engine.flush(move || report.send(()).expect("it waits"));
    reports.recv_timeout(Duration::from_secs(5)).expect("flushed");

    // A slot is on its way from the first node to the second one: new keys are there already, old ones are not.
    let (old, tag) = (key_of(0), "{uncork-tag}");
    let slot = slot_of(format!("uncork:{old}").as_bytes());
    let (from, to) = (&nodes.0[0], &nodes.0[1]);
    world.one(set(&old, "old"));
    assert_eq!(to.ask(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", id(from))), "+OK");
    assert_eq!(from.ask(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", id(to))), "+OK");
    assert_eq!(world.one(get(&old)), bytes("old"));
    assert_eq!(world.one(Command::new("DEL").key(&old)), Reply::Int(1));
    assert_eq!(
        world.send(vec![set(&old, "new"), get(&old), get(&key_of(2))]).expect("ASK")[..2],
        [bytes("OK"), bytes("new")]
    );
    assert_eq!(from.ask(&format!("EXISTS uncork:{old}")).split(' ').next(), Some("-ASK"));
    // It is there.
    assert_eq!(to.ask(&format!("CLUSTER SETSLOT {slot} NODE {}", id(to))), "+OK");
    assert_eq!(from.ask(&format!("CLUSTER SETSLOT {slot} NODE {}", id(to))), "+OK");
    assert_eq!(world.one(get(&old)), bytes("new"), "MOVED");
    assert_eq!(from.ask(&format!("EXISTS uncork:{old}")).split(' ').next(), Some("-MOVED"));
    assert_eq!(world.one(set(&old, tag)), bytes("OK"));
    assert_eq!((world.engine.status().state, world.engine.status().reconnections), (EngineState::Ready, 0));
}

#[test]
fn a_slot_moves_to_a_node_that_has_had_none() {
    let Some(mut nodes) = Nodes::start(3, 0) else { return };
    let world = nodes.world();
    world.expect(Told::Connected);
    let bus = free_port().to_string();
    let node = Redis::start(&["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "1000"]);
    assert_eq!(node.ask("CLUSTER SET-CONFIG-EPOCH 9"), "+OK");
    nodes.meet(&node);
    nodes.0.push(node);
    nodes.agree();
    let key = key_of(0);
    let slot = slot_of(format!("uncork:{key}").as_bytes());
    let (from, to) = (&nodes.0[0], &nodes.0[3]);
    assert_eq!(to.ask(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", id(from))), "+OK");
    assert_eq!(from.ask(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", id(to))), "+OK");
    // Not now: there is no connection to that node yet.
    until("the node that ASK names is found", || world.send(vec![set(&key, "v")]).is_ok());
    for node in [to, from] {
        assert_eq!(node.ask(&format!("CLUSTER SETSLOT {slot} NODE {}", id(to))), "+OK");
    }
    assert_eq!(world.one(get(&key)), bytes("v"));
    // There is a connection to it already.
    until("the table is up to date", || world.engine.status().address.is_some_and(|all| all.matches(':').count() == 4));
    assert_eq!((world.engine.status().state, world.told(Duration::from_millis(500))), (EngineState::Ready, None));
}

#[test]
fn a_replica_takes_over_and_other_keys_go_on() {
    let Some(mut nodes) = Nodes::start(3, 1) else { return };
    let world = nodes.world();
    world.expect(Told::Connected);
    let keys = [0, 1, 2].map(key_of);
    world.send(keys.iter().map(|key| set(key, "v")).collect()).expect("set");
    until("replicated", || nodes.0[3].ask("DBSIZE") == ":1");
    nodes.0[0].kill();
    world.expect(Told::Lost);
    let start = Instant::now();
    assert_eq!(world.engine.status().state, EngineState::Disconnected);
    let error = world.send(vec![get(&keys[0])]).expect_err("its master is away");
    assert!(error.to_string().starts_with("the directory is unavailable"), "{error}");
    assert_eq!(world.one(get(&keys[1])), bytes("v"), "another master");
    assert!(world.send(vec![get(&keys[1]), get(&keys[0])]).is_err());
    world.expect(Told::Connected);
    assert_eq!(world.one(get(&keys[0])), bytes("v"), "the replica has it");
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    // The former master comes back as a replica: it has no slots, and nothing is lost.
    nodes.0[0].run();
    sleep(Duration::from_millis(500));
    assert_eq!(world.one(get(&keys[0])), bytes("v"));
    assert_eq!(world.told(Duration::from_millis(500)), None);
    world.engine.stop();
    world.expect(Told::Lost);
}

#[test]
fn a_server_that_is_not_part_of_a_cluster_is_rejected() {
    if !is_installed("redis-server") {
        return;
    }
    let redis = Redis::start(&[]);
    let seeds = vec![redis.addr().to_string()];
    let world = World::start(DirectoryConfig { url: "redis://".into(), cluster: seeds, ..DirectoryConfig::default() });
    world.until_error("it is not part of a cluster");
    assert!(world.send(vec![get("k")]).is_err());
    // A node without slots says that it has none.
    let alone = Redis::start(&["--cluster-enabled", "yes", "--cluster-port", &free_port().to_string()]);
    let seeds = vec![alone.addr().to_string()];
    let world = World::start(DirectoryConfig { url: "redis://".into(), cluster: seeds, ..DirectoryConfig::default() });
    world.until_error("it knows no node that has slots");
}
