//! One request on a connection of HTTP/1.1, served as a connection of its own that consists of two pipes.
//!
//! ```text
//!   Input ──head, body as framed──▶ PipeIn ══▶ the engine ══▶ PipeOut ─▶ ResponseReader ─▶ framed anew ─▶ Output
//! ```
//! The engine gets exactly the bytes of one request: those behind it stay in the input until its response is complete,
//! and begin another connection. So each request has its own client's address, and none is hidden in another's body.

use std::task;

use uncork::{
    PeerAddr, PipeIn, PipeOut,
    h1::{
        Framing, Headers, Misbehaved, RequestHead,
        chunked::{Decoder, Step},
        reason,
        write::{LAST_CHUNK, informational, trailers},
    },
    pipe,
};

use super::stream::{PIPE, Served};
use crate::relay::tunnel::{
    http1::{BODY, Input, Output, Source},
    response::{Piece, ResponseHead, ResponseReader},
};

pub(super) struct Exchange {
    inlet: Option<PipeIn>,
    /// The head, or the framing of a chunk, that is not in the pipe yet.
    own: Vec<u8>,
    request: RequestBody,
    reader: ResponseReader<PipeOut>,
    response: ResponseBody,
}

/// The part of the request that has not arrived.
enum RequestBody {
    Length(u64),
    Chunked(Decoder),
    Complete,
    /// Bytes of the new protocol.
    Raw,
}

/// The part of the response that is not sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ResponseBody {
    Head,
    Length,
    Chunked,
    Raw,
    Over,
}

impl Exchange {
    /// Begins to serve a request. `head`: its bytes. Returns `None` if the loop has ended.
    pub(super) fn begin(
        head: &[u8],
        parsed: &RequestHead<'_>,
        client: PeerAddr,
        served: &Served,
        waker: &task::Waker,
    ) -> Option<Self> {
        let request = match parsed.framing {
            Framing::None | Framing::Length(0) => RequestBody::Complete,
            Framing::Length(n) => RequestBody::Length(n),
            Framing::Chunked => RequestBody::Chunked(Decoder::new()),
        };
        let small = matches!(request, RequestBody::Complete) && !parsed.upgrade;
        let ((mut inlet, input), (output, mut outlet)) = (pipe(if small { head.len() } else { PIPE }), pipe(PIPE));
        inlet.on_room(waker.clone());
        outlet.on_data(waker.clone());
        served.loop_handle.adopt_pipes(client, input, output, served.listener).ok()?;
        Some(Self {
            inlet: Some(inlet),
            own: head.to_vec(),
            request,
            reader: ResponseReader::new(outlet, parsed.method.into()),
            response: ResponseBody::Head,
        })
    }

    /// Moves what can be moved. Returns `true` if request and response are complete.
    ///
    /// # Errors
    /// Returns the reason why the connection must be reset: a message is truncated or malformed.
    pub(super) fn drive(&mut self, input: &mut Input, output: &mut Output) -> Result<bool, &'static str> {
        self.drive_request(input)?;
        self.drive_response(output)?;
        // After a switch, what the proxy has sent already goes to the handler.
        self.drive_request(input)?;
        let raw = matches!(self.request, RequestBody::Raw);
        let closed = self.inlet.as_ref().is_none_or(PipeIn::is_closed);
        let is_received = if raw { closed } else { matches!(self.request, RequestBody::Complete) };
        let complete = is_received && self.response == ResponseBody::Over;
        // Also if the next request is there already: a proxy that sends several at once cancels all of them.
        if !complete && !raw && input.has_ended() {
            return Err("the proxy has cancelled the request");
        }
        if complete && let Some(inlet) = self.inlet.take() {
            inlet.finish(None);
        }
        Ok(complete)
    }

    /// Returns `true` if the connection has left HTTP.
    pub(super) fn has_switched(&self) -> bool {
        matches!(self.request, RequestBody::Raw)
    }

    /// Forwards the request. A handler that reads no more gets no more: the rest is dropped.
    fn drive_request(&mut self, input: &mut Input) -> Result<(), &'static str> {
        loop {
            if !self.own.is_empty() {
                let n = put(&mut self.inlet, &self.own);
                self.own.drain(..n);
                if !self.own.is_empty() {
                    return Ok(());
                }
            }
            let bytes = input.bytes();
            match &mut self.request {
                RequestBody::Complete => return Ok(()),
                RequestBody::Length(0) => self.request = RequestBody::Complete,
                RequestBody::Raw if bytes.is_empty() => {
                    if input.is_truncated() {
                        return Err("the proxy's stream is truncated");
                    }
                    if input.is_finished()
                        && let Some(inlet) = self.inlet.take()
                    {
                        inlet.finish(None);
                    }
                    return Ok(());
                }
                _ if bytes.is_empty() => return Ok(()),
                RequestBody::Length(left) => {
                    let most = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    let n = put(&mut self.inlet, &bytes[..most]);
                    *left -= n as u64;
                    input.consume(n);
                    if n == 0 {
                        return Ok(());
                    }
                }
                RequestBody::Chunked(decoder) => match decoder.step(bytes, &BODY).map_err(Misbehaved::rule)? {
                    Step::Skip(n) => {
                        self.own.extend_from_slice(&bytes[..n]);
                        input.consume(n);
                    }
                    Step::Data(most) => {
                        let n = put(&mut self.inlet, &bytes[..most]);
                        decoder.took(n);
                        input.consume(n);
                        if n == 0 {
                            return Ok(());
                        }
                    }
                    Step::End(n, _) => {
                        self.own.extend_from_slice(&bytes[..n]);
                        input.consume(n);
                        self.request = RequestBody::Complete;
                    }
                    Step::NeedMore => return Ok(()),
                },
                RequestBody::Raw => {
                    let n = put(&mut self.inlet, bytes);
                    input.consume(n);
                    if n == 0 {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn drive_response(&mut self, output: &mut Output) -> Result<(), &'static str> {
        while output.room() > 0 {
            match self.reader.next() {
                Piece::Pending => return Ok(()),
                Piece::Broken(reason) => return Err(reason),
                Piece::Informational(status, fields) => {
                    let mut head = Vec::new();
                    informational(status, &end_to_end(&fields), &mut head);
                    output.put(&head);
                }
                Piece::Head(head) => {
                    self.response = match () {
                        () if head.switched => ResponseBody::Raw,
                        () if head.whole => ResponseBody::Over,
                        () if head.has_length => ResponseBody::Length,
                        () => ResponseBody::Chunked,
                    };
                    output.put(&response_head(&head, self.response == ResponseBody::Chunked));
                    if head.switched {
                        self.request = RequestBody::Raw;
                    }
                }
                Piece::Data { bytes, last } => {
                    let n = bytes.len().min(output.room());
                    match self.response {
                        ResponseBody::Chunked => output.put_chunk(&bytes[..n]),
                        _ => output.put(&bytes[..n]),
                    }
                    if last && n == bytes.len() {
                        self.response = ResponseBody::Over;
                    }
                    self.reader.consume(n);
                }
                Piece::End(fields) => {
                    match (self.response, fields) {
                        (ResponseBody::Chunked, Some(fields)) => {
                            let mut end = Vec::new();
                            trailers(&end_to_end(&fields), &mut end);
                            output.put(&end);
                        }
                        (ResponseBody::Chunked, None) => output.put(LAST_CHUNK),
                        _ => output.finish(),
                    }
                    self.response = ResponseBody::Over;
                }
            }
        }
        Ok(())
    }
}

/// Writes into a pipe. If its other end does not read any more, the bytes are dropped.
fn put(inlet: &mut Option<PipeIn>, bytes: &[u8]) -> usize {
    match inlet {
        Some(inlet) if !inlet.is_closed() => inlet.write(bytes),
        _ => bytes.len(),
    }
}

/// Returns the fields that are not of one hop: the engine's own connection ends here.
fn end_to_end(fields: &Headers) -> Headers {
    let mut end_to_end = Headers::new();
    for (name, value) in fields.end_to_end() {
        // It was a field before.
        let _ = end_to_end.append(name, value);
    }
    end_to_end
}

fn response_head(head: &ResponseHead, chunked: bool) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {} {}\r\n", head.status, reason(head.status)).into_bytes();
    if let Some(protocol) = head.fields.get("upgrade").filter(|_| head.switched) {
        bytes.extend_from_slice(b"Connection: upgrade\r\nUpgrade: ");
        bytes.extend_from_slice(protocol);
        bytes.extend_from_slice(b"\r\n");
    }
    if chunked {
        bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    bytes.extend_from_slice(end_to_end(&head.fields).as_wire());
    bytes.extend_from_slice(b"\r\n");
    bytes
}
