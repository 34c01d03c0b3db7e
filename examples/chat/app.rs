//! The application: keeps the list of users and forwards messages. The gateway sends it one request for each event.
//!
//! | request | event | action |
//! |---|---|---|
//! | `GET /connect?NAME` | a user connects | responds with a key and a greeting, or rejects |
//! | `POST /establish` | the user is connected | notifies all users |
//! | `POST /receive` | the user sends a message | sends it to all users |
//! | `POST /close` | the user has disconnected | notifies all users |
//!
//! Each response waits until all users have the message, so a user cannot send faster than the others receive.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use percent_encoding::percent_decode_str;
use uncork::{
    Action, Consumed, Handler, LoopHandle, Request, Response, Ticket, Upload,
    client::{self, Client},
    h1::Headers,
};

const KEY: &str = "X-Kuiperbelt-Session";
const ENDPOINT: &str = "X-Kuiperbelt-Endpoint";

/// One chat. A user's name is the key of the session.
#[derive(Clone, Default)]
pub(crate) struct Chat {
    /// The gateway of each user: a close callback does not name it.
    names: Arc<Mutex<BTreeMap<String, String>>>,
    client: Client,
}

impl Handler for Chat {
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        let name = req.header_str(KEY).unwrap_or_default().to_owned();
        match req.path() {
            "/connect" => self.connect(req.query().unwrap_or_default()).into(),
            "/establish" => {
                let callback = Callback::new(req);
                self.names().insert(name.clone(), callback.gateway.clone());
                self.broadcast(callback, format!("* {name} is here"))
            }
            "/receive" => {
                let text = format!("{name}: ").into_bytes();
                Action::Receive(Box::new(Message { chat: self.clone(), callback: Callback::new(req), text }))
            }
            "/close" => {
                let gateway = self.names().remove(&name).unwrap_or_default();
                self.broadcast(Callback { gateway, ..Callback::new(req) }, format!("* {name} has left"))
            }
            _ => Response::new(404).into(),
        }
    }
}

impl Chat {
    fn names(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(&self, query: &str) -> Response {
        let name = percent_decode_str(query).decode_utf8_lossy();
        let name = name.trim();
        let names = self.names();
        let is_reserved = |c: char| c.is_control() || matches!(c, ':' | '*');
        if name.is_empty() || name.chars().count() > 24 || name.contains(is_reserved) {
            return Response::text("Invalid name.\n").with_status(403);
        }
        if names.contains_key(name) {
            return Response::text("This name is in use.\n").with_status(409);
        }
        let others: Vec<&str> = names.keys().map(String::as_str).collect();
        let here = match &others[..] {
            [] => "you are the only user".to_owned(),
            others => format!("with you: {}", others.join(", ")),
        };
        Response::text(format!("* welcome, {name}; {here}")).header(KEY, name)
    }

    /// Sends a line to all users, then responds to the callback.
    fn broadcast(&self, callback: Callback, line: impl Into<Vec<u8>>) -> Action {
        let names = self.names();
        if names.is_empty() {
            return Response::new(200).into();
        }
        let call = client::Request::post(&format!("http://{}/send", callback.gateway), line.into());
        let call = names.keys().fold(call, |call, name| call.header(KEY, name));
        self.client.send(&callback.loop_handle, call, move |result| {
            // A user that has just disconnected is not an error for the others.
            let status = result.map_or(502, |response| {
                let status = response.status();
                response.discard();
                status
            });
            let _ = callback.ticket.respond(Response::new(status));
        });
        Action::Suspend
    }
}

/// A callback of the gateway, while it waits for its response.
struct Callback {
    ticket: Ticket,
    loop_handle: LoopHandle,
    gateway: String,
}

impl Callback {
    fn new(req: &mut Request<'_>) -> Self {
        let gateway = req.header_str(ENDPOINT).unwrap_or_default().to_owned();
        Self { ticket: req.ticket(), loop_handle: req.loop_handle(), gateway }
    }
}

/// A message, while it is received; the gateway limits its size.
struct Message {
    chat: Chat,
    callback: Callback,
    text: Vec<u8>,
}

impl Upload for Message {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        self.text.extend_from_slice(chunk);
        Consumed::All
    }

    fn end(self: Box<Self>, _trailers: &Headers) -> Action {
        self.chat.broadcast(self.callback, self.text)
    }
}
