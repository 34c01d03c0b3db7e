//! The other way in: by ALPN `rh2`, HTTP/2 with the roles reversed from the first byte behind TLS.
//!
//! ```text
//!   TLS, ALPN rh2 ──▶ this side is HTTP/2's client at once, and asks:
//!   GET /.well-known/uncork/hello ──▶ {"token": "…", "hosts": ["app.example"]} ──┬─ known ──▶ Http2: it takes requests
//!                                                                               └─ not: told, and closed
//! ```
//! Until then it has one of a few places, which are shared among networks ([`doors`]). No client's request goes out before
//! that. An origin server that is not let in is asked one thing more, so that it can log
//! why: `GET /.well-known/uncork/refused`, with `uncork-status` and `uncork-reason`. There is no client certificate to be
//! had here: it is a token, or nothing.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use h2::{RecvStream, client::ResponseFuture};
use serde_json::Value;
use uncork::{EventMask, Io, PeerAddr, Upgrade};

use super::{
    Shared,
    handshake::{self, Denial},
    handshake_limits::{self, Place},
    http2::{Http2, Parts},
    link::Opening,
};
use crate::relay::tunnel::pump::Step;

/// What is agreed on by ALPN.
pub(super) const PROTOCOL: &[u8] = b"rh2";

const HELLO: &str = "https://origin.invalid/.well-known/uncork/hello";
const REFUSED: &str = "https://origin.invalid/.well-known/uncork/refused";

/// Bytes of an answer to it.
const MOST: usize = 16 * 1024;

/// A connection that has not said yet whose it is; then the link it has become.
pub(super) struct Hello {
    shared: Arc<Shared>,
    peer: PeerAddr,
    /// Until it is let in.
    parts: Option<Parts>,
    asked: Option<HelloState>,
    began: Option<Instant>,
    /// When this was last called.
    now: Option<Instant>,
    place: Option<Place>,
    /// It has identified itself, or is not counted as one that did not.
    settled: bool,
    link: Option<Http2>,
}

enum HelloState {
    Head(ResponseFuture),
    Body(RecvStream, Vec<u8>),
}

impl Hello {
    pub(super) fn new(shared: &Arc<Shared>, peer: PeerAddr) -> Option<Self> {
        let parts = Http2::parts(&shared.config)?;
        Some(Self {
            shared: shared.clone(),
            peer,
            parts: Some(parts),
            asked: None,
            began: None,
            now: None,
            place: None,
            settled: false,
            link: None,
        })
    }

    /// Takes a place and sends the question. Returns `false` if there is no place, or the network has failed too often.
    fn begin(&mut self, now: Instant) -> bool {
        if self.shared.doors().too_fast(&self.peer, now).is_some() {
            handshake_limits::throttled(&self.shared, &self.peer, now);
            return false;
        }
        let Some(parts) = &mut self.parts else { return false };
        self.place = Place::take(&self.shared, &self.peer, parts.waker());
        if let Ok(head) = http::Request::get(HELLO).body(()) {
            self.asked = parts.send.send_request(head, true).ok().map(|(answer, _)| HelloState::Head(answer));
        }
        self.place.is_some()
    }

    fn judge(&self, words: &[u8], io: &Io<'_>) -> Result<Opening, Denial> {
        let said: Value = serde_json::from_slice(words).map_err(|_| Denial::new(400, "the hello is no JSON"))?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let token = said.get("token").and_then(text).unwrap_or_default();
        let hosts = said.get("hosts").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let hosts: Vec<String> = hosts.iter().filter_map(text).collect();
        let owner = handshake::by_token(&self.shared, token.as_bytes())?;
        let patterns = handshake::names(&self.shared, hosts.iter().map(String::as_bytes), owner)?;
        handshake::claim(&self.shared, &patterns, owner, io.now().mono)?;
        Ok(Opening { owner, patterns, peer: self.peer, since: io.now().wall })
    }

    /// Says why not, and ends.
    fn refuse(&mut self, io: &mut Io<'_>, denial: &Denial) -> EventMask {
        handshake::denied(&self.shared, &self.peer, denial, io.now().mono);
        if denial.status() == 400 {
            // What it said was of no use: as good as nothing.
            self.shared.doors().failed(&self.peer, io.now().mono);
        }
        if let Some(parts) = &mut self.parts {
            let head = http::Request::get(REFUSED)
                .header("uncork-status", denial.status())
                .header("uncork-reason", denial.words())
                .body(());
            // As far as it goes: what can't be said is in the log.
            let said = head.is_ok_and(|head| parts.send.send_request(head, true).is_ok());
            let connection = &mut parts.connection;
            let _ = parts.pump.turn(io, |cx, _| {
                let polled = Pin::new(&mut *connection).poll(cx);
                if polled.is_ready() || !said { Step::Over } else { Step::Waits }
            });
        }
        EventMask::TERMINATE
    }
}

/// Asks, and reads the answer. `Some`: what it says, or that it says nothing of use.
fn poll_hello(asked: &mut Option<HelloState>, cx: &mut Context<'_>) -> Option<Result<Vec<u8>, Denial>> {
    let broken = || Some(Err(Denial::new(400, "the hello was not answered")));
    loop {
        match asked.as_mut()? {
            HelloState::Head(answer) => match Pin::new(answer).poll(cx) {
                Poll::Pending => return None,
                Poll::Ready(Ok(answer)) if answer.status() == 200 => {
                    *asked = Some(HelloState::Body(answer.into_body(), Vec::new()));
                }
                Poll::Ready(_) => return broken(),
            },
            HelloState::Body(body, words) => match body.poll_data(cx) {
                Poll::Pending => return None,
                Poll::Ready(Some(Ok(data))) if words.len() + data.len() <= MOST => {
                    words.extend_from_slice(&data);
                    let _ = body.flow_control().release_capacity(data.len());
                }
                Poll::Ready(None) => return Some(Ok(std::mem::take(words))),
                Poll::Ready(Some(_)) => return broken(),
            },
        }
    }
}

impl Upgrade for Hello {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        if let Some(link) = &mut self.link {
            return link.ready(io);
        }
        let now = io.now().mono;
        self.now = Some(now);
        let until = match self.began {
            Some(began) => began + self.shared.config.handshake_timeout,
            None => {
                self.began = Some(now);
                self.settled = io.events().is_stopping() || !self.begin(now);
                now + self.shared.config.handshake_timeout
            }
        };
        self.settled |= io.events().is_stopping();
        let lost = self.place.as_ref().is_some_and(Place::is_lost);
        let Some(parts) = self.parts.as_mut().filter(|_| !self.settled && !lost && now < until) else {
            io.abort();
            return EventMask::TERMINATE;
        };
        io.set_deadline(Some(until));
        let (asked, connection) = (&mut self.asked, &mut parts.connection);
        let mut heard = None;
        let mask = parts.pump.turn(io, |cx, _| {
            if heard.is_none() {
                heard = poll_hello(asked, cx);
            }
            match Pin::new(&mut *connection).poll(cx) {
                Poll::Ready(_) => Step::Over,
                Poll::Pending => Step::Waits,
            }
        });
        let Some(heard) = heard else { return mask };
        self.asked = None;
        self.settled = true;
        match heard.and_then(|words| self.judge(&words, io)) {
            Err(denial) => self.refuse(io, &denial),
            Ok(opening) => {
                let Some(parts) = self.parts.take() else { return EventMask::TERMINATE };
                self.place = None;
                self.link.insert(Http2::of(parts, &self.shared, opening, now)).ready(io)
            }
        }
    }
}

impl Drop for Hello {
    fn drop(&mut self) {
        if let Some(now) = self.now.filter(|_| !self.settled) {
            handshake_limits::unanswered(&self.shared, &self.peer, now);
        }
    }
}
