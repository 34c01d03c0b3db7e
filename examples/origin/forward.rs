//! Passes requests on to a server in the neighbourhood: bodies stream both ways, at the pace of whoever receives them, and
//! what is upgraded there (WebSocket, for instance) is joined here.

use std::time::Duration;

use uncork::{
    Action, Request, Response, Switch,
    client::{Answer, Call, Client, Error},
    h1::{Headers, is_token, write::is_written_here},
    pipe,
};

use crate::joint::joint;

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
}

impl Forward {
    pub(crate) fn to(url: &str) -> Result<Self, String> {
        let base = url.trim_end_matches('/').to_owned();
        let known = base.starts_with("http://") || base.starts_with("https://");
        if !known || base.contains(['?', '#', ' ']) {
            return Err(format!("{url:?} is no server to forward to: give a URL, as in http://127.0.0.1:3000"));
        }
        let client = Client::builder().head_within(HEAD_WITHIN).idle_within(IDLE_WITHIN).build();
        Ok(Self { client, base })
    }

    pub(crate) fn handle(&self, req: &mut Request<'_>) -> Action {
        let (path, query) = (req.path(), req.query().map_or(String::new(), |query| format!("?{query}")));
        if !path.starts_with('/') {
            return Response::text("Only paths are passed on.\n").status(400).into();
        }
        let mut call = Call::new(req.method(), &format!("{}{path}{query}", self.base)).headers(&passed_on(req));
        if let Some(host) = req.host() {
            call = call.host(host);
        }
        let protocol = upgrade(req);
        if let Some(protocol) = &protocol {
            call = call.upgrade(protocol);
        }
        let ticket = req.ticket();
        let action = match req.has_body() {
            true => {
                let (inlet, outlet) = pipe(ROOM);
                call = call.stream(outlet, req.content_length());
                Action::Receive(Box::new(inlet))
            }
            false => Action::Wait,
        };
        // The server learns that the client has left: before its response by this, during it by the pipe.
        let cancel = call.cancel_handle();
        req.on_end(move |_| cancel.cancel());
        self.client.send(&req.here(), call, move |result| {
            // Who has asked may have left.
            let _ = ticket.respond(match result {
                Ok(answer) if answer.is_switched() => switched(answer, protocol.as_deref()),
                Ok(answer) => answered(answer).into(),
                Err(Error::Abandoned) => return,
                Err(error) => failed(&error).into(),
            });
        });
        action
    }
}

/// The protocol that is asked for, if one is.
fn upgrade(req: &Request<'_>) -> Option<String> {
    let protocol = req.header_str("upgrade").filter(|_| req.headers().contains_token("connection", "upgrade"))?;
    is_token(protocol.as_bytes()).then(|| protocol.to_owned())
}

/// Of one hop, or the client's to write.
fn ends_here(name: &str) -> bool {
    const OWN: [&str; 7] = ["host", "keep-alive", "proxy-connection", "te", "upgrade", "expect", "trailer"];
    is_written_here(name) || OWN.iter().any(|own| own.eq_ignore_ascii_case(name))
}

fn passed_on(req: &Request<'_>) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in req.headers().iter().filter(|(name, _)| !ends_here(name)) {
        if !req.headers().contains_token("connection", name) {
            // It was checked when it came.
            let _ = headers.append(name, value);
        }
    }
    headers
}

fn fields_of(answer: &Answer) -> Vec<(String, Vec<u8>)> {
    let fields = answer.headers().iter().filter(|(name, _)| !ends_here(name));
    fields.map(|(name, value)| (name.to_owned(), value.to_vec())).collect()
}

fn answered(answer: Answer) -> Response {
    let (status, length, fields) = (answer.status(), answer.content_length(), fields_of(&answer));
    let response = Response::stream(answer.pipe()).status(status).length(length);
    fields.iter().fold(response, |response, (name, value)| response.append(name, value))
}

fn switched(answer: Answer, protocol: Option<&str>) -> Action {
    let Some(protocol) = protocol else { return failed(&Error::Call("a switch nobody asked for".into())).into() };
    let (ours, theirs) = joint();
    let fields = fields_of(&answer);
    answer.switch(theirs);
    fields.iter().fold(Switch::to(protocol, ours), |switch, (name, value)| switch.append(name, value)).into()
}

fn failed(error: &Error) -> Response {
    log::warn!("the server that is forwarded to: {error}");
    Response::text("The server behind this one can't be reached.\n").status(502)
}
