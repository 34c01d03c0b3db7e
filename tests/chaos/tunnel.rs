//! The origin server behind the tunnel, and requests to it through any node.

use std::{
    io,
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use uncork::{Request, Response, Running, TlsClient, relay::tunnel::Tunnel};

use crate::{
    cluster::{Cluster, TOKEN, exchange},
    program::identity,
    run::{Random, Run},
};

/// Starts the origin server. Its response has as many bytes as the path says.
pub(crate) fn origin(cluster: &Cluster) -> Running {
    let pem = std::fs::read(&identity().cert).expect("a certificate");
    let address = cluster.addresses().next().expect("a node");
    let tunnel = Tunnel::dial(&address).tls(TlsClient::roots_pem(&pem).expect("a root")).token(TOKEN);
    let tunnel = tunnel.host("app.example").backoff(Duration::from_millis(100));
    let running = tunnel.threads(1, |req: &mut Request<'_>| {
        Response::text(text(req.path().trim_start_matches('/').parse().unwrap_or_default()))
    });
    running.expect("running")
}

fn text(length: usize) -> String {
    (0..length).map(|at| char::from(b'a' + ((at * 7 + length) % 26) as u8)).collect()
}

fn get(run: &Run, node: usize, length: usize) -> io::Result<(u16, bool)> {
    let (port, line) = (run.ports()[node].plain, format!("GET /{length}"));
    let response = exchange(port, &line, &["Host: app.example"], b"")?;
    Ok((response.status, response.body == text(length).as_bytes()))
}

/// Waits until the origin server can be reached through every node: it has just begun to connect.
pub(crate) fn wait_for_origin(run: &Run) {
    let began = Instant::now();
    while !(0..run.ports().len()).all(|node| matches!(get(run, node, 10), Ok((200, true)))) {
        assert!(began.elapsed() < Duration::from_secs(30), "the origin server does not connect");
        sleep(Duration::from_millis(50));
    }
}

pub(crate) fn request(run: &Arc<Run>, mut random: Random) {
    while !run.is_over() {
        sleep(Duration::from_millis(10 + random.below(40)));
        let (node, length) = (run.live_node(&mut random), random.below(100_000) as usize);
        let began = Instant::now();
        match get(run, node, length) {
            Ok((200, true)) => run.count("requests through the tunnel"),
            Ok((200, false)) => run.breaks(format!("a wrong response through the tunnel of node {node}")),
            other => {
                run.count("requests through the tunnel that failed");
                if !run.had_any(began) {
                    run.breaks(format!("no response through the tunnel of node {node}: {other:?}"));
                }
            }
        }
    }
}

/// Returns `true` if all nodes have the origin server.
pub(crate) fn all_respond(run: &Run) -> bool {
    (0..3).all(|node| matches!(get(run, node, 1000), Ok((200, true))))
}
