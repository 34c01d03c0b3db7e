//! One request and its response, on a connection of HTTP/1.1.
//!
//! ```text
//!   PipeOut ── bytes, framed ──▶ Output ══▶ origin ══▶ ResponseReader ── bytes ──▶ PipeIn
//!              backpressure in both directions: Output is bounded, and what the pipe does not take is not read
//! ```

use base64::{Engine as _, prelude::BASE64_STANDARD};
use uncork::{
    PipeIn, PipeOut,
    h1::{
        Headers,
        write::{BodyLength, ConnectionOption, LAST_CHUNK, RequestLine, request_head, trailers},
    },
};

use std::task;

use super::{
    proxied_request::{Begun, Failure, ProxiedRequest, Share},
    proxied_stream::{Next, PendingResponse, Turn},
    shares::Permit,
};
use crate::relay::tunnel::{
    head,
    http1::{HEAD, Input, Output},
    response::{Piece, ResponseHead, ResponseReader},
};

pub(super) struct Exchange {
    waker: task::Waker,
    request: Option<RequestBody>,
    response: ResponseState,
    /// The protocol that the client upgrades to.
    protocol: Option<Box<str>>,
    /// The connection has left HTTP.
    switched: bool,
    /// The origin server takes no more requests on the connection.
    closes: bool,
    _share: Share,
    _permit: Option<Permit>,
}

/// The request's body.
struct RequestBody {
    outlet: PipeOut,
    framing: Framing,
    sent: u64,
    max: u64,
    listed: Vec<Box<str>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// The rest of the declared length.
    Length(u64),
    Chunked,
    /// The new protocol's bytes are held back until the origin server has accepted it.
    Held,
    Raw,
}

/// The response.
enum ResponseState {
    Head(Box<PendingResponse>),
    Body(PipeIn),
    Over,
}

impl Exchange {
    /// Sends the head. `max_body`: the size limit of the body. Returns `None` if that failed; the client has got an
    /// error then.
    pub(super) fn begin(
        request: Box<ProxiedRequest>,
        reader: &mut ResponseReader<Input>,
        output: &mut Output,
        waker: &task::Waker,
        max_body: u64,
    ) -> Option<Self> {
        let ProxiedRequest { head, protocol, body, listed, responder, share, rejected_by, permit } = *request;
        let wire = match write_head(&head, protocol.as_deref(), body.is_some()) {
            Ok(written) => written,
            Err(failure) => {
                responder.fail(failure);
                return None;
            }
        };
        let upgrade = protocol.clone();
        reader.begin(if upgrade.is_some() { "GET" } else { head.method().as_str() }.into());
        output.put(&wire);
        let framing = match head::length(head.headers().get("content-length")) {
            _ if upgrade.is_some() => Framing::Held,
            Some(length) => Framing::Length(length),
            None => Framing::Chunked,
        };
        let request = body.map(|mut outlet| {
            outlet.on_data(waker.clone());
            RequestBody { outlet, framing, sent: 0, max: max_body, listed }
        });
        responder.watch(waker);
        let pending = Box::new(PendingResponse { head, protocol, rejected_by, responder });
        Some(Self {
            waker: waker.clone(),
            request,
            response: ResponseState::Head(pending),
            protocol: upgrade,
            switched: false,
            closes: false,
            _share: share,
            _permit: permit,
        })
    }

    /// Returns `true` if the connection takes no more requests.
    pub(super) fn ends_connection(&self) -> bool {
        self.closes || self.switched
    }

    pub(super) fn has_switched(&self) -> bool {
        self.switched
    }

    /// Moves what can be moved.
    pub(super) fn drive(&mut self, reader: &mut ResponseReader<Input>, output: &mut Output, turn: &mut Turn) -> Next {
        if let ResponseState::Head(pending) = &self.response
            && pending.responder.cancellation.is_over()
        {
            return Next::Over;
        }
        let mut request = self.drive_request(output, turn);
        if request == Next::Over {
            return request;
        }
        let held = self.request.as_ref().is_some_and(|body| body.framing == Framing::Held);
        let response = self.drive_response(reader, turn);
        if held && response == Next::Pending {
            request = self.drive_request(output, turn);
        }
        match response {
            Next::Pending if matches!(self.response, ResponseState::Over) && self.request.is_none() => Next::Complete,
            Next::Pending => request,
            response => response,
        }
    }

    fn fail(&mut self, failure: Failure) -> Next {
        if let ResponseState::Head(pending) = std::mem::replace(&mut self.response, ResponseState::Over) {
            pending.fail(failure);
        }
        Next::Over
    }

    /// Sends the request's body.
    fn drive_request(&mut self, output: &mut Output, turn: &mut Turn) -> Next {
        while let Some(body) = &mut self.request {
            let bytes = match body.framing {
                Framing::Held => return Next::Pending,
                _ => body.outlet.bytes(),
            };
            if bytes.is_empty() {
                if body.outlet.is_truncated() {
                    // The client has disconnected, or its body was malformed.
                    return Next::Over;
                }
                if !body.outlet.is_finished() {
                    return Next::Pending;
                }
                match body.framing {
                    Framing::Chunked => output.put(&end_of_chunks(body)),
                    Framing::Length(0) => {}
                    // It would be completed by the next request.
                    Framing::Length(_) => return Next::Over,
                    Framing::Held | Framing::Raw => output.finish(),
                }
                self.request = None;
            } else {
                if turn.left == 0 {
                    return Next::Slowed;
                }
                let n = bytes.len().min(turn.left).min(output.room());
                if n == 0 {
                    return Next::Pending;
                }
                body.sent += n as u64;
                if body.sent > body.max && body.framing != Framing::Raw {
                    return self.fail(Failure::TooLarge);
                }
                match &mut body.framing {
                    Framing::Chunked => output.put_chunk(&bytes[..n]),
                    Framing::Length(left) => match left.checked_sub(n as u64) {
                        Some(rest) => {
                            *left = rest;
                            output.put(&bytes[..n]);
                        }
                        // It would be read as the next request.
                        None => return Next::Over,
                    },
                    Framing::Held | Framing::Raw => output.put(&bytes[..n]),
                }
                body.outlet.consume(n);
                turn.request_bytes += n;
                turn.left -= n;
            }
            if let ResponseState::Head(pending) = &mut self.response {
                pending.responder.restart_timeout(turn.now);
            }
        }
        Next::Pending
    }

    /// Forwards the response.
    fn drive_response(&mut self, reader: &mut ResponseReader<Input>, turn: &mut Turn) -> Next {
        loop {
            if matches!(self.response, ResponseState::Over) {
                return Next::Pending;
            }
            match reader.next() {
                Piece::Pending => return self.unless_closed(),
                Piece::Broken(reason) => {
                    log::debug!(target: "uncork::relay", "response of an origin server: {reason}");
                    let has_ended = reader.has_ended();
                    return match self.response {
                        ResponseState::Head(_) if has_ended => self.fail(Failure::Lost),
                        ResponseState::Head(_) => self.fail(Failure::Malformed),
                        _ => Next::Truncated,
                    };
                }
                Piece::Informational(status, fields) => {
                    if let ResponseState::Head(pending) = &mut self.response
                        && !pending.responder.send_informational(status, &fields)
                    {
                        return self.fail(Failure::Malformed);
                    }
                }
                Piece::Head(head) => {
                    if let Some(next) = self.begin_response(&head) {
                        return next;
                    }
                }
                Piece::Data { bytes, last } => {
                    let ResponseState::Body(inlet) = &mut self.response else { return Next::Over };
                    if turn.left == 0 {
                        // A client that has disconnected does not wait for the rate.
                        return if inlet.is_closed() { Next::Over } else { Next::Slowed };
                    }
                    let n = inlet.write(&bytes[..bytes.len().min(turn.left)]);
                    let all = n == bytes.len();
                    turn.response_bytes += n;
                    turn.left -= n;
                    if n == 0 {
                        return self.unless_closed();
                    }
                    reader.consume(n);
                    if last && all {
                        self.finish(None);
                    }
                }
                Piece::End(fields) => self.finish(fields.as_deref()),
            }
        }
    }

    /// Returns how the exchange goes on while nothing can be moved.
    fn unless_closed(&self) -> Next {
        match &self.response {
            ResponseState::Body(inlet) if inlet.is_closed() => Next::Over,
            _ => Next::Pending,
        }
    }

    fn finish(&mut self, trailers: Option<&Headers>) {
        if let ResponseState::Body(inlet) = std::mem::replace(&mut self.response, ResponseState::Over) {
            inlet.finish(trailers.map(head::trailers));
        }
    }

    /// Begins the client's response. Returns how the exchange goes on, if that is decided now.
    fn begin_response(&mut self, head: &ResponseHead) -> Option<Next> {
        self.closes = !head.keep_alive;
        if head.switched {
            // The key of a WebSocket proves nothing here: the origin server has identified itself. The client gets its
            // own proof.
            let accepted = head.fields.get("upgrade").unwrap_or_default();
            if !self.protocol.as_ref().is_some_and(|protocol| accepted.eq_ignore_ascii_case(protocol.as_bytes())) {
                return Some(self.fail(Failure::Malformed));
            }
        }
        let ResponseState::Head(pending) = std::mem::replace(&mut self.response, ResponseState::Over) else {
            return Some(Next::Over);
        };
        let status = match head.status {
            // As in HTTP/2: 200 accepts the upgrade, and a response without a switch must not look like that.
            _ if head.switched => 200,
            200..300 if self.protocol.is_some() => 502,
            status => status,
        };
        if self.protocol.is_some() && !head.switched {
            self.request = None;
        }
        match pending.responder.begin("1.1", status, &head.fields, head.whole) {
            Begun::Body(mut inlet) => {
                inlet.on_room(self.waker.clone());
                self.response = ResponseState::Body(inlet);
                self.switched = head.switched;
                if let Some(body) = self.request.as_mut().filter(|_| head.switched) {
                    body.framing = Framing::Raw;
                }
                None
            }
            Begun::WithoutBody if head.whole => None,
            // A body that the client must not get.
            Begun::WithoutBody | Begun::Disconnected => Some(Next::Over),
        }
    }
}

/// Returns the last chunk, with the trailers that may be forwarded.
fn end_of_chunks(body: &RequestBody) -> Vec<u8> {
    let fields = body.outlet.trailers().map(|trailers| head::request_trailers(&trailers, &body.listed));
    let Some(fields) = fields.filter(|fields| !fields.is_empty()) else { return LAST_CHUNK.to_vec() };
    let mut end = Vec::new();
    trailers(&fields, &mut end);
    end
}

/// Returns a request's head for the origin server.
fn write_head(head: &http::Request<()>, protocol: Option<&str>, has_body: bool) -> Result<Vec<u8>, Failure> {
    let mut fields = Headers::new();
    // `TE` is a field of one hop, and `Content-Length` is written with the framing.
    let is_written = |name: &str| matches!(name, "te" | "content-length");
    for (name, value) in head.headers().iter().filter(|(name, _)| !is_written(name.as_str())) {
        fields.append(name.as_str(), value.as_bytes()).map_err(|_| Failure::Lost)?;
    }
    if let Some(protocol) = protocol {
        fields.append("Upgrade", protocol).map_err(|_| Failure::NoUpgrade)?;
        if protocol.eq_ignore_ascii_case("websocket") {
            let mut key = [0; 16];
            getrandom::fill(&mut key).map_err(|_| Failure::NoUpgrade)?;
            fields.append("Sec-WebSocket-Key", BASE64_STANDARD.encode(key)).map_err(|_| Failure::NoUpgrade)?;
        }
    }
    let uri = head.uri();
    let line = RequestLine {
        method: if protocol.is_some() { "GET" } else { head.method().as_str() },
        target: uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str),
        host: uri.authority().map_or("", http::uri::Authority::as_str),
        fields: fields.as_wire(),
        length: match head::length(head.headers().get("content-length")) {
            _ if protocol.is_some() => BodyLength::None,
            Some(length) => BodyLength::Known(length),
            None if has_body => BodyLength::Chunked,
            None => BodyLength::None,
        },
        expect: false,
        connection: protocol.map(|_| ConnectionOption::Upgrade),
    };
    let mut wire = Vec::new();
    request_head(&line, &mut wire).map_err(|_| Failure::Lost)?;
    if wire.len() > HEAD.head { Err(Failure::HeadTooLarge) } else { Ok(wire) }
}
