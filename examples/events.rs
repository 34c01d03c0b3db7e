//! Server-sent events: each line of the input appears in all browsers that have the page open.
//!
//!     (while sleep 1; do date; done) | cargo run --release --example events
//!     # in another terminal, or open http://127.0.0.1:8080/:
//!     curl -sN http://127.0.0.1:8080/events | head -n 5
//!
//! Without the part before `|`, the lines are what you type.
//!
//! The main thread publishes the lines, and the loops of the server send them. A reader that does not read has a queue
//! of 64 events. When it is full, the response ends, and the browser connects again: memory does not grow. A reader that
//! disconnects is noticed at once.

use std::{
    io,
    process::ExitCode,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{SyncSender, TryRecvError, sync_channel},
    },
};

use uncork::{Action, Produced, Request, Response, Server, Tx, Waker};

#[path = "common/address.rs"]
mod address;

const PAGE: &str = r#"<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Events</title>
<h1>Events</h1>
<p>Readers: <output id="readers"></output></p>
<ul id="lines"></ul>
<script>
const events = new EventSource("events");
events.onmessage = ({ data }) => {
  const item = document.createElement("li");
  item.textContent = data;
  document.getElementById("lines").append(item);
};
events.addEventListener("readers", ({ data }) => document.getElementById("readers").value = data);
</script>
"#;

/// Number of events that wait for a reader which does not read.
const QUEUE: usize = 64;

/// Maximum length of a line, in bytes.
const LINE: usize = 64 * 1024;

/// An event that is encoded once for all readers.
type Event = Arc<[u8]>;

/// A reader: its queue, and the waker of its response.
type Reader = (SyncSender<Event>, Waker);

/// All readers. The loops and the publisher share it.
#[derive(Clone, Default)]
struct Readers(Arc<Mutex<Vec<Reader>>>);

impl Readers {
    fn all(&self) -> MutexGuard<'_, Vec<Reader>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an event for all readers. It never blocks: a reader whose queue is full is removed, and its response ends
    /// behind the events in the queue.
    fn publish(&self, event: &str) {
        let event = Event::from(event.as_bytes());
        self.all().retain(|(queue, waker)| {
            let is_kept = queue.try_send(event.clone()).is_ok();
            waker.wake();
            is_kept
        });
    }

    fn publish_count(&self) {
        let count = self.all().len();
        self.publish(&format!("event: readers\ndata: {count}\n\n"));
    }

    /// Returns a response that sends events as long as the client is connected.
    fn add(&self, req: &mut Request<'_>) -> Response {
        let (queue, events) = sync_channel::<Event>(QUEUE);
        self.all().push((queue, req.waker()));
        self.publish_count();
        let (readers, id) = (self.clone(), req.id());
        req.on_end(move |_| {
            // The client has disconnected, or was too slow.
            readers.all().retain(|(_, waker)| waker.id() != id);
            readers.publish_count();
        });
        let mut unsent = None;
        let produce = move |out: &mut Tx<'_>| loop {
            match unsent.take().map_or_else(|| events.try_recv(), Ok) {
                Ok(event) if out.write_shared(&event) => {}
                Ok(event) => {
                    unsent = Some(event); // this is called again when there is room
                    return Produced::More;
                }
                Err(TryRecvError::Empty) => return Produced::Pending,
                Err(TryRecvError::Disconnected) => return Produced::End,
            }
        };
        Response::stream(produce).header("Content-Type", "text/event-stream").header("Cache-Control", "no-store")
    }
}

fn respond(req: &mut Request<'_>, readers: &Readers) -> Action {
    match (req.method(), req.path()) {
        ("GET", "/") => Response::html(PAGE).into(),
        ("GET", "/events") => readers.add(req).into(),
        (_, "/" | "/events") => Response::new(405).header("Allow", "GET").into(),
        _ => Response::text("not found\n").with_status(404).into(),
    }
}

fn main() -> ExitCode {
    address::main("events", "Sends each line of the input to all browsers that have the page open", serve)
}

fn serve(addr: &str) -> io::Result<()> {
    let readers = Readers::default();
    let shared = readers.clone();
    let server = Server::bind(addr)?.threads(2, move |req: &mut Request<'_>| respond(req, &shared))?;
    println!("listening on http://{}", server.local_addr().map_or(addr.into(), |addr| addr.to_string()));
    for line in io::stdin().lines() {
        let line = line?;
        if line.len() > LINE {
            eprintln!("error: the line is too long: expected at most {LINE} bytes");
            continue;
        }
        readers.publish(&format!("data: {}\n\n", line.replace('\r', " ")));
    }
    server.join() // the end of the input; the server continues
}
