//! What 100,000 leases cost this program, with a real engine. Takes half a minute, so it runs only when it is asked for:
//!
//!     cargo test --release --lib what_many_leases_cost -- --ignored --nocapture

use std::{fs, net::TcpListener, process, sync::mpsc, thread, time::Duration};

use uncork::{Request, Response, Server};

use super::{
    super::{DirectoryConfig, EngineState, Nodes, NodesConfig},
    handle::Directory,
    holder::Key,
};

const LEASES: usize = 100_000;
const TIME: Duration = Duration::from_secs(30);

/// Returns the processor time of all threads of this process.
fn processor_time() -> Duration {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let of = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
    };
    tasks.filter_map(|task| of(task.unwrap())).sum()
}

#[test]
#[ignore = "takes half a minute and measures: see above"]
#[expect(clippy::disallowed_methods, reason = "time is measured")]
fn what_many_leases_cost() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut engine = process::Command::new("redis-server");
    engine.args(["--port", &port.to_string(), "--save", "", "--appendonly", "no"]).stdout(process::Stdio::null());
    let mut engine = engine.spawn().expect("redis-server is installed");
    let nodes = Nodes::new(NodesConfig { id: "a".into(), key: vec![7; 32], ..NodesConfig::default() }).unwrap();
    let config = DirectoryConfig { url: format!("redis://127.0.0.1:{port}"), ..DirectoryConfig::default() };
    let directory = Directory::new(config, nodes).unwrap();
    let server = Server::new().threads(1, |_: &mut Request<'_>| Response::new(404)).unwrap();
    directory.start(&server.loops()[0]);
    while directory.status().state != EngineState::Ready {
        thread::sleep(Duration::from_millis(10));
    }
    for batch in 0..LEASES / 1000 {
        let (sender, receiver) = mpsc::channel();
        for n in 0..1000 {
            let key: Key = format!("session-{batch}-{n}").into_bytes().into();
            let sender = sender.clone();
            directory.claim(&key, std::time::SystemTime::now(), move |claimed| {
                assert!(claimed.before.is_none());
                sender.send(()).unwrap();
            });
        }
        (0..1000).for_each(|_| receiver.recv_timeout(Duration::from_secs(20)).unwrap());
    }
    // The first renewals may be in progress.
    thread::sleep(Duration::from_secs(10));
    let (before, commands) = (processor_time(), directory.status().commands);
    thread::sleep(TIME);
    let share = (processor_time() - before).as_secs_f64() / TIME.as_secs_f64();
    let renewed = (directory.status().commands - commands) as f64 / TIME.as_secs_f64();
    println!("{LEASES} leases: {:.2} % of a core, {renewed:.0} commands a second", share * 100.0);
    assert_eq!(directory.leases(), LEASES);
    directory.stop();
    server.stop_now().unwrap();
    engine.kill().and_then(|()| engine.wait()).unwrap();
}
