//! All streams, and the deadline of each. One lock protects them.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    net::IpAddr,
    time::{Duration, Instant},
};

use uncork::{Limits, Moment, PeerAddr};

use super::{
    super::{
        addresses::{Addresses, Allowance, Refused},
        unused::{NoRoom, RoomRequest, Unused},
    },
    RendezvousConfig, RendezvousCounts,
    body::CreateOptions,
    id::Id,
    stream::{Due, Stream},
};

/// The properties of a new stream.
pub(super) struct CreateRequest {
    pub(super) options: CreateOptions,
    pub(super) receivers: usize,
    /// The creator's `?strict=`: a lost source aborts the downloads.
    pub(super) strict: Option<bool>,
    pub(super) owner: Option<IpAddr>,
    /// Time that the sides have to connect.
    pub(super) ttl: Duration,
}

/// The reason why no stream is created.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Full {
    Address(Refused),
    Room(NoRoom),
    /// The fields of all streams together are too large.
    Fields,
    /// The fields of this address's streams are too large.
    AddressFields,
}

pub(in crate::relay) struct State {
    streams: HashMap<Id, Stream>,
    /// Streams that wait for their sides, by deadline.
    waiting: BTreeSet<(Instant, Id)>,
    /// Records, by the time at which they are removed.
    records: BTreeSet<(Instant, Id)>,
    addresses: Addresses,
    unused: Unused<Id>,
    /// Number of creations that a limit has rejected.
    refused: u64,
    /// Bytes of JSON that are held.
    weight: usize,
    /// Bytes of JSON by the network of the creator ([`PeerAddr::network_of`]); no entry is 0.
    weights: HashMap<IpAddr, usize>,
    /// The latest known time, for callers without a time.
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

    /// Applies the limits of a new configuration.
    pub(super) fn allow(&mut self, config: &RendezvousConfig) {
        self.addresses.allow(allowance(config));
    }

    /// Returns the latest known time, including this one.
    pub(super) fn at(&mut self, now: Moment) -> Moment {
        let latest = self.now.filter(|latest| latest.mono > now.mono).unwrap_or(now);
        self.now = Some(latest);
        latest
    }

    /// Returns the latest known time.
    pub(super) fn latest(&self) -> Option<Moment> {
        self.now
    }

    /// Calls `f` with the stream of this id, if there is one, after its deadline was checked.
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
            Due::Connect(at) if at <= now.mono => stream.expire(config, now),
            Due::Connect(_) => stream.prune(config, now),
            _ => {}
        }
        let result = match stream.due() {
            Due::Remove(at) if at <= now.mono => None,
            _ => Some(f(stream)),
        };
        let (after, state, bytes) = (Filing::of(stream), stream.state(), stream.bytes());
        if after != before {
            self.unfile(id, before);
            self.file(id, after);
            if after.due != before.due && matches!(after.due, Due::Remove(_)) {
                let stream = id.short();
                log::debug!(target: "uncork::relay", stream:%, state, bytes; "stream over");
            }
        }
        if result.is_none() {
            self.remove(id);
        }
        result
    }

    /// Creates a stream.
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

    /// Makes room for a stream of this address, with fields of this weight.
    fn make_room(
        &mut self,
        owner: Option<IpAddr>,
        weight: usize,
        config: &RendezvousConfig,
        now: Instant,
    ) -> Result<(), Full> {
        // The oldest records are removed first.
        while self.streams.len() >= config.streams || self.weight.saturating_add(weight) > config.json_total {
            let Some((_, oldest)) = self.records.pop_first() else { break };
            self.remove(oldest);
        }
        let room = RoomRequest {
            limit: config.streams,
            // Records are removed when the table is full, so they do not reduce the share of an address.
            taken: self.streams.len() - self.records.len(),
            per_address: config.streams_per_address,
            owner,
            owned: owner.map_or(0, |ip| self.addresses.slots(ip)),
        };
        let evicted = self.unused.make_room(&room).map_err(Full::Room)?;
        let freed = evicted.and_then(|id| self.streams.get(&id)).map_or(0, Stream::weight);
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
        if let Some(id) = evicted {
            self.unused.evicted_one("streams", now);
            self.remove(id);
        }
        Ok(())
    }

    /// Returns all streams, in no order.
    pub(super) fn all(&mut self, config: &RendezvousConfig, now: Moment) -> impl Iterator<Item = (&Id, &Stream)> {
        let now = self.at(now);
        self.sweep(config, now);
        self.streams.iter()
    }

    /// Returns the numbers of streams.
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

    /// Calls `f` with every stream.
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

    /// Handles the streams whose deadline has passed.
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
            Due::Connect(at) => self.waiting.insert((at, id)),
            Due::Remove(at) => self.records.insert((at, id)),
            Due::Never => false,
        };
        if let Some((owner, made)) = filing.unused {
            self.unused.add(owner, made, id);
        }
    }

    fn unfile(&mut self, id: Id, filing: Filing) {
        match filing.due {
            Due::Connect(at) => self.waiting.remove(&(at, id)),
            Due::Remove(at) => self.records.remove(&(at, id)),
            Due::Never => false,
        };
        if let Some((owner, made)) = filing.unused {
            self.unused.remove(owner, made, id);
        }
    }
}

/// The index entries of a stream.
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

/// Returns how many bytes of JSON may be held for one address: the same share of all as of the streams, and enough for
/// the largest JSON at least. `held`: the bytes held for all.
fn share_of_fields(config: &RendezvousConfig, held: usize) -> usize {
    let part = config.json_total as u128 * config.streams_per_address as u128 / (config.streams as u128).max(1);
    let part = usize::try_from(part).unwrap_or(usize::MAX);
    let largest = config.json.saturating_mul(2);
    Limits::address_share(config.json_total, part.max(largest), held).max(largest)
}

fn allowance(config: &RendezvousConfig) -> Allowance {
    Allowance {
        slots: config.streams,
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
    fn a_stream_without_sides_times_out_and_is_removed() {
        let (config, now) = (RendezvousConfig::default(), start());
        let mut state = State::new(&config);
        let id = create(&mut state, &config, "", now).unwrap();
        let want = r#"{"id":"x","created_at":"1970-01-01T00:00:00.000Z","state":"CREATED","active":true,"download_headers":[],"upload_headers":[],"bytes_transferred":0}"#;
        assert_eq!(status(&mut state, &config, id, later(now, 59)).as_deref(), Some(want));
        // The end has the time of the deadline, also if it is noticed later.
        let want = r#"{"id":"x","created_at":"1970-01-01T00:00:00.000Z","deactivated_at":"1970-01-01T00:01:00.000Z","state":"TIMEOUT_NO_SRC_NO_DST","active":false,"download_headers":[],"upload_headers":[],"bytes_transferred":0}"#;
        assert_eq!(status(&mut state, &config, id, later(now, 100)).as_deref(), Some(want));
        assert!(status(&mut state, &config, id, later(now, 119)).is_some());
        assert!(status(&mut state, &config, id, later(now, 120)).is_none());
        assert_eq!((state.streams.len(), state.waiting.len(), state.records.len()), (0, 0, 0));
    }

    #[test]
    fn a_posted_error_is_kept_until_the_deadline() {
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
        let last = status(&mut state, &config, id, later(now, 89)).unwrap();
        assert!(last.contains(r#""state":"CLIENT_ERROR","active":false,"bytes_transferred":0}"#), "{last}");
        assert!(status(&mut state, &config, id, later(now, 90)).is_none());
    }

    #[test]
    fn what_waits_is_limited_and_records_make_room() {
        let config = RendezvousConfig { streams: 2, ..RendezvousConfig::default() };
        let (mut state, now) = (State::new(&config), start());
        let first = create(&mut state, &config, "", now).unwrap();
        create(&mut state, &config, "", later(now, 1)).unwrap();
        assert_eq!(create(&mut state, &config, "", later(now, 2)), Err(Full::Room(NoRoom::Full)));
        // One is a record now, and the other waits.
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
        let many = (0..100).cycle().take(10_000);
        let made = many.filter(|n| create_for(&mut state, &config, "", now, address(*n)).is_ok()).count();
        assert!(made > 800, "{made}");
        let now = later(now, 60);
        let counts = state.counts(&config, now);
        assert_eq!((counts.waiting, counts.over), (0, made));
        for n in 0..100 {
            assert!(create_for(&mut state, &config, "", now, address(200)).is_ok(), "{n}");
        }
    }

    #[test]
    fn many_addresses_cannot_take_all_streams() {
        let config = RendezvousConfig {
            streams: 1000,
            streams_per_address: 100,
            ttl: Duration::from_secs(3600),
            ..RendezvousConfig::default()
        };
        let (mut state, now) = (State::new(&config), start());
        let address = |n: u16| IpAddr::from([10, 0, (n >> 8) as u8, n as u8]);
        let newcomer = IpAddr::from([198, 51, 100, 1]);
        let many = (0..100).cycle().take(10_000);
        let taken = many.filter(|n| create_for(&mut state, &config, "", now, address(*n)).is_ok()).count();
        assert!((800..1000).contains(&taken), "{taken}");
        let mine = create_for(&mut state, &config, "", now, newcomer).unwrap();
        assert!((100..3000).all(|n| create_for(&mut state, &config, "", now, address(n)).is_ok()));
        assert_eq!(state.streams.len(), 1000);
        assert!(create_for(&mut state, &config, "", now, newcomer).is_ok(), "it has none any more");
        assert!(status(&mut state, &config, mine, now).is_none());
        let counts = state.counts(&config, now);
        assert_eq!((counts.waiting, counts.unused), (1000, 1000));
        assert!(counts.evicted > 1000 && counts.refused > 0, "{counts:?}");
        // No peer is connected to them: they end long before their deadline.
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
