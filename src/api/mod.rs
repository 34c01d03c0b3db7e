//! Traits that applications implement, and values that they return. The engine calls, the application returns.
//!
//! ```text
//!   Handler::request(&mut Request) ─▶ Action ─┬─ Respond(Response)      body: bytes │ file │ Produce
//!                                             ├─ Receive(Box<Upload>)   data… end ─▶ Action
//!                                             ├─ Suspend                a Ticket responds, from any thread
//!                                             ├─ Switch(Switch)         101, then Upgrade::ready(Io) ─▶ EventMask
//!                                             └─ Abort
//! ```
//!
//! Handlers *return* an action and never perform one, so there is no wrong moment for it. Things that can be done from
//! any thread and at any time are values of their own: [`Ticket`], [`Waker`], [`LoopHandle`] (which also [`dial`]s),
//! the two ends of a [`pipe`]. All of them post messages to a loop, and report it if the loop has ended.
//!
//! Not here: the calls themselves (`engine/dispatch.rs`).

pub(crate) mod access;
pub(crate) mod dial;
pub(crate) mod duplex;
pub(crate) mod handler;
pub(crate) mod loop_handle;
pub(crate) mod loop_message;
pub(crate) mod pipe;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod splicer;
pub(crate) mod switch;
pub(crate) mod ticket;
pub(crate) mod upgrade;
pub(crate) mod upload;
pub(crate) mod wake;

pub use access::AccessRecord;
pub use dial::{Dial, DialError, Dialed};
pub use handler::{Action, Handler};
pub use loop_handle::{ConnectedSocket, LoopHandle};
pub use pipe::{PipeCounters, PipeIn, PipeOut, PipeReader, pipe, pipe_memory, set_pipe_memory_limit};
pub use request::{Head, Request, RequestEnd, TlsInfo};
pub use response::{Body, Response};
pub use switch::Switch;
pub use ticket::{RespondError, Ticket};
pub use upgrade::{Events, Io, ReadState, Rx, Tx, Upgrade};
pub use upload::{Consumed, Produce, Produced, Upload};
pub use wake::Waker;
