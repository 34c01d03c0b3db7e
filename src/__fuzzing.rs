//! Private parts of the crate for its own fuzz targets and benchmarks. Not part of the public interface.

#[cfg(feature = "auth")]
pub use crate::auth::fuzz::auth;
#[cfg(feature = "tunnel")]
pub use crate::h2::fuzz::fuzz as http2_client;
#[cfg(feature = "directory")]
pub use crate::relay::nodes::directory::fuzz::engine;
#[cfg(feature = "nodes")]
pub use crate::relay::nodes::fuzz::node;
#[cfg(feature = "spdy")]
pub use crate::relay::tunnel::spdy::fuzz::spdy;
#[cfg(feature = "http2")]
pub use crate::server::http2_fuzz::fuzz as http2;
#[cfg(feature = "ws")]
pub use crate::ws::fuzz::{inflate, websocket};
use crate::{
    base::{Limits, buf::Buf, out::Out},
    conn::{BodyOut, ServerConn, message::ResponseSpec},
    h1::{HeadLimits, Headers, KnownHost, field_slots},
};
pub use crate::{
    conn::{client_harness::fuzz as response, fuzz::fuzz as connection},
    form::fuzz::form,
    h1::{chunked::fuzz as chunked, framing::fuzz as framing, head::fuzz as head},
    transport::proxy::fuzz as proxy,
};

/// See `src/relay/tunnel/http1_fuzz/mod.rs`. `now`: any time.
///
/// # Panics
/// If something does not hold.
#[cfg(feature = "tunnel")]
pub fn tunnel_http1(data: &[u8], now: crate::base::Moment) {
    crate::relay::tunnel::http1_fuzz::fuzz(data, now, |handler| {
        let started = crate::server::manual::ManualLoop::new(handler, now);
        let mut on = started.unwrap_or_else(|error| panic!("cannot start a loop: {error}"));
        let handle = on.handle();
        (handle, Box::new(move |now| on.turn(now).unwrap_or_else(|error| panic!("the loop has failed: {error}"))))
    });
}

/// One connection in memory, without an engine.
pub struct OneConnection {
    conn: ServerConn,
    rx: Buf,
    out: Out,
    limits: Limits,
    head_limits: HeadLimits,
    known_host: KnownHost,
    fields: Headers,
}

impl std::fmt::Debug for OneConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OneConnection")
    }
}

impl Default for OneConnection {
    fn default() -> Self {
        let mut fields = Headers::new();
        let added = fields.append("Content-Type", "text/plain");
        debug_assert!(added.is_ok());
        Self {
            conn: ServerConn::new(),
            rx: Buf::from_store(vec![0; 64 * 1024].into_boxed_slice()),
            out: Out::default(),
            limits: Limits::default(),
            head_limits: HeadLimits::default(),
            known_host: KnownHost::default(),
            fields,
        }
    }
}

impl OneConnection {
    /// Reads `wire`, responds to each request without a body with `body`, and passes the output to `sent`. Returns the
    /// number of requests.
    pub fn serve(&mut self, wire: &[u8], body: &[u8], sent: impl FnOnce(&[u8])) -> usize {
        const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";
        self.rx.push(wire);
        let mut requests = 0;
        loop {
            let mut slots = field_slots();
            let found = self.conn.poll_head(&self.rx, &mut slots, &self.head_limits, &mut self.known_host);
            let Ok(Some((end, head))) = found else { break };
            if self.conn.begin(&head, &self.limits, false).is_err() {
                break;
            }
            self.rx.consume(end);
            let length = Some(body.len() as u64);
            let response = ResponseSpec { status: 200, fields: &self.fields, length, date: DATE };
            if let BodyOut::Length(n) = self.conn.respond(&response, &mut self.out) {
                self.out.push(body);
                self.conn.wrote(n);
            }
            requests += 1;
            if !self.conn.is_idle() {
                break;
            }
        }
        sent(self.out.buf.filled());
        self.out.clear();
        requests
    }
}

/// Masks a WebSocket frame's payload, as its client does.
#[cfg(feature = "ws")]
pub fn mask(bytes: &mut [u8], key: [u8; 4], at: u64) {
    crate::ws::frame::mask(bytes, key, at);
}

/// One WebSocket in memory that echoes, without an engine.
#[cfg(feature = "ws")]
pub struct OneWebSocket(crate::ws::server_harness::Harness);

#[cfg(feature = "ws")]
impl OneWebSocket {
    /// Creates a server's session with a fixed clock.
    pub fn new(now: crate::base::Moment) -> Self {
        Self(crate::ws::server_harness::Harness::new(&crate::ws::server_harness::Setup::default(), now))
    }

    /// Reads `wire` and returns the number of bytes that it sends in response.
    pub fn feed(&mut self, wire: &[u8]) -> usize {
        self.0.sent.clear();
        self.0.feed(wire);
        self.0.sent.len()
    }
}

#[cfg(feature = "ws")]
impl std::fmt::Debug for OneWebSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OneWebSocket")
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    /// Runs a fuzz target over its corpus.
    fn over_corpus(target: &str, fuzz: impl Fn(&[u8]) + std::panic::RefUnwindSafe) {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        if !dir.exists() {
            return; // A published crate comes without it.
        }
        let mut seeds = 0;
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let seed = fs::read(&path).unwrap();
            let held = std::panic::catch_unwind(|| fuzz(&seed)).is_ok();
            assert!(held, "{} fails on {}", target, path.display());
            seeds += 1;
        }
        assert!(seeds > 5, "too few files in {}", dir.display());
    }

    #[test]
    fn heads_hold_over_the_corpus() {
        over_corpus("head", super::head);
    }

    #[test]
    fn chunks_hold_over_the_corpus() {
        over_corpus("chunked", super::chunked);
    }

    #[test]
    fn framing_holds_over_the_corpus() {
        over_corpus("framing", super::framing);
    }

    #[test]
    fn connections_hold_over_the_corpus() {
        over_corpus("connection", super::connection);
    }

    #[test]
    fn forms_hold_over_the_corpus() {
        over_corpus("form", super::form);
    }

    #[test]
    fn proxies_hold_over_the_corpus() {
        over_corpus("proxy", super::proxy);
    }

    #[test]
    fn responses_hold_over_the_corpus() {
        over_corpus("response", super::response);
    }

    #[test]
    #[cfg(feature = "ws")]
    #[expect(clippy::disallowed_methods, reason = "the time does not matter")]
    fn websockets_hold_over_the_corpus() {
        let now = crate::Moment { mono: std::time::Instant::now(), wall: std::time::SystemTime::UNIX_EPOCH };
        over_corpus("websocket", |data| super::websocket(data, now));
        over_corpus("inflate", super::inflate);
    }

    #[test]
    #[cfg(feature = "auth")]
    #[expect(clippy::disallowed_methods, reason = "the time does not matter")]
    fn authentication_holds_over_the_corpus() {
        over_corpus("auth", |data| super::auth(data, std::time::Instant::now()));
    }

    #[test]
    #[cfg(feature = "directory")]
    #[expect(clippy::disallowed_methods, reason = "the time does not matter")]
    fn the_engine_holds_over_the_corpus() {
        over_corpus("engine", |data| super::engine(data, std::time::Instant::now()));
    }

    #[test]
    #[cfg(feature = "nodes")]
    fn nodes_hold_over_the_corpus() {
        over_corpus("node", super::node);
    }

    #[test]
    #[cfg(feature = "spdy")]
    fn spdy_holds_over_the_corpus() {
        over_corpus("spdy", super::spdy);
    }

    #[test]
    #[cfg(feature = "http2")]
    #[expect(clippy::disallowed_methods, reason = "the time does not matter")]
    fn http2_holds_over_the_corpus() {
        let now = crate::Moment { mono: std::time::Instant::now(), wall: std::time::SystemTime::UNIX_EPOCH };
        over_corpus("http2", |data| super::http2(data, now));
    }

    #[test]
    #[cfg(feature = "tunnel")]
    fn clients_of_http2_hold_over_the_corpus() {
        over_corpus("http2_client", super::http2_client);
    }

    #[test]
    #[cfg(feature = "tunnel")]
    #[expect(clippy::disallowed_methods, reason = "the time does not matter")]
    fn http1_in_the_tunnel_holds_over_the_corpus() {
        let now = crate::Moment { mono: std::time::Instant::now(), wall: std::time::SystemTime::UNIX_EPOCH };
        over_corpus("tunnel_http1", |data| super::tunnel_http1(data, now));
    }

    #[test]
    fn the_benchmark_serves() {
        let mut conn = super::OneConnection::default();
        let wire = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(3);
        let served = conn.serve(&wire, b"hello", |sent| assert!(sent.ends_with(b"\r\n\r\nhello")));
        assert_eq!(served, 3);
    }
}
