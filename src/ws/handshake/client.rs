//! The client's handshake: the request of RFC 6455 §4.1, and every check of its response.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};

use super::{
    super::{Config, Deflate, Handler, Sender, outgoing::Role, session::Session},
    Agreed, accept_value, extension,
};
use crate::{
    api::Upgrade,
    h1::{Headers, InvalidHeader},
};

/// A client's offer to open a WebSocket, for one request.
///
/// ```
/// use uncork::{h1::Headers, ws};
/// let offer = ws::Offer::new()?.protocol("chat")?;
/// // … a GET with `offer.headers()`, over HTTP/1.1; then, with the response's status and fields:
/// # let (status, fields) = (404, Headers::new());
/// let rejected = offer.accept(status, &fields, |_: ws::Message<'_>, _: ws::Done| {});
/// assert_eq!(rejected.err(), Some(ws::HandshakeError::Status(404)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Offer {
    key: String,
    protocols: Vec<String>,
    config: Config,
    deflate: Option<Deflate>,
}

impl Offer {
    /// Creates an offer with a new random key.
    ///
    /// # Errors
    /// [`HandshakeError::RandomUnavailable`] if the system cannot supply random bytes.
    pub fn new() -> Result<Self, HandshakeError> {
        let mut key = [0; 16];
        getrandom::fill(&mut key).map_err(|_| HandshakeError::RandomUnavailable)?;
        Ok(Self { key: BASE64_STANDARD.encode(key), protocols: Vec::new(), config: Config::new(), deflate: None })
    }

    /// Offers a sub-protocol, after those offered before.
    ///
    /// # Errors
    /// If the name is not a token.
    pub fn protocol(mut self, name: &str) -> Result<Self, InvalidHeader> {
        InvalidHeader::check_name(name.as_bytes())?;
        self.protocols.push(name.to_owned());
        Ok(self)
    }

    /// Sets limits and timeouts.
    pub fn config(self, config: Config) -> Self {
        Self { config, ..self }
    }

    /// Offers compression of messages.
    pub fn deflate(self, deflate: Deflate) -> Self {
        Self { deflate: Some(deflate), ..self }
    }

    /// Returns the fields of the request, which must be a GET without a body, over HTTP/1.1: `Upgrade`, `Connection`,
    /// and `Sec-WebSocket-` `Version`, `Key`, `Protocol` and `Extensions`. The caller sets `Host`, and `Origin` if
    /// needed.
    pub fn headers(&self) -> Headers {
        let mut fields = Headers::new();
        let mut add = |name: &str, value: &str| fields.append_checked(name.as_bytes(), value.as_bytes());
        add("Upgrade", "websocket");
        add("Connection", "Upgrade");
        add("Sec-WebSocket-Version", "13");
        add("Sec-WebSocket-Key", &self.key);
        if !self.protocols.is_empty() {
            add("Sec-WebSocket-Protocol", &self.protocols.join(", "));
        }
        if let Some(deflate) = &self.deflate {
            add("Sec-WebSocket-Extensions", &extension::offer(deflate));
        }
        fields
    }

    /// Checks the response by RFC 6455 §4.1. Returns the upgrade for its stream, from the first byte after its head,
    /// and the sender.
    ///
    /// # Errors
    /// The violated rule. After it the stream must not be used, unless the status is not 101.
    pub fn accept(
        self,
        status: u16,
        fields: &Headers,
        handler: impl Handler + 'static,
    ) -> Result<(Box<dyn Upgrade>, Sender), HandshakeError> {
        use HandshakeError as E;
        if status != 101 {
            return Err(E::Status(status));
        }
        let one = |name| {
            let mut values = fields.get_all(name);
            values.next().filter(|_| values.next().is_none())
        };
        if !one("upgrade").is_some_and(|value| value.eq_ignore_ascii_case(b"websocket")) {
            return Err(E::Upgrade);
        }
        if !fields.contains_token("connection", "upgrade") {
            return Err(E::Connection);
        }
        if one("sec-websocket-accept") != Some(accept_value(&self.key).as_bytes()) {
            return Err(E::Key);
        }
        let mut protocols = fields.get_all("sec-websocket-protocol");
        match (protocols.next(), protocols.next()) {
            (None, _) => {}
            (Some(name), None) if self.protocols.iter().any(|offered| offered.as_bytes() == name) => {}
            _ => return Err(E::Protocol),
        }
        let mut agreed = None;
        for value in fields.get_all("sec-websocket-extensions") {
            for response in extension::parse(value).ok_or(E::Extension)? {
                let ours = self.deflate.as_ref().filter(|_| response.name.eq_ignore_ascii_case(extension::NAME));
                let deflate = ours.and_then(|ours| extension::agree(&response, ours)).ok_or(E::Extension)?;
                if agreed.replace(Agreed(deflate)).is_some() {
                    return Err(E::Extension);
                }
            }
        }
        let (session, sender) = Session::new(Role::Client, self.config, agreed.as_ref(), handler);
        Ok((Box::new(session), sender))
    }
}

/// The error of a response that does not open a WebSocket (RFC 6455 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The status is this one, not 101.
    Status(u16),
    /// `Upgrade` is not `websocket`.
    Upgrade,
    /// `Connection` does not name `upgrade`.
    Connection,
    /// `Sec-WebSocket-Accept` does not match the key: the response is not that of a WebSocket server, or of another
    /// request.
    Key,
    /// It selects a sub-protocol that was not offered.
    Protocol,
    /// It selects an extension, or a parameter, that was not offered.
    Extension,
    /// The system cannot supply random bytes.
    RandomUnavailable,
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "expected status 101, received {status}"),
            Self::Upgrade => f.write_str("the response's Upgrade is not websocket"),
            Self::Connection => f.write_str("the response's Connection does not name upgrade"),
            Self::Key => f.write_str("the response's Sec-WebSocket-Accept does not match the key"),
            Self::Protocol => f.write_str("the server chose a sub-protocol that was not offered"),
            Self::Extension => f.write_str("the server chose an extension or parameter that was not offered"),
            Self::RandomUnavailable => f.write_str("cannot read random bytes"),
        }
    }
}

impl std::error::Error for HandshakeError {}
