//! What the services read out of every request, and what all their answers carry.

use std::{sync::Arc, time::Duration};

use uncork::{Request, Response};

/// The value of the first parameter of that name in the query.
pub(super) fn parameter<'a>(req: &Request<'a>, name: &str) -> Option<&'a str> {
    req.query()?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// Returns `true` for a PUT that carries only a part of what it puts: one with `Content-Range`, which is to be answered with
/// 400 where parts cannot be put (RFC 9110 §14.5). With other methods, the field means nothing and must be ignored (§14.4).
pub(super) fn is_partial_put(req: &Request<'_>) -> bool {
    req.method() == "PUT" && req.header("content-range").is_some()
}

/// The value of `Retry-After`, in seconds. Rounded up: who comes back a moment too early is refused again.
pub(super) fn retry_after(after: Duration) -> String {
    (after.as_secs() + u64::from(after.subsec_nanos() > 0)).max(1).to_string()
}

/// What a service says to browsers, and of itself.
pub(super) trait CorsPolicy {
    /// Fields a page of another origin may send (CORS).
    const REQUEST_FIELDS: &'static str;
    /// Fields it may read.
    const EXPOSED_FIELDS: &'static str;
    /// Whether pages of an origin that was named may use cookies.
    const COOKIES: bool;

    /// The `Server` field; empty for none.
    fn server(&self) -> &str;

    /// Origins whose pages may use the service; `*` for all.
    fn origins(&self) -> &[String];
}

impl<M: CorsPolicy> CorsPolicy for Arc<M> {
    const REQUEST_FIELDS: &'static str = M::REQUEST_FIELDS;
    const EXPOSED_FIELDS: &'static str = M::EXPOSED_FIELDS;
    const COOKIES: bool = M::COOKIES;

    fn server(&self) -> &str {
        (**self).server()
    }

    fn origins(&self) -> &[String] {
        (**self).origins()
    }
}

/// How the answers to one request look: what all of them carry. Kept by those that wait.
#[derive(Clone, Default)]
pub(super) struct CorsHeaders {
    /// The origin that may read the answer; `*` for any.
    origin: Option<Box<str>>,
}

impl CorsHeaders {
    pub(super) fn of<M: CorsPolicy>(req: &Request<'_>, policy: &M) -> Self {
        let origins = policy.origins();
        let origin = req.header_str("origin").filter(|_| !origins.is_empty());
        let allowed = origin.and_then(|origin| {
            let named = origins.iter().find(|allowed| allowed.eq_ignore_ascii_case(origin));
            named.map(|_| origin).or_else(|| origins.iter().any(|o| o == "*").then_some("*"))
        });
        Self { origin: allowed.map(Into::into) }
    }

    /// Whether a page of an origin that was named in the configuration asks: it may use cookies.
    pub(super) fn is_named_origin(&self) -> bool {
        self.origin.as_deref().is_some_and(|origin| origin != "*")
    }

    /// The answer to a CORS preflight, if this is one and its origin may come.
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

    /// Adds what every answer carries.
    pub(super) fn apply<M: CorsPolicy>(&self, response: Response, policy: &M) -> Response {
        let mut response = response;
        if !policy.server().is_empty() {
            response = response.header("Server", policy.server());
        }
        if !policy.origins().is_empty() {
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

/// Adds what keeps a browser from running in this origin's name what somebody else has sent, and from keeping it.
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
    fn a_retry_is_never_told_to_come_too_early() {
        for (after, want) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2")] {
            assert_eq!(retry_after(Duration::from_millis(after)), want);
        }
    }
}
