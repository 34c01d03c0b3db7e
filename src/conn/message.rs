//! The head of a response, and the stream of HTTP/2 that carries one exchange: its heads go past the bytes of the
//! bodies.
//!
//! ```text
//!   HTTP/1.1   ServerConn ──head, framing──▶ Out ──▶ bytes
//!   HTTP/2     ServerConn ──head, end──▶ dyn Message          Out ──▶ bytes of the body only
//! ```
//! A [`ServerConn`](super::ServerConn) does the same in both cases; only what it writes differs.

use crate::h1::Headers;

/// The head of a response, as the machine needs it.
pub(crate) struct ResponseSpec<'a> {
    pub(crate) status: u16,
    pub(crate) fields: &'a Headers,
    /// The body's length, if it is known.
    pub(crate) length: Option<u64>,
    pub(crate) date: &'a [u8; 29],
}

/// The framing of the response's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyOut {
    /// No content is sent: HEAD, 204, 304, or an empty body.
    Nothing,
    /// So many bytes are left to send.
    Length(u64),
    Chunked,
    UntilClose,
}

/// The stream of one request and its response.
pub(crate) trait Message: Send {
    /// Sends an informational response (1xx).
    fn inform(&mut self, status: u16, fields: &Headers);

    /// Sends the head of the response. `length`: the value of `Content-Length`. `body`: what follows; if that is
    /// `Nothing`, the message ends here.
    fn respond(&mut self, response: &ResponseSpec<'_>, length: Option<u64>, body: BodyOut);

    /// Accepts another protocol: the bytes in both directions belong to that from now on.
    fn switch(&mut self, response: &ResponseSpec<'_>);

    /// Ends the response behind the bytes of the body that were written so far.
    fn end(&mut self, trailers: Option<&Headers>);

    /// Returns the trailers of the request, `None` if it has not ended. The end is returned once.
    fn poll_end(&mut self) -> Option<Option<Box<Headers>>>;
}
