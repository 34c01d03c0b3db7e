//! Faults at random, under load: three relay processes, a real engine (`redis-server`), an application, an origin
//! server, WebSocket clients, transfers, and requests through the tunnel.
//!
//! ```text
//!   clients, transfers, requests ──▶ relay a ─┐            one fault at a time, chosen by a seed:
//!                                ──▶ relay b ─┼─▶ engine     a relay killed, stopped gracefully, or paused;
//!                                ──▶ relay c ─┘              the engine killed (its data is lost), or paused;
//!                        cuts between all of them            a relay cut from the engine, or from another relay
//! ```
//!
//! | file | content |
//! |---|---|
//! | `run` | what all threads share: the seed, the faults so far, and the rules that were broken |
//! | `cluster` | the processes, and the cuts between them |
//! | `fault` | the faults, and how each of them is repaired |
//! | `clients` | the WebSocket clients, and the application |
//! | `sends` | messages of the application to the clients |
//! | `transfers` | bodies through the rendezvous and the session relay |
//! | `tunnel` | the origin server, and requests to it |
//! | here | the order of things |
//!
//! | variable | default | |
//! |---|---|---|
//! | `UNCORK_CHAOS_SEED` | random | the seed that a failed run has printed |
//! | `UNCORK_CHAOS_SECONDS` | 60 | how long faults are made |
//! | `UNCORK_CHAOS_FAULTS` | 1000 | how many at most |
//! | `UNCORK_CHAOS_CLIENTS` | 300 | WebSocket clients |
//! | `UNCORK_CHAOS_KINDS` | all | the kinds of faults, with commas: see `fault` |
//!
//! Without `redis-server`, the test says that it was skipped.

#![cfg(all(feature = "directory", feature = "gateway", feature = "tls", feature = "tunnel"))]
#![expect(clippy::disallowed_methods, reason = "tests may sleep, and read the clock to bound a wait")]

#[path = "../support/client.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod client;
mod clients;
mod cluster;
#[path = "../directory/cut.rs"]
mod cut;
mod fault;
#[path = "../support/program.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod program;
#[path = "../directory/redis.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod redis;
mod run;
mod sends;
mod transfers;
mod tunnel;

use std::{
    sync::Arc,
    thread::{self, sleep},
    time::{Duration, Instant},
};

use clients::App;
use cluster::Cluster;
use fault::Fault;
use run::{Random, Run};

/// Threads of each kind.
const SENDERS: u64 = 4;
const TRANSFERS: u64 = 4;
const REQUESTS: u64 = 2;

/// The usual time of a short fault.
const SHORT: Duration = Duration::from_secs(10);

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: not a number")))
}

#[test]
fn rules_hold_while_parts_fail() {
    let seed = variable("UNCORK_CHAOS_SEED", u64::from(std::process::id()) << 20 ^ run::nanoseconds());
    println!("UNCORK_CHAOS_SEED={seed}");
    let run = Arc::new(Run::new(seed, variable("UNCORK_CHAOS_CLIENTS", 300) as usize));
    let app = App::start(run.clone());
    let Some(mut cluster) = Cluster::start(&run, &app) else {
        return println!("skipped: redis-server is not installed");
    };
    let origin = tunnel::origin(&cluster);
    tunnel::wait_for_origin(&run);
    let mut random = Random::new(seed);
    start_load(&run, &mut random);
    // The run ends with the first broken rule.
    let broken = |run: &Run| run.broken().is_some();
    sleep(Duration::from_secs(2));
    let _ = heal(&run, "the start", true, Instant::now());

    let (start, time) = (Instant::now(), Duration::from_secs(variable("UNCORK_CHAOS_SECONDS", 60)));
    let (mut made, most) = (0, variable("UNCORK_CHAOS_FAULTS", 1000));
    let mut deck = Vec::new();
    while made < most && !broken(&run) {
        if deck.is_empty() {
            deck = fault::kinds(&mut random);
        }
        let Some(kind) = deck.pop() else { break };
        let fault = Fault::of(kind, &mut random);
        if start.elapsed() + SHORT > time {
            break;
        }
        if start.elapsed() + fault.usual_time() > time {
            sleep(Duration::from_millis(100));
            continue;
        }
        made += 1;
        let number = run.begin(fault);
        fault.make(&mut cluster, &run, &mut random);
        run.repaired(number);
        if heal(&run, &format!("{fault:?}"), fault.loses_clients().is_some(), Instant::now()) {
            run.settled(number);
            if fault.loses_clients().is_some() {
                run.wait_for_reports();
            }
        }
        sleep(Duration::from_millis(500 + random.below(1500)));
    }
    if !broken(&run) {
        run.finish();
    }
    let report = run.report(made, start.elapsed());
    if let Some(broken) = run.broken() {
        println!("{report}");
        cluster.keep_logs();
        panic!("seed {seed}: {broken}");
    }
    println!("{report}");
    let _ = origin.stop_now();
}

fn start_load(run: &Arc<Run>, random: &mut Random) {
    let mut start = |count: u64, work: fn(&Arc<Run>, u64, Random)| {
        for n in 0..count {
            let (run, random) = (run.clone(), Random::new(random.next()));
            let thread = thread::Builder::new().stack_size(256 * 1024);
            thread.spawn(move || work(&run, n, random)).expect("a thread");
        }
    };
    start(run.clients.len() as u64, clients::live);
    start(SENDERS, |run, _, random| sends::send(run, random));
    start(TRANSFERS, transfers::transfer);
    start(REQUESTS, |run, _, random| tunnel::request(run, random));
    start(1, |run, _, _| sends::check(run));
}

/// Waits until everything is as before a fault, and records how long that takes. Returns `false` if a rule is broken.
fn heal(run: &Run, what: &str, clients_reconnect: bool, repaired: Instant) -> bool {
    // The longest pause between two attempts to connect to an engine that was away is 2 s.
    let registered = Duration::from_secs(5);
    let connected = if clients_reconnect { Duration::from_secs(20) } else { registered };
    let wait = |name: &str, limit: Duration, is: &dyn Fn() -> bool| {
        while !is() {
            if run.broken().is_some() {
                return false;
            }
            if repaired.elapsed() > limit {
                run.breaks(format!("after {what}: {name}: not within {limit:?}"));
                return false;
            }
            sleep(Duration::from_millis(50));
        }
        run.measured(name, repaired.elapsed(), what);
        true
    };
    wait("all nodes are ready", registered, &|| run.ports().iter().all(cluster::is_ready))
        && wait("all clients are reachable from all nodes", connected, &|| sends::reach_all(run))
        && wait("the tunnel responds on all nodes", Duration::from_secs(20), &|| tunnel::all_respond(run))
}
