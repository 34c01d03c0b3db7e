//! All streams, and when something is to be done about each. Kept under one lock.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    net::IpAddr,
    time::{Duration, Instant},
};

use uncork::{Limits, Moment, PeerAddr};

use super::{
    super::{
        addresses::{Addresses, Allowance, Refused},
        unused::{Asked, NoRoom, Unused},
    },
    RendezvousConfig, RendezvousCounts,
    body::CreateOptions,
    id::Id,
    stream::{Due, Stream},
};

/// What a stream is created with.
pub(super) struct CreateRequest {
    pub(super) options: CreateOptions,
    pub(super) receivers: usize,
    /// Whether a lost source breaks the downloads, if the creator has said so.
    pub(super) strict: Option<bool>,
    pub(super) owner: Option<IpAddr>,
    /// How long the sides have to meet.
    pub(super) ttl: Duration,
}

/// Why none is created.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Full {
    Address(Refused),
    Room(NoRoom),
    /// The fields they were created with are too large together.
    Fields,
    /// Those of this address are.
    AddressFields,
}

pub(in crate::relay) struct State {
    streams: HashMap<Id, Stream>,
    /// Those whose sides have to meet by then.
    waiting: BTreeSet<(Instant, Id)>,
    /// Records, and when they are forgotten.
    records: BTreeSet<(Instant, Id)>,
    addresses: Addresses,
    unused: Unused<Id>,
    /// Creations that a limit has refused.
    refused: u64,
    /// Bytes of JSON held.
    weight: usize,
    /// The same, by the network of the creator ([`PeerAddr::network_of`]); none is 0.
    weights: HashMap<IpAddr, usize>,
    /// The latest time anybody told: for those who can't.
    now: Option<Moment>,
}

impl State {
    pub(super) fn new(config: &RendezvousConfig) -> Self {
        Self {
            streams: HashMap::new(),
            waiting: BTreeSet::new(),
            records: BTreeSet::new(),
            addresses: Addresses::new(allowance(config)),
            unused: Unused::new(),
            refused: 0,
            weight: 0,
            weights: HashMap::new(),
            now: None,
        }
    }

    /// From now on, so much is to be had.
    pub(super) fn allow(&mut self, config: &RendezvousConfig) {
        self.addresses.allow(allowance(config));
    }

    /// The latest time known, with this one.
    pub(super) fn at(&mut self, now: Moment) -> Moment {
        let latest = self.now.filter(|latest| latest.mono > now.mono).unwrap_or(now);
        self.now = Some(latest);
        latest
    }

    /// The latest time known.
    pub(super) fn latest(&self) -> Option<Moment> {
        self.now
    }

    /// Works on a stream, if there is one of that id, after its time was looked at.
    pub(super) fn with<R>(
        &mut self,
        id: Id,
        config: &RendezvousConfig,
        now: Moment,
        f: impl FnOnce(&mut Stream) -> R,
    ) -> Option<R> {
        let now = self.at(now);
        let stream = self.streams.get_mut(&id)?;
        let before = Filing::of(stream);
        match before.due {
            Due::Meet(at) if at <= now.mono => stream.expire(config, now),
            Due::Meet(_) => stream.prune(config, now),
            _ => {}
        }
        let result = match stream.due() {
            Due::Forget(at) if at <= now.mono => None,
            _ => Some(f(stream)),
        };
        let (after, state, bytes) = (Filing::of(stream), stream.state(), stream.bytes());
        if after != before {
            self.unfile(id, before);
            self.file(id, after);
            if after.due != before.due && matches!(after.due, Due::Forget(_)) {
                let stream = id.short();
                log::debug!(target: "uncork::relay", stream:%, state, bytes; "stream over");
            }
        }
        if result.is_none() {
            self.remove(id);
        }
        result
    }

    /// A new stream.
    pub(super) fn create(
        &mut self,
        id: Id,
        request: CreateRequest,
        config: &RendezvousConfig,
        now: Moment,
    ) -> Result<(), Full> {
        let now = self.at(now);
        self.sweep(config, now);
        let weight = request.options.weight();
        if let Err(full) = self.make_room(request.owner, weight, config, now.mono) {
            self.refused += 1;
            return Err(full);
        }
        let CreateRequest { options, receivers, strict, owner, ttl } = request;
        let stream = Stream::new(options, receivers, strict, owner, now, ttl, config.first_use_timeout);
        self.weight += weight;
        if let Some(ip) = owner.filter(|_| weight > 0) {
            *self.weights.entry(PeerAddr::network_of(ip)).or_default() += weight;
        }
        self.file(id, Filing::of(&stream));
        self.streams.insert(id, stream);
        log::debug!(target: "uncork::relay", stream:% = id.short(); "stream created");
        Ok(())
    }

    /// Takes a place for one more stream of that address, with fields of that weight.
    fn make_room(
        &mut self,
        owner: Option<IpAddr>,
        weight: usize,
        config: &RendezvousConfig,
        now: Instant,
    ) -> Result<(), Full> {
        // The oldest records go, if that makes room.
        while self.streams.len() >= config.streams || self.weight.saturating_add(weight) > config.json_total {
            let Some((_, oldest)) = self.records.pop_first() else { break };
            self.remove(oldest);
        }
        let asked = Asked {
            limit: config.streams,
            // Records yield as soon as all places are taken, so they make no address's share smaller.
            taken: self.streams.len() - self.records.len(),
            per_address: config.streams_per_address,
            owner,
            owned: owner.map_or(0, |ip| self.addresses.places(ip)),
        };
        let yields = self.unused.make_room(&asked).map_err(Full::Room)?;
        let freed = yields.and_then(|id| self.streams.get(&id)).map_or(0, Stream::weight);
        if (self.weight - freed).saturating_add(weight) > config.json_total {
            return Err(Full::Fields);
        }
        if let Some(ip) = owner {
            let has = self.weights.get(&PeerAddr::network_of(ip)).copied().unwrap_or(0);
            if has.saturating_add(weight) > share_of_fields(config, self.weight) {
                return Err(Full::AddressFields);
            }
            self.addresses.admit(ip, now).map_err(Full::Address)?;
        }
        if let Some(id) = yields {
            self.unused.evicted_one("streams", now);
            self.remove(id);
        }
        Ok(())
    }

    /// Every stream, in no order.
    pub(super) fn all(&mut self, config: &RendezvousConfig, now: Moment) -> impl Iterator<Item = (&Id, &Stream)> {
        let now = self.at(now);
        self.sweep(config, now);
        self.streams.iter()
    }

    /// How many there are.
    pub(super) fn counts(&mut self, config: &RendezvousConfig, now: Moment) -> RendezvousCounts {
        let all = self.all(config, now).count();
        let (waiting, over) = (self.waiting.len(), self.records.len());
        RendezvousCounts {
            waiting,
            running: all.saturating_sub(waiting + over),
            over,
            unused: self.streams.values().filter(|stream| stream.unused().is_some()).count(),
            evicted: self.unused.evicted(),
            refused: self.refused,
        }
    }

    /// Works on every stream.
    pub(super) fn each(&mut self, mut f: impl FnMut(&mut Stream)) {
        let mut changed = Vec::new();
        for (id, stream) in &mut self.streams {
            let before = Filing::of(stream);
            f(stream);
            changed.push((*id, before, Filing::of(stream)));
        }
        for (id, before, after) in changed {
            self.unfile(id, before);
            self.file(id, after);
        }
    }

    /// Looks at those whose time has come.
    fn sweep(&mut self, config: &RendezvousConfig, now: Moment) {
        while let Some((_, id)) = self.waiting.first().copied().filter(|(at, _)| *at <= now.mono) {
            self.with(id, config, now, |_| ());
        }
        while let Some((_, id)) = self.records.first().copied().filter(|(at, _)| *at <= now.mono) {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: Id) {
        let Some(stream) = self.streams.remove(&id) else { return };
        self.unfile(id, Filing::of(&stream));
        self.weight -= stream.weight();
        if let Some(ip) = stream.owner {
            self.addresses.release(ip);
            if let Entry::Occupied(mut entry) = self.weights.entry(PeerAddr::network_of(ip)) {
                *entry.get_mut() = entry.get().saturating_sub(stream.weight());
                if *entry.get() == 0 {
                    entry.remove();
                }
            }
        }
    }

    fn file(&mut self, id: Id, filing: Filing) {
        match filing.due {
            Due::Meet(at) => self.waiting.insert((at, id)),
            Due::Forget(at) => self.records.insert((at, id)),
            Due::Never => false,
        };
        if let Some((owner, made)) = filing.unused {
            self.unused.add(owner, made, id);
        }
    }

    fn unfile(&mut self, id: Id, filing: Filing) {
        match filing.due {
            Due::Meet(at) => self.waiting.remove(&(at, id)),
            Due::Forget(at) => self.records.remove(&(at, id)),
            Due::Never => false,
        };
        if let Some((owner, made)) = filing.unused {
            self.unused.remove(owner, made, id);
        }
    }
}

/// Where a stream is found by what is to be done about it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Filing {
    due: Due,
    unused: Option<(Option<IpAddr>, Instant)>,
}

impl Filing {
    fn of(stream: &Stream) -> Self {
        Self { due: stream.due(), unused: stream.unused() }
    }
}

/// Bytes of JSON that may be held for one address while so many are held: the same part of all as of the streams, but
/// room for the largest at least.
fn share_of_fields(config: &RendezvousConfig, held: usize) -> usize {
    let part = config.json_total as u128 * config.streams_per_address as u128 / (config.streams as u128).max(1);
    let part = usize::try_from(part).unwrap_or(usize::MAX);
    let largest = config.json.saturating_mul(2);
    Limits::address_share(config.json_total, part.max(largest), held).max(largest)
}

fn allowance(config: &RendezvousConfig) -> Allowance {
    Allowance {
        places: config.streams,
        per_address: config.streams_per_address,
        per_minute: config.creations_per_minute,
        burst: config.creation_burst,
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a starting point for a virtual clock")]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn start() -> Moment {
        Moment { mono: Instant::now(), wall: SystemTime::UNIX_EPOCH }
    }

    fn later(now: Moment, seconds: u64) -> Moment {
        let by = Duration::from_secs(seconds);
        Moment { mono: now.mono + by, wall: now.wall + by }
    }

    fn create(state: &mut State, config: &RendezvousConfig, body: &str, now: Moment) -> Result<Id, Full> {
        create_for(state, config, body, now, [192, 0, 2, 1].into())
    }

    fn create_for(
        state: &mut State,
        config: &RendezvousConfig,
        body: &str,
        now: Moment,
        owner: IpAddr,
    ) -> Result<Id, Full> {
        let id = Id::generate().unwrap();
        let options = CreateOptions::parse(body.as_bytes()).unwrap();
        let request = CreateRequest { options, receivers: 1, strict: None, owner: Some(owner), ttl: config.ttl };
        state.create(id, request, config, now).map(|()| id)
    }

    fn status(state: &mut State, config: &RendezvousConfig, id: Id, now: Moment) -> Option<String> {
        state.with(id, config, now, |stream| stream.status("x"))
    }

    #[test]
    fn nobody_came_and_then_it_is_forgotten() {
        let (config, now) = (RendezvousConfig::default(), start());
        let mut state = State::new(&config);
        let id = create(&mut state, &config, "", now).unwrap();
        let want = r#"{"id":"x","created_at":"1970-01-01T00:00:00.000Z","state":"CREATED","active":true,"download_headers":[],"upload_headers":[],"bytes_transferred":0}"#;
        assert_eq!(status(&mut state, &config, id, later(now, 59)).as_deref(), Some(want));
        // Noticed late, it has happened in time all the same.
        let want = r#"{"id":"x","created_at":"1970-01-01T00:00:00.000Z","deactivated_at":"1970-01-01T00:01:00.000Z","state":"TIMEOUT_NO_SRC_NO_DST","active":false,"download_headers":[],"upload_headers":[],"bytes_transferred":0}"#;
        assert_eq!(status(&mut state, &config, id, later(now, 100)).as_deref(), Some(want));
        assert!(status(&mut state, &config, id, later(now, 119)).is_some());
        assert!(status(&mut state, &config, id, later(now, 120)).is_none());
        assert_eq!((state.streams.len(), state.waiting.len(), state.records.len()), (0, 0, 0));
    }

    #[test]
    fn a_posted_error_is_kept_for_the_time_to_meet() {
        let config = RendezvousConfig { status_ttl: Duration::ZERO, ..RendezvousConfig::default() };
        let (mut state, now) = (State::new(&config), start());
        let id = create(&mut state, &config, "{}", now).unwrap();
        let fault = super::super::body::client_error(b"").unwrap();
        assert_eq!(
            state.with(id, &config, later(now, 30), |s| s.post(fault.clone(), &config, later(now, 30))),
            Some(true)
        );
        for at in [30, 89] {
            let refused = state.with(id, &config, later(now, at), |s| [s.refuses_source(), s.refuses_receiver()]);
            assert_eq!(refused, Some([Some(fault.clone()), Some(fault.clone())]));
            let again = state.with(id, &config, later(now, at), |s| s.post(fault.clone(), &config, later(now, at)));
            assert_eq!(again, Some(false));
        }
        let told = status(&mut state, &config, id, later(now, 89)).unwrap();
        assert!(told.contains(r#""state":"CLIENT_ERROR","active":false,"bytes_transferred":0}"#), "{told}");
        assert!(status(&mut state, &config, id, later(now, 90)).is_none());
    }

    #[test]
    fn what_waits_is_limited_and_records_make_room() {
        let config = RendezvousConfig { streams: 2, ..RendezvousConfig::default() };
        let (mut state, now) = (State::new(&config), start());
        let first = create(&mut state, &config, "", now).unwrap();
        create(&mut state, &config, "", later(now, 1)).unwrap();
        assert_eq!(create(&mut state, &config, "", later(now, 2)), Err(Full::Room(NoRoom::Full)));
        // One is a record now, the other waits.
        let third = create(&mut state, &config, "", later(now, 60)).unwrap();
        assert!(status(&mut state, &config, first, later(now, 60)).is_none());
        assert!(status(&mut state, &config, third, later(now, 60)).is_some());
        assert_eq!(state.streams.len(), 2);
    }

    #[test]
    fn records_make_no_share_smaller() {
        let config = RendezvousConfig {
            streams: 1000,
            streams_per_address: 100,
            creations_per_minute: 0,
            ..RendezvousConfig::default()
        };
        let (mut state, now) = (State::new(&config), start());
        let address = |n: u8| IpAddr::from([10, 0, 0, n]);
        let crowd = (0..100).cycle().take(10_000);
        let made = crowd.filter(|n| create_for(&mut state, &config, "", now, address(*n)).is_ok()).count();
        assert!(made > 800, "{made}");
        let now = later(now, 60);
        let counts = state.counts(&config, now);
        assert_eq!((counts.waiting, counts.over), (0, made));
        for n in 0..100 {
            assert!(create_for(&mut state, &config, "", now, address(200)).is_ok(), "{n}");
        }
    }

    #[test]
    fn no_crowd_takes_all_streams() {
        let config = RendezvousConfig {
            streams: 1000,
            streams_per_address: 100,
            ttl: Duration::from_secs(3600),
            ..RendezvousConfig::default()
        };
        let (mut state, now) = (State::new(&config), start());
        let address = |n: u16| IpAddr::from([10, 0, (n >> 8) as u8, n as u8]);
        let newcomer = IpAddr::from([198, 51, 100, 1]);
        let crowd = (0..100).cycle().take(10_000);
        let taken = crowd.filter(|n| create_for(&mut state, &config, "", now, address(*n)).is_ok()).count();
        assert!((800..1000).contains(&taken), "{taken}");
        let mine = create_for(&mut state, &config, "", now, newcomer).unwrap();
        assert!((100..3000).all(|n| create_for(&mut state, &config, "", now, address(n)).is_ok()));
        assert_eq!(state.streams.len(), 1000);
        assert!(create_for(&mut state, &config, "", now, newcomer).is_ok(), "it has none any more");
        assert!(status(&mut state, &config, mine, now).is_none());
        let counts = state.counts(&config, now);
        assert_eq!((counts.waiting, counts.unused), (1000, 1000));
        assert!(counts.evicted > 1000 && counts.refused > 0, "{counts:?}");
        // None of them is waited for: they are over long before their time to meet.
        let counts = state.counts(&config, later(now, 600));
        assert_eq!((counts.waiting, counts.unused, counts.over), (0, 0, 1000));
        state.sweep(&config, later(now, 700));
        assert!(state.streams.is_empty() && state.weights.is_empty() && state.weight == 0);
    }

    #[test]
    fn no_address_takes_all_bytes_of_fields() {
        let body = format!("{{\"download_headers\":{{\"A\":\"{}\"}}}}", "x".repeat(1000));
        let config = RendezvousConfig { json: 2000, json_total: 100_000, ..RendezvousConfig::default() };
        let (mut state, now) = (State::new(&config), start());
        let mut create = |n: u8, body: &str| create_for(&mut state, &config, body, now, [10, 0, 0, n].into());
        for n in 0..4 {
            let taken = (0..100).filter(|_| create(n, &body).is_ok()).count();
            assert!((1..10).contains(&taken), "{taken}");
            assert_eq!(create(n, &body), Err(Full::AddressFields));
        }
        assert!(create(9, &body).is_ok());
    }

    #[test]
    fn fields_weigh() {
        let body = format!("{{\"download_headers\":{{\"A\":\"{}\"}}}}", "x".repeat(1000));
        let config = RendezvousConfig { json_total: 5000, ..RendezvousConfig::default() };
        let (mut state, now) = (State::new(&config), start());
        assert!(create(&mut state, &config, &body, now).is_ok() && create(&mut state, &config, &body, now).is_ok());
        assert_eq!(create(&mut state, &config, &body, now), Err(Full::Fields));
        assert!(create(&mut state, &config, "", now).is_ok());
        assert!(create(&mut state, &config, &body, later(now, 60)).is_ok());
        state.sweep(&config, later(now, 1000));
        assert_eq!((state.weight, state.streams.len()), (0, 0));
    }

    #[test]
    fn an_address_has_its_share() {
        let config = RendezvousConfig { streams_per_address: 1, ..RendezvousConfig::default() };
        let (mut state, now) = (State::new(&config), start());
        create(&mut state, &config, "", now).unwrap();
        assert_eq!(create(&mut state, &config, "", now), Err(Full::Address(Refused::TooMany)));
        assert!(create(&mut state, &config, "", later(now, 120)).is_ok(), "it was forgotten");
    }
}
