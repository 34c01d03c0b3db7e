//! What applications implement and return. Hardly any behaviour: the engine calls, the application answers with
//! values.
//!
//! ```text
//!   Handler::request(&mut Request) ─▶ Action ─┬─ Respond(Response)      body: bytes │ file │ Produce
//!                                             ├─ Receive(Box<Upload>)   data… end ─▶ Action
//!                                             ├─ Wait                   a Ticket answers, from any thread
//!                                             ├─ Switch(Switch)         101, then Upgrade::ready(Io) ─▶ EventMask
//!                                             └─ Abort
//! ```
//!
//! Handlers *return* what shall happen; they never call it, so it cannot happen at the wrong time. What may be done
//! from any thread and at any time is a value of its own: [`Ticket`], [`Waker`], [`LoopHandle`] (which also [`dial`]s), the
//! two ends of a [`pipe`]. All of them are messages to a loop, and say so when nobody is there any more.
//!
//! Not here: how and when any of it is called (`engine/dispatch.rs`).

pub(crate) mod access;
pub(crate) mod dial;
pub(crate) mod duplex;
pub(crate) mod handler;
pub(crate) mod loop_handle;
pub(crate) mod loop_message;
pub(crate) mod pipe;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod ticket;
pub(crate) mod upgrade;
pub(crate) mod upload;
pub(crate) mod wake;

pub use access::AccessRecord;
pub use dial::{Dial, DialError, Dialed};
pub use handler::{Action, Handler};
pub use loop_handle::{ConnectedSocket, LoopHandle};
pub use pipe::{PipeCounters, PipeIn, PipeOut, pipe, pipe_memory, set_pipe_memory_limit};
pub use request::{Head, Request, RequestEnd, TlsInfo};
pub use response::{Body, Response};
pub use ticket::{RespondError, Ticket};
pub use upgrade::{Events, Io, ReadState, Rx, Switch, Tx, Upgrade};
pub use upload::{Consumed, Produce, Produced, Upload};
pub use wake::Waker;
