//! `/stats`: the counters, of this node or of all.
//!
//! A monitoring agent may ask with a form, as kuiperbelt allows. Then the body is collected first.

use std::{sync::Arc, time::SystemTime};

use uncork::{Action, Consumed, Request, Upload, h1::Headers};
#[cfg(feature = "directory")]
use uncork::{LoopHandle, Ticket};

#[cfg(feature = "directory")]
use super::{all_nodes::AllNodes, counters::GatewayStats};
use super::{
    shared::Shared,
    wire::{self, SizedResponse},
};
#[cfg(feature = "directory")]
use crate::relay::nodes::{Asker, Directory};

/// The start of the names in text.
const PREFIX: &str = "kuiperbelt";

/// Maximum size of a form, in bytes.
const FORM: usize = 4096;

/// Handles `/stats`: responds with JSON, or with text if a query parameter or a field of a form asks for it.
pub(super) fn request(shared: &Arc<Shared>, req: &mut Request<'_>) -> Action {
    let form = req.header("content-type").and_then(|value| value.split(|&b| b == b';').next());
    let is_form = form.is_some_and(|kind| kind.eq_ignore_ascii_case(b"application/x-www-form-urlencoded"));
    let wanted = Wanted {
        shared: shared.clone(),
        format: req.query().and_then(format_of),
        now: req.now().wall,
        #[cfg(feature = "directory")]
        all: All::of(shared, req),
    };
    if is_form && matches!(req.method(), "POST" | "PUT" | "PATCH") && req.has_body() {
        return Action::Receive(Box::new(Form { wanted, bytes: Vec::new() }));
    }
    wanted.respond()
}

#[derive(Clone, Copy)]
enum Format {
    Text,
    Other,
}

/// Returns the first `format` parameter, if there is one.
fn format_of(parameters: &str) -> Option<Format> {
    let value = parameters.split('&').find_map(|pair| pair.strip_prefix("format")?.strip_prefix('='))?;
    Some(if matches!(value, "tsv" | "txt" | "text") { Format::Text } else { Format::Other })
}

/// What a request asks for.
struct Wanted {
    shared: Arc<Shared>,
    format: Option<Format>,
    now: SystemTime,
    /// The counters of all nodes.
    #[cfg(feature = "directory")]
    all: Option<All>,
}

impl Wanted {
    fn respond(self) -> Action {
        #[cfg(feature = "directory")]
        if let Some(All { directory, on, asker, ticket }) = self.all {
            let (format, now) = (self.format, self.now);
            AllNodes::ask(&self.shared, &directory, &on, &asker, move |all| {
                // An error means that the client has disconnected.
                let _ = ticket.respond(of_all(&all, format, now).response);
            });
            return Action::Suspend;
        }
        let stats = self.shared.counters.read();
        response(self.format, || stats.lines(PREFIX, self.now), || stats.to_string()).response.into()
    }
}

fn response(format: Option<Format>, text: impl FnOnce() -> String, json: impl FnOnce() -> String) -> SizedResponse {
    match format {
        Some(Format::Text) => wire::stats("text/plain", text()),
        Some(Format::Other) | None => wire::stats("application/json", format!("{}\n", json())),
    }
}

/// What the question to all nodes needs.
#[cfg(feature = "directory")]
struct All {
    directory: Directory,
    on: LoopHandle,
    asker: Asker,
    ticket: Ticket,
}

#[cfg(feature = "directory")]
impl All {
    /// Returns `None` if the request does not ask for all nodes, or there are no others.
    fn of(shared: &Shared, req: &mut Request<'_>) -> Option<Self> {
        let directory = shared.directory.clone()?;
        let is_asked = req.query()?.split('&').any(|pair| pair == "nodes=all");
        is_asked.then(|| Self { directory, on: req.loop_handle(), asker: Asker::of(req), ticket: req.ticket() })
    }
}

/// Returns the sums, and the counters of each node.
#[cfg(feature = "directory")]
fn of_all(all: &AllNodes, format: Option<Format>, now: SystemTime) -> SizedResponse {
    let sum = all.present().fold(GatewayStats::default(), |sum, (_, numbers)| sum.plus(numbers.stats));
    let of_node =
        |(id, numbers): (&str, &super::all_nodes::Numbers)| numbers.stats.lines(&format!("{PREFIX}.nodes.{id}"), now);
    let text = || sum.lines(PREFIX, now) + &all.present().map(of_node).collect::<String>();
    let json = || sum.object().json("nodes", &all.object(|numbers| numbers.stats.to_string())).end();
    all.mark(response(format, text, json))
}

/// Collects a form that asks for statistics. Its `format` takes precedence over that of the query.
struct Form {
    wanted: Wanted,
    bytes: Vec<u8>,
}

impl Upload for Form {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        if self.bytes.len() + chunk.len() > FORM {
            return Consumed::Stop(wire::text(413, "Request Entity Too Large").close().response.into());
        }
        self.bytes.extend_from_slice(chunk);
        Consumed::All
    }

    fn end(self: Box<Self>, _trailers: &Headers) -> Action {
        let Self { wanted, bytes } = *self;
        let format = std::str::from_utf8(&bytes).ok().and_then(format_of).or(wanted.format);
        Wanted { format, ..wanted }.respond()
    }
}
