//! All sessions, and the requests that wait on each. One lock protects them; nothing in here calls application code.
//!
//! ```text
//!                 receivers[side]                senders[side]
//!   GET  ──▶ free ──▶ waits ──▶ free         free ──▶ waits ──▶ sends ──▶ free  ◀── POST
//!                       └─ at hand-over         └──────────────────┴─ when its request ends
//! ```

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use uncork::{Moment, PipeCounters, RequestId, Response, Ticket};

use super::{
    super::{
        addresses::{Addresses, Allowance, Refused},
        unused::{NoRoom, RoomRequest, Unused},
    },
    SessionConfig,
    wire::{self, CorsHeaders},
};

/// The id of a session: 128 random bits from the operating system, 22 letters of base64url in the URL.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key([u8; 16]);

impl Key {
    /// Creates a key, and a token of 192 bits.
    pub(super) fn generate() -> Result<(Self, Box<str>), getrandom::Error> {
        let (mut key, mut token) = ([0; 16], [0; 24]);
        getrandom::fill(&mut key)?;
        getrandom::fill(&mut token)?;
        Ok((Self(key), BASE64.encode(token).into()))
    }

    /// Parses a key in its one spelling.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut key = [0; 16];
        let n = BASE64.decode_slice(text, &mut key).ok()?;
        (n == key.len()).then_some(Self(key))
    }

    pub(super) fn text(self) -> String {
        BASE64.encode(self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Host,
    Guest,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Host => Self::Guest,
            Self::Guest => Self::Host,
        }
    }
}

/// The guests that may use a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guests {
    Any,
    /// No guest yet: the host of a secure session has not named an address.
    None,
    Only(IpAddr),
}

impl Guests {
    pub(super) fn admit(self, peer: Option<IpAddr>) -> bool {
        match self {
            Self::Any => true,
            Self::None => false,
            Self::Only(ip) => peer == Some(ip),
        }
    }
}

/// A suspended request.
pub(super) struct Poll {
    pub(super) id: RequestId,
    pub(super) ticket: Ticket,
    pub(super) peer: Option<IpAddr>,
    pub(super) cors: CorsHeaders,
}

/// A message that waits for a receiver; its body was not read.
pub(super) struct Message {
    pub(super) content_type: Option<Box<[u8]>>,
    pub(super) body: MessageBody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MessageBody {
    None,
    Length(u64),
    Chunked,
}

pub(super) enum Sender {
    Waiting(Poll, Message),
    Sending(Poll, Transfer),
}

/// A message that is being transferred.
pub(super) struct Transfer {
    /// The receiver's request. Its end makes the response to the sender.
    pub(super) receiver: RequestId,
    pub(super) body: MessageBody,
    /// The pipe's counters, if there is a body.
    pub(super) moved: Option<PipeCounters>,
}

impl Sender {
    pub(super) fn poll(&self) -> &Poll {
        match self {
            Self::Waiting(poll, _) | Self::Sending(poll, ..) => poll,
        }
    }
}

/// A value for each side.
pub(super) struct Sides<T>([T; 2]);

impl<T> std::ops::Index<Side> for Sides<T> {
    type Output = T;
    fn index(&self, side: Side) -> &T {
        &self.0[side as usize]
    }
}

impl<T> std::ops::IndexMut<Side> for Sides<T> {
    fn index_mut(&mut self, side: Side) -> &mut T {
        &mut self.0[side as usize]
    }
}

pub(super) struct Session {
    pub(super) token: Box<str>,
    /// The path of the session, which is also the path of its cookie.
    pub(super) path: Box<str>,
    /// Further attributes of its cookies, such as `Secure`.
    pub(super) cookie_more: &'static str,
    pub(super) guests: Guests,
    pub(super) receivers: Sides<Option<Poll>>,
    pub(super) senders: Sides<Option<Sender>>,
    /// A peer has sent or received on it, or tried to.
    pub(super) used: bool,
    allocated: Instant,
    /// Number of connected requests. While there are any, the lifetime does not run.
    connected: u32,
    ttl: Duration,
    /// Time at which it ends if no request connects before.
    idle_until: Instant,
    /// Time at which it ends in any case.
    ends: Instant,
    /// The address that it counts for.
    owner: Option<IpAddr>,
}

impl Session {
    fn is_over(&self, now: Instant) -> bool {
        now >= self.ends || (self.connected == 0 && now >= self.idle_until)
    }

    /// The address that it counts for.
    pub(super) fn owner(&self) -> Option<IpAddr> {
        self.owner
    }

    /// Returns the time until it ends in any case.
    pub(super) fn left(&self, now: Instant) -> Duration {
        self.ends.saturating_duration_since(now)
    }

    /// Records that a request is connected.
    fn connect(&mut self) {
        self.connected += 1;
        self.used = true;
    }

    /// Records that a request has ended. With the last one, the full lifetime starts again.
    pub(super) fn disconnect(&mut self, now: Instant) {
        self.connected = self.connected.saturating_sub(1);
        if self.connected == 0 {
            self.idle_until = now + self.ttl;
        }
    }

    /// Returns the cookie of the host, valid for the full lifetime from now.
    pub(super) fn cookie(&self, now: Moment) -> String {
        let lasting = self.ttl.min(self.left(now.mono));
        wire::cookie(&self.token, &self.path, now.wall, lasting, self.cookie_more)
    }

    /// Adds the renewed cookie to a response to the host.
    pub(super) fn renewing(&self, side: Side, response: Response, now: Moment) -> Response {
        match side {
            Side::Host => response.header("Set-Cookie", self.cookie(now)),
            Side::Guest => response,
        }
    }

    /// Returns all suspended requests; `true` for a sender whose message is being transferred. Its connection must be
    /// closed, which truncates the transfer.
    pub(super) fn into_polls(self) -> impl Iterator<Item = (Poll, bool)> {
        let receivers = self.receivers.0.into_iter().flatten().map(|poll| (poll, false));
        let senders = self.senders.0.into_iter().flatten().map(|sender| match sender {
            Sender::Waiting(poll, _) => (poll, false),
            Sender::Sending(poll, ..) => (poll, true),
        });
        receivers.chain(senders)
    }

    /// Removes and returns the requests of one side that wait, are not in a transfer, and match the condition.
    pub(super) fn take_waiting<F: Fn(&Poll) -> bool>(
        &mut self,
        side: Side,
        matches: F,
    ) -> impl Iterator<Item = Poll> + use<F> {
        let receiver = self.receivers[side].take_if(|poll| matches(poll));
        let sender = self.senders[side].take_if(|s| matches!(s, Sender::Waiting(poll, _) if matches(poll)));
        let sender = match sender {
            Some(Sender::Waiting(poll, _)) => Some(poll),
            _ => None,
        };
        receiver.into_iter().chain(sender)
    }
}

/// The properties of a new session.
pub(super) struct CreateOptions {
    pub(super) path: Box<str>,
    pub(super) cookie_more: &'static str,
    pub(super) guests: Guests,
    pub(super) ttl: Duration,
    pub(super) owner: Option<IpAddr>,
}

/// The reason why no session is allocated.
pub(super) enum Full {
    Address(Refused),
    Room(NoRoom),
}

pub(in crate::relay) struct State {
    sessions: HashMap<Key, Session>,
    addresses: Addresses,
    unused: Unused<Key>,
    /// Number of allocations that a limit has rejected.
    refused: u64,
    swept: Option<Instant>,
}

impl State {
    pub(super) fn new(config: &SessionConfig) -> Self {
        let addresses = Addresses::new(allowance(config));
        Self { sessions: HashMap::new(), addresses, unused: Unused::new(), refused: 0, swept: None }
    }

    /// Applies the limits of a new configuration.
    pub(super) fn allow(&mut self, config: &SessionConfig) {
        self.addresses.allow(allowance(config));
    }

    /// Returns the session of this key. The caller has called [`remove_expired`](Self::remove_expired) before.
    pub(super) fn get(&mut self, key: Key) -> Option<&mut Session> {
        self.sessions.get_mut(&key)
    }

    /// Records that a request is connected to a session.
    pub(super) fn connect(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        if !session.used {
            self.unused.remove(session.owner, session.allocated, key);
        }
        session.connect();
    }

    /// Returns how many sessions were removed for others, and how many allocations were rejected.
    pub(super) fn evicted_and_refused(&self) -> (u64, u64) {
        (self.unused.evicted(), self.refused)
    }

    /// Returns the sessions that have not ended.
    pub(super) fn living(&self, now: Instant) -> impl Iterator<Item = (Key, &Session)> {
        self.sessions.iter().filter(move |(_, session)| !session.is_over(now)).map(|(key, session)| (*key, session))
    }

    pub(super) fn all(&mut self) -> impl Iterator<Item = &mut Session> {
        self.sessions.values_mut()
    }

    /// Removes a session. The caller responds to the requests that wait on it.
    pub(super) fn remove(&mut self, key: Key) -> Option<Session> {
        let session = self.sessions.remove(&key)?;
        if let Some(ip) = session.owner {
            self.addresses.release(ip);
        }
        if !session.used {
            self.unused.remove(session.owner, session.allocated, key);
        }
        Some(session)
    }

    /// Removes a session if it has ended, like [`remove`](Self::remove).
    pub(super) fn remove_expired(&mut self, key: Key, now: Instant) -> Option<Session> {
        if self.sessions.get(&key)?.is_over(now) { self.remove(key) } else { None }
    }

    /// Allocates a session. Also returns the sessions that have ended: the caller responds to the requests that wait on
    /// them.
    pub(super) fn allocate(
        &mut self,
        key: Key,
        token: Box<str>,
        options: CreateOptions,
        config: &SessionConfig,
        now: Moment,
    ) -> (Result<&Session, Full>, Vec<Session>) {
        let mut expired = self.sweep(now.mono);
        match self.make_room(options.owner, config, now.mono) {
            Ok(evicted) => expired.extend(evicted),
            Err(full) => {
                self.refused += 1;
                return (Err(full), expired);
            }
        }
        self.unused.add(options.owner, now.mono, key);
        let session = self.sessions.entry(key).or_insert(Session {
            token,
            path: options.path,
            cookie_more: options.cookie_more,
            guests: options.guests,
            receivers: Sides([None, None]),
            senders: Sides([None, None]),
            used: false,
            allocated: now.mono,
            connected: 0,
            ttl: options.ttl,
            idle_until: now.mono + options.ttl.min(config.first_use_timeout),
            ends: now.mono + config.lifetime,
            owner: options.owner,
        });
        (Ok(session), expired)
    }

    /// Makes room for a session of this address. Returns the session that was removed for it.
    fn make_room(
        &mut self,
        owner: Option<IpAddr>,
        config: &SessionConfig,
        now: Instant,
    ) -> Result<Option<Session>, Full> {
        let room = RoomRequest {
            limit: config.sessions,
            taken: self.sessions.len(),
            per_address: config.sessions_per_address,
            owner,
            owned: owner.map_or(0, |ip| self.addresses.slots(ip)),
        };
        let evicted = self.unused.make_room(&room).map_err(Full::Room)?;
        if let Some(ip) = owner {
            self.addresses.admit(ip, now).map_err(Full::Address)?;
        }
        let Some(key) = evicted else { return Ok(None) };
        self.unused.evicted_one("sessions", now);
        Ok(self.remove(key))
    }

    /// Removes the sessions that have ended, once a second at most, to make room. A session that has ended is never
    /// visible, whether or not it was removed.
    fn sweep(&mut self, now: Instant) -> Vec<Session> {
        if self.swept.is_some_and(|at| now < at + Duration::from_secs(1)) {
            return Vec::new();
        }
        self.swept = Some(now);
        let over: Vec<Key> = self.sessions.iter().filter(|(_, s)| s.is_over(now)).map(|(key, _)| *key).collect();
        over.into_iter().filter_map(|key| self.remove(key)).collect()
    }
}

fn allowance(config: &SessionConfig) -> Allowance {
    Allowance {
        slots: config.sessions,
        per_address: config.sessions_per_address,
        per_minute: config.allocations_per_minute,
        burst: config.allocation_burst,
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a starting point for a virtual clock")]
mod tests {
    use std::time::SystemTime;

    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    fn state_with(config: &SessionConfig) -> (State, Key, Moment) {
        let now = Moment { mono: Instant::now(), wall: SystemTime::UNIX_EPOCH };
        let mut state = State::new(config);
        let key = allocate(&mut state, config, now).ok().unwrap();
        (state, key, now)
    }

    fn allocate(state: &mut State, config: &SessionConfig, now: Moment) -> Result<Key, Full> {
        allocate_for(state, config, now, [1, 2, 3, 4].into())
    }

    fn allocate_for(state: &mut State, config: &SessionConfig, now: Moment, owner: IpAddr) -> Result<Key, Full> {
        let (key, token) = Key::generate().unwrap();
        let options =
            CreateOptions { path: "/s".into(), cookie_more: "", guests: Guests::Any, ttl: TTL, owner: Some(owner) };
        state.allocate(key, token, options, config, now).0.map(|_| key)
    }

    fn later(now: Moment, by: Duration) -> Moment {
        Moment { mono: now.mono + by, wall: now.wall + by }
    }

    #[test]
    fn a_key_has_one_spelling() {
        let (key, token) = Key::generate().unwrap();
        let text = key.text();
        assert_eq!((text.len(), token.len()), (22, 32));
        assert!(Key::parse(&text) == Some(key));
        for bad in ["", "x", &text[1..], &format!("{text}=="), &format!("{text}A"), &format!("{}!", &text[1..])] {
            assert!(Key::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn time_to_live_runs_only_while_nobody_is_connected() {
        let (mut state, key, now) = state_with(&SessionConfig::default());
        state.connect(key);
        state.connect(key);
        let t1 = now.mono + 10 * TTL;
        assert!(state.remove_expired(key, t1).is_none(), "connected");
        state.get(key).unwrap().disconnect(t1);
        assert!(state.remove_expired(key, t1 + TTL).is_none(), "one still is");
        state.get(key).unwrap().disconnect(t1 + TTL);
        assert!(state.remove_expired(key, t1 + 2 * TTL - Duration::from_millis(1)).is_none(), "in full");
        assert!(state.remove_expired(key, t1 + 2 * TTL).is_some());
        assert!(state.get(key).is_none());
    }

    #[test]
    fn nothing_lives_for_ever_and_no_cookie_promises_it() {
        let config = SessionConfig { lifetime: TTL + TTL / 2, ..SessionConfig::default() };
        let (mut state, key, now) = state_with(&config);
        state.connect(key);
        let session = state.get(key).unwrap();
        assert!(session.cookie(now).contains("Max-Age=60;"));
        assert!(session.cookie(later(now, TTL)).contains("Max-Age=30;"));
        assert!(state.remove_expired(key, now.mono + TTL).is_none());
        assert!(state.remove_expired(key, now.mono + TTL + TTL / 2).is_some());
    }

    #[test]
    fn sessions_that_have_ended_make_room() {
        let config = SessionConfig { sessions: 1, sessions_per_address: 1, ..SessionConfig::default() };
        let (mut state, _, now) = state_with(&config);
        assert!(matches!(allocate(&mut state, &config, now), Err(Full::Room(NoRoom::Full))));
        assert!(allocate(&mut state, &config, later(now, TTL)).is_ok());
    }

    /// 100 addresses, and then 2,000, allocate all they can, and use the sessions or not.
    #[test]
    fn many_addresses_cannot_take_all_sessions() {
        let config = SessionConfig { sessions: 1000, sessions_per_address: 100, ..SessionConfig::default() };
        let address = |n: u16| IpAddr::from([10, 0, (n >> 8) as u8, n as u8]);
        let newcomer = IpAddr::from([192, 0, 2, 1]);
        for uses in [false, true] {
            let (mut state, mine, now) = state_with(&config);
            state.connect(mine);
            state.get(mine).unwrap().disconnect(now.mono);
            let mut taken = 0;
            for n in (0..100).cycle().take(10_000) {
                let Ok(key) = allocate_for(&mut state, &config, now, address(n)) else { continue };
                taken += 1;
                if uses {
                    state.connect(key);
                }
            }
            assert!((800..1000).contains(&taken), "{taken}");
            assert!(allocate_for(&mut state, &config, now, newcomer).is_ok());
            assert!(state.get(mine).is_some());
        }
        let (mut state, mine, now) = state_with(&config);
        state.connect(mine);
        for n in 0..2000 {
            assert!(allocate_for(&mut state, &config, now, address(n)).is_ok());
        }
        let theirs = allocate_for(&mut state, &config, now, newcomer).ok().unwrap();
        assert!(matches!(allocate_for(&mut state, &config, now, newcomer), Err(Full::Room(NoRoom::Full))));
        assert!(state.get(mine).is_some() && state.get(theirs).is_some());
        assert_eq!((state.sessions.len(), state.evicted_and_refused()), (1000, (1002, 1)));
        state.connect(theirs);
        assert!((2000..2998).all(|n| allocate_for(&mut state, &config, now, address(n)).is_ok()));
        assert!(state.get(mine).is_some() && state.get(theirs).is_some(), "what was used stays");
    }

    #[test]
    fn the_time_until_the_first_use_is_short() {
        let config = SessionConfig { first_use_timeout: TTL / 2, ..SessionConfig::default() };
        let (mut state, unused, now) = state_with(&config);
        let used = allocate(&mut state, &config, now).ok().unwrap();
        state.connect(used);
        state.get(used).unwrap().disconnect(now.mono);
        assert!(state.remove_expired(unused, now.mono + TTL / 2 - Duration::from_millis(1)).is_none());
        assert!(state.remove_expired(unused, now.mono + TTL / 2).is_some());
        assert!(
            state.remove_expired(used, now.mono + TTL - Duration::from_millis(1)).is_none(),
            "it has its full time"
        );
        assert!(state.remove_expired(used, now.mono + TTL).is_some());
    }

    #[test]
    fn guests() {
        let (a, b) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        assert!(Guests::Any.admit(None) && Guests::Only(a).admit(Some(a)));
        assert!(!Guests::None.admit(Some(a)) && !Guests::Only(a).admit(Some(b)) && !Guests::Only(a).admit(None));
    }
}
