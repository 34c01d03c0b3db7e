//! Forwards requests to a local server. Bodies stream both ways at the receiver's pace, and upgraded connections
//! (WebSocket, for instance) are joined.
//!
//! This is an intermediary (RFC 9110 §3.7) in both directions. It removes hop-by-hop fields (§7.6.1), and adds itself
//! to `Via` (§7.6.3). It responds with 508 to a request in a loop, counts `Max-Forwards` (§7.6.2), and forwards 1xx
//! responses (§15.2).

use std::time::Duration;

use uncork::{
    Action, Request, Response, Switch,
    client::{self, Client, Error},
    h1::{Headers, Version, is_token, write::is_written_here},
    pipe,
    relay::{Via, max_forwards},
};

use crate::upgraded_stream::pair;

/// Bytes of a request's body in transit.
const ROOM: usize = 64 * 1024;
/// Time for the server to begin its response: longer than the proxy's own timeout.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest pause of a response: long enough for streams of rare events.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// Longest error in a log line, in characters: it may quote the request.
const MAX_ERROR: usize = 300;

/// Forwards to one server.
#[derive(Clone)]
pub(crate) struct Forward {
    client: Client,
    /// `http://127.0.0.1:3000`, with an optional path, without a slash at its end.
    base: String,
    via: Via,
}

impl Forward {
    /// Forwards to the server at `url`, with at most `max` concurrent requests. One more gets 503.
    pub(crate) fn to(url: &str, max: usize, via: Via) -> Result<Self, String> {
        let base = url.trim_end_matches('/').to_owned();
        let known = base.starts_with("http://") || base.starts_with("https://");
        if !known || base.contains(['?', '#', ' ']) {
            return Err(format!("invalid --forward {url:?}: expected a URL, as in http://127.0.0.1:3000"));
        }
        let client =
            Client::builder().max_connections(max).max_queued(0).head_timeout(HEAD_TIMEOUT).idle_timeout(IDLE_TIMEOUT);
        Ok(Self { client: client.build(), base, via })
    }

    pub(crate) fn handle(&self, req: &mut Request<'_>) -> Action {
        let (path, query) = (req.path(), req.query().map_or(String::new(), |query| format!("?{query}")));
        if !path.starts_with('/') {
            return Response::text("Only requests with a path can be forwarded.\n").with_status(400).into();
        }
        if self.via.is_loop(req.headers().get_all("via")) {
            return Response::text("The request is in a loop: its Via field already has this server.\n")
                .with_status(508)
                .into();
        }
        let forwards = match max_forwards(req) {
            Ok(forwards) => forwards,
            Err(response) => return response.into(),
        };
        let mut call = client::Request::new(req.method(), &format!("{}{path}{query}", self.base))
            .headers(&self.forwarded_fields(req, forwards));
        if let Some(authority) = req.authority() {
            call = call.authority(authority);
        }
        let protocol = upgrade(req);
        if let Some(protocol) = &protocol {
            call = call.upgrade(protocol);
        }
        let (ticket, informational) = (req.ticket(), req.ticket());
        call =
            call.on_informational(move |status, fields| informational.send_informational(status, end_to_end(&fields)));
        let action = match req.has_body() {
            true => {
                let (inlet, outlet) = pipe(ROOM);
                call = call.stream(outlet, req.content_length());
                Action::Receive(Box::new(inlet))
            }
            false => Action::Suspend,
        };
        // If the client disconnects, the call is cancelled: before the response by this handle, during it by the pipe.
        let cancel = call.cancel_handle();
        req.on_end(move |_| cancel.cancel());
        let via = self.via.clone();
        self.client.send(&req.loop_handle(), call, move |result| {
            // The client may have disconnected.
            let _ = ticket.respond(match result {
                Ok(response) if response.is_switched() => switched(response, protocol.as_deref(), &via),
                Ok(response) => forwarded(response, &via).into(),
                Err(Error::Cancelled) => return,
                Err(error) => failed(&error).into(),
            });
        });
        action
    }

    fn forwarded_fields(&self, req: &Request<'_>, forwards: Option<u64>) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in req.headers().end_to_end().filter(|(name, _)| !is_hop_by_hop(name)) {
            // Received fields are valid.
            let _ = headers.append(name, value);
        }
        if let Some(left) = forwards {
            let _ = headers.insert("Max-Forwards", left.to_string());
        }
        let list = self.via.after(version(req.version()), req.headers().get_all("via"));
        let _ = headers.append("Via", list);
        headers
    }
}

/// Returns the protocol of an upgrade, if the request asks for one.
fn upgrade(req: &Request<'_>) -> Option<String> {
    let protocol = req.header_str("upgrade").filter(|_| req.headers().contains_token("connection", "upgrade"))?;
    is_token(protocol.as_bytes()).then(|| protocol.to_owned())
}

/// Returns `true` for fields of one hop, which the client or this server writes itself.
fn is_hop_by_hop(name: &str) -> bool {
    is_written_here(name) || ["host", "expect", "trailer", "via"].iter().any(|own| own.eq_ignore_ascii_case(name))
}

fn version(version: Version) -> &'static str {
    if version == Version::Http10 { "1.0" } else { "1.1" }
}

fn end_to_end(fields: &Headers) -> Headers {
    let mut kept = Headers::new();
    for (name, value) in fields.end_to_end().filter(|(name, _)| !is_hop_by_hop(name)) {
        // Received fields are valid.
        let _ = kept.append(name, value);
    }
    kept
}

fn fields_of(response: &client::Response, via: &Via) -> Headers {
    let mut fields = end_to_end(response.headers());
    let list = via.after(version(response.version()), response.headers().get_all("via"));
    let _ = fields.append("Via", list);
    fields
}

fn forwarded(received: client::Response, via: &Via) -> Response {
    let (status, length, fields) = (received.status(), received.content_length(), fields_of(&received, via));
    let response = Response::stream(received.pipe()).with_status(status).length(length);
    fields.iter().fold(response, |response, (name, value)| response.append(name, value))
}

fn switched(response: client::Response, protocol: Option<&str>, via: &Via) -> Action {
    let Some(protocol) = protocol else {
        return failed(&Error::InvalidRequest("the server switched protocols without a request for it".into())).into();
    };
    let (ours, theirs) = pair();
    let fields = fields_of(&response, via);
    response.switch(theirs);
    fields.iter().fold(Switch::to(protocol, ours), |switch, (name, value)| switch.append(name, value)).into()
}

/// Returns the response for a failed call.
fn failed(error: &Error) -> Response {
    if *error == Error::QueueFull {
        let text = "The local server has too many concurrent requests.\n";
        return Response::text(text).with_status(503).header("Retry-After", "1");
    }
    log::warn!("cannot forward a request: {}", printable(&error.to_string()));
    Response::text("The local server cannot be reached.\n").with_status(502)
}

/// Returns the start of a text, on one line.
fn printable(text: &str) -> String {
    text.chars().take(MAX_ERROR).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
