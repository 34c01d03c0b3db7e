//! All errors: status, name and message, word for word as in http-rendezvous.

use std::{borrow::Cow, time::Duration};

use uncork::Response;

#[cfg(feature = "nodes")]
use crate::relay::nodes::NodeError;
use crate::relay::{json::JsonObject, wire::retry_after};

/// `Retry-After` if the time is unknown.
pub(super) const SOON: Duration = Duration::from_secs(1);

/// An error, whose JSON is `{"name":…,"message":…}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) status: u16,
    pub(super) name: Cow<'static, str>,
    pub(super) message: Cow<'static, str>,
}

const fn fault(status: u16, name: &'static str, message: &'static str) -> Fault {
    Fault { status, name: Cow::Borrowed(name), message: Cow::Borrowed(message) }
}

// Errors of http-rendezvous.
pub(super) const BAD_ROUTE: Fault =
    fault(404, "BadRouteError", "No endpoint exists for the specified method and/or route");
pub(super) const NOT_FOUND: Fault = fault(404, "SessionNotFoundError", "The specified session id does not exist");
pub(super) const SOURCE_TAKEN: Fault =
    fault(429, "AlreadyConnectedError", "A client has already connected to the source side of this stream");
pub(super) const DESTINATION_TAKEN: Fault =
    fault(429, "AlreadyConnectedError", "A client has already connected to the destination side of this stream");
pub(super) const TIMED_OUT: Fault =
    fault(504, "SessionTimeoutError", "The specified session expired before both sides connected");
pub(super) const STARTED: Fault =
    fault(409, "StreamStartedError", "The specified session has already started streaming");
pub(super) const SOURCE_ERROR: Fault = fault(502, "StreamSourceError", "Stream source raised an error");
pub(super) const SOURCE_CLOSED: Fault = fault(502, "StreamSourceError", "Stream source closed unexpectedly");
pub(super) const DESTINATION_ERROR: Fault = fault(502, "StreamDestinationError", "Stream destination raised an error");
pub(super) const DESTINATION_CLOSED: Fault =
    fault(502, "StreamDestinationError", "Stream destination closed unexpectedly");
pub(super) const STREAM_ERROR: Fault = fault(502, "StreamError", "Stream raised an error");
/// The error of a client that reports one without details.
pub(super) const UNSPECIFIED: Fault = fault(400, "Error", "The other side encountered an unspecified error");

// Errors of our own: http-rendezvous has no limits.
pub(super) const NO_RANDOM: Fault = fault(500, "InternalError", "Cannot read random bytes");
const STOPPING: Fault = fault(503, "ServerStoppingError", "The server is stopping");
pub(super) const TOO_MANY_ADDRESSES: Fault = fault(429, "RateLimitError", "Too many addresses create streams");
pub(super) const SERVICE_WORKER: Fault = fault(400, "BadRequestError", "A stream cannot be a service worker");

pub(super) const PARTIAL: Fault =
    fault(400, "BadRequestError", "A stream needs the complete body: Content-Range is not supported");

// Errors of a configurable limit contain the limit.

pub(super) fn json_too_large(limit: usize) -> Fault {
    of_limit(413, "BodyTooLargeError", format!("The JSON is too large: at most {limit} bytes"))
}

pub(super) fn stream_too_large(limit: u64) -> Fault {
    of_limit(413, "BodyTooLargeError", format!("The stream is too large: at most {limit} bytes"))
}

pub(super) fn too_many(limit: usize) -> Fault {
    of_limit(503, "TooManyStreamsError", format!("There are too many streams: at most {limit}"))
}

pub(super) fn too_many_fields(limit: usize) -> Fault {
    of_limit(
        503,
        "TooManyStreamsError",
        format!("The fields of all streams are too large: at most {limit} bytes of JSON"),
    )
}

pub(super) fn too_many_fields_of_address() -> Fault {
    let message = "The fields of this address's streams are too large";
    fault(429, "TooManyStreamsError", message)
}

pub(super) fn too_many_of_address(limit: usize) -> Fault {
    of_limit(429, "TooManyStreamsError", format!("There are too many streams for this address: at most {limit}"))
}

pub(super) fn too_fast(per_minute: u32) -> Fault {
    of_limit(429, "RateLimitError", format!("Streams are created too fast: at most {per_minute} a minute"))
}

fn of_limit(status: u16, name: &'static str, message: String) -> Fault {
    Fault { status, name: name.into(), message: message.into() }
}

impl Fault {
    pub(super) fn invalid_body(message: impl Into<Cow<'static, str>>) -> Self {
        Self { status: 400, name: "InvalidBodyError".into(), message: message.into() }
    }

    pub(super) fn invalid_query(message: impl Into<Cow<'static, str>>) -> Self {
        Self { status: 400, name: "InvalidQueryError".into(), message: message.into() }
    }

    /// Returns the JSON of the error.
    pub(super) fn json(&self) -> String {
        JsonObject::new().member("name", &*self.name).member("message", &*self.message).end()
    }

    pub(super) fn response(&self) -> Response {
        json(self.status, self.json())
    }
}

/// Returns the response to a request that another node should have handled.
#[cfg(feature = "nodes")]
pub(super) fn of_node(error: NodeError) -> Response {
    match error {
        NodeError::Stopping => stopping(),
        NodeError::Invalid => fault(error.status(), "BadRequestError", error.message()).response(),
        _ => fault(error.status(), "NodeError", error.message()).response(),
    }
}

/// Returns the response to a request that arrives, or still waits, while the server is stopping.
pub(super) fn stopping() -> Response {
    STOPPING.response().header("Retry-After", retry_after(SOON))
}

/// Returns a response with JSON. It may contain text of a client, so browsers must not take it for a page.
pub(super) fn json(status: u16, body: String) -> Response {
    let response = Response::new(status).header("Content-Type", "application/json");
    response.header("X-Content-Type-Options", "nosniff").body(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_of_an_error_is_ordered_and_has_no_spaces() {
        let want = r#"{"name":"SessionNotFoundError","message":"The specified session id does not exist"}"#;
        assert_eq!(NOT_FOUND.json(), want);
        let odd = Fault::invalid_body("a \"b\"\u{8}\n\u{1}ü");
        assert_eq!(odd.json(), r#"{"name":"InvalidBodyError","message":"a \"b\"\b\n\u0001ü"}"#);
    }
}
