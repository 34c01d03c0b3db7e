//! A request that waits until its node is known, and the attempts to forward it.
//!
//! ```text
//!   Request ──hold──▶ Held ──send(candidates)──▶ first node ──not sent, or not its own──▶ next node … ──▶ response
//! ```
//! Another node is tried only if the first one cannot have begun the request: there was no connection to it, or it has
//! said that the request is not its own. A body that the client was asked for is never sent twice.

use std::sync::Arc;

use uncork::{Request, Response, h1::Headers};

use super::{
    error::NodeError,
    handle::{Asker, LONGEST, Nodes},
    pending::Pending,
    proof::FIELD,
};
use crate::relay::{
    fields::same_field,
    forward::{Asking, Exchange, Passing, is_unsent},
};

/// The field that says for which service a request is, if its path does not.
pub(super) const SERVICE: &str = "Uncork-Node-Service";

/// The fields that a node adds to a request that it forwards for the tunnel, in lower case.
#[cfg(feature = "tunnel")]
pub(in crate::relay) const FIELDS: [&str; 2] = ["uncork-node", "uncork-node-service"];

/// Fields of one connection, and those that each node writes itself.
const OWN: [&str; 5] = ["host", "content-length", "expect", FIELD, SERVICE];

/// What a service decides about a request that is forwarded.
pub(in crate::relay) struct Forwarding<'a> {
    /// Which fields of the client are forwarded, besides those that only nodes send.
    pub(in crate::relay) keep: &'a dyn Fn(&str) -> bool,
    /// The service, if the path does not say it.
    pub(in crate::relay) service: Option<&'static str>,
    /// Offers the client's protocol to the node.
    pub(in crate::relay) upgrade: bool,
    /// Responds when the server stops.
    pub(in crate::relay) pending: Option<&'a Arc<Pending>>,
}

/// A request that is complete here, except for its body.
pub(in crate::relay) struct Held<F> {
    nodes: Nodes,
    exchange: Exchange,
    target: String,
    service: Option<&'static str>,
    asker: Asker,
    done: Box<dyn Fn() + Send>,
    errors: F,
}

impl Nodes {
    /// Takes what is needed of a request to forward it later. `errors` makes the responses of this node itself.
    ///
    /// # Errors
    /// Returns the error of a request that was forwarded before.
    pub(in crate::relay) fn hold<F>(
        &self,
        req: &mut Request<'_>,
        how: &Forwarding<'_>,
        errors: F,
    ) -> Result<Held<F>, NodeError>
    where
        F: Fn(NodeError) -> Response + Clone + Send + 'static,
    {
        self.reject_loop(req)?;
        let mut fields = Headers::new();
        let is_own = |name: &str| OWN.iter().any(|own| same_field(own, name));
        for (name, value) in req.headers().end_to_end().filter(|(name, _)| !is_own(name) && (how.keep)(name)) {
            // They were read from a valid head.
            fields.append(name, value).map_err(|_| NodeError::Invalid)?;
        }
        let upgrade = req.header_str("upgrade").filter(|_| how.upgrade).map(str::to_owned);
        let exchange = Exchange::of(req, fields, upgrade.as_deref());
        let (id, nodes, waiting) = (req.id(), self.clone(), how.pending.cloned());
        req.on_end(move |end| {
            waiting.into_iter().for_each(|waiting| waiting.remove(id));
            nodes.0.counters.bytes(end.received.saturating_add(end.written));
        });
        let waiting = how.pending.cloned();
        if let Some(waiting) = &waiting {
            let (stop, stopping) = (errors.clone(), req.ticket());
            waiting.add(id, Box::new(move || drop(stopping.respond(stop(NodeError::Stopping)))));
        }
        Ok(Held {
            nodes: self.clone(),
            exchange,
            // The target may be in absolute form.
            target: req.query().map_or_else(|| req.path().to_owned(), |query| format!("{}?{query}", req.path())),
            service: how.service,
            asker: Asker::of(req),
            done: Box::new(move || waiting.iter().for_each(|waiting| waiting.remove(id))),
            errors,
        })
    }
}

impl<F> Held<F>
where
    F: Fn(NodeError) -> Response + Clone + Send + 'static,
{
    /// Responds without a node.
    pub(in crate::relay) fn respond(self, response: Response) {
        (self.done)();
        self.exchange.respond(response);
    }

    /// Returns `true` if the request has a response, or has ended.
    #[cfg(feature = "tunnel")]
    pub(in crate::relay) fn is_over(&self) -> bool {
        self.exchange.is_over()
    }

    fn fail(self, error: NodeError) {
        let response = (self.errors)(error);
        self.respond(response);
    }

    /// Forwards the request to the first of these nodes that takes it.
    pub(in crate::relay) fn send(self, candidates: impl IntoIterator<Item = usize>) {
        let mut candidates: Vec<usize> = candidates.into_iter().collect();
        candidates.reverse();
        self.attempt(candidates, NodeError::Unreachable);
    }

    /// `candidates`: the next one is the last. `before`: the error of the attempt before this one.
    fn attempt(self, mut candidates: Vec<usize>, before: NodeError) {
        let nodes = self.nodes.clone();
        let Some(at) = candidates.pop() else { return self.fail(before) };
        let Some(peer) = nodes.0.others.get(at) else { return self.attempt(candidates, before) };
        let proof = nodes.proof(peer.tag, self.exchange.method(), &self.target, &self.asker);
        let url = format!("{}{}", peer.url, self.target);
        let call = self.exchange.call(&url, Asking::AsTheServer, Passing::Whole(LONGEST)).header(FIELD, proof);
        let call = self.service.into_iter().fold(call, |call, service| call.header(SERVICE, service));
        let Self { exchange, target, service, asker, done, errors, .. } = self;
        let client = nodes.0.client.clone();
        nodes.0.counters.forwarded();
        peer.forwarded();
        exchange.send(&client, call, move |exchange, result| {
            let this = Self { nodes, exchange, target, service, asker, done, errors };
            let unsent = result.as_ref().is_err_and(is_unsent);
            match this.nodes.judged(at, result) {
                Some(Ok(response)) => {
                    (this.done)();
                    this.exchange.pass_on(response, None);
                }
                Some(Err(error)) if unsent || (error == NodeError::NotHere && !this.exchange.is_asked()) => {
                    this.attempt(candidates, error);
                }
                Some(Err(error)) => this.fail(error),
                // The client has disconnected.
                None => (this.done)(),
            }
        });
    }
}
