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
//! from any thread and at any time is a value of its own: [`Ticket`], [`Waker`], [`Loop`] (which also [`dial`]s), the
//! two ends of a [`pipe`]. All of them are messages to a loop, and say so when nobody is there any more.
//!
//! Not here: how and when any of it is called (`engine/dispatch.rs`).

pub(crate) mod access;
pub(crate) mod block;
pub(crate) mod dial;
pub(crate) mod duplex;
pub(crate) mod handler;
pub(crate) mod mail;
pub(crate) mod pipe;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod ticket;
pub(crate) mod upgrade;
pub(crate) mod upload;
pub(crate) mod wake;

pub use access::Access;
pub use dial::{Dial, DialError, Dialed};
pub use handler::{Action, Handler};
pub use mail::{Loop, Stream};
pub use pipe::{Moved, PipeIn, PipeOut, pipe, pipe_memory, set_pipe_memory_limit};
pub use request::{End, Head, Request, Secure};
pub use response::{Body, Response};
pub use ticket::{Gone, Ticket};
pub use upgrade::{Io, Rx, RxEnd, Switch, Tx, Upgrade, Why};
pub use upload::{Flow, Produce, Take, Upload};
pub use wake::Waker;
