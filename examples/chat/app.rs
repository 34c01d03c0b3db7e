//! The application: who is in the room, and who is told what. It sees requests only, one for each thing that happens.
//!
//! | request | what it means | what is done |
//! |---|---|---|
//! | `GET /connect?NAME` | somebody wants in | a key and a greeting; or a refusal |
//! | `POST /establish` | he is in | everybody is told |
//! | `POST /receive` | he says something | everybody is told |
//! | `POST /close` | he is gone | everybody is told |
//!
//! Each is answered when everybody was told, so nobody can talk faster than others are told of it.

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

/// A room in which everybody hears everybody. A name is a key.
#[derive(Clone, Default)]
pub(crate) struct Chat {
    /// By name, the gateway: a close callback does not say which one it comes from.
    names: Arc<Mutex<BTreeMap<String, String>>>,
    client: Client,
}

impl Handler for Chat {
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        let name = req.header_str(KEY).unwrap_or_default().to_owned();
        match req.path() {
            "/connect" => self.connect(req.query().unwrap_or_default()).into(),
            "/establish" => {
                let asked = Asked::by(req);
                self.names().insert(name.clone(), asked.gateway.clone());
                self.tell(asked, format!("* {name} is here"))
            }
            "/receive" => {
                let said = format!("{name}: ").into_bytes();
                Action::Receive(Box::new(Words { chat: self.clone(), asked: Asked::by(req), said }))
            }
            "/close" => {
                let gateway = self.names().remove(&name).unwrap_or_default();
                self.tell(Asked { gateway, ..Asked::by(req) }, format!("* {name} has left"))
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
        let strange = |c: char| c.is_control() || matches!(c, ':' | '*');
        if name.is_empty() || name.chars().count() > 24 || name.contains(strange) {
            return Response::text("That is no name.\n").with_status(403);
        }
        if names.contains_key(name) {
            return Response::text("Somebody has that name.\n").with_status(409);
        }
        let others: Vec<&str> = names.keys().map(String::as_str).collect();
        let here = if others.is_empty() { "nobody else".to_owned() } else { others.join(", ") };
        Response::text(format!("* welcome, {name}; with you: {here}")).header(KEY, name)
    }

    /// Tells everybody, then answers whoever asked for it.
    fn tell(&self, asked: Asked, line: impl Into<Vec<u8>>) -> Action {
        let names = self.names();
        if names.is_empty() {
            return Response::new(200).into();
        }
        let call = client::Request::post(&format!("http://{}/send", asked.gateway), line.into());
        let call = names.keys().fold(call, |call, name| call.header(KEY, name));
        self.client.send(&asked.here, call, move |told| {
            // If somebody has just left, that is none of the others' concern.
            let status = told.map_or(502, |told| {
                let status = told.status();
                told.discard();
                status
            });
            let _ = asked.ticket.respond(Response::new(status));
        });
        Action::Suspend
    }
}

/// Who asked, and by which gateway.
struct Asked {
    ticket: Ticket,
    here: LoopHandle,
    gateway: String,
}

impl Asked {
    fn by(req: &mut Request<'_>) -> Self {
        let gateway = req.header_str(ENDPOINT).unwrap_or_default().to_owned();
        Self { ticket: req.ticket(), here: req.loop_handle(), gateway }
    }
}

/// What somebody says, while it comes in; the gateway has limited it.
struct Words {
    chat: Chat,
    asked: Asked,
    said: Vec<u8>,
}

impl Upload for Words {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        self.said.extend_from_slice(chunk);
        Consumed::All
    }

    fn end(self: Box<Self>, _trailers: &Headers) -> Action {
        self.chat.tell(self.asked, self.said)
    }
}
