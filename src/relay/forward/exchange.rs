//! One request that is passed on: what is needed of it, and the calls of other servers that it leads to.
//!
//! ```text
//!   Request ──of──▶ Exchange ──call──▶ client::Request ──send──▶ result ──┬─▶ respond, pass_on
//!                      └─ its tickets: for the response, the body, 1xx    └─▶ call again, elsewhere
//! ```
//! A request may be sent again only while the client was not asked for its body, which exists once
//! ([`is_asked`](Exchange::is_asked)).

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering::Relaxed},
};
#[cfg(feature = "gateway")]
use std::time::Duration;

use uncork::{
    LoopHandle, Request, Response, Ticket,
    client::{self, CancelHandle, Client, Error},
    h1::Headers,
    pipe,
};

use super::carried::{self, Carried, Passing};
use crate::relay::lock::lock;

/// Bytes of the pipe for the request's body.
const PIPE: usize = 256 * 1024;

/// When the client is asked for its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::relay) enum Asking {
    /// When the other server asks for it.
    #[cfg(feature = "nodes")]
    AsTheServer,
    /// When the other server asks for it, or after this time: it may not know of `100 Continue` (RFC 9110 §10.1.1).
    #[cfg(feature = "gateway")]
    AtTheLatest(Duration),
    /// When the request is sent.
    #[cfg(feature = "gateway")]
    AtOnce,
}

/// A request that is complete here, except for its body.
pub(in crate::relay) struct Exchange {
    method: String,
    authority: Option<String>,
    fields: Headers,
    upgrade: Option<String>,
    /// The length of the body, if it has one.
    body: Option<Option<u64>>,
    tickets: Tickets,
    on: LoopHandle,
    end: Arc<End>,
}

struct Tickets {
    respond: Ticket,
    /// For the body and for 1xx.
    other: Arc<Ticket>,
}

/// Connects the end of the client's request to the call of the other server.
#[derive(Default)]
struct End {
    /// The client was asked for the body.
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

impl Exchange {
    /// Takes what is needed of a request. `fields`: those that the other server gets. `upgrade`: the protocol that it is
    /// offered, if there is no body.
    pub(in crate::relay) fn of(req: &mut Request<'_>, fields: Headers, upgrade: Option<&str>) -> Self {
        let end = Arc::new(End::default());
        let ends = end.clone();
        req.on_end(move |_| ends.over());
        let has_body = req.has_body() && req.content_length() != Some(0);
        Self {
            method: req.method().to_owned(),
            authority: req.authority().map(str::to_owned),
            fields,
            upgrade: upgrade.filter(|_| !has_body).map(str::to_owned),
            body: has_body.then(|| req.content_length()),
            tickets: Tickets { respond: req.ticket(), other: Arc::new(req.ticket()) },
            on: req.loop_handle(),
            end,
        }
    }

    #[cfg(feature = "nodes")]
    pub(in crate::relay) fn method(&self) -> &str {
        &self.method
    }

    /// Returns `true` if the client was asked for its body.
    #[cfg(feature = "nodes")]
    pub(in crate::relay) fn is_asked(&self) -> bool {
        self.end.asked.load(Relaxed)
    }

    /// Returns `true` if the request has a response, or has ended.
    #[cfg(all(feature = "nodes", feature = "tunnel"))]
    pub(in crate::relay) fn is_over(&self) -> bool {
        self.tickets.respond.is_closed()
    }

    /// Responds without another server.
    pub(in crate::relay) fn respond(self, response: Response) {
        // The rest of the body has no receiver: the client need not send it.
        let response = if self.body.is_some() { response.close() } else { response };
        // An error means that the client has disconnected.
        drop(self.tickets.respond.respond(response));
    }

    /// Passes the response of the other server on. `via`: what an intermediary adds.
    pub(in crate::relay) fn pass_on(self, response: client::Response, via: Option<Vec<u8>>) {
        carried::respond(self.tickets.respond, response, via);
    }

    /// Makes the request for another server. The caller adds what this server needs, and sends it.
    pub(in crate::relay) fn call(&self, url: &str, asking: Asking, passing: Passing) -> client::Request {
        let mut call = client::Request::new(&self.method, url).headers(&self.fields);
        if let Some(authority) = &self.authority {
            call = call.authority(authority);
        }
        if let Some(protocol) = &self.upgrade {
            call = call.upgrade(protocol);
        }
        let informed = self.tickets.other.clone();
        call = call.on_informational(move |status, fields| informed.send_informational(status, fields));
        let Some(length) = self.body else { return call };
        let (inlet, outlet) = pipe(PIPE);
        let (end, receiving) = (self.end.clone(), self.tickets.other.clone());
        let receive = move || {
            end.asked.store(true, Relaxed);
            // If the request has ended, the body is dropped, which truncates it for the other server.
            let _ = receiving.receive(Carried::new(inlet, passing));
        };
        call = call.stream(outlet, length);
        match asking {
            #[cfg(feature = "nodes")]
            Asking::AsTheServer => call.on_continue(receive),
            #[cfg(feature = "gateway")]
            Asking::AtTheLatest(timeout) => call.on_continue(receive).continue_timeout(timeout),
            #[cfg(feature = "gateway")]
            Asking::AtOnce => {
                receive();
                call
            }
        }
    }

    /// Sends the request. `then` gets the result, unless the client has disconnected before.
    pub(in crate::relay) fn send(
        self,
        client: &Client,
        mut call: client::Request,
        then: impl FnOnce(Self, Result<client::Response, Error>) + Send + 'static,
    ) {
        if !self.end.begins(call.cancel_handle()) {
            return;
        }
        let on = self.on.clone();
        client.send(&on, call, move |result| then(self, result));
    }
}

/// Returns `true` if nothing of the request was sent.
#[cfg(feature = "nodes")]
pub(in crate::relay) fn is_unsent(error: &Error) -> bool {
    match error {
        Error::Resolve { .. } | Error::Connect { .. } | Error::Tls { .. } | Error::QueueFull => true,
        Error::TimedOut(timeout) => *timeout == uncork::Timeout::Connect,
        _ => false,
    }
}
