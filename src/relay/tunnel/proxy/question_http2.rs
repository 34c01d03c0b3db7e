//! The question for the credential in HTTP/2: the first stream of the connection.

use std::{sync::Arc, task, time::Instant};

use uncork::{EventMask, Io, Rx, Tx, Upgrade};

use super::{
    connection::Registration,
    handshake::Rejection,
    handshake_alpn::{HELLO, MAX_RESPONSE, Question, REFUSED, malformed},
    http2::{Http2, Parts},
    shared::Shared,
};
use crate::h2::connection::Connection;
use crate::relay::tunnel::{
    address::NODES,
    http1::OWN_HOST,
    labels::Inner,
    pump::{Codec, Step},
    wire::Link,
};

pub(super) struct Http2Question {
    parts: Parts,
    asked: Asked,
}

/// The question, and the response as far as it has arrived.
#[derive(Default)]
struct Asked {
    /// `None`: nothing was asked, or the response is complete.
    stream: Option<u32>,
    has_head: bool,
    content: Vec<u8>,
    hello: Option<Result<Vec<u8>, Rejection>>,
}

impl Http2Question {
    pub(super) fn new(shared: &Shared) -> Self {
        Self { parts: Http2::parts(&shared.common.config), asked: Asked::default() }
    }

    /// Sends a request for a path of this protocol. Returns its stream.
    fn get(&mut self, path: &str, fields: &[(&str, &str)]) -> u32 {
        let line = [(":method", "GET"), (":scheme", "https"), (":authority", OWN_HOST), (":path", path)];
        let all = line.iter().chain(fields).map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        self.parts.link.connection.begin(all, true, false)
    }
}

impl Question for Http2Question {
    fn waker(&self) -> task::Waker {
        self.parts.waker()
    }

    fn ask(&mut self, nodes: Option<&str>) {
        let nodes = nodes.map(|nodes| (NODES, nodes));
        self.asked.stream = Some(self.get(HELLO, nodes.as_slice()));
    }

    fn turn(&mut self, io: &mut Io<'_>) -> (EventMask, Option<Result<Vec<u8>, Rejection>>) {
        let Self { parts: Parts { pump, link, .. }, asked } = self;
        let mask = pump.turn(io, &mut Asking { link, asked });
        (mask, self.asked.hello.take())
    }

    fn refuse(&mut self, io: &mut Io<'_>, rejection: &Rejection) {
        // Best effort: this side's log has the reason as well.
        let status = rejection.status().to_string();
        self.get(REFUSED, &[("uncork-status", &status), ("uncork-reason", rejection.reason())]);
        let _ = self.turn(io);
    }

    fn accept(self, shared: &Arc<Shared>, registration: Registration, now: Instant) -> Box<dyn Upgrade> {
        Box::new(Http2::of(self.parts, shared, registration, now))
    }

    fn inner(&self) -> Inner {
        Inner::Http2
    }
}

/// The connection, while the response is awaited.
struct Asking<'a> {
    link: &'a mut Link,
    asked: &'a mut Asked,
}

impl Codec for Asking<'_> {
    fn read(&mut self, rx: &mut Rx<'_>) -> bool {
        self.link.read(rx).0
    }

    fn step(&mut self, _: &mut Vec<usize>) -> Step {
        let connection = &mut self.link.connection;
        if let Some(stream) = self.asked.stream
            && let Some(hello) = self.asked.take(connection, stream)
        {
            connection.release(stream);
            (self.asked.stream, self.asked.hello) = (None, Some(hello));
        }
        if self.link.ended().is_some() { Step::Over } else { Step::Pending }
    }

    fn write(&mut self, tx: &mut Tx<'_>) -> bool {
        self.link.write(tx)
    }

    fn has_output(&self) -> bool {
        self.link.connection.has_output()
    }

    fn wants_input(&self, _: &Rx<'_>) -> bool {
        self.link.wants_input()
    }
}

impl Asked {
    /// Reads the response. Returns its content, or an error if it is not usable.
    fn take(&mut self, connection: &mut Connection, stream: u32) -> Option<Result<Vec<u8>, Rejection>> {
        while !self.has_head {
            match connection.take_head(stream) {
                Some(head) if head.status == 200 => self.has_head = true,
                Some(head) if head.status < 200 => {}
                Some(_) => return Some(Err(malformed())),
                None => return connection.fault(stream).map(|_| Err(malformed())),
            }
        }
        while connection.held(stream) > 0 {
            connection.take_with(stream, usize::MAX, |bytes| {
                self.content.extend_from_slice(bytes);
                bytes.len()
            });
        }
        if self.content.len() > MAX_RESPONSE {
            return Some(Err(malformed()));
        }
        if connection.take_end(stream).is_some() {
            return Some(Ok(std::mem::take(&mut self.content)));
        }
        connection.fault(stream).map(|_| Err(malformed()))
    }
}
