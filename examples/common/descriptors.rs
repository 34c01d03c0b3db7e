//! How many connections fit into the descriptors that the system lets this process have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use uncork::Limits;

/// Descriptors for what is neither a connection nor there from the start: files that are read and logs that are opened
/// again, connections of operators, names that are looked up.
const RESERVE: u64 = 64;

/// A pipe of the system has two, and lends its receiver a third.
const PER_PIPE: u64 = 3;

/// What a server needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    /// Descriptors of one connection.
    pub(crate) per_connection: u64,
    /// Descriptors beside connections and the pipes of [`Limits::kernel_pipes`].
    pub(crate) others: u64,
    /// The most connections it makes itself: at most a quarter of all descriptors is kept for them.
    pub(crate) outgoing: u64,
}

/// Raises the soft limit to the hard one, and lowers what does not fit into it; then the log says so.
pub(crate) fn fit(limits: Limits, needs: Needs) -> Limits {
    let Some(most) = raise() else { return limits };
    let fitted = fitted(&limits, most, open(), needs);
    if fitted.connections < limits.connections {
        log::warn!(
            "the system lets this process open {most} files: --connections {} does not fit, {} do (LimitNOFILE, ulimit -n)",
            limits.connections,
            fitted.connections
        );
    }
    fitted
}

/// The limit on open files, if there is one.
fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            log::warn!("the limit on open files can't be raised: {error}");
            current
        }
    }
}

/// Files that are open now.
fn open() -> u64 {
    let open = std::fs::read_dir("/proc/self/fd").or_else(|_| std::fs::read_dir("/dev/fd"));
    open.map_or(RESERVE, |open| open.count() as u64)
}

/// The same limits, with as many pipes and connections as `most` descriptors are enough for.
fn fitted(limits: &Limits, most: u64, open: u64, needs: Needs) -> Limits {
    // Without a pipe bytes are copied: connections go before pipes.
    let pipes = (most / 16).min(limits.kernel_pipes as u64);
    let taken = open + needs.others + needs.outgoing.min(most / 4) + RESERVE + PER_PIPE * pipes;
    let connections = most.saturating_sub(taken) / needs.per_connection;
    let fewer = |limit: usize, fit: u64| usize::try_from(fit).unwrap_or(usize::MAX).min(limit);
    Limits {
        connections: fewer(limits.connections, connections).max(1),
        kernel_pipes: fewer(limits.kernel_pipes, pipes),
        ..limits.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_descriptors_together_fit() {
        let limits = Limits::default();
        let (plain, threads) = ((1, 10, 0), (3, 100, 4096));
        for (per_connection, others, outgoing) in [plain, threads] {
            let needs = Needs { per_connection, others, outgoing };
            for most in [400_u64, 1024, 4096, 65_536, 1 << 20] {
                let fit = fitted(&limits, most, 20, needs);
                let (connections, pipes) = (fit.connections as u64, fit.kernel_pipes as u64);
                let outgoing = outgoing.min(most / 4);
                let all = 20 + others + outgoing + RESERVE + PER_PIPE * pipes + connections * needs.per_connection;
                assert!(all <= most && connections > 1, "{needs:?}: {connections} and {pipes} of {most}");
            }
            assert_eq!(fitted(&limits, 1 << 20, 20, needs), limits, "what fits stays as it is");
            assert_eq!(fitted(&limits, 10, 20, needs).connections, 1);
        }
    }
}
