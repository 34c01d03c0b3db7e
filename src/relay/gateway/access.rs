//! The access log: one line for each request of the application, and for requests to unknown paths.

use uncork::{Request, Response};

use super::{shared::Shared, wire::SizedResponse};

/// The parts of a request that its log line has. The line is written with the response.
pub(super) struct ParsedRequest {
    method: Box<str>,
    url: Box<str>,
}

impl ParsedRequest {
    pub(super) fn of(req: &Request<'_>) -> Self {
        Self { method: req.method().into(), url: req.target().into() }
    }

    #[cfg(test)]
    pub(super) fn nothing() -> Self {
        Self { method: "".into(), url: "".into() }
    }

    /// Logs the response, and returns it.
    pub(super) fn log(&self, shared: &Shared, response: SizedResponse) -> Response {
        let SizedResponse { response, size } = response;
        if !shared.config.suppress_access_log {
            // Methods are tokens and request targets visible ASCII: neither can end the line.
            let Self { method, url } = self;
            let status = response.status();
            log::info!(target: "uncork::relay::access", "access method={method} url={url} status={status} size={size}");
        }
        response
    }
}
