//! A request that waits until its node is known, and the attempts to forward it.
//!
//! ```text
//!   Request ──hold──▶ Held ──send(candidates)──▶ first node ──not sent, or not its own──▶ next node … ──▶ response
//!                      └─ its tickets: for the response, the body, 1xx
//! ```
//! Another node is tried only if the first one cannot have begun the request: there was no connection to it, or it has
//! said that the request is not its own. A body that the client was asked for is never sent twice.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use uncork::{
    LoopHandle, Request, Response, Ticket,
    client::{self, CancelHandle, Error},
    h1::Headers,
    pipe,
};

use super::{
    carried::{self, Carried},
    error::NodeError,
    handle::{Asker, Nodes},
    pending::Pending,
    proof::FIELD,
};
use crate::relay::{fields::same_field, lock::lock};

/// Bytes of the pipe for the request's body.
const PIPE: usize = 256 * 1024;

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
    method: String,
    target: String,
    authority: Option<String>,
    fields: Headers,
    service: Option<&'static str>,
    upgrade: Option<String>,
    /// The length of the body, if it has one.
    body: Option<Option<u64>>,
    asker: Asker,
    tickets: Tickets,
    on: LoopHandle,
    end: Arc<End>,
    done: Box<dyn Fn() + Send>,
    errors: F,
}

struct Tickets {
    respond: Ticket,
    /// For the body and for 1xx.
    other: Arc<Ticket>,
}

/// Connects the end of the client's request to the call of the node.
#[derive(Default)]
struct End {
    /// The node has asked for the body, which exists once.
    asked: AtomicBool,
    call: Mutex<Call>,
}

#[derive(Default)]
enum Call {
    #[default]
    None,
    Running(CancelHandle),
    /// The client's request has ended.
    Over,
}

impl End {
    fn over(&self) {
        let before = std::mem::replace(&mut *lock(&self.call), Call::Over);
        if let Call::Running(call) = before {
            call.cancel();
        }
    }

    /// Returns `false` if the client's request has ended.
    fn begins(&self, call: CancelHandle) -> bool {
        let mut state = lock(&self.call);
        let over = matches!(*state, Call::Over);
        if !over {
            *state = Call::Running(call);
        }
        !over
    }
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
        let (id, end) = (req.id(), Arc::new(End::default()));
        let (nodes, ends, waiting) = (self.clone(), end.clone(), how.pending.cloned());
        req.on_end(move |end| {
            ends.over();
            waiting.into_iter().for_each(|waiting| waiting.remove(id));
            nodes.0.counters.bytes(end.received.saturating_add(end.written));
        });
        let waiting = how.pending.cloned();
        if let Some(waiting) = &waiting {
            let (stop, stopping) = (errors.clone(), req.ticket());
            waiting.add(id, Box::new(move || drop(stopping.respond(stop(NodeError::Stopping)))));
        }
        let has_body = req.has_body() && req.content_length() != Some(0);
        Ok(Held {
            nodes: self.clone(),
            method: req.method().to_owned(),
            // The target may be in absolute form.
            target: req.query().map_or_else(|| req.path().to_owned(), |query| format!("{}?{query}", req.path())),
            authority: req.authority().map(str::to_owned),
            fields,
            service: how.service,
            upgrade: req.header_str("upgrade").filter(|_| how.upgrade && !has_body).map(str::to_owned),
            body: has_body.then(|| req.content_length()),
            asker: Asker::of(req),
            tickets: Tickets { respond: req.ticket(), other: Arc::new(req.ticket()) },
            on: req.loop_handle(),
            end,
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
        // The rest of the body has no receiver: the client need not send it.
        let response = if self.body.is_some() { response.close() } else { response };
        // An error means that the client has disconnected.
        drop(self.tickets.respond.respond(response));
    }

    /// Returns `true` if the request has a response, or has ended.
    #[cfg(feature = "tunnel")]
    pub(in crate::relay) fn is_over(&self) -> bool {
        self.tickets.respond.is_closed()
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
        let proof = nodes.proof(peer.tag, &self.method, &self.target, &self.asker);
        let url = format!("{}{}", peer.url, self.target);
        let mut call = client::Request::new(&self.method, &url).header(FIELD, proof).headers(&self.fields);
        if let Some(service) = self.service {
            call = call.header(SERVICE, service);
        }
        if let Some(authority) = &self.authority {
            call = call.authority(authority);
        }
        if let Some(protocol) = &self.upgrade {
            call = call.upgrade(protocol);
        }
        let informed = self.tickets.other.clone();
        call = call.on_informational(move |status, fields| informed.send_informational(status, fields));
        if let Some(length) = self.body {
            let (inlet, outlet) = pipe(PIPE);
            let (end, receiving) = (self.end.clone(), self.tickets.other.clone());
            call = call.stream(outlet, length).on_continue(move || {
                end.asked.store(true, Relaxed);
                // If the request has ended, the body is dropped, which truncates it for the owner.
                let _ = receiving.receive(Carried(inlet));
            });
        }
        if !self.end.begins(call.cancel_handle()) {
            return;
        }
        nodes.0.counters.forwarded();
        peer.forwarded();
        let on = self.on.clone();
        let client = nodes.0.client.clone();
        client.send(&on, call, move |result| {
            let unsent = result.as_ref().is_err_and(is_unsent);
            match nodes.judged(at, result) {
                Some(Ok(response)) => {
                    (self.done)();
                    carried::respond(self.tickets.respond, response);
                }
                Some(Err(error)) if unsent || (error == NodeError::NotHere && !self.end.asked.load(Relaxed)) => {
                    self.attempt(candidates, error);
                }
                Some(Err(error)) => self.fail(error),
                // The client has disconnected.
                None => (self.done)(),
            }
        });
    }
}

/// Returns `true` if nothing of the request was sent.
fn is_unsent(error: &Error) -> bool {
    match error {
        Error::Resolve { .. } | Error::Connect { .. } | Error::Tls { .. } | Error::QueueFull => true,
        Error::TimedOut(timeout) => *timeout == uncork::Timeout::Connect,
        _ => false,
    }
}
