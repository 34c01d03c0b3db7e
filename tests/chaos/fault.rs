//! The faults, and how each of them is repaired.

use std::{thread::sleep, time::Duration};

use rustix::process::Signal;

use crate::{
    cluster::Cluster,
    run::{LEASE, Random, Run},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A node is killed, and started again.
    Kill(usize),
    /// A node stops gracefully, and is started again.
    Terminate(usize),
    /// A node does nothing for a while.
    Pause(usize),
    /// The engine is killed, and started again without data.
    KillEngine,
    /// The engine does nothing for a while.
    PauseEngine,
    /// A node cannot reach the engine.
    CutEngine(usize),
    /// The same, for longer than a lease.
    CutEngineForLong(usize),
    /// Two nodes cannot reach each other.
    CutNodes(usize, usize),
}

const KINDS: [&str; 7] = ["kill", "terminate", "pause", "kill-engine", "pause-engine", "cut-engine", "cut-nodes"];

/// Returns each kind once, in a random order.
pub(crate) fn kinds(random: &mut Random) -> Vec<&'static str> {
    let only = std::env::var("UNCORK_CHAOS_KINDS").ok();
    let is_wanted = |kind: &&&str| only.as_ref().is_none_or(|only| only.split(',').any(|own| own == **kind));
    let mut kinds: Vec<&str> = KINDS.iter().filter(is_wanted).copied().collect();
    for i in (1..kinds.len()).rev() {
        kinds.swap(i, random.below(i as u64 + 1) as usize);
    }
    kinds
}

impl Fault {
    pub(crate) fn of(kind: &str, random: &mut Random) -> Self {
        let node = random.below(3) as usize;
        match kind {
            "kill" => Self::Kill(node),
            "terminate" => Self::Terminate(node),
            "pause" => Self::Pause(node),
            "kill-engine" => Self::KillEngine,
            "pause-engine" => Self::PauseEngine,
            "cut-engine" if random.below(6) == 0 => Self::CutEngineForLong(node),
            "cut-engine" => Self::CutEngine(node),
            _ => Self::CutNodes(node, (node + 1) % 3),
        }
    }

    /// How long it takes, with everything that is waited for after it.
    pub(crate) fn usual_time(self) -> Duration {
        Duration::from_secs(match self {
            Self::CutEngineForLong(_) => 40,
            Self::Kill(_) | Self::Terminate(_) => 25,
            _ => 10,
        })
    }

    /// Returns the node whose clients are disconnected.
    pub(crate) fn loses_clients(self) -> Option<usize> {
        match self {
            Self::Kill(node) | Self::Terminate(node) => Some(node),
            _ => None,
        }
    }

    /// Returns `true` if this node does not serve.
    pub(crate) fn stops(self, node: usize) -> bool {
        matches!(self, Self::Kill(own) | Self::Terminate(own) | Self::Pause(own) if own == node)
    }

    /// Returns `true` if bytes that go from one of the nodes to the other may be lost.
    pub(crate) fn separates(self, one: usize, other: usize) -> bool {
        let is_cut = matches!(self, Self::CutNodes(a, b) if [(a, b), (b, a)].contains(&(one, other)));
        is_cut || self.stops(one) || self.stops(other)
    }

    /// Makes it, waits, and repairs it.
    pub(crate) fn make(self, cluster: &mut Cluster, run: &Run, random: &mut Random) {
        // Less than the 10 s after which a node without a sign of life may be lost.
        let time = Duration::from_millis(500 + random.below(5500));
        match self {
            Self::Kill(node) => {
                cluster.kill(node);
                sleep(time);
                cluster.start_again(node);
            }
            Self::Terminate(node) => {
                if !cluster.terminate(node) {
                    return run.breaks(format!("node {node} has not stopped 30 s after SIGTERM"));
                }
                sleep(time);
                cluster.start_again(node);
            }
            Self::Pause(node) => {
                cluster.signal(node, Signal::STOP);
                sleep(time);
                cluster.signal(node, Signal::CONT);
            }
            Self::KillEngine => {
                cluster.engine.kill();
                sleep(time);
                cluster.engine.restart();
            }
            Self::PauseEngine => {
                cluster.signal_engine(Signal::STOP);
                sleep(time);
                cluster.signal_engine(Signal::CONT);
            }
            Self::CutEngine(node) | Self::CutEngineForLong(node) => {
                cluster.engine_of[node].cut();
                sleep(if self == Self::CutEngine(node) { time } else { LEASE + Duration::from_secs(3) });
                cluster.engine_of[node].mend();
            }
            Self::CutNodes(a, b) => {
                cluster.between.iter().filter(|way| way.is_of(a, b)).for_each(|way| way.cut.cut());
                sleep(time);
                cluster.between.iter().filter(|way| way.is_of(a, b)).for_each(|way| way.cut.mend());
            }
        }
    }
}
