//! A JSON API with a store: notes are added, listed by tag, and removed.
//!
//!     cargo run --release --example json_api
//!     # in another terminal:
//!     curl http://127.0.0.1:8080/notes -d '{"text": "buy milk", "tag": "home"}'
//!     curl 'http://127.0.0.1:8080/notes?tag=home'
//!     curl -X DELETE http://127.0.0.1:8080/notes/1

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use uncork::{Action, Request, Response, Server};

#[path = "common/address.rs"]
mod address;

#[derive(Serialize, Deserialize)]
struct Note {
    text: String,
    #[serde(default)]
    tag: String,
}

/// All notes, by their numbers. The loops share it.
#[derive(Clone, Default)]
struct Store(Arc<Mutex<BTreeMap<u64, Note>>>);

impl Store {
    fn notes(&self) -> MutexGuard<'_, BTreeMap<u64, Note>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn list(&self, tag: Option<&str>) -> Response {
        let notes = self.notes();
        let found: BTreeMap<_, _> = notes.iter().filter(|(_, note)| tag.is_none_or(|tag| note.tag == tag)).collect();
        match serde_json::to_vec(&found) {
            Ok(json) => Response::json(json),
            Err(error) => Response::text(format!("{error}\n")).with_status(500),
        }
    }

    fn add(&self, body: &[u8]) -> Response {
        let note: Note = match serde_json::from_slice(body) {
            Ok(note) => note,
            Err(error) => return Response::text(format!("invalid note: {error}\n")).with_status(400),
        };
        let mut notes = self.notes();
        let number = notes.last_key_value().map_or(1, |(last, _)| last + 1);
        notes.insert(number, note);
        Response::new(201).header("Location", format!("/notes/{number}"))
    }

    fn remove(&self, number: u64) -> Response {
        Response::new(if self.notes().remove(&number).is_some() { 204 } else { 404 })
    }
}

fn api(req: &mut Request<'_>, store: &Store) -> Action {
    let number = req.path().strip_prefix("/notes/").and_then(|number| number.parse().ok());
    match (req.method(), req.path(), number) {
        ("GET", "/notes", _) => {
            let tag = req.query_pairs().find(|(name, _)| name == "tag").map(|(_, tag)| tag);
            store.list(tag.as_deref()).into()
        }
        ("POST", "/notes", _) => {
            let store = store.clone();
            Action::receive_whole(64 * 1024, move |body| store.add(&body))
        }
        ("DELETE", _, Some(number)) => store.remove(number).into(),
        (_, "/notes", _) => Response::new(405).header("Allow", "GET, POST").into(),
        _ => Response::text("not found\n").with_status(404).into(),
    }
}

fn main() -> ExitCode {
    address::main("json_api", "Keeps notes: a JSON API with a store", |addr| {
        let store = Store::default();
        let server = Server::bind(addr)?.threads(2, move |req: &mut Request<'_>| api(req, &store))?;
        println!("listening on http://{}", server.local_addr().map_or(addr.into(), |addr| addr.to_string()));
        server.join()
    })
}
