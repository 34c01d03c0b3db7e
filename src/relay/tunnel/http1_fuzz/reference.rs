//! What the bytes of a connection mean, read in one piece when all of them are there.
//!
//! ```text
//!   requests  ─┐
//!   responses ─┴─▶ exchanges: which response belongs to which request, what is complete, what is not HTTP
//! ```

use uncork::h1::{
    Framing, HeadScanner, ResponseFraming,
    chunked::{Decoder, Step},
    field_slots, find_response, parse_request, parse_response,
};

use crate::relay::tunnel::http1::{BODY, HEAD, OWN_HOST};

/// The end of one direction of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum End {
    #[default]
    Open,
    Finished,
    Truncated,
}

/// What is known of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Progress {
    #[default]
    Incomplete,
    Complete,
    Broken,
}

#[derive(Debug, Default)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    /// It is the proxy's own.
    pub(super) own: bool,
    pub(super) upgrade: bool,
    pub(super) body: Vec<u8>,
    pub(super) progress: Progress,
}

#[derive(Debug, Default)]
pub(super) struct Response {
    /// The statuses of its 1xx.
    pub(super) informational: Vec<u16>,
    /// `None`: the head is incomplete, or broken.
    pub(super) status: Option<u16>,
    /// It was forwarded by a proxy.
    pub(super) via: bool,
    /// The field `X-App`: the number of the record that it belongs to.
    pub(super) record: Option<usize>,
    /// Another protocol follows, whose bytes are in `body`.
    pub(super) switched: bool,
    pub(super) keep_alive: bool,
    pub(super) body: Vec<u8>,
    pub(super) progress: Progress,
}

#[derive(Debug, Default)]
pub(super) struct Exchange {
    pub(super) request: Request,
    pub(super) response: Response,
    /// What follows the request in the new protocol.
    pub(super) raw: Vec<u8>,
}

impl Exchange {
    /// Returns `true` if another exchange may follow.
    fn is_over(&self) -> bool {
        let complete = self.request.progress == Progress::Complete && self.response.progress == Progress::Complete;
        complete && !self.response.switched
    }

    /// Returns `true` if P may send another request: it does not if the origin server closes the connection.
    pub(super) fn lets_another_follow(&self) -> bool {
        self.is_over() && self.response.keep_alive
    }
}

/// The exchanges of a connection.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    pub(super) all: Vec<Exchange>,
    /// Bytes of requests behind the last exchange.
    pub(super) requests_left: usize,
    pub(super) responses_left: usize,
}

/// Reads both directions of a connection.
pub(super) fn exchanges(requests: &[u8], responses: &[u8], responses_end: End) -> Exchanges {
    let (mut requests, mut responses, mut all) = (requests, responses, Vec::new());
    while let Some(request) = request(&mut requests) {
        let upgrade = request.upgrade;
        let response = response(&mut responses, &request.method, responses_end);
        let mut exchange = Exchange { request, response, raw: Vec::new() };
        let over = exchange.is_over();
        if upgrade && exchange.response.switched {
            exchange.raw = std::mem::take(&mut requests).to_vec();
        }
        all.push(exchange);
        if !over {
            break;
        }
    }
    Exchanges { all, requests_left: requests.len(), responses_left: responses.len() }
}

/// Reads the requests of a connection, up to one whose meaning depends on a response: an upgrade. Returns `true` if
/// that is one.
pub(super) fn requests(mut wire: &[u8]) -> (Vec<Request>, bool) {
    let mut all = Vec::new();
    while let Some(request) = request(&mut wire) {
        let (upgrade, progress) = (request.upgrade, request.progress);
        all.push(request);
        if upgrade || progress != Progress::Complete {
            return (all, upgrade);
        }
    }
    (all, false)
}

/// Reads a request. Returns `None` if its head is incomplete.
fn request(wire: &mut &[u8]) -> Option<Request> {
    let mut scan = HeadScanner::default();
    let broken = Some(Request { progress: Progress::Broken, ..Request::default() });
    let end = match scan.find(wire, &HEAD) {
        Ok(end) => end?,
        Err(_) => return broken,
    };
    let mut slots = field_slots();
    let Ok(parsed) = parse_request(&wire[scan.skip()..end], &mut slots, &HEAD) else { return broken };
    let mut request = Request {
        method: parsed.method.to_owned(),
        target: parsed.target.to_owned(),
        own: parsed.authority() == Some(OWN_HOST),
        upgrade: parsed.upgrade,
        ..Request::default()
    };
    let framing = parsed.framing;
    *wire = &wire[end..];
    request.progress = match framing {
        Framing::None => Progress::Complete,
        Framing::Length(n) => by_length(wire, n, &mut request.body),
        Framing::Chunked => chunks(wire, &mut request.body),
    };
    Some(request)
}

/// Reads the response to a request of this method.
pub(super) fn response(wire: &mut &[u8], method: &str, end: End) -> Response {
    let mut response = Response::default();
    loop {
        let mut scan = HeadScanner::default();
        let found = if wire.is_empty() { Ok(None) } else { find_response(&mut scan, wire, &HEAD) };
        let head = match found {
            Ok(Some(n)) => &wire[..n],
            Ok(None) => return response,
            Err(_) => {
                response.progress = Progress::Broken;
                return response;
            }
        };
        let mut slots = field_slots();
        let Ok(parsed) = parse_response(head, method, &mut slots, &HEAD) else {
            response.progress = Progress::Broken;
            return response;
        };
        *wire = &wire[head.len()..];
        if matches!(parsed.status, 100 | 102..200) {
            response.informational.push(parsed.status);
            continue;
        }
        response.status = Some(parsed.status);
        response.via = parsed.fields.get("via").is_some();
        response.record =
            parsed.fields.get("x-app").and_then(|value| std::str::from_utf8(value).ok()).and_then(|n| n.parse().ok());
        response.keep_alive = parsed.keep_alive;
        response.switched = parsed.framing == ResponseFraming::Switched;
        response.progress = match parsed.framing {
            ResponseFraming::None => Progress::Complete,
            ResponseFraming::Length(n) => by_length(wire, n, &mut response.body),
            ResponseFraming::Chunked => chunks(wire, &mut response.body),
            ResponseFraming::Switched | ResponseFraming::UntilClose => {
                response.body = std::mem::take(wire).to_vec();
                if end == End::Finished { Progress::Complete } else { Progress::Incomplete }
            }
        };
        return response;
    }
}

fn by_length(wire: &mut &[u8], length: u64, body: &mut Vec<u8>) -> Progress {
    let n = usize::try_from(length).unwrap_or(usize::MAX).min(wire.len());
    body.extend_from_slice(&wire[..n]);
    *wire = &wire[n..];
    if n as u64 == length { Progress::Complete } else { Progress::Incomplete }
}

fn chunks(wire: &mut &[u8], body: &mut Vec<u8>) -> Progress {
    let mut decoder = Decoder::new();
    loop {
        // An empty line is incomplete.
        if wire.is_empty() {
            return Progress::Incomplete;
        }
        match decoder.step(wire, &BODY) {
            Err(_) => return Progress::Broken,
            Ok(Step::NeedMore) => return Progress::Incomplete,
            Ok(Step::Skip(n)) => *wire = &wire[n..],
            Ok(Step::Data(n)) => {
                body.extend_from_slice(&wire[..n]);
                decoder.took(n);
                *wire = &wire[n..];
            }
            Ok(Step::End(n, _)) => {
                *wire = &wire[n..];
                return Progress::Complete;
            }
        }
    }
}
