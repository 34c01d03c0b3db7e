//! A gateway that runs during a test, with its application.

use std::{
    thread,
    time::{Duration, Instant},
};

use uncork::{
    Limits,
    relay::{Gateway, GatewayConfig, GatewayStats},
};

use crate::{
    app::{App, Call, Reaction, agrees},
    socket::Socket,
    wire::{TIMEOUT, TestResponse, Wire},
    world::{Host, World},
};

/// A short time, to show that nothing happens; never to wait for an event.
pub(crate) const MOMENT: Duration = Duration::from_millis(60);

pub(crate) struct TestGateway {
    // Stopped before its application.
    pub(crate) host: Host,
    pub(crate) service: Gateway,
    pub(crate) app: App,
}

/// Starts a gateway whose application has all callbacks, and [agrees](agrees).
pub(crate) fn start(world: &World) -> TestGateway {
    start_with(world, |_, _| {}, agrees)
}

pub(crate) fn start_with(
    world: &World,
    change: impl FnOnce(&mut GatewayConfig, &App),
    script: impl FnMut(&Call) -> Reaction + Send + 'static,
) -> TestGateway {
    let app = App::start(script);
    let mut config = GatewayConfig { endpoint: "gateway.test:9180".into(), ..GatewayConfig::default() };
    config.callback.connect = app.url("/connect");
    config.callback.establish = app.url("/establish");
    config.callback.receive = app.url("/receive");
    config.callback.close = app.url("/close");
    change(&mut config, &app);
    let limits = config.server_limits(Limits::default());
    let service = Gateway::new(config).expect("a good configuration");
    let host = world.serve_within(limits, service.clone());
    TestGateway { host, service, app }
}

impl TestGateway {
    /// Connects a client under that key, which the application has confirmed.
    #[track_caller]
    pub(crate) fn client(&self, key: &str) -> Socket {
        let before = self.app.calls("/establish").len();
        let socket = Socket::connect(&self.host, &format!("/connect?key={key}"), &[]);
        if !self.service.config().callback.establish.is_empty() {
            self.app.wait_for_calls("/establish", before + 1);
        }
        // The session is established when messages reach it, which is after the response to `establish`.
        socket
    }

    #[track_caller]
    pub(crate) fn post(&self, path: &str, keys: &[&str], fields: &[&str], body: &[u8]) -> TestResponse {
        let mut wire = self.host.connect();
        self.send_post(&mut wire, path, keys, fields, body);
        wire.response()
    }

    /// Like [`post`](Self::post), but does not wait for the response.
    pub(crate) fn send_post(&self, wire: &mut Wire, path: &str, keys: &[&str], fields: &[&str], body: &[u8]) {
        let keys: Vec<String> = keys.iter().map(|key| format!("X-Kuiperbelt-Session: {key}")).collect();
        let fields: Vec<&str> = fields.iter().copied().chain(keys.iter().map(String::as_str)).collect();
        wire.post(path, &fields, body);
    }

    #[track_caller]
    pub(crate) fn send(&self, keys: &[&str], body: &str) -> TestResponse {
        self.post("/send", keys, &["Content-Type: text/plain"], body.as_bytes())
    }

    #[track_caller]
    pub(crate) fn get(&self, target: &str) -> TestResponse {
        let mut wire = self.host.connect();
        wire.request(&format!("GET {target}"), &[]);
        wire.response()
    }

    /// Waits until the statistics satisfy the condition.
    #[track_caller]
    pub(crate) fn stats(&self, what: &str, are: impl Fn(&GatewayStats) -> bool) -> GatewayStats {
        let start = now();
        loop {
            let stats = self.service.stats();
            if are(&stats) {
                return stats;
            }
            assert!(start.elapsed() < TIMEOUT, "{what}: {stats}");
            pause(Duration::from_millis(2));
        }
    }
}

/// Lets time pass, where time itself is tested.
#[expect(clippy::disallowed_methods, reason = "the gateway's time is the system's")]
pub(crate) fn pause(time: Duration) {
    thread::sleep(time);
}

#[expect(clippy::disallowed_methods, reason = "the gateway's time is the system's")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Asserts the body of a response, to the byte.
#[track_caller]
pub(crate) fn is(response: &TestResponse, status: u16, body: &str) {
    assert_eq!((response.status, response.text()), (status, body));
}
