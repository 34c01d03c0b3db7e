//! The HTTP/1.1 codec: strict parsing and writing by RFC 9110 and RFC 9112.
//!
//! ```text
//!             ┌ HeadScanner ┐  ┌ parse_request ┐
//!   bytes ───▶│ where does  │──▶│ httparse once,│──▶ RequestHead { method, target, fields, framing, .. }
//!             │ it end?     │   │ then one pass │                                          │
//!             └─────────────┘   └───────────────┘                                          ▼
//!   bytes ───▶ chunked::Decoder::step ──▶ Skip n │ Data n │ End(trailers)        framing: None, Length, Chunked
//!
//!   status, Headers, BodyLength, Date ──▶ write::response_head ──▶ bytes
//!   Misbehaved ──▶ write::error ──▶ bytes          the status of each error is in one file, `error`
//! ```
//!
//! Parsing does not copy: heads and chunk data are borrowed from the caller's buffer. An ordinary request needs no
//! allocation. The parsers reject what the RFCs forbid, because request smuggling needs two parsers that disagree about
//! one message (RFC 9112 §11.2).
//!
//! Not here: connections and their order (`conn`), sockets, time, responses as an application sees them (`api`).

pub mod chunked;
pub mod date;
pub mod error;
pub mod framing;
pub mod grammar;
pub mod head;
pub mod headers;
mod hop;
#[cfg(test)]
mod neighbours;
pub mod response;
pub mod scan;
pub mod status;
pub mod target;
pub mod write;

pub use date::DateCache;
pub use error::Misbehaved;
pub use framing::{Framing, ResponseFraming};
pub use grammar::{HeaderName, HeaderValue, InvalidHeader, is_field_value, is_token};
pub(crate) use head::parse_request_of;
pub use head::{FieldSlots, MAX_FIELDS, RequestHead, Version, field_slots, parse_request};
pub use headers::{Headers, HeadersRef, is_singleton};
pub use hop::is_hop_by_hop;
pub use response::{ParsedResponse, find_response, parse_response};
pub use scan::{HeadLimits, HeadScanner};
pub use status::reason;
pub(crate) use target::KnownHost;
pub use target::TargetForm;
pub use write::{BodyLength, ConnectionOption, RequestLine, ResponseHead, Sink};
