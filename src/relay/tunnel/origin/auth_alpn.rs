//! Who we are, on a connection that is HTTP/2 from its first byte (ALPN `rh2`): the proxy asks, before anything else.
//!
//! ```text
//!   Asked ──GET /.well-known/uncork/hello──▶ token, names ──▶ Told ──a request, or half a second──▶ Open
//!     └─ anything else, or nothing for long: refused             └─GET /.well-known/uncork/refused──▶ closed, and why
//! ```
//! The answer has our token in it. It is given once, to the first request there is: what comes later is asked by the
//! proxy's clients, and goes to the handler.

use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use http::{HeaderMap, Method};

use super::{TunnelError, error::printable};

const HELLO: &str = "/.well-known/uncork/hello";
const REFUSED: &str = "/.well-known/uncork/refused";
/// Who is not let in is told so at once; who hears nothing for so long is in.
const DOUBT: Duration = Duration::from_millis(500);

/// Returns the response to the proxy's question.
pub(super) fn hello(token: &str, hosts: &[String]) -> Bytes {
    Bytes::from(serde_json::json!({ "token": token, "hosts": hosts, "version": 1 }).to_string())
}

pub(super) enum AuthAlpn {
    /// To be asked until then.
    Asked(Bytes, Instant),
    /// The proxy knows, and will say no, if it does, before then.
    Told(Instant),
    Open,
}

type Asking = (http::Request<RecvStream>, SendResponse<Bytes>);

impl AuthAlpn {
    pub(super) fn new(hello: Option<Bytes>, by: Instant) -> Self {
        hello.map_or(Self::Open, |hello| Self::Asked(hello, by))
    }

    pub(super) fn is_open(&self, now: Instant) -> bool {
        match self {
            Self::Open => true,
            Self::Told(until) => now >= *until,
            Self::Asked(..) => false,
        }
    }

    /// Nobody has asked.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        matches!(self, Self::Asked(_, by) if now >= *by)
    }

    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        match self {
            Self::Asked(_, at) | Self::Told(at) => Some(*at).filter(|at| *at > now),
            Self::Open => None,
        }
    }

    /// Answers what is asked of us; the requests of clients pass. The error says that we are not let in.
    pub(super) fn passes(
        &mut self,
        request: http::Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        now: Instant,
    ) -> Result<Option<Asking>, TunnelError> {
        let asks = |path: &str| request.method() == Method::GET && request.uri().path() == path;
        match self {
            Self::Open => Ok(Some((request, respond))),
            Self::Asked(hello, _) => {
                if asks(HELLO) {
                    let hello = std::mem::take(hello);
                    tell(&mut respond, hello);
                    *self = Self::Told(now + DOUBT);
                } else {
                    respond.send_reset(Reason::REFUSED_STREAM);
                }
                Ok(None)
            }
            Self::Told(_) if asks(REFUSED) => Err(refusal(request.headers())),
            Self::Told(_) => {
                *self = Self::Open;
                Ok(Some((request, respond)))
            }
        }
    }
}

fn tell(respond: &mut SendResponse<Bytes>, hello: Bytes) {
    let mut answer = http::Response::new(());
    answer.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    // If it can't be said, the proxy will say so.
    if let Ok(mut send) = respond.send_response(answer, false) {
        let _ = send.send_data(hello, true);
    }
}

fn refusal(fields: &HeaderMap) -> TunnelError {
    let text = |name: &str| fields.get(name).map(|value| printable(value.as_bytes())).unwrap_or_default();
    TunnelError::Rejected { status: text("uncork-status").parse().unwrap_or(403), reason: text("uncork-reason") }
}
