//! An origin server for a test, behind a tunnel to a proxy in the same process.

use std::{
    net::SocketAddr,
    sync::mpsc::{Receiver, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use uncork::{
    Handler, StopHandle, TlsClient,
    relay::tunnel::{Tunnel, TunnelEvent},
};

use super::{
    client::TIMEOUT,
    world::{World, identity},
};

/// How an origin server is driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Threads,
    External,
}

/// All modes, for a loop over them.
pub(crate) const MODES: [Mode; 2] = [Mode::Threads, Mode::External];

/// Chooses the protocol on the tunnel: HTTP/2, then HTTP/1.1.
pub(crate) const INNER: [fn(Tunnel) -> Tunnel; 2] = [std::convert::identity, Tunnel::http1_only];

/// All modes with all protocols, for a loop over them.
pub(crate) fn all() -> impl Iterator<Item = (Mode, fn(Tunnel) -> Tunnel)> {
    MODES.into_iter().flat_map(|mode| INNER.map(|inner| (mode, inner)))
}

/// An origin server that runs. Dropping it stops it at once.
pub(crate) struct OriginServer {
    pub(crate) stopper: StopHandle,
    events: Receiver<String>,
    thread: Option<JoinHandle<()>>,
}

/// The root of the proxy's certificate.
pub(crate) fn trust() -> TlsClient {
    TlsClient::roots_pem(identity().pem.as_bytes()).expect("a root")
}

/// A tunnel to that proxy, as "app", for `app.example`; with short timeouts, so that no test waits long.
pub(crate) fn tunnel(origins: SocketAddr) -> Tunnel {
    Tunnel::dial(&format!("localhost:{}", origins.port()))
        .tls(trust())
        .token("app")
        .host("app.example")
        .backoff(Duration::from_millis(20))
}

impl OriginServer {
    pub(crate) fn new(tunnel: Tunnel, mode: Mode, handler: impl Handler + Clone + Send + 'static) -> Self {
        let (sender, events) = channel();
        let tunnel = tunnel.on_event(move |event: &TunnelEvent<'_>| {
            let _ = sender.send(event.to_string());
        });
        let (sender, stop_handle) = channel();
        let thread = std::thread::spawn(move || match mode {
            Mode::Threads => {
                let running = tunnel.threads(2, handler).expect("a valid tunnel");
                sender.send(running.stop_handle()).expect("a receiver");
                running.join().expect("ended normally");
            }
            Mode::External => {
                let mut external = tunnel.external(handler).expect("a valid tunnel");
                sender.send(external.stop_handle()).expect("a receiver");
                while !external.is_done() {
                    let _ = external.wait(None).expect("events");
                }
            }
        });
        let stopper = stop_handle.recv_timeout(TIMEOUT).expect("running");
        Self { stopper, events, thread: Some(thread) }
    }

    /// Waits for the next event whose text contains `what`.
    #[track_caller]
    pub(crate) fn expect_event(&self, what: &str) -> String {
        let (end, mut events) = (Instant::now() + TIMEOUT, Vec::new());
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) if event.contains(what) => return event,
                Ok(event) => events.push(event),
                Err(_) => panic!("no event with {what:?}, but {events:?}"),
            }
        }
    }

    /// Waits until both connections are established, and the proxy forwards to them.
    #[track_caller]
    pub(crate) fn wait_connected(self, world: &World) -> Self {
        self.expect_event("connected");
        self.expect_event("connected");
        self.wait_served(world)
    }

    /// Waits until the proxy forwards to this origin server.
    #[track_caller]
    pub(crate) fn wait_served(self, world: &World) -> Self {
        let end = Instant::now() + TIMEOUT;
        let mut client = world.client();
        while client.send("GET /joined HTTP/1.1\r\nHost: app.example\r\n\r\n").response().status == 502 {
            assert!(Instant::now() < end, "the origin server does not join");
        }
        self
    }

    /// Waits for an end that was requested.
    pub(crate) fn wait_ended(mut self) {
        self.join();
    }

    fn join(&mut self) {
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(ended.is_none_or(|result| result.is_ok()), "the origin server has panicked");
        }
    }
}

impl Drop for OriginServer {
    fn drop(&mut self) {
        self.stopper.stop_now();
        self.join();
    }
}
