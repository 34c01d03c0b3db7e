//! Resolves names on threads, because the system's resolver blocks.
//!
//! ```text
//!   loop ──job──▶ [ queue ] ──▶ a few threads, which end when idle ──then──▶ loop
//! ```

use std::{
    collections::VecDeque,
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use crate::base::lock;

/// The maximum number of threads. A name server that does not respond blocks each of them for some seconds.
const THREADS: usize = 4;
/// The maximum number of jobs in the queue.
const JOBS: usize = 1024;
/// How long an idle thread waits for a job.
const THREAD_IDLE_TIMEOUT: Duration = Duration::from_secs(5);

type Job = Box<dyn FnOnce() + Send>;

/// Runs blocking jobs on a few threads.
#[derive(Clone, Default)]
pub(super) struct Resolver(Arc<(Mutex<Work>, Condvar)>);

#[derive(Default)]
struct Work {
    jobs: VecDeque<Job>,
    threads: usize,
    waiting: usize,
}

impl Resolver {
    /// Queues a job. Returns `false`, and drops it, if the queue is full or no thread can be started.
    pub(super) fn run(&self, job: impl FnOnce() + Send + 'static) -> bool {
        let (work, condvar) = &*self.0;
        let mut work = lock(work);
        if work.jobs.len() >= JOBS {
            return false;
        }
        work.jobs.push_back(Box::new(job));
        if work.waiting >= work.jobs.len() {
            condvar.notify_one();
        } else if work.threads < THREADS {
            let resolver = self.clone();
            match std::thread::Builder::new().name("uncork-names".to_owned()).spawn(move || resolver.work()) {
                Ok(_) => work.threads += 1,
                Err(error) => {
                    log::warn!(target: "uncork::client", "cannot start a thread to resolve names: {error}");
                    if work.threads == 0 {
                        work.jobs.pop_back();
                        return false;
                    }
                }
            }
        }
        true
    }

    fn work(&self) {
        let (jobs, condvar) = &*self.0;
        let mut work = lock(jobs);
        loop {
            if let Some(job) = work.jobs.pop_front() {
                drop(work);
                // No application code: its callbacks run on the loop.
                job();
                work = lock(jobs);
                continue;
            }
            work.waiting += 1;
            let (back, late) = condvar.wait_timeout(work, THREAD_IDLE_TIMEOUT).unwrap_or_else(PoisonError::into_inner);
            work = back;
            work.waiting -= 1;
            if late.timed_out() && work.jobs.is_empty() {
                work.threads -= 1;
                return;
            }
        }
    }
}

/// Returns the addresses of a host in the order of attempts: the families alternate (RFC 8305 §4), beginning with that
/// of the system's first address (RFC 6724).
pub(super) fn addresses(host: &str, port: u16) -> io::Result<VecDeque<SocketAddr>> {
    Ok(interleaved((host, port).to_socket_addrs()?))
}

fn interleaved(all: impl Iterator<Item = SocketAddr>) -> VecDeque<SocketAddr> {
    let mut seen = Vec::new();
    for addr in all {
        if !seen.contains(&addr) {
            seen.push(addr);
        }
    }
    let prefers_ipv6 = seen.first().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second): (VecDeque<_>, VecDeque<_>) =
        seen.into_iter().partition(|addr| addr.is_ipv6() == prefers_ipv6);
    let mut order = VecDeque::new();
    while !(first.is_empty() && second.is_empty()) {
        order.extend(first.pop_front());
        order.extend(second.pop_front());
    }
    order
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn address_families_alternate() {
        let parse = |text: &str| text.split(' ').map(|a| a.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let all = parse("[::1]:1 [::2]:1 [::3]:1 1.1.1.1:1 [::1]:1 2.2.2.2:1");
        let expected = parse("[::1]:1 1.1.1.1:1 [::2]:1 2.2.2.2:1 [::3]:1");
        assert_eq!(interleaved(all.into_iter()), expected);
        let all = parse("1.1.1.1:1 [::1]:1 [::2]:1");
        assert_eq!(interleaved(all.clone().into_iter()), all);
        assert!(interleaved(std::iter::empty()).is_empty());
    }

    #[test]
    fn a_few_threads_do_many_jobs() {
        let resolver = Resolver::default();
        let (sender, receiver) = channel();
        for n in 0..100 {
            let sender = sender.clone();
            assert!(resolver.run(move || sender.send(n).unwrap()));
        }
        let mut received: Vec<i32> = receiver.iter().take(100).collect();
        received.sort_unstable();
        assert!(received.into_iter().eq(0..100));
        assert!(resolver.0.0.lock().unwrap().threads <= THREADS);
    }

    #[test]
    fn the_queue_is_bounded() {
        let resolver = Resolver::default();
        let (release, blocked) = channel::<()>();
        let blocked = Arc::new(Mutex::new(blocked));
        let queued = (0..2 * JOBS)
            .filter(|_| {
                let blocked = blocked.clone();
                resolver.run(move || assert!(blocked.lock().unwrap().recv().is_err()))
            })
            .count();
        assert!((JOBS..=JOBS + THREADS).contains(&queued), "{queued}");
        drop(release);
    }
}
