use std::time::SystemTime;

use super::*;

fn start() -> Moment {
    Moment { mono: Instant::now(), wall: SystemTime::UNIX_EPOCH }
}

fn later(now: Moment, seconds: u64) -> Moment {
    let by = Duration::from_secs(seconds);
    Moment { mono: now.mono + by, wall: now.wall + by }
}

fn create(state: &mut State, config: &RendezvousConfig, body: &str, now: Moment) -> Result<Id, CreateError> {
    create_for(state, config, body, now, [192, 0, 2, 1].into())
}

fn create_for(
    state: &mut State,
    config: &RendezvousConfig,
    body: &str,
    now: Moment,
    owner: IpAddr,
) -> Result<Id, CreateError> {
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
    assert_eq!(state.with(id, &config, later(now, 30), |s| s.post(fault.clone(), &config, later(now, 30))), Some(true));
    for at in [30, 89] {
        let faults = state.with(id, &config, later(now, at), |s| [s.reject_source(), s.reject_receiver()]);
        assert_eq!(faults, Some([Some(fault.clone()), Some(fault.clone())]));
        let again = state.with(id, &config, later(now, at), |s| s.post(fault.clone(), &config, later(now, at)));
        assert_eq!(again, Some(false));
    }
    let last = status(&mut state, &config, id, later(now, 89)).unwrap();
    assert!(last.contains(r#""state":"CLIENT_ERROR","active":false,"bytes_transferred":0}"#), "{last}");
    assert!(status(&mut state, &config, id, later(now, 90)).is_none());
}

#[test]
fn what_waits_is_limited_and_records_free_slots() {
    let config = RendezvousConfig { streams: 2, ..RendezvousConfig::default() };
    let (mut state, now) = (State::new(&config), start());
    let first = create(&mut state, &config, "", now).unwrap();
    create(&mut state, &config, "", later(now, 1)).unwrap();
    assert_eq!(create(&mut state, &config, "", later(now, 2)), Err(CreateError::NoFreeSlot(NoFreeSlot::Full)));
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
    assert!(counts.evicted > 1000 && counts.rejected > 0, "{counts:?}");
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
        assert_eq!(create(n, &body), Err(CreateError::AddressFields));
    }
    assert!(create(9, &body).is_ok());
}

#[test]
fn fields_weigh() {
    let body = format!("{{\"download_headers\":{{\"A\":\"{}\"}}}}", "x".repeat(1000));
    let config = RendezvousConfig { json_total: 5000, ..RendezvousConfig::default() };
    let (mut state, now) = (State::new(&config), start());
    assert!(create(&mut state, &config, &body, now).is_ok() && create(&mut state, &config, &body, now).is_ok());
    assert_eq!(create(&mut state, &config, &body, now), Err(CreateError::Fields));
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
    assert_eq!(create(&mut state, &config, "", now), Err(CreateError::Address(Rejected::TooMany)));
    assert!(create(&mut state, &config, "", later(now, 120)).is_ok(), "it was forgotten");
}
