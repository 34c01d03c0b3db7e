//! `/presence` and `/stats?nodes=all`: which clients are connected, where, and the numbers of all nodes.

use std::time::Instant;

use crate::{
    cluster::{Cluster, Node, connect},
    until, with_engine,
};

fn entry(key: &str, node: Option<&str>) -> String {
    match node {
        Some(node) => format!(r#"{{"connected":true,"node":"{node}","session":"{key}"}}"#),
        None => format!(r#"{{"connected":false,"session":"{key}"}}"#),
    }
}

fn known(entries: &[String]) -> String {
    format!("{{\"result\":\"OK\",\"sessions\":[{}]}}\n", entries.join(","))
}

/// The sessions are established, so that counters do not change any more.
fn is_settled(node: &Node, connections: u64) -> bool {
    node.get("/stats", &[]).text().starts_with(&format!("{{\"connections\":{connections},"))
}

fn presence_and_numbers(tls: bool) {
    with_engine(|redis| {
        let cluster = Cluster::start_over(tls, redis.port(), |config| config.limits.targets = 5);
        let _ann = connect(&cluster.a, "ann");
        let bob = connect(&cluster.b, "bob");
        let _eve = connect(&cluster.b, "eve");
        for node in cluster.all() {
            let response = node.get("/presence", &["bob", "nobody", "ann", "eve", "bob"]);
            let bob = || entry("bob", Some("b"));
            let want = [bob(), entry("nobody", None), entry("ann", Some("a")), entry("eve", Some("b")), bob()];
            response.is(200, &known(&want));
            node.get("/presence", &[]).is(200, "{\"keys\":3,\"nodes\":{\"a\":1,\"b\":2,\"c\":0},\"result\":\"OK\"}\n");
            assert!(node.get("/presence", &["x"; 6]).text().contains("too many session headers"));
        }
        // The sums, and the counters of each node.
        let of = |connections: u64, total: u64, messages: u64| {
            format!(
                r#""connections":{connections},"total_connections":{total},"total_messages":{messages},"connect_errors":0,"message_errors":0,"closing_connections":0"#
            )
        };
        let nodes = [("a", of(1, 1, 1)), ("b", of(2, 2, 2)), ("c", of(0, 0, 0))];
        let nodes: Vec<_> = nodes.iter().map(|(id, stats)| format!(r#""{id}":{{{stats}}}"#)).collect();
        let want = format!("{{{},\"nodes\":{{{}}}}}\n", of(3, 3, 3), nodes.join(","));
        for node in cluster.all() {
            node.get("/stats?nodes=all", &[]).is(200, &want);
            let text = node.get("/stats?format=tsv&nodes=all", &[]);
            assert_eq!(text.text().lines().count(), 4 * 6, "{}", text.text());
            for line in ["kuiperbelt.conn.current\t3\t", "kuiperbelt.nodes.b.messages.total\t2\t"] {
                assert!(text.text().contains(line), "{}", text.text());
            }
        }
        cluster.c.get("/stats", &[]).is(200, &format!("{{{}}}\n", of(0, 0, 0)));
        // A client that leaves is absent on every node.
        drop(bob);
        until("bob has left", || cluster.c.get("/presence", &["bob"]).text() == known(&[entry("bob", None)]));
        until("its connection is over", || is_settled(&cluster.b, 1));
    });
}

#[test]
fn presence_and_numbers_plain() {
    presence_and_numbers(false);
}

#[test]
fn presence_and_numbers_tls() {
    presence_and_numbers(true);
}

#[test]
fn a_node_that_does_not_respond_is_named() {
    with_engine(|redis| {
        let cluster = Cluster::start(redis.port(), |_| {});
        let _ann = connect(&cluster.a, "ann");
        let _eve = connect(&cluster.b, "eve");
        cluster.cut_way_to_a();
        let start = Instant::now();
        let response = cluster.c.get("/presence", &[]);
        response.is(200, "{\"keys\":1,\"nodes\":{\"a\":null,\"b\":1,\"c\":0},\"result\":\"OK\"}\n");
        assert_eq!(response.field("x-missing-nodes"), Some("a"));
        let response = cluster.b.get("/stats?nodes=all", &[]);
        assert!(
            response.text().starts_with("{\"connections\":1,") && response.text().contains(r#""nodes":{"a":null,"#)
        );
        assert_eq!(response.field("x-missing-nodes"), Some("a"));
        assert!(start.elapsed().as_secs() < 4, "{:?}", start.elapsed());
        // The directory knows where ann is. Of a key that it does not have, node a may have the client.
        cluster.c.get("/presence", &["ann"]).is(200, &known(&[entry("ann", Some("a"))]));
        let response = cluster.c.get("/presence", &["dan", "eve"]);
        let want = format!(
            "{{\"errors\":[{{\"error\":\"node unavailable\",\"session\":\"dan\"}}],\"result\":\"NG\",\"sessions\":[{}]}}\n",
            entry("eve", Some("b"))
        );
        response.is(503, &want);
        assert_eq!(response.field("retry-after"), Some("1"));
    });
}

#[test]
fn without_the_directory_no_client_is_called_absent() {
    with_engine(|mut redis| {
        let cluster = Cluster::start(redis.port(), |_| {});
        let _ann = connect(&cluster.a, "ann");
        let _eve = connect(&cluster.b, "eve");
        redis.kill();
        cluster.wait_until("disconnected", |node| !node.is_ready());
        cluster.a.get("/presence", &["ann"]).is(200, &known(&[entry("ann", Some("a"))]));
        for key in ["eve", "nobody"] {
            let want = format!(
                "{{\"errors\":[{{\"error\":\"directory unavailable\",\"session\":\"{key}\"}}],\"result\":\"NG\",\"sessions\":[{}]}}\n",
                entry("ann", Some("a"))
            );
            cluster.a.get("/presence", &["ann", key]).is(503, &want);
        }
        // The nodes are asked for their numbers, not the directory.
        cluster.c.get("/presence", &[]).is(200, "{\"keys\":2,\"nodes\":{\"a\":1,\"b\":1,\"c\":0},\"result\":\"OK\"}\n");
    });
}

#[test]
fn a_client_that_the_directory_has_lost_is_found_on_its_node() {
    with_engine(|redis| {
        let cluster = Cluster::start(redis.port(), |_| {});
        let _ann = connect(&cluster.a, "ann");
        redis.cli(&["DEL", "uncork:gw:key:ann"]);
        cluster
            .c
            .get("/presence", &["ann", "nobody"])
            .is(200, &known(&[entry("ann", Some("a")), entry("nobody", None)]));
    });
}
