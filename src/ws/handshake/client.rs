//! The client's half: the request of RFC 6455 §4.1, and every check of its answer.

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

/// A client's offer to open a WebSocket; good for one request.
///
/// ```
/// use uncork::{h1::Headers, ws};
/// let offer = ws::Offer::new()?.protocol("chat")?;
/// // … a GET with `offer.headers()`, over HTTP/1.1; and then, with the answer's status and fields:
/// # let (status, answer) = (404, Headers::new());
/// let refused = offer.accept(status, &answer, |_: ws::Message<'_>, _: ws::Done| {});
/// assert_eq!(refused.err(), Some(ws::HandshakeError::Status(404)));
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
    /// With a key of its own.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn new() -> Result<Self, HandshakeError> {
        let mut key = [0; 16];
        getrandom::fill(&mut key).map_err(|_| HandshakeError::NoRandom)?;
        Ok(Self { key: BASE64_STANDARD.encode(key), protocols: Vec::new(), config: Config::new(), deflate: None })
    }

    /// Offers a sub-protocol, behind those offered before.
    ///
    /// # Errors
    /// If the name is no token.
    pub fn protocol(mut self, name: &str) -> Result<Self, InvalidHeader> {
        InvalidHeader::check_name(name.as_bytes())?;
        self.protocols.push(name.to_owned());
        Ok(self)
    }

    /// Limits and times, in place of the defaults.
    pub fn config(self, config: Config) -> Self {
        Self { config, ..self }
    }

    /// Offers to compress messages.
    pub fn deflate(self, deflate: Deflate) -> Self {
        Self { deflate: Some(deflate), ..self }
    }

    /// The fields of the request, which must be a GET without a body, over HTTP/1.1: `Upgrade`, `Connection`, and
    /// `Sec-WebSocket-` `Version`, `Key`, `Protocol` and `Extensions`. `Host`, and `Origin` if it is to have one, are
    /// the caller's.
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

    /// Holds the answer against §4.1: what is to speak on the stream it came on, from the first byte behind it, and the
    /// way to speak to the peer.
    ///
    /// # Errors
    /// Which rule it breaks. The stream must not be used any more then, unless the status is not 101.
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

/// Why an answer opens no WebSocket (RFC 6455 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HandshakeError {
    /// Its status is not 101, but this.
    Status(u16),
    /// `Upgrade` is not `websocket`.
    Upgrade,
    /// `Connection` does not name `upgrade`.
    Connection,
    /// `Sec-WebSocket-Accept` does not answer our key: it is no WebSocket's answer, or another's.
    Key,
    /// It names a sub-protocol that was not offered.
    Protocol,
    /// It names an extension that was not offered, or not so.
    Extension,
    /// The system has no random numbers.
    NoRandom,
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "the server answers {status}, not 101"),
            Self::Upgrade => f.write_str("the answer's Upgrade is not websocket"),
            Self::Connection => f.write_str("the answer's Connection does not name upgrade"),
            Self::Key => f.write_str("the answer's Sec-WebSocket-Accept is not that of our key"),
            Self::Protocol => f.write_str("the server chose a sub-protocol that was not offered"),
            Self::Extension => f.write_str("the server chose an extension that was not offered, or not so"),
            Self::NoRandom => f.write_str("no random numbers"),
        }
    }
}

impl std::error::Error for HandshakeError {}
