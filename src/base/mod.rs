//! The vocabulary every room speaks: bytes, masks, times, ids, limits, ends.
//!
//! ```text
//!   Buf, Out     bytes on their way in, and out        mask      what an upgraded connection waits for
//!   Tick, Wait   when                                  id        who: connection, request
//!   Limits       how much, how long                    EndReason     why something is over
//!   KernelPipe   bytes that stay in the system         Pool      buffers, lent
//!   Mailbox      a queue and a bell, between threads   PeerAddr  from where
//!   Duplex       a socket without a system behind it   Runs      bytes with gaps, decoded where they lie
//!   Seldom       lines for the log, one a minute
//! ```
//!
//! Depends on nothing, does no IO and reads no clock; everything else may depend on it.

pub(crate) mod addr;
pub(crate) mod buf;
pub(crate) mod duplex;
pub(crate) mod end_reason;
pub(crate) mod id;
pub(crate) mod kernel_pipe;
pub(crate) mod limits;
pub(crate) mod mailbox;
pub(crate) mod mask;
pub(crate) mod out;
pub(crate) mod pipe_memory;
pub(crate) mod pool;
pub(crate) mod runs;
pub(crate) mod seldom;
pub(crate) mod time;

pub use addr::PeerAddr;
pub use end_reason::{EndReason, Timeout};
pub use id::{ConnId, RequestId};
pub use limits::Limits;
pub use mask::EventMask;
pub use time::{Moment, Wait};
