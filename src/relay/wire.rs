//! Parsing and fields that all services have in common, among them CORS.

use std::{sync::Arc, time::Duration};

use uncork::{Request, Response};

/// Returns the value of the first query parameter of this name.
pub(super) fn parameter<'a>(req: &Request<'a>, name: &str) -> Option<&'a str> {
    req.query()?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// Returns `true` for a PUT with `Content-Range`, which has only a part of its representation. Its response must be 400
/// where parts are not supported (RFC 9110 §14.5). With other methods, the field has no meaning and must be ignored
/// (§14.4).
pub(super) fn is_partial_put(req: &Request<'_>) -> bool {
    req.method() == "PUT" && req.header("content-range").is_some()
}

/// Returns the value of `Retry-After`, in seconds. It is rounded up: a client that retries too early would be rejected
/// again.
pub(super) fn retry_after(after: Duration) -> String {
    (after.as_secs() + u64::from(after.subsec_nanos() > 0)).max(1).to_string()
}

/// The CORS policy of a service, and its `Server` field.
pub(super) trait CorsPolicy {
    /// Fields that a page of another origin may send.
    const REQUEST_FIELDS: &'static str;
    /// Fields that it may read.
    const EXPOSED_FIELDS: &'static str;
    /// Pages of a configured origin may use cookies.
    const COOKIES: bool;

    /// Returns the value of the `Server` field; empty for none.
    fn server(&self) -> &str;

    /// Returns the origins whose pages may use the service; `*` for all.
    fn allowed_origins(&self) -> &[String];
}

impl<M: CorsPolicy> CorsPolicy for Arc<M> {
    const REQUEST_FIELDS: &'static str = M::REQUEST_FIELDS;
    const EXPOSED_FIELDS: &'static str = M::EXPOSED_FIELDS;
    const COOKIES: bool = M::COOKIES;

    fn server(&self) -> &str {
        (**self).server()
    }

    fn allowed_origins(&self) -> &[String] {
        (**self).allowed_origins()
    }
}

/// The fields that all responses to one request carry. Suspended requests keep it.
#[derive(Clone, Default)]
pub(super) struct CorsHeaders {
    /// The origin that may read the response; `*` for any.
    origin: Option<Box<str>>,
}

impl CorsHeaders {
    pub(super) fn of<M: CorsPolicy>(req: &Request<'_>, policy: &M) -> Self {
        let origins = policy.allowed_origins();
        let origin = req.header_str("origin").filter(|_| !origins.is_empty());
        let allowed = origin.and_then(|origin| {
            let named = origins.iter().find(|allowed| allowed.eq_ignore_ascii_case(origin));
            named.map(|_| origin).or_else(|| origins.iter().any(|o| o == "*").then_some("*"))
        });
        Self { origin: allowed.map(Into::into) }
    }

    /// Returns `true` for a request from a page of a configured origin, which may use cookies.
    pub(super) fn is_named_origin(&self) -> bool {
        self.origin.as_deref().is_some_and(|origin| origin != "*")
    }

    /// Returns the response to a CORS preflight, if the request is one and its origin is allowed.
    pub(super) fn preflight<M: CorsPolicy>(&self, req: &Request<'_>, _: &M, allow: &str) -> Option<Response> {
        req.header("access-control-request-method")?;
        self.origin.as_ref()?;
        Some(
            Response::new(204)
                .header("Access-Control-Allow-Methods", allow)
                .header("Access-Control-Allow-Headers", M::REQUEST_FIELDS)
                .header("Access-Control-Max-Age", "86400"),
        )
    }

    /// Adds the fields that every response carries.
    pub(super) fn apply<M: CorsPolicy>(&self, response: Response, policy: &M) -> Response {
        let mut response = response;
        if !policy.server().is_empty() {
            response = response.header("Server", policy.server());
        }
        if !policy.allowed_origins().is_empty() {
            response = response.header("Vary", "Origin");
        }
        if let Some(origin) = &self.origin {
            response = response
                .header("Access-Control-Allow-Origin", origin.as_bytes())
                .header("Access-Control-Expose-Headers", M::EXPOSED_FIELDS);
            if M::COOKIES && self.is_named_origin() {
                response = response.header("Access-Control-Allow-Credentials", "true");
            }
        }
        response
    }
}

/// Adds fields that keep a browser from running a client's content in this origin, and from storing it.
pub(super) fn neutral(response: Response) -> Response {
    response
        .header("Cache-Control", "no-store")
        .header("X-Content-Type-Options", "nosniff")
        .header("Content-Security-Policy", "sandbox")
        .header("X-Robots-Tag", "noindex")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_never_too_early() {
        for (after, want) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2")] {
            assert_eq!(retry_after(Duration::from_millis(after)), want);
        }
    }
}
