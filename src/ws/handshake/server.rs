//! The server's handshake: every check of RFC 6455 §4.2.1, and the response of §4.2.2.

use super::{
    super::{Config, Deflate, Handler, Sender, outgoing::Role, session::Session},
    Agreed, accept_value,
    extension::{self, Extension},
    is_key,
};
use crate::{
    api::{Request, Response, Switch},
    h1::{Version, is_token},
};

/// Checks a request by RFC 6455 §4.2.1.
///
/// A request may have a body, although it is unusual. The application must receive it before the switch (see
/// [`Switch::to`]).
///
/// # Errors
/// The response for a request that is not the opening handshake of a WebSocket: 426 for a version other than 13,
/// otherwise 400. Its text names the violated rule.
pub fn check(req: &Request<'_>) -> Result<Accept, Response> {
    check_from(req, |_| true)
}

/// Like [`check`], and checks the request's Origin (§10.2): by [`same_origin`](super::same_origin),
/// [`same_hostname`](super::same_hostname), or a rule of your own. Nothing else protects a WebSocket that trusts
/// cookies from pages of other sites.
///
/// ```
/// use uncork::{Action, Request, ws};
/// # struct Chat; impl ws::Handler for Chat { fn message(&mut self, _: ws::Message<'_>, _: ws::Done) {} }
/// let handler = |req: &mut Request<'_>| -> Action {
///     match ws::check_from(req, ws::same_origin) {
///         Ok(accept) => accept.switch(Chat).0.into(),
///         Err(rejection) => rejection.into(),
///     }
/// };
/// # fn check(_: impl uncork::Handler) {}
/// # check(handler);
/// ```
///
/// # Errors
/// Like those of [`check`], and 403 if `origin` returns `false`.
pub fn check_from(req: &Request<'_>, origin: impl FnOnce(&Request<'_>) -> bool) -> Result<Accept, Response> {
    let reject = |rule: &'static str| Err(rejection(400, rule));
    if req.method() != "GET" {
        return reject("the method of a WebSocket's handshake is GET");
    }
    if req.version() < Version::Http11 {
        return reject("a WebSocket's handshake needs HTTP/1.1");
    }
    if req.authority().is_none_or(str::is_empty) {
        return reject("Host is missing");
    }
    let fields = req.headers();
    if !fields.contains_token("upgrade", "websocket") {
        return reject(match req.version() {
            Version::Http2 => "over HTTP/2 a WebSocket begins with an extended CONNECT for websocket (RFC 8441)",
            _ => "Upgrade does not name websocket",
        });
    }
    if !fields.contains_token("connection", "upgrade") {
        return reject("Connection does not name upgrade");
    }
    // The version first: the rest is as that version has it.
    let mut versions = fields.get_all("sec-websocket-version");
    match (versions.next(), versions.next()) {
        (Some(b"13"), None) => {}
        (None, _) => return reject("Sec-WebSocket-Version is missing"),
        _ => {
            let rejection = rejection(426, "the version of a WebSocket is 13").header("Upgrade", "websocket");
            return Err(rejection.header("Sec-WebSocket-Version", "13"));
        }
    }
    let mut keys = fields.get_all("sec-websocket-key");
    let key = match (keys.next().map(std::str::from_utf8), keys.next()) {
        (Some(Ok(key)), None) if is_key(key.as_bytes()) => key,
        _ => return reject("Sec-WebSocket-Key is not the base64 of 16 bytes"),
    };
    let mut protocols = Vec::new();
    for name in fields.get_all("sec-websocket-protocol").flat_map(|value| value.split(|&b| b == b',')) {
        match name.trim_ascii() {
            b"" => {}
            name if is_token(name) => protocols.push(String::from_utf8_lossy(name).into_owned()),
            _ => return reject("Sec-WebSocket-Protocol is not a list of tokens"),
        }
    }
    let mut offers = Vec::new();
    for value in fields.get_all("sec-websocket-extensions") {
        match extension::parse(value) {
            Some(more) => offers.extend(more),
            None => return reject("Sec-WebSocket-Extensions is malformed"),
        }
    }
    let mut origins = fields.get_all("origin");
    let from = match (origins.next().map(std::str::from_utf8), origins.next()) {
        (None, _) => None,
        (Some(Ok(from)), None) => Some(from.to_owned()),
        _ => return reject("Origin is not one origin"),
    };
    if !origin(req) {
        return Err(rejection(403, "a WebSocket may not be opened from this origin"));
    }
    Ok(Accept {
        response: accept_value(key),
        origin: from,
        protocols,
        protocol: None,
        offers,
        config: Config::new(),
        deflate: None,
    })
}

fn rejection(status: u16, rule: &str) -> Response {
    Response::text(format!("{rule}\n")).with_status(status)
}

/// A request that may become a WebSocket.
#[derive(Debug)]
#[must_use = "call `switch` to open the WebSocket"]
pub struct Accept {
    response: String,
    origin: Option<String>,
    protocols: Vec<String>,
    protocol: Option<String>,
    offers: Vec<Extension>,
    config: Config,
    deflate: Option<Deflate>,
}

impl Accept {
    /// Returns the origin of the page that opens the WebSocket, as the browser sent it: `https://example.org`.
    pub fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }

    /// Returns the value for `Sec-WebSocket-Accept`, for an application that completes the handshake itself.
    pub fn value(&self) -> &str {
        &self.response
    }

    /// Returns the sub-protocols that the client offers, in its order of preference.
    pub fn protocols(&self) -> impl Iterator<Item = &str> {
        self.protocols.iter().map(String::as_str)
    }

    /// Selects a sub-protocol. One that was not offered is ignored, because the client would have to reject it.
    pub fn protocol(self, name: &str) -> Self {
        let protocol = self.protocols.iter().find(|offered| *offered == name).cloned();
        Self { protocol, ..self }
    }

    /// Sets limits and timeouts.
    pub fn config(self, config: Config) -> Self {
        Self { config, ..self }
    }

    /// Enables compression of messages, if the client offers it.
    pub fn deflate(self, deflate: Deflate) -> Self {
        Self { deflate: Some(deflate), ..self }
    }

    /// Returns the response for the HTTP handler to return, and the sender. Messages that are sent before the handshake
    /// is complete wait in the queue.
    pub fn switch(self, handler: impl Handler + 'static) -> (Switch, Sender) {
        let agreed = self.deflate.and_then(|ours| extension::accept(&self.offers, &ours));
        let (agreed, extension) = match agreed {
            Some((agreed, response)) => (Some(Agreed(agreed)), Some(response)),
            None => (None, None),
        };
        let (session, sender) = Session::new(Role::Server, self.config, agreed.as_ref(), handler);
        let mut switch = Switch::to("websocket", session).header("Sec-WebSocket-Accept", self.response);
        if let Some(protocol) = self.protocol {
            switch = switch.header("Sec-WebSocket-Protocol", protocol);
        }
        if let Some(extension) = extension {
            switch = switch.header("Sec-WebSocket-Extensions", extension);
        }
        (switch, sender)
    }
}
