//! The responses of a successful stream: its bytes to the receivers, and the result to the source.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use uncork::{Action, PipeOut, Response, h1::Headers};

use super::{
    super::{body::Fields, config::RendezvousConfig, neutral, transfer::Exact},
    Receiver, Stream,
};

impl Stream {
    /// Returns the response to GET: the bytes of the pipe, of this length if it is known. `wrong_length` is set if the
    /// creator declared another length.
    pub(super) fn download_response(
        &self,
        receiver: &Receiver,
        mut outlet: PipeOut,
        length: Option<u64>,
        wrong_length: &Arc<AtomicBool>,
        config: &RendezvousConfig,
    ) -> Action {
        let declared = self.options.download.as_ref().and_then(|fields| fields.length);
        let body = match (declared, length) {
            (None | Some(0), Some(0)) => Response::new(200),
            // The declared length is wrong: not even the head can be sent.
            (Some(0), _) => {
                wrong_length.store(true, Ordering::Release);
                return Action::Abort;
            }
            (Some(declared), length) if length != Some(declared) => {
                outlet.on_data(receiver.waiter.ticket.waker());
                Response::stream(Exact::new(outlet, declared, wrong_length.clone())).length(declared)
            }
            (_, length) => {
                let strict = receiver.strict.or(self.strict).unwrap_or(config.strict);
                let outlet = if strict { outlet } else { outlet.end_cleanly_if_truncated() };
                Response::stream(outlet).length(length)
            }
        };
        let fields = if config.neutral { neutral::download } else { with };
        receiver.waiter.cors.apply(requested(body, self.options.download.as_ref(), fields), config).into()
    }

    /// Returns the response to PUT.
    pub(super) fn upload_response(&self, config: &RendezvousConfig) -> Response {
        let fields = if config.neutral { neutral::upload } else { with };
        requested(Response::new(200), self.options.upload.as_ref(), fields)
    }
}

/// Adds the fields that a client requested, unchanged.
fn with(response: Response, fields: &Headers) -> Response {
    fields.iter().fold(response, |response, (name, value)| response.append(name, value))
}

/// Adds the fields that a client requested. The connection ends with the response, unless the client asked for
/// keep-alive.
fn requested(response: Response, fields: Option<&Fields>, add: fn(Response, &Headers) -> Response) -> Response {
    let none = Headers::new();
    let response = add(response, fields.map_or(&none, |fields| &fields.headers));
    if fields.is_some_and(|fields| fields.keep_alive) { response } else { response.close() }
}
