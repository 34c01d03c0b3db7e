//! The directory in a Redis Cluster: three masters.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use uncork::relay::nodes::{DirectoryConfig, EngineState};

use crate::{
    NOT_FOUND,
    cluster::{Cluster, Node, connect},
    errors,
    redis::{Redis, free_ports},
    until,
};

/// The masters, each with a third of the slots. Each goes on without the others.
struct Masters {
    all: Vec<Redis>,
    dir: PathBuf,
}

impl Masters {
    /// Starts a cluster; `None` if it is not installed.
    fn start() -> Option<Self> {
        let dir = std::env::temp_dir().join(format!("uncork-cluster-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        // Three, and three for the bus.
        let ports: [u16; 6] = free_ports();
        let mut all = Vec::new();
        for (n, port) in ports[..3].iter().enumerate() {
            let file = dir.join(format!("{n}.conf")).display().to_string();
            let bus = ports[3 + n].to_string();
            let arguments = [
                ["--cluster-enabled", "yes"],
                ["--cluster-config-file", &file],
                ["--cluster-port", &bus],
                ["--cluster-node-timeout", "1000"],
                ["--cluster-require-full-coverage", "no"],
            ];
            all.push(Redis::start_with(*port, arguments.concat().into_iter().map(str::to_owned).collect())?);
        }
        for (n, (redis, slots)) in all.iter().zip([["0", "5460"], ["5461", "10922"], ["10923", "16383"]]).enumerate() {
            assert_eq!(redis.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(n + 1).to_string()]), "OK");
            assert_eq!(redis.cli(&["CLUSTER", "ADDSLOTSRANGE", slots[0], slots[1]]), "OK");
            let (first, bus) = (ports[0].to_string(), ports[3].to_string());
            if n > 0 {
                assert_eq!(redis.cli(&["CLUSTER", "MEET", "127.0.0.1", &first, &bus]), "OK");
            }
        }
        let masters = Self { all, dir };
        for redis in &masters.all {
            until("the cluster agrees", || {
                let info = redis.cli(&["CLUSTER", "INFO"]);
                info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384")
            });
        }
        Some(masters)
    }

    fn cluster(&self) -> Cluster {
        let seeds: Vec<String> = self.all[..2].iter().map(|redis| format!("127.0.0.1:{}", redis.port())).collect();
        let config =
            |_: &str| DirectoryConfig { url: "redis://".into(), cluster: seeds.clone(), ..DirectoryConfig::default() };
        Cluster::start_nodes(false, config, |_| {})
    }

    /// Returns the number of the master that has the key of a client, if it is registered.
    fn master_of(&self, key: &str) -> Option<usize> {
        self.all.iter().position(|redis| redis.cli(&["KEYS", &format!("uncork:gw:key:{{??}}:{key}")]) == "1")
    }
}

impl Drop for Masters {
    fn drop(&mut self) {
        self.all.iter_mut().for_each(Redis::kill);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn in_a_cluster_a_key_whose_master_is_away_is_unavailable_and_others_go_on() {
    let Some(mut masters) = Masters::start() else { return println!("skipped: redis-server is not installed") };
    let cluster = masters.cluster();
    let names: Vec<String> = (0..24).map(|n| format!("client-{n}")).collect();
    let mut clients: Vec<_> = names.iter().map(|name| (name.as_str(), connect(&cluster.a, name))).collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    cluster.c.send(&all, "all").is(200, r#"{"result":"OK"}"#);
    for (_, client) in &mut clients {
        client.receives("all");
    }
    cluster.b.send(&["nobody"], "x").is(200, &errors(&[(NOT_FOUND, "nobody")], "OK"));
    // The newest connection has the key, on whatever node.
    let mut other = connect(&cluster.b, "client-0");
    clients[0].1.is_closed(4000);
    cluster.c.send(&["client-0"], "moved").is(200, r#"{"result":"OK"}"#);
    other.receives("moved");
    other.close();
    clients.remove(0);
    until("the key is gone", || masters.master_of("client-0").is_none());

    let (away, there): (Vec<&str>, Vec<&str>) =
        clients.iter().map(|(name, _)| *name).partition(|name| masters.master_of(name) == Some(1));
    assert!(!away.is_empty() && !there.is_empty());
    masters.all[1].kill();
    cluster.wait_until("a master is away", |node| node.directory.status().state == EngineState::Disconnected);
    for (name, client) in &mut clients {
        let response = cluster.c.send(&[*name], "hello");
        if away.contains(name) {
            response.is(503, &errors(&[("directory unavailable", name)], "NG"));
            cluster.a.send(&[*name], "here").is(200, r#"{"result":"OK"}"#);
            client.receives("here");
        } else {
            response.is(200, r#"{"result":"OK"}"#);
            client.receives("hello");
        }
    }
    let _new = connect(&cluster.c, "new");
    // It comes back without its keys. A master that has restarted takes no writes for 2 s.
    masters.all[1].restart();
    let back = Instant::now();
    cluster.wait_until("connected again", Node::is_ready);
    for (name, client) in &mut clients {
        until("registered again", || masters.master_of(name).is_some());
        cluster.c.send(&[*name], "back").is(200, r#"{"result":"OK"}"#);
        client.receives("back");
    }
    assert!(back.elapsed() < Duration::from_secs(5 + 2), "{:?}", back.elapsed());
}
