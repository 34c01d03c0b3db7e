//! Passes requests on to a server in the neighbourhood: bodies stream both ways, at the pace of whoever receives them, and
//! what is upgraded there (WebSocket, for instance) is joined here.
//!
//! It is an intermediary (RFC 9110 §3.7), in both directions: fields of one hop end here (§7.6.1), it signs what it passes
//! on in `Via` and answers 508 to a request that was here before (§7.6.3), counts `Max-Forwards` (§7.6.2), and passes 1xx
//! on (§15.2).

use std::time::Duration;

use uncork::{
    Action, Request, Response, Switch,
    client::{self, Client, Error},
    h1::{Headers, is_token, write::is_written_here},
    pipe,
    relay::{Via, max_forwards},
};

use crate::upgraded_stream::joint;

/// Bytes of a request's body on the way.
const ROOM: usize = 64 * 1024;
/// How long the server may take to begin its answer, and how long that may then pause: longer than a proxy waits, and long
/// enough for events that are seldom.
const HEAD_WITHIN: Duration = Duration::from_secs(120);
const IDLE_WITHIN: Duration = Duration::from_secs(3600);

/// Passes on to one server.
#[derive(Clone)]
pub(crate) struct Forward {
    client: Client,
    /// `http://127.0.0.1:3000`, and perhaps a path, without a slash at its end.
    base: String,
    via: Via,
}

impl Forward {
    /// At most `most` requests are under way there at the same time; the next is answered with 503.
    pub(crate) fn to(url: &str, most: usize, via: Via) -> Result<Self, String> {
        let base = url.trim_end_matches('/').to_owned();
        let known = base.starts_with("http://") || base.starts_with("https://");
        if !known || base.contains(['?', '#', ' ']) {
            return Err(format!("{url:?} is no server to forward to: give a URL, as in http://127.0.0.1:3000"));
        }
        let client =
            Client::builder().max_connections(most).max_queued(0).head_timeout(HEAD_WITHIN).idle_timeout(IDLE_WITHIN);
        Ok(Self { client: client.build(), base, via })
    }

    pub(crate) fn handle(&self, req: &mut Request<'_>) -> Action {
        let (path, query) = (req.path(), req.query().map_or(String::new(), |query| format!("?{query}")));
        if !path.starts_with('/') {
            return Response::text("Only paths are passed on.\n").with_status(400).into();
        }
        if self.via.is_loop(req.headers().get_all("via")) {
            return Response::text("The request was here before: it goes in a circle.\n").with_status(508).into();
        }
        let forwards = match max_forwards(req) {
            Ok(forwards) => forwards,
            Err(response) => return response.into(),
        };
        let mut call = client::Request::new(req.method(), &format!("{}{path}{query}", self.base))
            .headers(&self.passed_on(req, forwards));
        if let Some(host) = req.authority() {
            call = call.host(host);
        }
        let protocol = upgrade(req);
        if let Some(protocol) = &protocol {
            call = call.upgrade(protocol);
        }
        let (ticket, interim) = (req.ticket(), req.ticket());
        call = call.on_interim(move |status, fields| interim.send_informational(status, end_to_end(&fields)));
        let action = match req.has_body() {
            true => {
                let (inlet, outlet) = pipe(ROOM);
                call = call.stream(outlet, req.content_length());
                Action::Receive(Box::new(inlet))
            }
            false => Action::Suspend,
        };
        // The server learns that the client has left: before its response by this, during it by the pipe.
        let cancel = call.cancel_handle();
        req.on_end(move |_| cancel.cancel());
        let via = self.via.clone();
        self.client.send(&req.loop_handle(), call, move |result| {
            // The client may have left.
            let _ = ticket.respond(match result {
                Ok(answer) if answer.is_switched() => switched(answer, protocol.as_deref(), &via),
                Ok(answer) => answered(answer, &via).into(),
                Err(Error::Cancelled) => return,
                Err(error) => failed(&error).into(),
            });
        });
        action
    }

    fn passed_on(&self, req: &Request<'_>, forwards: Option<u64>) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in req.headers().end_to_end().filter(|(name, _)| !ends_here(name)) {
            // It was checked when it came.
            let _ = headers.append(name, value);
        }
        if let Some(left) = forwards {
            let _ = headers.insert("Max-Forwards", left.to_string());
        }
        let list = self
            .via
            .after(version(u8::from(req.version() == uncork::h1::Version::Http11)), req.headers().get_all("via"));
        let _ = headers.append("Via", list);
        headers
    }
}

/// The protocol that is asked for, if one is.
fn upgrade(req: &Request<'_>) -> Option<String> {
    let protocol = req.header_str("upgrade").filter(|_| req.headers().contains_token("connection", "upgrade"))?;
    is_token(protocol.as_bytes()).then(|| protocol.to_owned())
}

/// The client's to write, or ours.
fn ends_here(name: &str) -> bool {
    is_written_here(name) || ["host", "expect", "trailer", "via"].iter().any(|own| own.eq_ignore_ascii_case(name))
}

fn version(minor: u8) -> &'static str {
    if minor == 0 { "1.0" } else { "1.1" }
}

fn end_to_end(fields: &Headers) -> Headers {
    let mut kept = Headers::new();
    for (name, value) in fields.end_to_end().filter(|(name, _)| !ends_here(name)) {
        // It was checked when it came.
        let _ = kept.append(name, value);
    }
    kept
}

fn fields_of(answer: &client::Response, via: &Via) -> Headers {
    let mut fields = end_to_end(answer.headers());
    let list = via.after(version(answer.minor_version()), answer.headers().get_all("via"));
    let _ = fields.append("Via", list);
    fields
}

fn answered(answer: client::Response, via: &Via) -> Response {
    let (status, length, fields) = (answer.status(), answer.content_length(), fields_of(&answer, via));
    let response = Response::stream(answer.pipe()).with_status(status).length(length);
    fields.iter().fold(response, |response, (name, value)| response.append(name, value))
}

fn switched(answer: client::Response, protocol: Option<&str>, via: &Via) -> Action {
    let Some(protocol) = protocol else {
        return failed(&Error::InvalidRequest("a switch nobody asked for".into())).into();
    };
    let (ours, theirs) = joint();
    let fields = fields_of(&answer, via);
    answer.switch(theirs);
    fields.iter().fold(Switch::to(protocol, ours), |switch, (name, value)| switch.append(name, value)).into()
}

/// Makes the response that the proxy's client gets.
fn failed(error: &Error) -> Response {
    if *error == Error::QueueFull {
        let words = "The server behind this one has as many requests under way as it may.\n";
        return Response::text(words).with_status(503).header("Retry-After", "1");
    }
    log::warn!("the server that is forwarded to: {error}");
    Response::text("The server behind this one can't be reached.\n").with_status(502)
}
