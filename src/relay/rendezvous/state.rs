//! All streams, and when something is to be done about each. Kept under one lock.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    net::IpAddr,
    time::{Duration, Instant},
};

use uncork::Moment;

use super::{
    super::addresses::{Addresses, Allowance, Refused},
    RendezvousConfig, RendezvousCounts,
    body::Wish,
    stream::{Due, Stream},
};

/// What a stream is found by: a UUID of version 4 (RFC 9562), 122 bits from the operating system.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id(u128);

impl Id {
    pub(super) fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        let random = u128::from_be_bytes(bytes);
        Ok(Self(random & !(0xf << 76) & !(0b11 << 62) | 4 << 76 | 0b10 << 62))
    }

    /// Reads an id in its one spelling.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let plain = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-');
        if text.len() != 36 || !text.bytes().all(plain) {
            return None;
        }
        let digits: String = text.split('-').collect();
        let id = Self(u128::from_str_radix(&digits, 16).ok()?);
        (id.to_string() == text).then_some(id)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0;
        let (a, b, c) = (n >> 96, n >> 80 & 0xffff, n >> 64 & 0xffff);
        write!(f, "{a:08x}-{b:04x}-{c:04x}-{:04x}-{:012x}", n >> 48 & 0xffff, n & 0xffff_ffff_ffff)
    }
}

/// What a stream is created with.
pub(super) struct Order {
    pub(super) wish: Wish,
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
    /// There are too many in all.
    Streams,
    /// The fields they were created with are too large together.
    Fields,
}

pub(super) struct State {
    streams: HashMap<Id, Stream>,
    /// Those whose sides have to meet by then.
    waiting: BTreeSet<(Instant, Id)>,
    /// Records, and when they are forgotten.
    records: BTreeSet<(Instant, Id)>,
    addresses: Addresses,
    /// Bytes of JSON held.
    weight: usize,
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
            weight: 0,
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
        let due = stream.due();
        match due {
            Due::Meet(at) if at <= now.mono => stream.expire(config, now),
            Due::Meet(_) => stream.prune(config, now),
            _ => {}
        }
        let result = match stream.due() {
            Due::Forget(at) if at <= now.mono => None,
            _ => Some(f(stream)),
        };
        let (new, state, bytes) = (stream.due(), stream.state(), stream.bytes());
        if new != due {
            self.unfile(id, due);
            self.file(id, new);
            if matches!(new, Due::Forget(_)) {
                log::debug!(target: "uncork::relay",
                    "{{\"event\":\"stream over\",\"stream\":\"{}\",\"state\":\"{state}\",\"bytes\":{bytes}}}",
                    Short(id));
            }
        }
        if result.is_none() {
            self.remove(id);
        }
        result
    }

    /// A new stream.
    pub(super) fn create(&mut self, id: Id, order: Order, config: &RendezvousConfig, now: Moment) -> Result<(), Full> {
        let now = self.at(now);
        self.sweep(config, now);
        let weight = order.wish.weight();
        // The oldest records go, if that makes room.
        loop {
            let full = match self.weight.saturating_add(weight) > config.json_total {
                _ if self.streams.len() >= config.streams => Full::Streams,
                true => Full::Fields,
                false => break,
            };
            let Some((_, oldest)) = self.records.pop_first() else { return Err(full) };
            self.remove(oldest);
        }
        if let Some(ip) = order.owner {
            self.addresses.admit(ip, now.mono).map_err(Full::Address)?;
        }
        let stream = Stream::new(order.wish, order.receivers, order.strict, order.owner, now, order.ttl);
        self.weight += weight;
        self.file(id, stream.due());
        self.streams.insert(id, stream);
        log::debug!(target: "uncork::relay", "{{\"event\":\"stream created\",\"stream\":\"{}\"}}", Short(id));
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
        RendezvousCounts { waiting, running: all.saturating_sub(waiting + over), over }
    }

    /// Works on every stream.
    pub(super) fn each(&mut self, f: impl FnMut(&mut Stream)) {
        self.streams.values_mut().for_each(f);
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
        self.unfile(id, stream.due());
        self.weight -= stream.weight();
        if let Some(ip) = stream.owner {
            self.addresses.release(ip);
        }
    }

    fn file(&mut self, id: Id, due: Due) {
        match due {
            Due::Meet(at) => self.waiting.insert((at, id)),
            Due::Forget(at) => self.records.insert((at, id)),
            Due::Never => false,
        };
    }

    fn unfile(&mut self, id: Id, due: Due) {
        match due {
            Due::Meet(at) => self.waiting.remove(&(at, id)),
            Due::Forget(at) => self.records.remove(&(at, id)),
            Due::Never => false,
        };
    }
}

fn allowance(config: &RendezvousConfig) -> Allowance {
    Allowance {
        places: config.streams,
        per_address: config.streams_per_address,
        per_minute: config.creations_per_minute,
        burst: config.creation_burst,
    }
}

/// Not the whole of it, which is a secret.
impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({})", Short(*self))
    }
}

/// An id in the log: enough to tell streams apart, too little to use one.
struct Short(Id);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0.0 >> 96)
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
        let id = Id::generate().unwrap();
        let wish = Wish::parse(body.as_bytes()).unwrap();
        let order = Order { wish, receivers: 1, strict: None, owner: Some([192, 0, 2, 1].into()), ttl: config.ttl };
        state.create(id, order, config, now).map(|()| id)
    }

    fn status(state: &mut State, config: &RendezvousConfig, id: Id, now: Moment) -> Option<String> {
        state.with(id, config, now, |stream| stream.status("x"))
    }

    #[test]
    fn an_id_is_a_uuid_in_its_one_spelling() {
        let id = Id::generate().unwrap();
        let text = id.to_string();
        assert_eq!((text.len(), &text[14..15]), (36, "4"));
        assert!("89ab".contains(&text[19..20]), "{text}");
        assert!(Id::parse(&text) == Some(id));
        assert!(Id::parse(&text.to_uppercase()).is_none_or(|_| text == text.to_uppercase()));
        for bad in ["", "x", &text[1..], &text.replace('-', ""), &format!("{text}0"), &format!("+{}", &text[1..])] {
            assert!(Id::parse(bad).is_none(), "{bad}");
        }
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
        let config = RendezvousConfig { record: Duration::ZERO, ..RendezvousConfig::default() };
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
        assert_eq!(create(&mut state, &config, "", later(now, 2)), Err(Full::Streams));
        // One is a record now, the other waits.
        let third = create(&mut state, &config, "", later(now, 60)).unwrap();
        assert!(status(&mut state, &config, first, later(now, 60)).is_none());
        assert!(status(&mut state, &config, third, later(now, 60)).is_some());
        assert_eq!(state.streams.len(), 2);
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
