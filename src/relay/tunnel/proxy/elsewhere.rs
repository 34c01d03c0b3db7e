//! Requests for hosts without an origin server here: another node may have one.
//!
//! ```text
//!   client ──▶ no connection here ──▶ HostDirectory ──┬─ node B has the host ──▶ forwarded to B, streaming, once
//!                                                     ├─ no node has it ───────▶ 404 or 502, as without nodes
//!                                                     └─ a node is silent ─────▶ 503
//!   node ────▶ no connection here ──▶ "no-host": it may try another node
//! ```
//! The nodes are one intermediary: only the one with the origin server writes `Via`, `Forwarded` and the other fields
//! about the client. It gets the client's address in the signed field, and from a client that is no trusted proxy no
//! field that describes a client.

use std::{net::IpAddr, sync::Arc};

use http::HeaderMap;
use uncork::{Action, EndReason, Request, Response};

use super::{
    admission::{self, Counted, RejectedRequest, Sender, reject},
    counters::Count,
    names::Active,
    proxied_request::Failure,
    shared::Shared,
    shedding,
};
use crate::relay::{
    forward::about_client::is_about_the_client,
    nodes::{Asker, FIELDS, Forwarding, Found, NodeError, Nodes},
    wire::retry_after,
};

/// What a request says that one node forwards to another for the tunnel: its path may be any.
pub(in crate::relay) const SERVICE: &str = "tunnel";

/// Removes the fields that only nodes need.
pub(super) fn remove_fields(fields: &mut HeaderMap) {
    FIELDS.into_iter().for_each(|name| drop(fields.remove(name)));
}

/// Handles a request that no connection here can serve. Returns `None` if one can, or if there are no other nodes.
pub(super) fn handle(
    shared: &Arc<Shared>,
    req: &mut Request<'_>,
    sender: Sender,
    host: &str,
    client_address: Option<IpAddr>,
) -> Result<Option<Action>, RejectedRequest> {
    let Some(hosts) = &shared.hosts else { return Ok(None) };
    shedding::begin(shared, &req.loop_handle());
    let served = {
        let mut table = shared.table();
        table.names.find(host, req.path(), req.now().mono).map(|name| !name.connections.is_empty())
    };
    let trusted = match (sender, served) {
        (_, Some(true)) => return Ok(None),
        (Sender::Node, _) => {
            let response = Failure::NoOriginServer.response(&shared.common.config);
            return Err(RejectedRequest { count: Count::NoOriginServer, response: Nodes::without_host(response) });
        }
        (Sender::Client { trusted }, _) => trusted,
    };
    // Nothing is asked about other hosts: clients choose them.
    if !shared.is_allowed(host, |_| true) {
        return Ok(None);
    }
    let mut counted = Counted::of(shared, req, client_address)?;
    let (errors, common, under_way) = (shared.clone(), shared.common.clone(), Active::one_more(&shared.active));
    let how = Forwarding {
        keep: &|name| trusted || !is_about_the_client(name),
        service: Some(SERVICE),
        upgrade: true,
        pending: None,
    };
    let held = hosts
        .nodes()
        .hold(req, &how, move |error| failed(&errors, error))
        .map_err(|_| reject(Count::Unfit, 508, "request loop: another node has forwarded the request before\n"))?;
    req.on_end(move |end| {
        if matches!(end.reason, EndReason::PeerClosed | EndReason::TimedOut(_)) {
            common.counters.add(Count::Disconnected);
        }
        counted.iter_mut().for_each(|counted| counted.ended(end));
        drop((counted, under_way));
    });
    let known = served.is_some() || shared.is_known(host, req.path());
    let shared = shared.clone();
    hosts.lookup(host, &req.loop_handle(), &Asker::of(req), move |found| {
        if held.is_over() {
            return;
        }
        match found {
            Some(found) if !found.nodes.is_empty() => {
                shared.common.counters.add(Count::Forwarded);
                held.send(found.nodes);
            }
            found => held.respond(nowhere(&shared, found, known)),
        }
    });
    Ok(Some(Action::Suspend))
}

/// Returns the response for a host that no node has, as far as the nodes have responded.
fn nowhere(shared: &Shared, found: Option<Found>, known: bool) -> Response {
    let (count, response) = match found {
        None => (Count::NotAsked, Response::text("too many hosts are looked up at the moment\n").with_status(503)),
        Some(found) if found.is_incomplete => {
            let text = "no node that responds has an origin server for this host, and some do not respond\n";
            (Count::Unreachable, Response::text(text).with_status(503))
        }
        Some(found) if known || found.is_known => {
            let response = Failure::NoOriginServer.response(&shared.common.config);
            shared.common.counters.add(Count::NoOriginServer);
            return response;
        }
        Some(_) => {
            shared.common.counters.add(Count::Unknown);
            return admission::unknown();
        }
    };
    shared.common.counters.add(count);
    response.header("Retry-After", retry_after(shared.common.config.retry_after))
}

/// Returns the response for a request that could not be forwarded.
fn failed(shared: &Shared, error: NodeError) -> Response {
    let after = retry_after(shared.common.config.retry_after);
    let text = |status: u16, text: &'static str| Response::text(text).with_status(status);
    let (count, response) = match error {
        NodeError::Unreachable => {
            let response = text(502, "the node with an origin server for this host does not respond\n");
            (Count::Unreachable, response.header("Retry-After", after))
        }
        // The origin server has just disconnected.
        NodeError::NotHere => (Count::NoOriginServer, Failure::NoOriginServer.response(&shared.common.config)),
        NodeError::Invalid => (Count::Unfit, text(400, "the URL must be percent-encoded\n")),
        NodeError::Loop => (Count::Unfit, text(508, "request loop\n")),
        NodeError::Stopping => (Count::Rejected, admission::stopping()),
    };
    shared.common.counters.add(count);
    response
}
