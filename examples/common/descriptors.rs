//! Fits limits to the number of file descriptors that the system allows this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use uncork::Limits;

/// Descriptors for everything that is neither a connection nor open at the start: files, logs that are opened again,
/// connections of operators, name resolution.
const RESERVE: u64 = 64;

/// A kernel pipe has two descriptors, and its receiver a third.
const PER_PIPE: u64 = 3;

/// Descriptors that a server needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    /// Descriptors of one connection.
    pub(crate) per_connection: u64,
    /// Descriptors other than connections and the pipes of [`Limits::kernel_pipes`].
    pub(crate) others: u64,
    /// Maximum number of outbound connections; at most a quarter of all descriptors is reserved for them.
    pub(crate) outgoing: u64,
}

/// Raises the soft limit to the hard limit, and lowers connections and pipes that do not fit, with a warning in the
/// log.
pub(crate) fn fit(limits: Limits, needs: Needs) -> Limits {
    let Some(max) = raise_limit() else { return limits };
    let fitted = fitted(&limits, max, open_files(), needs);
    if fitted.connections < limits.connections {
        log::warn!(
            "the system allows this process {max} open files: --connections {} is lowered to {} (see LimitNOFILE, ulimit -n)",
            limits.connections,
            fitted.connections
        );
    }
    fitted
}

/// Raises the limit of open files, and returns it; `None` for no limit.
fn raise_limit() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            log::warn!("cannot raise the limit of open files: {error}");
            current
        }
    }
}

/// Returns the number of open files.
fn open_files() -> u64 {
    let open = std::fs::read_dir("/proc/self/fd").or_else(|_| std::fs::read_dir("/dev/fd"));
    open.map_or(RESERVE, |open| open.count() as u64)
}

/// Returns how many of `wanted` concurrent requests the descriptors suffice for, if each needs one; a lower number is
/// logged.
#[allow(dead_code, reason = "only `origin` needs it")]
pub(crate) fn fit_requests(wanted: usize) -> usize {
    let Some(max) = raise_limit() else { return wanted };
    let fit = usize::try_from(max.saturating_sub(RESERVE).max(1)).unwrap_or(usize::MAX);
    if fit < wanted {
        log::warn!(
            "the system allows this process {max} open files: concurrent requests are lowered to {fit}, from {wanted}"
        );
    }
    fit.min(wanted)
}

/// Returns the limits with as many pipes and connections as fit into `max` descriptors.
fn fitted(limits: &Limits, max: u64, open: u64, needs: Needs) -> Limits {
    // Without a pipe, bytes are copied: connections have priority.
    let pipes = (max / 16).min(limits.kernel_pipes as u64);
    let taken = open + needs.others + needs.outgoing.min(max / 4) + RESERVE + PER_PIPE * pipes;
    let connections = max.saturating_sub(taken) / needs.per_connection;
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
            for max in [400_u64, 1024, 4096, 65_536, 1 << 20] {
                let fit = fitted(&limits, max, 20, needs);
                let (connections, pipes) = (fit.connections as u64, fit.kernel_pipes as u64);
                let outgoing = outgoing.min(max / 4);
                let all = 20 + others + outgoing + RESERVE + PER_PIPE * pipes + connections * needs.per_connection;
                assert!(all <= max && connections > 1, "{needs:?}: {connections} and {pipes} of {max}");
            }
            assert_eq!(fitted(&limits, 1 << 20, 20, needs), limits, "limits that fit are unchanged");
            assert_eq!(fitted(&limits, 10, 20, needs).connections, 1);
        }
    }
}
