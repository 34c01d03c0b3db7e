//! The server's half: every check of RFC 6455 §4.2.1, and the answer of §4.2.2.

use super::{
    super::{Config, Deflate, Handler, Sender, outgoing::Role, session::Session},
    Agreed, accept_value,
    extension::{self, Extension},
    is_key,
};
use crate::{
    api::{Request, Response, Switch},
    h1::is_token,
};

/// Holds a request against RFC 6455 §4.2.1.
///
/// A body, which nobody sends but nothing forbids, is left to the application: it has to be received before the
/// connection can be switched (see [`Switch::to`]).
///
/// # Errors
/// The answer for a request that is not a WebSocket's opening handshake: 426 if it asks for another version than 13,
/// otherwise 400; its text says which rule it breaks.
pub fn check(req: &Request<'_>) -> Result<Accept, Response> {
    check_from(req, |_| true)
}

/// The same, and whether it may come from where it says (§10.2): [`same_origin`](super::same_origin),
/// [`same_hostname`](super::same_hostname), or a rule of your own. Nothing else protects a WebSocket that trusts cookies
/// from pages of other sites.
///
/// ```
/// use uncork::{Action, Request, ws};
/// # struct Chat; impl ws::Handler for Chat { fn message(&mut self, _: ws::Message<'_>, _: ws::Done) {} }
/// let handler = |req: &mut Request<'_>| -> Action {
///     match ws::check_from(req, ws::same_origin) {
///         Ok(accept) => accept.switch(Chat).0.into(),
///         Err(refusal) => refusal.into(),
///     }
/// };
/// # fn check(_: impl uncork::Handler) {}
/// # check(handler);
/// ```
///
/// # Errors
/// As [`check`]; or 403, if `origin` says no.
pub fn check_from(req: &Request<'_>, origin: impl FnOnce(&Request<'_>) -> bool) -> Result<Accept, Response> {
    let refuse = |rule: &'static str| Err(refusal(400, rule));
    if req.method() != "GET" {
        return refuse("the method of a WebSocket's handshake is GET");
    }
    if req.minor_version() < 1 {
        return refuse("a WebSocket's handshake needs HTTP/1.1");
    }
    if req.authority().is_none_or(str::is_empty) {
        return refuse("Host is missing");
    }
    let fields = req.headers();
    if !fields.contains_token("upgrade", "websocket") {
        return refuse("Upgrade does not name websocket");
    }
    if !fields.contains_token("connection", "upgrade") {
        return refuse("Connection does not name upgrade");
    }
    // The version first: the rest is as that version has it.
    let mut versions = fields.get_all("sec-websocket-version");
    match (versions.next(), versions.next()) {
        (Some(b"13"), None) => {}
        (None, _) => return refuse("Sec-WebSocket-Version is missing"),
        _ => {
            let refusal = refusal(426, "the version of a WebSocket is 13").header("Upgrade", "websocket");
            return Err(refusal.header("Sec-WebSocket-Version", "13"));
        }
    }
    let mut keys = fields.get_all("sec-websocket-key");
    let key = match (keys.next().map(std::str::from_utf8), keys.next()) {
        (Some(Ok(key)), None) if is_key(key.as_bytes()) => key,
        _ => return refuse("Sec-WebSocket-Key is not the base64 of 16 bytes"),
    };
    let mut protocols = Vec::new();
    for name in fields.get_all("sec-websocket-protocol").flat_map(|value| value.split(|&b| b == b',')) {
        match name.trim_ascii() {
            b"" => {}
            name if is_token(name) => protocols.push(String::from_utf8_lossy(name).into_owned()),
            _ => return refuse("Sec-WebSocket-Protocol is not a list of tokens"),
        }
    }
    let mut offers = Vec::new();
    for value in fields.get_all("sec-websocket-extensions") {
        match extension::parse(value) {
            Some(more) => offers.extend(more),
            None => return refuse("Sec-WebSocket-Extensions breaks its grammar"),
        }
    }
    let mut origins = fields.get_all("origin");
    let from = match (origins.next().map(std::str::from_utf8), origins.next()) {
        (None, _) => None,
        (Some(Ok(from)), None) => Some(from.to_owned()),
        _ => return refuse("Origin is not one origin"),
    };
    if !origin(req) {
        return Err(refusal(403, "a WebSocket may not be opened from this origin"));
    }
    Ok(Accept {
        answer: accept_value(key),
        origin: from,
        protocols,
        protocol: None,
        offers,
        config: Config::new(),
        deflate: None,
    })
}

fn refusal(status: u16, rule: &str) -> Response {
    Response::text(format!("{rule}\n")).with_status(status)
}

/// A request that may become a WebSocket.
#[derive(Debug)]
#[must_use = "it becomes one by `switch`"]
pub struct Accept {
    answer: String,
    origin: Option<String>,
    protocols: Vec<String>,
    protocol: Option<String>,
    offers: Vec<Extension>,
    config: Config,
    deflate: Option<Deflate>,
}

impl Accept {
    /// Where the page comes from that opens it, as a browser says: `https://example.org`.
    pub fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }

    /// What `Sec-WebSocket-Accept` has to say: for who answers the handshake himself, and lets somebody else speak.
    pub fn value(&self) -> &str {
        &self.answer
    }

    /// The sub-protocols the client offers, in its order of preference.
    pub fn protocols(&self) -> impl Iterator<Item = &str> {
        self.protocols.iter().map(String::as_str)
    }

    /// The sub-protocol to be spoken. One that was not offered is not answered with: a client would have to refuse it.
    pub fn protocol(self, name: &str) -> Self {
        let protocol = self.protocols.iter().find(|offered| *offered == name).cloned();
        Self { protocol, ..self }
    }

    /// Limits and times, in place of the defaults.
    pub fn config(self, config: Config) -> Self {
        Self { config, ..self }
    }

    /// Allows messages to be compressed, if the client offers it.
    pub fn deflate(self, deflate: Deflate) -> Self {
        Self { deflate: Some(deflate), ..self }
    }

    /// The answer, to be returned from the handler, and the way to speak to the peer. What is sent before the peer was
    /// answered waits.
    pub fn switch(self, speaker: impl Handler + 'static) -> (Switch, Sender) {
        let agreed = self.deflate.and_then(|ours| extension::accept(&self.offers, &ours));
        let (agreed, extension) = match agreed {
            Some((agreed, answer)) => (Some(Agreed(agreed)), Some(answer)),
            None => (None, None),
        };
        let (session, sender) = Session::new(Role::Server, self.config, agreed.as_ref(), speaker);
        let mut switch = Switch::to("websocket", session).header("Sec-WebSocket-Accept", self.answer);
        if let Some(protocol) = self.protocol {
            switch = switch.header("Sec-WebSocket-Protocol", protocol);
        }
        if let Some(extension) = extension {
            switch = switch.header("Sec-WebSocket-Extensions", extension);
        }
        (switch, sender)
    }
}
