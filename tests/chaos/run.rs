//! What all threads share: the clients, the faults so far, and the rules that were broken.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::sleep,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    clients::{Client, Keys},
    cluster::Ports,
    fault::Fault,
    sends::Messages,
};

/// The application is told of clients of a lost node within this time.
pub(crate) const LEASE: Duration = Duration::from_secs(30);

/// A sequence of numbers that a seed decides (splitmix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `n`, which is not 0.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

pub(crate) fn nanoseconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| u64::from(time.subsec_nanos()))
}

/// A fault of this run.
#[derive(Clone, Debug)]
struct Made {
    fault: Fault,
    from: Instant,
    repaired: Option<Instant>,
    /// When everything was found to be as before.
    settled: Option<Instant>,
}

pub(crate) struct Run {
    pub(crate) seed: u64,
    start: Instant,
    /// By the number of the client.
    pub(crate) clients: Vec<Mutex<Client>>,
    pub(crate) keys: Mutex<Keys>,
    pub(crate) messages: Mutex<Messages>,
    ports: OnceLock<[Ports; 3]>,
    faults: Mutex<Vec<Made>>,
    broken: Mutex<Option<String>>,
    /// The longest time of each kind, and after which fault.
    times: Mutex<BTreeMap<String, (Duration, String)>>,
    counts: Mutex<BTreeMap<String, u64>>,
    is_over: AtomicBool,
    next_number: AtomicU64,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Run {
    pub(crate) fn new(seed: u64, clients: usize) -> Self {
        Self {
            seed,
            start: Instant::now(),
            clients: (0..clients).map(|_| Mutex::default()).collect(),
            keys: Mutex::default(),
            messages: Mutex::default(),
            ports: OnceLock::new(),
            faults: Mutex::default(),
            broken: Mutex::default(),
            times: Mutex::default(),
            counts: Mutex::default(),
            is_over: AtomicBool::new(false),
            next_number: AtomicU64::new(1),
        }
    }

    pub(crate) fn set_ports(&self, ports: [Ports; 3]) {
        self.ports.set(ports).expect("once");
    }

    pub(crate) fn ports(&self) -> &[Ports; 3] {
        self.ports.get().expect("set")
    }

    pub(crate) fn number(&self) -> u64 {
        self.next_number.fetch_add(1, Relaxed)
    }

    /// Returns `true` when no more load is wanted.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }

    pub(crate) fn begin(&self, fault: Fault) -> usize {
        println!("{:7.2} s: {fault:?}", self.start.elapsed().as_secs_f32());
        let mut faults = lock(&self.faults);
        faults.push(Made { fault, from: Instant::now(), repaired: None, settled: None });
        faults.len() - 1
    }

    pub(crate) fn repaired(&self, number: usize) {
        lock(&self.faults)[number].repaired = Some(Instant::now());
    }

    pub(crate) fn settled(&self, number: usize) {
        lock(&self.faults)[number].settled = Some(Instant::now());
    }

    /// Returns `true` if there was a fault of this kind since `from`. A fault lasts until everything was as before.
    pub(crate) fn had(&self, from: Instant, is: impl Fn(&Fault) -> bool) -> bool {
        let faults = lock(&self.faults);
        faults.iter().any(|made| is(&made.fault) && made.settled.is_none_or(|settled| settled >= from))
    }

    pub(crate) fn had_any(&self, from: Instant) -> bool {
        self.had(from, |_| true)
    }

    /// Returns a node that serves now.
    pub(crate) fn live_node(&self, random: &mut Random) -> usize {
        loop {
            let node = random.below(3) as usize;
            let faults = lock(&self.faults);
            if faults.last().is_none_or(|made| made.repaired.is_some() || !made.fault.stops(node)) {
                return node;
            }
        }
    }

    /// A rule is broken: the run ends.
    pub(crate) fn breaks(&self, what: String) {
        if self.is_over() {
            return;
        }
        let faults = lock(&self.faults);
        let since = |at: Instant| at.elapsed().as_secs_f32();
        let last = faults.last().map_or("none".to_owned(), |made| {
            let ago = |at: Option<Instant>| at.map_or("not yet".to_owned(), |at| format!("{:.2} s ago", since(at)));
            let (from, repaired, settled) = (ago(Some(made.from)), ago(made.repaired), ago(made.settled));
            format!("{:?}, made {from}, repaired {repaired}, settled {settled}", made.fault)
        });
        let mut broken = lock(&self.broken);
        if broken.is_none() {
            let at = self.start.elapsed().as_secs_f32();
            let time = humantime::format_rfc3339_millis(SystemTime::now());
            *broken = Some(format!("after {at:.2} s ({time}): {what}\nthe last fault: {last}"));
        }
    }

    pub(crate) fn broken(&self) -> Option<String> {
        lock(&self.broken).clone()
    }

    pub(crate) fn measured(&self, name: &str, time: Duration, what: &str) {
        let mut times = lock(&self.times);
        let longest = times.entry(name.to_owned()).or_default();
        if time >= longest.0 {
            *longest = (time, what.to_owned());
        }
    }

    pub(crate) fn count(&self, name: &str) {
        *lock(&self.counts).entry(name.to_owned()).or_default() += 1;
    }

    /// Waits until the application was told of all clients that are gone. It breaks a rule if that takes too long.
    pub(crate) fn wait_for_reports(&self) {
        while self.broken().is_none() && lock(&self.keys).are_reports_due() {
            sleep(Duration::from_millis(100));
        }
    }

    /// Ends the load, and checks what is left.
    pub(crate) fn finish(&self) {
        self.wait_for_reports();
        // Messages that are on their way.
        sleep(Duration::from_secs(1));
        self.is_over.store(true, Relaxed);
    }

    pub(crate) fn report(&self, faults: u64, time: Duration) -> String {
        let mut text = format!("seed {}: {faults} faults in {} s\n", self.seed, time.as_secs());
        for (name, count) in lock(&self.counts).iter() {
            let _ = writeln!(text, "  {count:8} {name}");
        }
        for (name, (time, what)) in lock(&self.times).iter() {
            let _ = writeln!(text, "  {:6.2} s at most: {name} (after {what})", time.as_secs_f32());
        }
        text
    }
}
