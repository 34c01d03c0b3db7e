//! The question for the credential in HTTP/1.1: the first request on the connection.

use std::{sync::Arc, task, time::Instant};

use uncork::{
    EventMask, Io, Rx, Tx, Upgrade,
    h1::{
        Headers,
        write::{BodyLength, RequestLine, request_head},
    },
};

use super::{
    connection::Registration,
    handshake::Rejection,
    handshake_alpn::{HELLO, MAX_RESPONSE, Question, REFUSED, malformed},
    http1::{Http1, Parts},
    shared::Shared,
};
use crate::relay::tunnel::{
    address::NODES,
    http1::{Input, OWN_HOST, Output},
    labels::Inner,
    pump::{Codec, Step},
    response::{Piece, ResponseReader},
};

pub(super) struct Http1Question {
    parts: Parts,
    content: Vec<u8>,
}

impl Http1Question {
    pub(super) fn new() -> Self {
        Self { parts: Parts::new(), content: Vec::new() }
    }

    fn send(&mut self, path: &str, fields: &[(&str, &str)]) {
        let mut all = Headers::new();
        for (name, value) in fields {
            // A reason with characters that no field can have is left out; this side's log has it.
            let _ = all.append(name, *value);
        }
        let line = RequestLine {
            method: "GET",
            target: path,
            host: OWN_HOST,
            fields: all.as_wire(),
            length: BodyLength::None,
            expect: false,
            connection: None,
        };
        let mut head = Vec::new();
        if request_head(&line, &mut head).is_ok() {
            self.parts.output.put(&head);
            self.parts.reader.begin("GET".into());
        }
    }
}

impl Question for Http1Question {
    fn waker(&self) -> task::Waker {
        self.parts.waker.clone()
    }

    fn ask(&mut self, nodes: Option<&str>) {
        match nodes {
            Some(nodes) => self.send(HELLO, &[(NODES, nodes)]),
            None => self.send(HELLO, &[]),
        }
    }

    fn turn(&mut self, io: &mut Io<'_>) -> (EventMask, Option<Result<Vec<u8>, Rejection>>) {
        let Self { parts, content } = self;
        let Parts { pump, reader, output, .. } = parts;
        let mut asking = Asking { reader, output, content, over: None, ended: false };
        let mask = pump.turn(io, &mut asking);
        let over = asking.over;
        (mask, over.map(|usable| if usable { Ok(std::mem::take(&mut self.content)) } else { Err(malformed()) }))
    }

    fn refuse(&mut self, io: &mut Io<'_>, rejection: &Rejection) {
        let status = rejection.status().to_string();
        self.send(REFUSED, &[("uncork-status", &status), ("uncork-reason", rejection.reason())]);
        self.parts.output.drain(&mut io.tx);
    }

    fn accept(self, shared: &Arc<Shared>, registration: Registration, now: Instant) -> Box<dyn Upgrade> {
        Box::new(Http1::of(self.parts, shared, registration, now))
    }

    fn inner(&self) -> Inner {
        Inner::Http1
    }
}

/// The question, as the pump drives it.
struct Asking<'a> {
    reader: &'a mut ResponseReader<Input>,
    output: &'a mut Output,
    content: &'a mut Vec<u8>,
    /// The response is complete and usable, or is not usable.
    over: Option<bool>,
    ended: bool,
}

impl Asking<'_> {
    fn receive(&mut self) -> Option<bool> {
        loop {
            match self.reader.next() {
                Piece::Pending => return None,
                Piece::Broken(_) => {
                    self.ended = self.reader.has_ended();
                    return (!self.ended).then_some(false);
                }
                Piece::Informational(..) => {}
                Piece::Head(head) if head.status != 200 || !head.keep_alive => return Some(false),
                Piece::Head(head) if head.whole => return Some(true),
                Piece::Head(_) => {}
                Piece::Data { bytes, .. } if self.content.len() + bytes.len() > MAX_RESPONSE => return Some(false),
                Piece::Data { bytes, last } => {
                    self.content.extend_from_slice(bytes);
                    let n = bytes.len();
                    self.reader.consume(n);
                    if last {
                        return Some(true);
                    }
                }
                Piece::End(_) => return Some(true),
            }
        }
    }
}

impl Codec for Asking<'_> {
    fn read(&mut self, rx: &mut Rx<'_>) -> bool {
        self.reader.source().fill(rx)
    }

    fn step(&mut self, woken: &mut Vec<usize>) -> Step {
        woken.clear();
        if self.over.is_none() && !self.ended {
            self.over = self.receive();
        }
        if self.ended { Step::Over } else { Step::Pending }
    }

    fn write(&mut self, tx: &mut Tx<'_>) -> bool {
        self.output.drain(tx)
    }

    fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    fn wants_input(&self, _: &Rx<'_>) -> bool {
        self.reader.source_ref().has_room()
    }
}
