//! Metrics in Prometheus' text format 0.0.4. Names begin with `uncork_`, and those of counters end with `_total`.

use std::{
    collections::BTreeMap,
    fmt::{Display, Write},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use rustix::{
    param::clock_ticks_per_second,
    process::{Resource, getrlimit},
};
use uncork::{
    AccessRecord, EndReason, Timeout,
    h1::Version,
    relay::{GatewayStats, RendezvousCounts, SessionCounts, SessionInfo},
};

use super::{json, lock::lock};

/// Classes of responses, by the first digit of the status; the first one is for requests without a response.
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

const VERSIONS: [Version; 3] = [Version::Http10, Version::Http11, Version::Http2];

/// Upper bounds of the histogram of requests' durations, in milliseconds. A request may wait for the other peer, so
/// they go far.
const BOUNDS: [u64; 12] = [5, 25, 100, 250, 1000, 2500, 10_000, 30_000, 60_000, 300_000, 1_800_000, 7_200_000];

/// A counter for each of some labels. They are few, and counted rarely: texts of the program, never a peer's.
type ByLabel<L> = Mutex<BTreeMap<L, u64>>;

/// Counters of the program.
pub(crate) struct Metrics {
    began: SystemTime,
    opened: AtomicU64,
    closed: AtomicU64,
    requests: [AtomicU64; CLASSES.len()],
    /// Requests by version, as in [`VERSIONS`].
    versions: [AtomicU64; VERSIONS.len()],
    received: AtomicU64,
    sent: AtomicU64,
    request_millis: AtomicU64,
    /// Requests by duration: one element for each bound, and one for all longer ones.
    durations: [AtomicU64; BOUNDS.len() + 1],
    /// Responses by their status, if it is that of an error.
    errors: ByLabel<u16>,
    /// Requests that broke a rule, by status and rule.
    rejected_requests: ByLabel<(u16, &'static str)>,
    /// Connections that were not accepted, by rule.
    rejected_connections: ByLabel<&'static str>,
    /// Connections that have ended, by reason.
    ends: ByLabel<&'static str>,
    reloads: AtomicU64,
    failed_reloads: AtomicU64,
}

impl Metrics {
    pub(crate) fn new(began: SystemTime) -> Self {
        let zero = AtomicU64::default;
        Self {
            began,
            opened: zero(),
            closed: zero(),
            requests: Default::default(),
            versions: Default::default(),
            received: zero(),
            sent: zero(),
            request_millis: zero(),
            durations: Default::default(),
            errors: ByLabel::default(),
            rejected_requests: ByLabel::default(),
            rejected_connections: ByLabel::default(),
            ends: ByLabel::default(),
            reloads: zero(),
            failed_reloads: zero(),
        }
    }

    pub(crate) fn opened(&self) {
        self.opened.fetch_add(1, Relaxed);
    }

    pub(crate) fn open_connections(&self) -> u64 {
        self.opened.load(Relaxed).saturating_sub(self.closed.load(Relaxed))
    }

    pub(crate) fn closed(&self, reason: &EndReason) {
        self.closed.fetch_add(1, Relaxed);
        count(&self.ends, label(reason));
    }

    /// Counts a connection that was not accepted.
    pub(crate) fn rejected(&self, reason: &EndReason) {
        count(&self.rejected_connections, rule(reason));
    }

    pub(crate) fn reloaded(&self, success: bool) {
        if success { &self.reloads } else { &self.failed_reloads }.fetch_add(1, Relaxed);
    }

    /// Counts a request that has ended.
    pub(crate) fn request(&self, access: &AccessRecord<'_>) {
        let class = usize::from(access.status / 100).min(CLASSES.len() - 1);
        self.requests[class].fetch_add(1, Relaxed);
        if let Some(head) = access.head
            && let Some(at) = VERSIONS.iter().position(|version| *version == head.version())
        {
            self.versions[at].fetch_add(1, Relaxed);
        }
        self.received.fetch_add(access.received, Relaxed);
        self.sent.fetch_add(access.written, Relaxed);
        let time = access.ended.duration_since(access.began).unwrap_or_default();
        self.request_millis.fetch_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Relaxed);
        let bound = BOUNDS.iter().position(|bound| time <= Duration::from_millis(*bound)).unwrap_or(BOUNDS.len());
        self.durations[bound].fetch_add(1, Relaxed);
        if access.status >= 400 {
            count(&self.errors, access.status);
        }
        if let EndReason::Rejected { status, .. } = *access.reason {
            count(&self.rejected_requests, (status, rule(access.reason)));
        }
    }

    fn durations(&self, page: &mut Page) {
        let name = "request_duration_seconds";
        page.family(name, "histogram", "Time from a request's head to its end, including the wait for the other peer");
        // Each bucket includes the ones before it.
        let mut count = 0;
        for (bound, requests) in BOUNDS.iter().zip(&self.durations) {
            count += requests.load(Relaxed);
            page.sample("request_duration_seconds_bucket", &format!("{{le=\"{}\"}}", Millis(*bound)), count);
        }
        count += self.durations[BOUNDS.len()].load(Relaxed);
        page.sample("request_duration_seconds_bucket", "{le=\"+Inf\"}", count);
        page.sample("request_duration_seconds_sum", "", Millis(self.request_millis.load(Relaxed)));
        page.sample("request_duration_seconds_count", "", count);
    }

    /// Writes the metrics of the program.
    pub(crate) fn page(&self, ready: bool) -> Page {
        let mut page = Page::default();
        page.family("build_info", "gauge", "Always 1; the label has the version");
        page.sample("build_info", concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1);
        page.counter("connections_total", "Connections accepted", self.opened.load(Relaxed));
        page.gauge("open_connections", "Connections that are open now", self.open_connections());
        page.family("requests_total", "counter", "Requests that have ended, by the class of the response's status");
        for (class, count) in CLASSES.iter().zip(&self.requests) {
            page.sample("requests_total", &format!("{{status=\"{class}\"}}"), count.load(Relaxed));
        }
        let name = "requests_by_version_total";
        page.family(name, "counter", "Requests that have ended, by the version of HTTP");
        for (version, count) in VERSIONS.iter().zip(&self.versions) {
            page.sample(name, &format!("{{version=\"{version}\"}}"), count.load(Relaxed));
        }
        self.durations(&mut page);
        let name = "error_responses_total";
        page.family(name, "counter", "Responses of 400 and above, by status, of the services and of the engine");
        for (status, count) in &*lock(&self.errors) {
            page.sample(name, &format!("{{status=\"{status}\"}}"), count);
        }
        let name = "rejected_requests_total";
        page.family(name, "counter", "Requests that broke a rule of HTTP or a limit of the engine, by that rule");
        for ((status, rule), count) in &*lock(&self.rejected_requests) {
            page.sample(name, &format!("{{status=\"{status}\",rule={}}}", json::line(rule)), count);
        }
        let name = "rejected_connections_total";
        page.family(name, "counter", "Connections that were closed unread, by the limit or the rule");
        for (rule, count) in &*lock(&self.rejected_connections) {
            page.sample(name, &format!("{{rule={}}}", json::line(rule)), count);
        }
        let name = "closed_connections_total";
        page.family(name, "counter", "Connections that have ended, by reason");
        for (reason, count) in &*lock(&self.ends) {
            page.sample(name, &format!("{{reason=\"{reason}\"}}"), count);
        }
        page.counter("received_bytes_total", "Bytes of request bodies", self.received.load(Relaxed));
        page.counter("sent_bytes_total", "Bytes of response bodies", self.sent.load(Relaxed));
        page.gauge("ready", "1, or 0 while the program shuts down", u8::from(ready));
        let (succeeded, failed) = (self.reloads.load(Relaxed), self.failed_reloads.load(Relaxed));
        page.family("reloads_total", "counter", "Reloads of the configuration, by outcome");
        page.sample("reloads_total", "{outcome=\"success\"}", succeeded);
        page.sample("reloads_total", "{outcome=\"failure\"}", failed);
        page.process(self.began);
        page
    }
}

fn count<L: Ord>(counters: &ByLabel<L>, label: L) {
    *lock(counters).entry(label).or_default() += 1;
}

/// Returns the rule that a rejected peer broke.
fn rule(reason: &EndReason) -> &'static str {
    match reason {
        EndReason::Rejected { rule, .. } => rule,
        other => label(other),
    }
}

/// Returns the reason in a word.
fn label(reason: &EndReason) -> &'static str {
    match reason {
        EndReason::Complete => "complete",
        EndReason::PeerClosed => "peer-closed",
        EndReason::TimedOut(timeout) => match timeout {
            Timeout::Handshake => "handshake-timeout",
            Timeout::Head => "head-timeout",
            Timeout::Idle => "idle-timeout",
            Timeout::Body => "body-timeout",
            Timeout::Send => "send-timeout",
            Timeout::Linger => "linger-timeout",
            _ => "timeout",
        },
        EndReason::Rejected { .. } => "rejected",
        EndReason::Stopped => "stopped",
        EndReason::Aborted => "aborted",
        EndReason::Panicked => "panicked",
        EndReason::Io(_) => "io-error",
        _ => "other",
    }
}

/// A number of milliseconds, shown in seconds.
struct Millis(u64);

impl Display for Millis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// The text of the metrics, while it is written.
#[derive(Default)]
pub(crate) struct Page(pub(crate) String);

impl Page {
    pub(crate) fn sessions(&mut self, sessions: &[SessionInfo], counts: SessionCounts) {
        let sum = |of: fn(&SessionInfo) -> usize| sessions.iter().map(of).sum::<usize>();
        self.gauge("sessions", "Sessions of the session relay", sessions.len());
        self.gauge("unused_sessions", "Sessions that no peer has ever connected to", counts.unused);
        self.counter("evicted_sessions_total", "Unused sessions that were evicted for new ones", counts.evicted);
        self.counter("rejected_sessions_total", "Allocations of sessions rejected by a limit", counts.rejected);
        self.gauge("session_transfers", "Messages in transit in sessions", sum(|session| session.transfers));
        self.family("session_waiting", "gauge", "Requests in sessions that wait for the other peer");
        self.sample("session_waiting", "{role=\"receiver\"}", sum(|session| session.receivers));
        self.sample("session_waiting", "{role=\"sender\"}", sum(|session| session.senders));
    }

    pub(crate) fn rendezvous(&mut self, counts: RendezvousCounts) {
        self.family("streams", "gauge", "Streams of the rendezvous; ended: their status records");
        for (state, count) in [("waiting", counts.waiting), ("running", counts.running), ("ended", counts.over)] {
            self.sample("streams", &format!("{{state=\"{state}\"}}"), count);
        }
        self.gauge("unused_streams", "Waiting streams to which no peer is connected", counts.unused);
        self.counter("evicted_streams_total", "Unused streams that were evicted for new ones", counts.evicted);
        self.counter("rejected_streams_total", "Creations of streams rejected by a limit", counts.rejected);
    }

    pub(crate) fn gateway(&mut self, stats: GatewayStats) {
        self.gauge("gateway_clients", "Clients of the gateway that are connected or connecting", stats.connections);
        self.counter("gateway_connects_total", "Requests to connect to the gateway", stats.total_connections);
        self.counter(
            "gateway_connect_errors_total",
            "Requests to connect that failed; rejections are not counted",
            stats.connect_errors,
        );
        self.counter("gateway_messages_total", "Messages to the gateway's clients", stats.total_messages);
        self.counter(
            "gateway_message_errors_total",
            "Messages to clients that could not be written",
            stats.message_errors,
        );
        self.counter(
            "gateway_lost_messages_total",
            "Messages of the gateway's clients that the application did not accept",
            stats.lost_messages,
        );
        self.counter("gateway_close_errors_total", "Failed close callbacks of the application", stats.close_errors);
        self.counter(
            "gateway_rejected_clients_total",
            "Clients of the gateway closed for a WebSocket protocol error or limit",
            stats.rejected_clients,
        );
        self.counter(
            "gateway_upstream_requests_total",
            "Requests that were passed on to the gateway's upstream",
            stats.upstream_requests,
        );
        self.counter(
            "gateway_upstream_errors_total",
            "Requests for the gateway's upstream that got no response of it",
            stats.upstream_errors,
        );
        self.gauge("gateway_closing", "Close callbacks of the application in progress", stats.closing_connections);
    }

    pub(crate) fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "counter", help);
        self.sample(name, "", value);
    }

    pub(crate) fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, "", value);
    }

    pub(crate) fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP uncork_{name} {help}.\n# TYPE uncork_{name} {kind}");
    }

    pub(crate) fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = writeln!(self.0, "uncork_{name}{labels} {value}");
    }

    /// Writes the standard metrics of a process, as far as Linux provides them cheaply.
    fn process(&mut self, began: SystemTime) {
        let mut gauge = |name: &str, help: &str, value: &dyn Display| {
            let _ =
                writeln!(self.0, "# HELP process_{name} {help}.\n# TYPE process_{name} gauge\nprocess_{name} {value}");
        };
        let began = began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        gauge("start_time_seconds", "Start of the process, in seconds since 1970", &began);
        if let Some(limit) = getrlimit(Resource::Nofile).current {
            gauge("max_fds", "Limit of open file descriptors", &limit);
        }
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
        if let Some(kilobytes) = field("VmRSS:").and_then(|word| word.parse::<u64>().ok()) {
            gauge("resident_memory_bytes", "Resident memory", &(kilobytes * 1024));
        }
        if let Some(threads) = field("Threads:") {
            gauge("threads", "Threads", &threads);
        }
        if let Ok(fds) = std::fs::read_dir("/proc/self/fd") {
            // One of them belongs to this directory listing.
            gauge("open_fds", "Open file descriptors", &fds.count().saturating_sub(1));
        }
        if let Some(ticks) = ticks(&std::fs::read_to_string("/proc/self/stat").unwrap_or_default()) {
            let name = "process_cpu_seconds_total";
            let _ = writeln!(self.0, "# HELP {name} Processor time in user and system mode.");
            let _ =
                writeln!(self.0, "# TYPE {name} counter\n{name} {}", Millis(ticks * 1000 / clock_ticks_per_second()));
        }
    }
}

/// Returns utime and stime of proc_pid_stat(5), the 14th and 15th field. The second field, in brackets, may have any
/// text.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

#[cfg(test)]
mod tests {
    use uncork::relay::nodes::{Nodes, NodesConfig};

    use super::*;

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let stat = "42 (a) b (c) S 1 1 1 0 -1 4194560 100 0 0 0 123 45 0 0 20 0 5 0 100 1000 100";
        assert_eq!(ticks(stat), Some(168));
        assert_eq!((ticks(""), ticks("42 (x) S 1")), (None, None));
    }

    #[test]
    fn every_sample_has_its_family() {
        let metrics = Metrics::new(SystemTime::UNIX_EPOCH);
        metrics.opened();
        metrics.request_millis.store(1234, Relaxed);
        let mut page = metrics.page(true);
        page.sessions(&[], SessionCounts::default());
        page.rendezvous(RendezvousCounts::default());
        page.gateway(GatewayStats::default());
        super::super::tunnel::write_metrics(&mut page, uncork::relay::tunnel::ProxyCounts::default());
        let other = ("b".to_owned(), "http://b:1".to_owned());
        let (id, key) = ("a".to_owned(), vec![0; 32]);
        let nodes = NodesConfig { id, key, nodes: vec![other], ..NodesConfig::default() };
        super::super::nodes::write_metrics(&mut page, &Nodes::new(nodes).expect("valid"));
        let page = page.0;
        let mut families: Vec<(String, String)> = Vec::new();
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a kind");
                // OpenMetrics leaves the `_total` away from a counter's name: then, too, no two are the same.
                let base = |name: &str| name.trim_end_matches("_total").to_owned();
                assert!(families.iter().all(|(other, _)| base(other) != base(name)), "{name} twice");
                families.push((name.to_owned(), kind.to_owned()));
            } else if !line.starts_with("# HELP ") {
                let (name, value) = line.rsplit_once(' ').expect("a value");
                let name = name.split('{').next().unwrap_or_default();
                let (family, kind) = families.last().expect("a family");
                let is_part = |end: &str| name.strip_suffix(end) == Some(family);
                let is_histogram = kind == "histogram" && ["_bucket", "_sum", "_count"].into_iter().any(is_part);
                assert!(name == family || is_histogram, "{line}");
                assert!(value.parse::<f64>().is_ok(), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            }
        }
        assert!(
            page.contains("\nuncork_open_connections 1\n")
                && page.contains("\nuncork_request_duration_seconds_sum 1.234\n")
        );
    }
}
