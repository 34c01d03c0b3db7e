use std::time::SystemTime;

use super::*;

const TTL: Duration = Duration::from_secs(60);

fn state_with(config: &SessionConfig) -> (State, Key, Moment) {
    let now = Moment { mono: Instant::now(), wall: SystemTime::UNIX_EPOCH };
    let mut state = State::new(config);
    let key = allocate(&mut state, config, now).ok().unwrap();
    (state, key, now)
}

fn allocate(state: &mut State, config: &SessionConfig, now: Moment) -> Result<Key, CreateError> {
    allocate_for(state, config, now, [1, 2, 3, 4].into())
}

fn allocate_for(state: &mut State, config: &SessionConfig, now: Moment, owner: IpAddr) -> Result<Key, CreateError> {
    let (key, token) = Key::generate().unwrap();
    let options =
        CreateOptions { path: "/s".into(), cookie_attributes: "", guests: Guests::Any, ttl: TTL, owner: Some(owner) };
    state.allocate(key, token, options, config, now).0.map(|_| key)
}

fn later(now: Moment, by: Duration) -> Moment {
    Moment { mono: now.mono + by, wall: now.wall + by }
}

#[test]
fn time_to_live_runs_only_without_connected_clients() {
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
fn sessions_that_have_ended_free_slots() {
    let config = SessionConfig { sessions: 1, sessions_per_address: 1, ..SessionConfig::default() };
    let (mut state, _, now) = state_with(&config);
    assert!(matches!(allocate(&mut state, &config, now), Err(CreateError::NoFreeSlot(NoFreeSlot::Full))));
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
    assert!(matches!(allocate_for(&mut state, &config, now, newcomer), Err(CreateError::NoFreeSlot(NoFreeSlot::Full))));
    assert!(state.get(mine).is_some() && state.get(theirs).is_some());
    assert_eq!((state.sessions.len(), state.evicted_and_rejected()), (1000, (1002, 1)));
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
    assert!(state.remove_expired(used, now.mono + TTL - Duration::from_millis(1)).is_none(), "it has its full time");
    assert!(state.remove_expired(used, now.mono + TTL).is_some());
}

#[test]
fn guests() {
    let (a, b) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
    assert!(Guests::Any.admit(None) && Guests::Only(a).admit(Some(a)));
    assert!(!Guests::None.admit(Some(a)) && !Guests::Only(a).admit(Some(b)) && !Guests::Only(a).admit(None));
}
