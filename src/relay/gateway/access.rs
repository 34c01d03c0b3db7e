//! The access log: a line for each request of the application's, and for what is not here.

use uncork::{Request, Response};

use super::{Shared, wire::Reply};

/// What was asked, for when it is answered.
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

    /// Logs the answer, and gives it.
    pub(super) fn answered(&self, shared: &Shared, reply: Reply) -> Response {
        let Reply { response, size } = reply;
        if !shared.config.suppress_access_log {
            // Methods are tokens and targets visible ASCII: neither gets out of its line.
            let Self { method, url } = self;
            let status = response.status();
            log::info!(target: "uncork::relay", "access method={method} url={url} status={status} size={size}");
        }
        response
    }
}
