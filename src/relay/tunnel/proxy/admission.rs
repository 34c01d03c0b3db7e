//! What is common to requests that are forwarded to an origin server, and to another node: who has sent them, the
//! requests that an address has in progress, and rejections.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use uncork::{EndReason, Request, RequestEnd, Response};

use super::{counters::Count, shared::Shared};
use crate::relay::wire::retry_after;

/// Who has sent a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    /// A client, or a proxy.
    Client {
        /// It may say who its client is.
        trusted: bool,
    },
    /// Another node. It has removed what its client must not say.
    #[cfg(feature = "nodes")]
    Node,
}

/// A response without an origin server, and its counter.
pub(super) struct RejectedRequest {
    pub(super) count: Count,
    pub(super) response: Response,
}

pub(super) fn reject(count: Count, status: u16, body: impl Into<String>) -> RejectedRequest {
    RejectedRequest { count, response: Response::text(body.into()).with_status(status) }
}

/// A request of one address, counted until this is dropped.
pub(super) struct Counted {
    shared: Arc<Shared>,
    ip: IpAddr,
    /// When the request ended, if that was before its complete response.
    truncated_at: Option<Instant>,
}

impl Counted {
    /// Counts one more request of its address, if it has one.
    pub(super) fn of(
        shared: &Arc<Shared>,
        req: &Request<'_>,
        client_address: Option<IpAddr>,
    ) -> Result<Option<Self>, RejectedRequest> {
        match client_address.map(|ip| Self::one_more(shared, ip, req.now().mono)) {
            None => Ok(None),
            Some(Some(counted)) => Ok(Some(counted)),
            Some(None) => {
                let body = "too many concurrent requests from your address\n";
                let mut rejected = reject(Count::Rejected, 429, body);
                rejected.response = rejected.response.header("Retry-After", retry_after(Duration::from_secs(1)));
                Err(rejected)
            }
        }
    }

    /// Notes the end of the request.
    pub(super) fn ended(&mut self, end: &RequestEnd) {
        if end.reason != EndReason::Complete {
            self.truncated_at = Some(end.now.mono);
        }
    }

    /// Counts one more request. Returns `None` at the limit of the address.
    fn one_more(shared: &Arc<Shared>, ip: IpAddr, now: Instant) -> Option<Self> {
        shared.clients().admit(ip, now).then(|| Self { shared: shared.clone(), ip, truncated_at: None })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.shared.clients().release(self.ip, self.truncated_at);
    }
}

pub(super) fn stopping() -> Response {
    Response::text("the server is stopping\n").with_status(503).header("Retry-After", "1").close()
}

pub(super) fn unknown() -> Response {
    Response::text("unknown host\n").with_status(404)
}
